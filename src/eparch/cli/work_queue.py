"""``eparch work-queue``: make, see and change the queues of work pools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from eparch.cli import lookup, names
from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.cli.waiting import show_holders, show_runs, show_upcoming
from eparch.core import calls

if TYPE_CHECKING:
    from eparch.core.pools import WorkQueue

pool_option = click.option(
    "-p", "--pool", metavar="NAME", shell_complete=names.pools, help="Work pool of the queue."
)


@click.group("work-queue", cls=Group)
def work_queue() -> None:
    """Make, see and change queues inside work pools."""


@work_queue.command("create", example="eparch work-queue create urgent --pool local --priority 1")
@click.argument("name")
@pool_option
@click.option("-l", "--limit", type=click.IntRange(min=0), help="Runs at the same time.")
@click.option("-q", "--priority", type=click.IntRange(min=1), help="1 is served first.")
@click.option("--description", default="", help="What it is for.")
@click.pass_obj
def create(
    session: Session, name: str, pool: str | None, limit: int | None, priority: int | None, description: str
) -> None:
    """Make a queue in a work pool."""
    from eparch.core.pools import WorkQueueCreate

    pool = pool or session.settings.default_work_pool
    if pool is None:
        session.refuse("A queue belongs to a work pool.", fix="Add --pool NAME.")
    lookup.find_pool(session, pool)
    new = WorkQueueCreate(name=name, description=description, concurrency_limit=limit, priority=priority)
    made = session.send(calls.create_work_queue(work_pool_name=pool, body=new))
    session.output.made(made)
    session.note(f"Created queue {name!r} in work pool {pool!r}.")


@work_queue.command("ls", example="eparch work-queue ls --pool local")
@pool_option
@click.option("-m", "--match", metavar="PREFIX", help="Only names that start so.")
@click.option("-v", "--verbose/--no-verbose", default=False, help="Show more columns.")
@click.option("--limit", type=click.IntRange(min=1), help="How many at most.")
@click.pass_obj
def ls(session: Session, pool: str | None, match: str | None, verbose: bool, limit: int | None) -> None:
    """List queues, of one pool or of all."""
    body: dict[str, Any] = {"work_queues": {"name": {"startswith_": [match]}}} if match else {}
    if pool is not None:
        lookup.find_pool(session, pool)
        found = session.pages(calls.read_pool_queues, body, limit, work_pool_name=pool)
    else:
        found = session.pages(calls.read_work_queues, body, limit)
    columns = [
        Column("POOL", lambda queue: queue.work_pool_name),
        Column("NAME", lambda queue: queue.name),
        Column("PRIORITY", lambda queue: queue.priority),
        Column("STATUS", _status, _status),
        Column("LIMIT", lambda queue: queue.concurrency_limit),
    ]
    if verbose:
        columns += [
            Column("POLLED", lambda queue: queue.last_polled),
            Column("ID", lambda queue: queue.id),
            Column("DESCRIPTION", lambda queue: queue.description),
        ]
    session.output.rows(found, columns, empty="There are no queues.")


def _status(queue: WorkQueue) -> str:
    return "PAUSED" if queue.is_paused else queue.status.value if queue.status else ""


@work_queue.command("inspect", example="eparch work-queue inspect default --pool local")
@click.argument("name")
@pool_option
@click.pass_obj
def inspect(session: Session, name: str, pool: str | None) -> None:
    """Show everything about a queue."""
    session.output.one(lookup.find_queue(session, name, pool))


def _place(queue: WorkQueue, pool: str | None) -> dict[str, Any]:
    return {"work_pool_name": queue.work_pool_name or pool, "name": queue.name}


def _update(session: Session, name: str, pool: str | None, said: str, **fields: Any) -> None:
    from eparch.core.pools import WorkQueueUpdate

    queue = lookup.find_queue(session, name, pool)
    place = _place(queue, pool)
    session.send(calls.update_work_queue(body=WorkQueueUpdate(**fields), **place))
    if not session.output.is_table:
        session.output.made(session.send(calls.read_work_queue_by_name(**place)))
    session.note(f"{said} queue {queue.name!r} of work pool {place['work_pool_name']!r}.")


@work_queue.command("pause", example="eparch work-queue pause default --pool local")
@click.argument("name")
@pool_option
@click.pass_obj
def pause(session: Session, name: str, pool: str | None) -> None:
    """Start no run of this queue until it is resumed."""
    _update(session, name, pool, "Paused", is_paused=True)


@work_queue.command("resume", example="eparch work-queue resume default --pool local")
@click.argument("name")
@pool_option
@click.pass_obj
def resume(session: Session, name: str, pool: str | None) -> None:
    """Start runs of this queue again."""
    _update(session, name, pool, "Resumed", is_paused=False)


@work_queue.command(
    "set-concurrency-limit", example="eparch work-queue set-concurrency-limit default 5 -p local"
)
@click.argument("name")
@click.argument("limit", type=click.IntRange(min=0))
@pool_option
@click.pass_obj
def set_concurrency_limit(session: Session, name: str, limit: int, pool: str | None) -> None:
    """Bound how many runs of this queue run at the same time."""
    _update(session, name, pool, f"Set the limit {limit} of", concurrency_limit=limit)


@work_queue.command(
    "clear-concurrency-limit", example="eparch work-queue clear-concurrency-limit default -p local"
)
@click.argument("name")
@pool_option
@click.pass_obj
def clear_concurrency_limit(session: Session, name: str, pool: str | None) -> None:
    """Let any number of runs of this queue run at the same time."""
    _update(session, name, pool, "Cleared the limit of", concurrency_limit=None)


@work_queue.command("delete", example="eparch work-queue delete urgent --pool local -y")
@click.argument("name")
@pool_option
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def delete(session: Session, name: str, pool: str | None, yes: bool, dry_run: bool) -> None:
    """Delete a queue."""
    queue = lookup.find_queue(session, name, pool)
    shown = f"queue {queue.name!r} of work pool {queue.work_pool_name!r}"
    if dry_run:
        session.note(f"Would delete {shown}.")
    else:
        session.confirm(f"Delete {shown}?", yes=yes)
        place = _place(queue, pool)
        session.send(calls.delete_work_queue(**place))
        session.note(f"Deleted {shown}.")
    session.output.made(queue)


@work_queue.command("preview", example="eparch work-queue preview default --pool local --hours 24")
@click.argument("name")
@pool_option
@click.option("-h", "--hours", type=click.FloatRange(min=0, max=87600), default=1, help="How far ahead.")
@click.option("--limit", type=click.IntRange(min=1), default=200, help="How many at most.")
@click.pass_obj
def preview(session: Session, name: str, pool: str | None, hours: float, limit: int) -> None:
    """Show the runs that will start from this queue (row P17)."""
    queue = lookup.find_queue(session, name, pool)
    show_upcoming(session, {"work_pool_queues": {"id": {"any_": [str(queue.id)]}}}, hours, limit)


@work_queue.command("slots", example="eparch work-queue slots default --pool local")
@click.argument("name")
@pool_option
@click.pass_obj
def slots(session: Session, name: str, pool: str | None) -> None:
    """Show which runs hold a slot of this queue, since when and until when (row P16)."""
    queue = lookup.find_queue(session, name, pool)
    show_holders(session, calls.read_work_queue_holders, queue.concurrency_limit, id=queue.id)


@work_queue.command("read-runs", example="eparch work-queue read-runs default --pool local")
@click.argument("name")
@pool_option
@click.option("--limit", type=click.IntRange(min=1, max=200), help="How many at most.")
@click.pass_obj
def read_runs(session: Session, name: str, pool: str | None, limit: int | None) -> None:
    """Show the runs that a worker that polls this queue is told of; counts as a poll."""
    from eparch.core.queue_status import QueueRuns

    queue = lookup.find_queue(session, name, pool)
    found = session.send(calls.read_work_queue_runs(id=queue.id, body=QueueRuns(limit=limit)))
    show_runs(session, found, empty=f"No run waits in the queue {queue.name!r}, or its limits are full.")
