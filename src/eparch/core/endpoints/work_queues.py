"""Work queues by id: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.endpoint import Endpoint
from eparch.core.pools import WorkQueue

read_work_queue: Endpoint[WorkQueue] = Endpoint("GET", "/work_queues/{id}", WorkQueue, tag="Work Queues")
read_work_queues: Endpoint[list[WorkQueue]] = Endpoint(
    "POST",
    "/work_queues/filter",
    list[WorkQueue],
    body=filters.READ_WORK_QUEUES,
    tag="Work Queues",
    idempotent=True,
)
