"""Work queues by id: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.endpoint import Endpoint
from eparch.core.pools import WorkQueue, WorkQueueCreate, WorkQueueUpdate
from eparch.core.queue_status import QueueHealth, QueueRuns, QueueSlots, SlotsPage
from eparch.core.runs import FlowRun

read_work_queue: Endpoint[WorkQueue] = Endpoint("GET", "/work_queues/{id}", WorkQueue, tag="Work Queues")
read_work_queues: Endpoint[list[WorkQueue]] = Endpoint(
    "POST",
    "/work_queues/filter",
    list[WorkQueue],
    body=filters.READ_WORK_QUEUES,
    tag="Work Queues",
    idempotent=True,
)
create_default_pool_queue: Endpoint[WorkQueue] = Endpoint(
    "POST", "/work_queues/", WorkQueue, body=WorkQueueCreate, status=201, tag="Work Queues"
)
read_default_pool_queue: Endpoint[WorkQueue] = Endpoint(
    "GET", "/work_queues/name/{name}", WorkQueue, tag="Work Queues"
)
update_work_queue_by_id: Endpoint[None] = Endpoint(
    "PATCH", "/work_queues/{id}", None, body=WorkQueueUpdate, status=204, tag="Work Queues"
)
delete_work_queue_by_id: Endpoint[None] = Endpoint(
    "DELETE", "/work_queues/{id}", None, status=204, tag="Work Queues"
)
read_work_queue_health: Endpoint[QueueHealth] = Endpoint(
    "GET", "/work_queues/{id}/status", QueueHealth, tag="Work Queues"
)
read_work_queue_slots: Endpoint[QueueSlots] = Endpoint(
    "POST",
    "/work_queues/{id}/concurrency_status",
    QueueSlots,
    body=SlotsPage,
    tag="Work Queues",
    idempotent=True,
)
read_work_queue_runs: Endpoint[list[FlowRun]] = Endpoint(
    "POST",
    "/work_queues/{id}/get_runs",
    list[FlowRun],
    body=QueueRuns,
    tag="Work Queues",
    idempotent=True,
)
