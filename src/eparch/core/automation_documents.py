"""Automations as people write them: one, a list, or a mapping with ``automations`` (features 1.5).

Owns what may be left out: the ``type`` of a trigger and its posture. Reads no files.
"""

from __future__ import annotations

from typing import Any

import msgspec

from eparch.core.automations import AutomationCreate
from eparch.core.errors import Invalid

MOST = 1000
"""Automations of one document."""

_POSTURES = {"reactive": "Reactive", "proactive": "Proactive", "metric": "Metric"}


def automations_in(document: Any) -> list[AutomationCreate]:
    """The automations of ``document``, all or none.

    Raises:
        Invalid: it has none, or one of them cannot be used; the message says which and where.
    """
    given = document.get("automations", [document]) if isinstance(document, dict) else document
    if not isinstance(given, list) or not given or len(given) > MOST:
        raise Invalid(
            "There is no automation in it.", fix="Write one mapping, a list of them, or `automations: [...]`."
        )
    return [_automation(one, at, len(given)) for at, one in enumerate(given)]


def _automation(given: Any, at: int, number: int) -> AutomationCreate:
    name = given.get("name") if isinstance(given, dict) else None
    called = f"The automation {name!r}" if name else f"Automation {at + 1} of {number}"
    if not isinstance(given, dict):
        raise Invalid(f"{called} must be a mapping.")
    wanted = {**given, "trigger": typed_trigger(given["trigger"])} if "trigger" in given else given
    try:
        return msgspec.convert(wanted, AutomationCreate)
    except msgspec.ValidationError as error:
        raise Invalid(f"{called} cannot be used: {error}") from error


def typed_trigger(given: Any, depth: int = 0) -> Any:
    """``given`` with the ``type`` and the posture that go without saying; what is no trigger stays."""
    if not isinstance(given, dict) or depth > 16:
        return given
    trigger = dict(given)
    if "type" not in trigger:
        trigger["type"] = _type_of(trigger)
    if isinstance(trigger.get("posture"), str):
        trigger["posture"] = _POSTURES.get(trigger["posture"].lower(), trigger["posture"])
    if trigger["type"] == "event":
        trigger.setdefault("posture", "Reactive")
    if isinstance(trigger.get("triggers"), list):
        trigger["triggers"] = [typed_trigger(inner, depth + 1) for inner in trigger["triggers"]]
        trigger.setdefault("within", None)
    for name in ("after", "expect", "for_each"):
        if isinstance(trigger.get(name), str):
            trigger[name] = [trigger[name]]
    return trigger


def _type_of(trigger: dict[str, Any]) -> str:
    if "metric" in trigger:
        return "metric"
    if "triggers" in trigger:
        return "compound" if "require" in trigger else "sequence"
    return "event"
