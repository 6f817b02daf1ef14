"""Limits of concurrency and the slots that leases hold: reading and writing their rows.

Who gets a slot is decided in ``core.concurrency``, always between ``lock`` and the end of the transaction. A
lease that has lapsed counts for nobody from that moment on; its rows are deleted by whoever takes slots next,
or by ``drop_lapsed``. It cannot come back: renewing needs the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from eparch.core.concurrency import Book, Holder
from eparch.store import tables as t
from eparch.store.dialect import AnyOf
from eparch.store.rows import names
from eparch.store.statement import Row, Statement, Steps, delete, insert, param, update

_limit, _slot, _task, _run = t.concurrency_limit, t.concurrency_slot, t.task_run, t.flow_run

_LEASED = (
    sa.select(sa.func.coalesce(sa.func.sum(_slot.c.slots), sa.literal_column("0")))
    .where(_slot.c.limit_id == _limit.c.id, _slot.c.expires > param("now", _slot.c.expires))
    .correlate(_limit)
    .scalar_subquery()
)
_LIMITS = sa.select(*_limit.columns, sa.cast(_LEASED, sa.BigInteger).label("leased"))
_KEYS = names(_LIMITS)
_NAMED = AnyOf(_limit.c.name, "names")
_IN_ORDER = sa.select(_limit.c.id).order_by(_limit.c.id).with_for_update()

_BY_ID = Statement(_LIMITS.where(_limit.c.id == param("id", _limit.c.id)))
_BY_NAME = Statement(_LIMITS.where(_limit.c.name == param("name", _limit.c.name)))
_BY_NAMES = Statement(_LIMITS.where(_NAMED).order_by(_limit.c.name))
_BY_IDS = Statement(_LIMITS.where(AnyOf(_limit.c.id, "ids")).order_by(_limit.c.name))
_PAGE_BOUNDS = {
    "limit": sa.bindparam("page_limit", type_=sa.Integer),
    "offset": sa.bindparam("page_offset", type_=sa.Integer),
}


def _page(select: sa.Select[Any]) -> sa.Select[Any]:
    ordered = select.order_by(_limit.c.name)
    return ordered.limit(_PAGE_BOUNDS["limit"]).offset(_PAGE_BOUNDS["offset"])


_ALL = Statement(_page(_LIMITS))
_OF_TAGS = Statement(_page(_LIMITS.where(sa.func.substr(_limit.c.name, 1, 4) == sa.literal_column("'tag:'"))))
_LOCK_BY_NAMES = Statement(_IN_ORDER.where(_NAMED))
_LOCK_BY_IDS = Statement(_IN_ORDER.where(AnyOf(_limit.c.id, "ids")))

_HOLDERS = Statement(
    sa.select(_slot.c.limit_id, _slot.c.holder_id)
    .where(
        AnyOf(_slot.c.limit_id, "ids"),
        _slot.c.holder_type == sa.literal_column("'task_run'"),
        _slot.c.expires > param("now", _slot.c.expires),
    )
    .order_by(_slot.c.created, _slot.c.lease_id)
)
_LEASE = Statement(
    sa.select(_slot.c.limit_id, _slot.c.slots, _slot.c.created, _slot.c.lease_id).where(
        _slot.c.lease_id == param("lease_id", _slot.c.lease_id)
    )
)
_LEASES_OF = Statement(
    sa.select(_slot.c.limit_id, _slot.c.slots, _slot.c.created, _slot.c.lease_id)
    .where(
        AnyOf(_slot.c.limit_id, "ids"),
        _slot.c.expires > param("now", _slot.c.expires),
    )
    .order_by(_slot.c.created, _slot.c.lease_id)
)
_LEASES_OF_HOLDER = Statement(
    sa.select(_slot.c.limit_id, _slot.c.slots, _slot.c.created, _slot.c.lease_id).where(
        _slot.c.holder_id == param("holder_id", _slot.c.holder_id),
        _slot.c.expires > param("now", _slot.c.expires),
    )
)
_RENEW = Statement(
    sa.update(_slot)
    .where(
        _slot.c.lease_id == param("key_lease_id", _slot.c.lease_id),
        _slot.c.expires > param("now", _slot.c.expires),
    )
    .values(expires=param("expires", _slot.c.expires))
    .returning(_slot.c.lease_id)
)
_LAPSED = Statement(
    sa.select(_slot.c.lease_id)
    .where(_slot.c.expires <= param("now", _slot.c.expires))
    .limit(sa.literal_column("1"))
)
_EXPIRED = _slot.c.expires <= param("now", _slot.c.expires)
_DROP_LAPSED = Statement(sa.delete(_slot).where(_EXPIRED))
_inner = _slot.alias()
_DROP_LAPSED_OF = Statement(
    # The whole lease: one that lost the slots of one limit must not be renewed for the others.
    sa.delete(_slot).where(
        _EXPIRED,
        _slot.c.lease_id.in_(
            sa.select(_inner.c.lease_id).where(
                AnyOf(_inner.c.limit_id, "ids"), _inner.c.expires <= param("now", _slot.c.expires)
            )
        ),
    )
)
_DROP_SLOT = Statement(
    sa.delete(_slot).where(
        _slot.c.limit_id == param("key_limit_id", _slot.c.limit_id), AnyOf(_slot.c.lease_id, "leases")
    )
)


def _inside() -> sa.Select[Any]:
    """A run and the subflows in its process; none while nobody holds anything, which is nearly always."""
    itself = sa.select(sa.bindparam("run_id", type_=_slot.c.holder_id.type).label("id"))
    around = itself.where(sa.exists(sa.select(_inner.c.lease_id))).cte("inside", recursive=True)
    subflows = (
        sa.select(_run.c.id)
        .select_from(
            around.join(_task, _task.c.flow_run_id == around.c.id).join(
                _run, _run.c.parent_task_run_id == _task.c.id
            )
        )
        # A subflow with a deployment has a process of its own, which goes on.
        .where(_run.c.deployment_id.is_(None))
    )
    found = around.union(subflows)
    return sa.select(found.c.id)


_INSIDE = Statement(_inside())
_RELEASE = Statement(
    sa.delete(_slot)
    .where(
        sa.or_(
            AnyOf(_slot.c.holder_id, "holders"),
            _slot.c.holder_id.in_(sa.select(_task.c.id).where(AnyOf(_task.c.flow_run_id, "ids"))),
        )
    )
    .returning(_slot.c.limit_id)
)


_ANY_HELD = Statement(sa.select(_slot.c.lease_id).limit(sa.literal_column("1")))
_RELEASE_TASKS = Statement(sa.delete(_slot).where(AnyOf(_slot.c.holder_id, "ids")))


class Held(msgspec.Struct, frozen=True):
    """Slots of one limit that a lease holds."""

    limit_id: UUID
    slots: int
    created: datetime
    lease_id: UUID


def insert_limit(columns: dict[str, Any]) -> Steps[None]:
    """Write a new limit."""
    yield insert(_limit)(**columns)


def write_limit(limit_id: UUID, columns: dict[str, Any]) -> Steps[bool]:
    """Change columns of the limit; False when there is none."""
    found = yield update(_limit, frozenset(columns))(key_id=limit_id, **columns)
    return bool(found)


def delete_limit(limit_id: UUID) -> Steps[bool]:
    """Delete the limit with the slots that leases hold of it; False when there is none."""
    found = yield delete(_limit)(key=limit_id)
    return bool(found)


def read_limit(key: UUID | str, now: datetime) -> Steps[dict[str, Any] | None]:
    """The row of the limit with this id, or this name, and how many slots leases hold."""
    found = yield _BY_ID(id=key, now=now) if isinstance(key, UUID) else _BY_NAME(name=key, now=now)
    return dict(zip(_KEYS, found[0], strict=True)) if found else None


def read_limits(limit: int, offset: int, now: datetime, *, tags: bool = False) -> Steps[list[dict[str, Any]]]:
    """A page of limits in the order of their names; with ``tags`` only those on tags."""
    found = yield (_OF_TAGS if tags else _ALL)(page_limit=limit, page_offset=offset, now=now)
    return [dict(zip(_KEYS, row, strict=True)) for row in found]


def holders(limit_ids: Sequence[UUID], now: datetime) -> Steps[dict[UUID, list[UUID]]]:
    """The task runs that hold slots, by limit, each once, the first holder first."""
    found = yield _HOLDERS(ids=list(limit_ids), now=now)
    by_limit: dict[UUID, dict[UUID, None]] = {}
    for limit_id, holder_id in found:
        by_limit.setdefault(limit_id, {})[holder_id] = None
    return {limit_id: list(ids) for limit_id, ids in by_limit.items()}


def read_books(limit_names: Sequence[str], now: datetime) -> Steps[list[Book]]:
    """The limits of these names as they stand; for those who only look."""
    found = yield _BY_NAMES(names=list(limit_names), now=now)
    return [book_of(dict(zip(_KEYS, row, strict=True))) for row in found]


# What follows is for transactions that change slots.


def lock(limit_names: Sequence[str], now: datetime) -> Steps[list[Book]]:
    """The limits of these names, in the order of the names; nobody else changes their slots until the end.

    Leases that have lapsed by ``now`` are gone.
    """
    found = yield _LOCK_BY_NAMES(names=list(limit_names))
    return (yield from _books([row[0] for row in found], now)) if found else []


def lock_ids(limit_ids: Sequence[UUID], now: datetime) -> Steps[list[Book]]:
    """As ``lock``, by ids."""
    found = yield _LOCK_BY_IDS(ids=list(limit_ids))
    return (yield from _books([row[0] for row in found], now)) if found else []


def _books(ids: list[UUID], now: datetime) -> Steps[list[Book]]:
    """Read after they are locked: PostgreSQL would count leases as they were before it waited for a lock."""
    yield _DROP_LAPSED_OF(ids=ids, now=now)
    found = yield _BY_IDS(ids=ids, now=now)
    return [book_of(dict(zip(_KEYS, row, strict=True))) for row in found]


def book_of(row: dict[str, Any]) -> Book:
    """What the rules know of a limit."""
    return Book(
        id=row["id"],
        name=row["name"],
        limit=row["limit"],
        active=row["active"],
        undated=row["active_slots"],
        denied=row["denied_slots"],
        decay=row["slot_decay_per_second"],
        occupancy=row["avg_slot_occupancy_seconds"],
        decayed_at=row["decayed_at"],
        leased=row["leased"],
    )


def write_book(book: Book, now: datetime) -> Steps[None]:
    """Write what the rules made of a limit's counts."""
    columns = {
        "active_slots": book.undated,
        "denied_slots": book.denied,
        "avg_slot_occupancy_seconds": book.occupancy,
        "decayed_at": book.decayed_at,
        "updated": now,
    }
    yield from write_limit(book.id, columns)


