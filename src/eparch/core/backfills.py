"""Backfills: runs of a deployment for times that are past, each time once (row B16).

Owns the bodies, which times a backfill has, and how a run learns its time. Which run is made when is
``orchestration.backfills``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from eparch.core.deployments import DeploymentSchedule, Schedule
from eparch.core.errors import Invalid, did_you_mean
from eparch.core.model import Body, Json, Record, Timestamp
from eparch.core.schedules import occurrences

MOST = 100_000
"""Times of one backfill."""

_DATE = re.compile(r"\{\{\s*logical_date\s*\}\}")


class BackfillStatus(StrEnum):
    """How far a backfill is."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"


class DateStatus(StrEnum):
    """What became of one time of a backfill."""

    WAITING = "waiting"
    MADE = "made"
    """Its run is not over."""
    DONE = "done"
    """Its run is over."""
    THERE = "there"
    """It had a run already."""


class Order(StrEnum):
    """Which times come first."""

    ASC = "asc"
    DESC = "desc"


class BackfillSpec(Body, frozen=True, kw_only=True):
    """What a backfill was asked to do."""

    start: Timestamp
    end: Timestamp
    """Not after now; both belong to it."""
    schedule: dict[str, Json] | None = None
    """When it would have run; None: the deployment's schedule called ``slug``, or its only one."""
    slug: str | None = None
    parameters: dict[str, Json] = {}
    """``{{ logical_date }}`` in a text stands for the time, as ISO 8601."""
    concurrency: Annotated[int, Meta(ge=1, le=1000)] = 1
    order: Order = Order.ASC
    retry_failed: bool = False
    """Whether a time whose last run failed, crashed or was cancelled gets another one."""


class BackfillQuery(Body, frozen=True, kw_only=True):
    """``POST /backfills/filter``, the newest first."""

    deployment_id: UUID | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 200
    before: UUID | None = None
    """The last of the page before."""


class Backfill(Record, frozen=True, kw_only=True):
    """A backfill with its counts by ``DateStatus``."""

    deployment_id: UUID
    status: BackfillStatus
    spec: BackfillSpec
    total: int
    counts: dict[str, int] = {}


def chosen(schedules: Sequence[DeploymentSchedule], slug: str | None) -> DeploymentSchedule:
    """The schedule that a backfill goes by: the one called ``slug`` (or of this id), else the only one.

    Raises:
        Invalid: there is none, or there are several.
    """
    names = [one.slug or str(one.id) for one in schedules]
    if slug is not None:
        found = [one for one in schedules if slug in (one.slug, str(one.id))]
        if not found:
            hint = did_you_mean(slug, names) or f"It has {', '.join(names) or 'none'}."
            raise Invalid(f"The deployment has no schedule {slug!r}.", fix=hint)
        return found[0]
    if len(schedules) != 1:
        why = f"It has {', '.join(names)}." if names else "It has none."
        fix = "Name one of them." if names else "Say when it would have run: --cron or --interval."
        raise Invalid("Which schedule is the backfill to go by?", why=why, fix=fix)
    return schedules[0]


def logical_dates(schedule: Schedule, start: datetime, end: datetime, order: Order) -> list[datetime]:
    """The times from ``start`` to ``end``, both with them.

    Raises:
        Invalid: the end comes before the start, or there are more than ``MOST``.
        ScheduleInvalid: the schedule cannot be used.
    """
    if end < start:
        raise Invalid("A backfill cannot end before it starts.")
    found: list[datetime] = []
    for when in occurrences(schedule, start):
        if when > end:
            break
        if len(found) == MOST:
            raise Invalid(f"That are more than {MOST:,} runs.", fix="Take a shorter time.")
        found.append(when)
    return found if order is Order.ASC else found[::-1]


def series_of(deployment_id: UUID, parameters: dict[str, Json]) -> str:
    """What is the same for backfills whose runs are the same: the deployment and what they are given."""
    given = msgspec.json.encode(parameters, order="sorted")
    return f"{deployment_id} {hashlib.sha256(given).hexdigest()[:32]}"


def with_date(value: Any, when: datetime) -> Any:
    """Parameters in which ``{{ logical_date }}`` is the time ``when``."""
    if isinstance(value, str):
        return _DATE.sub(when.isoformat(), value)
    if isinstance(value, dict):
        return {key: with_date(item, when) for key, item in value.items()}
    return [with_date(item, when) for item in value] if isinstance(value, list) else value
