"""What the rules of flow runs ask and do, and those that both kinds of runs share, over one ``Case``.

Does not own their order, nor for which states they are tried: the table in ``transitions`` does.
The docstring of a predicate is printed in docs/states.md, so it reads as a condition.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from eparch.core.cases import Case
from eparch.core.decisions import Decision, Wait, replaced
from eparch.core.deployments import CollisionStrategy
from eparch.core.runs import FlowRun, retries_of
from eparch.core.states import AwaitingRetry, Cancelled, Failed, Scheduled, State, StateType


def has_persisted_result(data: Any) -> bool:
    """``data`` of a state names a result that was stored (wire: ``ResultRecordMetadata``)."""
    return isinstance(data, dict) and bool(data) and data.get("type") != "unpersisted"


# Repeated and stale writers.


def has_made_this_transition(case: Case) -> bool:
    """Its `transition_id` is the current state's."""
    mine = case.new.state_details.transition_id
    return mine is not None and case.old is not None and mine == case.old.state_details.transition_id


def token_is_stale(case: Case) -> bool:
    """A token was presented that is not the claim's."""
    presented = case.facts.presented_token
    return presented is not None and presented != case.facts.current_token


def claim_is_of_another(case: Case) -> bool:
    """The claim has a token and it was not presented (a paused run may be resumed by anybody)."""
    facts = case.facts
    if facts.current_token is None or facts.presented_token == facts.current_token:
        return False
    # Somebody else may resume a paused run: its own process goes on, nothing is started.
    resumed = (
        case.old is not None and case.old.type is StateType.PAUSED and case.new.type is StateType.RUNNING
    )
    return not resumed


# Runs that are over.


def result_would_be_lost(case: Case) -> bool:
    """The current state has a stored result, the proposed one has none."""
    return has_persisted_result(case.current.data) and not has_persisted_result(case.new.data)


def has_stored_result(case: Case) -> bool:
    """The result is stored."""
    return has_persisted_result(case.current.data)


def has_no_deployment(case: Case) -> bool:
    """The run has no deployment."""
    return not case.facts.has_deployment


def was_cancelled_before_its_retry(case: Case) -> bool:
    """It was cancelled while it waited for a retry in its process."""
    return case.flow_policy.retry_type == "in_process"


def is_of_a_queue(case: Case) -> bool:
    """It is given to workers by a queue."""
    return isinstance(case.run, FlowRun) and case.run.work_queue_id is not None


def start_over(case: Case) -> None:
    """Pauses and retries begin anew."""
    scheduled = case.new.type is StateType.SCHEDULED
    case.set_policy(resuming=False, pause_keys=[], retry_type="reschedule" if scheduled else None)


# Cancelling.


def has_nothing_to_stop(case: Case) -> bool:
    """It has no infrastructure: no pid and no claim, or it is suspended or Resuming."""
    if case.current.type is StateType.PAUSED:
        return case.current.state_details.pause_reschedule
    if case.current.name == "Resuming":
        return True
    assert isinstance(case.run, FlowRun)
    return not case.run.infrastructure_pid and case.facts.current_token is None


def cancel_at_once(case: Case) -> Decision:
    """Cancelled instead of Cancelling."""
    return case.instead(Cancelled(timestamp=case.now), "The run has no infrastructure that must be stopped.")


# Pending.


def is_guarded_kind(case: Case) -> bool:
    """A flow run, or a deferred task run."""
    return isinstance(case.run, FlowRun) or bool(case.new.state_details.deferred)


def is_next_sub_state(case: Case) -> bool:
    """Another name that is not Pending (the claim's holder: or another message)."""
    if case.new.name == "Pending" or not is_guarded_kind(case):
        return False
    # The holder of the claim may also give a new reason under the same name (row W21).
    held = case.facts.presented_token is not None and case.new.message != case.current.message
    return held or case.new.name != case.current.name


