"""Work pools, queues and workers: reading and writing their rows. Claims are in ``claims``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql  # SQLite's compiler understands its upsert too

from eparch.core.filters import Condition, Group, Query
from eparch.core.model import new_id
from eparch.core.pools import PoolStatus, polled_status, worker_status
from eparch.core.worker_instances import HEARTBEAT_SECONDS, MISSED, WRITE_EVERY
from eparch.store import tables as t
from eparch.store.dialect import AnyOf, Later
from eparch.store.rows import names
from eparch.store.statement import Row, Statement, Steps, delete, insert, param, update, upsert
from eparch.store.where import bind

_pool, _queue, _worker, _claim = t.work_pool, t.work_queue, t.worker, t.claim

_OWN_INTERVAL = sa.func.coalesce(
    _worker.c.heartbeat_interval_seconds, sa.literal_column(str(round(HEARTBEAT_SECONDS)))
)
LIVES_UNTIL = Later(_worker.c.last_heartbeat_time, _OWN_INTERVAL * sa.literal_column(str(MISSED)))
"""Until when a worker counts as alive unless it is heard of again: ``worker_status`` (row W13)."""

POOLS: sa.Select[Any] = sa.select(
    *_pool.columns,
    sa.select(sa.func.count())
    .select_from(_claim)
    .where(_claim.c.work_pool_id == _pool.c.id)
    .correlate(_pool)
    .scalar_subquery()
    .label("active_slots"),
    sa.select(sa.func.max(LIVES_UNTIL))
    .where(_worker.c.work_pool_id == _pool.c.id)
    .correlate(_pool)
    .scalar_subquery()
    .label("lives_until"),
)
_POOL_KEYS = names(POOLS)

QUEUES: sa.Select[Any] = sa.select(
    *_queue.columns,
    _pool.c.name.label("work_pool_name"),
    sa.select(sa.func.count())
    .select_from(_claim)
    .where(_claim.c.work_queue_id == _queue.c.id)
    .correlate(_queue)
    .scalar_subquery()
    .label("active_slots"),
).select_from(_queue.join(_pool, _pool.c.id == _queue.c.work_pool_id))
_QUEUE_KEYS = names(QUEUES)

WORKERS: sa.Select[Any] = sa.select(*_worker.columns)
_WORKER_KEYS = names(WORKERS)

_POOL_BY_NAME = Statement(POOLS.where(_pool.c.name == param("name", _pool.c.name)), wire=True)
_POOL_BY_ID = Statement(POOLS.where(_pool.c.id == param("id", _pool.c.id)))
_POOL_TEMPLATE = Statement(
    sa.select(_pool.c.base_job_template, _pool.c.type).where(_pool.c.id == param("id", _pool.c.id))
)
# Full values, as runs are made from them: the ids of a row for the wire are text on SQLite.
_QUEUE = Statement(QUEUES.where(_queue.c.id == param("id", _queue.c.id)))
_QUEUE_BY_NAME = Statement(
    QUEUES.where(
        _pool.c.name == param("pool_name", _pool.c.name),
        _queue.c.name == param("queue_name", _queue.c.name),
    )
)
_QUEUE_NUMBERS = Statement(
    sa.select(_queue.c.id, _queue.c.name, _queue.c.priority)
    .where(_queue.c.work_pool_id == param("work_pool_id", _queue.c.work_pool_id))
    .order_by(_queue.c.priority, _queue.c.name)
)
_POLLED = Statement(
    sa.update(_queue)
    .where(
        AnyOf(_queue.c.id, "ids"),
        sa.or_(_queue.c.last_polled.is_(None), _queue.c.last_polled <= param("stale", _queue.c.last_polled)),
    )
    .values(last_polled=param("last_polled", _queue.c.last_polled))
)


_HEARTBEAT = upsert(
    _worker,
    ("work_pool_id", "name"),
    ("updated", "last_heartbeat_time", "heartbeat_interval_seconds"),
)


_unseen = postgresql.insert(_worker).values(
    {c.name: sa.bindparam(c.name, type_=c.type) for c in _worker.columns}
)
_SEE_WORKER = Statement(
    _unseen.on_conflict_do_update(
        index_elements=[_worker.c.work_pool_id, _worker.c.name],
        set_={
            "updated": _unseen.excluded.updated,
            "last_heartbeat_time": _unseen.excluded.last_heartbeat_time,
        },
        where=sa.or_(
            _worker.c.last_heartbeat_time.is_(None),
            _worker.c.last_heartbeat_time <= param("stale", _worker.c.last_heartbeat_time),
        ),
    )
)

_DELETE_WORKER = Statement(
    sa.delete(_worker)
    .where(
        _worker.c.work_pool_id == param("work_pool_id", _worker.c.work_pool_id),
        _worker.c.name == param("name", _worker.c.name),
    )
    .returning(_worker.c.id)
)


def _wire_pool(row: Row, now: datetime) -> dict[str, Any]:
    pool = dict(zip(_POOL_KEYS, row, strict=True))
    lives_until = pool.pop("lives_until")
    if pool["is_paused"]:
        pool["status"] = PoolStatus.PAUSED
    elif pool["type"] == "prefect-agent":
        pool["status"] = None
    else:
        online = lives_until is not None and now <= lives_until
        pool["status"] = PoolStatus.READY if online else PoolStatus.NOT_READY
    return pool


def _wire_queue(row: Row, now: datetime) -> dict[str, Any]:
    queue = dict(zip(_QUEUE_KEYS, row, strict=True))
    queue["status"] = polled_status(queue["is_paused"], queue["last_polled"], now)
    return queue


def _wire_worker(row: Row, now: datetime, missed: float) -> dict[str, Any]:
    worker = dict(zip(_WORKER_KEYS, row, strict=True))
    seen, interval = worker["last_heartbeat_time"], worker["heartbeat_interval_seconds"]
    worker["status"] = worker_status(seen, interval, now, missed)
    return worker


# Pools


def read_pool(name: str, now: datetime) -> Steps[dict[str, Any] | None]:
    """The pool as the wire answers it."""
    found = yield _POOL_BY_NAME(name=name)
    return _wire_pool(found[0], now) if found else None


def read_pool_by_id(pool_id: UUID, now: datetime) -> Steps[dict[str, Any] | None]:
    """The pool with its full values, None when there is none."""
    found = yield _POOL_BY_ID(id=pool_id)
    return _wire_pool(found[0], now) if found else None


def read_pools(query: Query, now: datetime) -> Steps[list[dict[str, Any]]]:
    """A page of pools."""
    found = yield bind(POOLS, query)
    return [_wire_pool(row, now) for row in found]


def read_template(pool_id: UUID) -> Steps[tuple[dict[str, Any], str] | None]:
    """The base job template and the type of the pool."""
    found = yield _POOL_TEMPLATE(id=pool_id)
    return (found[0][0], found[0][1]) if found else None


def insert_pool(columns: dict[str, Any]) -> Steps[None]:
    """Write a new pool."""
    yield insert(_pool, frozenset(columns))(**columns)


def write_pool(pool_id: UUID, columns: dict[str, Any]) -> Steps[bool]:
    """Change columns of the pool; False when there is none."""
    found = yield update(_pool, frozenset(columns))(key_id=pool_id, **columns)
    return bool(found)


def delete_pool(pool_id: UUID) -> Steps[bool]:
    """Delete the pool with its queues and workers; False when there is none."""
    found = yield delete(_pool)(key=pool_id)
    return bool(found)


# Queues


def read_queue(queue_id: UUID, now: datetime) -> Steps[dict[str, Any] | None]:
    """The queue as the wire answers it."""
    found = yield _QUEUE(id=queue_id)
    return _wire_queue(found[0], now) if found else None


def read_queue_by_name(pool_name: str, queue_name: str, now: datetime) -> Steps[dict[str, Any] | None]:
    """The pool's queue called ``queue_name``."""
    found = yield _QUEUE_BY_NAME(pool_name=pool_name, queue_name=queue_name)
    return _wire_queue(found[0], now) if found else None


