"""Flow runs and task runs: reading and writing their rows. What may be written is decided elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from eparch.core.filters import Query
from eparch.core.pools import Claim
from eparch.core.runs import FlowRun, TaskRun
from eparch.core.states import FINAL, State, StateType
from eparch.store import rows
from eparch.store import tables as t
from eparch.store.dialect import AnyOf, NotByIndex
from eparch.store.statement import Statement, Steps, delete, insert, param, update, upsert
from eparch.store.where import bind, bind_count

_run, _task, _claim = t.flow_run, t.task_run, t.claim

_FLOW_RUN_KEYS = rows.names(rows.FLOW_RUNS)
_TASK_RUN_KEYS = rows.names(rows.TASK_RUNS)

_FLOW_RUN = Statement(rows.FLOW_RUNS.where(_run.c.id == param("id", _run.c.id)), wire=True)
_FLOW_RUNS_OF = Statement(rows.FLOW_RUNS.where(AnyOf(_run.c.id, "ids")), wire=True)
_FLOW_RUN_VALUE = Statement(
    rows.FLOW_RUNS.where(_run.c.id == param("id", _run.c.id)), types=rows.FLOW_RUN_TYPES
)
_BY_KEY = Statement(
    rows.FLOW_RUNS.where(
        _run.c.flow_id == param("flow_id", _run.c.flow_id),
        _run.c.idempotency_key == param("idempotency_key", _run.c.idempotency_key),
    ),
    wire=True,
)
_TASK_RUN = Statement(rows.TASK_RUNS.where(_task.c.id == param("id", _task.c.id)), wire=True)
_TASK_RUN_FULL = Statement(
    rows.TASK_RUNS.where(_task.c.id == param("id", _task.c.id)).with_for_update(),
    types=rows.TASK_RUN_TYPES,
)
_TASK_RUN_BY_KEY = Statement(
    rows.TASK_RUNS.where(
        _task.c.flow_run_id == param("flow_run_id", _task.c.flow_run_id),
        _task.c.task_key == param("task_key", _task.c.task_key),
        _task.c.dynamic_key == param("dynamic_key", _task.c.dynamic_key),
    ),
    wire=True,
)

_DECIDED = (
    "id",
    "name",
    "flow_id",
    *rows.STATE_COLUMNS,
    "deployment_id",
    "empirical_policy",
    "tags",
    "labels",
    "parent_task_run_id",
    "run_count",
    "expected_start_time",
    "next_scheduled_start_time",
    "start_time",
    "end_time",
    "total_run_time",
    "infrastructure_pid",
    "created_by",
    "work_queue_id",
    "fencing_token",
)

_FOR_DECISION = (
    sa.select(
        *(_run.c[name] for name in _DECIDED),
        t.flow.c.name.label("flow_name"),
        t.flow.c.tags.label("flow_tags"),
        t.deployment.c.name.label("deployment_name"),
        t.deployment.c.tags.label("deployment_tags"),
        t.deployment.c.concurrency_limit.label("slot_limit"),
        t.deployment.c.concurrency_options.label("slot_options"),
        t.work_queue.c.name.label("work_queue_name"),
        t.work_queue.c.work_pool_id.label("work_pool_id"),
        t.work_pool.c.name.label("work_pool_name"),
        t.work_pool.c.type.label("work_pool_type"),
        _claim.c.claim_id,
        _claim.c.token,
        _claim.c.worker_name,
        _claim.c.claimed_at,
        _claim.c.lease_until,
        _claim.c.slot_id,
    )
    .select_from(
        _run.join(t.flow, t.flow.c.id == _run.c.flow_id)
        .outerjoin(t.deployment, t.deployment.c.id == _run.c.deployment_id)
        .outerjoin(t.work_queue, t.work_queue.c.id == _run.c.work_queue_id)
        .outerjoin(t.work_pool, t.work_pool.c.id == t.work_queue.c.work_pool_id)
        .outerjoin(_claim, _claim.c.flow_run_id == _run.c.id)
    )
    .where(_run.c.id == param("id", _run.c.id))
)
# The lock is a statement of its own: on PostgreSQL a statement that had to wait for it would see the run
# as it is now, but its claim as it was before.
_LOCK_RUN = Statement(sa.select(_run.c.id).where(_run.c.id == param("id", _run.c.id)).with_for_update())
_DECISION = Statement(_FOR_DECISION, types=rows.FLOW_RUN_TYPES)
_DECISION_KEYS = rows.names(_FOR_DECISION)

_SLOTS = Statement(
    sa.select(sa.func.count())
    .select_from(_claim)
    .where(_claim.c.slot_of == param("slot_of", _claim.c.slot_of))
)
_LEASE = Statement(
    sa.select(_claim.c.flow_run_id).where(_claim.c.slot_id == param("slot_id", _claim.c.slot_id))
)
_ENCLOSING = Statement(
    sa.select(
        _run.c.id, _run.c.parent_task_run_id, _run.c.fencing_token, _claim.c.token, _claim.c.lease_until
    )
    .select_from(
        _task.join(_run, _run.c.id == _task.c.flow_run_id).outerjoin(
            _claim, _claim.c.flow_run_id == _run.c.id
        )
    )
    .where(_task.c.id == param("task_run_id", _task.c.id))
)
_OPEN_SUBFLOWS = Statement(
    sa.select(_run.c.id)
    .select_from(_task.join(_run, _run.c.parent_task_run_id == _task.c.id))
    .where(
        _task.c.flow_run_id == param("flow_run_id", _task.c.flow_run_id),
        # One with a deployment has a process of its own.
        _run.c.deployment_id.is_(None),
        _run.c.state_type.not_in([sa.literal_column(f"'{type_.value}'") for type_ in sorted(FINAL)]),
    )
    .order_by(_run.c.id)
)
_TASK_LABELS = Statement(sa.select(_task.c.name, _task.c.tags).where(_task.c.id == param("id", _task.c.id)))
_LOCK_DEPLOYMENT = Statement(
    sa.select(t.deployment.c.id)
    .where(t.deployment.c.id == param("id", t.deployment.c.id))
    .with_for_update(key_share=True)
)


def _forget() -> sa.Delete:
    """Runs of a schedule that wait for a time to come and never were anything else (row D15)."""
    return sa.delete(_run).where(
        _run.c.deployment_id == param("deployment_id", _run.c.deployment_id),
        NotByIndex(_run.c.state_type) == sa.literal_column("'SCHEDULED'"),
        _run.c.state_name == sa.literal_column("'Scheduled'"),
        _run.c.auto_scheduled.is_(sa.true()),
        _run.c.run_count == sa.literal_column("0"),
        _run.c.next_scheduled_start_time > param("after", _run.c.next_scheduled_start_time),
    )


_FORGET_SCHEDULED = Statement(_forget().returning(_run.c.id))
_FORGET_SCHEDULE = Statement(
    _forget().where(_run.c.schedule_id == param("schedule_id", _run.c.schedule_id)).returning(_run.c.id)
)
_OVERDUE = Statement(
    sa.select(_run.c.id)
    .where(
        NotByIndex(_run.c.state_type) == sa.literal_column("'SCHEDULED'"),
        _run.c.state_name == sa.literal_column("'Scheduled'"),
        _run.c.in_process_retry.is_(sa.false()),
        _run.c.next_scheduled_start_time <= param("before", _run.c.next_scheduled_start_time),
    )
    .order_by(_run.c.next_scheduled_start_time)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_IN_STATE_SINCE = Statement(
    sa.select(_run.c.id)
    .where(
        _run.c.state_type == param("state_type", _run.c.state_type),
        _run.c.state_timestamp <= param("before", _run.c.state_timestamp),
        _run.c.id > param("after_id", _run.c.id),
    )
    .order_by(_run.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_SOME_TASKS = Statement(
    sa.select(_task.c.id)
    .where(_task.c.flow_run_id == param("flow_run_id", _task.c.flow_run_id))
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_DELETE_TASKS = Statement(sa.delete(_task).where(AnyOf(_task.c.id, "ids")))
_SOME_OF_FLOW = Statement(
    sa.select(_run.c.id)
    .where(_run.c.flow_id == param("flow_id", _run.c.flow_id))
    .order_by(_run.c.expected_start_time, _run.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_some = _run.alias("some")
_DETACH = Statement(
    sa.update(_run)
    .where(
        _run.c.id.in_(
            sa.select(_some.c.id)
            .where(_some.c.deployment_id == param("deployment_id", _some.c.deployment_id))
            .limit(sa.bindparam("limit", type_=sa.Integer))
        )
    )
    .values(deployment_id=sa.null())
    .returning(_run.c.id)
)
_ADD_LABELS = update(_run, frozenset({"labels", "updated"}))
_LABELS = Statement(sa.select(_run.c.labels).where(_run.c.id == param("id", _run.c.id)).with_for_update())


class Stored(msgspec.Struct, kw_only=True):
    """A flow run as a decision needs it: the run without its large fields, and what is linked to it."""

    run: FlowRun
    flow_name: str
    flow_tags: list[str] = []
    deployment_name: str | None = None
    deployment_tags: list[str] | None = None
    pool_type: str | None = None
    fencing_token: int = 0
    slot_limit: int | None = None
    slot_options: dict[str, Any] | None = None
    slot_id: UUID | None = None
    claim: Claim | None = None


_RUN_FIELDS = tuple(
    name
    for name in (*_DECIDED, "work_queue_name", "work_pool_id", "work_pool_name")
    if name in FlowRun.__struct_fields__ and name != "state_type"
)


def _stored(row: dict[str, Any]) -> Stored:
    state = rows.state_of(row)
    claim = None
    if row["claim_id"] is not None:
        claim = Claim(
            flow_run_id=row["id"],
            claim_id=row["claim_id"],
            token=row["token"],
            worker_name=row["worker_name"],
            work_pool_id=row["work_pool_id"],
            work_queue_id=row["work_queue_id"],
            claimed_at=row["claimed_at"],
            lease_until=row["lease_until"],
        )
    return Stored(
        run=FlowRun(
            state=state,
            state_type=state.type if state else None,
            **{name: row[name] for name in _RUN_FIELDS},
        ),
        fencing_token=row["fencing_token"],
        flow_name=row["flow_name"],
        flow_tags=row["flow_tags"] or [],
        deployment_tags=row["deployment_tags"],
        deployment_name=row["deployment_name"],
        pool_type=row["work_pool_type"],
        slot_limit=row["slot_limit"],
        slot_options=row["slot_options"],
        slot_id=row["slot_id"],
        claim=claim,
    )


def read_flow_run(run_id: UUID, now: datetime) -> Steps[dict[str, Any] | None]:
    """The run as the wire answers it; None when there is none."""
    found = yield _FLOW_RUN(id=run_id)
    return rows.wire_run(_FLOW_RUN_KEYS, found[0], now) if found else None


def read_flow_runs_of(ids: Sequence[UUID], now: datetime) -> Steps[dict[UUID, dict[str, Any]]]:
    """Those of the runs that there are, as the wire answers them, by id."""
    found = (yield _FLOW_RUNS_OF(ids=list(ids))) if ids else []
    made = (rows.wire_run(_FLOW_RUN_KEYS, row, now) for row in found)
    return {rows.id_of(run["id"]): run for run in made}


def read_flow_run_by_key(flow_id: UUID, idempotency_key: str, now: datetime) -> Steps[dict[str, Any] | None]:
    """The run of the flow that was made under the key."""
    found = yield _BY_KEY(flow_id=flow_id, idempotency_key=idempotency_key)
    return rows.wire_run(_FLOW_RUN_KEYS, found[0], now) if found else None


def read_flow_runs(query: Query, now: datetime) -> Steps[list[dict[str, Any]]]:
    """A page of runs as the wire answers it."""
    found = yield bind(rows.FLOW_RUNS, query)
    return [rows.wire_run(_FLOW_RUN_KEYS, row, now) for row in found]


def count(query: Query) -> Steps[int]:
    """How many rows the query has."""
    found = yield bind_count(query)
    return int(found[0][0])


def flow_run_value(run_id: UUID) -> Steps[FlowRun | None]:
    """The whole run as a value."""
    found = yield _FLOW_RUN_VALUE(id=run_id)
    if not found:
        return None
    fields = dict(zip(_FLOW_RUN_KEYS, found[0], strict=True))
    state = rows.state_of(fields)
    for key in rows.STATE_COLUMNS[3:]:
        del fields[key]
    return FlowRun(**{**fields, "state": state, "state_type": state.type if state else None})


def flow_run_for_decision(run_id: UUID) -> Steps[Stored | None]:
    """The run, locked until the transaction ends, with what a decision depends on."""
    yield _LOCK_RUN(id=run_id)
    found = yield _DECISION(id=run_id)
    return _stored(dict(zip(_DECISION_KEYS, found[0], strict=True))) if found else None


def insert_flow_run(columns: dict[str, Any]) -> Steps[None]:
    """Write a new run."""
    yield insert(_run, frozenset(columns))(**columns)


def write_flow_run(run_id: UUID, columns: dict[str, Any], *, was: UUID | None = None) -> Steps[bool]:
    """Change columns of the run; with ``was`` only while that is its state. False: it was not changed."""
    if was is None:
        found = yield update(_run, frozenset(columns))(key_id=run_id, **columns)
    else:
        guarded = update(_run, frozenset(columns), ("id", "state_id"))
        found = yield guarded(key_id=run_id, key_state_id=was, **columns)
    return bool(found)


def append_flow_run_state(run_id: UUID, state: State) -> Steps[None]:
    """Add ``state`` to the run's history."""
    yield insert(t.flow_run_state)(**rows.history_columns(state, "flow_run", run_id))


