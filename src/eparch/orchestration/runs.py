"""Changing and deleting flow runs, and the due runs of deployments for ``serve()``.

A run's state is not changed here: that is ``transition``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from eparch.core.errors import BadRequest, NotFound
from eparch.core.filters import Condition, Group, Query
from eparch.core.model import Labels, changes
from eparch.core.runs import FlowRunUpdate, TaskRunUpdate
from eparch.core.states import StateType
from eparch.store import concurrency, deployments, runs
from eparch.store.statement import Note, Steps

_NULLABLE = frozenset({"flow_version", "infrastructure_pid", "job_variables"})


def update_flow_run(run_id: UUID, patch: FlowRunUpdate, now: datetime) -> Steps[None]:
    """Change what ``patch`` names; null where a run must have a value changes nothing.

    Raises:
        NotFound: there is no such run.
        BadRequest: its job variables would change after it was taken to be started, for nothing.
    """
    given = changes(patch)
    if not given.get("name", True):
        del given["name"]
    columns = {name: value for name, value in given.items() if value is not None or name in _NULLABLE}
    policy = columns.get("empirical_policy")
    if policy is not None:
        columns["in_process_retry"] = policy.retry_type == "in_process"
    if "job_variables" in columns:
        found = yield from runs.read_flow_run(run_id, now)
        if found is not None and found["state_type"] not in (None, StateType.SCHEDULED):
            state = found["state_type"]
            raise BadRequest(f"Job variables for a flow run in state {state} cannot be updated")
    if not (yield from runs.write_flow_run(run_id, {**columns, "updated": now})):
        raise NotFound("Flow run not found")


def update_labels(run_id: UUID, labels: Labels, now: datetime) -> Steps[None]:
    """Merge ``labels`` into those of the run.

    Raises:
        NotFound: there is no such run.
    """
    if not (yield from runs.add_labels(run_id, labels, now)):
        raise NotFound("Flow run not found")


def delete_flow_run(run_id: UUID) -> Steps[None]:
    """Delete the run with its history; the slots that it held are free.

    Raises:
        NotFound: there is no such run.
    """
    stored = yield from runs.flow_run_for_decision(run_id)
    if stored is None:
        raise NotFound("Flow run not found")
    yield from concurrency.release_run(run_id)
    yield from runs.delete_flow_run(run_id)
    if stored.claim is not None:
        yield Note("work", stored.run.work_pool_id or stored.run.deployment_id)


def update_task_run(run_id: UUID, patch: TaskRunUpdate, now: datetime) -> Steps[None]:
    """Change what ``patch`` names; a name that is null or empty changes nothing.

    Raises:
        NotFound: there is no such task run.
    """
    columns = {name: value for name, value in changes(patch).items() if value}
    if not (yield from runs.write_task_run(run_id, {**columns, "updated": now})):
        raise NotFound("Task run not found")


def delete_task_run(run_id: UUID) -> Steps[None]:
    """Delete the task run with its history; the slots that it held are free.

    Raises:
        NotFound: there is no such task run.
    """
    yield from concurrency.release_run(run_id)
    if not (yield from runs.delete_task_run(run_id)):
        raise NotFound("Task not found")


def due_deployment_runs(
    deployment_ids: Sequence[UUID], before: datetime | None, limit: int, now: datetime
) -> Steps[list[dict[str, Any]]]:
    """Due runs of these deployments, oldest first, not claimed: what ``serve()`` polls (wire 4.4).

    A run that its own process will try again is left to that process.
    """
    yield from deployments.mark_polled(list(deployment_ids), now)
    parts: list[Condition | Group] = [
        Condition("deployment_id", "any_", list(deployment_ids)),
        Condition("state_type", "any_", [StateType.SCHEDULED]),
        Condition("in_process_retry", "eq_", False),
    ]
    if before is not None:
        parts.append(Condition("next_scheduled_start_time", "before_", before))
    query = Query("flow_runs", Group("and_", tuple(parts)), sort="NEXT_SCHEDULED_START_TIME_ASC", limit=limit)
    return (yield from runs.read_flow_runs(query, now))
