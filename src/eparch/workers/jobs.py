"""What is the same for a run's job on every infrastructure: its name, labels, environment and command.

Pure: values in, values out (rows W23, W24, W25, P7, P8). Does not own what a type makes of it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from eparch.core.calls import CLAIM_HEADER
from eparch.core.deployments import Deployment, Flow
from eparch.core.errors import BadRequest, Invalid, NotFound, TemplateInvalid
from eparch.core.job_templates import Layer, Resolved, render_job
from eparch.core.model import Json, Value
from eparch.core.pools import ShownToken, WorkPool
from eparch.core.runs import FlowRun
from eparch.core.templates import Kind, Lookup, Path, Placeholder, find, render
from eparch.settings import TABLE, Settings
from eparch.steps.image import DEFAULT_IMAGE as DEFAULT_IMAGE
from eparch.version import __version__

RUN_ID = "EPARCH_FLOW_RUN_ID"
CLAIM_TOKEN = "EPARCH_CLAIM_TOKEN"  # noqa: S105  the name of a variable
STOCK_HEADERS = "PREFECT_CLIENT_CUSTOM_HEADERS"
"""What Prefect's client sends with each request."""

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


class References(Protocol):
    """Where the values of blocks and variables come from; ``eparch.steps.references`` has one."""

    def block(self, name: str) -> Any:
        """What ``<type-slug>.<name>[.path]`` holds; an ``EparchError`` if there is none."""

    def variable(self, name: str) -> Any:
        """The value of a variable; an ``EparchError`` if there is none."""

    def document(self, reference: Mapping[str, Any]) -> Any:
        """The data of the block of ``{"$ref": reference}``; an ``EparchError`` if there is none."""


def make_job(
    assignment: Assignment,
    environment: Mapping[str, str],
    template: Mapping[str, Json],
    references: References | None = None,
) -> dict[str, Json]:
    """The job configuration of a run: ``template`` with every layer, and what every job has.

    ``environment`` is ``client_environment``. ``template`` is the pool's base job template, or the default
    one where the pool has none. ``references`` answer for blocks and variables (row P10): here, when the job
    is about to start, and nowhere before, so that what they hold is stored nowhere.

    Raises:
        Invalid: a job variable is unknown, or refers to something that cannot be read here.
        EparchError: a block or variable is not there, or the server cannot be asked.
    """
    rendered, resolved = render_job(dict(template), layers_of(assignment), unescape=False)
    job: dict[str, Json] = _filled(rendered, _lookup(assignment, references), references)
    job["name"] = _name(job.get("name")) or assignment.flow_run.name
    job["labels"] = labels_of(assignment) | {
        str(key): str(value) for key, value in _mapping(job, "labels").items()
    }
    job["env"] = _environment(job, resolved, environment, assignment)
    return job


def layers_of(assignment: Assignment) -> list[Layer]:
    """The job variables of a run over those of its pool, the first first (row P7)."""
    deployment = assignment.deployment
    return [
        Layer(name="deployment", values=dict(deployment.job_variables) if deployment else {}),
        Layer(name="run", values=dict(assignment.flow_run.job_variables or {})),
    ]


def _name(given: Json) -> str:
    """A job's name without what it asks of the run and the run does not have (row W25)."""
    return str(render(str(given), lambda _: "", kinds={Kind.CTX})).strip() if given else ""


def client_environment(settings: Settings, *, secrets: bool = True) -> dict[str, str]:
    """What a run's process is told of the server: under our names and Prefect's, as either may run in it.

    Without ``secrets`` they are masked, for people to see.
    """
    told = {}
    for row in TABLE:
        if row.name not in _HANDED_DOWN:
            continue
        value = getattr(settings, row.name)
        if value is None or value == row.default:
            continue
        for name in row.names[:2]:
            told[name] = row.show(value, secrets=secrets)
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
    words = words_of(command)
    before = _before_stock(words)
    return words if before is None else [*before, *COMMAND]


