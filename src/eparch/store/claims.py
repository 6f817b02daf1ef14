"""Claims: finding due runs inside every limit, and keeping who holds them (rows W15, W16, P14, P15)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from eparch.core.pools import Claim
from eparch.core.rules import WAITS_FOR_SLOT
from eparch.store import tables as t
from eparch.store.dialect import AnyOf, JsonText, NotByIndex
from eparch.store.statement import Statement, Steps, delete, insert, param

_run, _claim, _queue, _pool = t.flow_run, t.claim, t.work_queue, t.work_pool

_SCHEDULED = NotByIndex(_run.c.state_type) == sa.literal_column("'SCHEDULED'")

_POOL = Statement(
    sa.select(_pool.c.id, _pool.c.is_paused, _pool.c.concurrency_limit).where(
        _pool.c.name == param("name", _pool.c.name)
    )
)
_QUEUES = Statement(
    sa.select(_queue.c.id, _queue.c.name, _queue.c.is_paused, _queue.c.concurrency_limit, _queue.c.priority)
    .where(_queue.c.work_pool_id == param("work_pool_id", _queue.c.work_pool_id))
    .order_by(_queue.c.priority, _queue.c.name)
)
_LOCK_POOL = Statement(
    sa.select(_pool.c.id).where(_pool.c.id == param("id", _pool.c.id)).with_for_update(key_share=True)
)
_HELD = Statement(
    sa.select(_claim.c.work_queue_id, sa.func.count())
    .where(_claim.c.work_pool_id == param("work_pool_id", _claim.c.work_pool_id))
    .group_by(_claim.c.work_queue_id)
)


def _deployment_admits() -> sa.ColumnElement[bool]:
    """Its deployment has room, or does something else with a run that meets its limit than let it wait."""
    deployment = t.deployment
    strategy = JsonText(deployment.c.concurrency_options, "collision_strategy")
    cancels_new = strategy == sa.literal_column("'CANCEL_NEW'")
    takes_over = sa.and_(
        strategy == sa.literal_column("'CANCEL_RUNNING'"),
        _run.c.state_name != sa.literal_column(f"'{WAITS_FOR_SLOT}'"),
    )
    return sa.or_(
        deployment.c.concurrency_limit.is_(None),
        sa.and_(sa.or_(cancels_new, takes_over), deployment.c.concurrency_limit > sa.literal_column("0")),
        deployment.c.concurrency_limit > SLOTS_TAKEN,
    )


SLOTS_TAKEN = (
    sa.select(sa.func.count())
    .select_from(_claim)
    .where(_claim.c.slot_of == t.deployment.c.id)
    .scalar_subquery()
)
"""Of the limit of a run's deployment."""

RUNS = _run.outerjoin(t.deployment, t.deployment.c.id == _run.c.deployment_id)

CONDITIONS: dict[str, sa.ColumnElement[bool]] = {
    "is_scheduled": _SCHEDULED,
    "is_due": _run.c.next_scheduled_start_time <= param("before", _run.c.next_scheduled_start_time),
    "is_left_by_its_process": _run.c.in_process_retry.is_(sa.false()),
    "is_admitted_by_its_deployment": _deployment_admits(),
}
"""What a claim asks of a run of its queue, by name: who explains why a run waits asks the same."""


def due_runs(scheduled_after: bool = False) -> sa.Select[Any]:
    """Due runs of one queue, oldest first; those whose deployment is full are passed over (row P15)."""
    chosen = _due(
        *CONDITIONS.values(),
        _run.c.work_queue_id == param("work_queue_id", _run.c.work_queue_id),
    )
    if scheduled_after:
        chosen = chosen.where(
            _run.c.next_scheduled_start_time >= param("after", _run.c.next_scheduled_start_time)
        )
    return chosen


