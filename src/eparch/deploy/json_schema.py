"""The JSON Schema of ``prefect.yaml`` for editors (row D10), made of the tables in ``grammar``.

Owns how the tables become one schema. It is as strict about keys and types as the checks are; what depends on
more than one place, such as placeholders, only the checks can say.
"""

from __future__ import annotations

from typing import Any

from eparch.core.step_names import ALIASES, ARGUMENTS, SHIPPED, canonical, is_deprecated
from eparch.deploy import grammar
from eparch.deploy.grammar import Keys
from eparch.deploy.tolerance import DEPLOYMENT_HINTS

ADDRESS = "https://json-schema.org/draft/2020-12/schema"
_PART = r"[A-Za-z_\u0080-\uFFFF][\w\u0080-\uFFFF]*"
_DOTTED = rf"^{_PART}(\.{_PART})+$"
_OWN = r"^(?!prefect\.deployments\.steps\.|eparch\.steps\.)" + _DOTTED.removeprefix("^")
_NOTHING = {"type": "null"}
_BLANK = {"anyOf": [_NOTHING, {"enum": [{}, []]}]}


def project_schema() -> dict[str, Any]:
    """The schema of a whole file."""
    return {
        "$schema": ADDRESS,
        "title": "prefect.yaml",
        "description": "Deployments of one project, how their code is built and where it runs.",
        **_mapping({**grammar.TOP, **grammar.TOP_OLD}),
        "patternProperties": {"^x-": {"description": "Anything: a home of YAML anchors."}},
        "$defs": {
            "deployment": _deployment(),
            "work_pool": _mapping(grammar.WORK_POOL),
            "concurrency_limit": _mapping(grammar.CONCURRENCY),
            "retry_on_crash": {**_mapping(grammar.RETRY_ON_CRASH), "required": ["count"]},
            "schedule": _schedule(),
            "missed_runs": {**_mapping(grammar.MISSED_RUNS), "required": ["policy"]},
            "step": _step(),
            "trigger": {"type": "object", "anyOf": [_trigger(kind) for kind in grammar.TRIGGER_KINDS]},
            "sla": {"type": "object", "anyOf": [_level(kind) for kind in grammar.SLA_KINDS]},
        },
    }


def _mapping(keys: Keys) -> dict[str, Any]:
    return {"type": "object", "properties": keys, "additionalProperties": False}


def _deployment() -> dict[str, Any]:
    """A misplaced key that has no value has lost nothing, and is left alone."""
    misplaced = {
        key: {**_NOTHING, "description": f"It does not belong here: {hint}.", "deprecated": True}
        for key, hint in DEPLOYMENT_HINTS.items()
    }
    return _mapping({**misplaced, **grammar.DEPLOYMENT, **grammar.DEPLOYMENT_OLD})


def _schedule() -> dict[str, Any]:
    """Exactly one kind, or nothing filled in at all."""
    kinds = [
        {
            "required": [kind],
            "properties": {
                other: {"not": _NOTHING} if other == kind else _NOTHING for other in grammar.SCHEDULE_KINDS
            },
        }
        for kind in grammar.SCHEDULE_KINDS
    ]
    blank = {"additionalProperties": _BLANK}
    return {**_mapping({**grammar.SCHEDULE, **grammar.SCHEDULE_OLD}), "anyOf": [*kinds, blank]}


def _step() -> dict[str, Any]:
    """One key with its arguments below it, or an empty key with its arguments beside it."""
    shipped = {name: _arguments(name) for name in (*SHIPPED, *ALIASES)}
    alone = {
        "maxProperties": 1,
        "minProperties": 1,
        "properties": shipped,
        "patternProperties": {_OWN: {"type": ["object", "null"], "properties": _RESERVED}},
        "additionalProperties": False,
    }
    beside = {
        "minProperties": 2,
        "patternProperties": {_DOTTED: _NOTHING},
        "not": {"propertyNames": {"not": {"pattern": _DOTTED}}},
    }
    return {"type": "object", "anyOf": [alone, beside]}


_RESERVED: Keys = {
    "id": {"type": ["string", "null"], "description": "Its outputs are '{{ id.name }}'."},
    "requires": {
        "anyOf": [{"type": ["string", "null"]}, {"type": "array", "items": {"type": "string"}}],
        "description": "What to install where the function cannot be imported.",
    },
}


def _arguments(name: str) -> dict[str, Any]:
    """What the step called ``name`` takes; one whose arguments are not listed takes any."""
    stored = canonical(name)
    taken = ARGUMENTS.get(stored)
    more: dict[str, Any] = (
        {"deprecated": True, "description": f"Write '{stored}'."} if is_deprecated(name) else {}
    )
    if stored.endswith(".build_docker_image"):
        push = {"enum": [None, False], "deprecated": True, "description": "Add a push_docker_image step."}
        return {"type": ["object", "null"], "properties": {**_RESERVED, "push": push}, **more}
    properties = {**_RESERVED, **{argument: {} for argument in taken or ()}}
    return {
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": taken is None,
        **more,
    }


def _trigger(kind: str) -> dict[str, Any]:
    """A trigger of one kind, which its keys show if its type is left out."""
    own = _mapping({"type": {"enum": [kind, None]}, **grammar.TRIGGER, **grammar.TRIGGER_KINDS[kind]})
    return {**own, "required": ["triggers"] if "triggers" in grammar.TRIGGER_KINDS[kind] else []}


def _level(kind: str) -> dict[str, Any]:
    """A service level of one kind, which its field shows."""
    field, type_ = grammar.SLA_KINDS[kind]
    others = {other: _NOTHING for other, _ in grammar.SLA_KINDS.values() if other != field}
    own = {"type": {"enum": [kind, None]}, **grammar.SLA, field: {"allOf": [type_, {"not": _NOTHING}]}}
    return {**_mapping({**others, **own}), "required": ["name", field]}