def command_in_image(command: str | Sequence[str] | None) -> list[str]:
    """The words of a job's command in an image, of which nobody knows whether it has this package.

    One that is not set, or with which Prefect runs a flow run, is run by this package where the image has it,
    and else as it is: images made for the incumbent's workers work. Needs a shell in the image.

    Raises:
        Invalid: it has an open quote.
    """
    words = words_of(command) if command else ["prefect", "flow-run", "execute"]
    before = _before_stock(words)
    if before is None or "eparch" in " ".join(words[len(before) :]):
        return words
    ours = shlex.join([*before, "eparch", "flow-run", "execute"])
    return ["/bin/sh", "-c", f"command -v eparch >/dev/null 2>&1 && exec {ours}; exec {shlex.join(words)}"]


def words_of(command: str | Sequence[str]) -> list[str]:
    """A command as words.

    Raises:
        Invalid: it has an open quote.
    """
    try:
        return shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    except ValueError as error:
        raise Invalid(
            f"The job's command is not one: {error}", fix="correct the job variable 'command'"
        ) from error


def _before_stock(words: Sequence[str]) -> list[str] | None:
    """What stands before a command that means "run the flow run"; None if it is another one."""
    for stock in _STOCK:
        if tuple(words[-len(stock) :]) == stock:
            return list(words[: -len(stock)])
    return None


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
        last[STOCK_HEADERS] = _with_claim(_headers({**told, **own}), assignment)
    return {**told, **own, **last}


def _headers(environment: Mapping[str, str | None]) -> str | None:
    return environment.get("EPARCH_CUSTOM_HEADERS") or environment.get(STOCK_HEADERS)


def _with_claim(headers: str | None, assignment: Assignment) -> str:
    """The headers that Prefect's client is to send: with the claim, which it does not know of, as ours does.

    Without them the server would take an image with Prefect inside for somebody else (row W15).
    """
    import json

    try:
        given = json.loads(headers or "{}")
    except ValueError:
        given = {}
    kept = dict(given) if isinstance(given, dict) else {}
    assert assignment.token is not None
    shown = ShownToken(token=assignment.token, flow_run_id=assignment.flow_run.id)
    return json.dumps({**kept, CLAIM_HEADER: shown.header})


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


def _lookup(assignment: Assignment, references: References | None) -> Lookup:
    """What ``{{ ctx.flow.* }}`` and so on (row W25), blocks and variables stand for."""
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
        if found.kind is Kind.CTX:
            return find(values, found.key)
        if references is None:
            raise Invalid(f"'{found.name}' cannot be read", why="no server is asked for it")
        return references.block(found.key) if found.kind is Kind.BLOCK else references.variable(found.key)

    return lookup


_SUBMITTED = frozenset({Kind.CTX, Kind.BLOCK, Kind.VARIABLE})
"""What a placeholder of a job may ask for when the job is submitted."""


def _filled(value: Json, lookup: Lookup, references: References | None, path: Path = ()) -> Any:
    """``value`` with all that is known when it is submitted; what was put in is not looked at again."""
    if isinstance(value, Mapping):
        reference = value.get("$ref")
        if isinstance(reference, Mapping):
            with _placed(path):
                if references is None:
                    raise Invalid("A block cannot be read", why="no server is asked for it")
                return references.document(reference)
        return {key: _filled(item, lookup, references, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, lookup, references, (*path, at)) for at, item in enumerate(value)]
    with _placed(path):
        return render(value, lookup, unset="keep", kinds=_SUBMITTED)


@contextmanager
def _placed(path: Path) -> Iterator[None]:
    """Let an error say which part of the job asked."""
    try:
        yield
    except (NotFound, Invalid, BadRequest, TemplateInvalid) as error:
        place = f"The job's '{'.'.join(str(part) for part in path)}' cannot be filled in"
        why = f"{error.message} {error.why}".strip()
        raise Invalid(place, why=why, fix=error.fix) from error
