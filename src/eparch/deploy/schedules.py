"""The schedules that a ``prefect.yaml`` gives a deployment, as the wire has them.

Owns every way to write one: kinds, interval forms, dates, old fields. Whether a schedule can run is decided
by ``core.schedules``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from eparch.core.deployments import DeploymentScheduleCreate, schedule_of
from eparch.core.errors import ScheduleInvalid, did_you_mean
from eparch.core.model import Json, decode
from eparch.core.schedule_policies import MissedRuns, Overlap
from eparch.core.templates import Path, placeholders
from eparch.deploy.findings import Fields, Findings, is_blank, kind_of
from eparch.deploy.grammar import MISSED, MISSED_RUNS, OVERLAP, SCHEDULE, SCHEDULE_KINDS, SCHEDULE_OLD, SLUG

_HINTS = {
    "late_runs": "there is no such field",
    "flow_run_name": "there is no such field; the flow names its runs: @flow(flow_run_name=...)",
    "deployment_name": "there is no such field; a schedule belongs to the deployment that lists it",
    "time_zone": "write 'timezone'",
    "tz": "write 'timezone'",
    "is_active": "write 'active'",
    "enabled": "write 'active'",
    "start_date": "write 'anchor_date'",
}
_WITHOUT_DAYLIGHT_SAVING = {"EST": "America/New_York", "MST": "America/Denver", "HST": "Pacific/Honolulu"}
_SLUG = re.compile(SLUG)
_CLOCK = re.compile(r"(\d+):([0-5]?\d):([0-5]?\d(?:\.\d+)?)")
_CRON_FIELD = r"(?:[\d*?][\w*/,\-#?]*|[A-Za-z]{3}(?:[-,][A-Za-z]{3})*)"
_CRONLIKE = re.compile(rf"{_CRON_FIELD}(?:\s+{_CRON_FIELD}){{4,5}}")
_DURATION = re.compile(
    r"P(?:(?P<weeks>\d+(?:\.\d+)?)W)?(?:(?P<days>\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)
_SECONDS = {"weeks": 604800.0, "days": 86400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}


def read_schedules(
    value: Json, path: Path, findings: Findings, *, active: bool | None, final: bool
) -> list[DeploymentScheduleCreate]:
    """The schedules in the list ``value``; ``active`` is the deployment's old ``is_schedule_active``.

    Before rendering (``final`` false) a schedule with placeholders is passed on unchecked.
    """
    schedules = []
    slugs: dict[str, Path] = {}
    for index, item in enumerate(value):
        where = (*path, index)
        if item is None or item == {}:
            continue
        if not final and isinstance(item, str) and placeholders(item):
            continue
        if not isinstance(item, dict):
            fix = f"write '- cron: \"{item}\"'" if isinstance(item, str) else ""
            findings.error(where, f"A schedule must be a mapping, not {kind_of(item)}", fix=fix)
            continue
        schedule = _read_schedule(item, where, findings, active=active, final=final)
        if schedule is None:
            continue
        if schedule.slug and schedule.slug in slugs:
            line = findings.document.at(slugs[schedule.slug]).line
            message = f"Two schedules have the slug '{schedule.slug}', the first is on line {line}"
            findings.error((*where, "slug"), message, fix="rename one")
        elif schedule.slug:
            slugs[schedule.slug] = (*where, "slug")
        schedules.append(schedule)
    return schedules


def parse_interval(value: Json) -> float:
    """Seconds of an interval: a number, ``"3600"``, ``PT1H`` (ISO 8601) or ``1:00:00``.

    Raises:
        ScheduleInvalid: it is none of these, or not more than zero.
    """
    seconds = _seconds(value)
    if seconds is None:
        fix = "write seconds, 'PT1H' or '1:00:00'"
        if isinstance(value, str) and _CRONLIKE.fullmatch(value.strip()):
            fix = f'this looks like cron: write cron: "{value.strip()}"'
        raise ScheduleInvalid(f"'{value}' is not an interval", fix=fix)
    if seconds <= 0:
        raise ScheduleInvalid("An interval must be more than zero")
    return seconds


def _seconds(value: Json) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    clock = _CLOCK.fullmatch(text)
    if clock:
        return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3])
    duration = _DURATION.fullmatch(text.upper())
    if duration and any(duration.groups()):
        return sum(float(part) * _SECONDS[unit] for unit, part in duration.groupdict().items() if part)
    return None


def _read_schedule(
    item: dict[str, Json], path: Path, findings: Findings, *, active: bool | None, final: bool
) -> DeploymentScheduleCreate | None:
    before = len(findings.errors)
    findings.check_keys(item, path, (*SCHEDULE, *SCHEDULE_OLD), _HINTS, "A schedule")
    _read_old(item, path, findings)
    fields = Fields(item, path, findings, final=final)
    named = [kind for kind in SCHEDULE_KINDS if item.get(kind) is not None]
    if len(named) != 1:
        message = "A schedule needs exactly one of cron, interval, rrule"
        if is_blank(item):
            return None
        why = f"it has {' and '.join(named)}" if named else "it has none of them"
        findings.error(path, message, why=why)
        return None
    kept = fields.flag("active")
    kept = active if kept is None else kept
    slug = _read_slug(fields, findings)
    timezone = fields.text("timezone") or None
    if timezone in _WITHOUT_DAYLIGHT_SAVING:
        like = _WITHOUT_DAYLIGHT_SAVING[timezone]
        findings.note((*path, "timezone"), f"'{timezone}' has no daylight saving; did you mean '{like}'?")
    policies = _policies(fields, findings)
    schedule = _wire(named[0], fields, timezone, findings)
    parameters = fields.mapping("parameters") or {}
    if schedule is None or len(findings.errors) > before:
        return None
    return DeploymentScheduleCreate(
        schedule=schedule,
        active=True if kept is None else kept,
        parameters=parameters,
        slug=slug,
        replaces=fields.text("replaces"),
        **policies,
    )


def _policies(fields: Fields, findings: Findings) -> dict[str, Any]:
    """What becomes of missed and of overlapping runs (row B1), as far as the file says it."""
    read: dict[str, Any] = {}
    overlap = fields.text("overlap")
    if (
        overlap
        and not fields.is_open(overlap)
        and _is_word(overlap, OVERLAP, (*fields.path, "overlap"), findings)
    ):
        read["overlap"] = Overlap(overlap)
    given = fields.given.get("missed_runs")
    if given is None or fields.is_open(given):
        return read
    where: Path = (*fields.path, "missed_runs")
    mapping = given if isinstance(given, dict) else {"policy": given}
    if isinstance(given, dict):
        findings.check_keys(given, where, tuple(MISSED_RUNS), {}, "'missed_runs'")
    policy, window = mapping.get("policy"), mapping.get("window")
    if fields.is_open(policy) or fields.is_open(window) or not _is_word(policy, MISSED, where, findings):
        return read
    try:
        seconds = None if window is None else parse_interval(window)
        read["missed_runs"] = msgspec.convert({"policy": policy, "window": seconds}, MissedRuns)
    except ScheduleInvalid as error:
        message = error.message.replace("An interval", "'window'").replace("an interval", "a time")
        findings.error((*where, "window"), message, fix=error.fix)
    except msgspec.ValidationError:
        findings.error((*where, "window"), "'window' is longer than a year")
    return read


def _is_word(value: Json, words: tuple[str, ...], where: Path, findings: Findings) -> bool:
    if value in words:
        return True
    fix = did_you_mean(str(value), words) or f"one of {', '.join(words)}"
    findings.error(where, f"'{where[-1]}' cannot be '{value}'", fix=fix)
    return False


def _read_old(item: dict[str, Json], path: Path, findings: Findings) -> None:
    """Fields that Prefect 3.0's wizard wrote and later versions forbid (real-files 2.4)."""
    if item.get("catchup") not in (None, False):
        findings.error(
            (*path, "catchup"),
            "Missed runs are not caught up by a schedule",
            fix="remove 'catchup'",
            key=True,
        )
    most = item.get("max_active_runs")
    if most is not None:
        message = f"'max_active_runs' is ignored; write 'concurrency_limit: {most}' in the deployment"
        findings.note((*path, "max_active_runs"), message)


