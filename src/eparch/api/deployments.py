"""Flows, deployments and their schedules."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from eparch.api.deploying import change_of
from eparch.api.request import Answer, Request, created, found
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.calls import DueDeploymentRuns
from eparch.core.deployments import (
    DeploymentCreate,
    DeploymentScheduleCreate,
    DeploymentScheduleUpdate,
    DeploymentUpdate,
    FlowCreate,
    FlowUpdate,
    PlanRuns,
    options_for_stock,
)
from eparch.core.errors import BadRequest, EparchError
from eparch.core.filters import Query
from eparch.core.runs import CreatedRun, CreatedRuns, DeploymentFlowRunCreate
from eparch.orchestration import creation, erasure, scheduler
from eparch.orchestration import deployments as changes
from eparch.orchestration import runs as run_changes
from eparch.store import deployments, pools
from eparch.store.rows import id_of, value_of

MAX_RUNS = 100
"""Runs that one request makes."""


@handles(calls.create_flow)
async def create_flow(request: Request, body: FlowCreate) -> Answer:
    """Get the flow of this name (200) or make it (201)."""
    return created(*await request.write(changes.create_flow, body, request.now))


@handles(calls.read_flow)
async def read_flow(request: Request, id: UUID) -> Any:
    """One flow."""
    return found(await request.read(deployments.read_flow, id), "Flow not found")


@handles(calls.read_flow_by_name)
async def read_flow_by_name(request: Request, name: str) -> Any:
    """One flow, by name."""
    return found(await request.read(deployments.read_flow_by_name, name), "Flow not found")


@handles(calls.read_flows)
async def read_flows(request: Request, body: Query) -> Any:
    """A page of flows."""
    return await request.scan(deployments.read_flows, body)


@handles(calls.update_flow)
async def update_flow(request: Request, id: UUID, body: FlowUpdate) -> None:
    """Change what the body names."""
    await request.write(changes.update_flow, id, body, request.now)


@handles(calls.delete_flow)
async def delete_flow(request: Request, id: UUID) -> None:
    """Delete a flow with its deployments and runs."""
    await erasure.empty_flow(request.services.database, id)
    await request.write(erasure.delete_flow, id, request.now)


@handles(calls.create_deployment)
async def create_deployment(request: Request, body: DeploymentCreate) -> Answer:
    """Make the deployment (201), or replace the one of the same flow and name (200)."""
    made, fresh = await request.write(changes.create_deployment, body, request.now, change_of(request))
    return created(shown(request, made), fresh)


def shown(request: Request, deployment: dict[str, Any]) -> dict[str, Any]:
    """The deployment as who asks can read it: Prefect's clients know no CANCEL_RUNNING (row B4)."""
    options = deployment["concurrency_options"]
    if options is None or request.stock_version is None:
        return deployment
    return {**deployment, "concurrency_options": options_for_stock(value_of(options))}


@handles(calls.read_deployment)
async def read_deployment(request: Request, id: UUID) -> Any:
    """One deployment."""
    value = await request.read(deployments.read_deployment, id, request.now)
    return shown(request, found(value, "Deployment not found"))


@handles(calls.read_deployment_by_name)
async def read_deployment_by_name(request: Request, flow_name: str, deployment_name: str) -> Any:
    """One deployment, by the names of flow and deployment."""
    value = await request.read(deployments.read_deployment_by_name, flow_name, deployment_name, request.now)
    return shown(request, found(value, "Deployment not found"))


@handles(calls.update_deployment)
async def update_deployment(request: Request, id: UUID, body: DeploymentUpdate) -> None:
    """Change what the body names."""
    of_stock = request.stock_version is not None
    change = change_of(request)
    await request.write(changes.update_deployment, id, body, request.now, change, of_stock=of_stock)


@handles(calls.delete_deployment)
async def delete_deployment(request: Request, id: UUID) -> None:
    """Delete the deployment; its runs stay, except those that are only planned."""
    await erasure.empty_deployment(request.services.database, id, request.now)
    await request.write(changes.delete_deployment, id, request.now)


@handles(calls.read_deployments)
async def read_deployments(request: Request, body: Query) -> Any:
    """A page of deployments."""
    rows = await request.scan(deployments.read_deployments, body, request.now)
    return [shown(request, row) for row in rows]


