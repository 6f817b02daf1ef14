"""``flow.deploy``, ``flow.to_deployment``, ``flow.from_source``, ``deploy``: deploying from Python (row D23).

Owns what their arguments mean, with the names that Prefect 3 has. Planning and applying is what the command
does: all deployments of one call come into one plan, all or nothing.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from eparch.core.deployments import (
    ConcurrencyOptions,
    DeploymentScheduleCreate,
    schedule_of,
)
from eparch.core.errors import Conflict, NotFound, Usage, did_you_mean
from eparch.core.model import Json
from eparch.sdk.code_storage import Storage, fetch, storage_of
from eparch.sdk.either import either

if TYPE_CHECKING:
    from eparch.core.pools import WorkPool
    from eparch.deploy.plan import Wanted
    from eparch.deploy.request import DeployResult
    from eparch.deploy.sending import Server
    from eparch.sdk.flow import Flow

_BUILD = "prefect_docker.deployments.steps.build_docker_image"
_PUSH = "prefect_docker.deployments.steps.push_docker_image"
_OF_SCHEDULE = ("active", "parameters", "slug", "max_scheduled_runs")


class EntrypointType(StrEnum):
    """How a deployment names its flow: by file, or by module, which has to be importable where it runs."""

    FILE_PATH = "file_path"
    MODULE_PATH = "module_path"


@dataclass(frozen=True)
class DockerImage:
    """An image to build: ``dockerfile`` is a file or ``auto``; more arguments go to the build step."""

    name: str
    tag: str | None = None
    dockerfile: str = "auto"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __init__(self, name: str, tag: str | None = None, dockerfile: str = "auto", **arguments: Any) -> None:
        for key, value in {
            "name": name,
            "tag": tag,
            "dockerfile": dockerfile,
            "arguments": arguments,
        }.items():
            object.__setattr__(self, key, value)


@dataclass(frozen=True)
class RunnerDeployment:
    """A deployment that is not made yet; ``flow.to_deployment`` gives one, ``deploy`` takes it."""

    flow: Flow[..., Any]
    name: str
    entrypoint: str
    root: Path
    storage: Storage | None = None
    schedules: list[DeploymentScheduleCreate] | None = None
    paused: bool | None = None
    concurrency_limit: int | None = None
    concurrency_options: ConcurrencyOptions | None = None
    parameters: dict[str, Json] = field(default_factory=dict)
    triggers: list[dict[str, Json]] | None = None
    description: str | None = None
    tags: list[str] = field(default_factory=list)
    version: str | None = None
    enforce_parameter_schema: bool = True
    work_pool_name: str | None = None
    work_queue_name: str | None = None
    job_variables: dict[str, Json] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """``flow/deployment``."""
        return f"{self.flow.name}/{self.name}"


def to_deployment(flow: Flow[..., Any], name: str, **given: Any) -> RunnerDeployment:
    """The deployment of ``flow`` called ``name``; see ``Flow.to_deployment`` for ``given``.

    Raises:
        Usage: an argument cannot be used.
    """
    kind = str(getattr(given.pop("entrypoint_type", None), "value", "") or "file_path")
    given.pop("version_type", None)
    if given.pop("_sla", None):
        raise Usage("_sla cannot be used here.", fix="Write 'sla:' in prefect.yaml.")
    limit = given.pop("concurrency_limit", None)
    options = None
    if limit is not None and not isinstance(limit, int):
        plain = limit if isinstance(limit, Mapping) else msgspec.to_builtins(limit)
        limit, strategy = plain["limit"], plain.get("collision_strategy")
        if strategy is not None:
            options = msgspec.convert({"collision_strategy": strategy}, ConcurrencyOptions)
    schedules = schedules_of(
        **{key: given.pop(key, None) for key in ("interval", "cron", "rrule", "schedule", "schedules")}
    )
    triggers = given.pop("triggers", None)
    storage, entrypoint = flow.source if flow.source else (None, _entrypoint(flow, kind))
    given = {key: value for key, value in given.items() if value is not None}
    return RunnerDeployment(
        flow=flow,
        name=name.removesuffix(".py"),
        entrypoint=entrypoint,
        root=Path.cwd(),
        storage=storage,
        schedules=schedules,
        concurrency_limit=limit,
        concurrency_options=options,
        triggers=None if triggers is None else [_trigger(one) for one in triggers],
        **given,
    )


def schedules_of(
    *, interval: Any, cron: Any, rrule: Any, schedule: Any, schedules: Any
) -> list[DeploymentScheduleCreate] | None:
    """The schedules that the arguments mean; None: nothing was said of them.

    Raises:
        Usage: two ways at once, or something that is no schedule.
    """
    given = {"interval": interval, "cron": cron, "rrule": rrule, "schedule": schedule, "schedules": schedules}
    used = [key for key, value in given.items() if value is not None]
    if not used:
        return None
    if len(used) > 1:
        raise Usage(f"{' and '.join(used)} cannot be given together.", fix="Give 'schedules', a list of all.")
    [kind] = used
    value = given[kind]
    several = isinstance(value, Iterable) and not isinstance(value, str | Mapping)
    items = list(value) if several else [value]
    return [_schedule(item if kind.startswith("schedule") else {kind: item}) for item in items]


def _schedule(item: Any) -> DeploymentScheduleCreate:
    from eparch.core.schedules import check

    if isinstance(item, DeploymentScheduleCreate):
        return item
    plain = dict(item) if isinstance(item, Mapping) else msgspec.to_builtins(item)
    own = {key: plain.pop(key) for key in _OF_SCHEDULE if key in plain}
    plain = dict(plain.get("schedule") or plain)
    if isinstance(plain.get("interval"), timedelta):
        plain["interval"] = plain["interval"].total_seconds()
    if isinstance(plain.get("anchor_date"), datetime):
        plain["anchor_date"] = plain["anchor_date"].isoformat()
    try:
        schedule = schedule_of({key: value for key, value in plain.items() if value is not None})
    except msgspec.ValidationError as error:
        raise Usage(
            f"{item!r} is no schedule.", why=str(error), fix="Give cron, interval or rrule."
        ) from error
    check(schedule)
    fields = {key: value for key, value in msgspec.to_builtins(schedule).items() if value is not None}
    return DeploymentScheduleCreate(schedule=fields, **{k: v for k, v in own.items() if v is not None})


def _trigger(item: Any) -> dict[str, Json]:
    dump = getattr(item, "model_dump", None)
    plain = dict(item) if isinstance(item, Mapping) else dump() if dump else msgspec.to_builtins(item)
    plain = {key: value for key, value in plain.items() if value is not None and key != "id"}
    if "type" not in plain:
        composite = "compound" if "require" in plain else "sequence"
        plain["type"] = composite if "triggers" in plain else "metric" if "metric" in plain else "event"
    return plain


def _entrypoint(flow: Flow[..., Any], kind: str) -> str:
    """Where the flow is: its file, seen from the working directory, or its module."""
    function = flow.fn
    if kind == "module_path":
        module = function.__module__
        if module == "__main__":
            raise Usage("A script has no module path.", fix="Leave entrypoint_type out.")
        return f"{module}.{function.__qualname__}"
    try:
        file = Path(inspect.getfile(inspect.unwrap(function))).resolve()
    except TypeError:
        file = Path()
    if not file.is_file() or "<locals>" in function.__qualname__:
        raise Usage(
            f"The flow {flow.name!r} is in no file that a worker could load.",
            fix="Define it at the top of a Python file.",
        )
    here = Path.cwd()
    place = file.relative_to(here) if file.is_relative_to(here) else file
    return f"{place}:{function.__qualname__}"


def from_source(source: Any, entrypoint: str) -> Flow[..., Any]:
    """The flow at ``entrypoint`` of code that is kept elsewhere; the code is brought here and executed.

    Raises:
        Usage: ``source`` is no place for code.
        StepFailed: it cannot be brought.
        SourceError: there is no such flow.
    """
    from eparch.sdk.loading import load_flow

    storage = storage_of(source)
    folder, before = fetch(storage), Path.cwd()
    os.chdir(folder)
    try:
        flow = load_flow(entrypoint)
    finally:
        os.chdir(before)
    sourced = flow.with_options()
    sourced.source = (storage, entrypoint)
    return sourced


@either
def deploy(
    *deployments: RunnerDeployment,
    work_pool_name: str | None = None,
    image: str | DockerImage | None = None,
    build: bool = True,
    push: bool = True,
    print_next_steps_message: bool = True,
    ignore_warnings: bool = False,
) -> list[UUID]:
    """Make or change deployments, all or nothing; their ids, in order. Called or awaited.

    Raises:
        Usage: there is none, or one has no work pool.
        NotFound: there is no such work pool.
        Conflict: one does not fit its pool or its flow, or somebody changed it at this moment.
    """
    from eparch.deploy.sending import Server
    from eparch.sdk.session import current

    if not deployments:
        raise Usage("There is nothing to deploy.", fix="Give deployments: flow.to_deployment('name').")
    session = current()
    tell = _say if print_next_steps_message else _be_silent
    default = work_pool_name or session.settings.default_work_pool
    placed = [replace(one, work_pool_name=one.work_pool_name or default) for one in deployments]
    server = Server(session.client)
    pools = _pools(server, placed)
    named = _image(image, build=build, push=push, root=Path.cwd(), tell=tell)
    built = (image.dockerfile if isinstance(image, DockerImage) else "auto") if image and build else None
    wanted = [_wanted(one, pools[str(one.work_pool_name)], named, tell, built) for one in placed]
    result = _apply(server, wanted, pools, tell)
    if not ignore_warnings or print_next_steps_message:
        for hint in result.hints:
            tell(hint)
    return [one.id for one in result.deployments if one.id is not None]


def register(deployments: Sequence[RunnerDeployment], tell: Callable[[str], None]) -> list[UUID]:
    """Make or change deployments that need no work pool, as a process serves them; their ids, in order.

    Raises:
        Conflict: one does not fit its flow, or somebody went on changing it.
        EparchError: the server refused.
    """
    from eparch.deploy.sending import Server
    from eparch.sdk.session import current

    wanted = [_wanted(one, None, None, tell) for one in deployments]
    for last in (False, False, True):
        try:
            # Others that begin to serve the same at this moment make the plan stale.
            result = _apply(Server(current().client), wanted, {}, tell)
        except Conflict:
            if last:
                raise
        else:
            break
    return [one.id for one in result.deployments if one.id is not None]


def _apply(
    server: Server, wanted: Sequence[Wanted], pools: dict[str, WorkPool], tell: Callable[[str], None]
) -> DeployResult:
    from eparch.deploy.origin import read_origin
    from eparch.deploy.proposal import Proposal
    from eparch.steps.references import ServerReferences

    commit = read_origin(Path.cwd()).commit
    references = ServerReferences(server.client)
    return Proposal(server, references, wanted, pools=pools, commit=commit).apply(tell, None)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _be_silent(text: str) -> None:
    """Nobody wants to know."""


def _pools(server: Server, placed: Sequence[RunnerDeployment]) -> dict[str, WorkPool]:
    """The work pools of all of them.

    Raises:
        Usage: one names none.
        NotFound: one is not there.
    """
    from eparch.core import calls

    names = []
    for one in placed:
        if one.work_pool_name is None:
            raise Usage(
                f"'{one.full_name}' has no work pool.",
                fix="Give work_pool_name, or set EPARCH_DEFAULT_WORK_POOL.",
            )
        names.append(one.work_pool_name)
    body = {"work_pools": {"name": {"any_": sorted(set(names))}}}
    found = {pool.name: pool for pool in server.pages(calls.read_work_pools, body)}
    for name in names:
        if name not in found:
            known = [pool.name for pool in server.pages(calls.read_work_pools, {})]
            create = f"Create it: eparch work-pool create {name} --type process"
            raise NotFound(f"There is no work pool '{name}'.", fix=did_you_mean(name, known) or create)
    return found


def _image(image: str | DockerImage | None, *, build: bool, push: bool, root: Path, tell: Any) -> str | None:
    """The name of the image, which is built and pushed where that is asked for."""
    from eparch.steps.runner import run_steps

    if image is None:
        return None
    one = DockerImage(image) if isinstance(image, str) else image
    name, tag = _name_and_tag(one)
    if not build:
        return f"{name}:{tag}" if tag else name
    arguments = {"image_name": name, "tag": tag, "dockerfile": one.dockerfile, **one.arguments}
    given = {key: value for key, value in arguments.items() if value is not None}
    steps = [{_BUILD: {**given, "id": "built"}}]
    if push:
        steps.append({_PUSH: {"image_name": "{{ built.image_name }}", "tag": "{{ built.tag }}"}})
    outputs = run_steps(steps, on_output=tell)
    return str(outputs["built"]["image"])


def _name_and_tag(image: DockerImage) -> tuple[str, str | None]:
    """``host:5000/name:tag`` taken apart: a port is no tag."""
    head, slash, last = image.name.rpartition("/")
    last, _, tag = last.partition(":")
    return head + slash + last, image.tag or tag or None


def _wanted(
    one: RunnerDeployment,
    pool: WorkPool | None,
    named: str | None,
    tell: Any,
    built: str | None = None,
) -> Wanted:
    from eparch.core.signatures import schema_of
    from eparch.deploy.plan import Wanted
    from eparch.deploy.pulling import default_pull

    variables = {**one.job_variables, **({"image": named} if named else {})}
    if one.storage is not None:
        pull = [one.storage.pull_step()]
    else:
        pull, note = default_pull(
            one.root,
            build=[],
            image=bool(variables.get("image")),
            pool_type=pool.type if pool else None,
            dockerfile=built,
        )
        if note:
            tell(f"{one.full_name}: {note}")
    return Wanted(
        flow_name=one.flow.name,
        name=one.name,
        entrypoint=one.entrypoint,
        version=one.version or one.flow.version,
        description=one.description or one.flow.description,
        paused=one.paused,
        schedules=one.schedules,
        concurrency_limit=one.concurrency_limit,
        concurrency_options=one.concurrency_options,
        enforce_parameter_schema=one.enforce_parameter_schema,
        parameter_openapi_schema=schema_of(one.flow.fn),
        parameters=one.parameters,
        tags=list(one.tags),
        pull_steps=pull,
        work_pool_name=one.work_pool_name,
        work_queue_name=one.work_queue_name,
        job_variables=variables,
        triggers=one.triggers,
    )
