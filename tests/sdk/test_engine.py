"""The engine alone: effects out, scripted replies in. Nothing is performed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.sdk.conftest import answered

from eparch.core.errors import Aborted, PausedRun, TimedOut, UpstreamFailed
from eparch.core.runs import SetStateStatus
from eparch.core.states import (
    AwaitingRetry,
    Cancelling,
    Failed,
    Running,
    State,
    StateCreate,
    StateType,
    from_create,
)
from eparch.sdk.effects import Await, Call, Draw, Flush, Log, Now, Propose, Record, Settle, Sleep, Stamp
from eparch.sdk.engine import LocalAuthority, ServerAuthority, live
from eparch.sdk.results import concluded

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Subject:
    """A run without a world."""

    noun = "Task run"
    opening = "Task run encountered an exception"
    settles = False
    is_held = False
    recalls = False
    timeout: float | None = None
    trouble: Exception | None = None

    def __init__(self, **given: Any) -> None:
        self.hooks: Mapping[StateType, Sequence[Callable[..., Any]]] = {}
        self.upstream: Sequence[Any] = ()
        self.__dict__.update(given)

    def fn(self) -> None:
        raise AssertionError("the engine calls nothing itself")

    def prepare(self) -> None:
        raise AssertionError("the engine calls nothing itself")

    recall = prepare

    def arguments(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        return (), {}

    def pending(self, value: Any) -> Sequence[Any]:
        return ()

    def conclude(self, value: Any) -> StateCreate:
        return concluded(value)

    def hook_arguments(self, state: State) -> Sequence[Any]:
        return "task", "run", state


def task_life(subject: Subject | None = None, **policy: Any) -> Any:
    subject = subject or Subject()
    defaults: dict[str, Any] = {"retries": 0, "delays": 0, "jitter": None, "condition": None}
    return subject, live(subject, LocalAuthority(**{**defaults, **policy}, run=subject))


def flow_life(**given: Any) -> Any:
    subject = Subject(noun="Flow run", opening="Flow run encountered an exception:", settles=True, **given)
    return subject, live(subject, ServerAuthority())


def play(
    subject: Subject,
    engine: Any,
    attempts: list[Any],
    answers: dict[str, list[Any]] | None = None,
    seen: list[Any] | None = None,
) -> list[Any]:
    """Drive the engine: each attempt returns a value or raises; the effects but for logs, and the end.

    ``answers`` of the server are by the name of the proposed state; without one it accepts.
    """
    seen = [] if seen is None else seen
    reply: Any = None
    failure: BaseException | None = None
    replies = {Now: NOON, Draw: 0.5}
    try:
        while True:
            effect = engine.throw(failure) if failure is not None else engine.send(reply)
            reply, failure = replies.get(type(effect)), None
            if type(effect) is not Log:
                seen.append(effect)
            if type(effect) in (Record, Stamp):
                reply = from_create(effect.state, NOON)
            elif type(effect) is Propose:
                given = (answers or {}).get(effect.state.name)
                accepted = answered(SetStateStatus.ACCEPT, from_create(effect.state, NOON))
                reply = given.pop(0) if given else accepted
            elif type(effect) is Call:
                reply, failure = called(subject, effect, attempts)
    except StopIteration as end:
        return [*seen, end.value]


def called(subject: Subject, effect: Call, attempts: list[Any]) -> tuple[Any, BaseException | None]:
    if effect.fn == subject.fn:
        outcome = attempts.pop(0)
        effect.expired = effect.timeout is not None and isinstance(outcome, TimedOut)
        return outcome, outcome if isinstance(outcome, BaseException) else None
    if effect.fn == subject.prepare:
        return None, subject.trouble
    try:
        return effect.fn(*effect.args), None
    except Exception as error:
        return None, error


def states(seen: list[Any]) -> list[str]:
    return [effect.state.name for effect in seen if type(effect) in (Record, Propose)]


def test_a_task_runs_once() -> None:
    seen = play(*task_life(), [5])
    assert states(seen) == ["Running", "Completed"]
    assert seen[-1].result() == 5


def test_b2_a_task_is_tried_again_at_once() -> None:
    seen = play(*task_life(retries=2), [ValueError("a"), ValueError("b"), 7])
    assert states(seen) == ["Running", "Retrying", "Retrying", "Completed"]
    assert seen[-1].result() == 7


def test_b2_delays_are_waited_for_and_the_last_one_repeats() -> None:
    seen = play(*task_life(retries=3, delays=[1.0, 10.0]), [ValueError()] * 4)
    assert [effect.until for effect in seen if type(effect) is Sleep] == [
        NOON + timedelta(seconds=seconds) for seconds in (1, 10, 10)
    ]
    assert states(seen) == ["Running", *["AwaitingRetry", "Retrying"] * 3, "Failed"]
    waits = [
        e.state.state_details.scheduled_time for e in seen if type(e) is Record and e.state.name[0] == "A"
    ]
    assert waits[0] == NOON + timedelta(seconds=1)


def test_b2_jitter_spreads_a_delay() -> None:
    seen = play(*task_life(retries=1, delays=10.0, jitter=0.5), [ValueError(), 1])
    (sleep,) = [effect for effect in seen if type(effect) is Sleep]
    assert timedelta(seconds=5) <= sleep.until - NOON <= timedelta(seconds=15)
    assert sleep.until - NOON != timedelta(seconds=10)


def test_b2_the_condition_decides() -> None:
    asked = []

    def condition(task: Any, run: Any, state: State) -> bool:
        asked.append(state.result(raise_on_failure=False))
        return len(asked) < 2

    error = ValueError("x")
    seen = play(*task_life(retries=5, condition=condition), [error, error])
    assert states(seen) == ["Running", "Retrying", "Failed"]
    assert asked == [error, error]


def test_b2_a_condition_that_fails_ends_the_retries() -> None:
    seen = play(*task_life(retries=5, condition=lambda *_: 1 / 0), [ValueError("x")])
    assert states(seen) == ["Running", "Failed"]


def test_a_failure_says_what_was_raised() -> None:
    seen = play(*task_life(), [ValueError("no\x00\ud800")])
    assert seen[-1].message == "Task run encountered an exception ValueError: no\\x00\\ud800"
    with pytest.raises(ValueError, match="no"):
        seen[-1].result()


def test_a_returned_failure_is_tried_again() -> None:
    seen = play(*task_life(retries=1), [Failed(message="not yet"), Failed(message="never")])
    assert states(seen) == ["Running", "Retrying", "Failed"]
    assert seen[-1].message == "never"


def test_a_timeout_of_its_own_is_told_from_another() -> None:
    seen = play(*task_life(Subject(timeout=2.0)), [TimeoutError("socket")])
    assert seen[-1].message == "Task run failed due to timeout: TimeoutError('socket')"
    seen = play(*task_life(Subject(timeout=2.0)), [TimedOut()])
    assert (seen[-1].name, seen[-1].message) == ("TimedOut", "Task run exceeded timeout of 2.0 second(s)")


def test_the_timeout_of_the_run_around_is_not_retried() -> None:
    error = TimedOut()
    error.scope = type("Scope", (), {"running": True})()  # type: ignore[attr-defined]
    assert states(play(*task_life(retries=3), [error])) == ["Running", "TimedOut"]
    error.scope.running = False  # type: ignore[attr-defined]
    assert states(play(*task_life(retries=1), [error, 1])) == ["Running", "Retrying", "Completed"]


def test_an_upstream_failure_leaves_a_task_not_ready() -> None:
    state = play(*task_life(Subject(trouble=UpstreamFailed("gone"))), [])[-1]
    assert (state.type, state.name) == (StateType.PENDING, "NotReady")
    with pytest.raises(UpstreamFailed, match="gone"):
        state.result()


def test_bad_parameters_fail_a_flow_before_it_runs() -> None:
    seen = play(*flow_life(trouble=ValueError("x is no number")), [])
    assert states(seen) == ["Failed"]
    assert seen[-1].message == ("Validation of flow parameters failed with error: ValueError: x is no number")


def test_it_waits_for_upstream_first() -> None:
    subject, engine = task_life(Subject(upstream=["future"]))
    assert next(engine) == Await(["future"])
    assert next(engine).fn == subject.prepare


def test_hooks_are_called_and_one_that_fails_changes_nothing() -> None:
    called: list[str] = []

    def fine(task: str, run: str, state: State) -> None:
        called.append(state.name)

    def broken(*_: Any) -> None:
        raise RuntimeError

    hooks = {StateType.RUNNING: [fine, broken], StateType.COMPLETED: [broken, fine]}
    seen = play(*task_life(Subject(hooks=hooks)), [1])
    assert called == ["Running", "Completed"]
    assert states(seen) == ["Running", "Completed"]


def test_a_flow_settles_and_flushes_before_its_final_state() -> None:
    seen = play(*flow_life(), [1])
    kinds = [type(effect) for effect in seen]
    assert kinds.index(Settle) < kinds.index(Flush) < len(kinds) - 1 - kinds[::-1].index(Propose)
    assert states(seen) == ["Running", "Completed"]


def test_a_flow_that_fails_drops_what_has_not_begun() -> None:
    seen = play(*flow_life(), [ValueError("x")])
    assert [effect.drop for effect in seen if type(effect) is Settle] == [True]
    assert seen[-1].message == "Flow run encountered an exception: ValueError: x"


def test_wait_sleeps_and_asks_again() -> None:
    wait = answered(SetStateStatus.WAIT, delay=3)
    seen = play(*flow_life(), [1], {"Running": [wait, wait]})
    assert [effect.seconds for effect in seen if type(effect) is Sleep] == [3.0, 3.0]
    assert states(seen) == ["Running", "Running", "Running", "Completed"]


def test_w15_abort_ends_it_before_the_users_code() -> None:
    with pytest.raises(Aborted, match="stale token"):
        play(*flow_life(), [], {"Running": [answered(SetStateStatus.ABORT, reason="stale token")]})


def test_paused_ends_it() -> None:
    paused = State(type=StateType.PAUSED, name="Paused")
    with pytest.raises(PausedRun):
        play(*flow_life(), [], {"Running": [answered(SetStateStatus.REJECT, paused)]})


def test_a_rejected_start_gives_the_servers_state() -> None:
    done = State(type=StateType.CANCELLED, name="Cancelled")
    assert play(*flow_life(), [], {"Running": [answered(SetStateStatus.REJECT, done)]})[-1] is done


def test_b2_the_server_decides_that_a_flow_is_tried_again() -> None:
    later = AwaitingRetry(NOON + timedelta(seconds=9))
    seen = play(*flow_life(), [ValueError(), 3], {"Failed": [answered(SetStateStatus.REJECT, later)]})
    assert states(seen) == ["Running", "Failed", "Running", "Completed"]
    assert [effect.until for effect in seen if type(effect) is Sleep] == [NOON + timedelta(seconds=9)]
    assert seen[-1].result() == 3


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt(), "Execution was aborted by an interrupt signal."),
        (SystemExit(3), "Execution was aborted by Python system exit call."),
    ],
)
def test_an_interrupt_is_a_crash(error: BaseException, message: str) -> None:
    for subject, engine in (task_life(), flow_life()):
        seen: list[Any] = []
        with pytest.raises(type(error)):
            play(subject, engine, [error], seen=seen)
        assert states(seen) == ["Running", "Crashed"]
        assert seen[-1].state.message == message


def test_a_crash_that_cannot_be_reported_does_not_hide_its_cause() -> None:
    down = answered(SetStateStatus.ABORT)
    with pytest.raises(KeyboardInterrupt):
        play(*flow_life(), [KeyboardInterrupt()], {"Crashed": [down]})


def test_b7_a_crash_while_cancelling_is_a_cancellation() -> None:
    heard: list[str] = []
    subject, engine = flow_life(hooks={StateType.CANCELLING: [lambda *a: heard.append(a[2].name)]})
    asked = answered(SetStateStatus.REJECT, Cancelling(message="stop"))
    seen: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        play(subject, engine, [KeyboardInterrupt()], {"Crashed": [asked]}, seen)
    assert states(seen) == ["Running", "Crashed", "Cancelled"]
    assert heard == ["Cancelling"]


def test_a_flow_that_returns_a_scheduled_state_is_not_run_again() -> None:
    seen = play(*flow_life(), [AwaitingRetry(NOON)])
    assert states(seen) == ["Running", "AwaitingRetry"]


def test_a_flow_cannot_return_that_it_runs() -> None:
    assert play(*flow_life(), [Running()])[-1].type is StateType.FAILED
