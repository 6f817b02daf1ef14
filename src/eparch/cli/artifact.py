"""``eparch artifact``: what runs have made for people to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from eparch.cli import lookup
from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls

if TYPE_CHECKING:
    from eparch.core.records import Artifact


@click.group("artifact", cls=Group)
def artifact() -> None:
    """See and delete artifacts of runs."""


_COLUMNS = [
    Column("ID", lambda one: one.id),
    Column("KEY", lambda one: one.key),
    Column("TYPE", lambda one: one.type),
    Column("UPDATED", lambda one: one.updated),
]


@artifact.command("ls", example="eparch artifact ls --limit 20")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@click.option("-a", "--all", "everything", is_flag=True, help="Older ones too, and those without a key.")
@click.pass_obj
def ls(session: Session, limit: int, everything: bool) -> None:
    """List the newest artifact of each key, the latest first."""
    body = {"sort": "ID_DESC"}
    if everything:
        found: list[Artifact] = list(session.pages(calls.read_artifacts, body, limit))
    else:
        found = [*session.pages(calls.read_latest_artifacts, body, limit)]
    session.output.rows(found, _COLUMNS, name=lambda one: one.id, empty="There are no artifacts.")


@artifact.command("inspect", example="eparch artifact inspect my-report -o json")
@click.argument("key")
@click.option("--limit", type=click.IntRange(min=1), default=10, show_default=True, help="How many at most.")
@click.pass_obj
def inspect(session: Session, key: str, limit: int) -> None:
    """Show the artifacts of a key, the latest first; KEY can be the id of one."""
    found = _find(session, key, limit)
    if not session.output.is_table:
        session.output.rows(found, [], name=lambda one: one.id)
        return
    for one in found:
        session.output.one(one)


@artifact.command("delete", example="eparch artifact delete my-report -y")
@click.argument("key")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def delete(session: Session, key: str, yes: bool, dry_run: bool) -> None:
    """Delete all artifacts of a key; KEY can be the id of one."""
    found = _find(session, key, None)
    what = f"{len(found)} artifact(s) of {key!r}"
    if dry_run:
        session.note(f"Would delete {what}.")
        return
    session.confirm(f"Delete {what}?", yes=yes)
    for one in found:
        session.send(calls.delete_artifact(id=one.id))
    session.note(f"Deleted {what}.")
    if not session.output.is_table:
        session.output.rows(found, [], name=lambda one: one.id)


def _find(session: Session, key: str, limit: int | None) -> list[Artifact]:
    if (id_ := lookup.as_id(key)) is not None:
        return [session.send(calls.read_artifact(id=id_))]
    body = {"artifacts": {"key": {"any_": [key]}}, "sort": "ID_DESC"}
    found = list(session.pages(calls.read_artifacts, body, limit))
    if not found:
        known = [str(one.key) for one in session.pages(calls.read_latest_artifacts, {}, 1000)]
        raise lookup.absent("artifact", key, known, "artifact ls")
    return found
