"""What real ``prefect.yaml`` files hold beside the grammar, and what is made of it.

Owns the old spellings that are rewritten (real-files 3.1, 3.2) and the hints for keys that stand in the wrong
place (3.3). Every rewriting tells the document where the value was written. Does not judge types.
"""

from __future__ import annotations

import re

from eparch.core.model import Json
from eparch.core.templates import Path, placeholders
from eparch.deploy.findings import Findings, as_text, is_blank, kind_of
from eparch.deploy.grammar import (
    DEPLOYMENT,
    DEPLOYMENT_OLD,
    SECTIONS,
    TOP,
    TOP_OLD,
    WORK_POOL,
)

OTHER_TOOLS = {"jobs": "CI", "includes": "Taskfile", "services": "Compose", "hosts": "Ansible"}
"""Top-level keys of files of other tools that are called ``prefect.yml`` too."""

_SHELL_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_SPACED = re.compile(r"\{ \{ *([\w.\-\[\]$]+) *\} \}")
_BRACES = re.compile(r"(?<!\{)\{\{[^{}]*\}\}(?!\})")
_STAYS = "is_schedule_active"
_ITEM = "it belongs in an item of 'deployments:'"
_SETTINGS = "there is no such section, and Prefect ignores it; for YAML anchors use 'definitions:'"
_MIGRATE = "for files of Prefect 2 see 'eparch migrate'"
_INVENTED = (
    "variables",
    "env",
    "work_pools",
    "server",
    "logging",
    "database",
    "storage",
    "monitoring",
    "resources",
    "flows",
    "secrets",
    "notifications",
    "retries",
    "security",
)
OF_SCHEDULE = ("timezone", "active", "day_or", "cron", "interval", "rrule", "anchor_date")
"""Keys of a schedule that people write into the deployment."""

TOP_HINTS = {
    **dict.fromkeys(
        ("entrypoint", "flow_name", "schedule", "schedules", "parameters", "work_pool", "tags"), _ITEM
    ),
    **dict.fromkeys(
        _INVENTED,
        _SETTINGS,
    ),
    "project": "write 'name'",
    "pull_steps": "write 'pull'",
}
_IN_POOL = "move it into 'work_pool:'; Prefect ignored it here"
_IN_SCHEDULE = "move it into the item of 'schedules:'"
_LABELS = "free labels are 'tags'"
DEPLOYMENT_HINTS = {
    "work_queue_name": _IN_POOL,
    "work_queue": "move it into 'work_pool:' as 'work_queue_name'; Prefect ignored it here",
    "job_variables": _IN_POOL,
    **dict.fromkeys(OF_SCHEDULE, _IN_SCHEDULE),
    "time_zone": "move it into the item of 'schedules:' as 'timezone'",
    "concurrency": "write 'concurrency_limit'",
    "concurrency_options": "write 'concurrency_limit: {limit: ..., collision_strategy: ...}'",
    "job_configuration": "write 'work_pool.job_variables'",
    "environment": "write 'work_pool.job_variables.env'",
    "env": "write 'work_pool.job_variables.env'",
    "image": "write 'work_pool.job_variables.image'",
    "infrastructure": f"write 'work_pool.job_variables'; {_MIGRATE}",
    "storage": f"write 'pull' steps; {_MIGRATE}",
    "code": "write 'pull' steps",
    "pool": "write 'work_pool: {name: ...}'",
    "work_pool_name": "write 'work_pool: {name: ...}'",
    "flow_location": "write 'entrypoint'",
    "path": "write 'entrypoint'",
    "labels": _LABELS,
    "logging": "it is no part of a deployment; set it in 'work_pool.job_variables.env'",
    **dict.fromkeys(("display_name", "category", "priority", "owner"), _LABELS),
}
WORK_POOL_HINTS = {
    "type": "it belongs to the pool: 'eparch work-pool create --type'",
    "image": "write 'job_variables: {image: ...}'",
    "env": "write 'job_variables: {env: ...}'",
    "concurrency_limit": "move it one level up, into the deployment",
    "flow_variables": "write 'job_variables'",
    "schedules": "move it one level up, into the deployment",
    "queue": "write 'work_queue_name'",
    "work_queue": "write 'work_queue_name'",
}


