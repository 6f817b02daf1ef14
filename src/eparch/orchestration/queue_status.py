"""How queues and pools stand: health and slots."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from eparch.core.errors import NotFound
from eparch.core.listing import page_of
from eparch.core.queue_status import HealthPolicy, QueueHealth
from eparch.store import pools, queue_status, rows
from eparch.store.statement import Steps


def health(queue_id: UUID, now: datetime) -> Steps[QueueHealth]:
    """Whether the queue is polled and has no late run.

    Raises:
        NotFound: there is no such queue.
    """
    queue = yield from pools.read_queue(queue_id, now)
    if queue is None:
        raise NotFound(f"Work queue with id {queue_id} not found")
    late = yield from queue_status.late_runs(queue_id)
    policy, polled = HealthPolicy(), queue["last_polled"]
    return QueueHealth(
        healthy=policy.admits(late, polled, now),
        late_runs_count=late,
        last_polled=polled,
        health_check_policy=policy,
    )


def queue_slots(queue_id: UUID, page: int, limit: int, now: datetime) -> Steps[dict[str, Any]]:
    """The slots of the queue and a page of those who hold them.

    Raises:
        NotFound: there is no such queue.
    """
    queue = yield from pools.read_queue(queue_id, now)
    if queue is None:
        raise NotFound("Work queue not found.")
    taken = queue["active_slots"]
    holders = yield from queue_status.holders(queue_id, limit, (page - 1) * limit, now)
    answer = page_of(holders, taken, limit, page)
    answer["flow_runs"] = answer.pop("results")
    return {**answer, "active_slots": taken, "concurrency_limit": queue["concurrency_limit"]}


def pool_slots(name: str, page: int, limit: int, runs_of_each: int, now: datetime) -> Steps[dict[str, Any]]:
    """The slots of the pool and a page of its queues, each with the first who hold its slots.

    Raises:
        NotFound: there is no such pool.
    """
    pool = yield from pools.read_pool(name, now)
    if pool is None:
        raise NotFound(f"Work pool '{name}' not found.")
    pool_id = rows.id_of(pool["id"])
    queues = []
    for id_, queue_name, bound, taken in (yield from queue_status.queues(pool_id, limit, (page - 1) * limit)):
        holders = []
        if taken and runs_of_each:
            holders = yield from queue_status.holders(id_, runs_of_each, 0, now)
        queues.append(
            {
                "queue_id": id_,
                "queue_name": queue_name,
                "active_slots": taken,
                "concurrency_limit": bound,
                "flow_runs": holders,
                "flow_run_count": taken,
            }
        )
    count = yield from queue_status.count_queues(pool_id)
    answer = page_of(queues, count, limit, page)
    answer["queues"] = answer.pop("results")
    return {**answer, "active_slots": pool["active_slots"], "concurrency_limit": pool["concurrency_limit"]}
