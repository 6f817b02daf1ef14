"""Whether there is room: slots of work pools, queues and deployments, all counted from claims (P14, B4).

Owns the counting. What follows from a full limit is decided in ``core.transitions``.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.decisions import Slot
from eparch.core.deployments import CollisionStrategy
from eparch.core.model import new_id
from eparch.store import claims, runs
from eparch.store.runs import Stored
from eparch.store.statement import Note, Steps

logger = logging.getLogger("eparch.server")

Queue = tuple[UUID, str, bool, int | None, int]
"""``(id, name, is_paused, concurrency_limit, priority)``"""

UNLIMITED = 1_000_000

FIRST_LEASE_SECONDS = 300.0
"""How long a run may take to begin before its slot is free again; Prefect's default."""


class Room(msgspec.Struct, frozen=True):
    """The limits that a run of a queue meets, and how many slots of each are taken."""

    pool_limit: int | None
    pool_taken: int
    queue_limit: int | None
    queue_taken: int
    is_paused: bool

    @property
    def pool_free(self) -> int:
        """Slots of the pool that nobody holds."""
        return UNLIMITED if self.pool_limit is None else max(self.pool_limit - self.pool_taken, 0)

    @property
    def queue_free(self) -> int:
        """Slots of the queue that nobody holds; a paused one has none to give."""
        if self.is_paused:
            return 0
        return UNLIMITED if self.queue_limit is None else max(self.queue_limit - self.queue_taken, 0)

    @property
    def free(self) -> int:
        """How many more runs of the queue may be claimed."""
        return min(self.pool_free, self.queue_free)


def room(pool_id: UUID, pool_limit: int | None, queue: Queue) -> Steps[Room]:
    """How the limits of pool and queue stand; every run of the pool counts, of paused queues too (P14)."""
    queue_id, _, is_paused, queue_limit, _ = queue
    held: dict[UUID | None, int] = {}
    if not is_paused and not (pool_limit is None and queue_limit is None):
        held = yield from claims.held(pool_id)
    return Room(pool_limit, sum(held.values()), queue_limit, held.get(queue_id, 0), is_paused)


def free_slots(pool_id: UUID, pool_limit: int | None, queue: Queue) -> Steps[int]:
    """How many more runs of the queue may be claimed."""
    return (yield from room(pool_id, pool_limit, queue)).free


def pool_is_full(stored: Stored) -> Steps[bool]:
    """Whether pool or queue have no slot left for the run, for workers that claim by proposing PENDING."""
    run = stored.run
    if run.work_pool_name is None or run.work_pool_id is None or stored.claim is not None:
        return False
    pool = yield from claims.read_pool(run.work_pool_name)
    queues = yield from claims.read_queues(run.work_pool_id)
    queue = next((queue for queue in queues if queue[0] == run.work_queue_id), None)
    if pool is None or queue is None or (pool[2] is None and queue[3] is None):
        return False
    yield from claims.lock_pool(run.work_pool_id)
    # Pausing keeps runs from being handed out; one that was handed out before may still begin.
    free = yield from free_slots(run.work_pool_id, pool[2], (*queue[:2], False, *queue[3:]))
    return free <= 0


def deployment_slot(stored: Stored) -> Steps[Slot | None]:
    """How the concurrency limit of the run's deployment stands (wire 4.5); None without one."""
    if stored.slot_limit is None or stored.run.deployment_id is None:
        return None
    taken = yield from runs.slots_taken(stored.run.deployment_id)
    options = stored.slot_options or {}
    strategy = CollisionStrategy(options.get("collision_strategy", "ENQUEUE"))
    superseded: list[UUID] = []
    if strategy is CollisionStrategy.CANCEL_RUNNING and taken >= stored.slot_limit:
        others = yield from claims.contenders(stored.run.deployment_id)
        others = [run_id for run_id in others if run_id != stored.run.id]
        superseded = others[: max(len(others) + 1 - stored.slot_limit, 0)]
    state = stored.run.state
    named = state.state_details.deployment_concurrency_lease_id if state is not None else None
    return Slot(
        limit=stored.slot_limit,
        free=max(stored.slot_limit - taken, 0),
        lease_id=new_id(),
        held=stored.slot_id is not None and stored.slot_id == named,
        strategy=strategy,
        grace_seconds=_grace(options),
        superseded=tuple(superseded),
    )


def _grace(options: dict[str, Any]) -> float:
    return float(options.get("grace_period_seconds") or FIRST_LEASE_SECONDS)


def free_lapsed(now: datetime) -> Steps[int]:
    """Free the slots of runs that were to renew them by ``now`` and did not; how many there were.

    Only those of stock clients have a lease of their own: ours hold a slot as long as their claim. The run
    itself goes on; when it begins, or renews, it learns that its slot is gone (wire 4.5).
    """
    freed = yield from claims.free_lapsed_slots(now)
    for run_id, pool_id in freed:
        logger.info("The concurrency slot of the run %s was not renewed and is free again.", run_id)
        if pool_id is not None:
            yield Note("work", pool_id)
    return len(freed)
