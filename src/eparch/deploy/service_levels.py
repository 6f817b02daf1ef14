"""The service levels that a ``prefect.yaml`` gives a deployment (``sla:``, row D17).

Owns how they are written: Prefect's three kinds, told apart by the one field that only each has. What a
breach is and what happens then is the server's.
"""

from __future__ import annotations

from eparch.core.errors import ScheduleInvalid, did_you_mean
from eparch.core.model import Json
from eparch.core.templates import Path, placeholders
from eparch.deploy.findings import Fields, Findings, kind_of
from eparch.deploy.grammar import SEVERITIES, SLA, SLA_KINDS
from eparch.deploy.schedules import parse_interval

_KIND_OF = {field: kind for kind, (field, _) in SLA_KINDS.items()}
_HINTS = {
    "time_to_completion": "write 'duration'",
    "frequency": "write 'stale_after'",
    "level": "write 'severity'",
}
_MODERATE = "moderate"


def read_service_levels(
    value: list[Json], path: Path, findings: Findings, *, final: bool
) -> list[dict[str, Json]]:
    """The service levels in the list ``value``.

    Each has ``type``, ``name``, ``severity``, ``enabled`` and the field of its type, in seconds.
    Before rendering (``final`` false) one with placeholders is left out, unless it is wrong anyway.
    """
    levels: list[dict[str, Json]] = []
    names: dict[str, Path] = {}
    for index, item in enumerate(value):
        where = (*path, index)
        if item is None:
            continue
        if not isinstance(item, dict):
            if final or not (isinstance(item, str) and placeholders(item)):
                findings.error(where, f"A service level must be a mapping, not {kind_of(item)}")
            continue
        level = _read_level(item, where, findings, final=final)
        if level is None:
            continue
        name = str(level["name"])
        if name in names:
            line = findings.document.at(names[name]).line
            message = f"Two service levels are called '{name}', the first is on line {line}"
            findings.error((*where, "name"), message, fix="rename one")
        names.setdefault(name, (*where, "name"))
        levels.append(level)
    return levels


def _read_level(
    item: dict[str, Json], path: Path, findings: Findings, *, final: bool
) -> dict[str, Json] | None:
    before = len(findings.errors)
    findings.check_keys(item, path, ("type", *SLA, *_KIND_OF), _HINTS, "A service level")
    fields = Fields(item, path, findings, final=final)
    kind = _kind(item, path, findings)
    name, severity, enabled = (
        fields.text("name"),
        fields.text("severity") or _MODERATE,
        fields.flag("enabled"),
    )
    if not name:
        findings.error(path, "A service level needs a name", fix="write 'name: ...'")
    if severity not in SEVERITIES and not fields.is_open(severity):
        fix = did_you_mean(severity, SEVERITIES) or f"one of {', '.join(SEVERITIES)}"
        findings.error((*path, "severity"), f"There is no severity '{severity}'", fix=fix)
    if kind is None:
        return None
    field = SLA_KINDS[kind][0]
    seconds: Json = item[field]
    if not fields.is_open(seconds):
        try:
            seconds = parse_interval(seconds)
        except ScheduleInvalid as error:
            message = error.message.replace("An interval", f"'{field}'").replace("an interval", "a time")
            findings.error((*path, field), message, fix=error.fix)
    if len(findings.errors) > before or (not final and placeholders(item)):
        return None
    return {
        "type": kind,
        "name": name,
        "severity": severity,
        "enabled": enabled is not False,
        field: seconds,
    }


def _kind(item: dict[str, Json], path: Path, findings: Findings) -> str | None:
    given = [field for field in _KIND_OF if item.get(field) is not None]
    if len(given) != 1:
        why = f"it has {' and '.join(given)}" if given else "it has none of them"
        fix = "write 'duration: 3600', in seconds, or another one of them"
        findings.error(path, f"A service level needs exactly one of {', '.join(_KIND_OF)}", why=why, fix=fix)
        return None
    kind, written = _KIND_OF[given[0]], item.get("type")
    if written is not None and written != kind:
        fix = f"write 'type: {kind}', or leave it out"
        message = f"A service level with '{given[0]}' is not of type '{written}'"
        findings.error((*path, "type"), message, fix=fix)
        return None
    return kind
