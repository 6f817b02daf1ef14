"""Tasks in a flow, against a ledger: what is called, what is recorded."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from tests.sdk.conftest import Ledger

from eparch import allow_failure, as_completed, flow, quote, task, unmapped, wait
from eparch.core import calls
from eparch.core.calls import Call
from eparch.core.errors import ParametersInvalid, TimedOut, UpstreamFailed, Usage
from eparch.core.states import State, StateType
from eparch.sdk.caching import INPUTS, TASK_SOURCE
from eparch.sdk.futures import FutureList
from eparch.sdk.runners import ThreadPoolTaskRunner


@task
def double(x: Any) -> Any:
    return 2 * x


@task
def fail(message: str = "no") -> None:
    raise ValueError(message)


def test_b8_a_task_is_called_in_a_flow(ledger: Ledger) -> None:
    @flow
    def main(x: int) -> Any:
        return double(x)

    assert main(4) == 8
    assert ledger.events_of("double") == ["Pending", "Running", "Completed"]
    assert ledger.names() == ["Pending", "Running", "Completed"]


def test_events_have_the_shape_of_a_stock_client(ledger: Ledger) -> None:
    @task(retries=1, tags=["a"])
    def tagged(x: Any, y: int = 2) -> Any:
        return x

    @flow
    def main() -> Any:
        return tagged(double.submit(3))

    main()
    run = ledger.only_run()
    first, last = [e for e in ledger.events if e.resource["prefect.resource.name"].startswith("tagged")][::2]
    assert set(first.resource) == {
        "prefect.resource.id",
        "prefect.resource.name",
        "prefect.run-count",
        "prefect.state-message",
        "prefect.state-name",
        "prefect.state-timestamp",
        "prefect.state-type",
        "prefect.orchestration",
    }
    assert first.resource["prefect.orchestration"] == "client"
    assert [(r["prefect.resource.role"], r["prefect.resource.id"]) for r in first.related] == [
        ("tag", "prefect.tag.a"),
        ("flow-run", f"prefect.flow-run.{run.id}"),
        ("flow", f"prefect.flow.{run.flow_id}"),
    ]
    assert first.payload["intended"] == {"from": None, "to": "PENDING"}
    assert first.payload["initial_state"] is None
    assert last.payload["intended"] == {"from": "RUNNING", "to": "COMPLETED"}
    assert last.payload["validated_state"]["data"] is None
    shown = last.payload["task_run"]
    assert shown["empirical_policy"] == {
        "max_retries": 0,
        "retry_delay_seconds": 0,
        "retries": 1,
        "retry_delay": 0,
    }
    assert [s["input_type"] for s in shown["task_inputs"]["x"]] == ["task_run"]
    assert shown["task_inputs"]["y"] == []
    assert (shown["run_count"], shown["flow_run_run_count"], shown["tags"]) == (1, 1, ["a"])
    assert shown["start_time"] <= shown["end_time"]


def test_events_follow_each_other(ledger: Ledger) -> None:
    flow(lambda: double(1))()
    events = [e for e in ledger.events if e.event.startswith("prefect.task-run")]
    assert [event.follows for event in events] == [None, *[event.id for event in events[:-1]]]


def test_b2_a_failing_task_is_tried_again_and_raises_at_last(ledger: Ledger) -> None:
    tries: list[int] = []

    @task(retries=2, retry_delay_seconds=[0, 0.001])
    def flaky() -> None:
        tries.append(1)
        raise KeyError(len(tries))

    with pytest.raises(KeyError, match="3"):
        flow(lambda: flaky())()
    assert ledger.events_of("flaky") == [
        *("Pending", "Running", "Retrying", "AwaitingRetry", "Retrying", "Failed")
    ]
    assert ledger.names()[-1] == "Failed"


def test_return_state_does_not_raise(ledger: Ledger) -> None:
    @flow
    def main() -> Any:
        state = fail(return_state=True)
        return state.name, state.message, type(state.result(raise_on_failure=False))

    assert main() == ("Failed", "Task run encountered an exception ValueError: no", ValueError)


def test_submit_gives_a_future(ledger: Ledger) -> None:
    @flow
    def main() -> Any:
        future = double.submit(21)
        assert future.result() == 42
        assert future.state.is_completed()
        assert double.submit(1, return_state=True).result() == 2
        return future

    assert main() == 42


def test_a_future_among_arguments_is_waited_for(ledger: Ledger) -> None:
    @dataclass
    class Box:
        inner: Any

    @task
    def unpack(a: Any, b: Any, c: Any) -> Any:
        return a["k"][0], b.inner, c

    @flow
    def main() -> Any:
        future = double.submit(2)
        return unpack({"k": [future]}, Box(future), c=quote([future]))

    a, b, c = main()
    assert (a, b) == (4, 4)
    assert isinstance(c[0], State)  # untouched on its way in, a state on its way out


def test_values_without_futures_are_handed_on_uncopied(ledger: Ledger) -> None:
    big = [[1], {"a": (2,)}]
    identity = task(lambda x: x)
    assert flow(lambda: identity(big) is big)() is True


def test_wait_for_orders_tasks(ledger: Ledger) -> None:
    order: list[str] = []
    gate = threading.Event()

    @task
    def first() -> None:
        gate.wait(10)
        order.append("first")

    @task
    def second() -> None:
        order.append("second")

    @flow
    def main() -> None:
        one = first.submit()
        two = second.submit(wait_for=[one])
        assert not two.done
        gate.set()
        wait([one, two])

    main()
    assert order == ["first", "second"]


def test_a_failed_upstream_stops_those_after_it(ledger: Ledger) -> None:
    @flow
    def main() -> Any:
        last = double.submit(double.submit(fail.submit()))  # type: ignore[arg-type]
        last.wait()
        assert last.state.name == "NotReady"
        return last.result()

    with pytest.raises(UpstreamFailed, match="did not reach a 'COMPLETED' state"):
        main()
    assert sorted(ledger.events_of("double")) == ["NotReady", "NotReady", "Pending", "Pending"]


def test_allow_failure_hands_the_exception_on(ledger: Ledger) -> None:
    see = task(lambda x: type(x).__name__)
    assert flow(lambda: see(allow_failure(fail.submit())))() == "ValueError"
    assert flow(lambda: see.submit([allow_failure(fail(return_state=True))]).result())() == "list"


def test_map_splits_iterables_and_not_texts(ledger: Ledger) -> None:
    pair = task(lambda a, b=0, c=9: (a, b, c))
    assert flow(lambda: pair.map([1, 2], b=[3, 4]).result())() == [(1, 3, 9), (2, 4, 9)]
    assert flow(lambda: pair.map(range(2), b="xy").result())() == [(0, "xy", 9), (1, "xy", 9)]
    assert flow(lambda: pair.map([1], unmapped([3, 4])).result())() == [(1, [3, 4], 9)]


def test_map_over_futures_and_over_the_result_of_one(ledger: Ledger) -> None:
    numbers = task(lambda: [1, 2, 3])

    @flow
    def main() -> Any:
        doubled = double.map(numbers.submit())
        return double.map(doubled).result()

    assert main() == [4, 8, 12]


def test_map_refuses_what_it_cannot_split(ledger: Ledger) -> None:
    pair = task(lambda a, b: (a, b))
    with pytest.raises(Usage, match="No iterable"):
        flow(lambda: double.map(1))()
    with pytest.raises(Usage, match=r"different lengths: \{'a': 1, 'b': 2\}"):
        flow(lambda: pair.map([1], [2, 3]))()
    assert flow(lambda: double.map([]).result())() == []


def test_map_with_kwargs_and_defaults(ledger: Ledger) -> None:
    @task
    def spread(a: int, *rest: int, key: int = 7, **more: int) -> Any:
        return a, rest, key, more

    assert flow(lambda: spread.map([1, 2], z=[5, 6]).result())() == [
        (1, (), 7, {"z": 5}),
        (2, (), 7, {"z": 6}),
    ]
    assert flow(lambda: spread(1, 2, 3, key=4, z=5))() == (1, (2, 3), 4, {"z": 5})


def test_wrong_arguments_say_so(ledger: Ledger) -> None:
    with pytest.raises(ParametersInvalid, match="too many positional arguments"):
        flow(lambda: double(1, 2))()  # type: ignore[call-arg]


def test_submit_outside_of_a_flow_is_refused(ledger: Ledger) -> None:
    with pytest.raises(Usage, match="outside of a flow"):
        double.submit(1)


def test_a_task_runs_outside_of_a_flow(ledger: Ledger) -> None:
    assert double(5) == 10


def test_b8_a_task_times_out_in_the_main_thread_and_in_another(ledger: Ledger) -> None:
    stop = threading.Event()

    @task(timeout_seconds=0.05)
    def slow() -> None:
        while not stop.wait(0.005):
            pass

    @flow
    def main() -> list[State]:
        return [slow(return_state=True), slow.submit(return_state=True)]

    try:
        states = main(return_state=True).data.states
    finally:
        stop.set()
    assert [state.name for state in states] == ["TimedOut", "TimedOut"]
    assert states[0].message == "Task run exceeded timeout of 0.05 second(s)"
    with pytest.raises(TimeoutError):
        states[1].result()


def test_b8_async_tasks(ledger: Ledger) -> None:
    @task
    async def add(a: int, b: int = 1) -> int:
        await asyncio.sleep(0)
        return a + b

    @task(timeout_seconds=0.02)
    async def slow() -> None:
        await asyncio.sleep(60)

    @flow
    async def main() -> Any:
        direct = await add(1)
        beside = add.submit(10).result()
        mapped = add.map([1, 2]).result()
        several = await asyncio.gather(add(5), add(6))
        state = await slow(return_state=True)
        return direct, beside, mapped, several, state.name

    assert asyncio.run(main()) == (2, 11, [2, 3], [6, 7], "TimedOut")
    assert set(ledger.events_of("add")) == {"Pending", "Running", "Completed"}


def test_an_async_task_can_be_submitted_from_a_sync_flow(ledger: Ledger) -> None:
    @task
    async def add(a: int) -> int:
        await asyncio.sleep(0)
        return a + 1

    assert flow(lambda: add.map(range(5)).result())() == [1, 2, 3, 4, 5]


def test_b9_a_pool_of_one_thread_cannot_block_itself(ledger: Ledger) -> None:
    @task
    def outer(n: int) -> Any:
        return double.submit(n).result() + (outer.submit(n - 1).result() if n else 0)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=1))
    def main() -> Any:
        return outer.submit(5).result()

    assert main() == 30


def test_b9_max_workers_bounds_what_runs_at_once(ledger: Ledger) -> None:
    lock, running, most = threading.Lock(), 0, 0
    three = threading.Event()

    @task
    def count() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if most == 3:
                three.set()
        three.wait(0.2)
        with lock:
            running -= 1

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=3))
    def main() -> None:
        wait([count.submit() for _ in range(12)])

    main()
    assert most == 3


def test_b9_without_a_bound_tasks_that_wait_get_threads(ledger: Ledger) -> None:
    meeting = threading.Barrier(20)

    @task
    def meet() -> int:
        return meeting.wait(20)

    @flow
    def main() -> list[int]:
        double.submit(1).wait()  # leaves a thread idle, which may not be counted on twenty times
        return FutureList([meet.submit() for _ in range(20)]).result()

    assert sorted(main()) == [*range(20)]


def test_as_completed_gives_futures_as_they_end(ledger: Ledger) -> None:
    gate = threading.Event()
    late = task(lambda: gate.wait(10) and "late")
    soon = task(lambda: "soon")

    @flow
    def main() -> list[Any]:
        seen = []
        for future in as_completed([late.submit(), soon.submit()]):
            seen.append(future.result())
            gate.set()
        return seen

    assert main() == ["soon", "late"]


def test_tasks_nobody_waits_for_are_finished_before_the_flow(ledger: Ledger) -> None:
    @flow
    def main() -> None:
        for n in range(50):
            double.submit(n)

    main()
    assert ledger.events_of("double").count("Completed") == 50


def test_what_has_not_begun_when_the_flow_fails_is_cancelled(ledger: Ledger) -> None:
    gate = threading.Event()
    held = task(lambda: gate.wait(10), name="held")

    @flow
    def main() -> None:
        double.submit(1, wait_for=[held.submit()])
        threading.Timer(0.05, gate.set).start()
        raise RuntimeError("over")

    with pytest.raises(RuntimeError, match="over"):
        main()
    assert ledger.events_of("double") == ["Pending", "Cancelled"]
    assert ledger.events_of("held")[-1] == "Completed"


def test_thousand_tasks_are_all_recorded_before_the_flow_ends(ledger: Ledger) -> None:
    recorded: list[int] = []

    def watch(call: Call[Any]) -> None:
        if call.endpoint is calls.set_flow_run_state and call.body.state.name == "Completed":
            recorded.append(len(ledger.events))

    ledger.before = watch
    assert sum(flow(lambda: double.map(range(1000)).result())()) == 999_000
    assert recorded == [3000]
    told: dict[str, list[str]] = {}
    for event in ledger.events:
        told.setdefault(event.resource["prefect.resource.id"], []).append(event.payload["intended"]["to"])
    assert list(told.values()) == [["PENDING", "RUNNING", "COMPLETED"]] * 1000


def test_task_run_names(ledger: Ledger) -> None:
    named = task(lambda x, y=1: x, task_run_name="from-{x}-{y}")
    computed = task(lambda x: x, task_run_name=lambda parameters: f"is-{parameters['x']}")
    flow(lambda: (named(3), computed(4)))()
    assert {"from-3-1", "is-4"} <= {event.resource["prefect.resource.name"] for event in ledger.events}
    wrong = task(lambda x: x, task_run_name="{z}")
    with pytest.raises(Usage, match="names 'z', which is no parameter"):
        flow(lambda: wrong(1))()


def test_hooks_of_a_task(ledger: Ledger) -> None:
    heard: list[Any] = []

    @task(
        on_failure=[lambda task, run, state: heard.append((task.name, run.name[:4], state.name))], name="hook"
    )
    def broken() -> None:
        raise ValueError

    @broken.on_running
    async def on_running(task: Any, run: Any, state: State) -> None:
        heard.append(state.name)

    flow(lambda: broken(return_state=True) and None)()
    assert heard == ["Running", ("hook", "hook", "Failed")]


def test_b3_a_kept_result_stands_in_for_a_run(ledger: Ledger) -> None:
    called: list[int] = []

    @task(cache_policy=INPUTS + TASK_SOURCE, cache_expiration=timedelta(hours=1))
    def costly(x: int) -> int:
        called.append(x)
        return x * 10

    main = flow(lambda: [costly(1), costly(1), costly(2)])
    assert main() == [10, 10, 20]
    assert main() == [10, 10, 20]
    assert called == [1, 2]
    assert ledger.events_of("costly").count("Cached") == 4
    assert costly.with_options(refresh_cache=True)(1) == 10
    assert called == [1, 2, 1]


def test_b3_an_expired_result_is_not_used(ledger: Ledger) -> None:
    called: list[int] = []
    expiring = task(
        lambda x: called.append(x),
        cache_key_fn=lambda run, inputs: "k",
        cache_expiration=timedelta(seconds=-1),
    )
    flow(lambda: [expiring(1), expiring(1)])()
    assert called == [1, 1]


def test_inputs_of_direct_calls_are_known(ledger: Ledger) -> None:
    numbers = task(lambda: [1, 2], name="numbers")
    total = task(lambda rows: sum(rows), name="total")
    flow(lambda: total(numbers()))()
    (made,) = {
        e.resource["prefect.resource.id"]
        for e in ledger.events
        if e.resource["prefect.resource.name"].startswith("numbers")
    }
    (event,) = [
        e
        for e in ledger.events
        if e.resource["prefect.resource.name"].startswith("total") and e.event.endswith("Completed")
    ]
    (source,) = event.payload["task_run"]["task_inputs"]["rows"]
    assert f"prefect.task-run.{source['id']}" == made


def test_a_task_in_a_task_has_a_parent(ledger: Ledger) -> None:
    outer = task(lambda: double(1), name="outer")
    flow(lambda: outer())()
    (event,) = [e for e in ledger.events if e.resource["prefect.resource.name"].startswith("double")][:1]
    assert len(event.payload["task_run"]["task_inputs"]["__parents__"]) == 1


def test_methods_can_be_tasks(ledger: Ledger) -> None:
    class Shop:
        price = 3

        @task
        def cost(self, n: int) -> int:
            return self.price * n

        @task
        @staticmethod
        def fixed(n: int) -> int:
            return n

    assert flow(lambda: (Shop().cost(2), Shop.fixed(5), Shop().cost.submit(4).result()))() == (6, 5, 12)


def test_options_are_checked() -> None:
    with pytest.raises(Usage, match="does not have an option 'retris'") as caught:
        task(retris=3)
    assert caught.value.fix == "Did you mean 'retries'?"
    for wrong in ({"retries": -1}, {"retry_delay_seconds": "x"}, {"timeout_seconds": 0}, {"retries": True}):
        with pytest.raises(Usage):
            task(lambda: None, **wrong)
    with pytest.raises(Usage, match="generator"):

        @task
        def counting() -> Any:
            yield 1


def test_with_options_keeps_the_rest() -> None:
    first = task(lambda: None, name="a", retries=2, tags=["t"])
    second = first.with_options(name="b")
    assert (second.name, second.retries, second.tags) == ("b", 2, frozenset({"t"}))
    assert first.name == "a"
    first.on_failure(print)
    assert first.with_options(retries=0).hooks[StateType.FAILED] == [print]
    assert first.with_options(on_failure=[]).hooks[StateType.FAILED] == []
    with pytest.raises(Usage, match="does not have an option 'nam'"):
        first.with_options(nam="b")


def test_a_timeout_error_is_one_of_pythons() -> None:
    assert issubclass(TimedOut, TimeoutError)


def test_only_tags_are_asked_about_and_not_often(ledger: Ledger) -> None:
    @task
    def plain() -> None: ...

    @flow
    def many() -> None:
        plain()
        for _ in range(3):
            plain.with_options(tags=["only-asked-about-once"])()

    many()
    (asked,) = [call for call in ledger.calls if call.endpoint is calls.lease_slots]
    assert asked.body.names == ["tag:only-asked-about-once"]
    assert asked.body.holder.type == "task_run"
