"""Metric triggers (row B12): what is measured, and how long it has to be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.playing import START, Play, at, event, metric

from eparch.core import metrics
from eparch.core.automations import TriggerState
from eparch.core.events import ReceivedEvent
from eparch.core.metrics import Times
from eparch.core.model import new_id


def run_event(seconds: float, state: str) -> ReceivedEvent:
    labels = {"prefect.state-type": state}
    return event(seconds, f"prefect.flow-run.{state}", id_=f"prefect.flow-run.{new_id()}", labels=labels)


def test_b12_a_metric_that_is_wrong_for_long_enough_triggers_and_resolves() -> None:
    play = Play(**metric(name="successes", operator="<", threshold=0.5))
    assert not play.see(run_event(0, "COMPLETED"), run_event(1, "FAILED"), run_event(2, "FAILED"))
    assert not play.see(run_event(200, "CRASHED"), run_event(200, "CANCELLED"), event(200))
    (fired,) = play.wait(400)
    assert (fired.trigger_states, fired.triggered) == ([TriggerState.TRIGGERED], at(302))
    assert fired.triggering_value == pytest.approx(0.25)
    play.see(*(run_event(410, "COMPLETED") for _ in range(10)))
    (fired,) = play.wait(1000)
    assert (fired.trigger_states, fired.triggered) == ([TriggerState.RESOLVED], at(710))
    assert not play.wait(10_000)


def test_b12_a_metric_that_recovers_in_time_does_not_trigger() -> None:
    play = Play(**metric(name="duration", operator=">", threshold=10))
    slow, fast = Times(START, START, 100.0), Times(START, START, 0.0)
    play.see(run_event(0, "COMPLETED"), times=slow)
    for second in range(10, 290, 10):
        play.see(run_event(second, "FAILED"), times=fast)
    assert not play.wait(5000)


def test_b12_lateness_is_of_runs_that_begin() -> None:
    play = Play(**metric(name="lateness", operator=">=", threshold=60))
    play.see(run_event(0, "RUNNING"), times=Times(at(-60), START, 0.0))
    play.see(run_event(1, "COMPLETED"), times=Times(at(1), at(1), 0.0))
    assert play.wait(301)


@given(st.lists(st.tuples(st.integers(0, 3000), st.booleans()), max_size=40).map(sorted))
def test_b12_a_gauge_is_the_mean_of_its_range(found: list[tuple[int, bool]]) -> None:
    play = Play(**metric(name="successes", operator="<", threshold=0.0))
    for second, good in found:
        play.see(run_event(second, "COMPLETED" if good else "FAILED"))
    if not found:
        return
    gauge = next(iter(play.states.values()))[2]
    assert isinstance(gauge, metrics.Gauge)
    last = found[-1][0]
    width = 10
    samples = [good for second, good in found if second // width >= last // width - metrics.SLICES]
    assert metrics.value_of(gauge) == pytest.approx(sum(samples) / len(samples))
    assert len(gauge.slices) <= metrics.SLICES + 1
