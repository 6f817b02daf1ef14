"""The life of a run: a generator of effects. No I/O, no await, no clock, no randomness.

Flows and tasks live the same life. They differ in who decides their states: the server decides a flow's
(``ServerAuthority``, wire 4.1), a task's are decided here (``LocalAuthority``, wire 4.2). ``drive`` performs
the effects, for sync and for async functions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from eparch.core.errors import Aborted, PausedRun, TimedOut, UpstreamFailed
from eparch.core.runs import SetStateStatus, StateAnswer
from eparch.core.states import State, StateCreate, StateDetails, StateType
from eparch.sdk.effects import (
    Await,
    Call,
    Draw,
    Effect,
    Flush,
    Log,
    Now,
    Occupy,
    Propose,
    Record,
    Rename,
    Settle,
    Sleep,
    Stamp,
    Vacate,
)
from eparch.sdk.results import Raised
from eparch.sdk.retries import Delays, delay_before, jittered
from eparch.sdk.text import printable

Engine = Generator[Effect, Any, State]
Steps = Generator[Effect, Any, Any]

RUNNING = StateCreate(type=StateType.RUNNING, name="Running")
RETRYING = StateCreate(type=StateType.RUNNING, name="Retrying")


CRASH_SECONDS = 3.0
"""How long a process that is being ended waits for its tasks: it has seconds before it is killed."""


class Suspension(BaseException):
    """The run was suspended: its process leaves it, and no code of the flow may catch that by chance."""


class Run(Protocol):
    """What the engine must know of the run whose life it leads."""

    @property
    def noun(self) -> str:
        """``Flow run`` or ``Task run``."""

    @property
    def opening(self) -> str:
        """How the message of a failure begins."""

    @property
    def fn(self) -> Callable[..., Any]:
        """The user's function."""

    @property
    def timeout(self) -> float | None:
        """Seconds that one attempt may take."""

    @property
    def hooks(self) -> Mapping[StateType, Sequence[Callable[..., Any]]]:
        """What to call when a state is entered."""

    @property
    def upstream(self) -> Sequence[Any]:
        """Futures that must be done first."""

    @property
    def settles(self) -> bool:
        """Whether it can submit tasks, which must be over and recorded before it ends."""

    @property
    def is_held(self) -> bool:
        """Whether somebody outside this process says when a cancelled run is gone (row W20)."""

    @property
    def recalls(self) -> bool:
        """Whether an earlier result may stand in for an attempt."""

    def prepare(self) -> str | None:
        """Resolve and validate the arguments; the name that the run is to have, None to keep it.

        Raises:
            UpstreamFailed: an upstream run did not complete.
        """

    def recall(self) -> StateCreate | None:
        """The state with the earlier result, None when there is none."""

    def arguments(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """What to call the function with."""

    def conclude(self, value: Any) -> StateCreate:
        """The state that a returned value means; futures in it are done."""

    def pending(self, value: Any) -> Sequence[Any]:
        """Futures in a returned value."""

    def hook_arguments(self, state: State) -> Sequence[Any]:
        """What hooks are called with."""


class Authority(Protocol):
    """Who decides the states of a run."""

    def propose(self, proposed: StateCreate) -> Engine:
        """Effects that end in the state that the run has then, which may be another than the proposed one."""


def live(run: Run, authority: Authority) -> Engine:
    """The whole life of ``run``, which was created and is pending; ends in its last state.

    Raises:
        Aborted: the server told this process to leave the run alone.
        PausedRun: the run is paused.
    """
    try:
        state = yield from _begin(run, authority)
        while state.type is StateType.RUNNING:
            yield from _call_hooks(run, state)
            proposed = yield from _attempt(run)
            if run.settles:
                yield Settle(drop=proposed.type is not StateType.COMPLETED)
                yield Flush()
            state = yield from authority.propose(proposed)
            while state.type is StateType.SCHEDULED and proposed.type is not StateType.SCHEDULED:
                state = yield from _try_again(run, authority, proposed, state)
        yield from _end(run, authority, state)
    except Aborted as error:
        yield Log(logging.ERROR, f"{run.noun} was aborted: {error}")
        raise
    except Suspension as left:
        yield Settle(drop=False)
        yield Flush()
        raise PausedRun("The run is suspended; it goes on when somebody resumes it.") from left
    except (Exception, GeneratorExit):
        raise
    except BaseException as error:
        try:
            yield from _crash(run, authority, error)
        except Exception as nested:
            yield Log(logging.ERROR, "The crash could not be reported", nested)
        raise
    return state


def _begin(run: Run, authority: Authority) -> Engine:
    if run.upstream:
        yield Await(run.upstream)
    try:
        name: str | None = yield Call(run.prepare)
    except UpstreamFailed as error:
        refused = StateCreate(
            type=StateType.PENDING, name="NotReady", message=error.message, data=Raised(error)
        )
        return (yield from authority.propose(refused))
    except Exception as error:
        message = f"Validation of {run.noun.split()[0].lower()} parameters failed with error:"
        if run.settles:
            yield Log(logging.ERROR, message, error)
            yield Flush()
        return (yield from authority.propose(failed(error, message)))
    if name is not None:
        yield Rename(name)
    if run.recalls:
        kept: StateCreate | None = yield Call(run.recall)
        if kept is not None:
            return (yield from authority.propose(kept))
    return (yield from authority.propose(RUNNING))


def _attempt(run: Run) -> Generator[Effect, Any, StateCreate]:
    """Call the function once; ends in the state to propose."""
    call = Call(run.fn, timeout=run.timeout)
    try:
        call.args, call.kwargs = run.arguments()
        value = yield call
        waiting = run.pending(value)
        if waiting:
            yield Await(waiting)
        concluded: StateCreate = yield Call(run.conclude, (value,))
    except TimeoutError as error:
        if call.expired:
            message = f"{run.noun} exceeded timeout of {run.timeout} second(s)"
        else:
            message = printable(f"{run.noun} failed due to timeout: {error!r}")
        if run.settles:
            yield Log(logging.ERROR, message)
        return StateCreate(type=StateType.FAILED, name="TimedOut", message=message, data=Raised(error))
    except Exception as error:
        if run.settles:
            yield Log(logging.ERROR, "Encountered an exception during execution:", error)
        return failed(error, run.opening)
    return concluded


def _try_again(run: Run, authority: Authority, proposed: StateCreate, state: State) -> Engine:
    yield Log(
        logging.INFO,
        f"Received non-final state {state.name!r} when proposing final state {proposed.name!r}"
        " and will attempt to run again...",
    )
    due = state.state_details.scheduled_time
    # The server, whose clock wrote both, says so if it is too early still.
    most = None if due is None else (due - state.timestamp).total_seconds()
    yield Sleep(until=due, most=most)
    return (yield from authority.propose(RUNNING))


def _end(run: Run, authority: Authority, state: State) -> Steps:
    yield from _call_hooks(run, state)
    if state.type is StateType.CANCELLING and not run.is_held:
        ended = StateCreate(type=StateType.CANCELLED, name="Cancelled", message=state.message)
        state = yield from authority.propose(ended)
    level = logging.INFO if state.type is StateType.COMPLETED else logging.ERROR
    if level == logging.INFO and not run.settles:
        level = logging.DEBUG  # a line for each good task would bury what a person looks for
    yield Log(level, f"Finished in state {described(state)}")


def _crash(run: Run, authority: Authority, error: BaseException) -> Steps:
    """Say that the process is being ended, or that it was when the server had asked for that."""
    crashed = StateCreate(
        type=StateType.CRASHED, name="Crashed", message=crash_message(error), data=Raised(error)
    )
    yield Log(logging.ERROR, f"Crash detected! {crashed.message}")
    if run.settles:
        yield Settle(drop=True, timeout=CRASH_SECONDS)
        yield Flush(timeout=CRASH_SECONDS)
    state = yield from authority.propose(crashed)
    yield from _end(run, authority, state)


def _call_hooks(run: Run, state: State) -> Steps:
    for hook in run.hooks.get(state.type, ()):
        name = getattr(hook, "__name__", None) or type(hook).__name__
        yield Log(logging.INFO, f"Running hook {name!r} in response to entering state {state.name!r}")
        try:
            yield Call(hook, run.hook_arguments(state))
        except Exception as error:
            yield Log(logging.ERROR, f"An error was encountered while running hook {name!r}", error)
        else:
            yield Log(logging.INFO, f"Hook {name!r} finished running successfully")


@dataclass(slots=True)
class ServerAuthority:
    """The server decides: its answer to each proposal is obeyed (wire 4.1, client reaction)."""

    def propose(self, proposed: StateCreate) -> Engine:
        """Ask until there is an answer other than WAIT."""
        asked: datetime | None = None
        while True:
            answer: StateAnswer = yield Propose(proposed)
            if answer.status is not SetStateStatus.WAIT:
                return decided(proposed, answer)
            delay = answer.details.delay_seconds
            due = answer.state.state_details.scheduled_time if answer.state is not None else None
            if due is not None and due != asked:
                # The delay is in whole seconds, the time is exact; but by the server's clock, not by ours.
                asked = due
                yield Sleep(until=due, most=delay + 1.0 if isinstance(delay, int) else None)
            else:
                yield Sleep(seconds=float(delay) if isinstance(delay, int) else 1.0)


@dataclass(slots=True)
class LocalAuthority:
    """The policy of a task decides: a failed attempt is tried again while retries are left (row B2)."""

    retries: int
    delays: Delays
    jitter: float | None
    condition: Callable[..., Any] | None
    run: Run
    limited: bool = False
    """The run has tags, which may have limits: it holds slots of them from its first attempt to its end."""
    attempt: int = 0

    def propose(self, proposed: StateCreate) -> Engine:
        """Enter ``proposed`` or what the policy makes of it, with slots of the run's tags while it runs."""
        if not self.limited:
            return (yield from self._decided(proposed))
        if proposed.type is StateType.RUNNING:
            try:
                yield Occupy()
            except Exception as error:
                return (yield from _record(failed(error, "No slot of its tags could be taken.")))
        state = yield from self._decided(proposed)
        if state.is_final():
            yield Vacate()
        return state

    def _decided(self, proposed: StateCreate) -> Engine:
        """Enter ``proposed``, or, when it is a failure and another attempt is due, that attempt."""
        if proposed.type is not StateType.FAILED:
            return (yield from _record(proposed))
        cause = _cause(proposed)
        over = self.attempt >= self.retries or _is_passing(proposed)
        if over or not (yield from self._wanted(proposed)):
            exhausted = " - Retries are exhausted" if 0 < self.retries <= self.attempt else ""
            yield Log(logging.ERROR, f"Task run failed with {cause}{exhausted}", _error_in(proposed))
            return (yield from _record(proposed))
        delay = delay_before(self.attempt, self.delays)
        if self.jitter and delay > 0:
            delay = jittered(delay, self.jitter, (yield Draw()))
        self.attempt += 1
        when = f"{delay:g} second(s) from now" if delay else "immediately"
        yield Log(
            logging.INFO,
            f"Task run failed with {cause} - Retry {self.attempt}/{self.retries} will start {when}",
        )
        if delay:
            due = (yield Now()) + timedelta(seconds=delay)
            yield from _record(
                StateCreate(
                    type=StateType.SCHEDULED,
                    name="AwaitingRetry",
                    state_details=StateDetails(scheduled_time=due),
                )
            )
            yield Sleep(until=due)
        return (yield from _record(RETRYING))

    def _wanted(self, proposed: StateCreate) -> Steps:
        """Ask the task's ``retry_condition_fn``; without one every failure is tried again."""
        if self.condition is None:
            return True
        shown: State = yield Stamp(proposed)
        task, record, _ = self.run.hook_arguments(shown)
        try:
            return bool((yield Call(self.condition, (task, record, shown))))
        except Exception as error:
            yield Log(logging.ERROR, "An error was encountered while running the retry condition", error)
            return False


def _record(proposed: StateCreate) -> Engine:
    state: State = yield Record(proposed)
    return state


def decided(proposed: StateCreate, answer: StateAnswer) -> State:
    """The state of a run after ``answer``; an accepted one keeps the data that only this process has.

    Raises:
        Aborted: the server does not want this process to run it.
        PausedRun: the run is paused.
    """
    state = answer.state
    if answer.status is SetStateStatus.ABORT or state is None:
        reason = answer.details.reason
        raise Aborted(str(reason) if reason else None)
    if answer.status is SetStateStatus.ACCEPT:
        return msgspec.structs.replace(state, data=proposed.data)
    if state.type is StateType.PAUSED:
        raise PausedRun(str(answer.details.reason or state.message or "The run is paused."))
    return state


def failed(error: BaseException, opening: str) -> StateCreate:
    """The state of a run that ``error`` ended."""
    message = printable(f"{opening} {type(error).__name__}: {error}")
    details = StateDetails(retriable=False)
    return StateCreate(
        type=StateType.FAILED, name="Failed", message=message, data=Raised(error), state_details=details
    )


def crash_message(error: BaseException) -> str:
    """What a person reads of a run that ``error`` took down."""
    known = {
        "KeyboardInterrupt": "Execution was aborted by an interrupt signal.",
        "Terminated": "Execution was aborted by a termination signal.",
        "SystemExit": "Execution was aborted by Python system exit call.",
        "CancelledError": "Execution was cancelled by the runtime environment.",
    }
    name = type(error).__name__
    return known.get(name) or printable(
        f"Execution was interrupted by an unexpected exception: {name}: {error}"
    )


def described(state: State) -> str:
    """``Failed('why')``: a state for the log."""
    return f"{state.name}({state.message!r})" if state.message else f"{state.name}()"


def _error_in(proposed: StateCreate) -> BaseException | None:
    data = proposed.data
    if isinstance(data, Raised) and not isinstance(data.error, TimedOut):
        return data.error
    return None


def _is_passing(proposed: StateCreate) -> bool:
    """Whether the timeout of a run around it ended the attempt, which a retry must not catch."""
    error = proposed.data.error if isinstance(proposed.data, Raised) else None
    return bool(getattr(getattr(error, "scope", None), "running", False))


def _cause(proposed: StateCreate) -> str:
    if isinstance(proposed.data, Raised):
        return f"exception: {proposed.data.error!r}"
    return f"state: {proposed.name}({proposed.message!r})"
