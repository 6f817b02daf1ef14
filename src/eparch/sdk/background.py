"""Background tasks: scheduling a run for a task worker, and waiting for it from another process (row B10).

Parameters and results are in the folder of results of the home, which the process that schedules and its task
workers have to share; the server knows only where. Executing such a run is in ``task_worker``, noticing that
it is over in ``watching``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import msgspec

from eparch.core import calls
from eparch.core.errors import EparchError, MissingResult
from eparch.core.model import new_id
from eparch.core.runs import TaskRun, TaskRunCreate
from eparch.core.states import Cancelled, State, StateCreate, StateDetails, StateType
from eparch.sdk import caching, context, watching
from eparch.sdk.futures import Future
from eparch.sdk.inputs import Found, collect, resolve
from eparch.sdk.session import Session, current
from eparch.sdk.task_events import related_of, task_event

if TYPE_CHECKING:
    from eparch.sdk.task import Task

R = TypeVar("R")

DELETED = Cancelled(message="The task run was deleted.")


class Stored(msgspec.Struct):
    """What is kept for the task worker."""

    parameters: dict[str, Any]
    wait_for: list[Any]


def parameters_path(session: Session, parameters_id: UUID) -> Path:
    """Where the parameters of a background task are."""
    return session.settings.home / "storage" / "parameters" / str(parameters_id)


def schedule(
    task: Task[..., Any],
    parameters: dict[str, Any],
    wait_for: Iterable[Any] | None,
    dependencies: Mapping[str, Iterable[Any]] | None,
    scheduled_time: datetime | None,
) -> TaskRun:
    """Create a run of ``task`` that waits for a task worker, now or from ``scheduled_time`` on.

    Futures of this process among the arguments are waited for; those of other background tasks are not.

    Raises:
        UpstreamFailed: an upstream run did not complete.
        EparchError: the server could not be reached, or the parameters not be kept.
    """
    flow = context.flow_run.get()
    session = flow.session if flow is not None else current()
    links = flow.links if flow is not None else None
    awaited = list(wait_for or ())
    inputs, found = {}, Found()
    for name, value in {**parameters, **({"wait_for": awaited} if awaited else {})}.items():
        own = Found()
        collect(value, links, own)
        inputs[name] = [{"input_type": "task_run", "id": run_id} for run_id in own.runs]
        found.futures.extend(own.futures)
        found.marked = found.marked or own.marked
    for name, sources in (dependencies or {}).items():
        inputs.setdefault(name, []).extend(msgspec.to_builtins(one) for one in sources)
    if any(type(future) is Future for future in found.futures):
        parameters = resolve(parameters)
        resolve(awaited)
        awaited = []
    parameters_id = new_id()
    _keep(parameters_path(session, parameters_id), Stored(parameters, awaited), task.name)
    tags = task.tags | context.current_tags.get()
    id_ = new_id()
    details = StateDetails(deferred=True, task_parameters_id=parameters_id, scheduled_time=scheduled_time)
    body = TaskRunCreate(
        id=id_,
        name=f"{task.name}-{str(id_)[-3:]}",
        flow_run_id=flow.record.id if flow is not None else None,
        task_key=task.task_key,
        dynamic_key=str(id_),
        task_version=task.version,
        empirical_policy=task.policy,
        tags=sorted(tags),
        task_inputs=inputs,
        state=StateCreate(type=StateType.SCHEDULED, name="Scheduled", state_details=details),
    )
    run = session.client.send(calls.create_task_run(body=body))
    related = flow.related(tags) if flow is not None else related_of(None, "", tags)
    session.reporter.report(task_event(run, None, related, task.encoded_policy, None))
    return run


def _keep(path: Path, stored: Stored, name: str) -> None:
    try:
        caching.write(path, stored, None)
    except Exception as error:
        raise EparchError(
            f"The parameters of the task {name!r} cannot be kept for a task worker.",
            why=f"{type(error).__name__}: {error}",
            fix="Give it values that cloudpickle can pickle.",
        ) from error


def read_parameters(session: Session, run: TaskRun) -> Stored:
    """What ``schedule`` kept for the run.

    Raises:
        EparchError: it is not where this process looks.
    """
    state = run.state
    parameters_id = state.state_details.task_parameters_id if state is not None else None
    if parameters_id is None:
        return Stored({}, [])
    path = parameters_path(session, parameters_id)
    kept = caching.read(path)
    if kept is None or not isinstance(kept.get(), Stored):
        raise EparchError(
            f"The parameters of the task run {run.name!r} cannot be read.",
            why=f"They are not in {path}, or were written by other code.",
            fix="Let the process that schedules and its task workers have one home (EPARCH_HOME).",
        )
    stored: Stored = kept.get()
    return stored


# Waiting


class DelayedFuture(Future[R]):
    """A background task: its state is the server's, its result is where its task worker kept it."""

    __slots__ = ()

    def __init__(self, task_run_id: UUID) -> None:
        super().__init__(task_run_id, self._read, nullcontext)

    def __reduce__(self) -> tuple[type[DelayedFuture[R]], tuple[UUID]]:
        return DelayedFuture, (self.task_run_id,)

    def _read(self) -> State:
        session = current()
        state = session.client.send(calls.read_task_run(id=self.task_run_id)).state
        assert state is not None
        if state.is_final():
            self.finish(readable(session, state))
        return self._final or state

    @property
    def done(self) -> bool:
        """Whether the task run is over; asks the server while it is not."""
        return self._final is not None or self._read().is_final()

    def add_done_callback(self, fn: Any) -> None:
        """Call ``fn`` with this future when it is done, at once if it is."""
        super().add_done_callback(fn)
        if self._final is None:
            watching.TASK_RUNS.add(self.task_run_id, self._told)

    def _told(self, run: TaskRun | None) -> None:
        """The run is over, or was deleted."""
        state = run.state if run is not None and run.state is not None else DELETED
        self.finish(readable(current(), state))

    async def wait_async(self, timeout: float | None = None) -> None:
        """As ``wait``, without blocking the event loop."""
        import asyncio

        await asyncio.to_thread(self.wait, timeout)

    async def result_async(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """As ``result``, without blocking the event loop."""
        import asyncio

        return await asyncio.to_thread(self.result, timeout, raise_on_failure)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DelayedFuture) and other.task_run_id == self.task_run_id

    def __hash__(self) -> int:
        return hash(self.task_run_id)


class Remote:
    """A result that a task worker kept."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, raise_on_failure: bool = True) -> Any:
        """The value, read now.

        Raises:
            MissingResult: it is not there, or cannot be read here.
        """
        kept = caching.read(self.path)
        if kept is None:
            raise MissingResult(f"The result of the task run is not in {self.path}, or cannot be read here.")
        return kept.get()


def readable(session: Session, state: State) -> State:
    """``state`` of the server with its result; what it says to be elsewhere than in this home is not read."""
    named = state.data.get("storage_key", "") if isinstance(state.data, dict) else ""
    path = Path(str(named)).absolute()
    inside = ".." not in path.parts and path.is_relative_to((session.settings.home / "storage").absolute())
    kept = Remote(path) if inside and state.type is StateType.COMPLETED else None
    return msgspec.structs.replace(state, data=kept)
