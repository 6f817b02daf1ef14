"""Every endpoint as a value: the server registers a handler for it, a client makes a ``Call`` of it.

Paths, bodies, answers and status codes are here and nowhere else (wire section 3).
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode
from uuid import UUID

from eparch.core import filters
from eparch.core.deployments import (
    Deployment,
    DeploymentCreate,
    DeploymentSchedule,
    DeploymentScheduleCreate,
    DeploymentScheduleUpdate,
    DeploymentUpdate,
    Flow,
    FlowCreate,
)
from eparch.core.events import Event
from eparch.core.filters import FilterBody
from eparch.core.model import Body, Json, Labels, Timestamp, Value
from eparch.core.pools import (
    ClaimRuns,
    DueRun,
    DueRuns,
    Heartbeat,
    RenewClaims,
    Renewed,
    Work,
    Worker,
    WorkPool,
    WorkPoolCreate,
    WorkPoolUpdate,
    WorkQueue,
    WorkQueueCreate,
    WorkQueueUpdate,
)
from eparch.core.records import Artifact, ArtifactCreate, Log, LogCreate
from eparch.core.runs import (
    DeploymentFlowRunCreate,
    FlowRun,
    FlowRunCreate,
    FlowRunUpdate,
    SetState,
    StateAnswer,
    TaskRun,
    TaskRunCreate,
)

T = TypeVar("T")

CLAIM_HEADER = "x-eparch-claim"
"""Carries the fencing token of a run's process; a stale one is refused (row W15)."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request that is ready to be sent, and the type of its answer."""

    endpoint: Endpoint[T]
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """``GET``, ``POST`` ..."""
        return self.endpoint.method

    @property
    def answer(self) -> Any:
        """The type that the answer is decoded into."""
        return self.endpoint.answer

    @property
    def idempotent(self) -> bool:
        """Whether sending it again cannot do harm, so that a lost answer may be asked for again."""
        return self.endpoint.idempotent or self.method in ("GET", "PUT", "DELETE", "PATCH")


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[T]):
    """A method and a path with what goes in and what comes out.

    Calling it makes a ``Call``: path and query parameters by name, the body as ``body``.
    """

    method: str
    path: str
    answer: Any
    """Type of the answer; None is no content."""
    body: Any = None
    """Type of the body, a ``FilterBody``, or None."""
    status: int = 200
    also: tuple[int, ...] = ()
    """Other status codes of success."""
    query: tuple[str, ...] = ()
    tag: str = ""
    summary: str = ""
    idempotent: bool = False

    def __call__(
        self, *, body: Any = None, headers: Mapping[str, str] | None = None, **given: Any
    ) -> Call[T]:
        """The call with these parameters.

        Raises:
            TypeError: a parameter is unknown or missing.
        """
        names = [name for _, name, _, _ in string.Formatter().parse(self.path) if name]
        asked = {name: given.pop(name) for name in self.query if name in given}
        if set(given) != set(names):
            raise TypeError(f"{self.method} {self.path} takes {names}, not {sorted(given)}")
        path = self.path.format(**{name: quote(str(given[name]), safe="") for name in names})
        if asked:
            path += "?" + urlencode(asked)
        return Call(self, path, body, headers or {})


class CsrfToken(Value, frozen=True, kw_only=True):
    """A token against cross-site requests."""

    token: str
    client: str
    expiration: Timestamp


class ResultStorage(Value, frozen=True, kw_only=True):
    """Which block keeps results by default."""

    default_result_storage_block_id: UUID | None = None


class DueDeploymentRuns(Body, frozen=True, kw_only=True):
    """``POST /deployments/get_scheduled_flow_runs``: what ``serve()`` polls with."""

    deployment_ids: list[UUID]
    scheduled_before: Timestamp | None = None
    limit: int | None = None


class RenewLease(Body, frozen=True, kw_only=True):
    """How long a concurrency lease is to hold, in seconds."""

    lease_duration: float = 300.0


class ServerFacts(Value, frozen=True, kw_only=True):
    """``GET /eparch``: what a client of ours asks to know that it speaks with a server of ours."""

    version: str
    database: str
    started: Timestamp
    idle_seconds: float = 0.0


