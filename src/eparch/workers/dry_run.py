"""The job that a worker would start for a run, with where each value came from; nothing is started.

Owns what a worker adds to the origins of ``core.job_origins``. Asks no server: references stay as written.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

from eparch.core.job_origins import Origin, explain_job, leaves
from eparch.core.job_templates import parts_of, resolve_variables
from eparch.core.model import Json
from eparch.core.templates import Path
from eparch.workers.infrastructure import find_type
from eparch.workers.jobs import (
    CLAIM_TOKEN,
    RUN_ID,
    Assignment,
    command_of,
    layers_of,
    make_job,
)

WORKER = "worker"
"""The layer of what every worker adds: labels, the run's environment, a name and a command."""

_OWN = frozenset({RUN_ID, "PREFECT__FLOW_RUN_ID", CLAIM_TOKEN})


class AsWritten:
    """References that stand for themselves, so that no secret is read (row P10)."""

    def block(self, name: str) -> Any:
        """``{{ prefect.blocks.<name> }}``."""
        return f"{{{{ prefect.blocks.{name} }}}}"

    def variable(self, name: str) -> Any:
        """``{{ prefect.variables.<name> }}``."""
        return f"{{{{ prefect.variables.{name} }}}}"

    def document(self, reference: Mapping[str, Any]) -> Any:
        """``{"$ref": ...}``."""
        return {"$ref": dict(reference)}


def explain_assignment(
    assignment: Assignment, environment: Mapping[str, str], template: dict[str, Json]
) -> tuple[dict[str, Json], dict[Path, Origin]]:
    """The job of ``make_job``, and for each of its leaves where it came from (rows P7, W24).

    Raises:
        Invalid: a job variable is unknown, or a part of the job is not what it has to be.
    """
    layers = layers_of(assignment)
    job = make_job(assignment, environment, template, AsWritten())
    _, known = explain_job(template, layers)
    if assignment.pool.type == "process":
        job["command"] = shlex.join(command_of(job.get("command")))
    removed = resolve_variables(parts_of(template)[0], *layers)
    origins: dict[Path, Origin] = {}
    for path, value in leaves(job):
        origin = known.get(path)
        if path[0] == "env" and path[-1] in _OWN:
            origin = None
        elif path[0] == "env" and value is None and origin is None:
            layer = removed.origin.get(".".join(map(str, path)))
            origin = Origin(layers=(layer,), variables=("env",)) if layer else None
        origins[path] = origin or Origin(layers=(WORKER,))
    return job, origins


def render_as(type_name: str, job: Mapping[str, Json]) -> Json:
    """What the type makes of a job, as JSON: a process, the settings of a container, a manifest.

    Raises:
        Invalid: a value does not fit the type.
        NotFound: no package that is installed here has the type.
        InfrastructureError: the package of the type is broken.
    """
    config = find_type(type_name)().render(job)
    return msgspec.to_builtins(config, enc_hook=str)
