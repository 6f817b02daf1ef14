"""Rows for the tests of the store, each complete but for what the test is about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from eparch.core.deployments import DeploymentSchedule, Flow
from eparch.core.model import new_id
from eparch.core.pools import Claim
from eparch.core.runs import FlowRunPolicy, TaskRunPolicy
from eparch.core.states import Pending, State
from eparch.store import claims, deployments, pools, rows, runs
from eparch.store.statement import Steps

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


def flow(**fields: Any) -> Flow:
    """A flow."""
    return Flow(**{"id": new_id(), "created": NOW, "updated": NOW, "name": f"flow-{new_id()}", **fields})


def flow_run(flow_id: UUID, state: State | None = None, **columns: Any) -> dict[str, Any]:
    """All columns of a flow run, in ``state``."""
    state = state or Pending(timestamp=NOW)
    made: dict[str, Any] = {
        "id": new_id(),
        "created": NOW,
        "updated": NOW,
        "name": "amber-fox",
        "flow_id": flow_id,
        "deployment_id": None,
        "deployment_version": None,
        "flow_version": None,
        "parameters": {},
        "context": {},
        "idempotency_key": None,
        "empirical_policy": FlowRunPolicy(),
        "tags": [],
        "labels": {},
        "parent_task_run_id": None,
        "run_count": 0,
        "expected_start_time": NOW,
        "next_scheduled_start_time": None,
        "start_time": None,
        "end_time": None,
        "total_run_time": 0.0,
        "auto_scheduled": False,
        "infrastructure_document_id": None,
        "infrastructure_pid": None,
        "created_by": None,
        "work_queue_id": None,
        "job_variables": None,
        "fencing_token": 0,
        "schedule_id": None,
        "in_process_retry": False,
    }
    return {**made, **rows.state_columns(state), **columns}


def task_run(flow_run_id: UUID | None, state: State | None = None, **columns: Any) -> dict[str, Any]:
    """All columns of a task run, in ``state``."""
    state = state or Pending(timestamp=NOW)
    made: dict[str, Any] = {
        "id": new_id(),
        "created": NOW,
        "updated": NOW,
        "name": "load-0",
        "flow_run_id": flow_run_id,
        "task_key": "load",
        "dynamic_key": "0",
        "cache_key": None,
        "cache_expiration": None,
        "task_version": None,
        "empirical_policy": TaskRunPolicy(),
        "tags": [],
        "labels": {},
        "task_inputs": {},
        "run_count": 0,
        "expected_start_time": NOW,
        "next_scheduled_start_time": None,
        "start_time": None,
        "end_time": None,
        "total_run_time": 0.0,
        "flow_run_run_count": 0,
    }
    return {**made, **rows.state_columns(state), **columns}


def deployment(flow_id: UUID, **columns: Any) -> dict[str, Any]:
    """All columns of a deployment."""
    made: dict[str, Any] = {
        "id": new_id(),
        "created": NOW,
        "updated": NOW,
        "name": "nightly",
        "flow_id": flow_id,
        "paused": False,
        "job_variables": {},
        "parameters": {},
        "enforce_parameter_schema": True,
        "tags": [],
        "labels": {},
    }
    return {**made, **columns}


def schedule(deployment_id: UUID, **fields: Any) -> DeploymentSchedule:
    """A schedule."""
    made = {"id": new_id(), "created": NOW, "updated": NOW, "deployment_id": deployment_id}
    return DeploymentSchedule(**{**made, "schedule": {"interval": 60.0}, **fields})


def pool(**columns: Any) -> dict[str, Any]:
    """All columns of a work pool."""
    made: dict[str, Any] = {
        "id": new_id(),
        "created": NOW,
        "updated": NOW,
        "name": f"pool-{new_id()}",
        "type": "process",
        "base_job_template": {},
        "is_paused": False,
        "storage_configuration": {},
    }
    return {**made, **columns}


def queue(pool_id: UUID, **columns: Any) -> dict[str, Any]:
    """All columns of a work queue."""
    made: dict[str, Any] = {
        "id": new_id(),
        "created": NOW,
        "updated": NOW,
        "name": "default",
        "is_paused": False,
        "priority": 1,
        "work_pool_id": pool_id,
    }
    return {**made, **columns}


def claim(run_id: UUID, **fields: Any) -> Claim:
    """A claim of the run."""
    return Claim(**{"flow_run_id": run_id, "claim_id": new_id(), "token": 1, "claimed_at": NOW, **fields})


def insert(*made: Any) -> Steps[None]:
    """Write what the functions above have made, in one transaction."""
    for one in made:
        if isinstance(one, Flow):
            yield from deployments.insert_flow(one)
        elif isinstance(one, DeploymentSchedule):
            yield from deployments.insert_schedule(one)
        elif isinstance(one, Claim):
            yield from claims.insert_claim(one)
        elif "task_key" in one:
            yield from runs.insert_task_run(one)
        elif "expected_start_time" in one:
            yield from runs.insert_flow_run(one)
        elif "base_job_template" in one:
            yield from pools.insert_pool(one)
        elif "priority" in one:
            yield from pools.insert_queue(one)
        else:
            yield from deployments.insert_deployment(one)
