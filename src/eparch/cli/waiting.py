"""What people see of runs that wait: why, who holds the slots, and what is to come.

Owns the printing; what is printed is found by the server.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from eparch.cli import lookup
from eparch.cli.output import Column, printable, span, write
from eparch.core import calls
from eparch.core.blockers import Holding
from eparch.core.errors import EparchError, NotFound

if TYPE_CHECKING:
    from uuid import UUID

    from eparch.cli.session import Session
    from eparch.core.blockers import Explanation, LimitHolding, Reason
    from eparch.core.calls import Endpoint
    from eparch.core.runs import FlowRun, TaskRun
    from eparch.core.task_blockers import TaskExplanation, TaskReason


class NotOurServer(EparchError):
    """The server cannot answer this."""


def explain_run(session: Session, run: FlowRun) -> None:
    """Say why the run does not run: the answer first, then what to do, then the details."""
    try:
        found = session.send(calls.explain_flow_run(id=run.id))
    except NotFound as error:
        raise _not_ours("why a run waits") from error
    _show(session, found, found.flow_run_id, _line(found))


def explain_task_run(session: Session, run: TaskRun) -> None:
    """The same of a task run."""
    try:
        found = session.send(calls.explain_task_run(id=run.id))
    except NotFound as error:
        raise _not_ours("why a task run waits") from error
    around = [f"flow   {found.flow_run_id}"] if found.flow_run_id else []
    _show(session, found, found.task_run_id, around)


def _show(session: Session, found: Explanation | TaskExplanation, run_id: UUID, more: list[str]) -> None:
    if session.output.is_table:
        first, *others = map(printable, _lines(found, run_id, more))
        bold = f"\x1b[1m{first}\x1b[0m" if session.output.colored else first
        write("\n".join([bold, *others]))
    else:
        session.output.one(found, name=lambda _: run_id)


def _not_ours(what: str) -> NotOurServer:
    return NotOurServer(f"The server does not tell {what}.", why="It is not Eparch, or an older version.")


def _lines(found: Explanation | TaskExplanation, run_id: UUID, more: list[str]) -> Iterable[str]:
    yield found.summary
    for reason in found.reasons[:1]:
        yield from _advice(reason, "")
    others = found.reasons[1:]
    if others:
        yield ""
        yield "It waits for this as well:" if found.waiting else "And:"
        for reason in others:
            yield f"- {reason.says}"
            yield from _advice(reason, "  ")
    yield ""
    state = found.state_name or "none"
    yield f"run    {found.name} ({run_id})"
    yield f"state  {state}"
    yield from more
    if found.not_before is not None:
        yield f"start  not before {found.not_before:%Y-%m-%d %H:%M:%S} UTC"


def _line(found: Explanation) -> list[str]:
    """Where a run stands."""
    if not found.ahead:
        return [] if found.ahead is None else ["line   nobody before it"]
    least = "at least " if found.ahead_is_least else ""
    return [f"line   {least}{found.ahead} before it"]


def _advice(reason: Reason | TaskReason, indent: str) -> Iterable[str]:
    for index, line in enumerate(reason.todo):
        yield f"{indent}  {'do:' if index == 0 else '   '} {line}"
    holders: list[Holding | LimitHolding] = getattr(reason.blocker, "holders", [])
    now = datetime.now(UTC)
    for one in holders:
        yield f"{indent}  held by {_holder(one)}, {_standing(one, now)}"


def _holder(one: Holding | LimitHolding) -> str:
    if isinstance(one, Holding):
        return f"{one.name} ({one.flow_run_id})"
    return f"{one.name or 'unknown'} ({one.holder_id or one.lease_id})"


def _standing(one: Holding | LimitHolding, now: datetime) -> str:
    if not isinstance(one, Holding):
        return f"for {_for(one, now)}, lease {_lease(one, now)}"
    text = f"{one.state_name} for {_for(one, now)}"
    if one.worker_name:
        text += f", worker {one.worker_name}"
    return f"{text}, lease {_lease(one, now)}"


def _for(one: Holding | LimitHolding, now: datetime) -> str:
    return span(max((now - one.since).total_seconds(), 0))


def _lease(one: Holding | LimitHolding, now: datetime) -> str:
    if one.lease_until is None:
        return "until it ends"
    left = (one.lease_until - now).total_seconds()
    return f"for {span(left)} unless renewed" if left > 0 else "is over"


def show_holders(session: Session, endpoint: Endpoint[list[Holding]], limit: int | None, **path: Any) -> None:
    """Print the runs that hold a slot: since when, and until when unless they renew it (row P16)."""
    try:
        found = list(session.pages(endpoint, {}, **path))
    except NotFound as error:
        raise _not_ours("who holds slots") from error
    now = datetime.now(UTC)
    columns = [
        Column("RUN", lambda one: one.name),
        Column("STATE", lambda one: one.state_name, lambda one: one.state_type),
        Column("HELD FOR", lambda one: _for(one, now)),
        Column("LEASE", lambda one: _lease(one, now)),
        Column("WORKER", lambda one: one.worker_name),
        Column("QUEUE", lambda one: one.work_queue_name),
        Column("ID", lambda one: one.flow_run_id),
    ]
    session.output.rows(found, columns, name=lambda one: one.flow_run_id)
    if limit is None:
        held = "1 slot is" if len(found) == 1 else f"{len(found)} slots are"
        session.note(f"{held} held; there is no limit.")
    else:
        session.note(f"{len(found)} of {limit} slots are held.")


def show_upcoming(session: Session, where: dict[str, Any], hours: float, limit: int) -> None:
    """Print the scheduled runs that ``where`` selects, the next one first (row P17)."""
    until = datetime.now(UTC) + timedelta(hours=hours)
    body = {
        **where,
        "flow_runs": {
            "state": {"type": {"any_": ["SCHEDULED"]}},
            "next_scheduled_start_time": {"before_": until.isoformat()},
        },
        "sort": "NEXT_SCHEDULED_START_TIME_ASC",
    }
    found = list(session.pages(calls.read_flow_runs, body, limit))
    show_runs(session, found, empty=f"No run is due within {hours:g} h.")


def show_runs(session: Session, found: list[FlowRun], *, empty: str) -> None:
    """Print runs that wait, with their time."""
    flows = lookup.flows_by_id(session, (run.flow_id for run in found)) if session.output.is_table else {}

    def flow_of(run: FlowRun) -> str:
        flow = flows.get(run.flow_id)
        return flow.name if flow else ""

    columns = [
        Column("TIME", lambda run: run.next_scheduled_start_time),
        Column("FLOW", flow_of),
        Column("RUN", lambda run: run.name),
        Column("STATE", lambda run: run.state_name, lambda run: run.state_type),
        Column("QUEUE", lambda run: run.work_queue_name),
        Column("ID", lambda run: run.id),
    ]
    session.output.rows(found, columns, name=lambda run: run.id, empty=empty)
