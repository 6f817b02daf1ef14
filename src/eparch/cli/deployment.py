"""``eparch deployment``: see, run, pause and delete deployments. Their schedules are in ``schedule``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from eparch.cli import lookup, names
from eparch.cli.backfill import backfill
from eparch.cli.commands import Group
from eparch.cli.deployment_versions import diff, read_version, rollback, versions
from eparch.cli.output import Column, write
from eparch.cli.render import render
from eparch.cli.schedule import schedule, words_of
from eparch.cli.session import Session
from eparch.core import calls
from eparch.core.errors import Usage, did_you_mean

if TYPE_CHECKING:
    from eparch.core.deployments import Deployment

deployment_argument = click.argument("name", shell_complete=names.deployments)

Named = tuple[str, "Deployment"]


@click.group("deployment", cls=Group)
def deployment() -> None:
    """See, run and change deployments: flows that workers can run."""


deployment.add_command(schedule)
deployment.add_command(backfill)
deployment.add_command(render)
for _command in (versions, diff, rollback):
    deployment.add_command(_command)


@deployment.command("ls", example="eparch deployment ls report")
@click.argument("flows", metavar="[FLOW...]", nargs=-1)
@click.option(
    "--flow-name", "--flow_name", "more_flows", metavar="NAME", multiple=True, help="As FLOW; repeatable."
)
@click.option("--by-created/--no-by-created", default=False, help="The latest first, instead of by name.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Only with this tag; repeatable.")
@click.option("--limit", type=click.IntRange(min=1), help="How many at most.")
@click.pass_obj
def ls(
    session: Session,
    flows: tuple[str, ...],
    more_flows: tuple[str, ...],
    by_created: bool,
    tags: tuple[str, ...],
    limit: int | None,
) -> None:
    """List deployments, of all flows or of those named."""
    body: dict[str, Any] = {"sort": "CREATED_DESC" if by_created else "NAME_ASC"}
    if flows or more_flows:
        body["flows"] = {"name": {"any_": [*flows, *more_flows]}}
    if tags:
        body["deployments"] = {"tags": {"all_": list(tags)}}
    found = list(session.pages(calls.read_deployments, body, limit))
    if not session.output.is_table and session.output.format != "name":
        session.output.rows(found, [])
        return
    pairs = lookup.named(session, found)
    columns = [
        Column("NAME", lambda pair: pair[0]),
        Column("WORK POOL", lambda pair: pair[1].work_pool_name),
        Column("SCHEDULES", lambda pair: ", ".join(words_of(one) for one in pair[1].schedules)),
        Column("STATUS", _status, _status),
        Column("ID", lambda pair: pair[1].id),
    ]
    session.output.rows(pairs, columns, name=lambda pair: pair[0], empty="There are no deployments.")


def _status(pair: Named) -> str:
    found = pair[1]
    return "PAUSED" if found.paused else found.status.value if found.status else ""


@deployment.command("inspect", example="eparch deployment inspect report/nightly -o json")
@deployment_argument
@click.pass_obj
def inspect(session: Session, name: str) -> None:
    """Show everything about a deployment; NAME is flow/deployment or an id."""
    from msgspec import to_builtins

    from eparch.client.http import serves_us

    full, found = lookup.find_deployment(session, name)
    levels = session.send(calls.read_service_levels(id=found.id)) if serves_us(session.client) else []
    if levels:
        whole = {**to_builtins(found), "service_levels": to_builtins(levels)}
        session.output.one(whole, name=lambda _: full)
        return
    session.output.one(found, name=lambda _: full)


@deployment.command("run", example="eparch deployment run report/nightly -p days=7 --watch")
@click.argument("name", required=False, shell_complete=names.deployments)
@click.option("--id", "id_", metavar="ID", help="The deployment's id instead of NAME.")
@click.option("-p", "--param", "pairs", metavar="KEY=VALUE", multiple=True, help="A parameter; repeatable.")
@click.option("--params", metavar="JSON", help="All parameters: a JSON object, @FILE, or - for stdin.")
@click.option(
    "--job-variable",
    "-jv",
    "variables",
    metavar="KEY=VALUE",
    multiple=True,
    help="A job variable; repeats.",
)
@click.option("--start-in", metavar="SPAN", help="Start after this time, such as 5m.")
@click.option("--start-at", metavar="MOMENT", help="Start at this moment, such as '2026-08-01 17:30'.")
@click.option("--version", type=click.IntRange(min=1), help="Run the deployment as it was in this version.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A tag of the run; repeatable.")
@click.option("--flow-run-name", metavar="NAME", help="Name of the run.")
@click.option("--idempotency-key", metavar="KEY", help="Make a run with this key only once.")
@click.option("--watch/--no-watch", default=False, help="Show its log until it is over; exits 7 if it fails.")
@click.option("--watch-interval", type=click.FloatRange(min=0.01), help="Seconds between two looks.")
@click.option("--watch-timeout", type=click.FloatRange(min=0), help="Seconds after which to stop watching.")
@click.pass_context
def run(
    context: click.Context,
    name: str | None,
    id_: str | None,
    pairs: tuple[str, ...],
    params: str | None,
    variables: tuple[str, ...],
    start_in: str | None,
    start_at: str | None,
    version: int | None,
    tags: tuple[str, ...],
    flow_run_name: str | None,
    idempotency_key: str | None,
    watch: bool,
    watch_interval: float | None,
    watch_timeout: float | None,
) -> None:
    """Make a flow run of a deployment; a worker picks it up."""
    from eparch.cli.values import read_job_variables, read_object, read_pairs
    from eparch.core.deployment_versions import VERSION_LABEL, as_of
    from eparch.core.runs import DeploymentFlowRunCreate
    from eparch.core.states import StateCreate, StateDetails, StateType

    session: Session = context.obj
    when = _start_time(start_in, start_at)
    given = {**(read_object(params, "--params") if params else {}), **read_pairs(pairs, "--param")}
    jobs = read_job_variables(variables)
    full, found = lookup.find_deployment(session, _one_of(session, name, id_))
    if version is not None:
        found = as_of(found, read_version(session, full, found, version).content)
    _check_names(found, given)
    details = StateDetails(scheduled_time=when or datetime.now(UTC))
    new = DeploymentFlowRunCreate(
        name=flow_run_name,
        state=StateCreate(type=StateType.SCHEDULED, state_details=details),
        parameters=given,
        tags=list(tags),
        idempotency_key=idempotency_key,
        job_variables=jobs or None,
        labels={VERSION_LABEL: version} if version is not None else None,
    )
    made = session.send(calls.create_deployment_flow_run(id=found.id, body=new))
    later = f" It starts at {when.astimezone():%Y-%m-%d %H:%M:%S}." if when else ""
    session.note(f"Created flow run {made.name!r} of {full}.{later}")
    if not watch:
        if session.output.is_table:
            write(str(made.id))
            session.note(f"Watch it: eparch flow-run watch {made.id}")
        session.output.made(made, name=lambda one: one.id)
        return
    from eparch.cli.watch import watch as watch_run

    context.exit(watch_run(session, made.id, timeout=watch_timeout, interval=watch_interval))


def _one_of(session: Session, name: str | None, id_: str | None) -> str:
    if (name is None) == (id_ is None):
        session.refuse("Which deployment?", fix="Give its name, flow/deployment, or --id ID.")
    if id_ is not None and lookup.as_id(id_) is None:
        session.refuse(f"--id cannot be {id_!r}.", fix="Give the id as `eparch deployment ls` shows it.")
    return name or id_ or ""


def _start_time(start_in: str | None, start_at: str | None) -> datetime | None:
    from eparch.cli.values import read_moment, read_span

    now = datetime.now(UTC)
    if start_in and start_at:
        raise Usage("--start-in and --start-at cannot be used together.", fix="Give one of them.")
    if start_in:
        return now + read_span(start_in)
    return read_moment(start_at, now) if start_at else None


def _check_names(found: Deployment, given: dict[str, Any]) -> None:
    """Parameters that the flow does not have are refused with the nearest name."""
    properties = (found.parameter_openapi_schema or {}).get("properties")
    if not found.enforce_parameter_schema or not isinstance(properties, dict):
        return
    if (found.parameter_openapi_schema or {}).get("additionalProperties"):
        return
    for key in given:
        if key not in properties:
            known = f"It has {', '.join(properties)}." if properties else "It has none."
            raise Usage(f"The flow has no parameter {key!r}.", why=known, fix=did_you_mean(key, properties))


def _set_paused(session: Session, name: str, paused: bool) -> None:
    from eparch.core.deployments import DeploymentUpdate

    full, found = lookup.find_deployment(session, name)
    session.send(calls.update_deployment(id=found.id, body=DeploymentUpdate(paused=paused)))
    if not session.output.is_table:
        session.output.made(session.send(calls.read_deployment(id=found.id)), name=lambda _: full)
    session.note(f"{'Paused' if paused else 'Resumed'} deployment {full!r}.")


@deployment.command("pause", example="eparch deployment pause report/nightly")
@deployment_argument
@click.pass_obj
def pause(session: Session, name: str) -> None:
    """Schedule no run of this deployment until it is resumed."""
    _set_paused(session, name, True)


@deployment.command("resume", example="eparch deployment resume report/nightly")
@deployment_argument
@click.pass_obj
def resume(session: Session, name: str) -> None:
    """Schedule runs of this deployment again."""
    _set_paused(session, name, False)


@deployment.command("delete", example="eparch deployment delete report/nightly -y")
@click.argument("chosen", metavar="[NAME...]", nargs=-1, shell_complete=names.deployments)
@click.option("--id", "id_", metavar="ID", help="The deployment's id instead of NAME.")
@click.option("--all/--no-all", "everything", help="Every deployment.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def delete(
    session: Session, chosen: tuple[str, ...], id_: str | None, everything: bool, yes: bool, dry_run: bool
) -> None:
    """Delete deployments; their runs stay."""
    wanted = [*chosen, *([id_] if id_ else [])]
    if everything == bool(wanted):
        session.refuse("Which deployments?", fix="Name them, or give --all.")
    if everything:
        found = lookup.named(session, session.pages(calls.read_deployments, {}))
    else:
        found = [lookup.find_deployment(session, name) for name in dict.fromkeys(wanted)]
    if dry_run:
        for full, _ in found:
            session.note(f"Would delete deployment {full!r}.")
    else:
        what = f"deployment {found[0][0]!r}" if len(found) == 1 else f"{len(found)} deployments"
        session.confirm(f"Delete {what}?", yes=yes or not found)
        for full, one in found:
            session.send(calls.delete_deployment(id=one.id))
            session.note(f"Deleted deployment {full!r}.")
    if session.output.format == "name":
        session.output.rows(found, [], name=lambda pair: pair[0])
    elif not session.output.is_table:
        session.output.rows([one for _, one in found], [])
