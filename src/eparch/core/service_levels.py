"""Service levels: what the runs of a deployment are to keep to, and what breaks it (row D17). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, NamedTuple
from uuid import UUID

from msgspec import Meta

from eparch.core.errors import Invalid
from eparch.core.events import Event, ResourceLabels
from eparch.core.model import Body, Name, Record, Value

BREACH = "prefect.sla.violation"
"""The event of a breach, as Prefect Cloud names it."""

MOST = 50
"""Service levels of one deployment."""

LONGEST = 366 * 86400.0


class LevelType(StrEnum):
    """The kinds, as Prefect names them."""

    TIME_TO_COMPLETION = "TimeToCompletionSla"
    FREQUENCY = "FrequencySla"
    LATENESS = "LatenessSla"


class Severity(StrEnum):
    """How bad a breach is."""

    MINOR = "minor"
    LOW = "low"
    MODERATE = "moderate"
    HIGH = "high"
    CRITICAL = "critical"


Span = Annotated[float, Meta(gt=0, le=LONGEST)] | timedelta


class ServiceLevelSpec(Body, frozen=True, kw_only=True):
    """A service level as clients send it: exactly one of the last three, in seconds or as ISO 8601."""

    name: Name
    severity: Severity = Severity.MODERATE
    enabled: bool | None = True
    type: LevelType | None = None
    owner_resource: str | None = None
    duration: Span | None = None
    stale_after: Span | None = None
    within: Span | None = None

    def settled(self) -> tuple[LevelType, float]:
        """Its kind and its seconds.

        Raises:
            Invalid: it has none or several of the three, or its type is of another one.
        """
        spans = {
            LevelType.TIME_TO_COMPLETION: self.duration,
            LevelType.FREQUENCY: self.stale_after,
            LevelType.LATENESS: self.within,
        }
        given = [kind for kind, span in spans.items() if span is not None]
        if len(given) != 1 or self.type not in (None, given[0]):
            raise Invalid(
                f"The service level {self.name!r} needs exactly one of duration, stale_after, within.",
                why=f"Its type is {self.type.value}." if self.type else "",
            )
        span = spans[given[0]]
        seconds = span.total_seconds() if isinstance(span, timedelta) else float(span or 0)
        if not 0 < seconds <= LONGEST:
            raise Invalid(f"The time of the service level {self.name!r} is not between 0 s and a year.")
        return given[0], seconds


class ServiceLevel(Record, frozen=True, kw_only=True):
    """A service level of a deployment; what came before ``checked`` was looked at."""

    deployment_id: UUID
    name: str
    type: LevelType
    severity: Severity
    enabled: bool
    seconds: float
    checked: datetime


class NamedLevel(Value, frozen=True, kw_only=True):
    """A service level in an answer."""

    name: str


class LevelsApplied(Value, frozen=True, kw_only=True):
    """What became of service levels."""

    created: list[NamedLevel] = []
    updated: list[NamedLevel] = []
    deleted: list[NamedLevel] = []


class Times(NamedTuple):
    """When a run was to begin, began and ended."""

    run_id: UUID
    name: str
    expected: datetime
    start: datetime | None
    end: datetime | None


class Breach(NamedTuple):
    """One breach; ``subject`` tells it from others of its level."""

    subject: str
    run: Times | None


def breaches(level: ServiceLevel, runs: Iterable[Times], now: datetime) -> list[Breach]:
    """Which of ``runs`` broke the level between its last look and ``now``."""
    limit = timedelta(seconds=level.seconds)
    found = []
    for run in runs:
        since = run.start if level.type is LevelType.TIME_TO_COMPLETION else run.expected
        if since is None or not level.checked < since + limit <= now:
            continue
        reached = run.end
        if level.type is LevelType.LATENESS:
            reached = run.start or run.end
        if reached is None or reached > since + limit:
            found.append(Breach(str(run.run_id), run))
    return found


def is_stale(level: ServiceLevel, last: datetime | None, now: datetime) -> Breach | None:
    """The breach, if no run completed in time after ``last``, or since the level was made."""
    since = max(filter(None, (last, level.created)))
    if now - since <= timedelta(seconds=level.seconds):
        return None
    return Breach(since.isoformat(), None)


def breach_event(
    level: ServiceLevel, breach: Breach, deployment: str, flow: ResourceLabels, now: datetime
) -> Event:
    """What is told of a breach: about the run, or about the deployment where no run came."""
    own = {
        "prefect.resource.id": f"prefect.deployment.{level.deployment_id}",
        "prefect.resource.name": deployment,
    }
    resource, related = own, [flow]
    if breach.run is not None:
        resource = {
            "prefect.resource.id": f"prefect.flow-run.{breach.run.run_id}",
            "prefect.resource.name": breach.run.name,
        }
        related = [{**own, "prefect.resource.role": "deployment"}, flow]
    payload = {
        "sla": {
            "id": str(level.id),
            "name": level.name,
            "type": level.type.value,
            "severity": level.severity.value,
            "seconds": level.seconds,
        }
    }
    return Event(occurred=now, event=BREACH, resource=resource, related=related, payload=payload)
