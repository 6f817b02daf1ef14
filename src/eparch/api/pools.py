"""Work pools, queues, workers and claims."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from msgspec.structs import asdict

from eparch.api.request import Answer, Disconnected, Request, found
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.errors import NotFound
from eparch.core.filters import Query
from eparch.core.infrastructure_types import NAMES, read_type
from eparch.core.job_templates import WARNING_HEADER, warnings_of
from eparch.core.model import Json
from eparch.core.pools import (
    ClaimRuns,
    ClaimServed,
    DueRuns,
    Heartbeat,
    RenewClaims,
    Renewed,
    Work,
    WorkPoolCreate,
    WorkPoolUpdate,
    WorkQueueCreate,
    WorkQueueUpdate,
)
from eparch.core.queue_status import DEFAULT_POOL, PoolSlotsPage, QueueRuns, SlotsPage
from eparch.core.worker_instances import About
from eparch.orchestration import claims, queue_status, worker_instances
from eparch.orchestration import pools as changes
from eparch.store import pools

VIEWS = ("aggregate-worker-metadata", "aggregate-block-metadata", "aggregate-flow-metadata", "demo-flows")
"""Names of views that clients ask for; only the first has something here."""

MAX_WARNING = 2000
"""Characters of a header."""

EVER = datetime(9999, 1, 1, tzinfo=UTC)
"""Who polls without `scheduled_before` is told of every planned run, as by Prefect's server."""


@handles(calls.read_collection_view)
async def read_collection_view(request: Request, view: str) -> dict[str, Json]:
    """What there is: types of workers by package, with their default templates (wire 4.4, "New pool")."""
    if view not in VIEWS:
        raise NotFound(f"View {view} not found in registry")
    if view != VIEWS[0]:
        return {}
    listed: dict[str, dict[str, Json]] = {}
    for kind in [asdict(read_type(name)) for name in NAMES] + request.services.worker_types():
        listed.setdefault(kind["package"], {}).setdefault(kind["type"], kind)
    return listed


@handles(calls.create_work_pool)
async def create_work_pool(request: Request, body: WorkPoolCreate) -> Answer:
    """Make a pool with its default queue."""
    made = await request.write(changes.create_pool, body, request.now)
    return Answer(201, made, _warning(body.base_job_template))


def _warning(template: Any) -> dict[str, str]:
    """The header that tells what is odd about a template; none if nothing is (row P6)."""
    said = "; ".join(warnings_of(template)) if template else ""
    text = " ".join(said.encode("ascii", "replace").decode().split())[:MAX_WARNING]
    return {WARNING_HEADER: text} if text else {}


@handles(calls.read_work_pool)
async def read_work_pool(request: Request, name: str) -> Any:
    """One pool."""
    return found(await request.read(pools.read_pool, name, request.now), f'Work pool "{name}" not found.')


@handles(calls.update_work_pool)
async def update_work_pool(request: Request, name: str, body: WorkPoolUpdate) -> Answer:
    """Change what the body names."""
    await request.write(changes.update_pool, name, body, request.now)
    return Answer(204, None, _warning(body.base_job_template))


@handles(calls.delete_work_pool)
async def delete_work_pool(request: Request, name: str) -> None:
    """Delete a pool with its queues and workers."""
    await request.write(changes.delete_pool, name, request.now)


@handles(calls.read_work_pools)
async def read_work_pools(request: Request, body: Query) -> Any:
    """A page of pools."""
    return await request.scan(pools.read_pools, body, request.now)


@handles(calls.read_due_runs)
async def read_due_runs(request: Request, name: str, body: DueRuns) -> Any:
    """Due runs of the pool, not claimed: what stock workers poll (wire 4.4)."""
    now = request.now
    return await request.write(
        claims.due_runs,
        name,
        body.work_queue_names,
        body.scheduled_before or EVER,
        now,
        request.limit(body.limit),
        body.scheduled_after,
    )


@handles(calls.claim_runs)
async def claim_runs(request: Request, name: str, body: ClaimRuns) -> Work:
    """Claim due runs, waiting for some as long as the worker asks for and stays (rows W15, W16)."""
    services = request.services
    return await _while_there(request, body, services.waiters.claim(services.database, name, body))


@handles(calls.claim_served_runs)
async def claim_served_runs(request: Request, body: ClaimServed) -> Work:
    """The same for a process that serves deployments (row D23)."""
    services = request.services
    return await _while_there(request, body, services.waiters.claim_served(services.database, body))


