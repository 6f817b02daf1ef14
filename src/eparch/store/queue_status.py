"""Who holds the slots of queues and pools, and how many runs of a queue are late."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from eparch.store import tables as t
from eparch.store.dialect import NotByIndex
from eparch.store.statement import Statement, Steps, param

_run, _claim, _queue = t.flow_run, t.claim, t.work_queue

_LATE = Statement(
    sa.select(sa.func.count()).where(
        _run.c.work_queue_id == param("work_queue_id", _run.c.work_queue_id),
        NotByIndex(_run.c.state_type) == sa.literal_column("'SCHEDULED'"),
        _run.c.next_scheduled_start_time.is_not(None),
        _run.c.state_name == sa.literal_column("'Late'"),
    )
)
_HOLDERS_OF = (
    sa.select(
        _run.c.id,
        _run.c.name,
        _run.c.state_type,
        _run.c.state_name,
        _run.c.start_time,
        _run.c.state_timestamp,
    )
    .select_from(_claim.join(_run, _run.c.id == _claim.c.flow_run_id))
    .where(_claim.c.work_queue_id == param("work_queue_id", _claim.c.work_queue_id))
    .order_by(_claim.c.claimed_at, _run.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
    .offset(sa.bindparam("offset", type_=sa.BigInteger))
)
_HOLDERS = Statement(_HOLDERS_OF)
_HOLDER = ("id", "name", "state_type", "state_name", "start_time", "state_timestamp")
_QUEUES = Statement(
    sa.select(
        _queue.c.id,
        _queue.c.name,
        _queue.c.concurrency_limit,
        sa.select(sa.func.count())
        .select_from(_claim)
        .where(_claim.c.work_queue_id == _queue.c.id)
        .correlate(_queue)
        .scalar_subquery(),
    )
    .where(_queue.c.work_pool_id == param("work_pool_id", _queue.c.work_pool_id))
    .order_by(_queue.c.priority, _queue.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
    .offset(sa.bindparam("offset", type_=sa.BigInteger))
)
_COUNT_QUEUES = Statement(
    sa.select(sa.func.count()).where(_queue.c.work_pool_id == param("work_pool_id", _queue.c.work_pool_id))
)


def late_runs(queue_id: UUID) -> Steps[int]:
    """How many runs of the queue are late."""
    found = yield _LATE(work_queue_id=queue_id)
    return int(found[0][0])


def holders(queue_id: UUID, limit: int, offset: int, now: datetime) -> Steps[list[dict[str, Any]]]:
    """Those who hold slots of the queue, the longest first."""
    found = yield _HOLDERS(work_queue_id=queue_id, limit=limit, offset=offset)
    made = []
    for row in found:
        holder = dict(zip(_HOLDER, row, strict=True))
        since = holder["state_timestamp"]
        made.append({**holder, "time_in_current_state": since and (now - since).total_seconds()})
    return made


def queues(pool_id: UUID, limit: int, offset: int) -> Steps[Sequence[Sequence[Any]]]:
    """``(id, name, limit, slots that are taken)`` of a page of the pool's queues."""
    found = yield _QUEUES(work_pool_id=pool_id, limit=limit, offset=offset)
    return found


def count_queues(pool_id: UUID) -> Steps[int]:
    """How many queues the pool has."""
    found = yield _COUNT_QUEUES(work_pool_id=pool_id)
    return int(found[0][0])
