"""``eparch flow-run``: see, watch, cancel, retry and delete runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from eparch.cli import lookup
from eparch.cli.commands import Group
from eparch.cli.output import Column, span
from eparch.cli.session import Session
from eparch.core import calls
from eparch.core.errors import Conflict

if TYPE_CHECKING:
    from eparch.core.records import Log
    from eparch.core.runs import FlowRun
    from eparch.core.states import StateCreate

SHOWN = 50
LOGS = 20


@click.group("flow-run", cls=Group)
def flow_run() -> None:
    """See, watch, cancel, retry and delete flow runs."""


@flow_run.command("ls", example="eparch flow-run ls --state-type FAILED --limit 10")
@click.option("--flow-name", "flows", metavar="NAME", multiple=True, help="Only runs of this flow; repeats.")
@click.option("--deployment", metavar="NAME", help="Only runs of this deployment.")
@click.option("--state", "states", metavar="NAME", multiple=True, help="Only in this state; repeatable.")
@click.option("--state-type", "types", metavar="TYPE", multiple=True, help="Only of this type; repeatable.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Only with this tag; repeatable.")
@click.option("--limit", type=click.IntRange(min=1), default=SHOWN, help="How many at most.")
@click.option("--all", "everything", is_flag=True, help="All of them, whatever the limit.")
@click.pass_obj
def ls(
    session: Session,
    flows: tuple[str, ...],
    deployment: str | None,
    states: tuple[str, ...],
    types: tuple[str, ...],
    tags: tuple[str, ...],
    limit: int,
    everything: bool,
) -> None:
    """List flow runs, the latest first."""
    body = _where(flows, states, types, tags)
    if deployment is not None:
        _, found = lookup.find_deployment(session, deployment)
        body["deployments"] = {"id": {"any_": [str(found.id)]}}
    runs = list(session.pages(calls.read_flow_runs, body, None if everything else limit + 1))
    more = not everything and len(runs) > limit
    runs = runs if everything else runs[:limit]
    names = lookup.flows_by_id(session, (run.flow_id for run in runs)) if session.output.is_table else {}

    def flow_of(run: FlowRun) -> str:
        flow = names.get(run.flow_id)
        return flow.name if flow else ""

    columns = [
        Column("ID", lambda run: run.id),
        Column("FLOW", flow_of),
        Column("NAME", lambda run: run.name),
        Column("STATE", lambda run: run.state_name, lambda run: run.state_type),
        Column("WHEN", lambda run: run.start_time or run.expected_start_time),
        Column("TOOK", _took),
    ]
    session.output.rows(runs, columns, name=lambda run: run.id, empty="There are no flow runs.")
    if more:
        session.note(f"Showing {limit}; there are more: --limit N or --all")


def _took(run: FlowRun) -> str:
    return span(run.estimated_run_time or run.total_run_time) if run.start_time else ""


def _where(
    flows: Iterable[str], states: Iterable[str], types: Iterable[str], tags: Iterable[str]
) -> dict[str, Any]:
    state = lookup.state_filter(states, types)
    run: dict[str, Any] = {"state": state} if state else {}
    if wanted := list(tags):
        run["tags"] = {"all_": wanted}
    body: dict[str, Any] = {"sort": "ID_DESC"}
    if run:
        body["flow_runs"] = run
    if named := list(flows):
        body["flows"] = {"name": {"any_": named}}
    return body


@flow_run.command("inspect", example="eparch flow-run inspect calm-otter -o json")
@click.argument("run")
@click.pass_obj
def inspect(session: Session, run: str) -> None:
    """Show everything about a flow run; RUN is an id or a name."""
    session.output.one(lookup.find_run(session, run), name=lambda found: found.id)


@flow_run.command("explain", example="eparch flow-run explain calm-otter")
@click.argument("run")
@click.pass_obj
def explain(session: Session, run: str) -> None:
    """Say why a flow run is waiting, and what to do; RUN is an id or a name."""
    from eparch.cli.waiting import explain_run

    explain_run(session, lookup.find_run(session, run))


@flow_run.command("watch", example="eparch flow-run watch calm-otter --timeout 600")
@click.argument("run")
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds after which to stop watching.")
@click.pass_context
def watch(context: click.Context, run: str, timeout: float | None) -> None:
    """Show log lines and states until the run is over; exits 7 unless it completed."""
    from eparch.cli.watch import watch as watch_run

    session: Session = context.obj
    context.exit(watch_run(session, lookup.find_run(session, run).id, timeout=timeout))


@flow_run.command("logs", example="eparch flow-run logs calm-otter --tail 50 -f")
@click.argument("run", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over.")
@click.option("-h", "--head/--no-head", default=False, help="Only the first lines.")
@click.option("-t", "--tail", metavar="[N]", is_flag=False, flag_value=str(LOGS), help="Only the last lines.")
@click.option("-n", "--num-logs", type=click.IntRange(min=1), help="Lines of --head or --tail.")
@click.option("-r", "--reverse/--no-reverse", default=False, help="The latest line first.")
@click.option("--level", type=click.IntRange(min=0), help="Only lines of at least this level, such as 30.")
@click.pass_obj
def logs(
    session: Session,
    run: str | None,
    follow: bool,
    head: bool,
    tail: str | None,
    num_logs: int | None,
    reverse: bool,
    level: int | None,
) -> None:
    """Print the log lines of a run; RUN is an id or a name."""
    from eparch.cli.watch import read_lines

    if tail is not None and not tail.isdecimal():
        # as Prefect's flag: the word after --tail is the run
        run, tail = (tail, str(LOGS)) if run is None else session.refuse(f"--tail cannot be {tail!r}.")
    if run is None:
        session.refuse("Which run?", fix="Add its id or name, see: eparch flow-run ls")
    if head and tail is not None:
        session.refuse("--head and --tail cannot be used together.")
    found = lookup.find_run(session, run)
    if follow:
        if head or reverse:
            session.refuse("--follow cannot be used with --head or --reverse.")
        _follow(session, found, None if tail is None else num_logs or int(tail), level)
        return
    where = {"flow_run_id": {"any_": [str(found.id)]}}
    number = num_logs or int(tail or LOGS) if head or tail is not None else num_logs
    last = tail is not None or (reverse and not head)
    _show(session, read_lines(session, where, number, last=last, reverse=reverse, level=level))


def _show(session: Session, lines: list[Log]) -> None:
    from eparch.cli.watch import show_lines

    show_lines(session, lines)


def _follow(session: Session, run: FlowRun, last: int | None, level: int | None) -> None:
    from eparch.cli.output import Output
    from eparch.cli.watch import LogTail
    from eparch.client.http import serves_us

    if session.output.format == "json":
        session.output = Output("jsonl")
    tail = LogTail(session, run.id)
    if last is not None:
        _show(session, [log for log in tail.read() if level is None or log.level >= level][-last:])
    over = run.state is not None and run.state.is_final()
    # A stock server shows on its socket only what comes.
    streams = not over and serves_us(session.client) is not None
    for lines in tail.stream() if streams else tail.poll():
        _show(session, [log for log in lines if level is None or log.level >= level])
        sys.stdout.flush()


@flow_run.command("cancel", example="eparch flow-run cancel calm-otter -y")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def cancel(session: Session, runs: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Cancel flow runs; RUN is an id or a name, - reads them from stdin."""
    from eparch.core.states import StateCreate, StateType

    found = _chosen(session, runs)
    if not _agreed(session, "cancel", found, yes or len(found) == 1, dry_run):
        return
    for run in found:
        proposed = StateCreate(type=StateType.CANCELLING, message="Cancelled on the command line.")
        _propose(session, run, proposed, "cancelled")
    _tell_each(session, found)