def insert_lease(
    lease_id: UUID,
    slots: Sequence[tuple[UUID, int]],
    holder: Holder | None,
    expires: datetime,
    now: datetime,
) -> Steps[None]:
    """Let a lease hold slots: ``slots`` are limits with how many."""
    yield insert(_slot).each(
        [
            {
                "lease_id": lease_id,
                "limit_id": limit_id,
                "slots": count,
                "holder_type": holder.type if holder else None,
                "holder_id": holder.id if holder else None,
                "created": now,
                "expires": expires,
            }
            for limit_id, count in slots
        ]
    )


def _held(rows: Sequence[Row]) -> list[Held]:
    return [Held(*row) for row in rows]


def read_lease(lease_id: UUID) -> Steps[list[Held]]:
    """What the lease holds."""
    return _held((yield _LEASE(lease_id=lease_id)))


def leases_of_limits(limit_ids: Sequence[UUID], now: datetime) -> Steps[list[Held]]:
    """What leases hold of these limits, the oldest first."""
    return _held((yield _LEASES_OF(ids=list(limit_ids), now=now)))


def leases_of_holder(holder_id: UUID, now: datetime) -> Steps[list[Held]]:
    """What is held in the name of a run."""
    return _held((yield _LEASES_OF_HOLDER(holder_id=holder_id, now=now)))


