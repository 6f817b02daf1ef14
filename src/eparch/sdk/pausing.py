"""Pausing, suspending and resuming flow runs from code (row B6, wire 4.1).

A pause keeps its process, which asks until the run goes on; a suspended run leaves it and is scheduled again.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary

import msgspec

from eparch.core import calls
from eparch.core.errors import Conflict, TimedOut, Usage
from eparch.core.inputs import ResumeFlowRun, keyset_of
from eparch.core.runs import SetState, SetStateStatus, StateAnswer
from eparch.core.states import State, StateCreate, StateDetails, StateType, error_of
from eparch.sdk import context, run_forms
from eparch.sdk.drive import PERFORM
from eparch.sdk.effects import Propose
from eparch.sdk.either import Waiting, either
from eparch.sdk.engine import Suspension
from eparch.sdk.flow_run import FlowRunContext
from eparch.sdk.session import current

FIRST_WAIT = 0.1
"""Seconds before it is first asked whether a paused run goes on; then twice as long each time."""

_pauses: WeakKeyDictionary[FlowRunContext, int] = WeakKeyDictionary()
"""How often each run has paused: in a run that starts again the same pause has the same number."""


@either
def pause_flow_run(
    wait_for_input: Any = None, timeout: float = 3600, poll_interval: float = 10, key: str | None = None
) -> Waiting[Any]:
    """Wait until somebody resumes this flow run; gives what they answered when ``wait_for_input`` is a type.

    Raises:
        Usage: there is no flow run here.
        Conflict: the run cannot be paused now.
        TimedOut: nobody resumed it within ``timeout`` seconds.
        RunError: the run was ended meanwhile.
    """
    run = _current_run("paused")
    pause = _Pause(run, "Paused", wait_for_input, timeout, key or _number(run))
    run.logger.info("Pausing flow, execution will continue when this flow run is resumed.")
    paused = pause.propose()
    if paused.type is StateType.PAUSED:
        pause.ask()
        yield from _until_resumed(run, timeout, poll_interval)
        run.logger.info("Resuming flow run execution!")
    return pause.told()


@either
def suspend_flow_run(
    wait_for_input: Any = None,
    flow_run_id: UUID | str | None = None,
    timeout: float | None = None,
    key: str | None = None,
) -> Any:
    """Leave this process; once somebody resumes the run, a worker starts it again from the top.

    With ``flow_run_id`` another run is told to. In the run that comes back, this gives what was answered when
    ``wait_for_input`` is a type.

    Raises:
        Usage: there is no flow run here, or a task runs.
        Conflict: the run cannot be suspended: it has no deployment, or is a subflow.
    """
    if flow_run_id is not None:
        run_id = flow_run_id if isinstance(flow_run_id, UUID) else UUID(str(flow_run_id))
        other = _Pause(None, "Suspended", wait_for_input, timeout, key or str(uuid4()), run_id)
        if other.propose().type is StateType.PAUSED:
            other.ask()
        return None
    if context.task_run.get() is not None:
        raise Usage("A task cannot be suspended.", fix="Call suspend_flow_run in the flow itself.")
    run = _current_run("suspended")
    pause = _Pause(run, "Suspended", wait_for_input, timeout, key or _number(run))
    run.logger.info("Suspending flow run, execution will be rescheduled when this flow run is resumed.")
    if pause.propose().type is StateType.PAUSED:
        pause.ask()
        raise Suspension
    return pause.told()


@either
def resume_flow_run(flow_run_id: UUID | str, run_input: Mapping[str, Any] | None = None) -> None:
    """Let a paused flow run go on, with what it asked for.

    Raises:
        NotFound: there is no such run.
        TimedOut: it waited too long and has failed.
        Conflict: it is not paused, or ``run_input`` is not what it asked for.
    """
    body = ResumeFlowRun(run_input=None if run_input is None else dict(run_input))
    answer = current().client.send(calls.resume_flow_run(id=flow_run_id, body=body))
    if answer.status is SetStateStatus.ACCEPT:
        return
    if answer.state is not None and answer.state.type is StateType.FAILED:
        raise TimedOut("The flow run can no longer be resumed.")
    raise Conflict("The flow run cannot be resumed.", why=_reason(answer))


def _current_run(what: str) -> FlowRunContext:
    run = context.flow_run.get()
    if run is None:
        raise Usage(f"There is no flow run here that could be {what}.", fix="Call this from inside a flow.")
    return run


def _number(run: FlowRunContext) -> str:
    _pauses[run] = _pauses.get(run, 0) + 1
    return str(_pauses[run])


class _Pause:
    """One pause: what it proposes, what it asks for, what it was told."""

    def __init__(
        self,
        run: FlowRunContext | None,
        name: str,
        wanted: Any,
        timeout: float | None,
        key: str,
        run_id: UUID | None = None,
    ) -> None:
        self.run, self.name = run, name
        self.run_id = run_id or (run.record.id if run is not None else uuid4())
        self.client = run.session.client if run is not None else current().client
        self.form = run_forms.form_of(wanted) if wanted is not None else None
        self.keyset = keyset_of(name.lower(), key)
        self.details = StateDetails(
            pause_key=key,
            pause_reschedule=name == "Suspended",
            pause_timeout=None if timeout is None else datetime.now(UTC) + timedelta(seconds=timeout),
            run_input_keyset=self.keyset if self.form is not None else None,
        )

    def propose(self) -> State:
        """The state that the run has then: paused, or running where this pause is over already.

        Raises:
            Conflict: the server does not let it.
        """
        proposed = StateCreate(type=StateType.PAUSED, name=self.name, state_details=self.details)
        answer = self._send(proposed)
        state = answer.state
        if answer.status is SetStateStatus.ABORT or state is None:
            raise self._refused(answer)
        if state.type not in (StateType.PAUSED, StateType.RUNNING):
            raise self._refused(answer)
        return state

    def _send(self, proposed: StateCreate) -> StateAnswer:
        if self.run is not None:
            answer: StateAnswer = PERFORM[Propose](self.run, Propose(proposed))
            return answer
        details = msgspec.structs.replace(self.details, transition_id=uuid4())
        state = msgspec.structs.replace(proposed, state_details=details)
        return self.client.send(calls.set_flow_run_state(id=self.run_id, body=SetState(state=state)))

    def _refused(self, answer: StateAnswer) -> Conflict:
        return Conflict(f"The flow run cannot be {self.name.lower()}.", why=_reason(answer))

    def ask(self) -> None:
        """Say what is wanted, if anything is."""
        if self.form is not None:
            run_forms.ask(self.client, self.run_id, self.keyset, self.form)

    def told(self) -> Any:
        """What was answered, None when nothing was wanted."""
        if self.form is None:
            return None
        return run_forms.told(self.client, self.run_id, self.keyset, self.form)


def _until_resumed(run: FlowRunContext, timeout: float, poll_interval: float) -> Generator[float, None, None]:
    deadline = time.monotonic() + timeout
    wait = min(FIRST_WAIT, poll_interval)
    while True:
        left = deadline - time.monotonic()
        yield max(min(wait, left), 0.0)
        found = run.session.client.send(calls.read_flow_run(id=run.record.id))
        if found.state is not None and found.state.type is not StateType.PAUSED:
            break
        if left <= 0:
            raise TimedOut("Flow run was paused and never resumed.")
        wait = min(wait * 2, poll_interval)
    if found.state.type is not StateType.RUNNING:
        raise error_of(found.state)
    run.record = msgspec.structs.replace(
        run.record,
        state=found.state,
        state_id=found.state.id,
        state_type=found.state.type,
        state_name=found.state.name,
    )


def _reason(answer: StateAnswer) -> str:
    reason = answer.details.reason
    return reason if isinstance(reason, str) else ""


apause_flow_run, asuspend_flow_run, aresume_flow_run = (
    pause_flow_run.aio,
    suspend_flow_run.aio,
    resume_flow_run.aio,
)
