"""One run of a flow: its arguments, its states, the tasks that it submits.

Owns making a flow run and following the server's answers about it (wire 4.1).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import msgspec

from eparch.core import calls
from eparch.core.blocks import document_reference
from eparch.core.model import encode
from eparch.core.runs import (
    FlowRun,
    FlowRunCreate,
    FlowRunUpdate,
    SetStateStatus,
    StateAnswer,
    TaskRunCreate,
    after,
)
from eparch.core.states import StateCreate
from eparch.sdk import context
from eparch.sdk.inputs import Found, Links, collect, resolve
from eparch.sdk.logs import FLOW_RUNS, RunLogger, should_log_prints
from eparch.sdk.run_context import RunContext
from eparch.sdk.runners import Pool
from eparch.sdk.session import Session, current
from eparch.sdk.task_events import related_of
from eparch.sdk.task_run import PENDING, TaskRunContext, source
from eparch.sdk.text import printable

if TYPE_CHECKING:
    from eparch.sdk.flow import Flow


class Terminated(BaseException):
    """The process was asked to end (SIGTERM)."""


class FlowRunContext(RunContext):
    """The flow run that the current code belongs to; also what the engine drives (``engine.Run``)."""

    noun = "Flow run"
    opening = "Flow run encountered an exception:"
    logger_name = FLOW_RUNS
    settles = True
    recalls = False

    def __init__(
        self,
        flow: Flow[..., Any],
        record: FlowRun,
        parameters: dict[str, Any],
        session: Session,
        found: Found | None = None,
    ) -> None:
        self.flow = flow
        self.record = record
        self.parameters = parameters
        self.session = session
        self.upstream = found.futures if found is not None else []
        self.log_prints = should_log_prints(flow.log_prints)
        self.links = Links()
        self.live: set[TaskRunContext] = set()
        """Task runs that are not over."""
        self.subflows: dict[str, int] = {}
        """How many subflow runs were made, by task key: their dynamic keys are numbers."""
        self._marked = found.marked if found is not None else False
        self.parent = context.flow_run.get()
        self._pool: Pool | None = None
        self._pool_lock = threading.Lock()
        self._related: dict[frozenset[str], msgspec.Raw] = {}
        self._logger: RunLogger | None = None

    # What the engine asks (engine.Run)

    @property
    def definition(self) -> Flow[..., Any]:
        """The flow."""
        return self.flow

    @property
    def keeps(self) -> bool:
        """Whether the flow's value is kept."""
        return bool(self.flow.persist_result)

    def prepare(self) -> str | None:
        """Resolve and validate the arguments; the name that the run is to have.

        Raises:
            UpstreamFailed: an upstream run did not complete.
            ParametersInvalid: they do not fit the flow.
        """
        if self._marked:
            self.parameters = {name: resolve(value) for name, value in self.parameters.items()}
        if self.flow.should_validate_parameters:
            self.parameters = self.flow.validate_parameters(self.parameters)
        return self.flow.run_name(self.parameters)

    def recall(self) -> StateCreate | None:
        """Nothing: results of flows do not stand in for runs."""

    # What the driver does

    @property
    def flow_context(self) -> FlowRunContext:
        """Itself, as a task run has the flow run that it is in."""
        return self

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Code in the block belongs to this run; the outermost one of a process minds SIGTERM."""
        tokens = context.flow_run.set(self), context.task_run.set(None)
        outer = self.parent is None and threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, _terminate) if outer else None
        try:
            yield
        finally:
            if outer:
                signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
            context.flow_run.reset(tokens[0])
            context.task_run.reset(tokens[1])
            if self._pool is not None:
                self._pool.close()

    @property
    def pool(self) -> Pool:
        """Where the tasks run that this run submits."""
        with self._pool_lock:
            if self._pool is None:
                self._pool = self.flow.task_runner.open()
            return self._pool

    def waits(self) -> AbstractContextManager[Any]:
        """A context for a wait: meanwhile a thread of the pool does not count."""
        manager: AbstractContextManager[Any] = self.pool.waits()
        return manager

    def related(self, tags: frozenset[str]) -> msgspec.Raw:
        """Who else the events of a task run with these tags are about."""
        found = self._related.get(tags)
        if found is None:
            found = self._related[tags] = related_of(self.record, self.flow.name, tags)
        return found

    @property
    def is_held(self) -> bool:
        """Started under a claim: who holds that tells the end, once all of the job is gone."""
        return bool(self.session.headers) and self.record.parent_task_run_id is None

    def rename(self, name: str) -> None:
        """Give the run another name."""
        name = printable(name, 255)
        self.session.client.send(calls.update_flow_run(id=self.record.id, body=FlowRunUpdate(name=name)))
        self.record = msgspec.structs.replace(self.record, name=name)
        self._related.clear()

    def settle(self, drop: bool, timeout: float | None) -> None:
        """Wait for the tasks; those that are not over in time are crashed."""
        if self._pool is not None and not self._pool.settle(drop, timeout):
            for run in list(self.live):
                run.abandon()

    def follow(self, answer: StateAnswer, data: Any) -> None:
        """The run is now as the server says."""
        state = answer.state
        known = self.record.state
        if state is None or answer.status not in (SetStateStatus.ACCEPT, SetStateStatus.REJECT):
            return
        if known is not None and known.id == state.id:
            return
        kept = msgspec.structs.replace(state, data=data) if answer.status is SetStateStatus.ACCEPT else state
        self.record = msgspec.structs.replace(self.record, state=kept, **after(self.record, state))


def _terminate(*_: object) -> None:
    raise Terminated


def begin_flow_run(flow: Flow[..., Any], parameters: dict[str, Any], wait_for: Any = None) -> FlowRunContext:
    """Make a run of ``flow`` on the server, as a subflow when it is called in a flow.

    Raises:
        EparchError: the server refuses it or cannot be reached.
    """
    parent = context.flow_run.get()
    session = parent.session if parent is not None else current()
    found, inputs = _inputs(parameters, wait_for, parent)
    tags = sorted(flow.tags | context.current_tags.get())
    parent_task_run = _begin_parent_task(flow, parent, inputs, tags) if parent is not None else None
    body = FlowRunCreate(
        flow_id=session.flow_id(flow.name),
        flow_version=flow.version,
        parameters=storable(parameters),
        parent_task_run_id=parent_task_run,
        empirical_policy=flow.policy,
        tags=tags,
        idempotency_key=str(uuid4()),
        state=PENDING,
    )
    record = session.client.send(calls.create_flow_run(body=body))
    return FlowRunContext(flow, record, parameters, session, found)


def _begin_parent_task(
    flow: Flow[..., Any], parent: FlowRunContext, inputs: dict[str, list[dict[str, Any]]], tags: list[str]
) -> Any:
    """The task run that stands for a subflow in its parent; the server moves it with the subflow's run."""
    number = parent.subflows.get(flow.task_key, 0)
    parent.subflows[flow.task_key] = number + 1
    body = TaskRunCreate(
        name=f"{flow.name}-{number}",
        flow_run_id=parent.record.id,
        task_key=flow.task_key,
        dynamic_key=str(number),
        task_version=flow.version,
        tags=tags,
        task_inputs=inputs,
        state=PENDING,
    )
    return parent.session.client.send(calls.create_task_run(body=body)).id


