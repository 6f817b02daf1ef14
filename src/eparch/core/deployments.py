"""Flows and deployments: records and bodies (wire, schemas of the routers Flows and Deployments)."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from eparch.core.concurrency import ConcurrencyLimit as ConcurrencyLimit
from eparch.core.model import UNSET, Body, Json, Labels, Name, Patch, Record, Timestamp, UnsetType, Value
from eparch.core.runs import Author
from eparch.core.schedule_policies import MissedRuns, Overlap

Limit = Annotated[int, Meta(ge=0, le=2**31 - 1)]
PositiveLimit = Annotated[int, Meta(gt=0, le=2**31 - 1)]


class Flow(Record, frozen=True, kw_only=True):
    """A flow, known by its name."""

    name: str
    tags: list[str] = []
    labels: Labels | None = {}


class FlowUpdate(Patch, frozen=True, kw_only=True):
    """``PATCH /flows/{id}``."""

    tags: list[str] | UnsetType = UNSET


class FlowCreate(Body, frozen=True, kw_only=True):
    """``POST /flows/``: get or create by name."""

    name: Name
    tags: list[str] = []
    labels: Labels | None = None


class CronSchedule(Body, frozen=True, kw_only=True):
    """Cron by wall clock in a time zone."""

    cron: str
    timezone: str | None = None
    day_or: bool = True


class IntervalSchedule(Body, frozen=True, kw_only=True):
    """Every ``interval`` seconds from ``anchor_date``."""

    interval: Annotated[float, Meta(gt=0)]
    anchor_date: Timestamp | None = None
    timezone: str | None = None


class RRuleSchedule(Body, frozen=True, kw_only=True):
    """An RFC 5545 recurrence rule."""

    rrule: str
    timezone: str | None = None


Schedule = CronSchedule | IntervalSchedule | RRuleSchedule
"""On the wire the three are told apart by their one required field, see ``schedule_of``."""

_KINDS: dict[str, type[CronSchedule] | type[IntervalSchedule] | type[RRuleSchedule]] = {
    "cron": CronSchedule,
    "interval": IntervalSchedule,
    "rrule": RRuleSchedule,
}


def schedule_of(fields: dict[str, Json]) -> Schedule:
    """The schedule that ``fields`` (one JSON object) describe.

    Raises:
        msgspec.ValidationError: none or several of cron, interval, rrule are there, or a field is wrong.
    """
    named = [kind for kind in _KINDS if fields.get(kind) is not None]
    if len(named) != 1:
        raise msgspec.ValidationError("Expected exactly one of `cron`, `interval`, `rrule` - at `$.schedule`")
    if isinstance(fields.get("interval"), str):
        # A duration of ISO 8601, as some clients write it; a number in quotes stays one.
        with contextlib.suppress(msgspec.ValidationError):
            seconds = msgspec.convert(fields["interval"], timedelta).total_seconds()
            fields = {**fields, "interval": seconds}
    return msgspec.convert(fields, _KINDS[named[0]], strict=False)


def settled_schedule(fields: dict[str, Json], now: datetime) -> dict[str, Json]:
    """The schedule ``fields`` as they are kept, with what nobody gave written down (wire 4.4).

    An interval counts from the moment when it was made, and interval and rrule are read in UTC.

    Raises:
        msgspec.ValidationError: they are no schedule.
    """
    schedule = schedule_of(fields)
    if not isinstance(schedule, CronSchedule) and schedule.timezone is None:
        schedule = msgspec.structs.replace(schedule, timezone="UTC")
    if isinstance(schedule, IntervalSchedule) and schedule.anchor_date is None:
        schedule = msgspec.structs.replace(schedule, anchor_date=now)
    settled: dict[str, Json] = msgspec.to_builtins(schedule)
    return settled


def is_settled_from(stored: dict[str, Json], wanted: dict[str, Json]) -> bool:
    """Whether ``stored`` is what a server has made of ``wanted``, ours or Prefect's."""
    try:
        kept, asked = schedule_of(stored), schedule_of(wanted)
    except msgspec.ValidationError:
        return stored == wanted
    if isinstance(asked, IntervalSchedule) and isinstance(kept, IntervalSchedule) and not asked.anchor_date:
        asked = msgspec.structs.replace(asked, anchor_date=kept.anchor_date)
    return _spelt_out(kept) == _spelt_out(asked)