def delete_flow_run(run_id: UUID) -> Steps[bool]:
    """Delete the run with all that hangs on it; False when there is none."""
    found = yield delete(_run)(key=run_id)
    return bool(found)


def some_tasks(flow_run_id: UUID, limit: int) -> Steps[list[UUID]]:
    """The ids of some task runs of the flow run."""
    return sorted(row[0] for row in (yield _SOME_TASKS(flow_run_id=flow_run_id, limit=limit)))


def delete_task_runs(ids: Sequence[UUID]) -> Steps[None]:
    """Delete these task runs with their history."""
    yield _DELETE_TASKS(ids=list(ids))


def some_of_flow(flow_id: UUID, limit: int) -> Steps[list[UUID]]:
    """The ids of some runs of the flow, in an order that lets nobody wait for each other."""
    return sorted(row[0] for row in (yield _SOME_OF_FLOW(flow_id=flow_id, limit=limit)))


def detach(deployment_id: UUID, limit: int) -> Steps[int]:
    """Let some runs of the deployment be of none; how many it were."""
    return len((yield _DETACH(deployment_id=deployment_id, limit=limit)))


def add_labels(run_id: UUID, labels: dict[str, Any], now: datetime) -> Steps[bool]:
    """Merge ``labels`` into those of the run; False when there is none."""
    found = yield _LABELS(id=run_id)
    if not found:
        return False
    yield _ADD_LABELS(key_id=run_id, labels={**(found[0][0] or {}), **labels}, updated=now)
    return True


