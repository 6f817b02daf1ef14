"""A ledger in the server's place: it answers calls in memory and remembers them, in their order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from eparch.core import calls
from eparch.core.calls import Call
from eparch.core.concurrency import Lease
from eparch.core.deployments import Flow
from eparch.core.errors import NotFound
from eparch.core.events import Event
from eparch.core.model import decode, encode, new_id
from eparch.core.records import Artifact, ArtifactCreate, LogCreate
from eparch.core.runs import (
    FlowRun,
    SetState,
    SetStateStatus,
    StateAnswer,
    StateAnswerDetails,
    TaskRun,
    after,
    retries_of,
)
from eparch.core.states import AwaitingRetry, State, StateType, from_create
from eparch.sdk import session as sessions
from eparch.sdk.logs import configure
from eparch.sdk.session import Session
from eparch.settings import load

Answer = Callable[[FlowRun, SetState], StateAnswer | None]


class Ledger:
    """Runs, events, lines and artifacts. ``answers`` are tried in turn before a proposal is accepted."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.calls: list[Call[Any]] = []
        self.flow_runs: dict[UUID, FlowRun] = {}
        self.states: dict[UUID, list[State]] = {}
        self.parents: list[TaskRun] = []
        self.events: list[Event] = []
        self.lines: list[LogCreate] = []
        self.artifacts: list[ArtifactCreate] = []
        self.answers: list[Answer] = []
        self.before: Callable[[Call[Any]], None] = lambda call: None

    def send(self, call: Call[Any]) -> Any:
        """Answer ``call`` as a server would; its body crosses as JSON, as it would on the wire."""
        self.before(call)
        body = decode(encode(call.body), call.endpoint.body) if call.body is not None else None
        with self.lock:
            self.calls.append(call)
            return HANDLERS[call.endpoint](self, call, body)

    def events_of(self, name: str) -> list[str]:
        """The states of the task run whose name begins with ``name``, as they came."""
        found = [e for e in self.events if e.resource["prefect.resource.name"].startswith(name)]
        return [event.event.removeprefix("prefect.task-run.") for event in found]

    def names(self, run_id: UUID | None = None) -> list[str]:
        """The states of the only flow run, or of ``run_id``."""
        return [state.name for state in self.states[run_id or next(iter(self.flow_runs))]]

    def only_run(self) -> FlowRun:
        """The only flow run."""
        (run,) = self.flow_runs.values()
        return run

    def sent(self, endpoint: Any) -> int:
        """How often ``endpoint`` was called."""
        return sum(call.endpoint is endpoint for call in self.calls)


def _id_of(call: Call[Any]) -> UUID:
    return UUID(call.path.split("/")[2])


def _create_flow(ledger: Ledger, call: Call[Any], body: Any) -> Flow:
    return Flow(id=new_id(), name=body.name)


def _create_flow_run(ledger: Ledger, call: Call[Any], body: Any) -> FlowRun:
    state = from_create(body.state, datetime.now(UTC))
    run = FlowRun(
        id=new_id(),
        name=f"run-{len(ledger.flow_runs)}",
        flow_id=body.flow_id,
        parameters=body.parameters,
        parent_task_run_id=body.parent_task_run_id,
        empirical_policy=body.empirical_policy,
        tags=body.tags,
        state=state,
    )
    ledger.flow_runs[run.id] = run
    ledger.states[run.id] = [state]
    return run


def _create_task_run(ledger: Ledger, call: Call[Any], body: Any) -> TaskRun:
    run = TaskRun(
        id=new_id(),
        name=body.name,
        flow_run_id=body.flow_run_id,
        task_key=body.task_key,
        dynamic_key=body.dynamic_key,
        task_inputs=body.task_inputs,
    )
    ledger.parents.append(run)
    return run


def _update_flow_run(ledger: Ledger, call: Call[Any], body: Any) -> None:
    run = ledger.flow_runs[_id_of(call)]
    given = {k: getattr(body, k) for k in body.__struct_fields__ if getattr(body, k) is not msgspec.UNSET}
    ledger.flow_runs[run.id] = msgspec.structs.replace(run, **given)


def _set_state(ledger: Ledger, call: Call[Any], body: SetState) -> StateAnswer:
    run = ledger.flow_runs[_id_of(call)]
    while ledger.answers:
        answer = ledger.answers.pop(0)(run, body)
        if answer is not None:
            return answer
    state = from_create(body.state, datetime.now(UTC))
    status, kind = SetStateStatus.ACCEPT, "accept_details"
    was_running = run.state_type is StateType.RUNNING
    left = run.run_count <= retries_of(run.empirical_policy)
    if state.type is StateType.FAILED and was_running and left:
        state, status, kind = AwaitingRetry(), SetStateStatus.REJECT, "reject_details"
    ledger.flow_runs[run.id] = msgspec.structs.replace(run, state=state, **after(run, state))
    ledger.states[run.id].append(state)
    return StateAnswer(state=state, status=status, details=StateAnswerDetails(type=kind))


def _create_artifact(ledger: Ledger, call: Call[Any], body: ArtifactCreate) -> Artifact:
    ledger.artifacts.append(body)
    return Artifact(id=new_id())


def _read_flow_run(ledger: Ledger, call: Call[Any], body: Any) -> FlowRun:
    try:
        return ledger.flow_runs[_id_of(call)]
    except KeyError:
        raise NotFound("Flow run not found") from None


HANDLERS: dict[Any, Callable[[Ledger, Call[Any], Any], Any]] = {
    calls.create_flow: _create_flow,
    calls.create_flow_run: _create_flow_run,
    calls.create_task_run: _create_task_run,
    calls.update_flow_run: _update_flow_run,
    calls.read_flow_run: _read_flow_run,
    calls.set_flow_run_state: _set_state,
    calls.create_events: lambda ledger, call, body: ledger.events.extend(body),
    calls.create_logs: lambda ledger, call, body: ledger.lines.extend(body),
    calls.create_artifact: _create_artifact,
    calls.lease_slots: lambda ledger, call, body: Lease(lease_id=new_id(), limits=[]),
}


def answered(
    status: SetStateStatus, state: State | None = None, reason: str | None = None, delay: int | None = None
) -> StateAnswer:
    """An answer to a proposed state."""
    more = {} if delay is None else {"delay_seconds": delay}
    details = StateAnswerDetails(type=f"{status.value.lower()}_details", reason=reason, **more)
    return StateAnswer(state=state, status=status, details=details)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A session with a ledger for a server and a home of its own."""
    settings = load({"EPARCH_HOME": str(tmp_path / "home"), "EPARCH_LOG_LEVEL": "DEBUG"}, tmp_path)
    made = sessions.use(Session(settings, Ledger(), claim="token"))
    configure(made)
    yield made
    sessions.leave()


@pytest.fixture
def ledger(session: Session) -> Ledger:
    """What the server knows."""
    assert isinstance(session.client, Ledger)
    return session.client