def _spelt_out(schedule: Schedule) -> Schedule:
    if isinstance(schedule, CronSchedule):
        return schedule
    if isinstance(schedule, RRuleSchedule):
        schedule = msgspec.structs.replace(schedule, rrule=schedule.rrule.removeprefix(_START))
    return msgspec.structs.replace(schedule, timezone=schedule.timezone or "UTC")


_START = "DTSTART:20200101T000000\n"
"""What Prefect's server writes before an rrule that does not say where it starts."""


class DeploymentSchedule(Record, frozen=True, kw_only=True):
    """A schedule of a deployment; ``schedule`` is one of the three kinds as JSON, see ``schedule_of``."""

    deployment_id: UUID | None = None
    schedule: dict[str, Json]
    active: bool = True
    max_scheduled_runs: PositiveLimit | None = None
    parameters: dict[str, Json] = {}
    slug: str | None = None
    missed_runs: MissedRuns | None = None
    overlap: Overlap | None = None


class DeploymentScheduleCreate(Body, frozen=True, kw_only=True):
    """A schedule to add; policies that nobody names stay as they are (row B1, an extension of ours)."""

    schedule: dict[str, Json]
    active: bool = True
    max_scheduled_runs: PositiveLimit | None = None
    parameters: dict[str, Json] = {}
    slug: str | None = None
    replaces: str | None = None
    missed_runs: MissedRuns | UnsetType | None = UNSET
    overlap: Overlap | UnsetType | None = UNSET


class DeploymentScheduleUpdate(Patch, frozen=True, kw_only=True):
    """What to change of a schedule."""

    schedule: dict[str, Json] | UnsetType | None = UNSET
    active: bool | UnsetType | None = UNSET
    max_scheduled_runs: PositiveLimit | UnsetType | None = UNSET
    parameters: dict[str, Json] | UnsetType = UNSET
    slug: str | UnsetType | None = UNSET
    replaces: str | UnsetType | None = UNSET
    missed_runs: MissedRuns | UnsetType | None = UNSET
    overlap: Overlap | UnsetType | None = UNSET


class CollisionStrategy(StrEnum):
    """What happens to a run that meets a full deployment limit."""

    ENQUEUE = "ENQUEUE"
    CANCEL_NEW = "CANCEL_NEW"
    CANCEL_RUNNING = "CANCEL_RUNNING"
    """The newest run takes over: the oldest of the others are cancelled (row B4)."""


class ConcurrencyOptions(Value, frozen=True, kw_only=True):
    """How a deployment's concurrency limit acts."""

    collision_strategy: CollisionStrategy
    grace_period_seconds: Annotated[int, Meta(ge=60, le=86400)] | None = None


STOCK_STRATEGY = CollisionStrategy.ENQUEUE
"""What Prefect's clients are told in place of CANCEL_RUNNING: they cannot read what they do not know."""


def options_for_stock(options: dict[str, Any]) -> dict[str, Any]:
    """``options`` of a limit as a Prefect client can read them."""
    if options.get("collision_strategy") != CollisionStrategy.CANCEL_RUNNING:
        return options
    return {**options, "collision_strategy": STOCK_STRATEGY.value}


def options_from_stock(
    given: ConcurrencyOptions | UnsetType | None, current: ConcurrencyOptions | None
) -> ConcurrencyOptions | UnsetType | None:
    """What a Prefect client means that changes ``current``: it gives back as ENQUEUE what it was shown so."""
    if not isinstance(given, ConcurrencyOptions) or current is None:
        return given
    if current.collision_strategy is not CollisionStrategy.CANCEL_RUNNING:
        return given
    if given.collision_strategy is not STOCK_STRATEGY:
        return given
    return msgspec.structs.replace(given, collision_strategy=CollisionStrategy.CANCEL_RUNNING)


class DeploymentStatus(StrEnum):
    """Whether somebody polls for the deployment's runs."""

    READY = "READY"
    NOT_READY = "NOT_READY"


class VersionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Where a deployment's code stood when it was deployed."""

    type: str
    version: str