def slots_taken(deployment_id: UUID) -> Steps[int]:
    """How many runs hold a slot of the deployment's limit; nobody else takes one in this transaction."""
    yield _LOCK_DEPLOYMENT(id=deployment_id)
    found = yield _SLOTS(slot_of=deployment_id)
    return int(found[0][0])


def lease_exists(slot_id: UUID) -> Steps[bool]:
    """Whether a run holds the slot with this lease id."""
    found = yield _LEASE(slot_id=slot_id)
    return bool(found)


def open_subflows(run_id: UUID) -> Steps[list[UUID]]:
    """The subflows in the run's own process that are not over."""
    return [row[0] for row in (yield _OPEN_SUBFLOWS(flow_run_id=run_id))]


class Above(msgspec.Struct, frozen=True):
    """What governs a run that is part of another one: the flow run around it."""

    flow_run_id: UUID
    parent_task_run_id: UUID | None
    fencing_token: int
    """The last token that the run was claimed with; 0: it never was."""
    token: int | None
    """The token of its claim while that stands and its holder knows tokens."""


def above(task_run_id: UUID) -> Steps[Above | None]:
    """The flow run that the task run belongs to; None when there is none."""
    found = yield _ENCLOSING(task_run_id=task_run_id)
    if not found:
        return None
    id_, parent, last, token, lease_until = found[0]
    return Above(id_, parent, last, token if lease_until is not None else None)


