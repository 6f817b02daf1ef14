"""Schedules merged three ways: what the file said last, what it says now, what the server has (row D14).

What a person changed by hand stays, unless the file changed that too. Absent in the file is unmanaged, an
empty list is none. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.deployment_versions import ContentSchedule
from eparch.core.deployments import DeploymentSchedule, DeploymentScheduleCreate, is_settled_from
from eparch.core.model import Json, Value
from eparch.core.schedule_policies import MissedRuns, Overlap

POLICIES = ("missed_runs", "overlap")
"""Fields of a schedule that only servers of ours know (row B1)."""


class AppliedSchedule(Value, frozen=True, kw_only=True):
    """A schedule as the file had it when it was deployed; ``id`` is the server's."""

    id: UUID
    schedule: dict[str, Json]
    active: bool | None = None
    """None: the file did not say."""
    parameters: dict[str, Json] = {}
    slug: str | None = None
    missed_runs: MissedRuns | None = None
    overlap: Overlap | None = None


class Merged(Value, frozen=True, kw_only=True):
    """The schedules that a deployment is to have, and what is told of those that a person changed."""

    schedules: list[ContentSchedule]
    applied: list[AppliedSchedule] | None = None
    """What the file says now, to be compared with the next time; None: nothing."""
    drift: list[str] = []


def merge(
    wanted: Sequence[DeploymentScheduleCreate] | None,
    silent: frozenset[int],
    applied: Sequence[AppliedSchedule] | None,
    stored: Sequence[DeploymentSchedule],
) -> Merged:
    """What the file wants, with what people changed; ``silent`` are the numbers without ``active``.

    With ``applied`` of None nobody knows what the file said before, so what it says now counts.
    """
    if wanted is None:
        return Merged(schedules=[_kept(one) for one in stored])
    merger = _Merger(applied or (), stored)
    for number, one in enumerate(wanted):
        merger.add(one, None if number in silent else one.active)
    merger.finish(by_hand_stays=applied is not None and bool(wanted))
    return Merged(schedules=merger.schedules, applied=merger.said, drift=merger.drift)


class _Merger:
    def __init__(self, applied: Sequence[AppliedSchedule], stored: Sequence[DeploymentSchedule]) -> None:
        self.applied, self.left = {one.id: one for one in applied}, {one.id: one for one in stored}
        self.known = dict(self.applied)
        self.schedules: list[ContentSchedule] = []
        self.said: list[AppliedSchedule] = []
        self.drift: list[str] = []

    def add(self, wanted: DeploymentScheduleCreate, active: bool | None) -> None:
        """One of the file's."""
        old = next((one for one in self.applied.values() if _is_same(wanted, one.slug, one.schedule)), None)
        if old is not None:
            del self.applied[old.id]
        twin = self._twin(wanted, old)
        if twin is None and old is not None and _says_same(wanted, active, old):
            self.drift.append(f"schedule {_label(wanted)} was deleted by hand; it stays deleted")
            self.said.append(old)
            return
        merged = _fresh(wanted) if twin is None else self._three_ways(wanted, active, old, twin)
        self.schedules.append(merged)
        self.said.append(
            AppliedSchedule(
                id=merged.id,
                schedule=wanted.schedule,
                active=active,
                parameters=wanted.parameters,
                slug=wanted.slug,
                missed_runs=wanted.missed_runs or None,
                overlap=wanted.overlap or None,
            )
        )

    def _twin(
        self, wanted: DeploymentScheduleCreate, old: AppliedSchedule | None
    ) -> DeploymentSchedule | None:
        if old is not None and old.id in self.left:
            return self.left.pop(old.id)
        for one in self.left.values():
            if one.id not in self.applied and _is_same(wanted, one.slug, one.schedule):
                return self.left.pop(one.id)
        return None

    def _three_ways(
        self,
        wanted: DeploymentScheduleCreate,
        active: bool | None,
        old: AppliedSchedule | None,
        twin: DeploymentSchedule,
    ) -> ContentSchedule:
        schedule, parameters, is_active = wanted.schedule, wanted.parameters, active
        if is_settled_from(twin.schedule, schedule):
            schedule = twin.schedule
        elif old is not None and is_settled_from(schedule, old.schedule):
            schedule = self._by_hand(wanted, "another schedule", twin.schedule)
        if old is not None and parameters == old.parameters and twin.parameters != parameters:
            parameters = self._by_hand(wanted, "other parameters", twin.parameters)
        policies: dict[str, Any] = {}
        for name in POLICIES:
            policies[name] = getattr(wanted, name) or None
            kept = getattr(twin, name)
            if old is not None and policies[name] == getattr(old, name) and kept != policies[name]:
                policies[name] = self._by_hand(wanted, f"another '{name}'", kept)
        if active is None:
            is_active = twin.active
        elif old is not None and active == old.active and twin.active != active:
            is_active = self._by_hand(wanted, "active" if twin.active else "paused", twin.active)
        return ContentSchedule(
            id=twin.id,
            schedule=schedule,
            active=bool(is_active),
            max_scheduled_runs=twin.max_scheduled_runs,  # no file can say it
            parameters=parameters,
            slug=wanted.slug,
            **policies,
        )

    def _by_hand(self, wanted: DeploymentScheduleCreate, what: str, value: Any) -> Any:
        made = f"was made {what}" if isinstance(value, bool) else f"was given {what}"
        self.drift.append(f"schedule {_label(wanted)} {made} by hand; it stays so")
        return value

    def finish(self, *, by_hand_stays: bool) -> None:
        """What the server has and the file has not."""
        for one in self.left.values():
            if by_hand_stays and one.id not in self.known:
                self.schedules.append(_kept(one))
                self.drift.append(f"schedule {one.slug or _words(one.schedule)} was added by hand; it stays")


def _says_same(wanted: DeploymentScheduleCreate, active: bool | None, old: AppliedSchedule) -> bool:
    return (
        is_settled_from(wanted.schedule, old.schedule)
        and wanted.parameters == old.parameters
        and active == old.active
        and all((getattr(wanted, name) or None) == getattr(old, name) for name in POLICIES)
    )


def _is_same(wanted: DeploymentScheduleCreate, slug: str | None, schedule: dict[str, Json]) -> bool:
    """Whether they are one schedule before and after: by slug, else by what they say."""
    if wanted.slug or slug:
        return slug is not None and slug in (wanted.slug, wanted.replaces)
    return is_settled_from(schedule, wanted.schedule)


def _fresh(wanted: DeploymentScheduleCreate) -> ContentSchedule:
    names = ("schedule", "active", "max_scheduled_runs", "parameters", "slug")
    own = {name: getattr(wanted, name) for name in names}
    return ContentSchedule(**own, missed_runs=wanted.missed_runs or None, overlap=wanted.overlap or None)


def _kept(stored: DeploymentSchedule) -> ContentSchedule:
    return ContentSchedule(**{name: getattr(stored, name) for name in ContentSchedule.__struct_fields__})


def _label(wanted: DeploymentScheduleCreate) -> str:
    return wanted.slug or _words(wanted.schedule)


def _words(schedule: dict[str, Json]) -> str:
    kind = next((kind for kind in ("cron", "interval", "rrule") if schedule.get(kind) is not None), "")
    return f"'{schedule.get(kind)}'"


def read_applied(document: Json) -> list[AppliedSchedule] | None:
    """The schedules in what a server kept; None where there are none, or they cannot be read."""
    try:
        return msgspec.convert(document, list[AppliedSchedule] | None)
    except msgspec.ValidationError:
        return None
