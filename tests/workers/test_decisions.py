import itertools
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from eparch.core.errors import InfrastructureError
from eparch.core.model import new_id
from eparch.core.runs import FlowRun, FlowRunPolicy
from eparch.core.states import FINAL, Pending, Running, Scheduled, StateType, state
from eparch.workers.decisions import (
    StopReason,
    decide_after_exit,
    decide_after_failed_start,
    hand_back,
    must_stop_when_lost,
)
from eparch.workers.infrastructure import Exit

TIME = datetime(2026, 1, 1, tzinfo=UTC)
CLAIMED = FlowRun(id=new_id(), name="r", flow_id=new_id(), state=Pending())
ENDED = Exit(code=1, stderr="boom")


def in_state(type_: StateType, **more) -> FlowRun:
    return replace(CLAIMED, state=state(type_), **more)


def after_exit(run: FlowRun, reason=None, seen=ENDED):
    return decide_after_exit(CLAIMED, run, seen, reason, "w")


@pytest.mark.parametrize("type_", sorted(FINAL | {StateType.PAUSED, StateType.SCHEDULED}))
@pytest.mark.parametrize("reason", [None, StopReason.SHUTDOWN])
def test_what_the_run_told_itself_stands(type_, reason):
    assert after_exit(in_state(type_), reason) is None


@pytest.mark.parametrize("code", [0, 1, -9, None])
@pytest.mark.parametrize("type_", [StateType.PENDING, StateType.RUNNING])
def test_w17_what_was_under_way_crashed_whatever_the_code(type_, code):
    decided = after_exit(in_state(type_), seen=Exit(code=code))
    assert decided is not None
    assert decided.is_crashed()


def test_w17_a_run_that_waits_for_its_next_attempt_in_a_dead_process_crashed():
    run = in_state(StateType.SCHEDULED, empirical_policy=FlowRunPolicy(retry_type="in_process"))
    decided = after_exit(run)
    assert decided is not None
    assert decided.is_crashed()


def test_a_run_that_ran_and_is_pending_again_is_somebody_elses():
    assert after_exit(in_state(StateType.PENDING, run_count=1)) is None


@pytest.mark.parametrize("reason", [None, StopReason.CANCEL, StopReason.SHUTDOWN])
def test_w20_a_cancelling_run_is_cancelled_when_its_job_is_gone(reason):
    decided = after_exit(in_state(StateType.CANCELLING), reason)
    assert decided is not None
    assert decided.is_cancelled()


def test_a_lost_run_is_never_reported():
    for type_ in StateType:
        assert after_exit(in_state(type_), StopReason.LOST) is None
    assert decide_after_failed_start(CLAIMED, ValueError("x"), StopReason.LOST) is None


def test_a_run_that_was_not_begun_waits_again_for_its_own_time():
    run = replace(CLAIMED, state=Pending(state_details=Scheduled(TIME).state_details))
    for reason, error in itertools.product([None, StopReason.SHUTDOWN], [None]):
        decided = decide_after_failed_start(run, error, reason)
        assert decided is not None
        assert decided.is_scheduled()
        assert decided.state_details.scheduled_time == TIME
    assert hand_back(replace(CLAIMED, expected_start_time=TIME)).state_details.scheduled_time == TIME


def test_a_failed_start_says_what_to_do():
    error = InfrastructureError("No room.", why="the disk is full", fix="Make room.")
    decided = decide_after_failed_start(CLAIMED, error, None)
    assert decided is not None
    assert decided.is_crashed()
    assert decided.message is not None
    assert decided.message.endswith("No room.\nthe disk is full\nMake room.")
    cancelled = decide_after_failed_start(CLAIMED, None, StopReason.CANCEL)
    assert cancelled is not None
    assert cancelled.is_cancelled()


def test_whose_job_is_ended_when_its_claim_is_gone():
    ended = {type_ for type_ in StateType if must_stop_when_lost(in_state(type_))}
    assert ended == set(StateType) - {StateType.COMPLETED, StateType.FAILED, StateType.PAUSED}
    waiting = in_state(StateType.SCHEDULED, empirical_policy=FlowRunPolicy(retry_type="in_process"))
    assert not must_stop_when_lost(waiting)
    assert must_stop_when_lost(replace(CLAIMED, state=Running()))