def task_labels(task_run_id: UUID) -> Steps[tuple[str, list[str]] | None]:
    """``(name, tags)`` of the task run; None when there is none."""
    found = yield _TASK_LABELS(id=task_run_id)
    return (found[0][0], found[0][1]) if found else None


def forget_scheduled(deployment_id: UUID, after: datetime, schedule_id: UUID | None = None) -> Steps[int]:
    """Delete the runs that schedules have made for times later than ``after``; how many it were (row D15).

    Those of one schedule with ``schedule_id``. Late runs, and runs that have been more than scheduled, stay.
    """
    if schedule_id is None:
        found = yield _FORGET_SCHEDULED(deployment_id=deployment_id, after=after)
    else:
        found = yield _FORGET_SCHEDULE(deployment_id=deployment_id, after=after, schedule_id=schedule_id)
    return len(found)


def forget_scheduled_of(
    deployment_ids: Sequence[UUID], schedule_ids: Sequence[tuple[UUID, UUID]], after: datetime
) -> Steps[None]:
    """The same for many: of whole deployments, and of schedules by ``(deployment id, schedule id)``."""
    if deployment_ids:
        yield _FORGET_SCHEDULED.each([{"deployment_id": id_, "after": after} for id_ in deployment_ids])
    if schedule_ids:
        yield _FORGET_SCHEDULE.each(
            [
                {"deployment_id": deployment_id, "after": after, "schedule_id": schedule_id}
                for deployment_id, schedule_id in schedule_ids
            ]
        )


