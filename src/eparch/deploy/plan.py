"""What is to be done so that a server has the deployments that are wanted: wanted against current.

Owns the comparison, field by field, what a deployment keeps because its file says nothing about it
(row D14: absent schedules, ``active`` and ``paused`` stay as they are), what was changed by hand since the
last time, and what a project owned and has no more (row D13). Pure: asks no server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.automations import AutomationCreate
from eparch.core.crash_retries import COUNT, DELAY
from eparch.core.deploy_plans import PlannedDeployment, SeenAutomation, SeenDeployment, Standing
from eparch.core.deployment_versions import Content, ContentSchedule
from eparch.core.deployments import (
    ConcurrencyOptions,
    Deployment,
    DeploymentCreate,
    DeploymentSchedule,
    DeploymentScheduleCreate,
    is_settled_from,
)
from eparch.core.model import Json, Labels, Value, new_id
from eparch.core.pools import DEFAULT_QUEUE
from eparch.deploy.automations import automations_of, is_there, owner_of
from eparch.deploy.merging import POLICIES, Merged, merge, read_applied

Key = tuple[str, str]
"""Names of a flow and of its deployment."""


class Kind(StrEnum):
    """What is done with a deployment."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"
    UNCHANGED = "unchanged"


class Wanted(Value, frozen=True, kw_only=True):
    """A deployment as it should be. ``paused`` and ``schedules`` of None: as they are, else the default.

    ``silent`` are the numbers of the schedules whose ``active`` nobody wrote.
    """

    flow_name: str
    name: str
    entrypoint: str
    version: str | None = None
    description: str | None = None
    paused: bool | None = None
    schedules: list[DeploymentScheduleCreate] | None = None
    silent: frozenset[int] = frozenset()
    concurrency_limit: int | None = None
    concurrency_options: ConcurrencyOptions | None = None
    labels: Labels = {}
    """Those that say how a crash is met (ADR 10)."""
    enforce_parameter_schema: bool = True
    parameter_openapi_schema: dict[str, Json] = {}
    parameters: dict[str, Json] = {}
    tags: list[str] = []
    pull_steps: list[dict[str, Json]] = []
    work_pool_name: str | None = None
    work_queue_name: str | None = None
    job_variables: dict[str, Json] = {}
    triggers: list[dict[str, Json]] | None = None
    """What runs it when something happens; None: as they are."""
    service_levels: list[dict[str, Json]] | None = None
    """What its runs are to keep to (row D17); None: as they are."""

    @property
    def key(self) -> Key:
        """What it is known by."""
        return self.flow_name, self.name

    @property
    def label(self) -> str:
        """``flow/deployment``."""
        return f"{self.flow_name}/{self.name}"

    def body(self, flow_id: UUID) -> DeploymentCreate:
        """The request that makes it."""
        given = {name: getattr(self, name) for name in _FIELDS}
        return DeploymentCreate(
            name=self.name,
            flow_id=flow_id,
            paused=bool(self.paused),
            schedules=self.schedules or [],
            **given,
        )


_FIELDS = (
    "entrypoint",
    "version",
    "description",
    "concurrency_limit",
    "concurrency_options",
    "labels",
    "enforce_parameter_schema",
    "parameter_openapi_schema",
    "parameters",
    "tags",
    "pull_steps",
    "work_pool_name",
    "work_queue_name",
    "job_variables",
)


