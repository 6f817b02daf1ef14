"""``eparch flow``: see flows."""

from __future__ import annotations

import click

from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls


@click.group("flow", cls=Group)
def flow() -> None:
    """See flows."""


@flow.command("ls", example="eparch flow ls --limit 10")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
@click.option("--all", "everything", is_flag=True, help="All of them, whatever the limit.")
@click.pass_obj
def ls(session: Session, limit: int, everything: bool) -> None:
    """List flows, the latest first."""
    body = {"sort": "CREATED_DESC"}
    found = list(session.pages(calls.read_flows, body, None if everything else limit + 1))
    more = not everything and len(found) > limit
    columns = [
        Column("ID", lambda one: one.id),
        Column("NAME", lambda one: one.name),
        Column("CREATED", lambda one: one.created),
        Column("TAGS", lambda one: ", ".join(one.tags)),
    ]
    session.output.rows(found if everything else found[:limit], columns, empty="There are no flows.")
    if more:
        session.note(f"Showing {limit}; there are more: --limit N or --all")
