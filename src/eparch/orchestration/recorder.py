"""Task runs from client events: what a flow's process reports becomes rows (wire 4.2).

Events may come twice, late or in any order: a batch is read once, put in the order of its states, and
written with a handful of statements however many events it has. A state is history whenever it comes;
the run's row follows the newest.
"""

from __future__ import annotations

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
from eparch.store import records, rows, runs
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
    task_inputs: dict[str, Any] = {}
    flow_run_run_count: int = 0


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


def record(events: Sequence[Event], now: datetime) -> Steps[None]:
    """Store ``events`` that are new, and the task runs that they report.

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
    by_run: dict[UUID, list[_Report]] = {}
    for report in reports:
        if report.flow_run_id is None or report.flow_run_id in known:
            by_run.setdefault(report.task_run_id, []).append(report)
    if not by_run:
        return
    progress = yield from runs.task_progress(list(by_run))
    columns = [
        _advanced(run_id, sorted(found, key=_moment), progress.get(run_id), now)
        for run_id, found in by_run.items()
    ]
    yield from runs.record_task_runs(columns)
    yield from runs.append_task_run_states(
        [(run_id, report.state) for run_id, found in by_run.items() for report in found]
    )


def _moment(report: _Report) -> datetime:
    return report.state.timestamp


def _advanced(
    run_id: UUID, found: list[_Report], before: dict[str, Any] | None, now: datetime
) -> dict[str, Any]:
    """The row of a task run after ``found``, in the order of their states, on top of what was there."""
    progress = dict(before) if before else _fresh(found[0].state.timestamp, now)
    for report in found:
        at = progress["state_timestamp"]
        if at is None or report.state.timestamp >= at:
            _step(progress, report.state)
        else:
            _late(progress, report.state)
    return {**_row(run_id, found[-1]), **progress, "updated": now}


def _fresh(first: datetime, now: datetime) -> dict[str, Any]:
    progress: dict[str, Any] = dict.fromkeys(rows.TASK_PROGRESS)
    return {**progress, "created": now, "run_count": 0, "total_run_time": 0.0, "expected_start_time": first}


def _step(progress: dict[str, Any], state: State) -> None:
    """Account for a state that follows those which are known."""
    if progress["state_type"] == "RUNNING":
        elapsed = (state.timestamp - progress["state_timestamp"]).total_seconds()
        progress["total_run_time"] += max(elapsed, 0.0)
    if state.type is StateType.RUNNING:
        progress["run_count"] += 1
        progress["start_time"] = progress["start_time"] or state.timestamp
    progress["end_time"] = state.timestamp if state.type in FINAL else None
    progress.update(rows.state_columns(state))


def _late(progress: dict[str, Any], state: State) -> None:
    """Account for a state that came after the ones which followed it."""
    progress["expected_start_time"] = min(progress["expected_start_time"], state.timestamp)
    if state.type is StateType.RUNNING:
        progress["run_count"] += 1
        first = progress["start_time"] is None or state.timestamp < progress["start_time"]
        if first:
            progress["start_time"] = state.timestamp
        if progress["end_time"] is not None and progress["total_run_time"] == 0.0:
            progress["total_run_time"] = (progress["end_time"] - state.timestamp).total_seconds()


def _row(run_id: UUID, report: _Report) -> dict[str, Any]:
    run = report.run
    return {
        "id": run_id,
        "name": run.name or f"{run.task_key}-{run.dynamic_key}",
        "flow_run_id": report.flow_run_id,
        "task_key": run.task_key,
        "dynamic_key": run.dynamic_key,
        "cache_key": run.cache_key,
        "cache_expiration": run.cache_expiration,
        "task_version": run.task_version,
        "empirical_policy": run.empirical_policy,
        "tags": run.tags,
        "labels": run.labels or {},
        "task_inputs": run.task_inputs,
        "next_scheduled_start_time": report.state.state_details.scheduled_time,
        "flow_run_run_count": run.flow_run_run_count,
    }