def _due(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Runs that meet ``conditions`` and that nobody else takes at this moment, oldest first."""
    return (
        sa.select(_run.c.id, _run.c.deployment_id, _run.c.next_scheduled_start_time)
        .select_from(RUNS)
        .where(*conditions)
        .order_by(_run.c.next_scheduled_start_time, _run.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(of=_run, skip_locked=True)
    )


_DUE = Statement(due_runs())
_DUE_AFTER = Statement(due_runs(scheduled_after=True))

_WITH_DUE = Statement(
    sa.select(_queue.c.id).where(
        AnyOf(_queue.c.id, "queues"),
        # Not "exists", which PostgreSQL would make a join that reads every due run.
        sa.select(_run.c.id)
        .where(_run.c.work_queue_id == _queue.c.id, CONDITIONS["is_scheduled"], CONDITIONS["is_due"])
        .limit(sa.literal_column("1"))
        .scalar_subquery()
        .is_not(None),
    )
)

_NEXT = Statement(
    sa.select(sa.func.min(_run.c.next_scheduled_start_time).label("next_scheduled_start_time")).where(
        _SCHEDULED,
        AnyOf(_run.c.work_queue_id, "queues"),
        # Runs that are over stand in the same index, without a time; there are many of them.
        _run.c.next_scheduled_start_time.is_not(None),
        _run.c.in_process_retry.is_(sa.false()),
    )
)

# By the index of the runs that wait, of which no other is in it.
_SERVED = (
    _run.c.state_type == sa.literal_column("'SCHEDULED'"),
    AnyOf(_run.c.deployment_id, "deployments"),
    _run.c.work_queue_id.is_(None),
)
_DUE_SERVED = Statement(
    _due(*_SERVED, *(condition for name, condition in CONDITIONS.items() if name != "is_scheduled"))
)
_NEXT_SERVED = Statement(
    sa.select(sa.func.min(_run.c.next_scheduled_start_time).label("next_scheduled_start_time")).where(
        *_SERVED, _run.c.next_scheduled_start_time.is_not(None), _run.c.in_process_retry.is_(sa.false())
    )
)
_LOCK_DEPLOYMENTS = Statement(
    sa.select(t.deployment.c.id)
    .where(AnyOf(t.deployment.c.id, "ids"))
    .order_by(t.deployment.c.id)
    .with_for_update(key_share=True)
)

_HOLDERS = Statement(
    sa.select(_run.c.id)
    .select_from(_claim.join(_run, _run.c.id == _claim.c.flow_run_id))
    .where(
        _claim.c.slot_of == param("slot_of", _claim.c.slot_of),
        _run.c.state_type != sa.literal_column("'CANCELLING'"),
    )
    .order_by(_claim.c.claimed_at, _run.c.id)
)
_WAITING = Statement(
    sa.select(_run.c.id)
    .where(
        _run.c.deployment_id == param("deployment_id", _run.c.deployment_id),
        _SCHEDULED,
        _run.c.next_scheduled_start_time.is_not(None),
        _run.c.state_name == sa.literal_column(f"'{WAITS_FOR_SLOT}'"),
    )
    .order_by(_run.c.state_timestamp, _run.c.id)
)

_COLUMNS = tuple(_claim.c[name] for name in Claim.__struct_fields__)
_BY_CLAIM_ID = Statement(
    sa.select(*_COLUMNS).where(_claim.c.claim_id == param("claim_id", _claim.c.claim_id))
)
_LOCK_CLAIM = Statement(
    sa.select(*_COLUMNS)
    .where(_claim.c.flow_run_id == param("flow_run_id", _claim.c.flow_run_id))
    .with_for_update()
)
_LAPSED = Statement(
    sa.select(_claim.c.flow_run_id)
    .where(_claim.c.lease_until <= param("before", _claim.c.lease_until))
    .order_by(_claim.c.lease_until)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_RENEW = Statement(
    sa.update(_claim)
    .where(
        _claim.c.flow_run_id == param("key_flow_run_id", _claim.c.flow_run_id),
        _claim.c.token == param("key_token", _claim.c.token),
        _claim.c.lease_until.is_not(None),
    )
    .values(lease_until=param("lease_until", _claim.c.lease_until))
    .returning(_claim.c.flow_run_id)
)
_AFTER = Statement(
    sa.select(_claim.c.flow_run_id, _claim.c.lease_until)
    .where(_claim.c.lease_until > param("after", _claim.c.lease_until))
    .with_for_update()
)
_SET_LEASE = Statement(
    sa.update(_claim)
    .where(_claim.c.flow_run_id == param("key_flow_run_id", _claim.c.flow_run_id))
    .values(lease_until=param("lease_until", _claim.c.lease_until))
)
_TO_CANCEL = Statement(
    sa.select(_run.c.id).where(
        AnyOf(_run.c.id, "ids"),
        _run.c.state_type.in_([sa.literal_column("'CANCELLING'"), sa.literal_column("'CANCELLED'")]),
    )
)
_SET_SLOT = Statement(
    sa.update(_claim)
    .where(_claim.c.flow_run_id == param("key_flow_run_id", _claim.c.flow_run_id))
    .values(
        slot_id=param("slot_id", _claim.c.slot_id),
        slot_of=param("slot_of", _claim.c.slot_of),
        slot_until=param("slot_until", _claim.c.slot_until),
    )
)
_PIN_SLOT = Statement(
    sa.update(_claim)
    .where(_claim.c.flow_run_id == param("key_flow_run_id", _claim.c.flow_run_id))
    .values(slot_until=sa.null())
)
_RENEW_SLOT = Statement(
    sa.update(_claim)
    .where(_claim.c.slot_id == param("key_slot_id", _claim.c.slot_id), _claim.c.slot_until.is_not(None))
    .values(slot_until=param("slot_until", _claim.c.slot_until))
    .returning(_claim.c.flow_run_id)
)
_ANY_LAPSED_SLOT = Statement(
    sa.select(_claim.c.flow_run_id)
    .where(_claim.c.slot_until <= param("before", _claim.c.slot_until))
    .limit(sa.literal_column("1"))
)
_FREE_LAPSED_SLOTS = Statement(
    sa.update(_claim)
    .where(_claim.c.slot_until <= param("before", _claim.c.slot_until))
    .values(slot_id=sa.null(), slot_of=sa.null(), slot_until=sa.null())
    .returning(_claim.c.flow_run_id, _claim.c.work_pool_id)
)


def read_pool(name: str) -> Steps[tuple[UUID, bool, int | None] | None]:
    """``(id, is_paused, concurrency_limit)`` of the pool; None when there is none."""
    found = yield _POOL(name=name)
    return (found[0][0], found[0][1], found[0][2]) if found else None


def read_queues(pool_id: UUID) -> Steps[list[tuple[UUID, str, bool, int | None, int]]]:
    """``(id, name, is_paused, concurrency_limit, priority)`` of the pool's queues, most urgent first."""
    found = yield _QUEUES(work_pool_id=pool_id)
    return [(row[0], row[1], row[2], row[3], row[4]) for row in found]


def lock_pool(pool_id: UUID) -> Steps[None]:
    """Let one claim of the pool run at a time, so that limits hold at the claim (row P14)."""
    yield _LOCK_POOL(id=pool_id)


def held(pool_id: UUID) -> Steps[dict[UUID | None, int]]:
    """How many runs hold a slot of the pool, by queue."""
    found = yield _HELD(work_pool_id=pool_id)
    return {row[0]: row[1] for row in found}


def due(
    queue_id: UUID, before: datetime, limit: int, after: datetime | None = None
) -> Steps[list[tuple[UUID, UUID | None]]]:
    """``(run, deployment)`` of the queue's runs that are due at ``before``, oldest first."""
    if after is None:
        found = yield _DUE(work_queue_id=queue_id, before=before, limit=limit)
    else:
        found = yield _DUE_AFTER(work_queue_id=queue_id, before=before, limit=limit, after=after)
    return [(row[0], row[1]) for row in found]


def with_due(queues: Sequence[UUID], before: datetime) -> Steps[set[UUID]]:
    """Those of the queues that have a run which is due at ``before``, whether or not a limit lets it begin.

    Most have none: one look spares a look at each.
    """
    found = yield _WITH_DUE(queues=list(queues), before=before)
    return {row[0] for row in found}


def next_due(queues: Sequence[UUID]) -> Steps[datetime | None]:
    """When the next run of these queues is due."""
    found = yield _NEXT(queues=list(queues))
    moment: datetime | None = found[0][0]
    return moment


def lock_deployments(deployment_ids: Sequence[UUID]) -> Steps[None]:
    """Let one claim of each of these deployments run at a time, so that their limits hold (row P15)."""
    yield _LOCK_DEPLOYMENTS(ids=list(deployment_ids))


def due_served(deployment_ids: Sequence[UUID], before: datetime, limit: int) -> Steps[list[UUID]]:
    """Runs of these deployments that are due at ``before`` and in no queue, oldest first (row D23)."""
    found = yield _DUE_SERVED(deployments=list(deployment_ids), before=before, limit=limit)
    return [row[0] for row in found]


def next_served(deployment_ids: Sequence[UUID]) -> Steps[datetime | None]:
    """When the next run of these deployments is due, of those that are in no queue."""
    found = yield _NEXT_SERVED(deployments=list(deployment_ids))
    moment: datetime | None = found[0][0]
    return moment


def contenders(deployment_id: UUID) -> Steps[list[UUID]]:
    """Who has a slot of the deployment and is not stopping, then who waits for one; the oldest first."""
    holders = yield _HOLDERS(slot_of=deployment_id)
    waiting = yield _WAITING(deployment_id=deployment_id)
    return [row[0] for row in (*holders, *waiting)]


def by_claim_id(claim_id: UUID) -> Steps[list[Claim]]:
    """The claims that one request took."""
    found = yield _BY_CLAIM_ID(claim_id=claim_id)
    return [Claim(**dict(zip(Claim.__struct_fields__, row, strict=True))) for row in found]


def locked_claim(run_id: UUID) -> Steps[Claim | None]:
    """The claim of the run as it is now; nobody renews it in this transaction."""
    found = yield _LOCK_CLAIM(flow_run_id=run_id)
    return Claim(**dict(zip(Claim.__struct_fields__, found[0], strict=True))) if found else None


def insert_claim(claim: Claim) -> Steps[None]:
    """Write a new claim."""
    columns = {name: getattr(claim, name) for name in Claim.__struct_fields__}
    yield insert(_claim, frozenset(columns))(**columns)


def delete_claim(run_id: UUID) -> Steps[None]:
    """End the claim of the run, and with it every slot that it holds."""
    yield delete(_claim, "flow_run_id")(key=run_id)


def set_slot(
    run_id: UUID, slot_id: UUID | None, deployment_id: UUID | None, until: datetime | None = None
) -> Steps[None]:
    """Let the claim of the run hold a slot of the deployment, or none; without ``until`` while it stands."""
    yield _SET_SLOT(key_flow_run_id=run_id, slot_id=slot_id, slot_of=deployment_id, slot_until=until)


def pin_slot(run_id: UUID) -> Steps[None]:
    """Let the slot of the run, if it has one, last as long as its claim."""
    yield _PIN_SLOT(key_flow_run_id=run_id)


def renew_slot(slot_id: UUID, until: datetime) -> Steps[bool]:
    """Let the slot with this lease id be held until then; False when it has no such lease."""
    found = yield _RENEW_SLOT(key_slot_id=slot_id, slot_until=until)
    return bool(found)


def any_lapsed_slot(before: datetime) -> Steps[bool]:
    """Whether a slot was to be renewed by ``before`` and was not."""
    return bool((yield _ANY_LAPSED_SLOT(before=before)))


def free_lapsed_slots(before: datetime) -> Steps[list[tuple[UUID, UUID | None]]]:
    """Free the slots that were to be renewed by ``before``: ``(run, pool)`` of those that had them."""
    found = yield _FREE_LAPSED_SLOTS(before=before)
    return [(row[0], row[1]) for row in found]


def renew(run_id: UUID, token: int, lease_until: datetime) -> Steps[bool]:
    """Extend the lease, if ``token`` is still the one of the claim."""
    found = yield _RENEW(key_flow_run_id=run_id, key_token=token, lease_until=lease_until)
    return bool(found)


def shift_back(after: datetime, leap: timedelta) -> Steps[None]:
    """Let leases that last beyond ``after`` end ``leap`` earlier: they were given by a clock that was set
    back since.
    """
    for run_id, lease_until in (yield _AFTER(after=after)):
        yield _SET_LEASE(key_flow_run_id=run_id, lease_until=lease_until - leap)


def lapsed(before: datetime, limit: int) -> Steps[list[UUID]]:
    """Runs whose claim was to be renewed by ``before`` and was not."""
    found = yield _LAPSED(before=before, limit=limit)
    return [row[0] for row in found]


def to_cancel(run_ids: Sequence[UUID]) -> Steps[list[UUID]]:
    """Which of these runs are to be cancelled."""
    found = yield _TO_CANCEL(ids=list(run_ids))
    return [row[0] for row in found]
