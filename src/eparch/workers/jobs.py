"""What is the same for a run's job on every infrastructure: its name, labels, environment and command.

Pure: values in, values out (rows W23, W24, W25, P7, P8). Does not own what a type makes of it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eparch.core.deployments import Deployment, Flow
from eparch.core.errors import Invalid
from eparch.core.job_templates import Layer, Resolved, render_job
from eparch.core.model import UNSET, Json, Value
from eparch.core.pools import WorkPool
from eparch.core.runs import FlowRun
from eparch.core.templates import Kind, Placeholder, find, placeholders, render
from eparch.settings import TABLE, Settings
from eparch.version import __version__

RUN_ID = "EPARCH_FLOW_RUN_ID"
CLAIM_TOKEN = "EPARCH_CLAIM_TOKEN"  # noqa: S105  the name of a variable

COMMAND = (sys.executable, "-m", "eparch.sdk.execute")
"""What runs a flow run with the Python of this worker."""

_STOCK: tuple[tuple[str, ...], ...] = (
    ("prefect", "flow-run", "execute"),
    ("eparch", "flow-run", "execute"),
    ("python", "-m", "prefect.engine"),
    ("python", "-m", "prefect.flow_engine"),
    ("python", "-m", "eparch.sdk.execute"),
)
"""Commands that pools carry and that mean "run the flow run"."""

_HANDED_DOWN = (
    "api_url",
    "api_key",
    "auth_string",
    "request_timeout",
    "max_retries",
    "custom_headers",
    "tls_ca_file",
    "tls_insecure",
    "log_level",
    "debug",
)
"""Settings that a run's process needs to speak with the same server in the same way."""


class Assignment(Value, frozen=True, kw_only=True):
    """A run that this worker is to start, with all that describes it."""

    flow_run: FlowRun
    pool: WorkPool
    worker_name: str
    deployment: Deployment | None = None
    flow: Flow | None = None
    token: int | None = None
    """Fencing token of the claim; None where a server knows none."""


def make_job(
    assignment: Assignment, environment: Mapping[str, str], template: Mapping[str, Json]
) -> dict[str, Json]:
    """The job configuration of a run: ``template`` with every layer, and what every job has.

    ``environment`` is ``client_environment``. ``template`` is the pool's base job template, or the default
    one where the pool has none.

    Raises:
        Invalid: a job variable is unknown, or refers to something that cannot be read here.
    """
    deployment, flow_run = assignment.deployment, assignment.flow_run
    layers = [
        Layer(name="deployment", values=dict(deployment.job_variables) if deployment else {}),
        Layer(name="run", values=dict(flow_run.job_variables or {})),
    ]
    rendered, resolved = render_job(dict(template), layers)
    _refuse_references(rendered)
    job: dict[str, Json] = render(rendered, _context_of(assignment), unset="keep", kinds={Kind.CTX})
    job["name"] = job.get("name") or flow_run.name
    job["labels"] = labels_of(assignment) | {
        str(key): str(value) for key, value in _mapping(job, "labels").items()
    }
    job["env"] = _environment(job, resolved, environment, assignment)
    return job


def client_environment(settings: Settings) -> dict[str, str]:
    """What a run's process is told of the server: under our names and Prefect's, as either may run in it."""
    told = {}
    for row in TABLE:
        if row.name not in _HANDED_DOWN:
            continue
        value = getattr(settings, row.name)
        if value is None or value == row.default:
            continue
        for name in row.names[:2]:
            told[name] = row.show(value, secrets=True)
    return told


def labels_of(assignment: Assignment) -> dict[str, str]:
    """Labels that say what a job belongs to (row W23); under Prefect's names, which people select by."""
    run, deployment, flow, pool = (
        assignment.flow_run,
        assignment.deployment,
        assignment.flow,
        assignment.pool,
    )
    labels = {
        "prefect.io/flow-run-id": str(run.id),
        "prefect.io/flow-run-name": run.name,
        "prefect.io/version": __version__,
        "prefect.io/flow-id": str(run.flow_id),
        "prefect.io/work-pool-name": pool.name,
        "prefect.io/work-pool-id": str(pool.id),
        "prefect.io/worker-name": assignment.worker_name,
    }
    if flow is not None:
        labels["prefect.io/flow-name"] = flow.name
    if deployment is not None:
        labels["prefect.io/deployment-id"] = str(deployment.id)
        labels["prefect.io/deployment-name"] = deployment.name
        if deployment.updated is not None:
            labels["prefect.io/deployment-updated"] = deployment.updated.isoformat()
    return labels


