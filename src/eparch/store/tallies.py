"""Counts and histories of runs: what pages and dashboards show beside rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from eparch.core.filters import Query
from eparch.core.listing import ByState, Span, intervals
from eparch.core.states import FINAL, StateType
from eparch.store import rows
from eparch.store import tables as t
from eparch.store.dialect import AnyOf, IntervalOf, SecondsBetween
from eparch.store.statement import Statement, Steps, param
from eparch.store.where import bind, bind_all

_run, _task, _deployment = t.flow_run, t.task_run, t.deployment

OUTCOMES = 20
"""Intervals into which the outcomes of task runs are counted (wire: ``TaskRunCount``)."""

_FAILED = (StateType.FAILED, StateType.CRASHED)


def _is_in(table: sa.Table, kinds: Any) -> Any:
    return table.c.state_type.in_([sa.literal_column(f"'{StateType(kind).value}'") for kind in kinds])


def _lateness(table: sa.Table) -> sa.ColumnElement[float]:
    """How late the run began, or is, in seconds (see ``core.runs.run_times``)."""
    now = param("now", table.c.expected_start_time)
    expected, start = table.c.expected_start_time, table.c.start_time
    waits = sa.and_(start.is_(None), expected < now, sa.not_(_is_in(table, sorted(FINAL))))
    return sa.case(
        (start > expected, SecondsBetween(expected, start)),
        (waits, SecondsBetween(expected, now)),
        else_=sa.literal_column("0.0"),
    )


def _run_time(table: sa.Table) -> Any:
    """How long the run has run, in seconds."""
    own = SecondsBetween(table.c.state_timestamp, param("now", table.c.state_timestamp))
    running = _is_in(table, [StateType.RUNNING])
    total = sa.case((running, table.c.total_run_time + own), else_=table.c.total_run_time)
    return sa.case((total > sa.literal_column("0.0"), total), else_=sa.literal_column("0.0"))


_HISTORY = (
    "interval",
    "state_type",
    "state_name",
    "count_runs",
    "sum_estimated_run_time",
    "sum_estimated_lateness",
)


def _history(table: sa.Table) -> sa.Select[Any]:
    expected = table.c.expected_start_time
    return (
        sa.select(
            IntervalOf(expected, "start", "length").label("number"),
            table.c.state_type,
            table.c.state_name,
            sa.func.count(),
            sa.func.sum(_run_time(table)),
            sa.func.sum(_lateness(table)),
        )
        .select_from(table)
        .where(
            expected >= param("start", expected),
            expected < param("end", expected),
            table.c.state_type.is_not(None),
        )
        .group_by(sa.literal_column("number"), table.c.state_type, table.c.state_name)
    )


_HISTORIES = {"flow_runs": _history(_run), "task_runs": _history(_task)}
_AVERAGE_LATENESS = sa.select(sa.func.avg(_lateness(_run))).select_from(_run)
_BY_STATE = (
    sa.select(_task.c.state_type, sa.func.count())
    .select_from(_task)
    .where(_task.c.state_type.is_not(None))
    .group_by(_task.c.state_type)
)
_OUTCOMES = (
    sa.select(IntervalOf(_task.c.start_time, "start", "length").label("number"), _task.c.state_type)
    .add_columns(sa.func.count())
    .select_from(_task)
    .where(
        _task.c.start_time >= param("start", _task.c.start_time),
        _task.c.start_time < param("end", _task.c.start_time),
        _is_in(_task, sorted(FINAL)),
    )
    .group_by(sa.literal_column("number"), _task.c.state_type)
)
_SHORT_RUNS = sa.select(
    *(
        _run.c[name]
        for name in (
            "id",
            "state_type",
            "start_time",
            "expected_start_time",
            "total_run_time",
            "state_timestamp",
        )
    )
)
_subflow = t.flow_run.alias("subflow")
_TASKS_BY_RUN = Statement(
    sa.select(_task.c.flow_run_id, sa.func.count())
    .where(
        AnyOf(_task.c.flow_run_id, "ids"),
        ~sa.exists(
            sa.select(_subflow.c.id).where(_subflow.c.parent_task_run_id == _task.c.id).correlate(_task)
        ),
    )
    .group_by(_task.c.flow_run_id)
)
_DEPLOYMENTS_BY_FLOW = Statement(
    sa.select(_deployment.c.flow_id, sa.func.count())
    .where(AnyOf(_deployment.c.flow_id, "ids"))
    .group_by(_deployment.c.flow_id)
)
_NEXT_OF_FLOW = ("id", "flow_id", "name", "state_name", "state_type", "next_scheduled_start_time")
# Runs that wait are few, whatever the number of runs that are over: their index begins with the state.
_NEXT_RUN = Statement(
    sa.select(*(_run.c[name] for name in _NEXT_OF_FLOW))
    .where(
        _run.c.flow_id == param("flow_id", _run.c.flow_id),
        _run.c.state_type == sa.literal_column("'SCHEDULED'"),
        _run.c.next_scheduled_start_time.is_not(None),
    )
    .order_by(_run.c.next_scheduled_start_time, _run.c.id)
    .limit(sa.literal_column("1"))
)
_TASK_RUN_NAMED = Statement(
    rows.TASK_RUNS.add_columns(_run.c.name.label("flow_run_name"))
    .select_from(_task.outerjoin(_run, _run.c.id == _task.c.flow_run_id))
    .where(_task.c.id == param("id", _task.c.id)),
    wire=True,
)
_TASK_RUN_NAMED_KEYS = (*rows.names(rows.TASK_RUNS), "flow_run_name")


def history(query: Query, now: datetime) -> Steps[list[dict[str, Any]]]:
    """How many runs of each state were to start in each interval of the query's ``Span``."""
    span: Span = query.more
    starts = span.starts()
    if not starts:
        return []
    found = yield bind_all(
        _HISTORIES[query.entity],
        query,
        now=now,
        start=starts[0],
        end=starts[-1] + span.interval,
        length=span.interval // timedelta(microseconds=1),
    )
    return intervals(span, (dict(zip(_HISTORY, row, strict=True)) for row in sorted(found, key=_by_state)))


