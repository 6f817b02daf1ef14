"""Flows, deployments and their schedules: reading and writing their rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from eparch.core.deployments import Deployment, DeploymentSchedule, Flow
from eparch.core.filters import Query
from eparch.core.pools import PoolStatus, polled_status
from eparch.core.states import FINAL, StateType
from eparch.store import tables as t
from eparch.store.dialect import AnyOf, NotByIndex
from eparch.store.rows import names
from eparch.store.statement import Row, Statement, Steps, delete, insert, param, update
from eparch.store.where import bind

_flow, _deployment, _schedule = t.flow, t.deployment, t.deployment_schedule
_queue, _pool, _claim, _run = t.work_queue, t.work_pool, t.claim, t.flow_run

FLOWS: sa.Select[Any] = sa.select(*_flow.columns)
_FLOW_KEYS = names(FLOWS)

_ACTIVE_SLOTS = (
    sa.select(sa.func.count())
    .select_from(_claim)
    .where(_claim.c.slot_of == _deployment.c.id)
    .correlate(_deployment)
    .scalar_subquery()
)
DEPLOYMENTS: sa.Select[Any] = sa.select(
    *(c for c in _deployment.columns if c.name not in ("version_info",)),
    _queue.c.name.label("work_queue_name"),
    _queue.c.last_polled.label("queue_last_polled"),
    _pool.c.name.label("work_pool_name"),
    sa.case((_deployment.c.concurrency_limit.is_(None), 0), else_=_ACTIVE_SLOTS).label("active_slots"),
).select_from(
    _deployment.outerjoin(_queue, _queue.c.id == _deployment.c.work_queue_id).outerjoin(
        _pool, _pool.c.id == _queue.c.work_pool_id
    )
)
_DEPLOYMENT_KEYS = names(DEPLOYMENTS)

_SCHEDULE_COLUMNS = [c for c in _schedule.columns if c.name not in ("scheduled_until", "decided_until")]
_SCHEDULE_KEYS = tuple(str(c.name) for c in _SCHEDULE_COLUMNS)

_FLOW = Statement(FLOWS.where(_flow.c.id == param("id", _flow.c.id)), wire=True)
_FLOW_FULL = Statement(FLOWS.where(_flow.c.id == param("id", _flow.c.id)))
_FLOW_BY_NAME = Statement(FLOWS.where(_flow.c.name == param("name", _flow.c.name)), wire=True)
_INSERT_FLOW = Statement(
    _flow.insert().values({c.name: sa.bindparam(c.name, type_=c.type) for c in _flow.columns})
)
_DEPLOYMENT = Statement(DEPLOYMENTS.where(_deployment.c.id == param("id", _deployment.c.id)), wire=True)
_DEPLOYMENT_FULL = Statement(DEPLOYMENTS.where(_deployment.c.id == param("id", _deployment.c.id)))
_BY_NAME = Statement(
    DEPLOYMENTS.join(_flow, _flow.c.id == _deployment.c.flow_id).where(
        _flow.c.name == param("flow_name", _flow.c.name),
        _deployment.c.name == param("deployment_name", _deployment.c.name),
    ),
    wire=True,
)
_ID_BY_FLOW = Statement(
    sa.select(_deployment.c.id).where(
        _deployment.c.flow_id == param("flow_id", _deployment.c.flow_id),
        _deployment.c.name == param("name", _deployment.c.name),
    )
)
_IDS_OF_FLOW = Statement(
    sa.select(_deployment.c.id)
    .where(_deployment.c.flow_id == param("flow_id", _deployment.c.flow_id))
    .order_by(_deployment.c.id)
)
_SCHEDULES = Statement(
    sa.select(*_SCHEDULE_COLUMNS)
    .where(AnyOf(_schedule.c.deployment_id, "ids"))
    .order_by(_schedule.c.deployment_id, _schedule.c.created.desc(), _schedule.c.id),
    wire=True,
)
_SCHEDULES_FULL = Statement(
    sa.select(*_SCHEDULE_COLUMNS)
    .where(AnyOf(_schedule.c.deployment_id, "ids"))
    .order_by(_schedule.c.deployment_id, _schedule.c.created.desc(), _schedule.c.id)
)
_DELETE_SCHEDULES = delete(_schedule, "deployment_id")
_PLANNABLE = (
    sa.select(
        *_SCHEDULE_COLUMNS,
        _deployment.c.flow_id,
        _deployment.c.name.label("deployment_name"),
        _deployment.c.version.label("deployment_version"),
        _deployment.c.parameters.label("deployment_parameters"),
        _deployment.c.tags,
        _deployment.c.labels,
        _deployment.c.work_queue_id,
        _schedule.c.scheduled_until,
        _schedule.c.decided_until,
    )
    .select_from(_schedule.join(_deployment, _deployment.c.id == _schedule.c.deployment_id))
    .where(
        _schedule.c.active.is_(sa.true()),
        _deployment.c.paused.is_(sa.false()),
        sa.or_(
            _schedule.c.scheduled_until.is_(None),
            _schedule.c.scheduled_until < param("before", _schedule.c.scheduled_until),
        ),
    )
)
_SCHEDULABLE = (
    _PLANNABLE.with_only_columns(_schedule.c.id)
    .order_by(_schedule.c.scheduled_until.asc().nulls_first(), _schedule.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_TO_SCHEDULE = Statement(_SCHEDULABLE)
_TO_SCHEDULE_OVERLAPPING = Statement(_SCHEDULABLE.where(_schedule.c.overlap.is_not(None)))
_TO_PLAN = Statement(
    _PLANNABLE.where(_schedule.c.id == param("id", _schedule.c.id)).with_for_update(
        of=(_schedule, _deployment), key_share=True
    )
)
_TO_PLAN_KEYS = names(_PLANNABLE)
_RESCHEDULE = Statement(
    sa.update(_schedule)
    .where(_schedule.c.deployment_id == param("key_deployment_id", _schedule.c.deployment_id))
    .values(scheduled_until=sa.null())
)
_POLLED = Statement(
    sa.update(_deployment)
    .where(AnyOf(_deployment.c.id, "ids"))
    .values(last_polled=param("last_polled", _deployment.c.last_polled))
)


def _wire_flow(row: Row) -> dict[str, Any]:
    return dict(zip(_FLOW_KEYS, row, strict=True))


def read_flow(flow_id: UUID) -> Steps[dict[str, Any] | None]:
    """The flow as the wire answers it."""
    found = yield _FLOW(id=flow_id)
    return _wire_flow(found[0]) if found else None


def read_flow_by_name(name: str) -> Steps[dict[str, Any] | None]:
    """The flow called ``name``."""
    found = yield _FLOW_BY_NAME(name=name)
    return _wire_flow(found[0]) if found else None


def read_flows(query: Query) -> Steps[list[dict[str, Any]]]:
    """A page of flows."""
    found = yield bind(FLOWS, query)
    return [_wire_flow(row) for row in found]


def insert_flow(flow: Flow) -> Steps[None]:
    """Write a new flow."""
    yield insert(_flow)(**{c.name: getattr(flow, c.name) for c in _flow.columns})


def write_flow(flow_id: UUID, columns: dict[str, Any]) -> Steps[bool]:
    """Change columns of the flow; False when there is none."""
    found = yield update(_flow, frozenset(columns))(key_id=flow_id, **columns)
    return bool(found)


def ids_of_flow(flow_id: UUID) -> Steps[list[UUID]]:
    """The deployments of the flow."""
    return [row[0] for row in (yield _IDS_OF_FLOW(flow_id=flow_id))]


def delete_flow(flow_id: UUID) -> Steps[bool]:
    """Delete the flow with its deployments and runs; False when there is none."""
    found = yield delete(_flow)(key=flow_id)
    return bool(found)


def flow_value(flow_id: UUID) -> Steps[Flow | None]:
    """The flow as a value."""
    found = yield _FLOW_FULL(id=flow_id)
    return Flow(**_wire_flow(found[0])) if found else None


def _wire_deployment(row: Row, schedules: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
    deployment = dict(zip(_DEPLOYMENT_KEYS, row, strict=True))
    queue_polled, slots = deployment.pop("queue_last_polled"), deployment.pop("active_slots")
    own_polled = deployment["last_polled"]
    polled = max(filter(None, (own_polled, queue_polled)), default=None)
    deployment["last_polled"] = polled
    ready = polled_status(False, polled, now) is PoolStatus.READY
    deployment["status"] = "READY" if ready else "NOT_READY"
    deployment["schedules"] = schedules
    limit = deployment["concurrency_limit"]
    deployment["global_concurrency_limit"] = (
        limit is not None
        and {
            "id": deployment["id"],
            "created": deployment["created"],
            "updated": deployment["updated"],
            "active": True,
            "name": f"deployment:{deployment['id']}",
            "limit": limit,
            "active_slots": slots,
            "slot_decay_per_second": 0.0,
        }
    ) or None
    return deployment


def _schedules_of(ids: Sequence[Any], statement: Statement) -> Steps[dict[Any, list[dict[str, Any]]]]:
    by_deployment: dict[Any, list[dict[str, Any]]] = {}
    if ids:
        for row in (yield statement(ids=list(ids))):
            schedule = dict(zip(_SCHEDULE_KEYS, row, strict=True))
            by_deployment.setdefault(schedule["deployment_id"], []).append(schedule)
    return by_deployment


def _complete(found: Sequence[Row], now: datetime) -> Steps[list[dict[str, Any]]]:
    schedules = yield from _schedules_of([row[0] for row in found], _SCHEDULES)
    return [_wire_deployment(row, schedules.get(row[0], []), now) for row in found]


def read_deployment(deployment_id: UUID, now: datetime) -> Steps[dict[str, Any] | None]:
    """The deployment as the wire answers it."""
    found = yield _DEPLOYMENT(id=deployment_id)
    complete = yield from _complete(found, now)
    return complete[0] if complete else None


def read_deployment_by_name(
    flow_name: str, deployment_name: str, now: datetime
) -> Steps[dict[str, Any] | None]:
    """The deployment ``flow_name/deployment_name``."""
    found = yield _BY_NAME(flow_name=flow_name, deployment_name=deployment_name)
    complete = yield from _complete(found, now)
    return complete[0] if complete else None


def read_deployments(query: Query, now: datetime) -> Steps[list[dict[str, Any]]]:
    """A page of deployments."""
    found = yield bind(DEPLOYMENTS, query)
    complete = yield from _complete(found, now)
    return complete


def deployment_value(deployment_id: UUID, now: datetime) -> Steps[Deployment | None]:
    """The deployment as a value."""
    found = yield _DEPLOYMENT_FULL(id=deployment_id)
    complete = yield from values_of(found, now)
    return complete[0] if complete else None


def values_of(found: Sequence[Row], now: datetime) -> Steps[list[Deployment]]:
    """Rows of ``DEPLOYMENTS``, decoded, as values with their schedules."""
    schedules = yield from _schedules_of([row[0] for row in found], _SCHEDULES_FULL)
    return [
        msgspec.convert(_wire_deployment(row, schedules.get(row[0], []), now), Deployment, strict=False)
        for row in found
    ]


def deployment_id(flow_id: UUID, name: str) -> Steps[UUID | None]:
    """The id of the flow's deployment called ``name``."""
    found = yield _ID_BY_FLOW(flow_id=flow_id, name=name)
    return found[0][0] if found else None


