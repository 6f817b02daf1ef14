"""Task runs from client events: what a flow's process reports becomes rows (wire 4.2).

Events may come twice, late or in any order: a batch is read once, put in the order of its states, and
written with a handful of statements however many events it has. A state is history whenever it comes;
the run's row follows the newest, and is counted again from the whole history when one comes late.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.errors import Invalid
from eparch.core.events import Event, resource_id
from eparch.core.model import Timestamp, Value
from eparch.core.runs import TaskRunPolicy
from eparch.core.states import FINAL, State, StateDetails, StateType
from eparch.store import concurrency, records, rows, runs, task_queue
from eparch.store.statement import Note, Steps

MOST_EVENTS = 5_000
"""Events of one request."""

_PREFIX = "prefect.task-run."


class _Reported(Value, frozen=True, kw_only=True):
    """The ``task_run`` of an event's payload."""

    task_key: str
    dynamic_key: str
    name: str = ""
    cache_key: str | None = None
    cache_expiration: Timestamp | None = None
    task_version: str | None = None
    empirical_policy: TaskRunPolicy = msgspec.field(default_factory=TaskRunPolicy)
    tags: list[str] = []
    labels: dict[str, Any] | None = None
    task_inputs: dict[str, list[dict[str, Any]]] = {}
    flow_run_run_count: int = 0
    run_count: int = 0
    total_run_time: float = 0.0
    start_time: Timestamp | None = None
    expected_start_time: Timestamp | None = None


class _ReportedState(Value, frozen=True, kw_only=True):
    """The ``validated_state`` of an event's payload."""

    type: StateType
    name: str | None = None
    message: str | None = None
    state_details: StateDetails = msgspec.field(default_factory=StateDetails)
    data: Any = None


class _Report(msgspec.Struct, frozen=True):
    task_run_id: UUID
    flow_run_id: UUID | None
    run: _Reported
    state: State


Moment = tuple[datetime, int]
"""Where a state stands in a history."""

_RANK = {StateType.SCHEDULED: 0, StateType.PENDING: 1, StateType.RUNNING: 2}


def _moment(state: State) -> Moment:
    """States of the same microsecond stand in the order in which a run goes through them."""
    return state.timestamp, _RANK.get(state.type, 3)


def record(events: Sequence[Event], now: datetime) -> Steps[None]:
    """Store ``events`` that are new, and the task runs that they report; no text of theirs holds a NUL.

    Raises:
        Invalid: there are more than ``MOST_EVENTS``.
    """
    if len(events) > MOST_EVENTS:
        raise Invalid(f"More than {MOST_EVENTS} events in one request.", fix="Send them in several.")
    if not events:
        return
    fresh = yield from records.unknown_events(events)
    reports = [report for event in fresh if (report := _report(event)) is not None]
    if reports:
        yield from _record_reports(reports, now)
    if fresh:
        yield from records.insert_events(fresh, now)
    for event in fresh:
        yield Note("events", event)


def _report(event: Event) -> _Report | None:
    """What ``event`` reports of a task run; None when it is about something else or cannot be read."""
    about = resource_id(event.resource)
    if not about.startswith(_PREFIX) or event.resource.get("prefect.orchestration") != "client":
        return None
    try:
        task_run_id = UUID(about[len(_PREFIX) :])
        run = msgspec.convert(event.payload["task_run"], _Reported, strict=False)
        said = msgspec.convert(event.payload["validated_state"], _ReportedState, strict=False)
        flow_run_id = _flow_run_of(event)
    except (ValueError, KeyError, msgspec.ValidationError):
        return None
    details = msgspec.structs.replace(said.state_details, task_run_id=task_run_id, flow_run_id=flow_run_id)
    state = State(
        id=event.id,
        type=said.type,
        name=said.name or said.type.value.capitalize(),
        timestamp=event.occurred,
        message=said.message,
        state_details=details,
        data=said.data,
    )
    return _Report(task_run_id, flow_run_id, run, state)


