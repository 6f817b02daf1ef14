"""What a ``prefect.yaml`` may hold: every key, what it is for, and its type as JSON Schema (features 1.5).

Owns the keys and their types. The checks take the keys from here, and ``schema`` makes the schema for editors
of it. Rules that JSON Schema cannot say, such as what a placeholder stands for, are in the checks.
"""

from __future__ import annotations

from typing import Any

from eparch.core.crash_retries import LONGEST_DELAY, MOST
from eparch.core.deployments import CollisionStrategy

Keys = dict[str, dict[str, Any]]
"""Key -> its type as JSON Schema, with a description."""

SECTIONS = ("build", "push", "pull")
GRACE = (60, 86400)
"""Seconds that ``grace_period_seconds`` may be."""

NAME = r"[^/%&><\x00]{1,255}"
"""Of a deployment."""

SLUG = r"[a-z0-9_-]+"
"""Of a schedule."""

VERSION_TYPES = ("vcs:github", "vcs:gitlab", "vcs:bitbucket", "vcs:azuredevops", "vcs:git", "prefect:simple")
MISSED = ("skip", "latest", "all")
OVERLAP = ("allow", "skip", "queue")
SEVERITIES = ("minor", "low", "moderate", "high", "critical")

WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
"""How true and false may be written as text, in any case."""

PLACEHOLDER = {"type": "string", "pattern": r"\{\{"}
"""Text that may become anything once its placeholders are filled."""

ANYTHING: dict[str, Any] = {}
TEXT = {"type": ["string", "number", "boolean", "null"]}
NUMBER = {"anyOf": [{"type": ["number", "null"]}, {"type": "string"}]}


def _or_open(*types: dict[str, Any]) -> dict[str, Any]:
    """One of ``types``, nothing, or a placeholder."""
    return {"anyOf": [*types, {"type": "null"}, PLACEHOLDER]}


def _a(type_: dict[str, Any], description: str, **more: Any) -> dict[str, Any]:
    return {**type_, "description": description, **more}


def _one_of(words: tuple[str, ...]) -> dict[str, Any]:
    return _or_open({"enum": list(words)})


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _list_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


_spellings = sorted({spelt for word in WORDS for spelt in (word, word.upper(), word.title())})
FLAG = _or_open({"type": "boolean"}, {"enum": _spellings})
MAPPING = _or_open({"type": "object"})
TEXTS = {"anyOf": [_list_of(ANYTHING), {"type": ["string", "null"]}]}
COUNT = _or_open({"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^\s*0*[1-9]\d*\s*$"})
STEPS = {"anyOf": [_ref("step"), _list_of({"anyOf": [_ref("step"), {"type": "null"}]}), {"type": "null"},
                   {"type": "object", "maxProperties": 0}]}  # fmt: skip
_TAG = {"anyOf": [{"type": ["string", "number", "boolean", "null"]}, _list_of(TEXT)]}
_SCHEDULE = {"anyOf": [_ref("schedule"), {"type": "null"}, PLACEHOLDER]}
_SCHEDULES = _or_open(_list_of(_SCHEDULE), _ref("schedule"))
_STRATEGIES = tuple(spelt for choice in CollisionStrategy for spelt in (choice.value, choice.value.lower()))

TOP: Keys = {
    "prefect-version": _a(TEXT, "The version that wrote the file. It has no effect."),
    "name": _a(TEXT, "Name of the project."),
    "description": _a(TEXT, "What a recipe is for."),
    "required_inputs": _a({"type": ["object", "null"]}, "What 'eparch init' asks for; of recipes only."),
    "definitions": _a(ANYTHING, "Anything: the home of YAML anchors."),
    "build": _a(STEPS, "Steps that build what a deployment needs, such as an image."),
    "push": _a(STEPS, "Steps that push what was built."),
    "pull": _a(STEPS, "Steps that bring the code to a job before the flow begins; [] for none."),
    "deployments": _a(
        {"anyOf": [_list_of({"anyOf": [_ref("deployment"), {"type": "null"}]}), {"type": "null"}]},
        "The deployments.",
    ),
}
TOP_OLD: Keys = {"version": _a(TEXT, "It has no meaning here and is ignored.", deprecated=True)}

