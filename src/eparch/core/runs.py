"""Flow runs and task runs: their records, bodies and the arithmetic of time and retries.

The record is the wire's answer (schemas ``FlowRunResponse`` and ``TaskRun``): server and client share it.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

import msgspec

from eparch.core.model import UNSET, Body, Json, Labels, Patch, Record, Timestamp, UnsetType, Value
from eparch.core.states import State, StateCreate, StateType


class Author(Value, frozen=True, kw_only=True):
    """Who made or changed something (wire: ``CreatedBy``, ``UpdatedBy``)."""

    id: UUID | None = None
    type: str | None = None
    display_value: str | None = None


class FlowRunPolicy(Value, frozen=True, kw_only=True):
    """How a flow run is retried and paused (wire: ``FlowRunPolicy``)."""

    max_retries: int = 0
    retry_delay_seconds: float = 0
    retries: int | None = None
    retry_delay: int | None = None
    pause_keys: list[str] | None = []
    resuming: bool | None = False
    retry_type: Literal["in_process", "reschedule"] | None = None


class TaskRunPolicy(Value, frozen=True, kw_only=True):
    """How a task run is retried (wire: ``TaskRunPolicy``)."""

    max_retries: int = 0
    retry_delay_seconds: float = 0
    retries: int | None = None
    retry_delay: float | list[float] | None = None
    retry_jitter_factor: float | None = None


class FlowRun(Record, frozen=True, kw_only=True):
    """One run of a flow."""

    name: str
    flow_id: UUID
    state_id: UUID | None = None
    state_type: StateType | None = None
    state_name: str | None = None
    state: State | None = None
    deployment_id: UUID | None = None
    deployment_version: str | None = None
    flow_version: str | None = None
    parameters: dict[str, Json] = {}
    context: dict[str, Json] = {}
    idempotency_key: str | None = None
    empirical_policy: FlowRunPolicy = msgspec.field(default_factory=FlowRunPolicy)
    tags: list[str] = []
    labels: Labels = {}
    parent_task_run_id: UUID | None = None
    run_count: int = 0
    expected_start_time: Timestamp | None = None
    next_scheduled_start_time: Timestamp | None = None
    start_time: Timestamp | None = None
    end_time: Timestamp | None = None
    total_run_time: float = 0.0
    estimated_run_time: float = 0.0
    estimated_start_time_delta: float = 0.0
    auto_scheduled: bool = False
    infrastructure_document_id: UUID | None = None
    infrastructure_pid: str | None = None
    created_by: Author | None = None
    work_queue_id: UUID | None = None
    work_queue_name: str | None = None
    work_pool_id: UUID | None = None
    work_pool_name: str | None = None
    job_variables: dict[str, Json] | None = None


class TaskRun(Record, frozen=True, kw_only=True):
    """One run of a task."""

    name: str
    flow_run_id: UUID | None = None
    task_key: str
    dynamic_key: str
    cache_key: str | None = None
    cache_expiration: Timestamp | None = None
    task_version: str | None = None
    empirical_policy: TaskRunPolicy = msgspec.field(default_factory=TaskRunPolicy)
    tags: list[str] = []
    labels: Labels | None = {}
    state_id: UUID | None = None
    task_inputs: dict[str, list[dict[str, Json]]] = {}
    state_type: StateType | None = None
    state_name: str | None = None
    run_count: int = 0
    flow_run_run_count: int = 0
    expected_start_time: Timestamp | None = None
    next_scheduled_start_time: Timestamp | None = None
    start_time: Timestamp | None = None
    end_time: Timestamp | None = None
    total_run_time: float = 0.0
    estimated_run_time: float = 0.0
    estimated_start_time_delta: float = 0.0
    state: State | None = None


class NamedTaskRun(TaskRun, frozen=True, kw_only=True):
    """A task run with the name of its flow run (wire: ``UITaskRun``)."""

    flow_run_name: str | None = None


class FlowRunCreate(Body, frozen=True, kw_only=True):
    """``POST /flow_runs/``."""

    flow_id: UUID
    name: str | None = None
    state: StateCreate | None = None
    deployment_id: UUID | None = None
    flow_version: str | None = None
    parameters: dict[str, Json] = {}
    context: dict[str, Json] = {}
    parent_task_run_id: UUID | None = None
    infrastructure_document_id: UUID | None = None
    empirical_policy: FlowRunPolicy = msgspec.field(default_factory=FlowRunPolicy)
    tags: list[str] = []
    idempotency_key: str | None = None
    labels: Labels | None = None
    work_pool_name: str | None = None
    work_queue_name: str | None = None
    job_variables: dict[str, Json] | None = None


class DeploymentFlowRunCreate(Body, frozen=True, kw_only=True):
    """``POST /deployments/{id}/create_flow_run``."""

    name: str | None = None
    state: StateCreate | None = None
    parameters: dict[str, Json] = {}
    enforce_parameter_schema: bool | None = None
    context: dict[str, Json] = {}
    infrastructure_document_id: UUID | None = None
    empirical_policy: FlowRunPolicy = msgspec.field(default_factory=FlowRunPolicy)
    tags: list[str] = []
    idempotency_key: str | None = None
    parent_task_run_id: UUID | None = None
    work_queue_name: str | None = None
    job_variables: dict[str, Json] | None = None
    labels: Labels | None = None


class FlowRunUpdate(Patch, frozen=True, kw_only=True):
    """``PATCH /flow_runs/{id}``."""

    name: str | UnsetType | None = UNSET
    flow_version: str | UnsetType | None = UNSET
    parameters: dict[str, Json] | UnsetType = UNSET
    empirical_policy: FlowRunPolicy | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    infrastructure_pid: str | UnsetType | None = UNSET
    job_variables: dict[str, Json] | UnsetType | None = UNSET


class TaskRunCreate(Body, frozen=True, kw_only=True):
    """``POST /task_runs/``."""

    id: UUID | None = None
    name: str | None = None
    flow_run_id: UUID | None = None
    task_key: str
    dynamic_key: str
    cache_key: str | None = None
    cache_expiration: Timestamp | None = None
    task_version: str | None = None
    empirical_policy: TaskRunPolicy = msgspec.field(default_factory=TaskRunPolicy)
    tags: list[str] = []
    labels: Labels | None = None
    task_inputs: dict[str, list[dict[str, Json]]] = {}
    state: StateCreate | None = None


class TaskRunUpdate(Patch, frozen=True, kw_only=True):
    """``PATCH /task_runs/{id}``."""

    name: str | UnsetType | None = UNSET


class CreatedRun(Value, frozen=True, kw_only=True):
    """What became of one of several runs that were to be made (wire: ``FlowRunCreateResult``)."""

    flow_run_id: UUID | None = None
    status: str
    """``CREATED`` or ``FAILED``."""
    error: str | None = None


class CreatedRuns(Value, frozen=True, kw_only=True):
    """One result for each run, in the order in which they were asked for."""

    results: list[CreatedRun] = []


class SetState(Body, frozen=True, kw_only=True):
    """``POST /{flow,task}_runs/{id}/set_state``."""

    state: StateCreate
    force: bool = False
    if_state_id: UUID | None = None
    """Of ours: it counts only while this is still the state of the run. None: whatever the state is."""


class SetStateStatus(StrEnum):
    """What came of a proposed state."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    ABORT = "ABORT"
    WAIT = "WAIT"