async def _while_there(request: Request, body: ClaimRuns, claim: Coroutine[Any, Any, Work]) -> Work:
    if not body.wait_seconds:
        return await claim
    claiming = asyncio.ensure_future(claim)
    leaving = asyncio.ensure_future(request.until_disconnect())
    try:
        await asyncio.wait((claiming, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not claiming.done():
            raise Disconnected
        return claiming.result()
    finally:
        # What was claimed for a worker that has gone is answered when it asks again with its claim id.
        claiming.cancel()
        leaving.cancel()


@handles(calls.renew_claims)
async def renew_claims(request: Request, name: str, body: RenewClaims) -> Renewed:
    """Extend leases; which of them still stand."""
    return await _renew(request, body)


@handles(calls.renew_served_claims)
async def renew_served_claims(request: Request, body: RenewClaims) -> Renewed:
    """The same for a process that serves deployments."""
    return await _renew(request, body)


async def _renew(request: Request, body: RenewClaims) -> Renewed:
    renewed: Renewed = await request.write(claims.renew, body, request.now)
    return renewed


@handles(calls.create_work_queue)
async def create_work_queue(request: Request, work_pool_name: str, body: WorkQueueCreate) -> Any:
    """Make a queue of the pool."""
    return await request.write(changes.create_queue, work_pool_name, body, request.now)


@handles(calls.read_work_queue_by_name)
async def read_work_queue_by_name(request: Request, work_pool_name: str, name: str) -> Any:
    """One queue of the pool."""
    value = await request.read(pools.read_queue_by_name, work_pool_name, name, request.now)
    return found(value, f"Work pool queue '{work_pool_name}/{name}' not found.")


@handles(calls.update_work_queue)
async def update_work_queue(request: Request, work_pool_name: str, name: str, body: WorkQueueUpdate) -> None:
    """Change what the body names."""
    await request.write(changes.update_queue, work_pool_name, name, body, request.now)


@handles(calls.delete_work_queue)
async def delete_work_queue(request: Request, work_pool_name: str, name: str) -> None:
    """Delete a queue of the pool."""
    await request.write(changes.delete_queue, work_pool_name, name, request.now)


@handles(calls.read_pool_queues)
async def read_pool_queues(request: Request, work_pool_name: str, body: Query) -> Any:
    """A page of the pool's queues."""
    return await request.scan(changes.read_queues, work_pool_name, body, request.now)


def _sender(request: Request) -> About:
    """What the header of a client tells of it: ``prefect/3.8.8 (API 0.8.4)``."""
    software, _, version = (request.header("user-agent") or "").partition(" ")[0].partition("/")
    return About(software=software[:255] or None, version=version[:255] or None)


@handles(calls.heartbeat_worker)
async def heartbeat_worker(request: Request, work_pool_name: str, body: Heartbeat) -> None:
    """A worker is alive."""
    keeping = request.services.policy.keeping
    await request.write(
        worker_instances.stock_heartbeat, work_pool_name, body, _sender(request), request.now, keeping
    )


@handles(calls.read_workers)
async def read_workers(request: Request, work_pool_name: str, body: Query) -> Any:
    """A page of the pool's workers."""
    missed = request.services.policy.keeping.missed
    return await request.scan(changes.read_workers, work_pool_name, body, request.now, missed)


@handles(calls.delete_worker)
async def delete_worker(request: Request, work_pool_name: str, name: str) -> None:
    """Forget a worker; one that lives is there again with its next heartbeat."""
    await request.write(changes.delete_worker, work_pool_name, name)


@handles(calls.read_work_queue)
async def read_work_queue(request: Request, id: UUID) -> Any:
    """One queue."""
    return found(await request.read(pools.read_queue, id, request.now), "work queue not found")


@handles(calls.read_work_queues)
async def read_work_queues(request: Request, body: Query) -> Any:
    """A page of queues of all pools."""
    return await request.scan(pools.read_queues, body, request.now)


@handles(calls.read_work_pool_slots)
async def read_work_pool_slots(request: Request, name: str, body: PoolSlotsPage) -> Any:
    """The slots of the pool, and a page of its queues with who holds theirs."""
    limit = request.limit(body.limit)
    return await request.scan(
        queue_status.pool_slots, name, body.page, limit, body.flow_run_limit, request.now
    )


@handles(calls.create_default_pool_queue)
async def create_default_pool_queue(request: Request, body: WorkQueueCreate) -> Any:
    """Make a queue of the default pool."""
    return await request.write(changes.create_default_pool_queue, body, request.now)


@handles(calls.read_default_pool_queue)
async def read_default_pool_queue(request: Request, name: str) -> Any:
    """One queue of the default pool."""
    value = await request.read(pools.read_queue_by_name, DEFAULT_POOL, name, request.now)
    return found(value, "work queue not found")


@handles(calls.update_work_queue_by_id)
async def update_work_queue_by_id(request: Request, id: UUID, body: WorkQueueUpdate) -> None:
    """Change what the body names."""
    await request.write(changes.update_queue_by_id, id, body, request.now)


@handles(calls.delete_work_queue_by_id)
async def delete_work_queue_by_id(request: Request, id: UUID) -> None:
    """Delete a queue."""
    await request.write(changes.delete_queue_by_id, id, request.now)


@handles(calls.read_work_queue_health)
async def read_work_queue_health(request: Request, id: UUID) -> Any:
    """Whether the queue is polled and has no late run."""
    return await request.scan(queue_status.health, id, request.now)


@handles(calls.read_work_queue_slots)
async def read_work_queue_slots(request: Request, id: UUID, body: SlotsPage) -> Any:
    """The slots of the queue, and a page of those who hold them."""
    return await request.scan(queue_status.queue_slots, id, body.page, request.limit(body.limit), request.now)


@handles(calls.read_work_queue_runs)
async def read_work_queue_runs(request: Request, id: UUID, body: QueueRuns) -> Any:
    """Due runs of the queue, not claimed."""
    pool_name, name = await request.read(changes.queue_place, id, request.now)
    before, limit = body.scheduled_before or EVER, request.limit(body.limit)
    due = await request.write(claims.due_runs, pool_name, [name], before, request.now, limit)
    return [run["flow_run"] for run in due]