def insert_deployment(columns: dict[str, Any]) -> Steps[None]:
    """Write a new deployment."""
    yield insert(_deployment, frozenset(columns))(**columns)


def write_deployment(deployment_id: UUID, columns: dict[str, Any]) -> Steps[bool]:
    """Change columns of the deployment; False when there is none."""
    found = yield update(_deployment, frozenset(columns))(key_id=deployment_id, **columns)
    return bool(found)


def delete_deployment(deployment_id: UUID) -> Steps[bool]:
    """Delete the deployment; False when there is none. Its runs stay."""
    found = yield delete(_deployment)(key=deployment_id)
    return bool(found)


def mark_polled(deployment_ids: Sequence[UUID], now: datetime) -> Steps[None]:
    """Somebody asked for the runs of these deployments."""
    yield _POLLED(ids=list(deployment_ids), last_polled=now)


# Schedules


def read_schedules(deployment_id: UUID) -> Steps[list[DeploymentSchedule]]:
    """The schedules of the deployment, newest first."""
    found = yield from _schedules_of([deployment_id], _SCHEDULES_FULL)
    return [msgspec.convert(fields, DeploymentSchedule) for fields in found.get(deployment_id, [])]


def insert_schedule(schedule: DeploymentSchedule) -> Steps[None]:
    """Write a new schedule."""
    columns = {name: getattr(schedule, name) for name in _SCHEDULE_KEYS}
    yield insert(_schedule, frozenset(columns))(**columns)