@handles(calls.create_deployment_flow_run)
async def create_deployment_flow_run(request: Request, id: UUID, body: DeploymentFlowRunCreate) -> Answer:
    """Make a run of the deployment; the one that was made with the same key is answered with 200."""
    name = request.services.new_name()
    made = await request.write(creation.create_deployment_run, id, body, request.now, new_name=name)
    return created(made.run, made.fresh)


@handles(calls.create_deployment_flow_runs)
async def create_deployment_flow_runs(
    request: Request, id: UUID, body: list[DeploymentFlowRunCreate]
) -> CreatedRuns:
    """Make several runs of the deployment; one that cannot be made does not keep the others from it."""
    if len(body) > MAX_RUNS:
        raise BadRequest(f"Cannot create more than {MAX_RUNS} flow runs at once.")
    found(await request.read(deployments.read_deployment, id, request.now), "Deployment not found")
    return CreatedRuns(results=await asyncio.gather(*(_create_run(request, id, run) for run in body)))


async def _create_run(request: Request, id: UUID, body: DeploymentFlowRunCreate) -> CreatedRun:
    name = request.services.new_name()
    try:
        made = await request.write(creation.create_deployment_run, id, body, request.now, new_name=name)
    except EparchError as error:
        return CreatedRun(status="FAILED", error=error.message)
    return CreatedRun(status="CREATED", flow_run_id=id_of(made.run["id"]))


@handles(calls.pause_deployment)
async def pause_deployment(request: Request, id: UUID) -> None:
    """Let its schedules make no more runs, and delete those that they have made for later."""
    patch = DeploymentUpdate(paused=True)
    await request.write(changes.update_deployment, id, patch, request.now, change_of(request))


@handles(calls.resume_deployment)
async def resume_deployment(request: Request, id: UUID) -> None:
    """Let its schedules make runs again."""
    patch = DeploymentUpdate(paused=False)
    await request.write(changes.update_deployment, id, patch, request.now, change_of(request))


@handles(calls.plan_deployment_runs)
async def plan_deployment_runs(request: Request, id: UUID, body: PlanRuns) -> None:
    """Make runs at the times of its schedules, also those that are past."""
    await request.write(scheduler.plan_runs, id, body, request.now)


@handles(calls.check_deployment_queue)
async def check_deployment_queue(request: Request, id: UUID) -> Any:
    """The queues that the deployment's runs can come into."""
    deployment = found(
        await request.read(deployments.read_deployment, id, request.now), "Deployment not found"
    )
    if deployment["work_queue_id"] is None:
        return []
    return [await request.read(pools.read_queue, id_of(deployment["work_queue_id"]), request.now)]


@handles(calls.read_due_deployment_runs)
async def read_due_deployment_runs(request: Request, body: DueDeploymentRuns) -> Any:
    """Due runs of deployments, for processes that serve them."""
    limit = request.limit(body.limit)
    return await request.write(
        run_changes.due_deployment_runs, body.deployment_ids, body.scheduled_before, limit, request.now
    )


@handles(calls.read_deployment_schedules)
async def read_deployment_schedules(request: Request, id: UUID) -> Any:
    """The schedules of the deployment."""
    found(await request.read(deployments.read_deployment, id, request.now), "Deployment not found.")
    return await request.read(deployments.read_schedules, id)


@handles(calls.create_deployment_schedules)
async def create_deployment_schedules(
    request: Request, id: UUID, body: list[DeploymentScheduleCreate]
) -> Any:
    """Add schedules to the deployment."""
    return await request.write(changes.create_schedules, id, body, request.now, change_of(request))


@handles(calls.update_deployment_schedule)
async def update_deployment_schedule(
    request: Request, id: UUID, schedule_id: UUID, body: DeploymentScheduleUpdate
) -> None:
    """Change what the body names."""
    change = change_of(request)
    await request.write(changes.update_schedule, id, schedule_id, body, request.now, change)


@handles(calls.delete_deployment_schedule)
async def delete_deployment_schedule(request: Request, id: UUID, schedule_id: UUID) -> None:
    """Delete a schedule and the runs that it planned."""
    await request.write(changes.delete_schedule, id, schedule_id, request.now, change_of(request))
