"""Flows against a ledger: what is asked of the server, what comes back to the caller."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from tests.sdk.conftest import Ledger, answered

from eparch import Cancelled, Completed, Failed, flow, tags, task
from eparch.core import calls
from eparch.core.calls import CLAIM_HEADER
from eparch.core.errors import CancelledRun, FailedRun, ParametersInvalid, Unreachable, Usage
from eparch.core.runs import SetStateStatus
from eparch.core.states import AwaitingRetry, State, StateType, from_create
from eparch.sdk import runtime
from eparch.sdk.flow_run import Terminated, storable


@task
def good(x: Any = 1) -> Any:
    return x


@task
def bad() -> None:
    raise ValueError("no")


def test_an_empty_flow_takes_three_requests_and_its_log(ledger: Ledger) -> None:
    empty = flow(lambda: None, name="empty")
    empty()
    empty()
    assert ledger.sent(calls.create_flow) == 1
    assert ledger.sent(calls.create_flow_run) == 2
    assert ledger.sent(calls.set_flow_run_state) == 4
    assert ledger.sent(calls.read_flow_run) == 0


def test_w15_every_proposal_carries_the_fencing_token_and_an_id_of_its_own(ledger: Ledger) -> None:
    flow(lambda: None)()
    proposals = [call for call in ledger.calls if call.endpoint is calls.set_flow_run_state]
    assert [call.headers for call in proposals] == [{CLAIM_HEADER: "token"}] * 2
    ids = {call.body.state.state_details.transition_id for call in proposals}
    assert len(ids) == 2
    assert None not in ids


def test_an_answer_that_was_lost_is_recognised(ledger: Ledger) -> None:
    def lost(run: Any, body: Any) -> Any:
        """Accepted before, so the same transition is refused now."""
        return answered(SetStateStatus.REJECT, from_create(body.state, datetime.now(UTC)), "same transition")

    ledger.answers = [lost]
    assert flow(lambda: 5)() == 5
    assert ledger.names() == ["Pending", "Completed"]


@pytest.mark.parametrize(
    ("returned", "type_", "message"),
    [
        (lambda: 5, "COMPLETED", None),
        (lambda: good.submit(1), "COMPLETED", "All states completed."),
        (lambda: bad.submit(), "FAILED", "1/1 states failed."),
        (lambda: [good.submit(1), bad.submit()], "FAILED", "1/2 states failed."),
        (lambda: [bad.submit(), 5], "COMPLETED", None),
        (lambda: Failed(message="mine"), "FAILED", "mine"),
        (lambda: Completed(message="mine", data=3, name="Fine"), "COMPLETED", "mine"),
        (lambda: Cancelled(message="c"), "CANCELLED", "c"),
        (lambda: bad(return_state=True), "FAILED", "1/1 states failed."),
        (lambda: good.submit(bad.submit()), "FAILED", "1/1 states are not final."),
        (lambda: bad.submit() and None, "COMPLETED", None),
    ],
)
def test_b5_what_is_returned_decides_the_final_state(
    ledger: Ledger, returned: Any, type_: str, message: str | None
) -> None:
    state = flow(returned)(return_state=True)
    assert (state.type, state.message) == (StateType(type_), message)
    assert ledger.only_run().state is not None
    assert ledger.only_run().state_type == StateType(type_)


def test_b5_what_a_caller_gets(ledger: Ledger) -> None:
    assert flow(lambda: good.submit(7))() == 7
    assert [type(s) for s in flow(lambda: [good.submit(1), bad.submit()])()] == [State, State]
    assert flow(lambda: Completed(data=3))() == 3
    with pytest.raises(ValueError, match="no"):
        flow(lambda: bad.submit())()
    with pytest.raises(FailedRun, match="mine"):
        flow(lambda: Failed(message="mine"))()
    with pytest.raises(CancelledRun, match="c"):
        flow(lambda: Cancelled(message="c"))()
    mixed = flow(lambda: [good(return_state=True), bad(return_state=True)])(return_state=True)
    with pytest.raises(ValueError, match="no"):
        mixed.result()


def test_what_goes_on_the_wire_has_no_data(ledger: Ledger) -> None:
    flow(lambda: object())()
    assert [state.data for state in ledger.states[ledger.only_run().id]] == [None] * 3


def test_a_kept_result_is_told_where_it_is(ledger: Ledger) -> None:
    flow(lambda: {"a": 1}, persist_result=True)()
    data = ledger.states[ledger.only_run().id][-1].data
    assert data["serializer"]["type"] == "pickle"
    assert os.path.isfile(data["storage_key"])


def test_parameters_are_coerced_as_the_annotations_say(ledger: Ledger) -> None:
    @flow
    def main(when: datetime, n: int = 1) -> Any:
        return when, n

    assert main("2026-01-02T03:04:05Z", n="3") == (  # type: ignore[arg-type]
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        3,
    )
    assert ledger.only_run().parameters == {"when": "2026-01-02T03:04:05Z", "n": "3"}


def test_parameters_that_do_not_fit_fail_the_run(ledger: Ledger) -> None:
    @flow
    def main(n: int) -> None: ...

    with pytest.raises(ParametersInvalid, match="'n'"):
        main("many")  # type: ignore[arg-type]
    assert ledger.names() == ["Pending", "Failed"]
    with pytest.raises(ParametersInvalid, match="missing a required argument"):
        main()  # type: ignore[call-arg]
    assert len(ledger.flow_runs) == 1


def test_validation_can_be_left_out(ledger: Ledger) -> None:
    def echo(n: int) -> Any:
        return n

    assert flow(echo, validate_parameters=False)("many") == "many"


def test_hostile_parameters_are_stored_as_something(ledger: Ledger) -> None:
    circle: list[Any] = []
    circle.append(circle)
    given = {"nul": "a\x00b", "lone": "\ud800", "kind": object, "nan": float("nan"), "circle": circle}
    assert flow(lambda nul, lone, kind, nan, circle: 1)(**given) == 1
    stored = ledger.only_run().parameters
    assert stored["nul"] == "a\\x00b"
    assert stored["lone"] == "'\\ud800'"
    assert stored["kind"] == "<class 'object'>"
    assert stored["nan"] is None
    assert storable({"deep": {"\x00": ["\x00"]}}) == {"deep": {"\\x00": ["\\x00"]}}


def test_b2_a_flow_is_retried_in_process(ledger: Ledger) -> None:
    counts: list[int] = []

    @flow(retries=2)
    def main() -> int:
        counts.append(runtime.flow_run.run_count)
        good.submit(len(counts))
        if len(counts) < 3:
            raise RuntimeError("again")
        return len(counts)

    assert main() == 3
    assert counts == [1, 2, 3]
    assert ledger.names() == ["Pending", *["Running", "AwaitingRetry"] * 2, "Running", "Completed"]
    assert ledger.only_run().empirical_policy.retries == 2


def test_b2_a_retry_waits_for_its_time(ledger: Ledger) -> None:
    due = datetime.now(UTC) + timedelta(milliseconds=60)
    begun: list[datetime] = []

    def later(run: Any, body: Any) -> Any:
        return answered(SetStateStatus.REJECT, AwaitingRetry(due)) if body.state.name == "Failed" else None

    @flow
    def main() -> None:
        begun.append(datetime.now(UTC))
        if len(begun) == 1:
            ledger.answers = [later]
            raise ValueError

    main()
    assert begun[1] >= due


def test_a_subflow_has_a_task_run_in_its_parent(ledger: Ledger) -> None:
    child = flow(lambda x: x + 1, name="child")
    parent = flow(lambda: child(child(good(2))), name="parent")
    assert parent() == 4
    first, second = ledger.parents
    run, one, _ = ledger.flow_runs.values()
    assert (first.name, first.dynamic_key, second.name) == ("child-0", "0", "child-1")
    assert first.flow_run_id == run.id
    assert one.parent_task_run_id == first.id
    assert run.parent_task_run_id is None


def test_a_subflow_that_fails_fails_its_parent(ledger: Ledger) -> None:
    child = flow(lambda: 1 / 0, name="child")
    with pytest.raises(ZeroDivisionError):
        flow(lambda: child())()
    assert [ledger.names(run_id)[-1] for run_id in ledger.flow_runs] == ["Failed", "Failed"]


def test_b8_async_flows(ledger: Ledger) -> None:
    @flow(timeout_seconds=30)
    async def child(x: int) -> int:
        await asyncio.sleep(0)
        return x * 2

    @flow
    async def main() -> Any:
        return await asyncio.gather(child(1), child(2)), good(3)

    assert asyncio.run(main()) == ([2, 4], 3)
    assert len(ledger.flow_runs) == 3


def test_an_async_flow_does_not_block_the_loop_while_it_waits(ledger: Ledger) -> None:
    released = threading.Event()
    held = task(lambda: released.wait(10))

    @flow
    async def main() -> Any:
        return held.submit()

    async def both() -> Any:
        async def release() -> None:
            await asyncio.sleep(0.01)
            released.set()

        result, _ = await asyncio.gather(main(), release())
        return result

    assert asyncio.run(both()) is True


def test_a_cancelled_async_flow_is_crashed(ledger: Ledger) -> None:
    begun = asyncio.Event()

    @flow
    async def main() -> None:
        begun.set()
        await asyncio.sleep(60)

    async def cancel() -> None:
        running = asyncio.create_task(main())
        await begun.wait()
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())
    final = ledger.states[ledger.only_run().id][-1]
    assert (final.name, final.message) == ("Crashed", "Execution was cancelled by the runtime environment.")


def test_b8_a_flow_times_out_and_its_tasks_retries_do_not_catch_that(ledger: Ledger) -> None:
    def wait() -> None:
        while not threading.Event().wait(0.01):  # pytest-timeout has the alarm, so the watcher ends it
            pass

    patient = task(wait, retries=5, name="patient")
    with pytest.raises(TimeoutError):
        flow(lambda: patient(), timeout_seconds=0.1)()
    assert ledger.events_of("patient") == ["Pending", "Running", "TimedOut"]
    final = ledger.states[ledger.only_run().id][-1]
    assert (final.name, final.message) == ("TimedOut", "Flow run exceeded timeout of 0.1 second(s)")


def test_hooks_of_a_flow(ledger: Ledger) -> None:
    heard: list[Any] = []

    def hear(flow: Any, run: Any, state: State) -> None:
        heard.append((flow.name, run.state.name, state.name))

    main = flow(lambda: 1, name="main", on_completion=[hear], on_running=[hear])
    main.on_failure(hear)
    main()
    assert heard == [("main", "Running", "Running"), ("main", "Completed", "Completed")]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt, "Execution was aborted by an interrupt signal."),
        (SystemExit, "Execution was aborted by Python system exit call."),
    ],
)
def test_an_interrupted_flow_is_crashed(ledger: Ledger, error: type[BaseException], message: str) -> None:
    heard: list[str] = []

    @flow(on_crashed=[lambda flow, run, state: heard.append(state.name)])
    def main() -> None:
        good.submit(1)
        raise error

    with pytest.raises(error):
        main()
    final = ledger.states[ledger.only_run().id][-1]
    assert (final.name, final.message) == ("Crashed", message)
    assert heard == ["Crashed"]


def test_b7_sigterm_is_a_crash_unless_the_server_says_cancelling(ledger: Ledger) -> None:
    heard: list[str] = []

    def hear(flow: Any, run: Any, state: State) -> None:
        heard.append(state.name)

    @flow(on_crashed=[hear], on_cancellation=[hear])
    def main() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(10)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated):
        main()
    assert signal.getsignal(signal.SIGTERM) is before

    def cancelling(run: Any, body: Any) -> Any:
        if body.state.type is not StateType.CRASHED:
            return None
        return answered(SetStateStatus.REJECT, State(type=StateType.CANCELLING, name="Cancelling"))

    main_again = main.with_options()
    ledger.answers = [lambda *_: None, cancelling]
    ledger.answers[0] = lambda run, body: answered(
        SetStateStatus.ACCEPT, from_create(body.state, datetime.now(UTC))
    )
    with pytest.raises(Terminated):
        main_again()
    assert heard == ["Crashed", "Cancelling"]
    # Who holds the claim says Cancelled, once all that the run started is gone (row W20).
    assert [state.name for state in list(ledger.states.values())[1]] == ["Pending"]


def test_names_of_flow_runs(ledger: Ledger) -> None:
    flow(lambda x: x, flow_run_name="for-{x}")(3)
    assert ledger.only_run().name == "for-3"
    with pytest.raises(Usage, match="returned int"):
        flow(lambda: 1, flow_run_name=lambda: 3)()  # type: ignore[arg-type, return-value]


def test_tags_of_a_block(ledger: Ledger) -> None:
    with tags("a", "b"):
        flow(lambda: good(1), tags=["c"])()
    assert ledger.only_run().tags == ["a", "b", "c"]
    assert {r["prefect.resource.id"] for r in ledger.events[0].related} >= {"prefect.tag.a", "prefect.tag.b"}


def test_runtime_tells_of_the_run(ledger: Ledger) -> None:
    seen = task(lambda: (runtime.task_run.name, runtime.flow_run.flow_name), name="seen")
    name, flow_name = flow(lambda x: seen(), name="main")(3)
    assert name.startswith("seen-")
    assert flow_name == "main"
    assert (runtime.flow_run.id, runtime.flow_run.parameters) == (None, {})
    with pytest.raises(AttributeError, match="Did you mean 'flow_name'"):
        _ = runtime.flow_run.flow_nam


def test_a_server_that_is_away_is_said(ledger: Ledger) -> None:
    def down(call: Any) -> None:
        raise Unreachable("nobody there")

    ledger.before = down
    with pytest.raises(Unreachable, match="nobody there"):
        flow(lambda: 1)()


def test_an_aborted_flow_never_runs(ledger: Ledger) -> None:
    from eparch.core.errors import Aborted

    ran: list[int] = []
    ledger.answers = [lambda *_: answered(SetStateStatus.ABORT, reason="The claim is stale.")]
    with pytest.raises(Aborted, match="The claim is stale"):
        flow(lambda: ran.append(1))()
    assert ran == []


def test_hostile_names_are_spelt_out_or_refused(ledger: Ledger) -> None:
    odd = task(lambda: Completed(name="a\x00", message="\ud800"), name="lone\ud800", tags=["\ud800"])
    state = flow(lambda: odd(return_state=True))(return_state=True).data.value
    assert (state.name, state.message) == ("a\\x00", "\\ud800")
    assert ledger.events[-1].resource["prefect.resource.name"].startswith("lone\\ud800-")
    for name in ("a/b", "50%", "<x>"):
        with pytest.raises(Usage, match="cannot be the name of a flow"):
            flow(lambda: None, name=name)


def test_states_of_other_runs_keep_their_ids(ledger: Ledger) -> None:
    state = flow(lambda: good(return_state=True))(return_state=True)
    inner = msgspec.structs.asdict(state.data.value.state_details)
    assert inner["flow_run_id"] == ledger.only_run().id
    assert inner["task_run_id"] not in (None, uuid4())
