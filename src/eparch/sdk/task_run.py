"""One run of a task: its arguments, its states, its place in the flow run.

Owns making a task run and entering its states, which are reported and never asked for (wire 4.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from eparch.core.model import new_id
from eparch.core.runs import TaskRun, after
from eparch.core.states import FINAL, State, StateCreate, StateDetails, StateType
from eparch.sdk import caching, context
from eparch.sdk.futures import Future
from eparch.sdk.inputs import Found, collect, resolve
from eparch.sdk.logs import TASK_RUNS, RunLogger, should_log_prints
from eparch.sdk.results import Raised, Returned
from eparch.sdk.run_context import RunContext
from eparch.sdk.session import Session, current
from eparch.sdk.task_events import related_of, task_event
from eparch.sdk.text import printable

if TYPE_CHECKING:
    from eparch.sdk.concurrency import Slots
    from eparch.sdk.flow_run import FlowRunContext
    from eparch.sdk.task import Task

PENDING = StateCreate(type=StateType.PENDING, name="Pending")
DROPPED = StateCreate(
    type=StateType.CANCELLED, name="Cancelled", message="The flow run ended before this task began."
)
ABANDONED = StateCreate(
    type=StateType.CRASHED, name="Crashed", message="The process ended while the task was running."
)
_NO_DETAILS = StateDetails()
_TICK = timedelta(microseconds=1)


class TaskRunContext(RunContext):
    """The task run that the current code belongs to; also what the engine drives (``engine.Run``)."""

    __slots__ = (
        "__weakref__",
        "_details",
        "_last_event",
        "_logger",
        "_related",
        "_slots",
        "flow_context",
        "log_prints",
        "marked",
        "parameters",
        "record",
        "session",
        "task",
        "upstream",
    )

    noun = "Task run"
    opening = "Task run encountered an exception"
    logger_name = TASK_RUNS
    settles = False
    is_held = False

    def __init__(
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Any = None,
        extra: Mapping[str, list[dict[str, Any]]] | None = None,
        given: TaskRun | None = None,
    ) -> None:
        """Make the run: from here on the server knows of it, as Pending.

        ``extra`` are further sources of parameters, for the graph; ``given`` is a run that was scheduled
        elsewhere and is executed here.
        """
        flow = context.flow_run.get()
        self.task = task
        self.parameters = parameters
        self.flow_context: FlowRunContext | None = flow
        self.session: Session = flow.session if flow is not None else current()
        self.log_prints = should_log_prints(task.log_prints)
        self._logger: RunLogger | None = None
        self._last_event: UUID | None = None
        self._slots: Slots | None = None
        self.marked = False
        self.upstream: list[Future[Any]] = []
        inputs = self._inputs(parameters, wait_for, extra)
        tags = task.tags | context.current_tags.get() if given is None else frozenset(given.tags)
        id_ = new_id() if given is None else given.id
        key = str(id_)
        self.record = given or TaskRun(
            id=id_,
            name=f"{task.name}-{key[-3:]}",
            flow_run_id=flow.record.id if flow is not None else None,
            task_key=task.task_key,
            dynamic_key=key,
            task_version=task.version,
            empirical_policy=task.policy,
            tags=sorted(tags),
            task_inputs=inputs,
            flow_run_run_count=flow.record.run_count if flow is not None else 0,
        )
        self._details = StateDetails(flow_run_id=self.record.flow_run_id, task_run_id=id_)
        self._related = (
            flow.related(tags) if flow is not None else related_of(None, "", tags, self.record.flow_run_id)
        )
        self.enter(PENDING)

    def _inputs(
        self, parameters: Mapping[str, Any], wait_for: Any, extra: Mapping[str, list[dict[str, Any]]] | None
    ) -> dict[str, list[dict[str, Any]]]:
        links = self.flow_context.links if self.flow_context is not None else None
        inputs = {name: self._sources(value, links) for name, value in parameters.items()}
        parent = context.task_run.get()
        if parent is not None and parent.flow_context is self.flow_context:
            inputs["__parents__"] = [source(parent.record.id)]
        if wait_for is not None:
            inputs["wait_for"] = self._sources(wait_for, links)
        for name, sources in (extra or {}).items():
            known = inputs.setdefault(name, [])
            known.extend(one for one in sources if one not in known)
        return inputs

    def _sources(self, value: Any, links: Any) -> list[dict[str, Any]]:
        found = Found()
        collect(value, links, found)
        self.marked = self.marked or found.marked
        self.upstream.extend(found.futures)
        return [source(run_id) for run_id in found.runs]

    # What the engine asks (engine.Run)

    @property
    def definition(self) -> Task[..., Any]:
        """The task."""
        return self.task

    @property
    def keeps(self) -> bool:
        """Whether results of this task are kept."""
        return self.task.caches

    recalls = keeps

    def prepare(self) -> str | None:
        """Resolve the arguments and name the run.

        Raises:
            UpstreamFailed: an upstream run did not complete.
        """
        if self.marked:
            self.parameters = {name: resolve(value) for name, value in self.parameters.items()}
        name = self.task.run_name(self.parameters)
        if name is not None:
            self.rename(name)
        return None

    def recall(self) -> StateCreate | None:
        """The state with a kept result of the same cache key, None when there is none."""
        key = caching.key_of(self)
        if key is not None:
            self.record = msgspec.structs.replace(self.record, cache_key=key)
        return caching.recall(self, key)

    # What the driver does

    @property
    def state(self) -> State:
        """The state that the run has."""
        state = self.record.state
        assert state is not None
        return state

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Code in the block belongs to this run."""
        token = context.task_run.set(self)
        try:
            yield
        finally:
            context.task_run.reset(token)

    def waits(self) -> AbstractContextManager[Any]:
        """A context for a wait: meanwhile the thread does not count."""
        return self.flow_context.waits() if self.flow_context is not None else nullcontext()

    def stamp(self, proposed: StateCreate) -> State:
        """The state that ``proposed`` would be now."""
        before = self.record.state
        now = datetime.now(UTC)
        if before is not None and before.timestamp >= now:
            now = before.timestamp + _TICK
        details = self._details
        if proposed.state_details is not _NO_DETAILS and proposed.state_details != _NO_DETAILS:
            details = msgspec.structs.replace(
                proposed.state_details, flow_run_id=details.flow_run_id, task_run_id=details.task_run_id
            )
        return State(
            type=proposed.type,
            name=proposed.name or proposed.type.value.capitalize(),
            timestamp=now,
            message=proposed.message,
            data=proposed.data,
            state_details=details,
        )

    def enter(self, proposed: StateCreate) -> State:
        """Enter the state and report it; a run that is over stays as it is."""
        before = self.record.state
        if before is not None and before.type in FINAL:
            return before
        state = self.stamp(proposed)
        self.record = record = msgspec.structs.replace(self.record, state=state, **after(self.record, state))
        self.session.reporter.report(
            task_event(record, before, self._related, self.task.encoded_policy, self._last_event)
        )
        self._last_event = state.id
        flow = self.flow_context
        if flow is not None:
            if state.type in FINAL:
                flow.live.discard(self)
                if isinstance(state.data, Returned):
                    flow.links.add(state.data.value, record.id)
            elif before is None:
                flow.live.add(self)
        return state

    def occupy(self) -> None:
        """Take a slot of each limit on the tags of this run, waiting for it (wire 4.5)."""
        from eparch.sdk.concurrency import slots_of_tags

        self._slots = slots_of_tags(self)

    def vacate(self) -> None:
        """Give back what ``occupy`` took."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.release()

    def rename(self, name: str) -> None:
        """Give the run another name; its next state tells the server."""
        self.record = msgspec.structs.replace(self.record, name=printable(name, 255))

    def abandon(self, error: BaseException | None = None) -> None:
        """The process ends while the run goes on in a thread, or ``error`` went past the engine."""
        state = ABANDONED if error is None else msgspec.structs.replace(ABANDONED, data=Raised(error))
        self.enter(state)

    def drop(self) -> State:
        """The run will never begin."""
        return self.enter(DROPPED)

    def disown(self) -> None:
        """Another process takes the run over: whatever this one still does with it is not told."""
        self.record = msgspec.structs.replace(self.record, state=self.stamp(DROPPED))

    def follow(self, answer: Any, data: Any) -> None:
        """Nothing: the server does not decide the states of a task run."""

    def settle(self, drop: bool, timeout: float | None) -> None:
        """Nothing: what a task submits belongs to its flow run."""

    def future(self) -> Future[Any]:
        """The future of this run; whoever runs it has to finish it."""
        waits = self.flow_context.waits if self.flow_context is not None else nullcontext
        return Future(self.record.id, partial(getattr, self, "state"), waits)


def source(run_id: UUID) -> dict[str, Any]:
    """An entry of ``task_inputs`` (wire)."""
    return {"input_type": "task_run", "id": run_id}
