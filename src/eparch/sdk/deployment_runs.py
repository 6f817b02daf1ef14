"""``run_deployment``: a run of a deployment from code, and waiting for its end (row B10).

In a flow or a task such a run is a subflow: a task run of the caller's stands for it. A caller that is tried
again gets the runs that it made before, unless they failed.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from eparch.core import calls
from eparch.core.deployments import Deployment
from eparch.core.errors import NotFound, Usage
from eparch.core.model import encode
from eparch.core.runs import DeploymentFlowRunCreate, FlowRun, TaskRunCreate
from eparch.core.states import StateCreate, StateDetails, StateType
from eparch.sdk import context, watching
from eparch.sdk.background import readable
from eparch.sdk.either import Until, Waiting, either
from eparch.sdk.flow_run import FlowRunContext, storable
from eparch.sdk.inputs import Found, collect, resolve
from eparch.sdk.run_context import RunContext
from eparch.sdk.session import Session, current
from eparch.sdk.task_run import PENDING, TaskRunContext, source

POLL_SECONDS = 5.0


@either
def run_deployment(
    name: str | UUID,
    client: Any = None,
    parameters: Mapping[str, Any] | None = None,
    scheduled_time: datetime | None = None,
    flow_run_name: str | None = None,
    timeout: float | None = None,
    poll_interval: float | None = POLL_SECONDS,
    tags: Iterable[str] | None = None,
    idempotency_key: str | None = None,
    work_queue_name: str | None = None,
    as_subflow: bool | None = True,
    job_variables: Mapping[str, Any] | None = None,
) -> Waiting[FlowRun]:
    """Make a run of a deployment, ``flow/deployment`` or its id, and wait for it; gives the ``FlowRun``.

    After ``timeout`` seconds it is given as it is then, at 0 at once. ``poll_interval`` is used where the
    server's events cannot be followed; ``client`` is Prefect's and not needed.

    Raises:
        Usage: the name is none, or a number is negative.
        NotFound: there is no such deployment.
        Conflict: parameters or job variables do not fit the deployment.
    """
    for what, value in (("timeout", timeout), ("poll_interval", poll_interval)):
        if value is not None and not value >= 0:
            raise Usage(f"The {what} is {value}.", fix="Give seconds: 0 or more.")
    caller = context.current_run() if as_subflow else None
    session = caller.session if caller is not None else current()
    deployment, name = _deployment(session, name)
    found = Found()
    given = dict(parameters or {})
    collect(given, None, found)
    body = DeploymentFlowRunCreate(
        name=flow_run_name,
        parameters=storable(resolve(given) if found.marked else given),
        tags=sorted(tags or ()),
        idempotency_key=idempotency_key,
        work_queue_name=work_queue_name,
        job_variables=None if job_variables is None else dict(job_variables),
    )
    if caller is not None:
        body = replace(body, parent_task_run_id=_parent(caller, name, deployment, body, given))
    details = StateDetails(scheduled_time=scheduled_time or datetime.now(UTC))
    state = StateCreate(type=StateType.SCHEDULED, name="Scheduled", state_details=details)
    run = _create(session, deployment.id, replace(body, state=state))
    if timeout != 0 and not _is_over(run):
        ended = _Ended(run.id, POLL_SECONDS if poll_interval is None else poll_interval)
        try:
            yield Until(ended, timeout)
        finally:
            ended.leave()
        run = session.client.send(calls.read_flow_run(id=run.id))
    if run.state is None or not isinstance(run.state.data, dict):
        return run
    return replace(run, state=readable(session, run.state))


arun_deployment = run_deployment.aio


class _Ended(concurrent.futures.Future[None]):
    """Is done when a flow run is over."""

    def __init__(self, run_id: UUID, poll: float) -> None:
        super().__init__()
        self.run_id = run_id
        watching.FLOW_RUNS.add(run_id, self._told, max(poll, watching.FIRST_LOOK))

    def _told(self, _: FlowRun | None) -> None:
        if self.set_running_or_notify_cancel():
            self.set_result(None)

    def leave(self) -> None:
        """Nobody waits any more."""
        watching.FLOW_RUNS.remove(self.run_id, self._told)


def _is_over(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()


def _deployment(session: Session, name: str | UUID) -> tuple[Deployment, str]:
    """The deployment that is meant, and what it is called."""
    try:
        given = name if isinstance(name, UUID) else UUID(name)
    except ValueError:
        flow, slash, own = str(name).partition("/")
        if not (slash and flow and own):
            raise Usage(
                f"{name!r} is not the name of a deployment.",
                fix="Write it as `flow/deployment`, or give its id.",
            ) from None
        call = calls.read_deployment_by_name(flow_name=flow, deployment_name=own)
        try:
            return session.client.send(call), str(name)
        except NotFound as error:
            raise NotFound(
                f"There is no deployment {name!r}.", fix="`eparch deployment ls` shows which there are."
            ) from error
    deployment = session.client.send(calls.read_deployment(id=given))
    return deployment, f"{session.client.send(calls.read_flow(id=deployment.flow_id)).name}/{deployment.name}"


def _create(session: Session, deployment_id: UUID, body: DeploymentFlowRunCreate) -> FlowRun:
    """The run; of a caller that is tried again the one of before, unless that did not complete."""
    if body.idempotency_key is not None or body.parent_task_run_id is None:
        return session.client.send(calls.create_deployment_flow_run(id=deployment_id, body=body))
    seen: set[UUID] = set()
    while True:
        key = f"run-deployment:{body.parent_task_run_id}:{len(seen)}"
        call = calls.create_deployment_flow_run(id=deployment_id, body=replace(body, idempotency_key=key))
        run = session.client.send(call)
        failed = _is_over(run) and run.state is not None and not run.state.is_completed()
        if not failed or run.id in seen:
            return run
        seen.add(run.id)


class _Numbers:
    """How often each call was made by each run; a run that is tried again counts from the start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: WeakKeyDictionary[RunContext, tuple[int, Counter[str]]] = WeakKeyDictionary()

    def next(self, run: FlowRunContext | TaskRunContext, key: str) -> int:
        attempt = run.record.run_count
        with self._lock:
            known, counts = self._counts.get(run, (attempt, Counter[str]()))
            if known != attempt:
                counts = Counter()
            self._counts[run] = attempt, counts
            number = counts[key]
            counts[key] += 1
            return number