def carry_forward(case: Case) -> None:
    """Keep the scheduled time of the sub-state before."""
    case.new = replaced(case.new, scheduled_time=case.current.state_details.scheduled_time)


def is_no_next_sub_state(case: Case) -> bool:
    """A flow run or a deferred task run, and no next sub-state."""
    return is_guarded_kind(case) and not is_next_sub_state(case)


# The deployment's concurrency limit (wire 4.5).


WAITS_FOR_SLOT = "AwaitingConcurrencySlot"
"""The name of the state in which a run waits for a slot of its deployment's limit."""


def holds_a_limited_slot(case: Case) -> bool:
    """It has a slot's lease and the deployment a limit."""
    return case.lease_id is not None and case.facts.slot is not None


def renew_slot(case: Case) -> Decision | None:
    """Renew the lease, else take a new slot, else give up: the infrastructure stands already."""
    slot = case.facts.slot
    assert slot is not None
    if slot.held:
        case.slot = "renew"
        return None
    if slot.free > 0:
        case.slot, case.lease_id = "take", slot.lease_id
        return None
    lost = Cancelled(
        timestamp=case.now,
        message="The run's concurrency slot lapsed before it began, and others have taken all slots since.",
    )
    return case.instead(lost, "The deployment's concurrency limit is full again.")


def client_does_not_renew(case: Case) -> bool:
    """It has a slot's lease and its client does not renew it."""
    return case.lease_id is not None and not case.facts.renews_slot


def pin_slot(case: Case) -> None:
    """The lease no longer lapses."""
    case.pinned = True
    case.slot = case.slot or "pin"


def deployment_is_gone(case: Case) -> bool:
    """Its deployment was deleted."""
    return (
        isinstance(case.run, FlowRun) and case.run.deployment_id is not None and not case.facts.has_deployment
    )


def pool_is_full(case: Case) -> bool:
    """The limit of its work pool or queue is taken."""
    return case.facts.pool_is_full


def limit_is_zero(case: Case) -> bool:
    """The deployment's limit is 0."""
    return case.facts.slot is not None and case.facts.slot.limit == 0


def limit_is_full(case: Case) -> bool:
    """No slot is free and it holds none."""
    slot = case.facts.slot
    return slot is not None and slot.free <= 0 and not (slot.held and case.lease_id is not None)


def stand_back(case: Case) -> Decision:
    """Wait for a slot, or be cancelled, as the deployment says."""
    slot = case.facts.slot
    assert slot is not None
    if slot.strategy is CollisionStrategy.CANCEL_NEW:
        message = "The deployment's concurrency limit was full and cancels new runs."
        return case.instead(Cancelled(timestamp=case.now, message=message), message)
    takes_over = slot.strategy is CollisionStrategy.CANCEL_RUNNING
    # It stays due: who waits for slots finds it as soon as those that it supersedes have stopped.
    due = case.now if takes_over else case.now + timedelta(seconds=slot.wait_seconds)
    waiting = Scheduled(due, WAITS_FOR_SLOT, timestamp=case.now)
    answer = case.instead(waiting, "The deployment's concurrency limit is full.")
    if takes_over and not (case.old is not None and case.old.name == WAITS_FOR_SLOT):
        case.cancels = slot.superseded
    if waits_in_process(case):
        leave_process(case)
    return answer


def there_is_a_limit(case: Case) -> bool:
    """The deployment has a limit."""
    return case.facts.slot is not None


def take_slot(case: Case) -> None:
    """Take a slot, or renew the one that is held."""
    slot = case.facts.slot
    assert slot is not None
    if slot.held and case.lease_id is not None:
        case.slot = "renew"
    else:
        case.slot, case.lease_id = "take", slot.lease_id


# Late runs.


def cannot_become_late(case: Case) -> bool:
    """Proposed is Late, and the run is not scheduled or is Late."""
    if case.new.name != "Late":
        return False
    return case.current.type is not StateType.SCHEDULED or case.current.name == "Late"


