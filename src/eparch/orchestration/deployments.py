"""Making and changing flows, deployments and schedules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from eparch.core import schedules
from eparch.core.deployment_versions import Change, ContentSchedule
from eparch.core.deployments import (
    Deployment,
    DeploymentCreate,
    DeploymentSchedule,
    DeploymentScheduleCreate,
    DeploymentScheduleUpdate,
    DeploymentUpdate,
    Flow,
    FlowCreate,
    FlowUpdate,
    is_settled_from,
    options_from_stock,
    schedule_of,
    settled_schedule,
)
from eparch.core.errors import Conflict, Invalid, NotFound
from eparch.core.model import UNSET, UnsetType, changes, new_id
from eparch.core.pools import DEFAULT_QUEUE
from eparch.orchestration import announcing
from eparch.orchestration.creation import check_job_variables, check_parameters
from eparch.orchestration.deployment_versions import DEFAULT, record
from eparch.orchestration.pools import new_queue
from eparch.store import claims, deployment_versions, deployments, pools, rows, runs
from eparch.store.statement import Note, Steps

Found = tuple[dict[str, Any], bool]
"""The wire's answer, and whether it was made now."""


def create_flow(body: FlowCreate, now: datetime) -> Steps[Found]:
    """Get or make the flow of this name."""
    found = yield from deployments.read_flow_by_name(body.name)
    if found is not None:
        return found, False
    flow = Flow(
        id=new_id(), created=now, updated=now, name=body.name, tags=body.tags, labels=body.labels or {}
    )
    yield from deployments.insert_flow(flow)
    return msgspec.to_builtins(flow, builtin_types=(datetime, UUID)), True


def update_flow(flow_id: UUID, patch: FlowUpdate, now: datetime) -> Steps[None]:
    """Change what ``patch`` names.

    Raises:
        NotFound: there is no such flow.
    """
    if not (yield from deployments.write_flow(flow_id, {**changes(patch), "updated": now})):
        raise NotFound("Flow not found")


def create_deployment(body: DeploymentCreate, now: datetime, change: Change = DEFAULT) -> Steps[Found]:
    """Make the deployment, or replace the one of the same flow and name (wire 4.4).

    Raises:
        NotFound: the flow or the work pool does not exist.
        Conflict: its parameters or job variables do not fit.
        Invalid: a schedule cannot be used.
    """
    flow = yield from deployments.read_flow(body.flow_id)
    if flow is None:
        raise NotFound("Flow not found", why=f"There is no flow {body.flow_id}.")
    existing = yield from deployments.deployment_id(body.flow_id, body.name)
    before = (yield from deployments.deployment_value(existing, now)) if existing is not None else None
    row = (yield from deployments.read_deployment(existing, now)) if existing is not None else None
    columns = _columns(body, rows.value_of(flow["labels"]), now)
    queue_id = yield from _settled_queue(before, body.work_pool_name, body.work_queue_name, now)
    whole = columns if before is None else {**_stored(before), **columns}
    columns["work_queue_id"] = queue_id
    planned = [_schedule(s, now) for s in body.schedules]
    check_slugs(planned)
    if before is None:
        columns = whole = {**_NEW, **columns}
    yield from _check(whole, queue_id, now)
    if before is None:
        deployment_id = new_id()
        yield from deployments.insert_deployment({**columns, "id": deployment_id, "created": now})
        yield from _replace_schedules(deployment_id, planned, now)
    else:
        deployment_id = before.id
        yield from deployments.write_deployment(deployment_id, columns)
        # An empty list cannot be told from one left out; Prefect's client always sends what is wanted.
        yield from _sync_schedules(deployment_id, planned, now)
        if runs_differ(before, columns):
            yield from runs.forget_scheduled(deployment_id, now)
    yield from record(deployment_id, before, change, now)
    yield from _tell(deployment_id, queue_id, now)
    made = yield from deployments.read_deployment(deployment_id, now)
    assert made is not None
    if row is None:
        yield from announcing.deployment_changed("created", made, now)
    else:
        yield from announcing.deployment_updated(row, deployment_id, now)
    return made, before is None


_NEW: dict[str, Any] = {
    "paused": False,
    "job_variables": {},
    "tags": [],
    "enforce_parameter_schema": True,
    "parameter_openapi_schema": {},
    "pull_steps": [],
}
"""What a new deployment has where its request says nothing."""


def _settled_queue(
    before: Deployment | None, pool: str | UnsetType | None, queue: str | UnsetType | None, now: datetime
) -> Steps[UUID | None]:
    """The queue that a deployment gets: another one only where the request names a pool or a queue."""
    pool, queue = pool or None, queue or None
    if before is not None and pool is None:
        if queue is None:
            return before.work_queue_id
        pool = before.work_pool_name
    found = yield from _queue_of(pool, queue, now)
    return found


