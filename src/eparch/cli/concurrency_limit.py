"""``eparch concurrency-limit``: how many task runs with a tag run at the same time."""

from __future__ import annotations

import click

from eparch.cli import lookup
from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls


@click.group("concurrency-limit", cls=Group)
def concurrency_limit() -> None:
    """Bound how many task runs with a tag run at the same time."""


@concurrency_limit.command("create", example="eparch concurrency-limit create database 10")
@click.argument("tag")
@click.argument("concurrency_limit", metavar="LIMIT", type=click.IntRange(min=0))
@click.pass_obj
def create(session: Session, tag: str, concurrency_limit: int) -> None:
    """Set the limit on a tag."""
    from eparch.core.concurrency import TagLimitCreate

    body = TagLimitCreate(tag=tag, concurrency_limit=concurrency_limit)
    session.output.made(session.send(calls.create_tag_limit(body=body)), name=lambda one: one.tag)
    session.note(f"Set the limit {concurrency_limit} on the tag {tag!r}.")


@concurrency_limit.command("ls", example="eparch concurrency-limit ls")
@click.option("--limit", type=click.IntRange(min=1), help="How many at most.")
@click.option("--offset", type=click.IntRange(min=0), default=0, help="How many to pass over first.")
@click.pass_obj
def ls(session: Session, limit: int | None, offset: int) -> None:
    """List limits in the order of their tags."""
    columns = [
        Column("TAG", lambda one: one.tag),
        Column("LIMIT", lambda one: one.concurrency_limit),
        Column("TAKEN", lambda one: len(one.active_slots)),
        Column("UPDATED", lambda one: one.updated),
        Column("ID", lambda one: one.id),
    ]
    most = None if limit is None else limit + offset
    found = list(session.pages(calls.read_tag_limits, {}, most))[offset:]
    session.output.rows(
        found, columns, name=lambda one: one.tag, empty="There are no concurrency limits on tags."
    )


@concurrency_limit.command("inspect", example="eparch concurrency-limit inspect database")
@click.argument("tag")
@click.pass_obj
def inspect(session: Session, tag: str) -> None:
    """Show the limit on a tag and the task runs that hold its slots."""
    session.output.one(lookup.find_tag_limit(session, tag), name=lambda one: one.tag)


@concurrency_limit.command("reset", example="eparch concurrency-limit reset database")
@click.argument("tag")
@click.pass_obj
def reset(session: Session, tag: str) -> None:
    """Free all slots of a tag; who holds them goes on."""
    lookup.find_tag_limit(session, tag)
    session.send(calls.reset_tag_limit(tag=tag))
    if not session.output.is_table:
        session.output.made(lookup.find_tag_limit(session, tag), name=lambda one: one.tag)
    session.note(f"Freed the slots of the tag {tag!r}.")


@concurrency_limit.command("delete", example="eparch concurrency-limit delete database -y")
@click.argument("tag")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def delete(session: Session, tag: str, yes: bool, dry_run: bool) -> None:
    """Delete the limit on a tag; who holds its slots goes on."""
    found = lookup.find_tag_limit(session, tag)
    if dry_run:
        session.note(f"Would delete the limit on the tag {tag!r}.")
    else:
        session.confirm(f"Delete the limit on the tag {tag!r}?", yes=yes)
        session.send(calls.delete_tag_limit(tag=tag))
        session.note(f"Deleted the limit on the tag {tag!r}.")
    session.output.made(found, name=lambda one: one.tag)