def _read_slug(fields: Fields, findings: Findings) -> str | None:
    slug = fields.text("slug") or None
    if slug is None or fields.is_open(slug):
        return slug
    where = (*fields.path, "slug")
    if not _SLUG.fullmatch(slug):
        fix = "use small letters, digits and hyphens"
        findings.error(where, f"'{slug}' is not a slug", fix=fix)
    elif "_" in slug:
        findings.note(where, f"the slug '{slug}' has '_' where '-' is usual; it is kept")
    return slug


def _wire(kind: str, fields: Fields, timezone: str | None, findings: Findings) -> dict[str, Json] | None:
    """The schedule as JSON; None after a mistake."""
    where = (*fields.path, kind)
    given: dict[str, Any] = {kind: fields.given[kind], "timezone": timezone}
    if kind == "cron":
        given["cron"] = fields.text("cron")
        given["day_or"] = fields.flag("day_or")
    elif kind == "interval":
        given["anchor_date"] = fields.text("anchor_date")
    else:
        given |= _rrule(fields.text("rrule") or "", timezone)
    for other in ("day_or", "anchor_date"):
        if fields.given.get(other) is not None and other not in given:
            belongs = "cron" if other == "day_or" else "interval"
            findings.error((*fields.path, other), f"'{other}' belongs to {belongs} schedules only", key=True)
    given = {key: value for key, value in given.items() if value is not None}
    if not fields.final and placeholders(fields.given):
        return given
    try:
        if kind == "interval":
            given["interval"] = parse_interval(given["interval"])
            if "anchor_date" in given:
                where = (*fields.path, "anchor_date")
                given["anchor_date"] = _anchor(given["anchor_date"], timezone, where, findings)
                where = (*fields.path, kind)
        schedule = schedule_of(given)
        _check(schedule)
    except ScheduleInvalid as error:
        at = (*fields.path, "timezone") if "zone" in error.message.lower() and timezone else where
        findings.error(at, error.message, why=error.why, fix=error.fix)
        return None
    except msgspec.ValidationError as error:
        findings.error(where, f"The schedule is not valid: {error}")
        return None
    wire: dict[str, Json] = msgspec.to_builtins(schedule)
    return {key: value for key, value in wire.items() if value is not None}


