"""The rows of a flow run's graphs; what they mean is in ``core.graphs``."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from eparch.core.graphs import MAX_ARTIFACTS, MAX_NODES, GraphArtifact, GraphState, Part
from eparch.core.states import StateType
from eparch.store import rows
from eparch.store import tables as t
from eparch.store.statement import Statement, Steps, param

_run, _task, _flow, _artifact = t.flow_run, t.task_run, t.flow, t.artifact
_state = t.flow_run_state
_sub = t.flow_run.alias("sub")
_newer = t.artifact.alias("newer")

_TIMES = Statement(
    sa.select(
        sa.func.coalesce(_run.c.start_time, _run.c.expected_start_time, type_=t.Time()), _run.c.end_time
    ).where(_run.c.id == param("id", _run.c.id))
)
_started = sa.func.coalesce(
    _sub.c.start_time,
    _sub.c.expected_start_time,
    _task.c.start_time,
    _task.c.expected_start_time,
    type_=t.Time(),
)
_ended = sa.func.coalesce(
    _sub.c.end_time,
    _task.c.end_time,
    sa.case((_task.c.state_type == sa.literal_column("'COMPLETED'"), _task.c.expected_start_time)),
    type_=t.Time(),
)
_PARTS = Statement(
    sa.select(
        _task.c.id,
        _sub.c.id.label("sub_id"),
        _sub.c.name.label("sub_name"),
        _flow.c.name.label("flow_name"),
        _task.c.name,
        sa.func.coalesce(_sub.c.state_type, _task.c.state_type),
        _started,
        _ended,
        _task.c.task_inputs,
    )
    .select_from(
        _task.outerjoin(_sub, _sub.c.parent_task_run_id == _task.c.id).outerjoin(
            _flow, _flow.c.id == _sub.c.flow_id
        )
    )
    .where(
        _task.c.flow_run_id == param("flow_run_id", _task.c.flow_run_id),
        _task.c.state_type != sa.literal_column("'PENDING'"),
        sa.or_(
            _ended.is_(None),
            _started >= param("since", _task.c.start_time),
            _ended >= param("since", _task.c.start_time),
        ),
    )
    .order_by(_task.c.id)
    .limit(sa.literal_column(str(MAX_NODES + 1)))
)
_STATES = Statement(
    sa.select(_state.c.id, _state.c.timestamp, _state.c.type, _state.c.name)
    .where(_state.c.flow_run_id == param("flow_run_id", _state.c.flow_run_id))
    .order_by(_state.c.timestamp, _state.c.id)
)
_ARTIFACTS = Statement(
    sa.select(
        _artifact.c.task_run_id,
        _artifact.c.id,
        _artifact.c.created,
        _artifact.c.key,
        _artifact.c.type,
        _artifact.c.data,
        sa.exists(
            sa.select(_newer.c.id)
            .where(_newer.c.key == _artifact.c.key, _newer.c.id > _artifact.c.id)
            .correlate(_artifact)
        ).label("is_old"),
    )
    .where(
        _artifact.c.flow_run_id == param("flow_run_id", _artifact.c.flow_run_id),
        _artifact.c.type != sa.literal_column("'result'"),
    )
    .order_by(_artifact.c.created, _artifact.c.id)
    .limit(sa.literal_column(str(MAX_ARTIFACTS)))
)
_DEPENDENCIES = Statement(
    rows.TASK_RUNS.where(_task.c.flow_run_id == param("flow_run_id", _task.c.flow_run_id))
    .order_by(_task.c.id.desc())
    .limit(sa.literal_column(str(MAX_NODES + 1))),
    wire=True,
)
_TASK_KEYS = rows.names(rows.TASK_RUNS)

Times = tuple[datetime | None, datetime | None]


def times(flow_run_id: UUID) -> Steps[Times | None]:
    """When the run began, or is to begin, and when it ended; None when there is none."""
    found = yield _TIMES(id=flow_run_id)
    return (found[0][0], found[0][1]) if found else None


def parts(flow_run_id: UUID, since: datetime) -> Steps[list[Part]]:
    """The nodes of the run's graph; one more than ``MAX_NODES`` when there are more."""
    made = []
    for task, sub, sub_name, flow_name, name, kind, start, end, inputs in (
        yield _PARTS(flow_run_id=flow_run_id, since=since)
    ):
        made.append(
            Part(
                task_run_id=task,
                kind="task-run" if sub is None else "flow-run",
                id=sub or task,
                label=name if sub is None else f"{flow_name} / {sub_name}",
                state_type=StateType(kind),
                start_time=start,
                end_time=end,
                task_inputs=inputs or {},
            )
        )
    return made


def states(flow_run_id: UUID) -> Steps[list[GraphState]]:
    """The history of the run, oldest first."""
    found = yield _STATES(flow_run_id=flow_run_id)
    return [GraphState(id=row[0], timestamp=row[1], type=StateType(row[2]), name=row[3]) for row in found]


def artifacts(flow_run_id: UUID) -> Steps[dict[UUID | None, list[GraphArtifact]]]:
    """What the run has made, by the task run that made it."""
    made: dict[UUID | None, list[GraphArtifact]] = {}
    for task, id_, created, key, kind, data, is_old in (yield _ARTIFACTS(flow_run_id=flow_run_id)):
        artifact = GraphArtifact(
            id=id_,
            created=created,
            key=key,
            type=kind,
            is_latest=not is_old,
            data=data if kind == "progress" else None,
        )
        made.setdefault(task, []).append(artifact)
    return made


def task_runs(flow_run_id: UUID, now: datetime) -> Steps[list[dict[str, Any]]]:
    """The task runs of the run as the wire answers them; one more than ``MAX_NODES`` when there are more."""
    found = yield _DEPENDENCIES(flow_run_id=flow_run_id)
    return [rows.wire_run(_TASK_KEYS, row, now) for row in found]
