"""Keeps what workers report of themselves and what they say, and tells them their orders (W11, W18, W29).

Owns that a worker that is seen often is written down seldom, and that what is kept has a bound. How an
instance stands is decided in ``core.worker_instances``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid5

import msgspec

from eparch.core.errors import Conflict, NotFound, did_you_mean
from eparch.core.model import new_id
from eparch.core.pools import Heartbeat
from eparch.core.worker_instances import (
    KEPT_INSTANCES,
    KEPT_LINES,
    WRITE_EVERY,
    About,
    InstanceQuery,
    InstanceStatus,
    Keeping,
    LineQuery,
    WorkerInstance,
    WorkerLine,
    WorkerLineCreate,
    WorkerOrder,
    WorkerOrders,
    WorkerReport,
    within_bounds,
)
from eparch.orchestration.pools import heartbeat
from eparch.store import claims, worker_instances
from eparch.store.statement import Note, Steps

_NAMESPACE = UUID("0b8f5c52-3a53-5c0f-8f0e-5d6f6c1f7d10")


def _pool_id(name: str) -> Steps[UUID]:
    pool = yield from claims.read_pool(name)
    if pool is None:
        raise NotFound(f'Work pool "{name}" not found.')
    return pool[0]


def report(pool_name: str, body: WorkerReport, now: datetime, keeping: Keeping) -> Steps[WorkerOrders]:
    """Keep what the worker says of itself; what it is to do.

    Raises:
        NotFound: there is no such pool.
        Conflict: the id is of another worker.
    """
    pool_id = yield from _pool_id(pool_name)
    known = yield from worker_instances.read(body.id)
    if known is not None and (known.work_pool_id, known.name) != (pool_id, body.name):
        raise Conflict(
            f"The worker instance {body.id} is not one of '{body.name}'.",
            why=f"It is one of '{known.name}' in the pool '{known.work_pool_name}'.",
            fix="Make a new id for each process.",
        )
    if known is not None and known.stopped_at is not None:
        # It was sent before the last word and overtaken by it.
        return WorkerOrders(order=known.order)
    if known is None:
        # As a claim does: first the pool, then the worker.
        yield from claims.lock_pool(pool_id)
    if not body.stopped:
        interval = max(round(body.heartbeat_interval_seconds), 1)
        beat = Heartbeat(name=body.name, heartbeat_interval_seconds=interval)
        yield from heartbeat(pool_name, beat, now)
    if known is None:
        yield from worker_instances.forget(pool_id, keeping.since(now), KEPT_INSTANCES - 1)
    yield from worker_instances.write(
        {
            "id": body.id,
            "created": now,
            "work_pool_id": pool_id,
            "name": body.name,
            "started_at": body.started_at,
            "seen_at": now,
            "last_polled_at": None,
            "last_heartbeat_at": now,
            "stopped_at": now if body.stopped else None,
            "heartbeat_interval_seconds": body.heartbeat_interval_seconds,
            "poll_interval_seconds": body.poll_interval_seconds,
            "worker_order": WorkerOrder.WORK.value,
            "draining": body.draining,
            "about": body.about,
        }
    )
    return WorkerOrders(order=known.order if known is not None else WorkerOrder.WORK)


def note_stock(
    pool_id: UUID, name: str, interval: float | None, about: About, now: datetime, keeping: Keeping,
    *, instance_id: UUID | None = None,
) -> Steps[None]:  # fmt: skip
    """Keep what is known of a worker that only says its name: one of Prefect's (row W11).

    Without an ``instance_id`` it is the one of its name, and has begun anew when it was gone before.
    """
    own = instance_id or uuid5(_NAMESPACE, f"{pool_id}/{name}")
    known = yield from worker_instances.read(own)
    if known is None:
        yield from worker_instances.forget(pool_id, keeping.since(now), KEPT_INSTANCES - 1)
    elif (known.work_pool_id, known.name) != (pool_id, name):
        return
    lives = known is not None and keeping.shown(known, now).status is not InstanceStatus.OFFLINE
    yield from worker_instances.write(
        {
            "id": own,
            "created": now,
            "work_pool_id": pool_id,
            "name": name,
            "started_at": known.started_at if known is not None and (lives or instance_id) else now,
            "seen_at": now,
            "last_polled_at": None,
            "last_heartbeat_at": now,
            "stopped_at": None,
            "heartbeat_interval_seconds": interval,
            "poll_interval_seconds": None,
            "worker_order": WorkerOrder.WORK.value,
            "draining": False,
            "about": about,
        }
    )


def stock_heartbeat(
    pool_name: str, body: Heartbeat, about: About, now: datetime, keeping: Keeping
) -> Steps[None]:
    """A worker that says its name is alive.

    Raises:
        NotFound: there is no such pool.
    """
    pool_id = yield from _pool_id(pool_name)
    interval = within_bounds(body.heartbeat_interval_seconds)
    yield from note_stock(pool_id, body.name, interval, about, now, keeping)
    yield from heartbeat(pool_name, body, now)


def polled(instance_id: UUID | None, pool_id: UUID, now: datetime) -> Steps[tuple[WorkerOrder, bool]]:
    """The instance asks for runs; what it is to do, and whether it is given any.

    One that drains, or has ended, asked before it did; what it hands back must not come to itself. That it
    asked is written down once in ``WRITE_EVERY``.
    """
    found = None
    if instance_id is not None:
        found = yield from worker_instances.read_poll(instance_id, pool_id)
    if instance_id is None or found is None:
        return WorkerOrder.WORK, True
    order, leaves, before = found
    if before is None or now - before >= WRITE_EVERY:
        yield from worker_instances.mark_polled(instance_id, now)
    return order, order is WorkerOrder.WORK and not leaves


def drain(
    pool_name: str, name: str, order: WorkerOrder, now: datetime, keeping: Keeping
) -> Steps[list[WorkerInstance]]:
    """Order every living process of the worker to do so; they hear of it at once.

    Raises:
        NotFound: there is no such pool or worker.
        Conflict: no process of it lives, or it is one that takes no orders.
    """
    pool_id = yield from _pool_id(pool_name)
    everyone = yield from worker_instances.read_many(
        keeping.since(now), KEPT_INSTANCES, 0, work_pool_id=pool_id
    )
    own = [keeping.shown(one, now) for one in everyone if one.name == name]
    if not own:
        names = {one.name for one in everyone}
        raise NotFound(f"There is no worker '{name}' in '{pool_name}'.", fix=did_you_mean(name, names))
    living = [one for one in own if one.status is not InstanceStatus.OFFLINE]
    if not living:
        raise Conflict(f"The worker '{name}' is offline.", why=own[0].reason, fix="Nothing is to be drained.")
    hearing = [one for one in living if one.poll_interval_seconds is not None]
    if not hearing:
        raise Conflict(
            f"The worker '{name}' takes no orders.",
            why="It is one of Prefect's, which ask for runs without saying who they are.",
            fix="Send its process a SIGTERM, or pause its queue.",
        )
    for one in hearing:
        yield from worker_instances.write_order(one.id, order)
    yield Note("work", pool_id)
    return [keeping.shown(msgspec.structs.replace(one, order=order), now) for one in hearing]


def read_instances(
    query: InstanceQuery, limit: int, now: datetime, keeping: Keeping
) -> Steps[list[WorkerInstance]]:
    """Instances with their status, the one seen last first.

    Raises:
        NotFound: the pool that is named is not there.
    """
    pool_id = None
    if query.work_pool_name is not None:
        pool_id = yield from _pool_id(query.work_pool_name)
    found = yield from worker_instances.read_many(
        keeping.since(now), limit, query.offset, work_pool_id=pool_id, name=query.name
    )
    return [keeping.shown(one, now) for one in found]


def add_lines(instance_id: UUID, lines: Sequence[WorkerLineCreate]) -> Steps[None]:
    """Keep what a worker said; the last ``KEPT_LINES`` of each instance stay.

    Raises:
        NotFound: there is no such instance.
    """
    if (yield from worker_instances.read(instance_id)) is None:
        raise NotFound(f"There is no worker instance {instance_id}.", fix="Report the worker first.")
    rows = [
        {
            "id": new_id(),
            "instance_id": instance_id,
            "timestamp": line.timestamp,
            "level": line.level,
            "message": line.message.replace("\x00", "\ufffd"),
        }
        for line in lines
    ]
    if rows:
        yield from worker_instances.add_lines(instance_id, rows, KEPT_LINES)


def read_lines(pool_name: str, name: str, query: LineQuery, limit: int) -> Steps[list[WorkerLine]]:
    """The last lines of the worker, of all its processes, or those after one; oldest first.

    Raises:
        NotFound: there is no such pool.
    """
    pool_id = yield from _pool_id(pool_name)
    found = yield from worker_instances.read_lines(
        pool_id, name, limit, after=query.after, least_level=query.least_level
    )
    return found
