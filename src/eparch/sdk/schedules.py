"""``Cron``, ``Interval`` and ``RRule``: schedules for deployments made in Python, named as in Prefect 3."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from eparch.core.deployments import DeploymentScheduleCreate
from eparch.core.errors import Usage
from eparch.core.schedules import check


def Cron(  # noqa: N802 - the name that people know
    cron: str, /, timezone: str | None = None, day_or: bool = True, **more: Any
) -> DeploymentScheduleCreate:
    """By wall clock; ``more``: ``active``, ``parameters``, ``slug``.

    Raises:
        ScheduleInvalid: it is no schedule.
    """
    return _made({"cron": cron, "timezone": timezone, "day_or": day_or}, more)


def Interval(  # noqa: N802
    interval: float | timedelta,
    /,
    anchor_date: datetime | None = None,
    timezone: str | None = None,
    **more: Any,
) -> DeploymentScheduleCreate:
    """Every ``interval`` seconds from ``anchor_date``; ``more``: ``active``, ``parameters``, ``slug``.

    Raises:
        ScheduleInvalid: it is no schedule.
    """
    seconds = interval.total_seconds() if isinstance(interval, timedelta) else float(interval)
    if anchor_date is not None and anchor_date.tzinfo is None:
        anchor_date = anchor_date.replace(tzinfo=UTC)
    anchor = anchor_date.isoformat() if anchor_date else None
    return _made({"interval": seconds, "anchor_date": anchor, "timezone": timezone}, more)


def RRule(rrule: str, /, timezone: str | None = None, **more: Any) -> DeploymentScheduleCreate:  # noqa: N802
    """By RFC 5545; ``more``: ``active``, ``parameters``, ``slug``.

    Raises:
        ScheduleInvalid: it is no schedule.
    """
    return _made({"rrule": rrule, "timezone": timezone}, more)


def _made(fields: dict[str, Any], more: dict[str, Any]) -> DeploymentScheduleCreate:
    from eparch.core.deployments import schedule_of

    schedule = {key: value for key, value in fields.items() if value is not None}
    check(schedule_of(schedule))
    unknown = sorted(more.keys() - {"active", "parameters", "slug"})
    if unknown:
        raise Usage(f"A schedule has no {unknown[0]!r}.", fix="It has active, parameters and slug.")
    given = {key: value for key, value in more.items() if value is not None}
    return DeploymentScheduleCreate(schedule=schedule, **given)
