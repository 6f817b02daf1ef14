"""Why runs wait, and who holds slots: endpoints of ours (pain 4, row P16)."""

from __future__ import annotations

from eparch.core.blockers import Explanation, HoldersPage, Holding, LimitHolding
from eparch.core.endpoint import Endpoint
from eparch.core.task_blockers import TaskExplanation

explain_flow_run: Endpoint[Explanation] = Endpoint(
    "GET", "/flow_runs/{id}/explain", Explanation, tag="Flow Runs"
)
explain_task_run: Endpoint[TaskExplanation] = Endpoint(
    "GET", "/task_runs/{id}/explain", TaskExplanation, tag="Task Runs"
)
read_work_pool_holders: Endpoint[list[Holding]] = Endpoint(
    "POST", "/work_pools/{name}/holders", list[Holding], body=HoldersPage, tag="Work Pools", idempotent=True
)
read_work_queue_holders: Endpoint[list[Holding]] = Endpoint(
    "POST", "/work_queues/{id}/holders", list[Holding], body=HoldersPage, tag="Work Queues", idempotent=True
)
read_deployment_holders: Endpoint[list[Holding]] = Endpoint(
    "POST", "/deployments/{id}/holders", list[Holding], body=HoldersPage, tag="Deployments", idempotent=True
)
read_concurrency_limit_holders: Endpoint[list[LimitHolding]] = Endpoint(
    "POST",
    "/v2/concurrency_limits/{id_or_name}/holders",
    list[LimitHolding],
    body=HoldersPage,
    tag="Concurrency Limits V2",
    idempotent=True,
)
