"""``eparch deployment backfill``: runs of a deployment for times that are past (row B16)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from eparch.cli import lookup, names
from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls
from eparch.core.errors import Usage

if TYPE_CHECKING:
    from eparch.core.backfills import Backfill

FAR = 5
"""Marked times that a preview names."""


class _Backfill(Group):
    """A group whose first word may be a deployment: then a backfill of it begins."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """``create`` is meant where no command is named."""
        if args and args[0] not in self.commands:
            args = ["create", *args]
        return super().resolve_command(ctx, args)


@click.group("backfill", cls=_Backfill)
def backfill() -> None:
    """Run a deployment for times that are past: backfill NAME --from A --to B."""


@backfill.command(
    "create", example="eparch deployment backfill create report/nightly --from 2026-01-01 --to 2026-02-01"
)
@click.argument("name", shell_complete=names.deployments)
@click.option("--from", "start", metavar="MOMENT", required=True, help="The first time.")
@click.option("--to", "end", metavar="MOMENT", help="The last time; now unless given.")
@click.option("--schedule", "slug", metavar="SLUG", help="Which schedule, where it has several.")
@click.option("--cron", metavar="TEXT", help="When it would have run, instead of a schedule that it has.")
@click.option("--interval", metavar="SECONDS", help="The same: every so many seconds from --from on.")
@click.option("--timezone", metavar="ZONE", help="Time zone of --cron or --interval.")
@click.option("--parameters", metavar="JSON", help="Parameters: a JSON object, @FILE, or - for stdin.")
@click.option("-p", "--param", "pairs", metavar="KEY=VALUE", multiple=True, help="A parameter; repeatable.")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, help="Runs at once; 1 unless given.")
@click.option("--order", type=click.Choice(["asc", "desc"]), default="asc", help="The oldest first, or not.")
@click.option("--retry-failed", is_flag=True, help="Run those times again whose last run failed.")
@click.option("--dry-run", is_flag=True, help="Only show what would be run.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def create(
    session: Session,
    /,
    name: str,
    start: str,
    end: str | None,
    slug: str | None,
    parameters: str | None,
    pairs: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    **given: Any,
) -> None:
    """Begin a backfill: each time of the schedule from --from to --to is run once."""
    from eparch.cli.values import read_moment, read_object, read_pairs, read_schedule
    from eparch.core.backfills import BackfillSpec, Order, chosen, logical_dates
    from eparch.core.deployments import schedule_of

    now = datetime.now(UTC)
    first, last = read_moment(start, now), read_moment(end, now) if end else now
    if last > now:
        raise Usage("A backfill is for times that are past.", fix="Let --to be now at the latest.")
    own = {**(read_object(parameters, "--parameters") if parameters else {}), **read_pairs(pairs, "--param")}
    cron, interval, zone = given.pop("cron"), given.pop("interval"), given.pop("timezone")
    fields = read_schedule(
        cron=cron, interval=interval, rrule=None, timezone=zone,
        anchor_date=first.isoformat() if interval else None,
    )  # fmt: skip
    full, found = lookup.find_deployment(session, name)
    if fields is None:
        one = chosen(found.schedules, slug)
        fields, own = one.schedule, {**one.parameters, **own}
    order = Order(given.pop("order"))
    dates = logical_dates(schedule_of(fields), first, last, order)
    shown = _preview(full, fields, dates, order.value, given["concurrency"])
    for line in _lines(shown):
        session.note(line)
    if not dates or dry_run:
        session.output.made(shown, name=lambda _: full)
        return
    session.confirm(f"Make {len(dates):,} runs of {full!r}?", yes=yes)
    body = BackfillSpec(start=first, end=last, schedule=fields, parameters=own, order=order, **given)
    made = session.send(calls.create_backfill(id=found.id, body=body))
    session.output.made(made, name=lambda one: one.id)
    session.note(f"Began backfill {made.id}. See it: eparch deployment backfill inspect {made.id}")


def _preview(
    full: str, fields: dict[str, Any], dates: list[datetime], order: str, concurrency: int
) -> dict[str, Any]:
    from eparch.core.deployments import schedule_of
    from eparch.core.schedules import local_times

    shown = list(local_times(schedule_of(fields), sorted(dates)))
    marked = [{"local": one.local.isoformat(), "mark": one.mark} for one in shown if one.mark]
    return {
        "deployment": full,
        "count": len(dates),
        "first": shown[0].local.isoformat() if shown else None,
        "last": shown[-1].local.isoformat() if shown else None,
        "order": order,
        "concurrency": concurrency,
        "marked": marked,
    }


def _lines(shown: dict[str, Any]) -> list[str]:
    if not shown["count"]:
        return ["The schedule does not run in this time."]
    lines = [f"{shown['count']:,} runs of {shown['deployment']}, {shown['first']} to {shown['last']}."]
    lines += [f"  {one['local']}: {one['mark']}" for one in shown["marked"][:FAR]]
    more = len(shown["marked"]) - FAR
    return [*lines, f"  ... and {more} more at clock changes"] if more > 0 else lines


@backfill.command("ls", example="eparch deployment backfill ls")
@click.argument("name", required=False, shell_complete=names.deployments)
@click.pass_obj
def ls(session: Session, name: str | None) -> None:
    """List backfills, the newest first: of all deployments, or of one."""
    from eparch.core.backfills import BackfillQuery

    found = lookup.find_deployment(session, name)[1].id if name else None
    rows: list[Backfill] = []
    query = BackfillQuery(deployment_id=found)
    while page := session.send(calls.read_backfills(body=query)):
        rows += page
        if len(page) < query.limit:
            break
        query = BackfillQuery(deployment_id=found, before=page[-1].id)
    columns = [
        Column("ID", lambda one: one.id),
        Column("STATUS", lambda one: one.status.value, lambda one: one.status.value),
        Column("RUNS", lambda one: f"{_over(one)}/{one.total}"),
        Column("FROM", lambda one: f"{one.spec.start:%Y-%m-%d %H:%M}"),
        Column("TO", lambda one: f"{one.spec.end:%Y-%m-%d %H:%M}"),
        Column("CREATED", lambda one: one.created),
    ]
    session.output.rows(rows, columns, name=lambda one: one.id, empty="There are no backfills.")


def _over(one: Backfill) -> int:
    return one.counts.get("done", 0) + one.counts.get("there", 0)


def _id(text: str) -> UUID:
    found = lookup.as_id(text)
    if found is None:
        raise Usage(f"{text!r} is not the id of a backfill.", fix="See them: eparch deployment backfill ls")
    return found


@backfill.command("inspect", example="eparch deployment backfill inspect ID -o json")
@click.argument("id_", metavar="ID")
@click.pass_obj
def inspect(session: Session, id_: str) -> None:
    """Show how far a backfill is."""
    session.output.one(session.send(calls.read_backfill(id=_id(id_))), name=lambda one: one.id)


def _change(session: Session, endpoint: Any, id_: str, what: str) -> None:
    found = session.send(endpoint(id=_id(id_)))
    session.output.made(found, name=lambda one: one.id)
    session.note(f"{what} backfill {found.id}.")


@backfill.command("pause", example="eparch deployment backfill pause ID")
@click.argument("id_", metavar="ID")
@click.pass_obj
def pause(session: Session, id_: str) -> None:
    """Make no more runs until it is resumed; those that are there go on."""
    _change(session, calls.pause_backfill, id_, "Paused")


@backfill.command("resume", example="eparch deployment backfill resume ID")
@click.argument("id_", metavar="ID")
@click.pass_obj
def resume(session: Session, id_: str) -> None:
    """Make runs again."""
    _change(session, calls.resume_backfill, id_, "Resumed")


@backfill.command("cancel", example="eparch deployment backfill cancel ID -y")
@click.argument("id_", metavar="ID")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def cancel(session: Session, id_: str, yes: bool, dry_run: bool) -> None:
    """End it; runs of it that have not begun are cancelled."""
    if dry_run:
        found = session.send(calls.read_backfill(id=_id(id_)))
        session.output.made(found, name=lambda one: one.id)
        session.note(f"Would cancel backfill {found.id}: {_over(found)} of {found.total} times are over.")
        return
    session.confirm(f"Cancel backfill {id_}?", yes=yes)
    _change(session, calls.cancel_backfill, id_, "Cancelled")