def is_late_for_a_full_limit(case: Case) -> bool:
    """Proposed is Late, and the limit is full and cancels new runs."""
    slot = case.facts.slot
    cancels = slot is not None and slot.strategy is CollisionStrategy.CANCEL_NEW
    return cancels and case.new.name == "Late" and limit_is_full(case)


# Pausing and resuming.


def _pausing(state: State) -> str:
    return "suspended" if state.name == "Suspended" else "paused"


def pause_has_fired(case: Case) -> bool:
    """The pause key is one of the run's."""
    key = case.new.state_details.pause_key
    return key is not None and key in (case.flow_policy.pause_keys or ())


def suspends_a_subflow(case: Case) -> bool:
    """It suspends, and is a subflow."""
    return case.new.state_details.pause_reschedule and case.facts.is_subflow


def suspends_without_deployment(case: Case) -> bool:
    """It suspends, and has no deployment."""
    return case.new.state_details.pause_reschedule and not case.facts.has_deployment


def remember_pause(case: Case) -> None:
    """Keep the key of a pause that fires."""
    key = case.new.state_details.pause_key
    if key is not None:
        case.set_policy(pause_keys=[*(case.flow_policy.pause_keys or ()), key])


def is_suspended_without_deployment(case: Case) -> bool:
    """It is suspended, and has no deployment."""
    return case.current.state_details.pause_reschedule and not case.facts.has_deployment


def pause_is_over(case: Case) -> bool:
    """The pause's timeout is past."""
    timeout = case.current.state_details.pause_timeout
    return timeout is not None and timeout < case.now


def fail_unresumed(case: Case) -> Decision:
    """Failed instead of what was proposed."""
    message = f"The run was {_pausing(case.current)} and nobody resumed it in time."
    return case.instead(Failed(timestamp=case.now, message=message), message)


def resume(case: Case) -> None:
    """Mark the run: what it does next is no new attempt."""
    case.set_policy(resuming=True)


def waits_in_process(case: Case) -> bool:
    """The run's last retry was in its process."""
    return case.flow_policy.retry_type == "in_process"


def leave_process(case: Case) -> None:
    """Workers may start the run again."""
    case.set_policy(retry_type="reschedule")


# Time.


def copy_scheduled_time(case: Case) -> None:
    """The pending state keeps the scheduled time, unless it has its own."""
    if case.new.state_details.scheduled_time is None:
        case.new = replaced(case.new, scheduled_time=case.current.state_details.scheduled_time)


def _seconds_early(case: Case) -> int:
    due = case.current.state_details.scheduled_time
    return 0 if due is None else math.ceil((due - case.now).total_seconds())


def is_too_early(case: Case) -> bool:
    """The scheduled time is ahead."""
    return _seconds_early(case) > 0


def wait_for_time(case: Case) -> Decision:
    """Wait whole seconds, rounded up: user code never begins before its time (row W7)."""
    return Wait(delay_seconds=_seconds_early(case), reason="The run's scheduled time has not come.")


# Retries.


def has_flow_retries_left(case: Case) -> bool:
    """`run_count` <= `retries`."""
    return 0 < retries_of(case.flow_policy) >= case.run.run_count


def retry_flow(case: Case) -> Decision:
    """AwaitingRetry instead of Failed, in the same process."""
    policy = case.flow_policy
    delay = policy.retry_delay if policy.retry_delay is not None else policy.retry_delay_seconds
    again = AwaitingRetry(
        case.now + timedelta(seconds=max(delay, 0)),
        timestamp=case.now,
        message=case.new.message,
        data=case.new.data,
    )
    answer = case.instead(again, "Retrying")
    case.set_policy(resuming=False, pause_keys=[], retry_type="in_process")
    return answer


def end_retries(case: Case) -> None:
    """Nothing waits in a process any more."""
    if case.flow_policy.retry_type is not None:
        case.set_policy(retry_type=None)
