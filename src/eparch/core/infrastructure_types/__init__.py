"""The types of infrastructure that are shipped: their names and the base job templates of new pools.

Owns the data, one file a type, with the variables and the configuration that Prefect's workers of that type
know, so that a pool made here serves either worker (row P12, wire 4.4). The files are constants, read as a
module would be imported (ADR 0009). Does not own what a type does with a job.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

from eparch.core.model import Json, Value, decode

NAMES = (
    "process",
    "docker",
    "kubernetes",
    "ecs",
    "cloud-run",
    "cloud-run-v2",
    "vertex-ai",
    "azure-container-instance",
)
"""The shipped types, the simplest first."""


class InfrastructureType(Value, frozen=True, kw_only=True):
    """What people are told of a type, and what a pool of it begins with."""

    type: str
    package: str
    """Of the incumbent's worker: views of collections are sorted by it."""
    display_name: str
    description: str
    install_command: str = ""
    default_base_job_configuration: dict[str, Json]
    documentation_url: str = ""
    logo_url: str = ""
    is_beta: bool = False


@cache
def read_type(name: str) -> InfrastructureType:
    """The type called ``name``, one of ``NAMES``; its template is shared, so copy it to change it."""
    from importlib.resources import files

    data = files(__name__).joinpath(f"{NAMES[NAMES.index(name)]}.json").read_bytes()
    found: InfrastructureType = decode(data, InfrastructureType)
    return found


@cache
def past_templates(name: str) -> tuple[dict[str, Any], ...]:
    """Every base job template that a shipped type has had, the newest last; empty for any other type.

    Older ones stand in ``past/<type>-<number>.json``, from 1 on. Whoever changes a template puts the old one
    there, so that pools that began with it can be upgraded (row P13). They are shared, so copy one to change.
    """
    from importlib.resources import files

    if name not in NAMES:
        return ()
    found: list[dict[str, Any]] = []
    while (file := files(__name__).joinpath("past", f"{name}-{len(found) + 1}.json")).is_file():
        found.append(decode(file.read_bytes()))
    return (*found, read_type(name).default_base_job_configuration)


def shipped_template(name: str) -> dict[str, Any] | None:
    """A copy of the base job template of a shipped type; None for any other."""
    return deepcopy(read_type(name).default_base_job_configuration) if name in NAMES else None
