"""Why a task run is waiting, by what decides on it: its flow run, its queue, its time, its tags' limits.

Room under a tag's limit is counted by the code that gives its slots. Nothing is written or locked. What only
the process of the flow run knows, such as whether a thread is free, is not known here.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from uuid import UUID

from eparch.core import task_blockers as b
from eparch.core.blockers import SHOWN_HOLDERS, RetryWaits, ScheduledLater, not_before
from eparch.core.concurrency import tag_of
from eparch.core.errors import NotFound
from eparch.core.graphs import upstream
from eparch.core.runs import FlowRun, TaskRun
from eparch.core.states import FINAL, State, StateType
from eparch.core.task_blockers import TaskBlocker, TaskExplanation
from eparch.core.task_workers import LEASE, is_queued
from eparch.orchestration.concurrency import full_tags
from eparch.orchestration.explaining import MOST_TEXT
from eparch.store import explaining, runs, task_queue
from eparch.store.statement import Steps, looking

MOST_UPSTREAM = 200
"""Task runs of its inputs that are looked at."""

_NOT_WAITING = (b.TaskRuns, b.TaskEnded, b.FlowRunOver)


def explain_task(run_id: UUID, now: datetime) -> Steps[TaskExplanation]:
    """Why the task run does not run, the most telling reason first.

    Raises:
        NotFound: there is no such run.
    """
    return (yield from looking(_explain(run_id, now)))


def _explain(run_id: UUID, now: datetime) -> Steps[TaskExplanation]:
    run = yield from runs.task_run_for_decision(run_id)
    if run is None:
        raise NotFound("Task run not found")
    found = _of_state(run.state)
    if not found:
        found = yield from _of_flow_run(run, now)
    if not any(isinstance(one, _NOT_WAITING) for one in found):
        found += yield from _waiting(run, now)
    return TaskExplanation(
        task_run_id=run.id,
        flow_run_id=run.flow_run_id,
        name=run.name,
        state_type=run.state_type,
        state_name=run.state.name if run.state else None,
        waiting=not any(isinstance(one, _NOT_WAITING) for one in found),
        summary=found[0].says(now) if found else b.FREE,
        reasons=b.task_reasons(found, now),
        not_before=not_before(found),
        as_of=now,
    )


def _of_state(state: State | None) -> list[TaskBlocker]:
    """What the state alone says of a run that does not wait."""
    if state is None:
        return []
    if state.is_final():
        reason = (state.message or "")[:MOST_TEXT]
        return [b.TaskEnded(state_name=state.name or state.type.value, at=state.timestamp, reason=reason)]
    if state.type is StateType.RUNNING:
        return [b.TaskRuns(since=state.timestamp)]
    return []


def _of_flow_run(run: TaskRun, now: datetime) -> Steps[list[TaskBlocker]]:
    """Whether the flow run around it lets it begin."""
    if run.flow_run_id is None or (run.state is not None and is_queued(run.state)):
        # A task worker runs it, whatever becomes of the flow run that delayed it.
        return []
    stored = yield from runs.flow_run_for_decision(run.flow_run_id)
    return [] if stored is None else _flow_run_stops(stored.run)


def _flow_run_stops(flow_run: FlowRun) -> list[TaskBlocker]:
    state = flow_run.state
    if state is None or state.type is StateType.RUNNING:
        return []
    name = state.name or state.type.value
    if state.is_final():
        over = b.FlowRunOver(flow_run_id=flow_run.id, name=flow_run.name, state_name=name, at=state.timestamp)
        return [over]
    waits = b.FlowRunWaits(
        flow_run_id=flow_run.id,
        name=flow_run.name,
        state_type=state.type,
        state_name=name,
        until=state.state_details.pause_timeout,
    )
    return [waits]


def _waiting(run: TaskRun, now: datetime) -> Steps[list[TaskBlocker]]:
    """The reasons of one that nobody has begun."""
    found: list[TaskBlocker] = []
    state = run.state
    if state is not None and is_queued(state):
        found += yield from _queued(run, state, now)
    elif state is not None and state.type is StateType.SCHEDULED:
        due = state.state_details.scheduled_time
        if due is not None and due > now:
            found.append(RetryWaits(at=due) if run.run_count else ScheduledLater(at=due))
    found += yield from _tags(run, now)
    return [*found, *(yield from _upstream(run))]


def _queued(run: TaskRun, state: State, now: datetime) -> Steps[list[TaskBlocker]]:
    """The reasons of a background task in the queue of its key."""
    held = yield from task_queue.one(run.id)
    if held is not None and held.holder is not None:
        return [b.HandedOut(lease_until=held.lease_until)]
    due = state.state_details.scheduled_time
    later: list[TaskBlocker] = [ScheduledLater(at=due)] if due is not None and due > now else []
    workers = yield from task_queue.read_workers([run.task_key], now - LEASE)
    if not workers:
        return [*later, b.NoTaskWorker(task_key=run.task_key)]
    if later:
        return later
    names = [one.identifier for one in workers]
    ahead = yield from task_queue.count_before(run.id)
    return [b.TaskWorkersBusy(task_key=run.task_key, workers=names, ahead=ahead)]


def _tags(run: TaskRun, now: datetime) -> Steps[list[TaskBlocker]]:
    """The limits on its tags that have no room for it."""
    found: list[TaskBlocker] = []
    for book in (yield from full_tags(run.tags, run.id, now)) if run.tags else ():
        holders = yield from explaining.limit_holders(book.id, SHOWN_HOLDERS, 0, now)
        full = b.TagLimitFull(
            tag=tag_of(book.name) or book.name, limit=book.limit, taken=book.held, holders=holders
        )
        found.append(full)
    return found


def _upstream(run: TaskRun) -> Steps[list[TaskBlocker]]:
    """The task runs that its inputs come from and that are not over."""
    wanted: list[UUID] = []
    for text in upstream(run.task_inputs, wraps=False)[:MOST_UPSTREAM]:
        with suppress(ValueError):
            wanted.append(UUID(text))
    if not wanted:
        return []
    rows = yield from runs.task_rows(wanted)
    open_ = [
        b.UpstreamTask(task_run_id=id_, name=row["name"], state_name=row["state_name"])
        for id_, row in rows.items()
        if row["state_type"] is None or row["state_type"] not in FINAL
    ]
    return [b.UpstreamRuns(runs=sorted(open_, key=lambda one: one.task_run_id))] if open_ else []