def _flow_run_of(event: Event) -> UUID | None:
    for labels in event.related:
        if labels.get("prefect.resource.role") == "flow-run":
            return UUID(resource_id(labels).removeprefix("prefect.flow-run."))
    return None


def _record_reports(reports: list[_Report], now: datetime) -> Steps[None]:
    parents = list({r.flow_run_id for r in reports if r.flow_run_id is not None})
    known = (yield from runs.known_flow_runs(parents)) if parents else set()
    reports = [r for r in reports if r.flow_run_id is None or r.flow_run_id in known]
    if not reports:
        return
    reports.sort(key=lambda report: _moment(report.state))
    progress = yield from runs.task_progress(list({report.task_run_id for report in reports}))
    same = yield from _same_runs(reports, progress)
    by_run: dict[UUID, list[_Report]] = {}
    for report in reports:
        run_id = same.get(report.task_run_id, report.task_run_id)
        if not _is_stored(report, progress.get(run_id)):
            by_run.setdefault(run_id, []).append(report)
    late = [run_id for run_id, found in by_run.items() if _comes_late(found, progress.get(run_id))]
    histories = (yield from runs.task_histories(late)) if late else {}
    whole = (yield from runs.task_rows(late)) if late else {}
    newest = [row["state_id"] for row in whole.values() if row["state_id"] is not None]
    told = (yield from records.payloads(newest)) if newest else {}
    for run_id, history in histories.items():
        stored = {state.id for state in history}
        by_run[run_id] = [report for report in by_run[run_id] if report.state.id not in stored]
    by_run = {run_id: found for run_id, found in by_run.items() if found}
    if not by_run:
        return
    columns = []
    # In the order of their ids, so that two batches at once do not wait for each other.
    for run_id in sorted(by_run):
        found = by_run[run_id]
        if run_id in whole:
            row = whole[run_id]
            columns.append(_replayed(row, histories.get(run_id, []), found, told.get(row["state_id"]), now))
        else:
            columns.append(_advanced(run_id, found, progress.get(run_id), now))
    yield from runs.record_task_runs(columns)
    yield from runs.append_task_run_states(
        [(run_id, report.state) for run_id, found in by_run.items() for report in found]
    )
    over = [run["id"] for run in columns if StateType(run["state_type"]) in FINAL]
    if over:
        yield from task_queue.forget(over)
        yield from concurrency.release_tasks(over)


def _is_stored(report: _Report, before: dict[str, Any] | None) -> bool:
    """Whether the state came over REST before: who schedules a background task tells of it twice."""
    return before is not None and before["state_id"] == report.state.id


def _same_runs(reports: list[_Report], progress: dict[UUID, dict[str, Any]]) -> Steps[dict[UUID, UUID]]:
    """New ids of task runs that are there already: a flow that is run again names the same tasks anew.

    A task run is one by its flow run, task key and dynamic key (wire 4.2). What is stored of the runs that
    are meant is added to ``progress``.
    """
    by_task: dict[tuple[UUID, str], dict[str, list[UUID]]] = {}
    for report in reports:
        if report.flow_run_id is not None and report.task_run_id not in progress:
            keys = by_task.setdefault((report.flow_run_id, report.run.task_key), {})
            keys.setdefault(report.run.dynamic_key, []).append(report.task_run_id)
    same: dict[UUID, UUID] = {}
    for (flow_run_id, task_key), keys in by_task.items():
        stored = yield from runs.ids_by_dynamic_key(flow_run_id, task_key, list(keys))
        for dynamic_key, ids in keys.items():
            first = stored.get(dynamic_key, ids[0])
            same.update((id_, first) for id_ in ids if id_ != first)
    missing = {id_ for id_ in same.values() if id_ not in progress}
    if missing:
        progress.update((yield from runs.task_progress(list(missing))))
    return same


