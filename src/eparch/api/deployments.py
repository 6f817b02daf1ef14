"""Flows, deployments and their schedules."""

from __future__ import annotations

from typing import Any
from uuid import UUID

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
)
from eparch.core.filters import Query
from eparch.core.runs import DeploymentFlowRunCreate
from eparch.orchestration import creation
from eparch.orchestration import deployments as changes
from eparch.orchestration import runs as run_changes
from eparch.store import deployments


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


@handles(calls.create_deployment)
async def create_deployment(request: Request, body: DeploymentCreate) -> Answer:
    """Make the deployment (201), or replace the one of the same flow and name (200)."""
    return created(*await request.write(changes.create_deployment, body, request.now))


@handles(calls.read_deployment)
async def read_deployment(request: Request, id: UUID) -> Any:
    """One deployment."""
    return found(await request.read(deployments.read_deployment, id, request.now), "Deployment not found")


@handles(calls.read_deployment_by_name)
async def read_deployment_by_name(request: Request, flow_name: str, deployment_name: str) -> Any:
    """One deployment, by the names of flow and deployment."""
    value = await request.read(deployments.read_deployment_by_name, flow_name, deployment_name, request.now)
    return found(value, "Deployment not found")


@handles(calls.update_deployment)
async def update_deployment(request: Request, id: UUID, body: DeploymentUpdate) -> None:
    """Change what the body names."""
    await request.write(changes.update_deployment, id, body, request.now)


@handles(calls.delete_deployment)
async def delete_deployment(request: Request, id: UUID) -> None:
    """Delete the deployment; its runs stay, except those that are only planned."""
    await request.write(changes.delete_deployment, id, request.now)


@handles(calls.read_deployments)
async def read_deployments(request: Request, body: Query) -> Any:
    """A page of deployments."""
    return await request.scan(deployments.read_deployments, body, request.now)


@handles(calls.create_deployment_flow_run)
async def create_deployment_flow_run(request: Request, id: UUID, body: DeploymentFlowRunCreate) -> Answer:
    """Make a run of the deployment; the one that was made with the same key is answered with 200."""
    name = request.services.new_name()
    made = await request.write(creation.create_deployment_run, id, body, request.now, new_name=name)
    return created(made.run, made.fresh)


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
    return await request.write(changes.create_schedules, id, body, request.now)


@handles(calls.update_deployment_schedule)
async def update_deployment_schedule(
    request: Request, id: UUID, schedule_id: UUID, body: DeploymentScheduleUpdate
) -> None:
    """Change what the body names."""
    await request.write(changes.update_schedule, id, schedule_id, body, request.now)


@handles(calls.delete_deployment_schedule)
async def delete_deployment_schedule(request: Request, id: UUID, schedule_id: UUID) -> None:
    """Delete a schedule and the runs that it planned."""
    await request.write(changes.delete_schedule, id, schedule_id, request.now)
