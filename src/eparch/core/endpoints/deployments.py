"""Deployments and their schedules: the endpoints (wire section 3)."""

from __future__ import annotations

from uuid import UUID

from eparch.core import filters
from eparch.core.deployments import (
    Deployment,
    DeploymentCreate,
    DeploymentSchedule,
    DeploymentScheduleCreate,
    DeploymentScheduleUpdate,
    DeploymentUpdate,
    PlanRuns,
)
from eparch.core.endpoint import Endpoint
from eparch.core.listing import Deleted, Page
from eparch.core.model import Body, Timestamp
from eparch.core.pools import ClaimServed, RenewClaims, Renewed, Work, WorkQueue
from eparch.core.runs import CreatedRuns, DeploymentFlowRunCreate, FlowRun


class DueDeploymentRuns(Body, frozen=True, kw_only=True):
    """``POST /deployments/get_scheduled_flow_runs``: what ``serve()`` polls with."""

    deployment_ids: list[UUID]
    scheduled_before: Timestamp | None = None
    limit: int | None = None


create_deployment: Endpoint[Deployment] = Endpoint(
    "POST",
    "/deployments/",
    Deployment,
    body=DeploymentCreate,
    status=201,
    also=(200,),
    tag="Deployments",
    idempotent=True,
)
read_deployment: Endpoint[Deployment] = Endpoint("GET", "/deployments/{id}", Deployment, tag="Deployments")
read_deployment_by_name: Endpoint[Deployment] = Endpoint(
    "GET", "/deployments/name/{flow_name}/{deployment_name}", Deployment, tag="Deployments"
)
update_deployment: Endpoint[None] = Endpoint(
    "PATCH", "/deployments/{id}", None, body=DeploymentUpdate, status=204, tag="Deployments"
)
delete_deployment: Endpoint[None] = Endpoint(
    "DELETE", "/deployments/{id}", None, status=204, tag="Deployments"
)
read_deployments: Endpoint[list[Deployment]] = Endpoint(
    "POST",
    "/deployments/filter",
    list[Deployment],
    body=filters.READ_DEPLOYMENTS,
    tag="Deployments",
    idempotent=True,
)
create_deployment_flow_run: Endpoint[FlowRun] = Endpoint(
    "POST",
    "/deployments/{id}/create_flow_run",
    FlowRun,
    body=DeploymentFlowRunCreate,
    status=201,
    also=(200,),
    tag="Deployments",
)
read_due_deployment_runs: Endpoint[list[FlowRun]] = Endpoint(
    "POST",
    "/deployments/get_scheduled_flow_runs",
    list[FlowRun],
    body=DueDeploymentRuns,
    tag="Deployments",
    idempotent=True,
)
claim_served_runs: Endpoint[Work] = Endpoint(
    "POST", "/deployments/claim", Work, body=ClaimServed, tag="Deployments", idempotent=True
)
renew_served_claims: Endpoint[Renewed] = Endpoint(
    "POST", "/deployments/claims/renew", Renewed, body=RenewClaims, tag="Deployments", idempotent=True
)
read_deployment_schedules: Endpoint[list[DeploymentSchedule]] = Endpoint(
    "GET", "/deployments/{id}/schedules", list[DeploymentSchedule], tag="Deployments"
)
create_deployment_schedules: Endpoint[list[DeploymentSchedule]] = Endpoint(
    "POST",
    "/deployments/{id}/schedules",
    list[DeploymentSchedule],
    body=list[DeploymentScheduleCreate],
    status=201,
    tag="Deployments",
)
update_deployment_schedule: Endpoint[None] = Endpoint(
    "PATCH",
    "/deployments/{id}/schedules/{schedule_id}",
    None,
    body=DeploymentScheduleUpdate,
    status=204,
    tag="Deployments",
)
delete_deployment_schedule: Endpoint[None] = Endpoint(
    "DELETE", "/deployments/{id}/schedules/{schedule_id}", None, status=204, tag="Deployments"
)
count_deployments: Endpoint[int] = Endpoint(
    "POST", "/deployments/count", int, body=filters.COUNT_DEPLOYMENTS, tag="Deployments", idempotent=True
)
page_deployments: Endpoint[Page[Deployment]] = Endpoint(
    "POST",
    "/deployments/paginate",
    Page[Deployment],
    body=filters.PAGE_DEPLOYMENTS,
    tag="Deployments",
    idempotent=True,
)
delete_deployments: Endpoint[Deleted] = Endpoint(
    "POST", "/deployments/bulk_delete", Deleted, body=filters.DELETE_DEPLOYMENTS, tag="Deployments"
)
create_deployment_flow_runs: Endpoint[CreatedRuns] = Endpoint(
    "POST",
    "/deployments/{id}/create_flow_run/bulk",
    CreatedRuns,
    body=list[DeploymentFlowRunCreate],
    tag="Deployments",
)
pause_deployment: Endpoint[None] = Endpoint(
    "POST", "/deployments/{id}/pause_deployment", None, tag="Deployments", idempotent=True
)
resume_deployment: Endpoint[None] = Endpoint(
    "POST", "/deployments/{id}/resume_deployment", None, tag="Deployments", idempotent=True
)
plan_deployment_runs: Endpoint[None] = Endpoint(
    "POST", "/deployments/{id}/schedule", None, body=PlanRuns, tag="Deployments", idempotent=True
)
check_deployment_queue: Endpoint[list[WorkQueue]] = Endpoint(
    "GET", "/deployments/{id}/work_queue_check", list[WorkQueue], tag="Deployments"
)
