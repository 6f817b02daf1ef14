"""The commands that do without questions what the wizard did (row D3). Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

from eparch.core.model import Json
from eparch.deploy.grammar import SCHEDULE_KINDS
from eparch.deploy.wizard import Decision

_TEXTS = {"description": "--description", "version": "--version"}


def equivalent_commands(decision: Decision, raw: dict[str, Json], file: str | None) -> list[str]:
    """The command lines for ``raw``, the deployment as the file has it.

    ``file`` is named where it is not the usual one. What flags cannot say has to be in the file, so such a
    deployment that was not saved has no line of its own, only a comment.
    """
    lines = []
    if decision.pool_type:
        lines.append(_line(["work-pool", "create", decision.pool, "--type", decision.pool_type]))
    words = ["deploy", decision.entrypoint, "--name", decision.name]
    flags = _flags(raw)
    if flags is not None:
        lines.append(_line([*words, *flags, *(["--prefect-file", file] if file else [])]))
    elif decision.save:
        lines.append(_line([*words, *(["--prefect-file", file] if file else [])]))
    else:
        lines.append("# its steps cannot be said with flags: save it, or use --save-answers and --answers")
    return lines


def _line(words: list[str]) -> str:
    return shlex.join(["eparch", *words])


def _flags(raw: dict[str, Json]) -> list[str] | None:
    """The flags that say everything in ``raw``; None if none could."""
    rest = {key: value for key, value in raw.items() if key not in ("name", "entrypoint")}
    pool = rest.pop("work_pool", None) or {}
    found = ["--pool", str(pool["name"])] if pool.get("name") else []
    if pool.get("work_queue_name"):
        found += ["--work-queue", str(pool["work_queue_name"])]
    if pool.get("job_variables"):
        found += ["--job-variable", json.dumps(pool["job_variables"])]
    schedules = rest.pop("schedules", None) or []
    zones = {one.get("timezone") for one in schedules}
    if len(zones) > 1 or any("anchor_date" in one or one.get("day_or") is False for one in schedules):
        return None
    for one in schedules:
        found += next([f"--{kind}", str(one[kind])] for kind in SCHEDULE_KINDS if kind in one)
    found += [word for zone in zones if zone for word in ("--timezone", str(zone))]
    for key, flag in _TEXTS.items():
        if key in rest:
            found += [flag, str(rest.pop(key))]
    found += [word for tag in rest.pop("tags", None) or [] for word in ("--tag", str(tag))]
    if rest.get("parameters"):
        found += ["--params", json.dumps(rest["parameters"])]
    rest.pop("parameters", None)
    found += list(_limit(rest.pop("concurrency_limit", None)))
    return None if rest else found


def _limit(limit: Any) -> Iterator[str]:
    if isinstance(limit, dict):
        yield from ("--concurrency-limit", str(limit["limit"]))
        if limit.get("collision_strategy"):
            yield from ("--collision-strategy", str(limit["collision_strategy"]))
    elif limit is not None:
        yield from ("--concurrency-limit", str(limit))