def command_of(command: str | Sequence[str] | None) -> list[str]:
    """The words of a job's command; ours where it is not set, or is one that means "run the flow run".

    Such a command may stand behind another program, as in ``opentelemetry-instrument prefect flow-run
    execute``.

    Raises:
        Invalid: it has an open quote.
    """
    if not command:
        return list(COMMAND)
    try:
        words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    except ValueError as error:
        raise Invalid(
            f"The job's command is not one: {error}", fix="correct the job variable 'command'"
        ) from error
    for stock in _STOCK:
        size = len(stock)
        if tuple(words[-size:]) == stock:
            return [*words[:-size], *COMMAND]
    return words


def _mapping(job: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    value = job.get(key) or {}
    if not isinstance(value, Mapping):
        raise Invalid(f"'{key}' of the job must be a mapping, not {type(value).__name__}")
    return value


def _environment(
    job: Mapping[str, Json], resolved: Resolved, environment: Mapping[str, str], assignment: Assignment
) -> dict[str, str | None]:
    """The job's environment: the client's, what the run belongs to, and the variable ``env`` over both.

    A key with None is removed from what a job inherits (row W24); which run it is and its claim stay ours.
    """
    own = {str(key): None if value is None else str(value) for key, value in _mapping(job, "env").items()}
    kept = resolved.values.get("env") or {}
    for path in resolved.origin:
        head, dot, key = path.partition(".")
        if head == "env" and dot and key not in kept and key not in own:
            own[key] = None
    told: dict[str, str | None] = {**environment, **_attribution(assignment)}
    for names in (row.names for row in TABLE if row.name in _HANDED_DOWN):
        # Whoever sets one name of a setting means all of them.
        if any(name in own for name in names):
            for name in names:
                told.pop(name, None)
                own.setdefault(name, None)
    run_id = str(assignment.flow_run.id)
    last = {RUN_ID: run_id, "PREFECT__FLOW_RUN_ID": run_id}
    if assignment.token is not None:
        last[CLAIM_TOKEN] = str(assignment.token)
    return {**told, **own, **last}


def _attribution(assignment: Assignment) -> dict[str, str]:
    run, deployment, flow = assignment.flow_run, assignment.deployment, assignment.flow
    told = {"PREFECT__WORKER_NAME": assignment.worker_name, "PREFECT__FLOW_ID": str(run.flow_id)}
    if flow is not None:
        told["PREFECT__FLOW_NAME"] = flow.name
    if run.deployment_id is not None:
        told["PREFECT__DEPLOYMENT_ID"] = str(run.deployment_id)
    if deployment is not None:
        told["PREFECT__DEPLOYMENT_NAME"] = deployment.name
    return told


def _context_of(assignment: Assignment) -> Any:
    """A lookup of ``{{ ctx.flow.* }}``, ``{{ ctx.flow_run.* }}`` and ``{{ ctx.deployment.* }}`` (row W25)."""
    import msgspec

    known = {
        "flow": assignment.flow,
        "flow_run": assignment.flow_run,
        "deployment": assignment.deployment,
        "work_pool": assignment.pool,
    }
    values: dict[str, Json] = {
        key: msgspec.to_builtins(value) for key, value in known.items() if value is not None
    }

    def lookup(found: Placeholder) -> Any:
        return find(values, found.key) if found.kind is Kind.CTX else UNSET

    return lookup


def _refuse_references(job: Mapping[str, Json]) -> None:
    """Refuse what only a server with blocks and variables can answer: a job must never run with half of
    it.
    """
    for found in placeholders(dict(job)):
        if found.kind in (Kind.BLOCK, Kind.VARIABLE):
            raise Invalid(
                f"The job variable at '{_dotted(found.path)}' refers to '{found.name}', which cannot be read",
                why="this worker reads no blocks and no variables",
                fix="give the value itself, or pass it to the worker as an environment variable",
            )
    for path in _references(job, ()):
        raise Invalid(
            f"The job variable at '{_dotted(path)}' refers to a block, which cannot be read here",
            why="this worker reads no blocks",
            fix="give the value itself",
        )


def _references(value: Json, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, Mapping):
        reference = value.get("$ref")
        if isinstance(reference, Mapping) and "block_document_id" in reference:
            yield path
            return
        for key, item in value.items():
            yield from _references(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _references(item, (*path, index))


def _dotted(path: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in path)