def _inputs(
    parameters: Mapping[str, Any], wait_for: Any, parent: FlowRunContext | None
) -> tuple[Found, dict[str, list[dict[str, Any]]]]:
    links = parent.links if parent is not None else None
    everything = Found()
    inputs = {}
    given = dict(parameters) if wait_for is None else {**parameters, "wait_for": wait_for}
    for name, value in given.items():
        found = Found()
        collect(value, links, found)
        everything.futures.extend(found.futures)
        everything.marked = everything.marked or found.marked
        inputs[name] = [source(run_id) for run_id in found.runs]
    return everything, inputs


def storable(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """``parameters`` as JSON can hold them; one that it cannot hold is stored as its ``repr``, shortened."""
    return {name: _storable(value) for name, value in parameters.items()}


def _storable(value: Any) -> Any:
    try:
        encoded = msgspec.to_builtins(value, enc_hook=_builtins_of, str_keys=True)
        encode(encoded)
    except Exception:
        return printable(repr(value), 1_000)
    return _without_nul(encoded)


def _builtins_of(value: Any) -> Any:
    if isinstance(id_ := getattr(value, "_block_document_id", None), UUID):
        # A saved block stands for itself: its secrets are not stored again, and a retry finds it.
        return document_reference(id_)
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    raise TypeError(type(value).__name__)


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\\x00")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return value
