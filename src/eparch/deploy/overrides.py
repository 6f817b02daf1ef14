"""Flags laid over what a file says (row D7): scalars and lists replace, maps merge.

Owns what each flag of ``deploy`` means for a deployment, and which values came from flags. A flag applies to
every selected deployment. Pure.
"""

from __future__ import annotations

import msgspec

from eparch.core.errors import Usage
from eparch.core.model import Json
from eparch.core.templates import Path
from eparch.deploy.findings import Fields, Findings
from eparch.deploy.project import ProjectDeployment, read_version_type
from eparch.deploy.request import DeployRequest
from eparch.deploy.service_levels import read_service_levels
from eparch.deploy.source import Document
from eparch.deploy.triggers import read_triggers


def check_flags(request: DeployRequest) -> None:
    """Refuse triggers, service levels and a version type that no file could have either.

    Raises:
        Usage: there is one; the message names its flag.
    """
    given = {
        "--trigger": ("triggers", list(request.triggers)),
        "--sla": ("sla", list(request.sla)),
        "--version-type": ("version_type", request.version_type),
    }
    for flag, (key, value) in given.items():
        findings = Findings(Document("", ""))
        if key == "triggers":
            read_triggers(value, (), findings)
        elif key == "sla":
            read_service_levels(list(request.sla), (), findings, final=True)
        else:
            read_version_type(Fields({key: value}, (), findings, final=True), findings)
        for error in findings.errors:
            raise Usage(f"{flag} cannot be used: {error.message}.", why=error.why, fix=error.fix)


def lay_over(
    deployment: ProjectDeployment, request: DeployRequest, default_pool: str | None = None
) -> ProjectDeployment:
    """``deployment`` as the flags want it; ``default_pool`` is its work pool where nothing names one."""
    raw = dict(deployment.raw)
    scalars = {
        "entrypoint": request.entrypoint,
        "description": request.description,
        "version": request.version,
        "enforce_parameter_schema": request.enforce_parameter_schema,
        "tags": list(request.tags) or None,
        "schedules": list(request.schedules) or None,
        "triggers": list(request.triggers) or None,
        "sla": list(request.sla) or None,
        "version_type": request.version_type,
    }
    raw |= {key: value for key, value in scalars.items() if value is not None}
    if request.parameters:
        raw["parameters"] = {**_mapping(raw.get("parameters")), **request.parameters}
    limit = _limit(raw.get("concurrency_limit"), request)
    if limit is not None:
        raw["concurrency_limit"] = limit
    raw["work_pool"] = _work_pool(_mapping(raw.get("work_pool")), request, default_pool)
    if request.entrypoint:
        # The flow that is meant is another one now; what the file calls it no longer counts.
        raw.pop("flow_name", None)
    return msgspec.structs.replace(deployment, raw=raw)


def is_flag(path: Path, request: DeployRequest) -> bool:
    """Whether the value at ``path`` of a deployment came from a flag."""
    match path:
        case ("work_pool", "name", *_):
            return request.pool is not None
        case ("work_pool", "job_variables", str(key), *_):
            return any(key.partition(".")[0] == name.partition(".")[0] for name in request.job_variables)
        case ("parameters", key, *_):
            return key in request.parameters
        case ("schedules", *_):
            return bool(request.schedules)
        case ("triggers", *_):
            return bool(request.triggers)
        case ("sla", *_):
            return bool(request.sla)
        case ("entrypoint", *_):
            return request.entrypoint is not None
    return False


def merge_variables(under: dict[str, Json], over: dict[str, Json]) -> dict[str, Json]:
    """Job variables ``under`` with ``over`` on top: ``env`` key by key, dotted keys into nested (row P8)."""
    merged = dict(under)
    for key, value in over.items():
        head, dot, rest = key.partition(".")
        if dot and isinstance(merged.get(head), dict):
            merged[head] = _set_dotted(merged[head], rest, value)
        elif key == "env" and isinstance(merged.get(key), dict) and isinstance(value, dict):
            merged[key] = {**merged[key], **value}
        else:
            merged[key] = value
    return merged


def _set_dotted(values: dict[str, Json], key: str, value: Json) -> dict[str, Json]:
    if key in values or "." not in key:
        return {**values, key: value}
    head, _, rest = key.partition(".")
    return {**values, head: _set_dotted(_mapping(values.get(head)), rest, value)}


def _mapping(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _limit(value: Json, request: DeployRequest) -> Json:
    """The concurrency limit that the flags make of ``value``; None if they say nothing."""
    limit, strategy = request.concurrency_limit, request.collision_strategy
    if limit is None and strategy is None:
        return None
    known = value if isinstance(value, dict) else {"limit": value}
    if limit is not None:
        known = {**known, "limit": limit}
    if known.get("limit") is None:
        raise Usage(
            "--collision-strategy needs a concurrency limit.", fix="Add --concurrency-limit, or set it there."
        )
    return known if strategy is None else {**known, "collision_strategy": strategy}


def _work_pool(given: dict[str, Json], request: DeployRequest, default_pool: str | None) -> dict[str, Json]:
    pool = dict(given)
    if request.pool is not None or not pool.get("name"):
        pool["name"] = request.pool or default_pool
    if request.queue is not None:
        pool["work_queue_name"] = request.queue
    if request.job_variables:
        pool["job_variables"] = merge_variables(_mapping(pool.get("job_variables")), request.job_variables)
    return {key: value for key, value in pool.items() if value is not None}
