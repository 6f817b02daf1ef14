"""The table of transitions for flow runs: wire 4.1 line by line, wire 4.5, and a start that happens once."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace
from tests.core.proposals import (
    BEFORE,
    DEPLOYED,
    NOW,
    STORED,
    T,
    a_claim,
    a_flow,
    a_state,
    a_task,
    aborts,
    accepted,
    apply,
    rejected,
    slot,
    stands,
    to,
)

from eparch.core.deployments import CollisionStrategy
from eparch.core.runs import FlowRunPolicy
from eparch.core.states import FINAL, StateType
from eparch.core.transitions import (
    Facts,
    Reject,
    Wait,
    decide,
    lapsed,
)

# Wire 4.1, the table of outcomes.


@pytest.mark.parametrize("type_", [T.PENDING, T.RUNNING, T.CANCELLED])
def test_wire41_pending_to_pending_is_aborted(type_: StateType) -> None:
    decision = decide(a_flow(a_state(type_)), to(T.PENDING), DEPLOYED, NOW)
    aborts(decision, "pending_twice" if type_ is T.PENDING else "pending_too_late")


def test_wire41_cancelling_to_pending_is_refused() -> None:
    stands(
        decide(a_flow(a_state(T.CANCELLING)), to(T.PENDING), DEPLOYED, NOW), "cancelling_becomes_cancelled"
    )


def test_wire41_pending_with_another_name_is_accepted_and_carries_forward() -> None:
    lease, due = uuid4(), BEFORE
    run = a_flow(a_state(T.PENDING, scheduled_time=due, deployment_concurrency_lease_id=lease))
    decision = accepted(decide(run, to(T.PENDING, "Submitting"), DEPLOYED, NOW))
    assert decision.state.name == "Submitting"
    assert decision.state.state_details.scheduled_time == due
    assert decision.state.state_details.deployment_concurrency_lease_id == lease
    assert decision.effects.claim == "keep"
    assert decision.effects.slot is None
    submitting = apply(run, decision)
    aborts(decide(submitting, to(T.PENDING, "Submitting"), DEPLOYED, NOW), "pending_twice")
    aborts(decide(submitting, to(T.PENDING), DEPLOYED, NOW), "pending_twice")


def test_w21_the_holder_of_the_claim_may_give_a_new_reason() -> None:
    run = a_flow(a_state(T.PENDING, "InfrastructurePending", message="pulling"))
    facts = Facts(has_deployment=True, presented_token=4, current_token=4)
    unschedulable = to(T.PENDING, "InfrastructurePending", message="Unschedulable: insufficient cpu")
    assert accepted(decide(run, unschedulable, facts, NOW)).state.message == unschedulable.message
    aborts(decide(run, unschedulable, DEPLOYED, NOW), "pending_twice")


@pytest.mark.parametrize("type_", [T.SCHEDULED, T.PENDING])
@pytest.mark.parametrize(("early", "seconds"), [(90.0, 90), (1.4, 2), (0.6, 1), (0.001, 1)])
def test_wire41_running_before_its_time_waits_whole_seconds(
    type_: StateType, early: float, seconds: int
) -> None:
    run = a_flow(a_state(type_, scheduled_time=NOW + timedelta(seconds=early)))
    decision = decide(run, to(T.RUNNING), Facts(), NOW)
    assert isinstance(decision, Wait)
    assert decision.delay_seconds == seconds
    assert type(decision.delay_seconds) is int


@pytest.mark.parametrize("early", [0.0, -10.0])
def test_wire41_running_at_its_time_is_accepted(early: float) -> None:
    run = a_flow(a_state(T.PENDING, scheduled_time=NOW + timedelta(seconds=early)))
    assert accepted(decide(run, to(T.RUNNING), Facts(), NOW)).effects.claim == "keep"


def test_wire41_scheduled_to_pending_copies_the_scheduled_time() -> None:
    run = a_flow(a_state(T.SCHEDULED, scheduled_time=BEFORE))
    decision = accepted(decide(run, to(T.PENDING), DEPLOYED, NOW))
    assert decision.state.state_details.scheduled_time == BEFORE
    later = NOW + timedelta(hours=1)
    own = accepted(decide(run, to(T.PENDING, scheduled_time=later), DEPLOYED, NOW))
    assert own.state.state_details.scheduled_time == later


def test_wire41_failed_with_retries_left_becomes_awaiting_retry_in_process() -> None:
    lease = uuid4()
    policy = FlowRunPolicy(retries=2, retry_delay=7, pause_keys=["1"], resuming=True)
    run = a_flow(
        a_state(T.RUNNING, deployment_concurrency_lease_id=lease), run_count=1, empirical_policy=policy
    )
    decision = decide(run, to(T.FAILED, message="boom", data=STORED), DEPLOYED, NOW)
    state = rejected(decision, "retry_flow")
    assert isinstance(decision, Reject)
    assert decision.reason == "Retrying"
    assert (state.type, state.name, state.message, state.data) == (
        T.SCHEDULED, "AwaitingRetry", "boom", STORED,
    )  # fmt: skip
    assert state.state_details.scheduled_time == NOW + timedelta(seconds=7)
    assert state.state_details.deployment_concurrency_lease_id == lease
    assert decision.effects is not None
    assert decision.effects.claim == "keep"
    assert decision.effects.slot is None
    after = decision.effects.changes["empirical_policy"]
    assert (after.retry_type, after.pause_keys, after.resuming) == ("in_process", [], False)
    waiting = apply(run, decision)
    again = apply(waiting, decide(waiting, to(T.RUNNING), DEPLOYED, NOW + timedelta(seconds=7)))
    assert again.run_count == 2


def test_b2_failed_without_retries_left_is_failed_and_can_be_polled_for_again() -> None:
    policy = FlowRunPolicy(retries=1, retry_type="in_process")
    run = a_flow(a_state(T.RUNNING), run_count=2, empirical_policy=policy)
    decision = accepted(decide(run, to(T.FAILED), DEPLOYED, NOW))
    assert decision.effects.changes["empirical_policy"].retry_type is None
    assert decision.effects.claim == "release"


@pytest.mark.parametrize("from_", sorted(FINAL))
@pytest.mark.parametrize("type_", [T.CANCELLING, T.PAUSED, T.CRASHED])
def test_wire41_terminal_to_cancelling_paused_or_crashed_is_aborted(
    from_: StateType, type_: StateType
) -> None:
    aborts(decide(a_flow(a_state(from_)), to(type_), DEPLOYED, NOW), "already_over")
    aborts(decide(a_task(a_state(from_)), to(type_), Facts(), NOW), "already_over")


@pytest.mark.parametrize("type_", [T.SCHEDULED, T.PENDING, T.RUNNING])
def test_wire41_completed_with_a_stored_result_is_not_run_again(type_: StateType) -> None:
    done = a_state(T.COMPLETED, data=STORED)
    stands(decide(a_flow(done), to(type_), DEPLOYED, NOW), "stored_result_is_final")
    stands(decide(a_task(done), to(type_), Facts(), NOW), "stored_result_is_final")
    for data in (None, {}, "text", {"type": "unpersisted"}):
        accepted(decide(a_flow(replace(done, data=data)), to(type_), DEPLOYED, NOW))


@pytest.mark.parametrize("from_", sorted(FINAL))
def test_wire41_a_run_that_ended_is_rescheduled_only_with_a_deployment(from_: StateType) -> None:
    policy = FlowRunPolicy(retry_type="in_process", pause_keys=["1"], resuming=True)
    run = a_flow(a_state(from_), empirical_policy=policy, run_count=3, end_time=BEFORE)
    aborts(decide(run, to(T.SCHEDULED), Facts(), NOW), "reschedule_needs_deployment")
    decision = accepted(decide(run, to(T.SCHEDULED, "AwaitingRetry", scheduled_time=NOW), DEPLOYED, NOW))
    after = apply(run, decision)
    assert (after.empirical_policy.retry_type, after.empirical_policy.pause_keys) == ("reschedule", [])
    assert (after.end_time, after.run_count) == (None, 3)


def test_wire41_scheduled_to_cancelling_without_infrastructure_becomes_cancelled() -> None:
    run = a_flow(a_state(T.SCHEDULED))
    state = rejected(decide(run, to(T.CANCELLING), DEPLOYED, NOW), "nothing_to_stop")
    assert state.type is T.CANCELLED
    rejected(decide(run, to(T.CANCELLING), DEPLOYED, NOW, force=True), "nothing_to_stop")
    accepted(decide(replace(run, infrastructure_pid="host:1"), to(T.CANCELLING), DEPLOYED, NOW))
    resuming = a_flow(a_state(T.SCHEDULED, "Resuming"), infrastructure_pid="host:1")
    rejected(decide(resuming, to(T.CANCELLING), DEPLOYED, NOW), "nothing_to_stop")


def test_b7_a_retry_waiting_under_a_claim_is_cancelled_through_its_process() -> None:
    policy = FlowRunPolicy(retry_type="in_process")
    run = a_flow(a_state(T.SCHEDULED, "AwaitingRetry"), empirical_policy=policy)
    facts = Facts(has_deployment=True, current_token=2)
    assert accepted(decide(run, to(T.CANCELLING), facts, NOW)).effects.claim == "keep"


def test_b7_a_cancelled_retry_does_not_run() -> None:
    run = a_flow(
        a_state(T.SCHEDULED, "AwaitingRetry"), empirical_policy=FlowRunPolicy(retry_type="in_process")
    )
    cancelled = apply(run, decide(run, to(T.CANCELLING), DEPLOYED, NOW))
    later = NOW + timedelta(seconds=5)
    aborts(decide(cancelled, to(T.RUNNING, timestamp=later), DEPLOYED, later), "cancelled_retry")
    adhoc = a_flow(a_state(T.CANCELLED))
    accepted(decide(adhoc, to(T.RUNNING), Facts(), NOW))


def test_wire41_suspended_to_cancelling_becomes_cancelled_and_paused_does_not() -> None:
    suspended = a_flow(a_state(T.PAUSED, "Suspended", pause_reschedule=True))
    state = rejected(decide(suspended, to(T.CANCELLING), DEPLOYED, NOW), "nothing_to_stop")
    assert state.type is T.CANCELLED
    paused = a_flow(a_state(T.PAUSED, pause_timeout=BEFORE))
    accepted(decide(paused, to(T.CANCELLING), DEPLOYED, NOW))


@pytest.mark.parametrize("type_", sorted(set(T) - {T.CANCELLED}))
def test_wire41_cancelling_becomes_only_cancelled(type_: StateType) -> None:
    run = a_flow(a_state(T.CANCELLING))
    stands(decide(run, to(type_), DEPLOYED, NOW), "cancelling_becomes_cancelled")
    accepted(decide(run, to(T.CANCELLED), DEPLOYED, NOW))


def test_wire41_the_same_transition_id_twice_is_rejected() -> None:
    mine = uuid4()
    run = a_flow(a_state(T.PENDING))
    running = apply(run, decide(run, to(T.RUNNING, transition_id=mine), Facts(), NOW))
    stands(decide(running, to(T.RUNNING, transition_id=mine), Facts(), NOW), "same_transition")
    accepted(decide(running, to(T.RUNNING, transition_id=uuid4()), Facts(), NOW))
    accepted(decide(a_flow(a_state(T.PENDING)), to(T.RUNNING), Facts(), NOW))


@pytest.mark.parametrize("from_", [T.SCHEDULED, T.PENDING, T.PAUSED])
def test_wire41_only_a_running_flow_pauses(from_: StateType) -> None:
    stands(decide(a_flow(a_state(from_)), to(T.PAUSED), DEPLOYED, NOW), "pause_needs_running")


def test_wire41_a_run_without_a_state_does_not_pause() -> None:
    aborts(decide(a_flow(None), to(T.PAUSED), DEPLOYED, NOW), "pause_needs_state")


def test_wire41_the_same_pause_key_twice_is_rejected() -> None:
    run = a_flow(a_state(T.RUNNING), empirical_policy=FlowRunPolicy(pause_keys=["a"]))
    stands(decide(run, to(T.PAUSED, pause_key="a"), DEPLOYED, NOW), "pause_fires_once")
    decision = accepted(decide(run, to(T.PAUSED, pause_key="b"), DEPLOYED, NOW))
    assert decision.effects.changes["empirical_policy"].pause_keys == ["a", "b"]
    accepted(decide(run, to(T.PAUSED), DEPLOYED, NOW))


def test_wire41_suspending_a_subflow_or_without_deployment_is_aborted() -> None:
    run = a_flow(a_state(T.RUNNING))
    suspended = to(T.PAUSED, "Suspended", pause_reschedule=True)
    aborts(decide(run, suspended, Facts(has_deployment=True, is_subflow=True), NOW), "suspend_subflow")
    aborts(decide(run, suspended, Facts(), NOW), "suspend_needs_deployment")
    accepted(decide(run, suspended, DEPLOYED, NOW))
    accepted(decide(run, to(T.PAUSED), Facts(is_subflow=True), NOW))


def test_wire41_paused_past_its_timeout_fails() -> None:
    run = a_flow(a_state(T.PAUSED, pause_timeout=BEFORE))
    state = rejected(decide(run, to(T.RUNNING), DEPLOYED, NOW), "pause_timed_out")
    assert state.type is T.FAILED
    accepted(decide(a_flow(a_state(T.PAUSED, pause_timeout=NOW)), to(T.RUNNING), DEPLOYED, NOW))


def test_b6_resuming_a_pause_is_no_new_attempt() -> None:
    run = a_flow(a_state(T.RUNNING), run_count=1)
    paused = apply(run, decide(run, to(T.PAUSED, pause_key="a"), DEPLOYED, NOW))
    later = NOW + timedelta(seconds=5)
    resumed = apply(paused, decide(paused, to(T.RUNNING, timestamp=later), DEPLOYED, later))
    assert resumed.state_type is T.RUNNING
    assert resumed.run_count == 1
    assert resumed.empirical_policy.resuming is False


def test_b6_a_suspended_run_frees_its_process_and_resumes_as_scheduled() -> None:
    lease = uuid4()
    policy = FlowRunPolicy(retry_type="in_process")
    run = a_flow(
        a_state(T.RUNNING, deployment_concurrency_lease_id=lease), run_count=2, empirical_policy=policy
    )
    suspension = decide(run, to(T.PAUSED, "Suspended", pause_reschedule=True), DEPLOYED, NOW)
    assert accepted(suspension).effects.claim == "release"
    assert accepted(suspension).effects.slot == "release"
    assert accepted(suspension).effects.lease_id == lease
    run = apply(run, suspension)
    assert run.state.state_details.deployment_concurrency_lease_id is None
    at = NOW
    for type_, name in ((T.SCHEDULED, "Resuming"), (T.PENDING, None), (T.RUNNING, None)):
        at += timedelta(seconds=1)
        run = apply(run, accepted(decide(run, to(type_, name, timestamp=at), DEPLOYED, at)))
        # Excluded from polling, the run would never be resumed.
        assert run.empirical_policy.retry_type == "reschedule"
    assert run.run_count == 2
    assert run.empirical_policy.resuming is False


def test_b6_a_paused_process_keeps_its_claim_and_slot() -> None:
    lease = uuid4()
    run = a_flow(a_state(T.RUNNING, deployment_concurrency_lease_id=lease))
    decision = accepted(decide(run, to(T.PAUSED), DEPLOYED, NOW))
    assert (decision.effects.claim, decision.effects.slot) == ("keep", None)
    assert decision.state.state_details.deployment_concurrency_lease_id == lease


def test_wire41_a_suspended_run_without_deployment_stays() -> None:
    run = a_flow(a_state(T.PAUSED, "Suspended", pause_reschedule=True))
    stands(decide(run, to(T.SCHEDULED, "Resuming"), Facts(), NOW), "resume_needs_deployment")
    stands(decide(run, to(T.PENDING), DEPLOYED, NOW), "paused_is_not_pending")


def test_wire44_only_a_scheduled_run_becomes_late_and_once() -> None:
    stands(
        decide(a_flow(a_state(T.PENDING)), to(T.SCHEDULED, "Late"), DEPLOYED, NOW), "only_scheduled_is_late"
    )
    run = a_flow(a_state(T.SCHEDULED, "Late"))
    stands(decide(run, to(T.SCHEDULED, "Late"), DEPLOYED, NOW), "only_scheduled_is_late")
    accepted(decide(a_flow(a_state(T.SCHEDULED)), to(T.SCHEDULED, "Late"), DEPLOYED, NOW))


# Wire 4.5: the deployment's limit.


def test_wire45_pending_takes_a_slot_and_the_lease_is_in_the_state() -> None:
    run = a_flow(a_state(T.SCHEDULED))
    decision = accepted(decide(run, to(T.PENDING), slot(1, grace_seconds=60), NOW))
    assert (decision.effects.slot, decision.effects.lease_id, decision.effects.lease_seconds) == (
        "take", UUID(int=9), 60,
    )  # fmt: skip
    assert decision.state.state_details.deployment_concurrency_lease_id == UUID(int=9)


def test_wire45_a_full_limit_enqueues_or_cancels() -> None:
    run = a_flow(a_state(T.SCHEDULED))
    decision = decide(run, to(T.PENDING), slot(0, wait_seconds=30), NOW)
    waiting = rejected(decision, "limit_is_full")
    assert (waiting.type, waiting.name) == (T.SCHEDULED, "AwaitingConcurrencySlot")
    assert waiting.state_details.scheduled_time == NOW + timedelta(seconds=30)
    assert waiting.state_details.deployment_concurrency_lease_id is None
    assert isinstance(decision, Reject)
    assert decision.effects is not None
    assert (decision.effects.claim, decision.effects.slot) == ("release", None)
    cancel = slot(0, strategy=CollisionStrategy.CANCEL_NEW)
    assert rejected(decide(run, to(T.PENDING), cancel, NOW), "limit_is_full").type is T.CANCELLED
    late_ = decide(run, to(T.SCHEDULED, "Late"), cancel, NOW)
    assert rejected(late_, "late_and_full").type is T.CANCELLED
    accepted(decide(run, to(T.SCHEDULED, "Late"), slot(0), NOW))


def test_wire45_a_run_that_waits_for_a_slot_is_polled_for() -> None:
    run = a_flow(a_state(T.CRASHED), empirical_policy=FlowRunPolicy(retry_type="in_process"))
    after = apply(run, decide(run, to(T.PENDING), slot(0), NOW))
    assert after.state_name == "AwaitingConcurrencySlot"
    assert after.empirical_policy.retry_type == "reschedule"


def test_wire45_a_limit_of_zero_or_a_deleted_deployment_aborts() -> None:
    run = a_flow(a_state(T.SCHEDULED), deployment_id=uuid4())
    aborts(decide(run, to(T.PENDING), slot(0, limit=0), NOW), "limit_is_zero")
    aborts(decide(run, to(T.PENDING), Facts(), NOW), "deployment_is_gone")


def test_wire45_running_renews_the_slot_takes_it_again_or_is_cancelled() -> None:
    lease = uuid4()
    run = a_flow(a_state(T.PENDING, deployment_concurrency_lease_id=lease))
    renewed = accepted(decide(run, to(T.RUNNING), slot(0, held=True), NOW))
    assert (renewed.effects.slot, renewed.effects.lease_id) == ("renew", lease)
    assert renewed.state.state_details.deployment_concurrency_lease_id == lease
    again = accepted(decide(run, to(T.RUNNING), slot(1), NOW))
    assert (again.effects.slot, again.effects.lease_id) == ("take", UUID(int=9))
    assert again.state.state_details.deployment_concurrency_lease_id == UUID(int=9)
    lost = decide(run, to(T.RUNNING), slot(0), NOW)
    assert rejected(lost, "slot_at_running").type is T.CANCELLED
    assert isinstance(lost, Reject)
    assert lost.effects is not None
    assert (lost.effects.slot, lost.effects.lease_id) == ("release", lease)


def test_wire45_the_slot_of_a_client_that_cannot_renew_is_pinned() -> None:
    run = a_flow(a_state(T.PENDING, deployment_concurrency_lease_id=uuid4()))
    renewing, not_renewing = slot(0, held=True), replace(slot(0, held=True), renews_slot=False)
    renewed = accepted(decide(run, to(T.RUNNING), renewing, NOW)).effects
    assert (renewed.slot, renewed.lease_seconds) == ("renew", 300)
    pinned = accepted(decide(run, to(T.RUNNING), not_renewing, NOW)).effects
    assert (pinned.slot, pinned.lease_seconds) == ("renew", None)
    stopped = accepted(decide(run, to(T.CANCELLING), not_renewing, NOW)).effects
    assert (stopped.slot, stopped.lease_seconds) == ("pin", None)
    lost = decide(run, to(T.RUNNING), replace(slot(0), renews_slot=False), NOW)
    assert rejected(lost, "slot_at_running").type is T.CANCELLED


def test_wire45_the_lease_id_is_the_servers() -> None:
    lease = uuid4()
    run = a_flow(a_state(T.RUNNING, deployment_concurrency_lease_id=lease))
    foreign = to(T.RUNNING, deployment_concurrency_lease_id=uuid4())
    decision = accepted(decide(run, foreign, DEPLOYED, NOW))
    assert decision.state.state_details.deployment_concurrency_lease_id == lease
    free = accepted(decide(a_flow(a_state(T.RUNNING)), foreign, DEPLOYED, NOW))
    assert free.state.state_details.deployment_concurrency_lease_id is None


@pytest.mark.parametrize("type_", sorted(FINAL))
def test_wire45_an_end_releases_the_slot_and_the_claim(type_: StateType) -> None:
    lease = uuid4()
    run = a_flow(a_state(T.RUNNING, deployment_concurrency_lease_id=lease))
    decision = accepted(decide(run, to(type_), DEPLOYED, NOW))
    assert (decision.effects.claim, decision.effects.slot, decision.effects.lease_id) == (
        "release", "release", lease,
    )  # fmt: skip
    assert decision.state.state_details.deployment_concurrency_lease_id is None


# Eparch's own safety.


def test_w15_pending_takes_the_claim() -> None:
    assert (
        accepted(decide(a_flow(a_state(T.SCHEDULED)), to(T.PENDING), DEPLOYED, NOW)).effects.claim == "take"
    )


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("type_", sorted(T))
def test_w15_a_stale_token_writes_nothing(type_: StateType, force: bool) -> None:
    for current in (None, 4):
        facts = Facts(has_deployment=True, presented_token=3, current_token=current)
        for from_ in (None, *(a_state(t) for t in T)):
            aborts(decide(a_flow(from_), to(type_), facts, NOW, force=force), "stale_token")
            aborts(decide(a_task(from_), to(type_), facts, NOW, force=force), "stale_token")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("from_", [T.SCHEDULED, T.PENDING, T.RUNNING, T.CRASHED])
def test_w15_running_is_refused_while_another_holds_the_claim(from_: StateType, force: bool) -> None:
    facts = Facts(has_deployment=True, current_token=4)
    run = a_flow(a_state(from_))
    aborts(decide(run, to(T.RUNNING), facts, NOW, force=force), "claimed_by_another")
    aborts(decide(run, to(T.PENDING, "Submitting"), facts, NOW, force=force), "claimed_by_another")
    accepted(decide(run, to(T.RUNNING), replace(facts, presented_token=4), NOW, force=force))


def test_w15_anybody_may_resume_a_paused_run_but_not_start_it() -> None:
    facts = Facts(has_deployment=True, current_token=4)
    run = a_flow(a_state(T.PAUSED))
    accepted(decide(run, to(T.RUNNING), facts, NOW))
    aborts(decide(run, to(T.PENDING), facts, NOW, force=True), "claimed_by_another")


def test_w15_a_repeated_end_is_no_stale_write() -> None:
    mine = uuid4()
    held = Facts(has_deployment=True, presented_token=4, current_token=4)
    run = a_flow(a_state(T.RUNNING))
    done = apply(run, decide(run, to(T.COMPLETED, transition_id=mine), held, NOW))
    released = replace(held, current_token=None)
    stands(decide(done, to(T.COMPLETED, transition_id=mine), released, NOW), "same_transition")


def test_w16_a_job_that_starts_after_its_claim_lapsed_is_refused() -> None:
    run = a_flow(a_state(T.PENDING, scheduled_time=BEFORE))
    claim = a_claim(lease_until=BEFORE)
    back = lapsed(run, claim, NOW)
    assert back is not None
    decision = accepted(decide(run, back, Facts(has_deployment=True, current_token=claim.token), NOW))
    assert decision.effects.claim == "release"
    late_job = Facts(has_deployment=True, presented_token=claim.token, current_token=None)
    aborts(decide(apply(run, decision), to(T.RUNNING), late_job, NOW), "stale_token")
    reclaimed = replace(late_job, current_token=claim.token + 1)
    aborts(decide(apply(run, decision), to(T.RUNNING), reclaimed, NOW), "stale_token")


@pytest.mark.parametrize("from_", sorted(FINAL))
@pytest.mark.parametrize("type_", sorted(FINAL - {T.CRASHED}))
def test_b5_an_end_is_final(from_: StateType, type_: StateType) -> None:
    stands(decide(a_flow(a_state(from_)), to(type_), DEPLOYED, NOW), "final_is_final")
    stands(decide(a_task(a_state(from_)), to(type_), Facts(), NOW), "final_is_final")
    accepted(decide(a_flow(a_state(from_)), to(type_), DEPLOYED, NOW, force=True))


def test_wire41_force_does_not_lose_a_stored_result() -> None:
    run = a_flow(a_state(T.COMPLETED, data=STORED))
    for force in (False, True):
        stands(decide(run, to(T.COMPLETED), DEPLOYED, NOW, force=force), "result_is_kept")
    accepted(decide(run, to(T.COMPLETED, data={"type": "result-record"}), DEPLOYED, NOW, force=True))
    accepted(decide(run, to(T.SCHEDULED), DEPLOYED, NOW, force=True))


def test_wire41_force_skips_the_rest() -> None:
    run = a_flow(a_state(T.PENDING, scheduled_time=NOW + timedelta(hours=1)))
    accepted(decide(run, to(T.RUNNING), Facts(), NOW, force=True))
    accepted(decide(run, to(T.PENDING, "NotReady"), Facts(), NOW, force=True))
    running = a_flow(a_state(T.RUNNING), run_count=1, empirical_policy=FlowRunPolicy(retries=3))
    assert accepted(decide(running, to(T.FAILED), Facts(), NOW, force=True)).state.type is T.FAILED


def test_b2_a_rescheduled_run_is_polled_for_again() -> None:
    run = a_flow(a_state(T.RUNNING), empirical_policy=FlowRunPolicy(retry_type="in_process"))
    for force in (False, True):
        decision = accepted(decide(run, to(T.SCHEDULED, "AwaitingRetry"), DEPLOYED, NOW, force=force))
        assert decision.effects.claim == "release"
        assert decision.effects.changes["empirical_policy"].retry_type == "reschedule"


def test_the_history_is_strictly_ordered() -> None:
    run = a_flow(a_state(T.PENDING, timestamp=NOW))
    state = accepted(decide(run, to(T.RUNNING, timestamp=NOW), Facts(), NOW)).state
    assert state.timestamp == NOW + timedelta(microseconds=1)


def test_a_state_names_its_run() -> None:
    parent = uuid4()
    run = a_flow(a_state(T.PENDING), parent_task_run_id=parent)
    details = accepted(decide(run, to(T.RUNNING, flow_run_id=uuid4()), Facts(), NOW)).state.state_details
    assert (details.flow_run_id, details.task_run_id) == (run.id, parent)
    task = a_task(a_state(T.PENDING), flow_run_id=parent)
    details = accepted(decide(task, to(T.RUNNING), Facts(), NOW)).state.state_details
    assert (details.flow_run_id, details.task_run_id) == (parent, task.id)
