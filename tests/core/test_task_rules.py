"""The table of transitions for task runs."""

from __future__ import annotations

import math
from datetime import timedelta
from uuid import UUID

import pytest
from tests.core.proposals import (
    NOW,
    STORED,
    T,
    a_state,
    a_task,
    aborts,
    accepted,
    apply,
    in_flow,
    rejected,
    to,
)

from eparch.core.runs import TaskRunPolicy
from eparch.core.task_rules import retry_delay
from eparch.core.transitions import (
    Facts,
    Reject,
    TagSlots,
    Wait,
    decide,
)

# Task runs.


def test_b2_a_failed_task_is_retried_after_its_own_delay() -> None:
    policy = TaskRunPolicy(retries=3, retry_delay=[1.0, 10.0])
    for run_count, delay in ((1, 1), (2, 10), (3, 10)):
        run = a_task(a_state(T.RUNNING), run_count=run_count, empirical_policy=policy)
        state = rejected(decide(run, to(T.FAILED, message="no"), Facts(), NOW), "retry_task")
        assert (state.name, state.message) == ("AwaitingRetry", "no")
        assert state.state_details.scheduled_time == NOW + timedelta(seconds=delay)
    spent = a_task(a_state(T.RUNNING), run_count=4, empirical_policy=policy)
    accepted(decide(spent, to(T.FAILED), Facts(), NOW))
    run = a_task(a_state(T.RUNNING), run_count=1, empirical_policy=policy)
    accepted(decide(run, to(T.FAILED, retriable=False), Facts(), NOW))


def test_b2_jitter_stays_in_its_range_and_keeps_the_mean() -> None:
    policy = TaskRunPolicy(retries=1, retry_delay=10, retry_jitter_factor=1.0)
    delays = [retry_delay(policy, 1, (i + 0.5) / 1000) for i in range(1000)]
    assert delays == sorted(delays)
    assert min(delays) >= 10 * -math.log2(1 - 2**-2.0) - 1e-9
    assert max(delays) <= 20 + 1e-9
    assert sum(delays) / 1000 == pytest.approx(10, rel=0.02)
    assert retry_delay(TaskRunPolicy(retry_delay=0, retry_jitter_factor=1.0), 1, 0.9) == 0
    assert retry_delay(TaskRunPolicy(retry_delay=[]), 1, 0.9) == 0


def test_task_names_of_later_attempts() -> None:
    run = a_task(a_state(T.SCHEDULED, "AwaitingRetry"), run_count=1)
    assert accepted(decide(run, to(T.RUNNING), Facts(), NOW)).state.name == "Retrying"
    run = a_task(a_state(T.PENDING), run_count=1)
    assert accepted(decide(run, to(T.RUNNING), Facts(), NOW)).state.name == "Rerunning"
    run = a_task(a_state(T.PENDING))
    assert accepted(decide(run, to(T.RUNNING), Facts(), NOW)).state.name == "Running"


def test_task_attempts_are_counted_anew_when_its_flow_is_retried() -> None:
    run = a_task(a_state(T.FAILED), run_count=3, flow_run_run_count=1)
    decision = accepted(decide(run, to(T.RUNNING), in_flow(run_count=2), NOW))
    after = apply(run, decision)
    assert (after.state_name, after.run_count, after.flow_run_run_count) == ("Retrying", 1, 2)
    pending = apply(run, decide(run, to(T.PENDING), in_flow(run_count=2), NOW))
    assert pending.run_count == 0


def test_task_does_not_start_outside_a_running_flow() -> None:
    run = a_task(a_state(T.PENDING))
    for type_ in (None, T.CANCELLED, T.SCHEDULED):
        aborts(decide(run, to(T.RUNNING), in_flow(type_), NOW), "flow_is_not_running")
    facts = in_flow(T.PAUSED, pause_timeout=NOW, pause_reschedule=True)
    state = rejected(decide(run, to(T.RUNNING), facts, NOW), "flow_is_paused")
    assert (state.type, state.name) == (T.PAUSED, "NotReady")
    assert (state.state_details.pause_timeout, state.state_details.pause_reschedule) == (NOW, True)


def test_task_refused_by_its_flow_keeps_its_attempts() -> None:
    run = a_task(a_state(T.FAILED), run_count=3)
    assert apply(run, decide(run, to(T.RUNNING), in_flow(T.PAUSED), NOW)).run_count == 3


def test_task_tag_limits() -> None:
    run = a_task(a_state(T.PENDING), tags=["db"])
    taken = accepted(decide(run, to(T.RUNNING), Facts(tags=TagSlots()), NOW))
    assert taken.effects.tags == "take"
    full = decide(run, to(T.RUNNING), Facts(tags=TagSlots(full=("db",), wait_seconds=0.2)), NOW)
    assert isinstance(full, Wait)
    assert full.delay_seconds == 1
    assert "db" in full.reason
    aborts(decide(run, to(T.RUNNING), Facts(tags=TagSlots(zero="db")), NOW), "tag_limit_is_zero")
    running = apply(run, taken)
    assert accepted(decide(running, to(T.CANCELLING), Facts(), NOW)).effects.tags is None
    assert accepted(decide(running, to(T.COMPLETED), Facts(), NOW)).effects.tags == "release"
    assert accepted(decide(running, to(T.FAILED), Facts(), NOW, force=True)).effects.tags == "release"


def test_task_takes_its_result_from_the_cache_even_when_slots_are_full() -> None:
    run = a_task(a_state(T.PENDING))
    cached = a_state(T.COMPLETED, data=STORED)
    facts = Facts(cached=cached, tags=TagSlots(full=("db",)))
    state = rejected(decide(run, to(T.RUNNING, cache_key="k"), facts, NOW), "cached")
    assert (state.type, state.name, state.data, state.timestamp) == (T.COMPLETED, "Cached", STORED, NOW)
    assert state.id != cached.id
    accepted(decide(run, to(T.RUNNING, cache_key="k", refresh_cache=True), Facts(cached=cached), NOW))


def test_task_result_is_stored_under_its_key() -> None:
    run = a_task(a_state(T.RUNNING))
    assert accepted(decide(run, to(T.COMPLETED, cache_key="k"), Facts(), NOW)).effects.cache_key == "k"
    proposed = to(T.COMPLETED, cache_key="k" * 2001)
    decision = decide(run, proposed, Facts(), NOW)
    assert rejected(decision, "cache_key_is_too_long").id == proposed.id
    assert isinstance(decision, Reject)
    assert decision.effects is not None
    assert decision.effects.cache_key is None


def test_background_task_is_not_submitted_twice_even_by_force() -> None:
    scheduled = a_task(a_state(T.SCHEDULED, task_parameters_id=UUID(int=5)))
    decision = accepted(decide(scheduled, to(T.PENDING, deferred=True), Facts(), NOW))
    assert decision.state.state_details.task_parameters_id == UUID(int=5)
    pending = apply(scheduled, decision)
    for force in (False, True):
        aborts(decide(pending, to(T.PENDING, deferred=True), Facts(), NOW, force=force), "pending_twice")
    aborts(
        decide(a_task(a_state(T.RUNNING)), to(T.PENDING, deferred=True), Facts(), NOW),
        "task_pending_too_late",
    )
    accepted(decide(pending, to(T.PENDING), Facts(), NOW))