def other_tool(data: Json) -> str:
    """What a file that is not a project looks like; empty if it may be one."""
    if isinstance(data, list):
        return "it is a list, as a playbook of Ansible is"
    found = [key for key in OTHER_TOOLS if key in data] if isinstance(data, dict) else []
    if found and not any(key in data for key in ("deployments", *SECTIONS)):
        return f"it has '{found[0]}:', as files of {OTHER_TOOLS[found[0]]} do"
    return ""


def is_untouched(item: dict[str, Json]) -> bool:
    """Whether a deployment is the template of ``prefect init``, nothing filled in but placeholders."""
    if any(not is_blank(item.get(key)) for key in ("name", "entrypoint", "flow_name")):
        return False
    return all(_is_unfilled(value) for value in item.values())


def _is_unfilled(value: Json) -> bool:
    if isinstance(value, dict):
        return all(_is_unfilled(item) for item in value.values())
    if isinstance(value, str):
        found = placeholders(value)
        return len(found) == 1 and found[0].text == value
    return is_blank(value)


def check_top(data: dict[str, Json], findings: Findings) -> None:
    """Refuse what has no meaning at the top of the file; ``definitions`` and ``x-*`` may hold anything."""
    if data.get("version") is not None:
        findings.note(("version",), "'version' at the top has no meaning; it is ignored")
    known = {key: value for key, value in data.items() if key not in TOP_OLD and not key.startswith("x-")}
    findings.check_keys(known, (), TOP, TOP_HINTS, "The file", otherwise=_SETTINGS)


def normalize(item: dict[str, Json], path: Path, findings: Findings) -> dict[str, Json]:
    """A deployment's mapping in today's spelling, unknown keys refused and left out.

    ``is_schedule_active`` stays: it is for the schedules to read.
    """
    document = findings.document
    known, moved = (*DEPLOYMENT, _STAYS), [key for key in DEPLOYMENT_OLD if key != _STAYS]
    stray = {key: "it has no value: a stray line?" for key, value in item.items() if value is None}
    # A misplaced key without a value has lost nothing; an unknown one is a typo or a stray line.
    unknown = {key: None for key in stray if key not in DEPLOYMENT_HINTS and key not in moved}
    findings.check_keys(unknown, path, known, stray, "A deployment")
    given = {key: value for key, value in item.items() if value is not None}
    _note_lookalikes(given, path, findings)
    _rename_paused(given, path, findings)
    overrides = given.pop("infra_overrides", None)
    findings.check_keys(given, path, known, DEPLOYMENT_HINTS, "A deployment")
    given = {key: value for key, value in given.items() if key in known}
    _one_list_of_schedules(given, path, findings)
    if "work_pool" in given or overrides:
        given["work_pool"] = _work_pool(given.get("work_pool"), overrides, path, findings)
    for key in ("name", "version", "description", "flow_name", "version_type"):
        value = given.get(key)
        if isinstance(value, bool | int | float):
            given[key] = as_text(value, document, (*path, key))
            if key == "version":
                findings.note((*path, key), f"the version is kept as the text '{given[key]}'")
    if isinstance(given.get("tags"), list):
        given["tags"] = _tags(given["tags"], (*path, "tags"), findings)
    return given