def _stored(before: Deployment) -> dict[str, Any]:
    return {name: getattr(before, name) for name in (*_CHECKED, "flow_id")}


_PLAIN = (
    "name",
    "flow_id",
    "version",
    "description",
    "paused",
    "concurrency_limit",
    "concurrency_options",
    "job_variables",
    "parameters",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "pull_steps",
    "tags",
    "path",
    "entrypoint",
    "storage_document_id",
    "infrastructure_document_id",
    "version_info",
)


def runs_differ(before: Deployment, columns: dict[str, Any]) -> bool:
    """Whether runs that schedules made before ``columns`` were written are not as they would be made now."""
    if columns.get("paused"):
        return True
    given = ("parameters", "tags", "labels", "version", "work_queue_id")
    return any(name in columns and columns[name] != getattr(before, name) for name in given)


def _tell(deployment_id: UUID, queue_id: UUID | None, now: datetime) -> Steps[None]:
    """Let the scheduler look again, and who waits for work: a limit may have changed."""
    yield from deployments.reschedule(deployment_id)
    yield Note("schedules", deployment_id)
    queue = (yield from pools.read_queue(queue_id, now)) if queue_id is not None else None
    if queue is not None:
        yield Note("work", rows.id_of(queue["work_pool_id"]))


def check_slugs(planned: Iterable[DeploymentSchedule | ContentSchedule]) -> None:
    """Refuse schedules of one deployment that share a slug.

    Raises:
        Conflict: two do.
    """
    slugs = [schedule.slug for schedule in planned if schedule.slug]
    twice = sorted({slug for slug in slugs if slugs.count(slug) > 1})
    if twice:
        raise Conflict(f"Several schedules have the slug '{twice[0]}'.", fix="Give each one of its own.")


def _columns(body: DeploymentCreate, inherited: dict[str, Any] | None, now: datetime) -> dict[str, Any]:
    columns = {name: value for name in _PLAIN if (value := getattr(body, name)) is not UNSET}
    return {
        **columns,
        "updated": now,
        "labels": {**(inherited or {}), "prefect.flow.id": str(body.flow_id), **(body.labels or {})},
    }


def _queue_of(pool: str | None, queue: str | None, now: datetime) -> Steps[UUID | None]:
    """The queue's id; a queue that the pool does not have yet is made, as Prefect does."""
    if pool is None:
        return None
    found = yield from claims.read_pool(pool)
    if found is None:
        raise NotFound(f'Work pool "{pool}" not found.')
    name = queue or DEFAULT_QUEUE
    known = yield from pools.queue_priorities(found[0])
    existing = next((id_ for id_, own, _ in known if own == name), None)
    if existing is not None:
        return existing
    made = yield from new_queue(found[0], name, now)
    return made


def _check(columns: dict[str, Any], queue_id: UUID | None, now: datetime) -> Steps[None]:
    """What is to be written fits its schema and its pool; what only a run must have may be missing."""
    queue = (yield from pools.read_queue(queue_id, now)) if queue_id is not None else None
    template = (yield from pools.read_template(queue["work_pool_id"])) if queue else None
    check_fit(columns, template[0] if template else None, queue["work_pool_name"] if queue else None)


def check_fit(columns: Mapping[str, Any], template: dict[str, Any] | None, pool: str | None) -> None:
    """What a deployment is to be fits its own schema and the ``template`` of its pool.

    Raises:
        Conflict: its parameters or job variables do not.
    """
    schema, given = columns.get("parameter_openapi_schema"), columns.get("parameters")
    if columns.get("enforce_parameter_schema") and schema and given:
        probe = Deployment(
            id=new_id(),
            name="",
            flow_id=columns["flow_id"],
            parameter_openapi_schema={**schema, "required": []},
        )
        check_parameters(probe, given, True, what="saving the deployment")
    if template is not None:
        check_job_variables(template, columns["job_variables"], {}, required=False, pool=pool)


def _schedule(body: DeploymentScheduleCreate, now: datetime) -> DeploymentSchedule:
    return DeploymentSchedule(
        id=new_id(),
        created=now,
        updated=now,
        schedule=checked(body.schedule),
        active=body.active,
        max_scheduled_runs=body.max_scheduled_runs,
        parameters=body.parameters,
        slug=body.slug,
        missed_runs=body.missed_runs or None,
        overlap=body.overlap or None,
    )


def checked(fields: dict[str, Any]) -> dict[str, Any]:
    """The schedule ``fields`` as they are stored.

    Raises:
        Invalid: they are no schedule.
    """
    try:
        schedule = schedule_of(fields)
    except msgspec.ValidationError as error:
        raise Invalid(f"Invalid schedule: {error}.") from error
    schedules.check(schedule)
    builtins: dict[str, Any] = msgspec.to_builtins(schedule)
    return builtins


