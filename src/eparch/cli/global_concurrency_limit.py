"""``eparch global-concurrency-limit``, ``gcl`` for short: make, see and change named limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from eparch.cli import lookup
from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls

_count = click.IntRange(min=0)
_rate = click.FloatRange(min=0)
active_slots_option = click.option("--active-slots", type=_count, help="Slots that are taken.")
decay_option = click.option(
    "--slot-decay-per-second", type=_rate, help="Slots that get free in a second: makes it a rate limit."
)


@click.group("global-concurrency-limit", cls=Group)
def global_concurrency_limit() -> None:
    """Make, see and change named limits that code takes slots of; gcl for short."""


@global_concurrency_limit.command(
    "create", example="eparch global-concurrency-limit create database --limit 10"
)
@click.argument("name")
@click.option("-l", "--limit", type=_count, required=True, help="Slots that it has.")
@click.option("--disable", is_flag=True, help="Make it inactive: it holds nobody up.")
@active_slots_option
@decay_option
@click.pass_obj
def create(
    session: Session,
    name: str,
    limit: int,
    disable: bool,
    active_slots: int | None,
    slot_decay_per_second: float | None,
) -> None:
    """Make a limit."""
    from eparch.core.concurrency import ConcurrencyLimitCreate

    body = ConcurrencyLimitCreate(
        name=name,
        limit=limit,
        active=not disable,
        active_slots=active_slots or 0,
        slot_decay_per_second=slot_decay_per_second or 0.0,
    )
    made = session.send(calls.create_concurrency_limit(body=body))
    session.output.made(made)
    session.note(f"Created concurrency limit {name!r}.")


@global_concurrency_limit.command("ls", example="eparch global-concurrency-limit ls")
@click.pass_obj
def ls(session: Session) -> None:
    """List limits in the order of their names."""
    columns = [
        Column("NAME", lambda one: one.name),
        Column("ACTIVE", lambda one: one.active),
        Column("LIMIT", lambda one: one.limit),
        Column("TAKEN", lambda one: one.active_slots),
        Column("DECAY/S", lambda one: one.slot_decay_per_second),
        Column("UPDATED", lambda one: one.updated),
        Column("ID", lambda one: one.id),
    ]
    found = session.pages(calls.read_concurrency_limits, {})
    session.output.rows(found, columns, empty="There are no concurrency limits.")


@global_concurrency_limit.command(
    "inspect", example="eparch global-concurrency-limit inspect database -o json"
)
@click.argument("name")
@click.option(
    "-f", "--file", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file, as JSON."
)
@click.pass_obj
def inspect(session: Session, name: str, file: Path | None) -> None:
    """Show everything about a limit."""
    from eparch.core.model import encode

    found = lookup.find_limit(session, name)
    if file is None:
        session.output.one(found)
        return
    try:
        file.write_bytes(encode(found))
    except OSError as error:
        session.refuse(f"The file {file} cannot be written.", why=str(error), fix="Name another file.")
    session.note(f"Wrote concurrency limit {name!r} to {file}.")


@global_concurrency_limit.command("holders", example="eparch global-concurrency-limit holders database")
@click.argument("name")
@click.pass_obj
def holders(session: Session, name: str) -> None:
    """Show who holds slots of a limit, since when and until when."""
    found = lookup.find_limit(session, name)
    columns = [
        Column("HOLDER", lambda one: one.name or one.holder_id or "unknown"),
        Column("KIND", lambda one: one.holder_type),
        Column("SLOTS", lambda one: one.slots),
        Column("SINCE", lambda one: one.since),
        Column("LEASE", lambda one: one.lease_until),
        Column("ID", lambda one: one.holder_id),
    ]
    held = list(session.pages(calls.read_concurrency_limit_holders, {}, id_or_name=str(found.id)))
    session.output.rows(held, columns, name=lambda one: one.lease_id)
    leased = sum(one.slots for one in held)
    loose = found.active_slots - leased
    more = f", {loose} of them without a lease" if loose > 0 else ""
    session.note(f"{found.active_slots} of {found.limit} slots are taken{more}.")


def _update(session: Session, name: str, said: str, **fields: Any) -> None:
    from eparch.core.concurrency import ConcurrencyLimitUpdate

    found = lookup.find_limit(session, name)
    body = ConcurrencyLimitUpdate(**fields)
    session.send(calls.update_concurrency_limit(id_or_name=str(found.id), body=body))
    if not session.output.is_table:
        session.output.made(session.send(calls.read_concurrency_limit(id_or_name=str(found.id))))
    session.note(f"{said} concurrency limit {found.name!r}.")


@global_concurrency_limit.command("enable", example="eparch global-concurrency-limit enable database")
@click.argument("name")
@click.pass_obj
def enable(session: Session, name: str) -> None:
    """Let a limit hold back who finds no slot."""
    _update(session, name, "Enabled", active=True)


@global_concurrency_limit.command("disable", example="eparch global-concurrency-limit disable database")
@click.argument("name")
@click.pass_obj
def disable(session: Session, name: str) -> None:
    """Let a limit hold nobody back until it is enabled."""
    _update(session, name, "Disabled", active=False)


@global_concurrency_limit.command(
    "update", example="eparch global-concurrency-limit update database --limit 20"
)
@click.argument("name")
@click.option("--enable", is_flag=True, help="Let it hold back who finds no slot.")
@click.option("--disable", is_flag=True, help="Let it hold nobody back.")
@click.option("-l", "--limit", type=_count, help="Slots that it has.")
@active_slots_option
@decay_option
@click.pass_obj
def update(session: Session, /, name: str, enable: bool, disable: bool, **counts: float | None) -> None:
    """Change what is named, and leave the rest."""
    if enable and disable:
        session.refuse("A limit cannot be enabled and disabled at once.", fix="Leave one of them out.")
    fields: dict[str, Any] = {key: value for key, value in counts.items() if value is not None}
    if enable or disable:
        fields["active"] = enable
    if not fields:
        session.refuse("There is nothing to change.", fix="Add --limit N, --active-slots N, --disable ...")
    _update(session, name, "Changed", **fields)


@global_concurrency_limit.command("delete", example="eparch global-concurrency-limit delete database -y")
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def delete(session: Session, name: str, yes: bool, dry_run: bool) -> None:
    """Delete a limit; who holds its slots goes on."""
    found = lookup.find_limit(session, name)
    if dry_run:
        session.note(f"Would delete concurrency limit {found.name!r}.")
    else:
        session.confirm(f"Delete concurrency limit {found.name!r}?", yes=yes)
        session.send(calls.delete_concurrency_limit(id_or_name=str(found.id)))
        session.note(f"Deleted concurrency limit {found.name!r}.")
    session.output.made(found)
