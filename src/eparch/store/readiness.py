"""Pools, queues and deployments whose readiness is another than was told: finding them, and remembering it.

When one is ready is in ``core.pools``; here it is asked of all of them, by the time of the last poll or
heartbeat. Paused ones are left alone: they say so themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from eparch.store import tables as t
from eparch.store.dialect import AnyOf
from eparch.store.pools import LIVES_UNTIL
from eparch.store.statement import Statement, Steps, param

Kind = Literal["work-pool", "work-queue", "deployment"]

KINDS: tuple[Kind, ...] = ("work-pool", "work-queue", "deployment")

_told, _pool, _queue = t.ready_resource, t.work_pool, t.work_queue
_worker, _deployment = t.worker, t.deployment

_SINCE = param("since", _queue.c.last_polled)
_LIMIT = sa.bindparam("limit", type_=sa.Integer)


def _literal(text: str) -> sa.ColumnClause[Any]:
    return sa.literal_column(f"'{text}'")


def _since(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    return sa.and_(column.is_not(None), column >= _SINCE)


# Each worker has an interval of its own, so of a pool it is asked who lives at a time.
_LIVES = sa.exists(
    sa.select(_worker.c.id).where(
        _worker.c.work_pool_id == _pool.c.id,
        _worker.c.last_heartbeat_time.is_not(None),
        _SINCE <= LIVES_UNTIL,
    )
)
_QUEUED = _deployment.outerjoin(_queue, _queue.c.id == _deployment.c.work_queue_id)
_SOURCES: dict[Kind, tuple[sa.Table, sa.FromClause, sa.ColumnElement[bool], sa.ColumnElement[bool]]] = {
    # the table, what is read, who is looked at, who of them is ready
    "work-pool": (
        _pool,
        _pool,
        sa.and_(_pool.c.is_paused.is_(sa.false()), _pool.c.type != _literal("prefect-agent")),
        _LIVES,
    ),
    "work-queue": (_queue, _queue, _queue.c.is_paused.is_(sa.false()), _since(_queue.c.last_polled)),
    "deployment": (
        _deployment,
        _QUEUED,
        sa.true(),
        sa.or_(_since(_deployment.c.last_polled), _since(_queue.c.last_polled)),
    ),
}


def _changed(kind: Kind, ready: bool) -> Statement:
    table, source, looked_at, is_ready = _SOURCES[kind]
    known = sa.exists(sa.select(_told.c.id).where(_told.c.id == table.c.id))
    wanted = sa.and_(is_ready, sa.not_(known)) if ready else sa.and_(sa.not_(is_ready), known)
    return Statement(
        sa.select(table.c.id).select_from(source).where(looked_at, wanted).order_by(table.c.id).limit(_LIMIT)
    )


_CHANGED = {(kind, ready): _changed(kind, ready) for kind in KINDS for ready in (True, False)}
_ORPHANS = {
    kind: Statement(
        sa.select(_told.c.id)
        .where(
            _told.c.kind == _literal(kind),
            sa.not_(sa.exists(sa.select(_SOURCES[kind][0].c.id).where(_SOURCES[kind][0].c.id == _told.c.id))),
        )
        .limit(_LIMIT)
    )
    for kind in KINDS
}
_REMEMBER = Statement(
    postgresql.insert(_told)  # SQLite's compiler understands this form too
    .values({c.name: sa.bindparam(c.name, type_=c.type) for c in _told.columns})
    .on_conflict_do_nothing(index_elements=[_told.c.id])
    .returning(_told.c.id)
)
_FORGET = Statement(sa.delete(_told).where(AnyOf(_told.c.id, "ids")).returning(_told.c.id))


def changed(kind: Kind, ready: bool, since: datetime, limit: int) -> Steps[list[UUID]]:
    """Those that became ready, or ceased to be: polled ``since`` then, or with a worker that lives then, or
    not.
    """
    found = yield _CHANGED[kind, ready](since=since, limit=limit)
    return [row[0] for row in found]


def orphans(kind: Kind, limit: int) -> Steps[list[UUID]]:
    """Those that were ready and are deleted."""
    found = yield _ORPHANS[kind](limit=limit)
    return [row[0] for row in found]


def remember(kind: Kind, id_: UUID, ready: bool) -> Steps[bool]:
    """Note what is told of it; False when that was told already."""
    found = (yield _REMEMBER(id=id_, kind=kind)) if ready else (yield _FORGET(ids=[id_]))
    return bool(found)


def forget(ids: Sequence[UUID]) -> Steps[None]:
    """They are deleted."""
    yield _FORGET(ids=list(ids))