def overdue(before: datetime, limit: int) -> Steps[list[UUID]]:
    """Runs still called Scheduled that were due at ``before``."""
    found = yield _OVERDUE(before=before, limit=limit)
    return [row[0] for row in found]


def in_state_since(state_type: StateType, before: datetime, after_id: UUID, limit: int) -> Steps[list[UUID]]:
    """A page of the runs that came into a state of this type at ``before`` or earlier, by id."""
    found = yield _IN_STATE_SINCE(state_type=state_type.value, before=before, after_id=after_id, limit=limit)
    return [row[0] for row in found]


# Task runs


def read_task_run(run_id: UUID, now: datetime) -> Steps[dict[str, Any] | None]:
    """The task run as the wire answers it; None when there is none."""
    found = yield _TASK_RUN(id=run_id)
    return rows.wire_run(_TASK_RUN_KEYS, found[0], now) if found else None


def read_task_run_by_key(
    flow_run_id: UUID, task_key: str, dynamic_key: str, now: datetime
) -> Steps[dict[str, Any] | None]:
    """The task run with the natural key (wire 4.2)."""
    found = yield _TASK_RUN_BY_KEY(flow_run_id=flow_run_id, task_key=task_key, dynamic_key=dynamic_key)
    return rows.wire_run(_TASK_RUN_KEYS, found[0], now) if found else None


def read_task_runs(query: Query, now: datetime) -> Steps[list[dict[str, Any]]]:
    """A page of task runs as the wire answers it."""
    found = yield bind(rows.TASK_RUNS, query)
    return [rows.wire_run(_TASK_RUN_KEYS, row, now) for row in found]


def task_run_for_decision(run_id: UUID) -> Steps[TaskRun | None]:
    """The task run, locked until the transaction ends."""
    found = yield _TASK_RUN_FULL(id=run_id)
    if not found:
        return None
    fields = dict(zip(_TASK_RUN_KEYS, found[0], strict=True))
    state = rows.state_of(fields)
    for key in rows.STATE_COLUMNS[3:]:
        del fields[key]
    return TaskRun(**{**fields, "state": state, "state_type": state.type if state else None})


def insert_task_run(columns: dict[str, Any]) -> Steps[None]:
    """Write a new task run."""
    yield insert(_task, frozenset(columns))(**columns)


def write_task_run(run_id: UUID, columns: dict[str, Any]) -> Steps[bool]:
    """Change columns of the task run; False when there is none."""
    found = yield update(_task, frozenset(columns))(key_id=run_id, **columns)
    return bool(found)