# Root and admin
read_health: Endpoint[bool] = Endpoint("GET", "/health", bool, tag="Root")
read_ready: Endpoint[dict[str, str]] = Endpoint("GET", "/ready", dict[str, str], tag="Root")
read_hello: Endpoint[str] = Endpoint("GET", "/hello", str, tag="Root")
read_version: Endpoint[str] = Endpoint("GET", "/version", str, tag="Root")
read_server: Endpoint[ServerFacts] = Endpoint("GET", "/eparch", ServerFacts, tag="Root")
read_admin_version: Endpoint[str] = Endpoint("GET", "/admin/version", str, tag="Admin")
read_result_storage: Endpoint[ResultStorage] = Endpoint("GET", "/admin/storage", ResultStorage, tag="Admin")
read_csrf_token: Endpoint[CsrfToken] = Endpoint(
    "GET", "/csrf-token", CsrfToken, query=("client",), tag="Root"
)
read_collection_view: Endpoint[dict[str, Json]] = Endpoint(
    "GET", "/collections/views/{view}", dict[str, Json], tag="Collections"
)
delete_owned_automations: Endpoint[None] = Endpoint(
    "DELETE", "/automations/owned-by/{resource_id}", None, status=202, tag="Automations"
)
renew_concurrency_lease: Endpoint[None] = Endpoint(
    "POST",
    "/v2/concurrency_limits/leases/{lease_id}/renew",
    None,
    body=RenewLease,
    status=204,
    tag="Concurrency Limits V2",
    idempotent=True,
)

# Flows
create_flow: Endpoint[Flow] = Endpoint(
    "POST", "/flows/", Flow, body=FlowCreate, status=201, also=(200,), tag="Flows", idempotent=True
)
read_flow: Endpoint[Flow] = Endpoint("GET", "/flows/{id}", Flow, tag="Flows")
read_flow_by_name: Endpoint[Flow] = Endpoint("GET", "/flows/name/{name}", Flow, tag="Flows")
read_flows: Endpoint[list[Flow]] = Endpoint(
    "POST", "/flows/filter", list[Flow], body=filters.READ_FLOWS, tag="Flows", idempotent=True
)

# Flow runs
create_flow_run: Endpoint[FlowRun] = Endpoint(
    "POST", "/flow_runs/", FlowRun, body=FlowRunCreate, status=201, also=(200,), tag="Flow Runs"
)
read_flow_run: Endpoint[FlowRun] = Endpoint("GET", "/flow_runs/{id}", FlowRun, tag="Flow Runs")
update_flow_run: Endpoint[None] = Endpoint(
    "PATCH", "/flow_runs/{id}", None, body=FlowRunUpdate, status=204, tag="Flow Runs"
)
delete_flow_run: Endpoint[None] = Endpoint("DELETE", "/flow_runs/{id}", None, status=204, tag="Flow Runs")
update_flow_run_labels: Endpoint[None] = Endpoint(
    "PATCH", "/flow_runs/{id}/labels", None, body=Labels, status=204, tag="Flow Runs"
)
read_flow_runs: Endpoint[list[FlowRun]] = Endpoint(
    "POST", "/flow_runs/filter", list[FlowRun], body=filters.READ_FLOW_RUNS, tag="Flow Runs", idempotent=True
)
count_flow_runs: Endpoint[int] = Endpoint(
    "POST", "/flow_runs/count", int, body=filters.COUNT_FLOW_RUNS, tag="Flow Runs", idempotent=True
)
set_flow_run_state: Endpoint[StateAnswer] = Endpoint(
    "POST",
    "/flow_runs/{id}/set_state",
    StateAnswer,
    body=SetState,
    status=201,
    also=(200,),
    tag="Flow Runs",
    idempotent=True,  # a proposal carries a transition id, so that the second is told from the first
)

# Task runs
create_task_run: Endpoint[TaskRun] = Endpoint(
    "POST",
    "/task_runs/",
    TaskRun,
    body=TaskRunCreate,
    status=201,
    also=(200,),
    tag="Task Runs",
    idempotent=True,
)
read_task_run: Endpoint[TaskRun] = Endpoint("GET", "/task_runs/{id}", TaskRun, tag="Task Runs")
read_task_runs: Endpoint[list[TaskRun]] = Endpoint(
    "POST", "/task_runs/filter", list[TaskRun], body=filters.READ_TASK_RUNS, tag="Task Runs", idempotent=True
)
set_task_run_state: Endpoint[StateAnswer] = Endpoint(
    "POST",
    "/task_runs/{id}/set_state",
    StateAnswer,
    body=SetState,
    status=201,
    also=(200,),
    tag="Task Runs",
    idempotent=True,
)

# Deployments
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