def _by_state(row: Sequence[Any]) -> tuple[Any, ...]:
    # Sorted here: a database that sorts for itself sorts the runs, not the counts.
    return tuple(row[:3])


def average_lateness(query: Query, now: datetime) -> Steps[float | None]:
    """How late the runs were or are, in seconds; None when there are none."""
    found = yield bind_all(_AVERAGE_LATENESS, query, now=now)
    return None if found[0][0] is None else float(found[0][0])


def short_runs(query: Query, now: datetime) -> Steps[list[dict[str, Any]]]:
    """A page of flow runs as a chart shows them: when, how long, how late."""
    found = yield bind(_SHORT_RUNS, query)
    made = []
    for id_, kind, start, expected, total, since in found:
        running = kind == StateType.RUNNING
        if start is not None:
            late = max((start - expected).total_seconds(), 0.0)
        else:
            late = max((now - expected).total_seconds(), 0.0) if kind not in FINAL else 0.0
        made.append(
            {
                "id": id_,
                "state_type": kind,
                "timestamp": start or expected,
                "duration": total + (now - since).total_seconds() if running else total,
                "lateness": late,
            }
        )
    return made


def task_runs_by_state(query: Query) -> Steps[ByState]:
    """How many task runs are in a state of each type."""
    found = yield bind_all(_BY_STATE, query)
    return ByState(**{row[0]: row[1] for row in found})


def outcomes(query: Query, start: datetime, end: datetime) -> Steps[list[dict[str, int]]]:
    """How many task runs that began in each of ``OUTCOMES`` equal intervals have completed and failed."""
    length = max(-(-(end - start) // timedelta(microseconds=OUTCOMES)), 1)
    found = yield bind_all(_OUTCOMES, query, start=start, end=end, length=length)
    made = [{"completed": 0, "failed": 0} for _ in range(OUTCOMES)]
    for number, kind, count in found:
        made[number]["failed" if kind in _FAILED else "completed"] += count
    return made


def task_runs_by_flow_run(ids: Sequence[UUID]) -> Steps[dict[str, int]]:
    """How many task runs each flow run has, those that stand for subflows aside."""
    found = yield _TASKS_BY_RUN(ids=list(ids))
    return {**{str(id_): 0 for id_ in ids}, **{str(row[0]): row[1] for row in found}}


def deployments_by_flow(ids: Sequence[UUID]) -> Steps[dict[str, int]]:
    """How many deployments each flow has."""
    found = yield _DEPLOYMENTS_BY_FLOW(ids=list(ids))
    return {**{str(id_): 0 for id_ in ids}, **{str(row[0]): row[1] for row in found}}


def next_runs(ids: Sequence[UUID]) -> Steps[dict[str, dict[str, Any] | None]]:
    """The run of each flow that is due next; None where none is planned."""
    made: dict[str, dict[str, Any] | None] = {}
    for id_ in ids:
        found = yield _NEXT_RUN(flow_id=id_)
        made[str(id_)] = dict(zip(_NEXT_OF_FLOW, found[0], strict=True)) if found else None
    return made


def task_run_with_name(run_id: UUID, now: datetime) -> Steps[dict[str, Any] | None]:
    """The task run and the name of its flow run."""
    found = yield _TASK_RUN_NAMED(id=run_id)
    return rows.wire_run(_TASK_RUN_NAMED_KEYS, found[0], now) if found else None