DEPLOYMENT: Keys = {
    "name": _a(
        {"anyOf": [{"type": "string", "pattern": f"^{NAME}$"}, {"type": ["number", "boolean", "null"]}]},
        "Name of the deployment; one name may stand for several flows.",
    ),
    "version": _a(TEXT, "A version of your own."),
    "version_type": _a(_one_of(VERSION_TYPES), "Where facts about the version come from."),
    "tags": _a(_or_open(_list_of(_TAG)), "Tags; its runs have them too."),
    "description": _a(TEXT, "What it is for; the flow's docstring unless given."),
    "entrypoint": _a(TEXT, "path/to/file.py:function, module:function or module.function."),
    "flow_name": _a(TEXT, "Name of the flow. The entrypoint decides."),
    "parameters": _a(MAPPING, "Parameters of the flow: name: value."),
    "enforce_parameter_schema": _a(FLAG, "Whether parameters are checked; true unless given."),
    "paused": _a(FLAG, "Whether nothing of it is scheduled."),
    "schedule": _a(_SCHEDULES, "One schedule. Write 'schedules'.", deprecated=True),
    "schedules": _a(_SCHEDULES, "When it runs. Absent: as they are on the server; []: never."),
    "concurrency_limit": _a(
        _or_open(*COUNT["anyOf"][:2], _ref("concurrency_limit"), {"type": "object", "maxProperties": 0}),
        "How many of its runs may run at once.",
    ),
    "retry_on_crash": _a(
        _or_open({"type": "integer", "minimum": 0, "maximum": MOST}, _ref("retry_on_crash")),
        "How often a run that crashed begins again.",
    ),
    "work_pool": _a(_or_open(_ref("work_pool"), {"type": "string"}), "Where its runs go."),
    "build": _a(STEPS, "Replaces the build steps of the project."),
    "push": _a(STEPS, "Replaces the push steps of the project."),
    "pull": _a(STEPS, "Replaces the pull steps of the project; [] for none."),
    "triggers": _a(_or_open(_list_of(_ref("trigger"))), "Events that make it run."),
    "sla": _a(_or_open(_list_of(_ref("sla"))), "Service levels; a breach is an event."),
}
DEPLOYMENT_OLD: Keys = {
    "is_schedule_active": _a(FLAG, "Write 'active' in each schedule.", deprecated=True),
    "is_paused": _a(FLAG, "Write 'paused'.", deprecated=True),
    "infra_overrides": _a({"type": ["object", "null"]}, "Write 'work_pool.job_variables'.", deprecated=True),
}
WORK_POOL: Keys = {
    "name": _a(TEXT, "Name of the work pool."),
    "work_queue_name": _a(TEXT, "Queue of the work pool; 'default' unless given."),
    "job_variables": _a(
        _or_open({"type": "object", "properties": {"env": _or_open({"type": "object"})}}),
        "Values for the work pool's base job template.",
    ),
}
CONCURRENCY: Keys = {
    "limit": _a(COUNT, "How many may run at once."),
    "collision_strategy": _a(_one_of(_STRATEGIES), "What happens to a run that meets a full limit."),
    "grace_period_seconds": _a(
        _or_open({"type": "integer", "minimum": GRACE[0], "maximum": GRACE[1]}),
        "How long a slot is kept for infrastructure that starts.",
    ),
}
RETRY_ON_CRASH: Keys = {
    "count": _a(_or_open({"type": "integer", "minimum": 0, "maximum": MOST}), "How often."),
    "delay_seconds": _a(
        _or_open({"type": "number", "minimum": 0, "maximum": LONGEST_DELAY}), "Seconds before the first."
    ),
}
SCHEDULE_KINDS = ("cron", "interval", "rrule")
SCHEDULE: Keys = {
    "cron": _a(TEXT, "Five fields, by wall clock: '0 3 * * *'."),
    "interval": _a(NUMBER, "Seconds, or 'PT1H', or '1:00:00'."),
    "rrule": _a(TEXT, "A rule of RFC 5545, or JSON with rrule and timezone."),
    "timezone": _a(TEXT, "IANA name, such as Europe/Athens."),
    "day_or": _a(FLAG, "With cron: whether day and weekday are alternatives."),
    "anchor_date": _a(TEXT, "With interval: where the intervals begin."),
    "active": _a(FLAG, "Whether it runs. Absent: as it is on the server."),
    "parameters": _a(MAPPING, "Parameters of its runs."),
    "slug": _a(
        _or_open({"type": "number"}, {"type": "string", "pattern": f"^({SLUG})?$"}),
        "What it is known by when it changes.",
    ),
    "replaces": _a(TEXT, "The slug that it had before."),
    "missed_runs": _a(
        _or_open({"enum": list(MISSED)}, _ref("missed_runs")), "Which missed runs are made up for."
    ),
    "overlap": _a(_one_of(OVERLAP), "What happens while the run before is not over."),
}
MISSED_RUNS: Keys = {
    "policy": _a(_one_of(MISSED), "Which missed runs are made up for."),
    "window": _a(NUMBER, "How late a run may still begin, in seconds."),
}
SCHEDULE_OLD: Keys = {
    "catchup": _a({"enum": [None, False]}, "Missed runs are not caught up.", deprecated=True),
    "max_active_runs": _a(ANYTHING, "Write 'concurrency_limit' in the deployment.", deprecated=True),
}
TRIGGER: Keys = {
    "name": _a(TEXT, "Name of the automation that it becomes."),
    "description": _a(TEXT, "What it is for."),
    "enabled": _a(FLAG, "Whether it fires; true unless given."),
    "job_variables": _a(MAPPING, "Job variables of the run; '{{ event... }}' is filled by the server."),
    "parameters": _a(MAPPING, "Parameters of the run; '{{ event... }}' is filled by the server."),
    "schedule_after": _a(NUMBER, "How long to wait before the run, in seconds."),
}
_MATCH: Keys = {
    "match": _a(MAPPING, "Labels of the event's resource."),
    "match_related": _a(_or_open({"type": "object"}, _list_of(ANYTHING)), "Labels of related resources."),
}
_NESTED: Keys = {
    "within": _a(NUMBER, "In how many seconds."),
    "triggers": _a(_list_of(_ref("trigger")), "The triggers that it is made of."),
}
TRIGGER_KINDS: dict[str, Keys] = {
    "event": {
        **_MATCH,
        "after": _a(TEXTS, "Events after which it begins to wait."),
        "expect": _a(TEXTS, "Events that it waits for."),
        "for_each": _a(TEXTS, "Labels by which events are told apart."),
        "posture": _a(_one_of(("Reactive", "Proactive")), "Fires when it happens, or when it does not."),
        "threshold": _a(NUMBER, "How many events it takes."),
        "within": _a(NUMBER, "In how many seconds."),
    },
    "compound": {
        "require": _a(_or_open({"enum": ["any", "all"]}, {"type": "integer"}), "How many."),
        **_NESTED,
    },
    "sequence": _NESTED,
    "metric": {
        **_MATCH,
        "metric": _a(MAPPING, "Which number of which runs passes which threshold."),
        "posture": _a(_one_of(("Metric",)), "Always Metric."),
    },
}
SLA: Keys = {
    "name": _a({"type": ["string", "number"]}, "What it is known by."),
    "severity": _a(_one_of(SEVERITIES), "How bad a breach is; moderate unless given."),
    "enabled": _a(FLAG, "Whether it is watched; true unless given."),
}
SLA_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "TimeToCompletionSla": ("duration", _a(NUMBER, "Seconds that a run may take.")),
    "FrequencySla": ("stale_after", _a(NUMBER, "In how many seconds the next run has to complete.")),
    "LatenessSla": ("within", _a(NUMBER, "How many seconds late a run may start.")),
}
"""Kind -> the field that only it has, and how that is written."""
