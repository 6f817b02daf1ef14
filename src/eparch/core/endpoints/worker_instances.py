"""Instances of workers, their orders and their logs: endpoints of ours (rows W11, W18, W29)."""

from __future__ import annotations

from eparch.core.endpoint import Endpoint
from eparch.core.worker_instances import (
    DrainWorker,
    InstanceQuery,
    LineQuery,
    WorkerInstance,
    WorkerLine,
    WorkerLines,
    WorkerOrders,
    WorkerReport,
)

report_worker: Endpoint[WorkerOrders] = Endpoint(
    "POST",
    "/work_pools/{work_pool_name}/workers/report",
    WorkerOrders,
    body=WorkerReport,
    tag="Work Pools",
    idempotent=True,
)
drain_worker: Endpoint[list[WorkerInstance]] = Endpoint(
    "POST",
    "/work_pools/{work_pool_name}/workers/{name}/drain",
    list[WorkerInstance],
    body=DrainWorker,
    tag="Work Pools",
    idempotent=True,
)
read_worker_instances: Endpoint[list[WorkerInstance]] = Endpoint(
    "POST",
    "/worker_instances/filter",
    list[WorkerInstance],
    body=InstanceQuery,
    tag="Work Pools",
    idempotent=True,
)
create_worker_logs: Endpoint[None] = Endpoint(
    "POST", "/worker_instances/{id}/logs", None, body=WorkerLines, status=204, tag="Work Pools"
)
read_worker_logs: Endpoint[list[WorkerLine]] = Endpoint(
    "POST",
    "/work_pools/{work_pool_name}/workers/{name}/logs",
    list[WorkerLine],
    body=LineQuery,
    tag="Work Pools",
    idempotent=True,
)
