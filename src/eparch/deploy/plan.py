"""What is to be done so that a server has the deployments that are wanted: wanted against current.

Owns the comparison, field by field, and what a deployment keeps because its file says nothing about it
(row D14: absent schedules, ``active`` and ``paused`` stay as they are). Pure: asks no server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.automations import Automation
from eparch.core.crash_retries import COUNT, DELAY
from eparch.core.deployments import (
    ConcurrencyOptions,
    Deployment,
    DeploymentCreate,
    DeploymentSchedule,
    DeploymentScheduleCreate,
    is_settled_from,
)
from eparch.core.model import Json, Labels, Value
from eparch.core.pools import DEFAULT_QUEUE
from eparch.deploy.automations import automations_of, is_there

Key = tuple[str, str]
"""Names of a flow and of its deployment."""


class Kind(StrEnum):
    """What is done with a deployment."""

    CREATE = "create"
    CHANGE = "change"
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
    wanted: Wanted
    id: UUID | None = None
    changes: dict[str, list[Any]] = {}


def plan(
    wanted: Iterable[Wanted],
    current: Mapping[Key, Deployment],
    related: Mapping[UUID, list[Automation]] | None = None,
) -> list[Action]:
    """One action for each of ``wanted``, in its order; ``related`` are the automations of deployments."""
    return [_action(one, current.get(one.key), related or {}) for one in wanted]


def _action(wanted: Wanted, current: Deployment | None, related: Mapping[UUID, list[Automation]]) -> Action:
    if current is None:
        return Action(kind=Kind.CREATE, wanted=wanted)
    settled = _settle(wanted, current)
    changes = _compare(settled, current)
    if settled.triggers is not None:
        known = related.get(current.id, [])
        automations = automations_of(settled.triggers, current.id, settled.label)
        if not is_there(automations, known, current.id):
            changes["triggers"] = [[one.name for one in known], [one.name for one in automations]]
    kind = Kind.CHANGE if changes else Kind.UNCHANGED
    return Action(kind=kind, wanted=settled, id=current.id, changes=changes)


def _settle(wanted: Wanted, current: Deployment) -> Wanted:
    """``wanted`` with what nobody wrote taken from ``current``."""
    paused = current.paused if wanted.paused is None else wanted.paused
    if wanted.schedules is None:
        kept = [_as_create(schedule) for schedule in current.schedules]
        return msgspec.structs.replace(wanted, paused=paused, schedules=kept)
    schedules = list(wanted.schedules)
    for number, schedule in enumerate(schedules):
        twin = next((one for one in current.schedules if _is_same(schedule, one)), None)
        if twin is not None:
            active = twin.active if number in wanted.silent else schedule.active
            most = twin.max_scheduled_runs  # no file can say it
            schedules[number] = msgspec.structs.replace(schedule, active=active, max_scheduled_runs=most)
    return msgspec.structs.replace(wanted, paused=paused, schedules=schedules)


def _as_create(stored: DeploymentSchedule) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(
        schedule=stored.schedule,
        active=stored.active,
        max_scheduled_runs=stored.max_scheduled_runs,
        parameters=stored.parameters,
        slug=stored.slug,
    )


def _is_same(wanted: DeploymentScheduleCreate, stored: DeploymentSchedule) -> bool:
    """Whether they are one schedule before and after: by slug, else by what they say."""
    if wanted.slug or stored.slug:
        return stored.slug is not None and stored.slug in (wanted.slug, wanted.replaces)
    return is_settled_from(stored.schedule, wanted.schedule)


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
    names = ("active", "max_scheduled_runs", "parameters", "slug")
    return all(getattr(wanted, name) == getattr(stored, name) for name in names) and (
        is_settled_from(stored.schedule, wanted.schedule)
    )


def _shown(schedules: list[DeploymentScheduleCreate]) -> list[Any]:
    return [
        {key: value for key, value in msgspec.to_builtins(one).items() if value not in (None, {})}
        for one in schedules
    ]
