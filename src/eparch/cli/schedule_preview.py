"""``eparch deployment schedule preview``: when a deployment runs next, and what clock changes do to it."""

from __future__ import annotations

from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from eparch.cli import lookup, names
from eparch.cli.commands import Command
from eparch.cli.output import Column
from eparch.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eparch.core.deployments import DeploymentSchedule


@click.command("preview", cls=Command, example="eparch deployment schedule preview report/nightly --count 20")
@click.argument("name", shell_complete=names.deployments)
@click.option("--count", type=click.IntRange(1, 1000), default=10, help="How many runs; 10 unless given.")
@click.option("--from", "start", metavar="MOMENT", help="From this moment on instead of now.")
@click.pass_obj
def preview(session: Session, name: str, count: int, start: str | None) -> None:
    """Show the next runs of a deployment with local times; clock changes are marked."""
    from eparch.cli.values import read_moment

    now = datetime.now(UTC)
    since = read_moment(start, now) if start else now
    _, found = lookup.find_deployment(session, name)
    active = [one for one in found.schedules if one.active]
    if found.paused or len(active) < len(found.schedules):
        session.note(
            "The deployment is paused." if found.paused else "Schedules that are paused are left out."
        )
    times = merge(*(_times(one, since) for one in active), key=lambda row: row["time"])
    columns = [
        Column("LOCAL TIME", lambda row: f"{row['local']:%a %Y-%m-%d %H:%M:%S %Z}"),
        Column("UTC", lambda row: f"{row['time']:%Y-%m-%d %H:%M:%S}"),
        Column("SCHEDULE", lambda row: row["schedule"]),
        Column("CLOCK", lambda row: row["mark"]),
        Column("MISSED RUNS", lambda row: (row["missed_runs"] or {}).get("policy", "")),
        Column("OVERLAP", lambda row: row["overlap"] or "allow"),
    ]
    session.output.rows(
        islice(times, count), columns, name=lambda row: row["time"], empty="It has no active schedules."
    )


def _times(one: DeploymentSchedule, since: datetime) -> Iterator[dict[str, Any]]:
    import msgspec

    from eparch.cli.schedule import words_of
    from eparch.core.deployments import schedule_of
    from eparch.core.schedules import local_times, occurrences

    schedule = schedule_of(one.schedule)
    for time in local_times(schedule, occurrences(schedule, since)):
        yield {
            "time": time.moment,
            "local": time.local,
            "mark": time.mark,
            "schedule": one.slug or words_of(one),
            "missed_runs": msgspec.to_builtins(one.missed_runs),
            "overlap": one.overlap.value if one.overlap else None,
        }
