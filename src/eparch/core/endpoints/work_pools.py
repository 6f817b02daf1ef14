"""Work pools, their queues and their workers: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.endpoint import Endpoint
from eparch.core.pools import (
    ClaimRuns,
    DueRun,
    DueRuns,
    Heartbeat,
    RenewClaims,
    Renewed,
    Work,
    Worker,
    WorkPool,
    WorkPoolCreate,
    WorkPoolUpdate,
    WorkQueue,
    WorkQueueCreate,
    WorkQueueUpdate,
)
from eparch.core.queue_status import PoolSlots, PoolSlotsPage

create_work_pool: Endpoint[WorkPool] = Endpoint(
    "POST", "/work_pools/", WorkPool, body=WorkPoolCreate, status=201, tag="Work Pools"
)
read_work_pool: Endpoint[WorkPool] = Endpoint("GET", "/work_pools/{name}", WorkPool, tag="Work Pools")
update_work_pool: Endpoint[None] = Endpoint(
    "PATCH", "/work_pools/{name}", None, body=WorkPoolUpdate, status=204, tag="Work Pools"
)
delete_work_pool: Endpoint[None] = Endpoint(
    "DELETE", "/work_pools/{name}", None, status=204, tag="Work Pools"
)
read_work_pools: Endpoint[list[WorkPool]] = Endpoint(
    "POST",
    "/work_pools/filter",
    list[WorkPool],
    body=filters.READ_WORK_POOLS,
    tag="Work Pools",
    idempotent=True,
)
read_due_runs: Endpoint[list[DueRun]] = Endpoint(
    "POST",
    "/work_pools/{name}/get_scheduled_flow_runs",
    list[DueRun],
    body=DueRuns,
    tag="Work Pools",
    idempotent=True,
)
claim_runs: Endpoint[Work] = Endpoint(
    "POST", "/work_pools/{name}/claim", Work, body=ClaimRuns, tag="Work Pools", idempotent=True
)
renew_claims: Endpoint[Renewed] = Endpoint(
    "POST", "/work_pools/{name}/claims/renew", Renewed, body=RenewClaims, tag="Work Pools", idempotent=True
)
create_work_queue: Endpoint[WorkQueue] = Endpoint(
    "POST",
    "/work_pools/{work_pool_name}/queues",
    WorkQueue,
    body=WorkQueueCreate,
    status=201,
    tag="Work Pools",
)
read_work_queue_by_name: Endpoint[WorkQueue] = Endpoint(
    "GET", "/work_pools/{work_pool_name}/queues/{name}", WorkQueue, tag="Work Pools"
)
update_work_queue: Endpoint[None] = Endpoint(
    "PATCH",
    "/work_pools/{work_pool_name}/queues/{name}",
    None,
    body=WorkQueueUpdate,
    status=204,
    tag="Work Pools",
)
delete_work_queue: Endpoint[None] = Endpoint(
    "DELETE", "/work_pools/{work_pool_name}/queues/{name}", None, status=204, tag="Work Pools"
)
read_pool_queues: Endpoint[list[WorkQueue]] = Endpoint(
    "POST",
    "/work_pools/{work_pool_name}/queues/filter",
    list[WorkQueue],
    body=filters.READ_WORK_QUEUES,
    tag="Work Pools",
    idempotent=True,
)
heartbeat_worker: Endpoint[None] = Endpoint(
    "POST",
    "/work_pools/{work_pool_name}/workers/heartbeat",
    None,
    body=Heartbeat,
    status=204,
    tag="Work Pools",
    idempotent=True,
)
read_workers: Endpoint[list[Worker]] = Endpoint(
    "POST",
    "/work_pools/{work_pool_name}/workers/filter",
    list[Worker],
    body=filters.READ_WORKERS,
    tag="Work Pools",
    idempotent=True,
)
delete_worker: Endpoint[None] = Endpoint(
    "DELETE", "/work_pools/{work_pool_name}/workers/{name}", None, status=204, tag="Work Pools"
)
count_work_pools: Endpoint[int] = Endpoint(
    "POST", "/work_pools/count", int, body=filters.COUNT_WORK_POOLS, tag="Work Pools", idempotent=True
)
read_work_pool_slots: Endpoint[PoolSlots] = Endpoint(
    "POST",
    "/work_pools/{name}/concurrency_status",
    PoolSlots,
    body=PoolSlotsPage,
    tag="Work Pools",
    idempotent=True,
)
