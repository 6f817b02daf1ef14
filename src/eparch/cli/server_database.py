"""``eparch server database``: the schema up, down, and away. The server itself upgrades when it starts."""

from __future__ import annotations

import click

from eparch.cli.commands import Group
from eparch.cli.session import Session


@click.group("database", cls=Group)
def database() -> None:
    """Change the schema of the server's database."""


@database.command("upgrade", example="eparch server database upgrade -y")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-r", "--revision", default="head", show_default=True, help="The revision to go to.")
@click.option("--dry-run", is_flag=True, help="Print the SQL and change nothing.")
@click.pass_obj
def upgrade(session: Session, yes: bool, revision: str, dry_run: bool) -> None:
    """Bring the schema up to a revision, all or nothing."""
    _change(session, revision, "Upgrade", yes, dry_run)


@database.command("downgrade", example="eparch server database downgrade -r 0002 -y")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-r", "--revision", default="-1", show_default=True, help="The revision to go back to.")
@click.option("--dry-run", is_flag=True, help="Print the SQL and change nothing.")
@click.pass_obj
def downgrade(session: Session, yes: bool, revision: str, dry_run: bool) -> None:
    """Take the schema back to a revision; what later ones hold is lost."""
    _change(session, revision, "Downgrade", yes, dry_run)


@database.command("reset", example="eparch server database reset -y")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def reset(session: Session, yes: bool) -> None:
    """Delete everything that the server has kept, and begin anew."""
    url, named = session.settings.database_url, _named(session)
    session.confirm(f"Delete everything in {named}?", yes=yes)
    before, _, _ = _move(url, "base")
    _, after, _ = _move(url, "head")
    session.note(f"{named} is empty, at revision {after}.")
    session.output.made({"database": named, "before": before, "after": after}, name=lambda _: after)


def _move(url: str, target: str, *, apply: bool = True) -> tuple[str | None, str | None, str]:
    import asyncio

    from eparch.store.database import change_schema

    return asyncio.run(change_schema(url, target, apply=apply))


def _named(session: Session) -> str:
    """The database as a person knows it, without its password."""
    from eparch.settings.table import masked_url

    return masked_url(session.settings.database_url)


def _change(session: Session, revision: str, verb: str, yes: bool, dry_run: bool) -> None:
    url, named = session.settings.database_url, _named(session)
    _, _, script = _move(url, revision, apply=False)
    if dry_run:
        click.echo(script.rstrip() or "-- Nothing to do.")
        return
    session.confirm(f"{verb} the schema of {named}?", yes=yes)
    before, after, _ = _move(url, revision)
    where = f"at revision {after}" if after else "empty"
    if before == after:
        session.note(f"{named} is {where} already.")
    else:
        session.note(f"{named} is {where} now; it was {f'at {before}' if before else 'empty'}.")
    session.output.made({"database": named, "before": before, "after": after}, name=lambda _: after)