@flow_run.command("retry", example="eparch flow-run retry calm-otter")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def retry(session: Session, runs: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Run flow runs again that are over; a worker picks them up."""
    from eparch.core.states import StateCreate, StateDetails, StateType

    found = _chosen(session, runs)
    for run in found:
        if run.state is None or not run.state.is_final():
            raise Conflict(f"The flow run {run.name!r} is not over: it is {run.state_name}.")
        if run.deployment_id is None:
            raise Conflict(
                f"The flow run {run.name!r} cannot be retried from here.",
                why="It has no deployment, so no worker knows its code.",
                fix="Run its flow again.",
            )
    if not _agreed(session, "retry", found, yes or len(found) == 1, dry_run):
        return
    for run in found:
        details = StateDetails(scheduled_time=datetime.now(UTC))
        proposed = StateCreate(
            type=StateType.SCHEDULED,
            name="AwaitingRetry",
            message="Retried on the command line.",
            state_details=details,
        )
        _propose(session, run, proposed, "retried", force=True)
    _tell_each(session, found)


@flow_run.command("resume", example="eparch flow-run resume calm-otter --input count=3")
@click.argument("run")
@click.option("--input", "pairs", metavar="KEY=VALUE", multiple=True, help="What it asks for; repeatable.")
@click.pass_obj
def resume(session: Session, run: str, pairs: tuple[str, ...]) -> None:
    """Let a paused flow run go on, with what it asked for."""
    from eparch.cli.values import read_pairs
    from eparch.core.inputs import ResumeFlowRun
    from eparch.core.runs import SetStateStatus

    found = lookup.find_run(session, run)
    body = ResumeFlowRun(run_input=read_pairs(pairs, "--input") if pairs else None)
    answer = session.send(calls.resume_flow_run(id=found.id, body=body))
    if answer.status is not SetStateStatus.ACCEPT:
        reason = answer.details.reason
        raise Conflict(
            f"The flow run {found.name!r} cannot be resumed: it is {found.state_name}.",
            why=reason if isinstance(reason, str) else "",
        )
    session.note(f"Flow run {found.name!r} is {answer.state.name if answer.state else 'resumed'}.")
    _tell_each(session, [found])


@flow_run.command("delete", example="eparch flow-run delete calm-otter -y")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.pass_obj
def delete(session: Session, runs: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Delete flow runs with their logs; RUN is an id or a name, - reads them from stdin."""
    found = _chosen(session, runs)
    if not _agreed(session, "delete", found, yes, dry_run):
        return
    for run in found:
        session.send(calls.delete_flow_run(id=run.id))
        session.note(f"Deleted flow run {run.name!r} ({run.id}).")
    if not session.output.is_table:
        session.output.rows(found, [], name=lambda run: run.id)


@flow_run.command("execute", prints=False, example="EPARCH_FLOW_RUN_ID=... eparch flow-run execute")
@click.argument("run", required=False, envvar=["EPARCH_FLOW_RUN_ID", "PREFECT__FLOW_RUN_ID"])
@click.pass_obj
def execute(session: Session, run: str | None) -> None:
    """Run a flow run in this process, as jobs do; its id can be in EPARCH_FLOW_RUN_ID."""
    id_ = lookup.as_id(run or "")
    if id_ is None:
        session.refuse("Which run?", fix="Give its id, or set EPARCH_FLOW_RUN_ID.")
    settings = session.located()
    more = {"EPARCH_FLOW_RUN_ID": str(id_), "PREFECT__FLOW_RUN_ID": str(id_)}
    more |= {"EPARCH_API_URL": settings.api_url or ""}
    os.execve(sys.executable, [sys.executable, "-m", "eparch.sdk.execute"], {**os.environ, **more})  # noqa: S606


def _chosen(session: Session, runs: tuple[str, ...]) -> list[FlowRun]:
    """The runs that were named, all of them found before anything is done."""
    names = [name for word in runs for name in (sys.stdin.read().split() if word == "-" else [word])]
    if not names:
        session.refuse("No run was named.")
    return [lookup.find_run(session, name) for name in dict.fromkeys(names)]


def _agreed(session: Session, verb: str, runs: list[FlowRun], yes: bool, dry_run: bool) -> bool:
    if dry_run:
        for run in runs:
            session.note(f"Would {verb} flow run {run.name!r} ({run.id}), which is {run.state_name}.")
        if not session.output.is_table:
            session.output.rows(runs, [], name=lambda run: run.id)
        return False
    what = f"flow run {runs[0].name!r}" if len(runs) == 1 else f"{len(runs)} flow runs"
    session.confirm(f"{verb.capitalize()} {what}?", yes=yes)
    return True


def _propose(session: Session, run: FlowRun, state: StateCreate, done: str, *, force: bool = False) -> None:
    from msgspec.structs import replace

    from eparch.core.model import new_id
    from eparch.core.runs import SetState, SetStateStatus

    # the id makes a repeated proposal the same one
    details = replace(state.state_details, transition_id=new_id())
    body = SetState(state=replace(state, state_details=details), force=force)
    answer = session.send(calls.set_flow_run_state(id=run.id, body=body))
    reached = answer.state
    wanted = answer.status is SetStateStatus.ACCEPT or (
        reached is not None and done == "cancelled" and reached.is_cancelled()
    )
    if not wanted:
        reason = answer.details.reason
        raise Conflict(
            f"The flow run {run.name!r} cannot be {done}: it is {run.state_name}.",
            why=reason if isinstance(reason, str) else "",
        )
    session.note(f"Flow run {run.name!r} is {reached.name if reached else state.name}.")


def _tell_each(session: Session, runs: list[FlowRun]) -> None:
    if not session.output.is_table:
        now = [session.send(calls.read_flow_run(id=run.id)) for run in runs]
        session.output.rows(now, [], name=lambda run: run.id)
