"""Task workers: the endpoint (wire section 3)."""

from __future__ import annotations

from eparch.core.endpoint import Endpoint
from eparch.core.task_workers import ReadTaskWorkers, TaskWorker

read_task_workers: Endpoint[list[TaskWorker]] = Endpoint(
    "POST",
    "/task_workers/filter",
    list[TaskWorker],
    body=ReadTaskWorkers,
    tag="Task Workers",
    idempotent=True,
)