# Work pools, queues and workers
create_work_pool: Endpoint[WorkPool] = Endpoint(
    "POST", "/work_pools/", WorkPool, body=WorkPoolCreate, status=201, tag="Work Pools"
)
read_work_pool: Endpoint[WorkPool] = Endpoint("GET", "/work_pools/{name}", WorkPool, tag="Work Pools")
update_work_pool: Endpoint[None] = Endpoint(
    "PATCH", "/work_pools/{name}", None, body=WorkPoolUpdate, status=204, tag="Work Pools"
)
delete_work_pool: Endpoint[None] = Endpoint(
    "DELETE", "/work_pools/{name}", None, status=204, tag="Work Pools"
)
read_work_pools: Endpoint[list[WorkPool]] = Endpoint(
    "POST",
    "/work_pools/filter",
    list[WorkPool],
    body=filters.READ_WORK_POOLS,
    tag="Work Pools",
    idempotent=True,
)
read_due_runs: Endpoint[list[DueRun]] = Endpoint(
    "POST",
    "/work_pools/{name}/get_scheduled_flow_runs",
    list[DueRun],
    body=DueRuns,
    tag="Work Pools",
    idempotent=True,
)
claim_runs: Endpoint[Work] = Endpoint(
    "POST", "/work_pools/{name}/claim", Work, body=ClaimRuns, tag="Work Pools", idempotent=True
)
renew_claims: Endpoint[Renewed] = Endpoint(
    "POST", "/work_pools/{name}/claims/renew", Renewed, body=RenewClaims, tag="Work Pools", idempotent=True
)
create_work_queue: Endpoint[WorkQueue] = Endpoint(
    "POST",
    "/work_pools/{work_pool_name}/queues",
    WorkQueue,
    body=WorkQueueCreate,
    status=201,
    tag="Work Pools",
)
read_work_queue_by_name: Endpoint[WorkQueue] = Endpoint(
    "GET", "/work_pools/{work_pool_name}/queues/{name}", WorkQueue, tag="Work Pools"
)
update_work_queue: Endpoint[None] = Endpoint(
    "PATCH",
    "/work_pools/{work_pool_name}/queues/{name}",
    None,
    body=WorkQueueUpdate,
    status=204,
    tag="Work Pools",
)
delete_work_queue: Endpoint[None] = Endpoint(
    "DELETE", "/work_pools/{work_pool_name}/queues/{name}", None, status=204, tag="Work Pools"
)
read_pool_queues: Endpoint[list[WorkQueue]] = Endpoint(
    "POST",
    "/work_pools/{work_pool_name}/queues/filter",
    list[WorkQueue],
    body=filters.READ_WORK_QUEUES,
    tag="Work Pools",
    idempotent=True,
)
heartbeat_worker: Endpoint[None] = Endpoint(
    "POST",
    "/work_pools/{work_pool_name}/workers/heartbeat",
    None,
    body=Heartbeat,
    status=204,
    tag="Work Pools",
    idempotent=True,
)
read_workers: Endpoint[list[Worker]] = Endpoint(
    "POST",
    "/work_pools/{work_pool_name}/workers/filter",
    list[Worker],
    body=filters.READ_WORKERS,
    tag="Work Pools",
    idempotent=True,
)
read_work_queue: Endpoint[WorkQueue] = Endpoint("GET", "/work_queues/{id}", WorkQueue, tag="Work Queues")
read_work_queues: Endpoint[list[WorkQueue]] = Endpoint(
    "POST",
    "/work_queues/filter",
    list[WorkQueue],
    body=filters.READ_WORK_QUEUES,
    tag="Work Queues",
    idempotent=True,
)

# Events, logs, artifacts
create_events: Endpoint[None] = Endpoint(
    "POST", "/events", None, body=list[Event], status=204, tag="Events", idempotent=True
)
create_logs: Endpoint[None] = Endpoint("POST", "/logs/", None, body=list[LogCreate], status=201, tag="Logs")
read_logs: Endpoint[list[Log]] = Endpoint(
    "POST", "/logs/filter", list[Log], body=filters.READ_LOGS, tag="Logs", idempotent=True
)
create_artifact: Endpoint[Artifact] = Endpoint(
    "POST", "/artifacts/", Artifact, body=ArtifactCreate, status=201, tag="Artifacts"
)
read_artifact: Endpoint[Artifact] = Endpoint("GET", "/artifacts/{id}", Artifact, tag="Artifacts")
read_artifacts: Endpoint[list[Artifact]] = Endpoint(
    "POST", "/artifacts/filter", list[Artifact], body=filters.READ_ARTIFACTS, tag="Artifacts", idempotent=True
)

ENDPOINTS: tuple[Endpoint[Any], ...] = tuple(
    value for value in globals().copy().values() if isinstance(value, Endpoint)
)
"""All of them, in the order above."""

__all__ = ["CLAIM_HEADER", "ENDPOINTS", "Call", "Endpoint", "FilterBody"]