def write_schedule(schedule_id: UUID, columns: dict[str, Any]) -> Steps[bool]:
    """Change columns of the schedule; False when there is none."""
    found = yield update(_schedule, frozenset(columns))(key_id=schedule_id, **columns)
    return bool(found)


def delete_schedule(schedule_id: UUID) -> Steps[bool]:
    """Delete the schedule; False when there is none."""
    found = yield delete(_schedule)(key=schedule_id)
    return bool(found)


def delete_schedules(deployment_id: UUID) -> Steps[None]:
    """Delete all schedules of the deployment."""
    yield _DELETE_SCHEDULES(key=deployment_id)


def reschedule(deployment_id: UUID) -> Steps[None]:
    """Let the scheduler look at the deployment's schedules again."""
    yield _RESCHEDULE(key_deployment_id=deployment_id)


def to_schedule(before: datetime, limit: int, *, overlapping: bool = False) -> Steps[list[UUID]]:
    """Active schedules whose runs were made only up to ``before`` or not at all.

    Only those with an overlap policy with ``overlapping``.
    """
    found = yield (_TO_SCHEDULE_OVERLAPPING if overlapping else _TO_SCHEDULE)(before=before, limit=limit)
    return [row[0] for row in found]


def schedule_to_plan(schedule_id: UUID, before: datetime) -> Steps[dict[str, Any] | None]:
    """The schedule with its deployment, both locked, if its runs are to be made; None if not any more."""
    found = yield _TO_PLAN(id=schedule_id, before=before)
    return dict(zip(_TO_PLAN_KEYS, found[0], strict=True)) if found else None


