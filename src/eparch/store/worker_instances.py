"""Instances of workers and what they said: reading and writing their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from eparch.core.worker_instances import About, WorkerInstance, WorkerLine, WorkerOrder
from eparch.store import tables as t
from eparch.store.statement import Row, Statement, Steps, insert, param, upsert

_instance, _log, _pool = t.worker_instance, t.worker_log, t.work_pool

_INSTANCES = sa.select(
    _instance.c.id,
    _instance.c.created,
    _instance.c.name,
    _instance.c.work_pool_id,
    _pool.c.name.label("work_pool_name"),
    _instance.c.worker_order.label("order"),
    _instance.c.draining,
    _instance.c.started_at,
    _instance.c.last_polled_at,
    _instance.c.last_heartbeat_at,
    _instance.c.stopped_at,
    _instance.c.heartbeat_interval_seconds,
    _instance.c.poll_interval_seconds,
    _instance.c.about,
).select_from(_instance.join(_pool, _pool.c.id == _instance.c.work_pool_id))
_KEYS = [str(column.key) for column in _INSTANCES.selected_columns]
_TYPES = {"about": About}

_NEWEST = _INSTANCES.order_by(_instance.c.seen_at.desc(), _instance.c.id.desc())
_ONE = Statement(_INSTANCES.where(_instance.c.id == param("id", _instance.c.id)), types=_TYPES)
_POLLED_BY = Statement(
    sa.select(
        _instance.c.worker_order, _instance.c.draining, _instance.c.stopped_at, _instance.c.last_polled_at
    ).where(
        _instance.c.id == param("id", _instance.c.id),
        _instance.c.work_pool_id == param("work_pool_id", _instance.c.work_pool_id),
    )
)
_POLL = Statement(
    sa.update(_instance)
    .where(_instance.c.id == param("key_id", _instance.c.id))
    .values(
        last_polled_at=param("last_polled_at", _instance.c.last_polled_at),
        seen_at=param("seen_at", _instance.c.seen_at),
    )
)
_REPORT = upsert(
    _instance,
    ("id",),
    (
        "started_at",
        "seen_at",
        "last_heartbeat_at",
        "stopped_at",
        "heartbeat_interval_seconds",
        "poll_interval_seconds",
        "draining",
        "about",
    ),
)
_ORDER = Statement(
    sa.update(_instance)
    .where(_instance.c.id == param("key_id", _instance.c.id))
    .values(worker_order=param("worker_order", _instance.c.worker_order))
)
_FORGET = Statement(
    sa.delete(_instance).where(
        _instance.c.work_pool_id == param("work_pool_id", _instance.c.work_pool_id),
        _instance.c.seen_at < param("before", _instance.c.seen_at),
    )
)
_FORGET_NAMED = Statement(
    sa.delete(_instance).where(
        _instance.c.work_pool_id == param("work_pool_id", _instance.c.work_pool_id),
        _instance.c.name == param("name", _instance.c.name),
    )
)
_KEPT = (
    sa.select(_instance.c.id)
    .where(_instance.c.work_pool_id == param("work_pool_id", _instance.c.work_pool_id))
    .order_by(_instance.c.seen_at.desc(), _instance.c.id.desc())
)
_FORGET_MANY = Statement(
    sa.delete(_instance).where(
        _instance.c.id.in_(
            _KEPT.limit(sa.literal_column("1000")).offset(sa.bindparam("keep", type_=sa.Integer))
        )
    )
)

_LINES = sa.select(_log.c.id, _log.c.instance_id, _log.c.timestamp, _log.c.level, _log.c.message).select_from(
    _log.join(_instance, _instance.c.id == _log.c.instance_id)
)
_OF_WORKER = (
    _instance.c.work_pool_id == param("work_pool_id", _instance.c.work_pool_id),
    _instance.c.name == param("name", _instance.c.name),
    _log.c.level >= param("least_level", _log.c.level),
)
_LAST_LINES = Statement(
    _LINES.where(*_OF_WORKER).order_by(_log.c.id.desc()).limit(sa.bindparam("limit", type_=sa.Integer))
)
_LINES_AFTER = Statement(
    _LINES.where(*_OF_WORKER, _log.c.id > param("after", _log.c.id))
    .order_by(_log.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_OLDEST_KEPT = (
    sa.select(_log.c.id)
    .where(_log.c.instance_id == param("instance_id", _log.c.instance_id))
    .order_by(_log.c.id.desc())
    .offset(sa.bindparam("keep", type_=sa.Integer))
    .limit(sa.literal_column("1"))
    .scalar_subquery()
)
_DROP_LINES = Statement(
    sa.delete(_log).where(
        _log.c.instance_id == param("instance_id", _log.c.instance_id), _log.c.id <= _OLDEST_KEPT
    )
)


def _value(row: Row) -> WorkerInstance:
    found = dict(zip(_KEYS, row, strict=True))
    return WorkerInstance(**{**found, "order": WorkerOrder(found["order"])})


def read(instance_id: UUID) -> Steps[WorkerInstance | None]:
    """The instance, its status not computed."""
    found = yield _ONE(id=instance_id)
    return _value(found[0]) if found else None


def read_many(
    since: datetime, limit: int, offset: int, *, work_pool_id: UUID | None = None, name: str | None = None
) -> Steps[list[WorkerInstance]]:
    """Instances that were seen after ``since``, the last one first; their status is not computed."""
    found = yield _listed(work_pool_id is not None, name is not None)(
        since=since, limit=limit, offset=offset, work_pool_id=work_pool_id, name=name
    )
    return [_value(row) for row in found]


_LISTED: dict[tuple[bool, bool], Statement] = {}


def _listed(of_pool: bool, of_name: bool) -> Statement:
    made = _LISTED.get((of_pool, of_name))
    if made is None:
        query = _NEWEST.where(_instance.c.seen_at >= param("since", _instance.c.seen_at))
        if of_pool:
            query = query.where(_instance.c.work_pool_id == param("work_pool_id", _instance.c.work_pool_id))
        if of_name:
            query = query.where(_instance.c.name == param("name", _instance.c.name))
        query = query.limit(sa.bindparam("limit", type_=sa.Integer)).offset(
            sa.bindparam("offset", type_=sa.BigInteger)
        )
        made = _LISTED[of_pool, of_name] = Statement(query, types=_TYPES)
    return made


def read_poll(
    instance_id: UUID, work_pool_id: UUID
) -> Steps[tuple[WorkerOrder, bool, datetime | None] | None]:
    """What an instance of the pool is ordered to do, whether it drains or has ended, and when it was last
    written down that it asked.
    """
    found = yield _POLLED_BY(id=instance_id, work_pool_id=work_pool_id)
    if not found:
        return None
    order, draining, stopped_at, before = found[0]
    return WorkerOrder(order), draining or stopped_at is not None, before


def mark_polled(instance_id: UUID, now: datetime) -> Steps[None]:
    """The instance asked for runs."""
    yield _POLL(key_id=instance_id, last_polled_at=now, seen_at=now)


def write(columns: Mapping[str, Any]) -> Steps[None]:
    """Write what the instance reported; its order and when it was first seen stay."""
    yield _REPORT(**columns)


def write_order(instance_id: UUID, order: WorkerOrder) -> Steps[None]:
    """Order the instance to do something."""
    yield _ORDER(key_id=instance_id, worker_order=order.value)


def forget(work_pool_id: UUID, before: datetime, keep: int) -> Steps[None]:
    """Forget instances of the pool that were not seen since ``before``, and all but ``keep`` of them."""
    yield _FORGET(work_pool_id=work_pool_id, before=before)
    yield _FORGET_MANY(work_pool_id=work_pool_id, keep=keep)


def forget_named(work_pool_id: UUID, name: str) -> Steps[None]:
    """Forget the instances of a worker."""
    yield _FORGET_NAMED(work_pool_id=work_pool_id, name=name)


def add_lines(instance_id: UUID, lines: Sequence[Mapping[str, Any]], keep: int) -> Steps[None]:
    """Keep lines of the instance, the last ``keep`` of all."""
    yield insert(_log).each(lines)
    yield _DROP_LINES(instance_id=instance_id, keep=keep)


def read_lines(
    work_pool_id: UUID, name: str, limit: int, *, after: UUID | None = None, least_level: int = 0
) -> Steps[list[WorkerLine]]:
    """The last lines of the worker, or the first ones after ``after``; oldest first."""
    asked = {"work_pool_id": work_pool_id, "name": name, "limit": limit, "least_level": least_level}
    if after is None:
        found = (yield _LAST_LINES(**asked))[::-1]
    else:
        found = yield _LINES_AFTER(**asked, after=after)
    return [WorkerLine(**dict(zip(WorkerLine.__struct_fields__, row, strict=True))) for row in found]