def _note_lookalikes(value: Json, path: Path, findings: Findings) -> None:
    """Say that ``${NAME}`` and ``{ { name } }`` are text; commands and scripts are the shell's."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in ("command", "script", "args", "triggers"):
                _note_lookalikes(item, (*path, key), findings)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _note_lookalikes(item, (*path, index), findings)
    elif isinstance(value, str):
        shell, spaced = _SHELL_VARIABLE.search(value), _SPACED.search(value)
        if shell:
            message = f"'{shell[0]}' is text and not expanded; write '{{{{ ${shell[1]} }}}}'"
            findings.note(path, message)
        elif spaced:
            findings.note(path, f"'{spaced[0]}' is text; for a placeholder write '{{{{ {spaced[1]} }}}}'")
        elif "{{" in value:
            known = {found.text for found in placeholders(value)}
            for braces in _BRACES.findall(value):
                if braces not in known:
                    findings.note(path, f"'{braces}' is text; a placeholder is a name: no spaces, no calls")


def _rename_paused(given: dict[str, Json], path: Path, findings: Findings) -> None:
    if "is_paused" not in given:
        return
    paused = given.pop("is_paused")
    findings.note((*path, "is_paused"), "'is_paused' is now 'paused'")
    if "paused" not in given:
        given["paused"] = paused
        findings.document.moved((*path, "paused"), (*path, "is_paused"))


def _one_list_of_schedules(given: dict[str, Json], path: Path, findings: Findings) -> None:
    """Turn ``schedule`` and every form of ``schedules`` into one list, or nothing if nothing is filled in."""
    document = findings.document
    old, many = given.pop("schedule", None), given.get("schedules")
    if isinstance(many, dict):
        given.pop("schedules")
        if not is_blank(many):
            document.moved((*path, "schedules", 0), (*path, "schedules"))
            findings.note((*path, "schedules"), "'schedules' is a list; the one schedule is taken")
            given["schedules"] = [many]
    if isinstance(old, str) and not placeholders(old):
        fix = f"write 'schedules: [{{cron: \"{old}\"}}]'"
        findings.error((*path, "schedule"), f"A schedule must be a mapping, not {kind_of(old)}", fix=fix)
        return
    if is_blank(old):
        return
    if given.get("schedules"):
        line = document.key((*path, "schedules")).line
        message = f"Both 'schedule' and 'schedules' (line {line}) have a schedule"
        findings.error((*path, "schedule"), message, fix="move it into 'schedules'", key=True)
        return
    if isinstance(old, list):
        document.moved((*path, "schedules"), (*path, "schedule"))
    else:
        document.moved((*path, "schedules", 0), (*path, "schedule"))
    given["schedules"] = old if isinstance(old, list) else [old]


def _work_pool(value: Json, overrides: Json, path: Path, findings: Findings) -> Json:
    where = (*path, "work_pool")
    document = findings.document
    if isinstance(value, str):
        findings.note(where, f"'work_pool: {value}' is read as 'work_pool: {{name: {value}}}'")
        document.moved((*where, "name"), where)
        value = {"name": value}
    if value is not None and not isinstance(value, dict):
        findings.error(where, f"'work_pool' must be a mapping, not {kind_of(value)}", fix="write 'name: ...'")
        return None
    given = {key: item for key, item in (value or {}).items() if item is not None}
    findings.check_keys(given, where, WORK_POOL, WORK_POOL_HINTS, "'work_pool'")
    pool = {key: item for key, item in given.items() if key in WORK_POOL}
    if overrides:
        findings.note((*path, "infra_overrides"), "'infra_overrides' is now 'work_pool.job_variables'")
        if isinstance(overrides, dict):
            variables = dict(pool.get("job_variables") or {})
            for key, item in overrides.items():
                if key not in variables:
                    variables[key] = item
                    document.moved((*where, "job_variables", key), (*path, "infra_overrides", key))
            pool["job_variables"] = variables
        else:
            findings.error((*path, "infra_overrides"), f"It must be a mapping, not {kind_of(overrides)}")
    given = pool.get("job_variables") or {}
    if isinstance(given, dict) and "env" in given:
        env = _env(given["env"], (*where, "job_variables", "env"), findings)
        pool["job_variables"] = given | {"env": env}
    return pool


def _env(value: Json, path: Path, findings: Findings) -> Json:
    """Environment variables: numbers and booleans as the text that was written; a list is refused."""
    if isinstance(value, dict):
        return {
            key: as_text(item, findings.document, (*path, key))
            if isinstance(item, bool | int | float)
            else item
            for key, item in value.items()
        }
    if isinstance(value, list):
        names = [item["name"] for item in value if isinstance(item, dict) and "name" in item]
        fix = f"write '{names[0]}: ...' below 'env:'" if names else "write 'NAME: value' below 'env:'"
        findings.error(path, "'env' must be a mapping, not a list", fix=fix, key=True)
        return {}
    return value


def _tags(value: list[Json], path: Path, findings: Findings) -> list[Json]:
    flat: list[Json] = []
    for index, item in enumerate(value):
        where = (*path, index)
        if isinstance(item, list):
            findings.note(where, "a list within 'tags' is taken as its tags")
            flat += [
                as_text(tag, findings.document, (*where, at))
                for at, tag in enumerate(item)
                if tag is not None
            ]
        elif isinstance(item, dict):
            findings.error(where, "A tag must be a text, not a mapping", fix="quote it")
        elif item is not None:
            flat.append(as_text(item, findings.document, where))
    return flat