def _check(schedule: Any) -> None:
    from eparch.core.schedules import check

    check(schedule)


def _rrule(text: str, timezone: str | None) -> dict[str, Json]:
    """The rule in ``text``: as it is, or a JSON object that has it and maybe a zone."""
    if not text.lstrip().startswith("{"):
        return {"rrule": text}
    try:
        fields: dict[str, Json] = decode(text, dict[str, Json])
    except (msgspec.DecodeError, ValueError):
        return {"rrule": text}
    known = {key: fields[key] for key in ("rrule", "timezone") if fields.get(key) is not None}
    return {**known, **({"timezone": timezone} if timezone else {})}


def _anchor(text: str, timezone: str | None, where: Path, findings: Findings) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        why = "a date is written 2026-01-31T08:00:00+00:00"
        raise ScheduleInvalid(f"'{text}' is not a date (anchor_date)", why=why) from None
    if moment.tzinfo is None:
        if timezone is None:
            findings.note(where, f"the anchor date '{text}' has no zone; UTC is taken")
            moment = moment.replace(tzinfo=UTC)
        else:
            from zoneinfo import ZoneInfo

            try:
                moment = moment.replace(tzinfo=ZoneInfo(timezone))
            except (ValueError, OSError):
                raise ScheduleInvalid(f"'{timezone}' is not a time zone") from None
    return moment.isoformat()