def scheduled_until(schedule_id: UUID, until: datetime, decided: datetime | None = None) -> Steps[None]:
    """Runs of the schedule were made up to ``until``, missed ones were decided about up to ``decided``."""
    columns: dict[str, Any] = {"scheduled_until": until}
    if decided is not None:
        columns["decided_until"] = decided
    yield update(_schedule, frozenset(columns))(key_id=schedule_id, **columns)


_OF_SCHEDULE = Statement(
    sa.select(_run.c.id, _run.c.expected_start_time)
    .where(
        _run.c.deployment_id == param("deployment_id", _run.c.deployment_id),
        _run.c.next_scheduled_start_time.is_not(None),
        _run.c.next_scheduled_start_time <= param("now", _run.c.next_scheduled_start_time),
        _run.c.schedule_id == param("schedule_id", _run.c.schedule_id),
        _run.c.run_count == sa.literal_column("0"),
        NotByIndex(_run.c.state_type) == sa.literal_column("'SCHEDULED'"),
    )
    .order_by(_run.c.expected_start_time)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_UNFINISHED = Statement(
    sa.select(_run.c.state_type, _run.c.next_scheduled_start_time)
    .where(
        _run.c.state_type.in_([sa.literal_column(f"'{one.value}'") for one in StateType if one not in FINAL]),
        _run.c.schedule_id == param("schedule_id", _run.c.schedule_id),
    )
    .limit(sa.literal_column("1000"))
)


def waiting_runs(
    deployment_id: UUID, schedule_id: UUID, now: datetime, limit: int
) -> Steps[list[tuple[UUID, datetime]]]:
    """Runs of the schedule that were to begin by ``now`` and have not: ids and times, oldest first."""
    found = yield _OF_SCHEDULE(deployment_id=deployment_id, schedule_id=schedule_id, now=now, limit=limit)
    return [(row[0], row[1]) for row in found]


def unfinished_runs(schedule_id: UUID, now: datetime) -> Steps[tuple[bool, bool]]:
    """Whether a run of the schedule is on or due at ``now``, and whether one is planned for later."""
    is_busy = is_planned = False
    for type_, when in (yield _UNFINISHED(schedule_id=schedule_id)):
        later = type_ == StateType.SCHEDULED and when is not None and when > now
        is_busy, is_planned = is_busy or not later, is_planned or later
    return is_busy, is_planned
