"""Making flow runs and task runs: by hand, from a deployment, by the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from eparch.core import job_templates, parameters
from eparch.core.decisions import Facts, state_to_write
from eparch.core.deployments import Deployment
from eparch.core.errors import Conflict, NotFound, ParametersInvalid
from eparch.core.job_templates import Layer, Severity
from eparch.core.model import Labels, new_id
from eparch.core.pools import DEFAULT_QUEUE
from eparch.core.runs import Author, DeploymentFlowRunCreate, FlowRun, FlowRunCreate, TaskRun, TaskRunCreate
from eparch.core.states import Pending, Scheduled, State, StateType, from_create
from eparch.core.task_workers import is_queued
from eparch.orchestration.deployment_versions import as_asked
from eparch.orchestration.subflows import follow
from eparch.orchestration.transition import announce, first_state, propose
from eparch.store import claims, deployments, pools, rows, runs, task_queue
from eparch.store.runs import Stored
from eparch.store.statement import Note, Steps


class Made(msgspec.Struct, frozen=True):
    """A run as the wire answers it, and whether it was made now (201) or was there already (200)."""

    run: dict[str, Any]
    fresh: bool


def create_flow_run(body: FlowRunCreate, now: datetime, *, new_name: str) -> Steps[Made]:
    """Make a run of a flow; the same idempotency key again answers the run that was made with it.

    Raises:
        NotFound: the flow, pool or queue does not exist.
    """
    if body.idempotency_key is not None:
        existing = yield from runs.read_flow_run_by_key(body.flow_id, body.idempotency_key, now)
        if existing is not None:
            return Made(existing, False)
    flow = yield from deployments.read_flow(body.flow_id)
    if flow is None:
        raise NotFound("Flow not found", why=f"There is no flow {body.flow_id}.")
    inherited = rows.value_of(flow["labels"]) or {}
    if body.deployment_id is not None:
        deployment = yield from deployments.deployment_value(body.deployment_id, now)
        if deployment is None:
            raise NotFound("Deployment not found", why=f"There is no deployment {body.deployment_id}.")
        inherited = {**deployment.labels, "prefect.deployment.id": str(deployment.id)}
    queue = yield from _queue(body.work_pool_name, body.work_queue_name, now)
    template = (yield from pools.read_template(queue["work_pool_id"])) if queue is not None else None
    proposed = from_create(body.state, now) if body.state is not None else Pending(timestamp=now)
    run = FlowRun(
        id=new_id(),
        created=now,
        updated=now,
        name=body.name or new_name,
        flow_id=body.flow_id,
        flow_version=body.flow_version,
        parameters=body.parameters,
        context=body.context,
        idempotency_key=body.idempotency_key,
        empirical_policy=body.empirical_policy,
        tags=body.tags,
        labels={**inherited, "prefect.flow.id": str(body.flow_id), **(body.labels or {})},
        parent_task_run_id=body.parent_task_run_id,
        infrastructure_document_id=body.infrastructure_document_id,
        job_variables=body.job_variables or {},
        deployment_id=body.deployment_id,
        **place(queue),
    )
    yield from insert_run(
        run,
        proposed,
        now,
        flow_name=flow["name"],
        flow_tags=rows.value_of(flow["tags"]),
        pool_type=template[1] if template else None,
    )
    return (yield from _fresh(run.id, now))


def _queue(pool: str | None, queue: str | None, now: datetime) -> Steps[dict[str, Any] | None]:
    if pool is None:
        return None
    found = yield from pools.read_queue_by_name(pool, queue or DEFAULT_QUEUE, now)
    if found is None and (yield from claims.read_pool(pool)) is None:
        raise NotFound(f'Work pool "{pool}" not found.')
    if found is None:
        raise NotFound(f"Work pool queue '{pool}/{queue or DEFAULT_QUEUE}' not found.")
    return found


def place(queue: dict[str, Any] | None) -> dict[str, Any]:
    """The fields of a run that say where it waits; ``queue`` as the wire answers it."""
    if queue is None:
        return {}
    return {
        "work_queue_id": rows.id_of(queue["id"]),
        "work_queue_name": queue["name"],
        "work_pool_id": rows.id_of(queue["work_pool_id"]),
        "work_pool_name": queue["work_pool_name"],
    }


def _fresh(run_id: UUID, now: datetime) -> Steps[Made]:
    made = yield from runs.read_flow_run(run_id, now)
    assert made is not None
    return Made(made, True)


def create_deployment_run(
    deployment_id: UUID,
    body: DeploymentFlowRunCreate,
    now: datetime,
    *,
    new_name: str,
    author: Author | None = None,
) -> Steps[Made]:
    """Make a run of a deployment; ``author`` is told by the run.

    Raises:
        NotFound: the deployment or the queue does not exist.
        Conflict: parameters or job variables do not fit (wire: 409).
    """
    deployment = yield from deployments.deployment_value(deployment_id, now)
    if deployment is None:
        raise NotFound("Deployment not found")
    if body.idempotency_key is not None:
        existing = yield from runs.read_flow_run_by_key(deployment.flow_id, body.idempotency_key, now)
        if existing is not None:
            return Made(existing, False)
    deployment = yield from as_asked(deployment, body.labels)
    given = {**deployment.parameters, **body.parameters}
    check_parameters(deployment, given, body.enforce_parameter_schema)
    queue = yield from _deployment_queue(deployment, body.work_queue_name, now)
    pool_type = (yield from _check_job(queue, deployment, body.job_variables)) if queue is not None else None
    flow = yield from deployments.read_flow(deployment.flow_id)
    assert flow is not None
    proposed = from_create(body.state, now) if body.state is not None else Scheduled(now, timestamp=now)
    run = FlowRun(
        id=new_id(),
        created=now,
        updated=now,
        name=body.name or new_name,
        flow_id=deployment.flow_id,
        deployment_id=deployment.id,
        deployment_version=deployment.version,
        parameters=given,
        context=body.context,
        idempotency_key=body.idempotency_key,
        empirical_policy=body.empirical_policy,
        tags=sorted({*deployment.tags, *body.tags}),
        labels=_labels(deployment, body),
        parent_task_run_id=body.parent_task_run_id,
        created_by=author,
        infrastructure_document_id=body.infrastructure_document_id or deployment.infrastructure_document_id,
        job_variables=body.job_variables or {},
        **place(queue),
    )
    yield from insert_run(
        run,
        proposed,
        now,
        flow_name=flow["name"],
        flow_tags=rows.value_of(flow["tags"]),
        deployment_name=deployment.name,
        pool_type=pool_type,
    )
    return (yield from _fresh(run.id, now))


def _labels(deployment: Deployment, body: DeploymentFlowRunCreate) -> Labels:
    return {
        **deployment.labels,
        "prefect.flow.id": str(deployment.flow_id),
        "prefect.deployment.id": str(deployment.id),
        **(body.labels or {}),
    }


def check_parameters(
    deployment: Deployment, given: dict[str, Any], enforce: bool | None, *, what: str = "creating flow run"
) -> None:
    """Whether ``given`` fits the deployment's schema, where it is enforced; ``what`` is being done.

    Raises:
        Conflict: it does not.
    """
    wanted = deployment.enforce_parameter_schema if enforce is None else enforce
    if not wanted or not deployment.parameter_openapi_schema:
        return
    try:
        parameters.check(deployment.parameter_openapi_schema, given)
    except ParametersInvalid as error:
        raise Conflict(f"Error {what}: {error}", why=error.why, fix=error.fix) from error


def _deployment_queue(
    deployment: Deployment, name: str | None, now: datetime
) -> Steps[dict[str, Any] | None]:
    if name is not None and deployment.work_pool_name is not None:
        found = yield from _queue(deployment.work_pool_name, name, now)
        return found
    if deployment.work_queue_id is None:
        return None
    found = yield from pools.read_queue(deployment.work_queue_id, now)
    return found


def _check_job(
    queue: dict[str, Any], deployment: Deployment, own: dict[str, Any] | None
) -> Steps[str | None]:
    template = yield from pools.read_template(queue["work_pool_id"])
    if template is None:
        return None
    pool = queue["work_pool_name"]
    check_job_variables(template[0], deployment.job_variables, own or {}, required=True, pool=pool)
    return template[1]


def check_job_variables(
    template: dict[str, Any],
    deployed: dict[str, Any],
    own: dict[str, Any],
    *,
    required: bool,
    pool: str | None = None,
) -> None:
    """Whether job variables fit the base job template of ``pool`` (rows P5, P9, P11, P22).

    Raises:
        Conflict: they do not; every mistake is named.
    """
    schema = template.get("variables")
    if not schema:
        return
    layers = [Layer(name="deployment", values=deployed), Layer(name="run", values=own)]
    found = job_templates.check_layers(schema, layers, required=required)
    problems = [p for p in found if p.severity is Severity.ERROR]
    if problems:
        said = ". ".join(
            p.message.rstrip(".") + (f" (given by the {p.layer})" if own and p.layer else "")
            for p in problems
        )
        fix = " ".join(dict.fromkeys(p.fix for p in problems if p.fix))
        where = f"the work pool '{pool}'" if pool else "the work pool"
        raise Conflict(f"Job variables do not fit {where}: {said}.", fix=fix)


def insert_run(
    run: FlowRun,
    proposed: State,
    now: datetime,
    *,
    flow_name: str,
    flow_tags: Sequence[str] = (),
    deployment_name: str | None = None,
    pool_type: str | None = None,
    schedule_id: UUID | None = None,
) -> Steps[None]:
    """Write ``run`` with its first state, its history and its event.

    Raises:
        Conflict: a run cannot begin in ``proposed``.
    """
    placed = run.work_queue_id is not None or run.deployment_id is not None
    if placed and proposed.type is not StateType.SCHEDULED:
        yield from _insert_begun(run, proposed, now)
        return
    facts = Facts(has_deployment=run.deployment_id is not None, is_subflow=run.parent_task_run_id is not None)
    state, columns = first_state(run, proposed, now, facts)
    fields = {name: getattr(run, name) for name in _FLOW_RUN_COLUMNS}
    columns = {**fields, **columns, "schedule_id": schedule_id}
    yield from runs.insert_flow_run(columns)
    yield from runs.append_flow_run_state(run.id, state)
    yield from follow(run.id, run.parent_task_run_id, state, now)
    stored = Stored(
        run=run,
        flow_name=flow_name,
        flow_tags=list(flow_tags),
        deployment_name=deployment_name,
        pool_type=pool_type,
    )
    yield from announce(stored, None, state, columns.get("run_count", 0), now)
    place = run.work_pool_id or run.deployment_id
    if state.type is StateType.SCHEDULED and place is not None:
        yield Note("work", place)


def _insert_begun(run: FlowRun, proposed: State, now: datetime) -> Steps[None]:
    """Write a run that does not begin by waiting: its claim and its slot are those of any other run."""
    fields = {name: getattr(run, name) for name in _FLOW_RUN_COLUMNS}
    yield from runs.insert_flow_run({**fields, "expected_start_time": now})
    stored = yield from runs.flow_run_for_decision(run.id)
    assert stored is not None
    decision = yield from propose(stored, proposed, now)
    if state_to_write(decision) is None:
        raise Conflict(f"A run cannot begin as {proposed.name}.", why=str(getattr(decision, "reason", "")))


_FLOW_RUN_COLUMNS = (
    "id",
    "created",
    "updated",
    "name",
    "flow_id",
    "deployment_id",
    "deployment_version",
    "flow_version",
    "parameters",
    "context",
    "idempotency_key",
    "empirical_policy",
    "tags",
    "labels",
    "parent_task_run_id",
    "auto_scheduled",
    "infrastructure_document_id",
    "created_by",
    "work_queue_id",
    "job_variables",
)


def create_task_run(body: TaskRunCreate, now: datetime) -> Steps[Made]:
    """Make a task run; its natural key again answers the run that has it (wire 4.2).

    Raises:
        NotFound: its flow run does not exist.
    """
    inherited: dict[str, Any] = {}
    if body.flow_run_id is not None:
        if not (yield from runs.known_flow_runs([body.flow_run_id])):
            raise NotFound("Flow run not found", why=f"There is no flow run {body.flow_run_id}.")
        around = yield from runs.read_flow_run(body.flow_run_id, now)
        assert around is not None
        inherited = {**rows.value_of(around["labels"]), "prefect.flow-run.id": str(body.flow_run_id)}
        existing = yield from runs.read_task_run_by_key(
            body.flow_run_id, body.task_key, body.dynamic_key, now
        )
        if existing is not None:
            return Made(existing, False)
    if body.id is not None:
        existing = yield from runs.read_task_run(body.id, now)
        if existing is not None:
            return Made(existing, False)
    run = TaskRun(
        id=body.id or new_id(),
        created=now,
        updated=now,
        name=body.name or f"{body.task_key}-{body.dynamic_key}",
        flow_run_id=body.flow_run_id,
        task_key=body.task_key,
        dynamic_key=body.dynamic_key,
        cache_key=body.cache_key,
        cache_expiration=body.cache_expiration,
        task_version=body.task_version,
        empirical_policy=body.empirical_policy,
        tags=body.tags,
        labels={**inherited, **(body.labels or {})},
        task_inputs=body.task_inputs,
    )
    proposed = from_create(body.state, now) if body.state is not None else Pending(timestamp=now)
    state, columns = first_state(run, proposed, now, Facts())
    fields = {name: getattr(run, name) for name in _TASK_RUN_COLUMNS}
    yield from runs.insert_task_run({**fields, **columns})
    yield from runs.append_task_run_states([(run.id, state)])
    if is_queued(state):
        yield from task_queue.follow(run.id, run.task_key, state)
    made = yield from runs.read_task_run(run.id, now)
    assert made is not None
    return Made(made, True)


_TASK_RUN_COLUMNS = (
    "id",
    "created",
    "updated",
    "name",
    "flow_run_id",
    "task_key",
    "dynamic_key",
    "cache_key",
    "cache_expiration",
    "task_version",
    "empirical_policy",
    "tags",
    "labels",
    "task_inputs",
)

SCHEDULER = Author(type="SCHEDULE")
"""Who makes the runs of a schedule (wire 4.4)."""