def _new_schedule(schedule: DeploymentSchedule, deployment_id: UUID, now: datetime) -> DeploymentSchedule:
    return msgspec.structs.replace(
        schedule, deployment_id=deployment_id, schedule=settled_schedule(schedule.schedule, now)
    )


def _replace_schedules(
    deployment_id: UUID, planned: Sequence[DeploymentSchedule], now: datetime
) -> Steps[None]:
    yield from deployments.delete_schedules(deployment_id)
    for schedule in planned:
        yield from deployments.insert_schedule(_new_schedule(schedule, deployment_id, now))


def _sync_schedules(deployment_id: UUID, planned: Sequence[DeploymentSchedule], now: datetime) -> Steps[None]:
    """Bring the stored schedules to ``planned``; one that stays keeps its id.

    Only the runs that a changed or removed schedule has made for later are forgotten (row D15).
    """
    stored = yield from deployments.read_schedules(deployment_id)
    for schedule in planned:
        twin = next((s for s in stored if _same(s, schedule)), None)
        if twin is None:
            yield from deployments.insert_schedule(_new_schedule(schedule, deployment_id, now))
            continue
        stored.remove(twin)
        fields = {
            name: getattr(schedule, name)
            for name in ("active", "max_scheduled_runs", "parameters", "slug")
            if getattr(schedule, name) != getattr(twin, name)
        }
        for name in ("missed_runs", "overlap"):
            # Prefect's clients do not know them, so what they leave out stays.
            if getattr(schedule, name) not in (None, getattr(twin, name)):
                fields[name] = getattr(schedule, name)
        if not is_settled_from(twin.schedule, schedule.schedule):
            fields["schedule"] = settled_schedule(schedule.schedule, now)
            fields["decided_until"] = None  # what the old one missed is missed
        if fields:
            yield from deployments.write_schedule(twin.id, {**fields, "updated": schedule.updated})
            yield from runs.forget_scheduled(deployment_id, now, twin.id)
    for gone in stored:
        yield from deployments.delete_schedule(gone.id)
        yield from runs.forget_scheduled(deployment_id, now, gone.id)


def _same(stored: DeploymentSchedule, planned: DeploymentSchedule) -> bool:
    if stored.slug or planned.slug:
        return stored.slug == planned.slug
    return is_settled_from(stored.schedule, planned.schedule)


def update_deployment(
    deployment_id: UUID,
    patch: DeploymentUpdate,
    now: datetime,
    change: Change = DEFAULT,
    *,
    of_stock: bool = False,
) -> Steps[None]:
    """Change what ``patch`` names; ``of_stock``: a Prefect client says so, which knows no CANCEL_RUNNING.

    Raises:
        NotFound: there is no such deployment, or the work pool that it names does not exist.
        Conflict: its parameters or job variables do not fit.
        Invalid: a schedule cannot be used.
    """
    yield from deployment_versions.lock([deployment_id])
    current = yield from deployments.deployment_value(deployment_id, now)
    if current is None:
        raise NotFound("Deployment not found.")
    row = yield from deployments.read_deployment(deployment_id, now)
    if of_stock:
        options = options_from_stock(patch.concurrency_options, current.concurrency_options)
        patch = msgspec.structs.replace(patch, concurrency_options=options)
    given = changes(patch)
    schedules_ = given.pop("schedules", None)
    given.pop("global_concurrency_limit_id", None)
    pool = given.pop("work_pool_name", None)
    queue = given.pop("work_queue_name", None)
    columns = _not_null(given)
    queue_id = current.work_queue_id
    if pool is not None or queue is not None:
        queue_id = yield from _settled_queue(current, pool, queue, now)
        columns["work_queue_id"] = queue_id
    if not _CHECKED.isdisjoint(columns):
        yield from _check({**_stored(current), **columns}, queue_id, now)
    yield from deployments.write_deployment(deployment_id, {**columns, "updated": now})
    if schedules_ is not None:
        planned = [_planned(update, current, now) for update in schedules_]
        check_slugs(planned)
        yield from _sync_schedules(deployment_id, planned, now)
    if runs_differ(current, columns):
        yield from runs.forget_scheduled(deployment_id, now)
    yield from record(deployment_id, current, change, now)
    assert row is not None
    yield from announcing.deployment_updated(row, deployment_id, now)
    yield from _tell(deployment_id, queue_id, now)


_CHECKED = frozenset(
    {"parameters", "parameter_openapi_schema", "enforce_parameter_schema", "job_variables", "work_queue_id"}
)
_NEVER_NULL = {"job_variables": {}, "parameters": {}, "tags": [], "enforce_parameter_schema": True}


def _not_null(given: dict[str, Any]) -> dict[str, Any]:
    return {k: _NEVER_NULL[k] if v is None and k in _NEVER_NULL else v for k, v in given.items()}