def read_queues(query: Query, now: datetime, pool_id: UUID | None = None) -> Steps[list[dict[str, Any]]]:
    """A page of queues, of one pool where ``pool_id`` is given, most urgent first."""
    if pool_id is not None:
        bound = bind(QUEUES, query, "work_pool_id")
        bound = bound.statement(**{**bound.values, "work_pool_id": pool_id})
    else:
        bound = bind(QUEUES, query)
    found = yield bound
    return [_wire_queue(row, now) for row in found]


def queue_priorities(pool_id: UUID) -> Steps[list[tuple[UUID, str, int]]]:
    """``(id, name, priority)`` of the pool's queues."""
    found = yield _QUEUE_NUMBERS(work_pool_id=pool_id)
    return [(row[0], row[1], row[2]) for row in found]


def insert_queue(columns: dict[str, Any]) -> Steps[None]:
    """Write a new queue."""
    yield insert(_queue, frozenset(columns))(**columns)


def write_queue(queue_id: UUID, columns: dict[str, Any]) -> Steps[bool]:
    """Change columns of the queue; False when there is none."""
    found = yield update(_queue, frozenset(columns))(key_id=queue_id, **columns)
    return bool(found)


def delete_queue(queue_id: UUID) -> Steps[bool]:
    """Delete the queue; False when there is none."""
    found = yield delete(_queue)(key=queue_id)
    return bool(found)