class Action(Value, frozen=True, kw_only=True):
    """What is done with one deployment; ``changes`` are field -> what it was and what it will be."""

    kind: Kind
    label: str
    """``flow/deployment``."""
    id: UUID
    """Of the deployment; of one that is created, the one that it gets where the server lets us choose."""
    wanted: Wanted | None = None
    """With what nobody wrote filled in; None: it is to go."""
    content: Content = Content()
    """All that it will be."""
    automations: list[AutomationCreate] | None = None
    """Those that it will have; None: they stay as they are."""
    changes: dict[str, list[Any]] = {}
    drift: list[str] = []
    """What was changed by hand since the file was deployed last."""
    standing: Standing | None = None
    """What it is now."""
    applied: dict[str, Json] = {}
    """What the file says, to be remembered."""

    def planned(self) -> PlannedDeployment:
        """The part of a plan that makes or changes it."""
        assert self.wanted is not None
        seen = self.standing.automations if self.standing else []
        return PlannedDeployment(
            id=self.id,
            flow_name=self.wanted.flow_name,
            name=self.wanted.name,
            number=self.standing.number if self.standing else None,
            content=self.content,
            automations=self.automations,
            seen_automations=[SeenAutomation(id=one.id, updated=one.updated) for one in seen if one.updated],
            applied=self.applied,
        )

    def seen(self) -> SeenDeployment:
        """The deployment as the plan saw it."""
        return SeenDeployment(id=self.id, number=self.standing.number if self.standing else 0)

    def is_remembered(self, project: str | None) -> bool:
        """Whether the server knows whose it is and what its file says."""
        standing = self.standing
        known = standing is not None and project in (None, standing.project)
        return known and standing is not None and standing.applied == self.applied


def plan(
    wanted: Iterable[Wanted],
    standings: Mapping[Key, Standing],
    *,
    owned: Sequence[Standing] = (),
) -> list[Action]:
    """One action for each of ``wanted``, in its order; then what is ``owned`` and not wanted is deleted."""
    actions = [_action(one, standings.get(one.key)) for one in wanted]
    kept = {action.id for action in actions}
    return [*actions, *(_deletion(one) for one in owned if one.deployment.id not in kept)]


def _deletion(standing: Standing) -> Action:
    found = standing.deployment
    label = f"{standing.flow_name}/{found.name}"
    return Action(kind=Kind.DELETE, label=label, id=found.id, standing=standing)


def _action(wanted: Wanted, standing: Standing | None) -> Action:
    current = standing.deployment if standing else None
    known = (standing.applied or {}) if standing else {}
    stored = current.schedules if current else []
    said = read_applied(known.get("schedules"))
    if known and said is None:
        said = []  # the file said nothing of schedules: those that there are were made by hand
    merged = merge(wanted.schedules, wanted.silent, said, stored)
    if current is not None:
        paused = current.paused if wanted.paused is None else wanted.paused
        settled = msgspec.structs.replace(wanted, paused=paused, schedules=_as_creates(merged, current))
    else:
        settled = wanted
    changes = {} if current is None else _compare(settled, current)
    id_ = current.id if current else new_id()
    automations = None
    if settled.triggers is not None:
        automations = automations_of(settled.triggers, id_, settled.label)
        related = standing.automations if standing else []
        if current is None or is_there(automations, related, id_):
            automations = automations if current is None and automations else None
        else:
            changes["triggers"] = [[one.name for one in related], [one.name for one in automations]]
    kind = Kind.CREATE if current is None else Kind.CHANGE if changes else Kind.UNCHANGED
    return Action(
        kind=kind,
        label=settled.label,
        id=id_,
        wanted=settled,
        content=_content(settled, merged, current),
        automations=[_owned(one, id_) for one in automations] if automations is not None else None,
        changes=changes,
        drift=[*merged.drift, *_drift(known.get("fields") or {}, settled, current)],
        standing=standing,
        applied=_applied(wanted, merged),
    )


def _owned(automation: AutomationCreate, deployment_id: UUID) -> AutomationCreate:
    return msgspec.structs.replace(automation, owner_resource=owner_of(deployment_id))


def _content(settled: Wanted, merged: Merged, current: Deployment | None) -> Content:
    """All that it will be: also what no file can say, as it is."""
    fields = {name: getattr(settled, name) for name in _FIELDS}
    if current is not None:  # what means the same is no change
        fields |= {
            name: is_ for name in _FIELDS if _is_equal(name, is_ := _current(name, current), fields[name])
        }
    kept = {} if current is None else _without_crash(current.labels)
    return Content(
        **{**fields, "labels": {**kept, **settled.labels}},
        paused=bool(settled.paused),
        schedules=sorted(merged.schedules, key=lambda one: one.id),
        path=current.path if current else None,
    )


