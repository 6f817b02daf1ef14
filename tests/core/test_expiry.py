"""What the watchdog proposes when time runs out, and what comes of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace
from tests.core.proposals import (
    BEFORE,
    DEPLOYED,
    NOW,
    T,
    a_claim,
    a_flow,
    a_state,
    accepted,
    apply,
)

from eparch.core.runs import FlowRunPolicy
from eparch.core.states import State, StateType
from eparch.core.transitions import (
    Facts,
    cancel_expired,
    decide,
    lapsed,
    late,
    pause_expired,
)

# The watchdog's proposals.


@pytest.mark.parametrize(
    ("state", "becomes"),
    [
        (a_state(T.PENDING, scheduled_time=BEFORE), T.SCHEDULED),
        (a_state(T.RUNNING), T.CRASHED),
        (a_state(T.PAUSED), T.CRASHED),
        (a_state(T.PAUSED, pause_reschedule=True), None),
        (a_state(T.CANCELLING), T.CANCELLED),
        (a_state(T.SCHEDULED), None),
        (a_state(T.COMPLETED), None),
        (None, None),
    ],
)
def test_w16_w17_what_a_lapsed_claim_leaves_behind(state: State | None, becomes: StateType | None) -> None:
    run = a_flow(state)
    found = lapsed(run, a_claim(lease_until=NOW), NOW)
    assert (found.type if found else None) == becomes
    assert lapsed(run, a_claim(lease_until=NOW + timedelta(seconds=1)), NOW) is None
    assert lapsed(run, a_claim(lease_until=None), NOW) is None
    if found is not None:
        assert found.timestamp == NOW
        assert "w-1" in (found.message or "")
        decision = accepted(decide(run, found, Facts(has_deployment=True, current_token=4), NOW))
        assert decision.effects.claim == "release"


def test_w16_the_lapsed_run_keeps_its_place() -> None:
    found = lapsed(a_flow(a_state(T.PENDING, scheduled_time=BEFORE)), a_claim(lease_until=NOW), NOW)
    assert found is not None
    assert found.state_details.scheduled_time == BEFORE


def test_w17_a_process_that_dies_before_its_retry_is_crashed() -> None:
    run = a_flow(
        a_state(T.SCHEDULED, "AwaitingRetry"), empirical_policy=FlowRunPolicy(retry_type="in_process")
    )
    found = lapsed(run, a_claim(lease_until=NOW), NOW)
    assert found is not None
    assert found.type is T.CRASHED


def test_wire44_late_after_fifteen_seconds() -> None:
    due = NOW - timedelta(seconds=15)
    run = a_flow(a_state(T.SCHEDULED, scheduled_time=due), next_scheduled_start_time=due)
    found = late(run, NOW)
    assert found is not None
    assert (found.name, found.state_details.scheduled_time) == ("Late", due)
    assert late(run, NOW - timedelta(seconds=1)) is None
    assert late(run, NOW, after_seconds=16) is None
    assert late(replace(run, empirical_policy=FlowRunPolicy(retry_type="in_process")), NOW) is None
    assert late(apply(run, decide(run, found, DEPLOYED, NOW)), NOW) is None
    for name in ("AwaitingRetry", "AwaitingConcurrencySlot", "Resuming"):
        assert late(a_flow(a_state(T.SCHEDULED, name, scheduled_time=due)), NOW) is None
    assert late(a_flow(a_state(T.PENDING, scheduled_time=due)), NOW) is None


def test_b6_pause_expired() -> None:
    found = pause_expired(a_flow(a_state(T.PAUSED, pause_timeout=BEFORE)), NOW)
    assert found is not None
    assert found.type is T.FAILED
    assert pause_expired(a_flow(a_state(T.PAUSED, pause_timeout=NOW)), NOW) is None
    assert pause_expired(a_flow(a_state(T.PAUSED)), NOW) is None
    assert pause_expired(a_flow(a_state(T.RUNNING, pause_timeout=BEFORE)), NOW) is None


def test_b7_cancelling_is_bounded() -> None:
    run = a_flow(a_state(T.CANCELLING, timestamp=NOW - timedelta(seconds=300)))
    found = cancel_expired(run, NOW)
    assert found is not None
    assert accepted(decide(run, found, DEPLOYED, NOW)).state.type is T.CANCELLED
    assert cancel_expired(run, NOW, after_seconds=301) is None
    assert cancel_expired(a_flow(a_state(T.RUNNING)), NOW) is None
