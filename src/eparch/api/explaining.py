"""Why runs wait, and who holds slots."""

from __future__ import annotations

from uuid import UUID

from eparch.api.request import Request
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.blockers import Explanation, HoldersPage, Holding, LimitHolding
from eparch.core.task_blockers import TaskExplanation
from eparch.orchestration import explaining, task_explaining


@handles(calls.explain_flow_run)
async def explain_flow_run(request: Request, id: UUID) -> Explanation:
    """Why the run does not run, by the conditions of the claim."""
    found: Explanation = await request.scan(explaining.explain, id, request.now)
    return found


@handles(calls.explain_task_run)
async def explain_task_run(request: Request, id: UUID) -> TaskExplanation:
    """Why the task run does not run."""
    found: TaskExplanation = await request.scan(task_explaining.explain_task, id, request.now)
    return found


@handles(calls.read_work_pool_holders)
async def read_work_pool_holders(request: Request, name: str, body: HoldersPage) -> list[Holding]:
    """Who holds slots of the pool, the longest first."""
    limit = request.limit(body.limit)
    found: list[Holding] = await request.scan(explaining.pool_holders, name, limit, body.offset)
    return found


@handles(calls.read_work_queue_holders)
async def read_work_queue_holders(request: Request, id: UUID, body: HoldersPage) -> list[Holding]:
    """Who holds slots of the queue, the longest first."""
    limit = request.limit(body.limit)
    found: list[Holding] = await request.scan(explaining.queue_holders, id, limit, body.offset, request.now)
    return found


@handles(calls.read_deployment_holders)
async def read_deployment_holders(request: Request, id: UUID, body: HoldersPage) -> list[Holding]:
    """Who holds slots of the deployment's limit, the longest first."""
    limit = request.limit(body.limit)
    wanted = (id, limit, body.offset, request.now)
    found: list[Holding] = await request.scan(explaining.deployment_holders, *wanted)
    return found


@handles(calls.read_concurrency_limit_holders)
async def read_concurrency_limit_holders(
    request: Request, id_or_name: str, body: HoldersPage
) -> list[LimitHolding]:
    """Who holds slots of the named limit, the longest first."""
    wanted = (id_or_name, request.limit(body.limit), body.offset, request.now)
    found: list[LimitHolding] = await request.scan(explaining.limit_holders, *wanted)
    return found