def _without_crash(labels: Labels) -> Labels:
    return {key: value for key, value in labels.items() if key not in (COUNT, DELAY)}


def _applied(wanted: Wanted, merged: Merged) -> dict[str, Json]:
    """What the file says: the fields that it has, and its schedules; what is read from code is not there."""
    names = ("paused", *(name for name in _FIELDS if name not in ("parameter_openapi_schema", "description")))
    fields = {name: value for name in names if (value := getattr(wanted, name)) is not None}
    document: dict[str, Json] = msgspec.to_builtins({"fields": fields, "schedules": merged.applied})
    return document


def _drift(said: dict[str, Json], settled: Wanted, current: Deployment | None) -> list[str]:
    """Fields that are not what the file said last, and what becomes of them."""
    if current is None:
        return []
    found = []
    for name, was in said.items():
        if name not in ("paused", *_FIELDS):
            continue
        is_ = msgspec.to_builtins(_current(name, current))
        if not _is_equal(name, was, is_):
            back = not _is_equal(name, is_, msgspec.to_builtins(getattr(settled, name)))
            found.append(
                f"{name} was changed by hand; it {'is set as the file says' if back else 'stays so'}"
            )
    return found


def _as_creates(merged: Merged, current: Deployment) -> list[DeploymentScheduleCreate]:
    """The schedules as a server is sent them that has no plans."""
    slugs = {one.id: one.slug for one in current.schedules}
    return [_as_create(one, replaces=slugs.get(one.id)) for one in merged.schedules]


def _as_create(
    one: DeploymentSchedule | ContentSchedule, *, replaces: str | None = None
) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(
        schedule=one.schedule,
        active=one.active,
        max_scheduled_runs=one.max_scheduled_runs,
        parameters=one.parameters,
        slug=one.slug,
        replaces=replaces if replaces != one.slug else None,
        **{name: value for name in POLICIES if (value := getattr(one, name)) is not None},
    )


def _compare(wanted: Wanted, current: Deployment) -> dict[str, list[Any]]:
    changes: dict[str, list[Any]] = {}
    for name in ("paused", *_FIELDS):
        was, will = _current(name, current), getattr(wanted, name)
        if not _is_equal(name, was, will):
            changes[name] = [was, will]
    was_schedules = [_as_create(schedule) for schedule in current.schedules]
    if not _are_equal(wanted.schedules or [], was_schedules):
        changes["schedules"] = [_shown(was_schedules), _shown(wanted.schedules or [])]
    return changes


def _current(name: str, current: Deployment) -> Any:
    if name == "concurrency_limit" and current.global_concurrency_limit is not None:
        return current.global_concurrency_limit.limit
    if name == "labels":
        return {key: value for key, value in current.labels.items() if key in (COUNT, DELAY)}
    return getattr(current, name)


def _is_equal(name: str, was: Any, will: Any) -> bool:
    if name == "work_queue_name":
        return bool((was or DEFAULT_QUEUE) == (will or DEFAULT_QUEUE))
    if name == "tags":
        return sorted(was) == sorted(will)
    if name in ("pull_steps", "parameter_openapi_schema", "description"):
        return bool((was or None) == (will or None))
    return bool(was == will)


def _are_equal(wanted: list[DeploymentScheduleCreate], current: list[DeploymentScheduleCreate]) -> bool:
    """Whether the two lists mean the same, in any order."""
    left = list(current)
    for schedule in wanted:
        twin = next((one for one in left if _is_equal_schedule(schedule, one)), None)
        if twin is None:
            return False
        left.remove(twin)
    return not left


def _is_equal_schedule(wanted: DeploymentScheduleCreate, stored: DeploymentScheduleCreate) -> bool:
    names = ("active", "max_scheduled_runs", "parameters", "slug", *POLICIES)
    return all((getattr(wanted, name) or None) == (getattr(stored, name) or None) for name in names) and (
        is_settled_from(stored.schedule, wanted.schedule)
    )


def _shown(schedules: list[DeploymentScheduleCreate]) -> list[Any]:
    return [
        {key: value for key, value in msgspec.to_builtins(one).items() if value not in (None, {})}
        for one in schedules
    ]