def mark_polled(queue_ids: Sequence[UUID], now: datetime) -> Steps[None]:
    """Somebody asked for the work of these queues (row W14); written once in ``WRITE_EVERY``."""
    yield _POLLED(ids=list(queue_ids), last_polled=now, stale=now - WRITE_EVERY)


# Workers


def heartbeat(pool_id: UUID, name: str, interval: int | None, now: datetime) -> Steps[None]:
    """The worker called ``name`` is alive."""
    yield _HEARTBEAT(
        id=new_id(),
        created=now,
        updated=now,
        name=name,
        work_pool_id=pool_id,
        last_heartbeat_time=now,
        heartbeat_interval_seconds=interval,
    )


def see_worker(pool_id: UUID, name: str, now: datetime) -> Steps[None]:
    """The worker asks for runs, so it lives; written once in ``WRITE_EVERY``."""
    yield _SEE_WORKER(
        id=new_id(),
        created=now,
        updated=now,
        name=name,
        work_pool_id=pool_id,
        last_heartbeat_time=now,
        heartbeat_interval_seconds=None,
        stale=now - WRITE_EVERY,
    )


def delete_worker(pool_id: UUID, name: str) -> Steps[bool]:
    """Forget the worker; False when there is none."""
    found = yield _DELETE_WORKER(work_pool_id=pool_id, name=name)
    return bool(found)


def read_workers(
    query: Query, now: datetime, pool_id: UUID, missed: float = MISSED
) -> Steps[list[dict[str, Any]]]:
    """A page of the pool's workers; their status is computed, so it is compared here (row W13)."""
    if not _asks_status(query.where):
        bound = bind(WORKERS, query, "work_pool_id")
        found = yield bound.statement(**{**bound.values, "work_pool_id": pool_id})
        return [_wire_worker(row, now, missed) for row in found]
    everyone = Query("workers", sort=query.sort, limit=_EVERYONE)
    bound = bind(WORKERS, everyone, "work_pool_id")
    found = yield bound.statement(**{**bound.values, "work_pool_id": pool_id})
    workers = [_wire_worker(row, now, missed) for row in found]
    chosen = [worker for worker in workers if _admits(query.where, worker)]
    return chosen[query.offset : query.offset + query.limit]


_EVERYONE = 100_000


def _asks_status(group: Group) -> bool:
    return any(
        _asks_status(part) if isinstance(part, Group) else part.field == "status" for part in group.parts
    )


def _admits(part: Group | Condition, worker: dict[str, Any]) -> bool:
    if isinstance(part, Group):
        found = (_admits(inner, worker) for inner in part.parts)
        return all(found) if part.operator == "and_" or not part.parts else any(found)
    value = worker[part.field]
    if part.field == "status":
        return (value in part.value) is (part.op == "any_")
    if value is None:
        return False
    return bool(value <= part.value if part.op == "before_" else value >= part.value)