_numbers = _Numbers()


def _parent(
    caller: FlowRunContext | TaskRunContext,
    name: str,
    deployment: Deployment,
    body: DeploymentFlowRunCreate,
    given: Mapping[str, Any],
) -> UUID:
    """The task run that stands for the run in its caller; the same call of another attempt has the same one.

    Calls that differ in what they ask for are told apart by that, equal ones by their number: in async code
    the order of calls is not the same each time.
    """
    flow = caller.flow_context
    inputs: dict[str, list[dict[str, Any]]] = {}
    for parameter, value in given.items():
        found = Found()
        collect(value, flow.links if flow is not None else None, found)
        inputs[parameter] = [source(run_id) for run_id in found.runs]
    within = ""
    if isinstance(caller, TaskRunContext):
        inputs["__parents__"] = [source(caller.record.id)]
        within = f"{caller.record.dynamic_key}-"
    digest = hashlib.sha256(encode(body)).hexdigest()[:16]
    number = _numbers.next(caller, f"{name} {digest}")
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    key = f"{within}{digest}-{number}"
    task_run = TaskRunCreate(
        id=uuid5(caller.record.id, f"{slug} {key}"),
        name=f"{name}-{number}",
        flow_run_id=caller.record.id if isinstance(caller, FlowRunContext) else caller.record.flow_run_id,
        task_key=f"prefect.deployments.flow_runs.run_deployment.{slug}",
        dynamic_key=key,
        task_version=deployment.version,
        task_inputs=inputs,
        state=PENDING,
    )
    return caller.session.client.send(calls.create_task_run(body=task_run)).id