def _comes_late(found: list[_Report], before: dict[str, Any] | None) -> bool:
    """Whether the first of ``found`` stands before the newest state that is stored."""
    if before is None or before["state_timestamp"] is None:
        return False
    newest = (before["state_timestamp"], _RANK.get(StateType(before["state_type"]), 3))
    return _moment(found[0].state) < newest


def _advanced(
    run_id: UUID, found: list[_Report], before: dict[str, Any] | None, now: datetime
) -> dict[str, Any]:
    """The row of a task run after ``found``, which follow what is stored of it."""
    progress = dict(before) if before else {**_BLANK, "created": now}
    for report in found:
        _step(progress, report.state)
    row = _row(found[-1], progress.get("flow_run_id"))
    return {"id": run_id, **progress, **_told(found[-1].run, progress), **row, "updated": now}


def _replayed(
    row: dict[str, Any],
    history: list[State],
    found: list[_Report],
    payload: dict[str, Any] | None,
    now: datetime,
) -> dict[str, Any]:
    """The row of a task run when states came after those which followed them: all are counted again.

    ``payload`` is that of the event of the newest state that is stored, if an event brought it.
    """
    progress: dict[str, Any] = dict(_BLANK)
    newest = found[-1]
    for state in sorted([*history, *(report.state for report in found)], key=_moment):
        _step(progress, state)
    if progress["state_id"] == newest.state.id:
        own = _row(newest, row["flow_run_id"])
        return {**row, **progress, **_told(newest.run, progress), **own, "updated": now}
    with contextlib.suppress(KeyError, TypeError, msgspec.ValidationError):
        run = msgspec.convert((payload or {})["task_run"], _Reported, strict=False)
        progress.update(_told(run, progress))
    return {**row, **progress, "updated": now}


_BLANK: dict[str, Any] = {**dict.fromkeys(rows.TASK_PROGRESS), "run_count": 0, "total_run_time": 0.0}
del _BLANK["created"], _BLANK["flow_run_id"]


def _step(progress: dict[str, Any], state: State) -> None:
    """Account for a state that follows those which are known."""
    if progress["state_type"] == "RUNNING":
        elapsed = (state.timestamp - progress["state_timestamp"]).total_seconds()
        progress["total_run_time"] += max(elapsed, 0.0)
    if state.type is StateType.RUNNING:
        progress["run_count"] += 1
        progress["start_time"] = progress["start_time"] or state.timestamp
    scheduled = state.state_details.scheduled_time if state.type is StateType.SCHEDULED else None
    progress["next_scheduled_start_time"] = scheduled
    if progress["expected_start_time"] is None:
        progress["expected_start_time"] = scheduled or state.timestamp
    progress["end_time"] = state.timestamp if state.type in FINAL else None
    progress.update(rows.state_columns(state))


def _told(run: _Reported, progress: dict[str, Any]) -> dict[str, Any]:
    """What the run's process counted itself: it knows of states whose events were lost."""
    return {
        "run_count": run.run_count or progress["run_count"],
        "total_run_time": run.total_run_time or progress["total_run_time"],
        "start_time": run.start_time or progress["start_time"],
        "expected_start_time": run.expected_start_time or progress["expected_start_time"],
    }


def _row(report: _Report, flow_run_id: UUID | None) -> dict[str, Any]:
    """What the event says of the run; a task worker does not always say to which flow run it belongs."""
    run = report.run
    return {
        "name": run.name or f"{run.task_key}-{run.dynamic_key}",
        "flow_run_id": report.flow_run_id or flow_run_id,
        "task_key": run.task_key,
        "dynamic_key": run.dynamic_key,
        "cache_key": run.cache_key,
        "cache_expiration": run.cache_expiration,
        "task_version": run.task_version,
        "empirical_policy": run.empirical_policy,
        "tags": run.tags,
        "labels": run.labels or {},
        "task_inputs": run.task_inputs,
        "flow_run_run_count": run.flow_run_run_count,
    }