def renew_lease(lease_id: UUID, expires: datetime, now: datetime) -> Steps[bool]:
    """Let the lease hold until ``expires``; False when it is gone or has lapsed."""
    found = yield _RENEW(key_lease_id=lease_id, expires=expires, now=now)
    return bool(found)


def delete_lease(lease_id: UUID) -> Steps[bool]:
    """Free what the lease holds; False when somebody did already."""
    found = yield delete(_slot, "lease_id")(key=lease_id)
    return bool(found)


def delete_slots(limit_id: UUID, leases: Sequence[UUID]) -> Steps[None]:
    """Free what these leases hold of one limit."""
    yield _DROP_SLOT(key_limit_id=limit_id, leases=list(leases))


def release_run(run_id: UUID) -> Steps[bool]:
    """Free what a flow run, its subflows and their task runs hold; whether they held something (pain 5)."""
    ids = [row[0] for row in (yield _INSIDE(run_id=run_id))]
    found = (yield _RELEASE(holders=ids, ids=ids)) if ids else []
    return bool(found)


def release_tasks(run_ids: Sequence[UUID]) -> Steps[None]:
    """Free what these task runs hold; nothing is asked of them while nobody holds anything (pain 5)."""
    if (yield _ANY_HELD()):
        yield _RELEASE_TASKS(ids=list(run_ids))


def any_lapsed(now: datetime) -> Steps[bool]:
    """Whether there are leases to drop."""
    found = yield _LAPSED(now=now)
    return bool(found)


def drop_lapsed(now: datetime) -> Steps[None]:
    """Delete the rows of leases that have lapsed."""
    yield _DROP_LAPSED(now=now)