def _planned(update: DeploymentScheduleUpdate, current: Deployment, now: datetime) -> DeploymentSchedule:
    """The schedule that ``update`` wants; what it leaves out of a schedule that it names stays (wire 4.4)."""
    fields = {name: value for name, value in changes(update).items() if value is not None}
    slug = fields.get("replaces") or fields.get("slug")
    twin = next((s for s in current.schedules if slug and s.slug == slug), None)
    if twin is not None:
        kept = ("schedule", "active", "max_scheduled_runs", "parameters", "slug", "missed_runs", "overlap")
        stored = {name: value for name in kept if (value := getattr(twin, name)) is not None}
        fields = {**stored, **fields}
    if "schedule" not in fields:
        raise Invalid("Invalid schedules: each needs a `schedule`.")
    return _schedule(msgspec.convert(fields, DeploymentScheduleCreate), now)


def delete_deployment(deployment_id: UUID, now: datetime) -> Steps[None]:
    """Delete the deployment and the runs that its schedules have made for later.

    Raises:
        NotFound: there is no such deployment.
    """
    yield from runs.forget_scheduled(deployment_id, now)
    row = yield from deployments.read_deployment(deployment_id, now)
    if row is None or not (yield from deployments.delete_deployment(deployment_id)):
        raise NotFound("Deployment not found")
    yield from announcing.deployment_changed("deleted", row, now)


def create_schedules(
    deployment_id: UUID,
    bodies: Sequence[DeploymentScheduleCreate],
    now: datetime,
    change: Change = DEFAULT,
) -> Steps[list[DeploymentSchedule]]:
    """Add schedules to the deployment.

    Raises:
        NotFound: there is no such deployment.
        Invalid: one of them cannot be used.
        Conflict: its slug is taken.
    """
    yield from deployment_versions.lock([deployment_id])
    before = yield from deployments.deployment_value(deployment_id, now)
    if before is None:
        raise NotFound("Deployment not found.")
    stored = before.schedules
    slugs = {s.slug for s in stored if s.slug}
    made: list[DeploymentSchedule] = []
    for body in bodies:
        if body.slug and body.slug in slugs:
            raise Conflict(f"The deployment has a schedule with the slug '{body.slug}' already.")
        schedule = _new_schedule(_schedule(body, now), deployment_id, now)
        yield from deployments.insert_schedule(schedule)
        slugs.add(schedule.slug or "")
        made.append(schedule)
    yield from record(deployment_id, before, change, now)
    yield Note("schedules", deployment_id)
    return made


def update_schedule(
    deployment_id: UUID,
    schedule_id: UUID,
    patch: DeploymentScheduleUpdate,
    now: datetime,
    change: Change = DEFAULT,
) -> Steps[None]:
    """Change what ``patch`` names; runs that the old schedule made for later are replaced.

    Raises:
        NotFound: the deployment has no such schedule.
    """
    before = yield from _with_schedule(deployment_id, schedule_id, now)
    given = {name: value for name, value in changes(patch).items() if name != "replaces"}
    if given.get("schedule") is not None:
        given["schedule"] = settled_schedule(checked(given["schedule"]), now)
        given["decided_until"] = None  # what the old one missed is missed
    if given.get("slug") and any(s.slug == given["slug"] and s.id != schedule_id for s in before.schedules):
        raise Conflict(f"The deployment has a schedule with the slug '{given['slug']}' already.")
    required = ("schedule", "active", "parameters")
    columns = {name: value for name, value in given.items() if value is not None or name not in required}
    yield from deployments.write_schedule(schedule_id, {**columns, "updated": now, "scheduled_until": None})
    yield from runs.forget_scheduled(deployment_id, now, schedule_id)
    yield from record(deployment_id, before, change, now)
    yield Note("schedules", deployment_id)


def delete_schedule(
    deployment_id: UUID, schedule_id: UUID, now: datetime, change: Change = DEFAULT
) -> Steps[None]:
    """Delete the schedule and the runs that it made for later.

    Raises:
        NotFound: the deployment has no such schedule.
    """
    before = yield from _with_schedule(deployment_id, schedule_id, now)
    yield from deployments.delete_schedule(schedule_id)
    yield from runs.forget_scheduled(deployment_id, now, schedule_id)
    yield from record(deployment_id, before, change, now)
    yield Note("schedules", deployment_id)


def _with_schedule(deployment_id: UUID, schedule_id: UUID, now: datetime) -> Steps[Deployment]:
    """The deployment, locked, which must have this schedule."""
    yield from deployment_versions.lock([deployment_id])
    found = yield from deployments.deployment_value(deployment_id, now)
    if found is None or not any(schedule.id == schedule_id for schedule in found.schedules):
        raise NotFound("Schedule not found.")
    return found
