"""``eparch deployment schedule``: the schedules of a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from eparch.cli import lookup, names
from eparch.cli.commands import Group
from eparch.cli.output import Column, span
from eparch.cli.schedule_preview import preview
from eparch.cli.session import Session
from eparch.core import calls

if TYPE_CHECKING:
    from eparch.core.deployments import DeploymentSchedule


@click.group("schedule", cls=Group)
def schedule() -> None:
    """See and change the schedules of a deployment."""


schedule.add_command(preview)


def words_of(found: DeploymentSchedule) -> str:
    """A schedule in a few words."""
    fields = found.schedule
    if fields.get("cron"):
        text = f"cron {fields['cron']}"
    elif fields.get("interval") is not None:
        text = f"every {span(float(fields['interval']))}"
    else:
        text = f"rrule {fields.get('rrule', '')}"
    zone = fields.get("timezone")
    return text + (f" ({zone})" if zone else "") + ("" if found.active else " [paused]")


def schedule_of(given: dict[str, Any]) -> dict[str, Any] | None:
    """The one schedule that the options ``cron``, ``interval``, ``rrule`` ... describe, as the wire has it.

    Raises:
        Usage: they do not go together.
        ScheduleInvalid: it cannot be used.
    """
    from eparch.cli.values import read_object, read_schedule

    rrule, timezone = given["rrule"], given["timezone"]
    if rrule and rrule.lstrip().startswith("{"):
        fields = read_object(rrule, "--rrule")
        rrule, timezone = str(fields.get("rrule", "")), timezone or fields.get("timezone")
    return read_schedule(
        cron=given["cron"],
        interval=given["interval"],
        rrule=rrule,
        anchor_date=given["anchor_date"],
        timezone=timezone,
        day_or=given.get("day_or", True),
    )


@schedule.command("ls", example="eparch deployment schedule ls report/nightly")
@click.argument("name", shell_complete=names.deployments)
@click.pass_obj
def ls(session: Session, name: str) -> None:
    """List the schedules of a deployment."""
    _, found = lookup.find_deployment(session, name)
    columns = [
        Column("ID", lambda one: one.id),
        Column("SCHEDULE", words_of),
        Column("ACTIVE", lambda one: one.active),
    ]
    schedules = session.send(calls.read_deployment_schedules(id=found.id))
    session.output.rows(schedules, columns, name=lambda one: one.id, empty="It has no schedules.")


@schedule.command("create", example="eparch deployment schedule create report/nightly --cron '0 3 * * *'")
@click.argument("name", shell_complete=names.deployments)
@click.option("--cron", metavar="TEXT", help="A cron schedule, such as '0 3 * * *'.")
@click.option("--interval", metavar="SECONDS", help="Every so many seconds; PT1H and 1:00:00 are understood.")
@click.option("--anchor-date", metavar="MOMENT", help="Where the intervals begin.")
@click.option("--rrule", metavar="TEXT", help="An RFC 5545 rule, or JSON with rrule and timezone.")
@click.option("--timezone", metavar="ZONE", help="Time zone, such as Europe/Athens.")
@click.option("--day_or/--no-day_or", "--day-or/--no-day-or", default=True, help="Cron: day or weekday.")
@click.option("--active/--no-active", default=True, help="Whether it schedules runs.")
@click.option("--slug", metavar="NAME", help="A name for it.")
@click.option("--missed-runs", metavar="POLICY", help="skip, latest or all; with a window: all:PT6H.")
@click.option("--overlap", type=click.Choice(["allow", "skip", "queue"]), help="While a run is still on.")
@click.option("--replace/--no-replace", default=False, help="Remove the other schedules.")
@click.option("-y", "--yes/--no-yes", "--accept-yes/--no-accept-yes", default=False, help="Do not ask.")
@click.pass_obj
def create(
    session: Session,
    /,
    name: str,
    active: bool,
    slug: str | None,
    replace: bool,
    yes: bool,
    **given: Any,
) -> None:
    """Add a schedule to a deployment."""
    from eparch.core.deployments import DeploymentScheduleCreate

    policies = _policies(given)
    made = schedule_of(given)
    if made is None:
        session.refuse("There is no schedule.", fix="Give --cron, --interval or --rrule.")
    full, found = lookup.find_deployment(session, name)
    old = session.send(calls.read_deployment_schedules(id=found.id)) if replace else []
    if old:
        session.confirm(f"Replace {len(old)} schedules of {full!r}?", yes=yes)
    new = DeploymentScheduleCreate(schedule=made, active=active, slug=slug, **policies)
    added = session.send(calls.create_deployment_schedules(id=found.id, body=[new]))
    for one in old:
        session.send(calls.delete_deployment_schedule(id=found.id, schedule_id=one.id))
    session.output.made(added[0] if len(added) == 1 else added, name=lambda one: one.id)
    session.note(f"Added a schedule to {full!r}: {', '.join(words_of(one) for one in added)}.")


def _policies(given: dict[str, Any]) -> dict[str, Any]:
    """What becomes of missed and overlapping runs (row B1); what is not said stays out."""
    import msgspec

    from eparch.core.errors import Usage
    from eparch.core.schedule_policies import MissedRuns, Overlap
    from eparch.deploy.schedules import parse_interval

    policies: dict[str, Any] = {}
    missed, overlap = given.pop("missed_runs"), given.pop("overlap")
    if overlap:
        policies["overlap"] = Overlap(overlap)
    if missed:
        policy, _, window = missed.partition(":")
        fields = {"policy": policy, "window": parse_interval(window) if window else None}
        try:
            policies["missed_runs"] = msgspec.convert(fields, MissedRuns)
        except msgspec.ValidationError:
            raise Usage(
                f"--missed-runs cannot be {missed!r}.", fix="Give skip, latest or all, or all:PT6H."
            ) from None
    return policies


@schedule.command(
    "update", example="eparch deployment schedule update report/nightly ID --missed-runs latest"
)
@click.argument("name", shell_complete=names.deployments)
@click.argument("schedule_id")
@click.option("--missed-runs", metavar="POLICY", help="skip, latest or all; with a window: all:PT6H.")
@click.option("--overlap", type=click.Choice(["allow", "skip", "queue"]), help="While a run is still on.")
@click.pass_obj
def update(session: Session, /, name: str, schedule_id: str, **given: Any) -> None:
    """Change the policies of a schedule, by its id or slug."""
    from eparch.core.deployments import DeploymentScheduleUpdate

    policies = _policies(given)
    if not policies:
        session.refuse("Nothing is to be changed.", fix="Give --missed-runs or --overlap.")
    full, found, [one] = _find(session, name, schedule_id, False)
    change = DeploymentScheduleUpdate(**policies)
    session.send(calls.update_deployment_schedule(id=found.id, schedule_id=one.id, body=change))
    session.note(f"Changed a schedule of {full!r}.")


def _find(
    session: Session, name: str | None, schedule_id: str | None, everything: bool
) -> tuple[str, Any, list[DeploymentSchedule]]:
    """The deployment and those of its schedules that are meant."""
    if name is None:
        session.refuse("Which deployment?", fix="Give its name, flow/deployment.")
    if (schedule_id is None) != everything:
        session.refuse("Which schedule?", fix="Give its id, or --all.")
    full, found = lookup.find_deployment(session, name)
    schedules = session.send(calls.read_deployment_schedules(id=found.id))
    if everything:
        return full, found, schedules
    known = {str(one.id): one for one in schedules} | {one.slug: one for one in schedules if one.slug}
    if schedule_id not in known:
        listing = f"deployment schedule ls {full}"
        raise lookup.absent(f"schedule of {full!r} with id", str(schedule_id), known, listing)
    return full, found, [known[schedule_id]]


def _set_active(
    session: Session, name: str | None, schedule_id: str | None, everything: bool, active: bool
) -> None:
    from eparch.core.deployments import DeploymentScheduleUpdate

    full, found, schedules = _find(session, name, schedule_id, everything)
    change = DeploymentScheduleUpdate(active=active)
    for one in schedules:
        session.send(calls.update_deployment_schedule(id=found.id, schedule_id=one.id, body=change))
    if not session.output.is_table:
        ids = {one.id for one in schedules}
        now = session.send(calls.read_deployment_schedules(id=found.id))
        session.output.rows([one for one in now if one.id in ids], [], name=lambda one: one.id)
    session.note(f"{'Resumed' if active else 'Paused'} {len(schedules)} schedules of {full!r}.")


@schedule.command("pause", example="eparch deployment schedule pause report/nightly --all")
@click.argument("name", required=False, shell_complete=names.deployments)
@click.argument("schedule_id", required=False)
@click.option("--all", "everything", is_flag=True, help="Every schedule of the deployment.")
@click.pass_obj
def pause(session: Session, name: str | None, schedule_id: str | None, everything: bool) -> None:
    """Let schedules make no runs until they are resumed."""
    _set_active(session, name, schedule_id, everything, False)


@schedule.command("resume", example="eparch deployment schedule resume report/nightly --all")
@click.argument("name", required=False, shell_complete=names.deployments)
@click.argument("schedule_id", required=False)
@click.option("--all", "everything", is_flag=True, help="Every schedule of the deployment.")
@click.pass_obj
def resume(session: Session, name: str | None, schedule_id: str | None, everything: bool) -> None:
    """Let schedules make runs again."""
    _set_active(session, name, schedule_id, everything, True)


def _delete(
    session: Session,
    name: str | None,
    schedule_id: str | None,
    everything: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    full, found, schedules = _find(session, name, schedule_id, everything)
    if dry_run:
        session.note(f"Would delete {len(schedules)} schedules of {full!r}.")
    elif schedules:
        session.confirm(f"Delete {len(schedules)} schedules of {full!r}?", yes=yes)
        for one in schedules:
            session.send(calls.delete_deployment_schedule(id=found.id, schedule_id=one.id))
        session.note(f"Deleted {len(schedules)} schedules of {full!r}.")
    if not session.output.is_table:
        session.output.rows(schedules, [], name=lambda one: one.id)


@schedule.command("delete", example="eparch deployment schedule delete report/nightly nightly -y")
@click.argument("name", shell_complete=names.deployments)
@click.argument("schedule_id")
@click.option("-y", "--yes/--no-yes", "--accept-yes/--no-accept-yes", default=False, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def delete(session: Session, name: str, schedule_id: str, yes: bool, dry_run: bool) -> None:
    """Delete a schedule of a deployment, by its id or slug."""
    _delete(session, name, schedule_id, False, yes, dry_run)


@schedule.command("clear", example="eparch deployment schedule clear report/nightly -y")
@click.argument("name", shell_complete=names.deployments)
@click.option("-y", "--yes/--no-yes", "--accept-yes/--no-accept-yes", default=False, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def clear(session: Session, name: str, yes: bool, dry_run: bool) -> None:
    """Delete every schedule of a deployment."""
    _delete(session, name, None, True, yes, dry_run)