class Deployment(Record, frozen=True, kw_only=True):
    """A flow with all that is needed to run it somewhere (wire: ``DeploymentResponse``)."""

    name: str
    version: str | None = None
    description: str | None = None
    flow_id: UUID
    paused: bool = False
    schedules: list[DeploymentSchedule] = []
    concurrency_limit: int | None = None
    global_concurrency_limit: ConcurrencyLimit | None = None
    concurrency_options: ConcurrencyOptions | None = None
    job_variables: dict[str, Json] = {}
    parameters: dict[str, Json] = {}
    pull_steps: list[dict[str, Json]] | None = None
    tags: list[str] = []
    labels: Labels = {}
    work_queue_name: str | None = None
    work_queue_id: UUID | None = None
    last_polled: Timestamp | None = None
    parameter_openapi_schema: dict[str, Json] | None = None
    path: str | None = None
    entrypoint: str | None = None
    storage_document_id: UUID | None = None
    infrastructure_document_id: UUID | None = None
    created_by: Author | None = None
    updated_by: Author | None = None
    work_pool_name: str | None = None
    status: DeploymentStatus | None = DeploymentStatus.NOT_READY
    enforce_parameter_schema: bool = True


class DeploymentCreate(Body, frozen=True, kw_only=True):
    """``POST /deployments/``: insert or replace by (flow, name).

    What is left out of a deployment that is there stays as it is; parameters, labels and schedules do not.
    """

    name: Name
    flow_id: UUID
    paused: bool | UnsetType = UNSET
    schedules: list[DeploymentScheduleCreate] = []
    concurrency_limit: PositiveLimit | UnsetType | None = UNSET
    concurrency_options: ConcurrencyOptions | UnsetType | None = UNSET
    global_concurrency_limit_id: UUID | UnsetType | None = UNSET
    enforce_parameter_schema: bool | UnsetType = UNSET
    parameter_openapi_schema: dict[str, Json] | UnsetType | None = UNSET
    parameters: dict[str, Json] = {}
    tags: list[str] | UnsetType = UNSET
    labels: Labels | None = None
    pull_steps: list[dict[str, Json]] | UnsetType | None = UNSET
    work_queue_name: str | UnsetType | None = UNSET
    work_pool_name: str | UnsetType | None = UNSET
    storage_document_id: UUID | UnsetType | None = UNSET
    infrastructure_document_id: UUID | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    path: str | UnsetType | None = UNSET
    version: str | UnsetType | None = UNSET
    entrypoint: str | UnsetType | None = UNSET
    job_variables: dict[str, Json] | UnsetType = UNSET
    version_info: VersionInfo | UnsetType | None = UNSET


class DeploymentUpdate(Patch, frozen=True, kw_only=True):
    """``PATCH /deployments/{id}``."""

    version: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    paused: bool | UnsetType = UNSET
    schedules: list[DeploymentScheduleUpdate] | UnsetType = UNSET
    concurrency_limit: PositiveLimit | UnsetType | None = UNSET
    concurrency_options: ConcurrencyOptions | UnsetType | None = UNSET
    global_concurrency_limit_id: UUID | UnsetType | None = UNSET
    enforce_parameter_schema: bool | UnsetType | None = UNSET
    parameter_openapi_schema: dict[str, Json] | UnsetType | None = UNSET
    parameters: dict[str, Json] | UnsetType | None = UNSET
    tags: list[str] | UnsetType = UNSET
    work_queue_name: str | UnsetType | None = UNSET
    work_pool_name: str | UnsetType | None = UNSET
    path: str | UnsetType | None = UNSET
    job_variables: dict[str, Json] | UnsetType | None = UNSET
    pull_steps: list[dict[str, Json]] | UnsetType | None = UNSET
    entrypoint: str | UnsetType | None = UNSET
    storage_document_id: UUID | UnsetType | None = UNSET
    infrastructure_document_id: UUID | UnsetType | None = UNSET
    version_info: VersionInfo | UnsetType | None = UNSET


class PlanRuns(Body, frozen=True, kw_only=True):
    """``POST /deployments/{id}/schedule``: which times of schedules get a run; ``min_time`` in seconds."""

    start_time: Timestamp | None = None
    end_time: Timestamp | None = None
    min_time: Annotated[float, Meta(ge=0, le=3e9)] | None = None
    min_runs: Annotated[int, Meta(ge=0)] | None = None
    max_runs: Annotated[int, Meta(ge=0)] | None = None
