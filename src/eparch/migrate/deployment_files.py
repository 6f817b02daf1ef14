"""Files of Prefect 2 that describe deployments, both kinds (row M5, real-files 4).

Owns telling them from other YAML and reading them. A header or a "do not edit" line is not needed: people
write and edit these files by hand.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from eparch.core.model import Json, Value
from eparch.deploy.source import parse
from eparch.migrate.inventory import OldDeployment, read_block

PROJECT_NAMES = ("prefect.yaml", "prefect.yml")

_MARKS = ("infrastructure", "infra_overrides", "manifest_path", "parameter_openapi_schema", "storage")
_OF_ITEM = {"entrypoint", "flow_name", "work_pool", "schedule", "schedules", "parameters"}
_SHARED = ("definitions", "build", "push", "pull")
_HINTS = ("flow_name:", "infrastructure:", "infra_overrides:", "deployments:")


class Beta(Value, frozen=True, kw_only=True):
    """The file of the projects beta: its items are in today's grammar, its sections are shared by them."""

    origin: str
    items: list[dict[str, Json]]
    shared: dict[str, Json] = {}


def may_be_one(text: str) -> bool:
    """Whether it is worth to parse the text; most YAML of a repository is something else."""
    return any(hint in text for hint in _HINTS)


def read_file(text: str, name: str) -> OldDeployment | Beta | None:
    """What the file holds; None if it is no such file.

    Raises:
        SourceErrors: it is no YAML that can be used.
    """
    if PurePosixPath(name).name in PROJECT_NAMES:
        return None
    data = parse(text, name).data
    if not isinstance(data, dict):
        return None
    if isinstance(data.get("deployments"), list):
        return _read_beta(data, name)
    is_old = any(mark in data for mark in _MARKS)
    if not is_old or not isinstance(data.get("name") or data.get("flow_name"), str):
        return None
    blocks: dict[str, Any] = {}
    for field in ("infrastructure", "storage"):
        if isinstance(data.get(field), dict) and data[field]:
            blocks[field] = read_block(data[field], name)
    named = data.get("name")
    return OldDeployment(
        name=named if isinstance(named, str) and named else PurePosixPath(name).stem,
        origin=name,
        fields={key: value for key, value in data.items() if key not in blocks},
        **blocks,
    )


def _read_beta(data: dict[str, Json], name: str) -> Beta | None:
    items = [dict(item) for item in data["deployments"] if isinstance(item, dict) and _OF_ITEM & item.keys()]
    if not items or "kind" in data:
        return None
    shared = {key: data[key] for key in _SHARED if data.get(key)}
    return Beta(origin=name, items=items, shared=shared)