class StateAnswerDetails(Value, frozen=True, kw_only=True, omit_defaults=True):
    """Why (wire 4.1: ``accept_details``, ``reject_details``, ``abort_details``, ``wait_details``)."""

    type: str
    reason: str | UnsetType | None = UNSET
    delay_seconds: int | UnsetType = UNSET


class StateAnswer(Value, frozen=True, kw_only=True):
    """What the server says to a proposed state (wire: ``OrchestrationResult``)."""

    state: State | None
    status: SetStateStatus
    details: StateAnswerDetails


def retries_of(policy: FlowRunPolicy | TaskRunPolicy) -> int:
    """How many more attempts the policy grants after the first."""
    return policy.retries if policy.retries is not None else policy.max_retries


def run_times(
    state: State | None,
    total_run_time: float,
    expected: datetime | None,
    start: datetime | None,
    now: datetime,
) -> tuple[float, float]:
    """``(estimated_run_time, estimated_start_time_delta)`` in seconds at ``now``.

    The estimate adds the time of the attempt that runs now; the delta is how late the run began, or is.
    """
    running = state is not None and state.type is StateType.RUNNING
    estimated = total_run_time + ((now - state.timestamp).total_seconds() if running and state else 0.0)
    if expected is None:
        return estimated, 0.0
    if start is not None and start > expected:
        return estimated, (start - expected).total_seconds()
    final = state is not None and state.is_final()
    if start is None and now > expected and not final:
        return estimated, (now - expected).total_seconds()
    return estimated, 0.0


def after(run: Any, state: State) -> dict[str, Any]:
    """The fields of ``run`` that change when ``state`` is accepted after ``run.state``.

    ``run`` is a FlowRun or a TaskRun; the fields are named as its columns are, without ``state`` itself.
    Source: features B5 and the fields that the wire's clients read (start, end, run count, run time).
    """
    fields: dict[str, Any] = {"state_id": state.id, "state_type": state.type, "state_name": state.name}
    old: State | None = run.state
    if old is not None and old.type is StateType.RUNNING:
        elapsed = max((state.timestamp - old.timestamp).total_seconds(), 0.0)
        fields["total_run_time"] = run.total_run_time + elapsed
    if state.type is StateType.RUNNING:
        fields["run_count"] = run.run_count + 1
        if run.start_time is None:
            fields["start_time"] = state.timestamp
    if state.is_final():
        fields["end_time"] = state.timestamp
    elif run.end_time is not None:
        fields["end_time"] = None
    if state.type is StateType.SCHEDULED:
        when = state.state_details.scheduled_time
        fields["next_scheduled_start_time"] = when
        if run.expected_start_time is None:
            fields["expected_start_time"] = when
    elif run.next_scheduled_start_time is not None:
        fields["next_scheduled_start_time"] = None
    if run.expected_start_time is None and "expected_start_time" not in fields:
        fields["expected_start_time"] = state.timestamp
    return fields
