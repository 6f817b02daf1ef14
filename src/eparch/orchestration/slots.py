"""Whether there is room: slots of work pools, queues and deployments, all counted from claims (P14, B4).

Owns the counting. What follows from a full limit is decided in ``core.transitions``.
"""

from __future__ import annotations

from uuid import UUID

from eparch.core.decisions import Slot
from eparch.core.deployments import CollisionStrategy
from eparch.core.model import new_id
from eparch.store import claims, runs
from eparch.store.runs import Stored
from eparch.store.statement import Steps

Queue = tuple[UUID, str, bool, int | None, int]
"""``(id, name, is_paused, concurrency_limit, priority)``"""

UNLIMITED = 1_000_000


def free_slots(pool_id: UUID, pool_limit: int | None, queue: Queue) -> Steps[int]:
    """How many more runs of the queue may be claimed; every run of the pool counts, of paused queues too."""
    queue_id, _, is_paused, queue_limit, _ = queue
    if is_paused:
        return 0
    if pool_limit is None and queue_limit is None:
        return UNLIMITED
    held = yield from claims.held(pool_id)
    free = UNLIMITED
    if pool_limit is not None:
        free = min(free, pool_limit - sum(held.values()))
    if queue_limit is not None:
        free = min(free, queue_limit - held.get(queue_id, 0))
    return max(free, 0)


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
        superseded=tuple(superseded),
    )
