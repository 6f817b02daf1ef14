"""The queue of background tasks: what waits, who holds it until when, and which task workers are connected.

Rows are guarded: what somebody else took, ended or renewed in the meantime is not changed. Who decides is in
``orchestration.task_queues``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid5

import msgspec
import sqlalchemy as sa

from eparch.core.states import State
from eparch.core.task_workers import TaskWorker, is_queued
from eparch.store import tables as t
from eparch.store.dialect import AnyOf
from eparch.store.statement import Note, Statement, Steps, delete, param, upsert

_queue, _worker, _run = t.task_queue, t.task_worker, t.task_run

TOPIC = "tasks"
"""Of notes that a background task of a key waits; their value is ``topic_id`` of the key."""

_NAMESPACE = UUID("5f2a1f0e-6f0e-5d1c-9b7e-2f1d5c0a7e11")


def topic_id(task_key: str) -> UUID:
    """The id that stands for ``task_key`` where only ids are told."""
    return uuid5(_NAMESPACE, task_key)


class Held(msgspec.Struct, frozen=True):
    """A task run in the queue, as it is decided on."""

    task_run_id: UUID
    task_key: str
    parameters_id: UUID | None
    lost: int
    holder: UUID | None
    acknowledged: bool
    lease_until: datetime | None
    state_type: str | None


_HELD = sa.select(
    _queue.c.task_run_id,
    _queue.c.task_key,
    _queue.c.parameters_id,
    _queue.c.lost,
    _queue.c.holder,
    _queue.c.acknowledged,
    _queue.c.lease_until,
    _run.c.state_type,
).select_from(_queue.join(_run, _run.c.id == _queue.c.task_run_id))

_WAITING = Statement(
    _HELD.where(
        _queue.c.task_key == param("task_key", _queue.c.task_key),
        _queue.c.holder.is_(None),
        _queue.c.due <= param("now", _queue.c.due),
    )
    .order_by(_queue.c.due, _queue.c.task_run_id)
    .limit(sa.literal_column("1"))
    .with_for_update(of=_run, skip_locked=True)
)
_NEXT_DUE = Statement(
    sa.select(_queue.c.due)
    .where(_queue.c.task_key == param("task_key", _queue.c.task_key), _queue.c.holder.is_(None))
    .order_by(_queue.c.due, _queue.c.task_run_id)
    .limit(sa.literal_column("1"))
)
_own = _queue.alias()
_BEFORE = Statement(
    sa.select(sa.func.count()).select_from(
        sa.select(_queue.c.task_run_id)
        .select_from(_own.join(_queue, _queue.c.task_key == _own.c.task_key))
        .where(
            _own.c.task_run_id == param("task_run_id", _queue.c.task_run_id),
            _queue.c.holder.is_(None),
            sa.or_(
                _queue.c.due < _own.c.due,
                sa.and_(_queue.c.due == _own.c.due, _queue.c.task_run_id < _own.c.task_run_id),
            ),
        )
        .limit(sa.literal_column("1000"))
        .subquery()
    )
)
_ONE = Statement(_HELD.where(_queue.c.task_run_id == param("task_run_id", _queue.c.task_run_id)))
_OF_HOLDERS = Statement(_HELD.where(AnyOf(_queue.c.holder, "holders")).order_by(_queue.c.task_run_id))
_LAPSED = Statement(
    sa.select(_queue.c.task_run_id)
    .where(_queue.c.lease_until <= param("now", _queue.c.lease_until))
    .order_by(_queue.c.lease_until)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_TAKE = Statement(
    sa.update(_queue)
    .where(_queue.c.task_run_id == param("key_task_run_id", _queue.c.task_run_id), _queue.c.holder.is_(None))
    .values(
        holder=param("holder", _queue.c.holder),
        acknowledged=param("acknowledged", _queue.c.acknowledged),
        lease_until=param("lease_until", _queue.c.lease_until),
    )
    .returning(_queue.c.task_run_id)
)
_KEEP_WAITING = Statement(
    sa.update(_queue)
    .where(
        _queue.c.task_run_id == param("key_task_run_id", _queue.c.task_run_id),
        _queue.c.holder == param("key_holder", _queue.c.holder),
        _queue.c.lease_until == param("key_lease_until", _queue.c.lease_until),
    )
    .values(
        holder=sa.null(), acknowledged=sa.false(), lease_until=sa.null(), lost=param("lost", _queue.c.lost)
    )
    .returning(_queue.c.task_run_id)
)
_HOLD = Statement(
    sa.update(_queue)
    .where(
        _queue.c.task_run_id == param("key_task_run_id", _queue.c.task_run_id),
        _queue.c.holder == param("key_holder", _queue.c.holder),
    )
    .values(
        holder=param("holder", _queue.c.holder),
        acknowledged=param("acknowledged", _queue.c.acknowledged),
        lease_until=param("lease_until", _queue.c.lease_until),
    )
    .returning(_queue.c.task_run_id)
)
_RENEW = Statement(
    sa.update(_queue)
    .where(_queue.c.holder == param("key_holder", _queue.c.holder))
    .values(lease_until=param("lease_until", _queue.c.lease_until))
)
_FORGET = Statement(
    sa.delete(_queue).where(AnyOf(_queue.c.task_run_id, "ids")).returning(_queue.c.task_run_id)
)
_FORGET_WAITING = Statement(
    sa.delete(_queue).where(
        _queue.c.task_run_id == param("task_run_id", _queue.c.task_run_id), _queue.c.holder.is_(None)
    )
)
_ADD = upsert(_queue, ("task_run_id",), ("due", "parameters_id", "holder", "acknowledged", "lease_until"))

_CONNECT = upsert(_worker, ("id",), ("seen",))
_WORKERS = Statement(
    sa.select(_worker.c.client_id, _worker.c.task_keys, _worker.c.seen)
    .where(_worker.c.seen > param("since", _worker.c.seen))
    .order_by(_worker.c.client_id, _worker.c.id)
)
_CONNECTIONS = Statement(
    sa.select(_worker.c.id).where(_worker.c.client_id == param("client_id", _worker.c.client_id))
)
_IS_CONNECTED = Statement(sa.select(_worker.c.id).where(_worker.c.id == param("id", _worker.c.id)))
_DROP_UNSEEN = Statement(sa.delete(_worker).where(_worker.c.seen <= param("before", _worker.c.seen)))
_ANY_UNSEEN = Statement(
    sa.select(_worker.c.id)
    .where(_worker.c.seen <= param("before", _worker.c.seen))
    .limit(sa.literal_column("1"))
)


# What waits


def follow(run_id: UUID, task_key: str, state: State) -> Steps[None]:
    """Keep the queue as the state of a task run that came over REST has it (wire 4.3).

    One that is scheduled for a task worker waits, one that ended is forgotten, and so is one that somebody
    else than a task worker runs.
    """
    if is_queued(state):
        details = state.state_details
        yield _ADD(
            task_run_id=run_id,
            task_key=task_key,
            due=details.scheduled_time or state.timestamp,
            parameters_id=details.task_parameters_id,
            lost=0,
            holder=None,
            acknowledged=False,
            lease_until=None,
        )
        yield Note(TOPIC, topic_id(task_key))
    elif state.is_final():
        yield from forget([run_id])
    else:
        yield _FORGET_WAITING(task_run_id=run_id)


def forget(run_ids: Sequence[UUID]) -> Steps[None]:
    """These task runs are over."""
    yield _FORGET(ids=list(run_ids))


def first_waiting(task_key: str, now: datetime) -> Steps[Held | None]:
    """The task run of the key that is due for longest, locked; those that others look at are passed over."""
    found = yield _WAITING(task_key=task_key, now=now)
    return Held(*found[0]) if found else None


def next_due(task_keys: Sequence[str]) -> Steps[datetime | None]:
    """When the first task run of these keys is due; None when none waits."""
    first: datetime | None = None
    for key in task_keys:
        found = yield _NEXT_DUE(task_key=key)
        if found and (first is None or found[0][0] < first):
            first = found[0][0]
    return first


# Who holds it


def one(run_id: UUID) -> Steps[Held | None]:
    """The task run as it stands in the queue."""
    found = yield _ONE(task_run_id=run_id)
    return Held(*found[0]) if found else None


def count_before(run_id: UUID) -> Steps[int]:
    """How many task runs of the same key are handed out before this one; at most 1,000 are counted."""
    return int((yield _BEFORE(task_run_id=run_id))[0][0])


def held_by(holders: Sequence[UUID]) -> Steps[list[Held]]:
    """What these connections hold."""
    found = yield _OF_HOLDERS(holders=list(holders))
    return [Held(*row) for row in found]


def lapsed(now: datetime, limit: int) -> Steps[list[UUID]]:
    """Task runs whose lease is over."""
    found = yield _LAPSED(now=now, limit=limit)
    return [row[0] for row in found]


def take(run_id: UUID, holder: UUID, lease_until: datetime, *, acknowledged: bool = False) -> Steps[bool]:
    """Let ``holder`` have a task run that waits; False when it does not."""
    found = yield _TAKE(
        key_task_run_id=run_id, holder=holder, acknowledged=acknowledged, lease_until=lease_until
    )
    return bool(found)


def keep_waiting(held: Held, lost: int) -> Steps[bool]:
    """Let the task run wait again, if it stands as ``held`` says; ``lost`` task workers went with it."""
    found = yield _KEEP_WAITING(
        key_task_run_id=held.task_run_id, key_holder=held.holder, key_lease_until=held.lease_until, lost=lost
    )
    return bool(found)


def hold(run_id: UUID, was: UUID, holder: UUID, lease_until: datetime) -> Steps[bool]:
    """Hand the task run, which is acknowledged, from one connection to another (or the same) with a lease."""
    found = yield _HOLD(
        key_task_run_id=run_id, key_holder=was, holder=holder, acknowledged=True, lease_until=lease_until
    )
    return bool(found)


def renew(holder: UUID, lease_until: datetime) -> Steps[None]:
    """Extend the leases of all that the connection holds."""
    yield _RENEW(key_holder=holder, lease_until=lease_until)


# Task workers


def see_worker(id_: UUID, client_id: str, task_keys: Sequence[str], now: datetime) -> Steps[None]:
    """The task worker is connected."""
    yield _CONNECT(id=id_, client_id=client_id, task_keys=list(task_keys), seen=now)


def drop_worker(id_: UUID) -> Steps[None]:
    """The connection is over."""
    yield delete(_worker)(key=id_)


def connections_of(client_id: str) -> Steps[list[UUID]]:
    """The connections that a client has, or had on a server that is gone."""
    found = yield _CONNECTIONS(client_id=client_id)
    return [row[0] for row in found]


def is_connected(id_: UUID) -> Steps[bool]:
    """Whether this connection is there, as far as anybody knows."""
    found = yield _IS_CONNECTED(id=id_)
    return bool(found)


def drop_unseen(before: datetime) -> Steps[None]:
    """Forget connections that were not heard of since ``before``: their server is gone."""
    if (yield _ANY_UNSEEN(before=before)):
        yield _DROP_UNSEEN(before=before)


def read_workers(task_keys: Sequence[str], since: datetime) -> Steps[list[TaskWorker]]:
    """The task workers that were heard of after ``since`` and serve one of the keys, all when none is given.

    The connections of one client are one task worker.
    """
    found = yield _WORKERS(since=since)
    workers: dict[str, TaskWorker] = {}
    for client_id, keys, seen in found:
        known = workers.get(client_id)
        served = {*keys, *(known.task_keys if known else ())}
        timestamp = max(seen, known.timestamp) if known else seen
        workers[client_id] = TaskWorker(identifier=client_id, task_keys=sorted(served), timestamp=timestamp)
    wanted = set(task_keys)
    return [one for one in workers.values() if not wanted or not wanted.isdisjoint(one.task_keys)]