def delete_task_run(run_id: UUID) -> Steps[bool]:
    """Delete the task run with its history; False when there is none."""
    found = yield delete(_task)(key=run_id)
    return bool(found)


_TASK_STATES_KNOWN = Statement(
    sa.select(_task.c.id, *(_task.c[name] for name in rows.TASK_PROGRESS)).where(AnyOf(_task.c.id, "ids")),
    types=rows.STATE_TYPES,
)
_FLOW_RUNS_KNOWN = Statement(
    sa.select(_run.c.id).where(AnyOf(_run.c.id, "ids")).order_by(_run.c.id).with_for_update(key_share=True)
)
_BY_NATURAL_KEYS = Statement(
    sa.select(_task.c.dynamic_key, _task.c.id)
    .where(
        _task.c.flow_run_id == param("flow_run_id", _task.c.flow_run_id),
        _task.c.task_key == param("task_key", _task.c.task_key),
        AnyOf(_task.c.dynamic_key, "dynamic_keys"),
    )
    .order_by(_task.c.created.desc(), _task.c.id.desc())
)
_TASK_HISTORIES = Statement(
    sa.select(
        t.task_run_state.c.task_run_id,
        t.task_run_state.c.id.label("state_id"),
        t.task_run_state.c.type.label("state_type"),
        t.task_run_state.c.name.label("state_name"),
        t.task_run_state.c.timestamp.label("state_timestamp"),
        t.task_run_state.c.message.label("state_message"),
        t.task_run_state.c.state_details,
        t.task_run_state.c.data.label("state_data"),
    ).where(AnyOf(t.task_run_state.c.task_run_id, "ids")),
    types=rows.STATE_TYPES,
)
_TASK_ROWS = Statement(sa.select(*_task.columns).where(AnyOf(_task.c.id, "ids")), types=rows.TASK_RUN_TYPES)
_RECORD = upsert(_task, ("id",), rows.TASK_RECORDED)


def task_progress(run_ids: Sequence[UUID]) -> Steps[dict[UUID, dict[str, Any]]]:
    """How far those of the task runs have come that are stored."""
    found = yield _TASK_STATES_KNOWN(ids=list(run_ids))
    return {row[0]: dict(zip(rows.TASK_PROGRESS, row[1:], strict=True)) for row in found}


def task_histories(run_ids: Sequence[UUID]) -> Steps[dict[UUID, list[State]]]:
    """The states of each of the task runs, in no order."""
    histories: dict[UUID, list[State]] = {}
    for row in (yield _TASK_HISTORIES(ids=list(run_ids))):
        state = rows.state_of(dict(zip(rows.STATE_COLUMNS, row[1:], strict=True)))
        if state is not None:
            histories.setdefault(row[0], []).append(state)
    return histories


def task_rows(run_ids: Sequence[UUID]) -> Steps[dict[UUID, dict[str, Any]]]:
    """All columns of those of the task runs that are stored."""
    found = yield _TASK_ROWS(ids=list(run_ids))
    return {row[0]: dict(zip(_TASK_RUN_KEYS, row, strict=True)) for row in found}


def ids_by_dynamic_key(
    flow_run_id: UUID, task_key: str, dynamic_keys: Sequence[str]
) -> Steps[dict[str, UUID]]:
    """The task run that has each of the natural keys, where there is one (wire 4.2)."""
    found = yield _BY_NATURAL_KEYS(
        flow_run_id=flow_run_id, task_key=task_key, dynamic_keys=list(dynamic_keys)
    )
    return {row[0]: row[1] for row in found}


def known_flow_runs(run_ids: Sequence[UUID]) -> Steps[set[UUID]]:
    """Which of the flow runs are stored; nobody else records their task runs in this transaction."""
    found = yield _FLOW_RUNS_KNOWN(ids=list(run_ids))
    return {row[0] for row in found}


def record_task_runs(columns: Sequence[dict[str, Any]]) -> Steps[None]:
    """Insert or update task runs, each given with all its columns."""
    yield _RECORD.each(columns)


def append_task_run_states(states: Sequence[tuple[UUID, State]]) -> Steps[None]:
    """Add states to the histories of task runs."""
    yield insert(t.task_run_state).each(
        [rows.history_columns(state, "task_run", run_id) for run_id, state in states]
    )
