"""Schedules of Prefect 2 as items of ``schedules:`` (row M5).

Owns the three kinds and when one is inactive. Whether a schedule is valid is judged with the whole entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eparch.core.model import Json
from eparch.migrate.account import Account

_KINDS = {
    "cron": ("cron", "timezone", "day_or"),
    "interval": ("interval", "anchor_date", "timezone"),
    "rrule": ("rrule", "timezone"),
}
FIELDS = ("schedule", "schedules", "is_schedule_active")


def read_schedules(fields: Mapping[str, Json], account: Account) -> list[dict[str, Json]]:
    """The schedules of a deployment's ``schedule``, ``schedules`` and ``is_schedule_active``."""
    found = []
    many, one = fields.get("schedules"), fields.get("schedule")
    source = "schedules" if many else "schedule"
    given = many if isinstance(many, list) else [many or one]
    for item in given if many else [one]:
        if item in (None, {}, ""):
            continue
        schedule = _read(item, fields.get("is_schedule_active"))
        if schedule is None:
            account.needs_you(source, "it is no cron, interval or rrule: write it under 'schedules:'")
            return []
        found.append(schedule)
    for field in FIELDS:
        if field not in fields:
            continue
        if not found and field == "is_schedule_active" and fields[field] is not None:
            account.dropped(field, "there is no schedule")
        elif not found or fields[field] is None:
            account.carried(field, why="it was empty")
        elif field == source:
            account.placed(field, "schedules", same=field == "schedules")
        elif field == "is_schedule_active":
            account.renamed(field, "schedules", "it is 'active' of each schedule")
        else:
            account.dropped(field, f"'{source}' says it")
    return found


def _read(item: Json, active: Json) -> dict[str, Json] | None:
    if isinstance(item, str):
        item = {"cron": item}
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("schedule"), dict):
        active = item.get("active") if item.get("active") is not None else active
        item = item["schedule"]
    kind = next((kind for kind in _KINDS if item.get(kind) is not None), None)
    if kind is None:
        return None
    schedule: dict[str, Any] = {key: item[key] for key in _KINDS[kind] if item.get(key) is not None}
    if schedule.get("day_or") is True:
        del schedule["day_or"]
    interval = schedule.get("interval")
    if isinstance(interval, float) and interval.is_integer():
        schedule["interval"] = int(interval)
    if active is False:
        schedule["active"] = False
    return schedule
