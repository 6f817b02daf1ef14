"""Instances of workers: what they report, what they are ordered to do, what they said."""

from __future__ import annotations

from uuid import UUID

from eparch.api.request import Request
from eparch.api.router import handles
from eparch.core import calls
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
from eparch.orchestration import worker_instances


@handles(calls.report_worker)
async def report_worker(request: Request, work_pool_name: str, body: WorkerReport) -> WorkerOrders:
    """A worker says how it is, and is told what to do."""
    keeping = request.services.policy.keeping
    return await request.write(worker_instances.report, work_pool_name, body, request.now, keeping)


@handles(calls.drain_worker)
async def drain_worker(
    request: Request, work_pool_name: str, name: str, body: DrainWorker
) -> list[WorkerInstance]:
    """Order every process of a worker to take no more runs, or to take them again."""
    keeping = request.services.policy.keeping
    return await request.write(worker_instances.drain, work_pool_name, name, body.order, request.now, keeping)


@handles(calls.read_worker_instances)
async def read_worker_instances(request: Request, body: InstanceQuery) -> list[WorkerInstance]:
    """Processes that serve or served a pool, with their status now."""
    limit, keeping = request.limit(body.limit), request.services.policy.keeping
    return await request.scan(worker_instances.read_instances, body, limit, request.now, keeping)


@handles(calls.create_worker_logs)
async def create_worker_logs(request: Request, id: UUID, body: WorkerLines) -> None:
    """Keep lines that a worker said."""
    await request.write(worker_instances.add_lines, id, body.lines)


@handles(calls.read_worker_logs)
async def read_worker_logs(
    request: Request, work_pool_name: str, name: str, body: LineQuery
) -> list[WorkerLine]:
    """The last lines of a worker."""
    limit = request.limit(body.limit)
    return await request.scan(worker_instances.read_lines, work_pool_name, name, body, limit)
