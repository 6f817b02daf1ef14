"""The triggers that a ``prefect.yaml`` gives a deployment (features 1.5, row D16).

Owns their keys. Templates in ``parameters`` and ``job_variables`` belong to the event and stay as written.
"""

from __future__ import annotations

from eparch.core.model import Json
from eparch.core.templates import Path
from eparch.deploy.findings import Findings, kind_of
from eparch.deploy.grammar import TRIGGER, TRIGGER_KINDS

_HINTS = {"event": "write 'expect'", "events": "write 'expect'", "action": "a trigger runs its deployment"}
_MAX_DEPTH = 8


def read_triggers(value: Json, path: Path, findings: Findings) -> list[dict[str, Json]]:
    """The triggers in the list ``value``, each with its ``type``: ``event`` unless something else shows.

    A single ``expect`` or ``after`` text becomes a list.
    """
    return [
        trigger
        for index, item in enumerate(value)
        if (trigger := _read_trigger(item, (*path, index), findings, depth=0)) is not None
    ]


def _read_trigger(value: Json, path: Path, findings: Findings, depth: int) -> dict[str, Json] | None:
    if not isinstance(value, dict):
        findings.error(path, f"A trigger must be a mapping, not {kind_of(value)}")
        return None
    kind = value.get("type") or _kind(value)
    if kind not in TRIGGER_KINDS:
        findings.error(
            (*path, "type"), f"There is no trigger of type '{kind}'", fix=f"one of {', '.join(TRIGGER_KINDS)}"
        )
        return None
    findings.check_keys(
        value, path, ("type", *TRIGGER, *TRIGGER_KINDS[kind]), _HINTS, f"A trigger of type {kind}"
    )
    trigger = {key: item for key, item in value.items() if item is not None} | {"type": kind}
    for key in ("expect", "after", "for_each"):
        if isinstance(trigger.get(key), str):
            trigger[key] = [trigger[key]]
    nested = trigger.get("triggers")
    if kind in ("compound", "sequence"):
        if not isinstance(nested, list) or not nested or depth >= _MAX_DEPTH:
            why = "" if depth < _MAX_DEPTH else f"triggers may nest {_MAX_DEPTH} deep"
            findings.error(path, f"A {kind} trigger needs 'triggers', a list", why=why)
            return None
        trigger["triggers"] = [
            inner
            for index, item in enumerate(nested)
            if (inner := _read_trigger(item, (*path, "triggers", index), findings, depth + 1)) is not None
        ]
    return trigger


def _kind(value: dict[str, Json]) -> str:
    if value.get("posture") == "Metric":
        return "metric"
    if "triggers" in value:
        return "compound" if "require" in value else "sequence"
    return "event"
