"""THE table: which state may follow which, and what goes with it (wire 4.1, rows W15-W17, B2, B5-B7).

Owns the rules' order, the states they are tried for, ``decide``, and what the watchdog proposes when time
runs out. What one rule asks and does is in ``rules``; reading the facts and writing the outcome is not here.
docs/states.md is printed from this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from eparch.core import crash_retries, rules, task_rules
from eparch.core.cases import Case, abort, always, complete, occupies, reject
from eparch.core.decisions import (
    Abort,
    Accept,
    Decision,
    Effects,
    Enclosing,
    Facts,
    Reject,
    Slot,
    TagSlots,
    Wait,
)
from eparch.core.pools import Claim
from eparch.core.runs import FlowRun, TaskRun
from eparch.core.states import FINAL, Cancelled, Crashed, Failed, Late, Scheduled, State, StateType

__all__ = [
    "TABLE",
    "Abort",
    "Accept",
    "Decision",
    "Effects",
    "Enclosing",
    "Facts",
    "Reject",
    "Rule",
    "Slot",
    "TagSlots",
    "Wait",
    "cancel_expired",
    "decide",
    "lapsed",
    "late",
    "pause_expired",
    "rules_for",
]

Kind = Literal["flow", "task"]
From = StateType | None
"""None: the run has no state yet."""

FLOW: tuple[Kind, ...] = ("flow",)
TASK: tuple[Kind, ...] = ("task",)
BOTH: tuple[Kind, ...] = ("flow", "task")

S = StateType
NONE: frozenset[From] = frozenset({None})
TYPES: frozenset[StateType] = frozenset(S)
ANY: frozenset[From] = TYPES | NONE
OPEN = TYPES - FINAL
STARTED = frozenset({S.PENDING, S.RUNNING, S.CANCELLING})
UNSTARTED: frozenset[From] = ANY - STARTED - {S.PAUSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row: tried in the order of the table when the run's kind and both states fit and ``when`` holds.

    ``act`` answers, or rewrites the case and returns None; then the next rule is tried.
    """

    name: str
    kinds: tuple[Kind, ...]
    from_: frozenset[From] | frozenset[StateType]
    to: frozenset[StateType]
    act: Callable[[Case], Decision | None]
    summary: str
    source: str
    when: Callable[[Case], bool] = always
    answers: tuple[str, ...] = ()
    """What it may answer, as docs/states.md shows it; () when it only rewrites."""
    forced: bool = False
    """It is tried under ``force`` too."""


def _only(*types: StateType) -> frozenset[StateType]:
    return frozenset(types)


TABLE: tuple[Rule, ...] = (
    Rule(
        name="same_transition", kinds=BOTH, from_=ANY, to=TYPES, forced=True,
        when=rules.has_made_this_transition,
        act=reject("The run has made this very transition already."),
        answers=("REJECT",),
        summary="A repeated request changes nothing: its first answer was lost.", source="wire 4.1",
    ),
    Rule(
        name="stale_token", kinds=BOTH, from_=ANY, to=TYPES, forced=True,
        when=rules.token_is_stale,
        act=abort("The claim under which this process was started is over, so it must stop."),
        answers=("ABORT",),
        summary="A process whose claim is over writes nothing any more.", source="W15, W16",
    ),
    Rule(
        name="claimed_by_another", kinds=FLOW, from_=ANY, to=_only(S.PENDING, S.RUNNING), forced=True,
        when=rules.claim_is_of_another,
        act=abort("Another worker holds the claim of this run; only what it started may go on with it."),
        answers=("ABORT",),
        summary="Only what the holder of the claim started may start the run.", source="W15",
    ),
    Rule(
        name="cached", kinds=TASK, from_=ANY, to=_only(S.RUNNING),
        when=task_rules.is_cached, act=task_rules.use_cached, answers=("REJECT, writes Cached",),
        summary="A task whose result is cached does not run.", source="CacheRetrieval",
    ),
    Rule(
        name="already_over", kinds=BOTH, from_=FINAL, to=_only(S.CANCELLING, S.PAUSED, S.CRASHED),
        act=abort("The run has ended already, it is {state}."),
        answers=("ABORT",),
        summary="A run that has ended can be neither stopped nor crash.", source="wire 4.1",
    ),
    Rule(
        name="result_is_kept", kinds=FLOW, from_=_only(S.COMPLETED), to=_only(S.COMPLETED), forced=True,
        when=rules.result_would_be_lost,
        act=reject("The run is COMPLETED with a stored result, which the proposed state would lose."),
        answers=("REJECT",),
        summary="A stored result is not overwritten by none.", source="wire 4.1",
    ),
    Rule(
        name="stored_result_is_final", kinds=BOTH, from_=_only(S.COMPLETED), to=OPEN,
        when=rules.has_stored_result,
        act=reject("The run is already COMPLETED and its result is stored."),
        answers=("REJECT",),
        summary="A run with a stored result is not run again.", source="wire 4.1",
    ),
    Rule(
        name="final_is_final", kinds=BOTH, from_=FINAL, to=FINAL,
        act=reject("The run has ended as {state}, and an end is final."),
        answers=("REJECT",),
        summary="A run that has ended does not end again in another way.", source="B5",
    ),
    Rule(
        name="reschedule_needs_deployment", kinds=FLOW, from_=FINAL, to=_only(S.SCHEDULED),
        when=rules.has_no_deployment,
        act=abort("The run has no deployment, so nothing could start it again."),
        answers=("ABORT",),
        summary="Without a deployment nobody would start the run again.", source="wire 4.1",
    ),
    Rule(
        name="cancelled_retry", kinds=FLOW, from_=_only(S.CANCELLED), to=_only(S.RUNNING),
        when=rules.was_cancelled_before_its_retry,
        act=abort("The run was cancelled while it waited for its retry."),
        answers=("ABORT",),
        summary="A process that slept until its retry finds that the run was cancelled.", source="B7",
    ),
    Rule(
        name="polled_before_it_ended", kinds=FLOW, from_=FINAL, to=_only(S.PENDING),
        when=rules.is_of_a_queue,
        act=abort("The run has ended as {state}. To start it again, schedule it: a worker takes it then."),
        answers=("ABORT",),
        summary="A worker that acts on an old poll does not start again what another has ended.",
        source="W15",
    ),
    Rule(
        name="start_over", kinds=FLOW, from_=FINAL, to=_only(S.SCHEDULED, S.PENDING, S.RUNNING),
        act=rules.start_over,
        summary="Pauses may fire again; a rescheduled run is polled for again.", source="wire 4.1",
    ),
    Rule(
        name="start_task_over", kinds=TASK, from_=FINAL, to=OPEN,
        act=task_rules.start_task_over,
        summary="Attempts are counted anew; under a retried flow the state is named Retrying.",
        source="HandleTaskTerminalStateTransitions",
    ),
    Rule(
        name="cancelling_becomes_cancelled", kinds=FLOW, from_=_only(S.CANCELLING), to=TYPES - {S.CANCELLED},
        act=reject("The run is being cancelled; it can only become CANCELLED."),
        answers=("REJECT",),
        summary="What is being cancelled ends CANCELLED.", source="wire 4.1",
    ),
    Rule(
        name="nothing_to_stop", kinds=FLOW, from_=_only(S.SCHEDULED, S.PAUSED), to=_only(S.CANCELLING),
        forced=True, when=rules.has_nothing_to_stop, act=rules.cancel_at_once,
        answers=("REJECT, writes Cancelled",),
        summary="Without infrastructure there is nothing to wait for.", source="wire 4.1",
    ),
    Rule(
        name="next_sub_state", kinds=BOTH, from_=_only(S.PENDING), to=_only(S.PENDING),
        when=rules.is_next_sub_state, act=rules.carry_forward,
        summary="Submitting, InfrastructurePending ...: the scheduled time goes with it.",
        source="wire 4.1, W21",
    ),
    Rule(
        name="pending_twice", kinds=BOTH, from_=_only(S.PENDING), to=_only(S.PENDING),
        when=rules.is_no_next_sub_state,
        act=abort("The run is {state_type}, so it cannot be started again: not PENDING."),
        answers=("ABORT",),
        summary="The second of two workers stops here.", source="wire 4.1, W15",
    ),
    Rule(
        name="pending_too_late", kinds=FLOW, from_=_only(S.RUNNING, S.CANCELLING, S.CANCELLED),
        to=_only(S.PENDING),
        act=abort("The run is {state_type}, so it cannot be started again: not PENDING."),
        answers=("ABORT",),
        summary="What runs or was cancelled is not submitted again.", source="wire 4.1, W15",
    ),
    Rule(
        name="task_pending_too_late", kinds=TASK, from_=_only(S.RUNNING, S.CANCELLING, S.CANCELLED),
        to=_only(S.PENDING), when=task_rules.is_deferred,
        act=abort("The task run is {state_type}, so it cannot be started again: not PENDING."),
        answers=("ABORT",),
        summary="A background task that runs or was cancelled is not submitted again.",
        source="BackgroundTaskPolicy",
    ),
    Rule(
        name="slot_at_running", kinds=FLOW, from_=_only(S.PENDING), to=_only(S.RUNNING),
        when=rules.holds_a_limited_slot, act=rules.renew_slot, answers=("REJECT, writes Cancelled",),
        summary="The slot is renewed or, when it lapsed, taken again; if all are taken the run is cancelled.",
        source="wire 4.5",
    ),
    Rule(
        name="deployment_is_gone", kinds=FLOW, from_=UNSTARTED, to=_only(S.PENDING),
        when=rules.deployment_is_gone,
        act=abort("The run's deployment was deleted."),
        answers=("ABORT",),
        summary="There is nothing left to start.", source="SecureFlowConcurrencySlots",
    ),
    Rule(
        name="pool_is_full", kinds=FLOW, from_=UNSTARTED - NONE, to=_only(S.PENDING),
        when=rules.pool_is_full,
        act=abort("The work pool or its queue has no free slot. The run stays {state} and is polled again."),
        answers=("ABORT",),
        summary="The limits of pool and queue hold at the claim, not at the poll.", source="P14",
    ),
    Rule(
        name="limit_is_zero", kinds=FLOW, from_=UNSTARTED, to=_only(S.PENDING),
        when=rules.limit_is_zero,
        act=abort("The deployment's concurrency limit is 0, so the run could never start. Raise the limit."),
        answers=("ABORT",),
        summary="A limit of 0 would keep the run waiting for ever.", source="wire 4.5",
    ),
    Rule(
        name="limit_is_full", kinds=FLOW, from_=UNSTARTED, to=_only(S.PENDING),
        when=rules.limit_is_full, act=rules.stand_back,
        answers=("REJECT, writes AwaitingConcurrencySlot", "REJECT, writes Cancelled"),
        summary="ENQUEUE waits, CANCEL_NEW ends the run, CANCEL_RUNNING waits and has the oldest stopped.",
        source="wire 4.5, B4",
    ),
    Rule(
        name="take_slot", kinds=FLOW, from_=UNSTARTED, to=_only(S.PENDING),
        when=rules.there_is_a_limit, act=rules.take_slot,
        summary="The run takes a slot before its infrastructure is made.", source="wire 4.5",
    ),
    Rule(
        name="pin_slot", kinds=FLOW, from_=_only(S.PENDING), to=_only(S.RUNNING, S.CANCELLING),
        when=rules.client_does_not_renew, act=rules.pin_slot,
        summary="The slot of a client that cannot renew it does not lapse.",
        source="RemoveDeploymentConcurrencyLeaseForOldClientVersions",
    ),
    Rule(
        name="only_scheduled_is_late", kinds=FLOW, from_=TYPES, to=_only(S.SCHEDULED),
        when=rules.cannot_become_late,
        act=reject("Only a scheduled run that is not marked yet can be marked late."),
        answers=("REJECT",),
        summary="A run becomes late once, while it waits.", source="wire 4.4",
    ),
    Rule(
        name="late_and_full", kinds=FLOW, from_=_only(S.SCHEDULED), to=_only(S.SCHEDULED),
        when=rules.is_late_for_a_full_limit, act=rules.stand_back, answers=("REJECT, writes Cancelled",),
        summary="CANCEL_NEW cancels a late run as well.", source="EnforceDeploymentConcurrencyOnLate",
    ),
    Rule(
        name="pause_needs_state", kinds=FLOW, from_=NONE, to=_only(S.PAUSED),
        act=abort("A run without a state cannot be {pausing}."),
        answers=("ABORT",),
        summary="A run without a state cannot pause.", source="HandlePausingFlows",
    ),
    Rule(
        name="pause_needs_running", kinds=FLOW, from_=TYPES - {S.RUNNING}, to=_only(S.PAUSED),
        act=reject("Only a running flow can be {pausing}; this one is {state}."),
        answers=("REJECT",),
        summary="Only a running flow pauses.", source="wire 4.1, B6",
    ),
    Rule(
        name="pause_fires_once", kinds=FLOW, from_=_only(S.RUNNING), to=_only(S.PAUSED),
        when=rules.pause_has_fired,
        act=reject("The run has been here before: this pause is over."),
        answers=("REJECT",),
        summary="After a resume the same pause lets the flow go on.", source="wire 4.1, B6",
    ),
    Rule(
        name="suspend_subflow", kinds=FLOW, from_=_only(S.RUNNING), to=_only(S.PAUSED),
        when=rules.suspends_a_subflow,
        act=abort("A subflow runs in its parent's process, so it cannot be suspended. Pause it instead."),
        answers=("ABORT",),
        summary="A subflow lives in its parent's process.", source="wire 4.1, B6",
    ),
    Rule(
        name="suspend_needs_deployment", kinds=FLOW, from_=_only(S.RUNNING), to=_only(S.PAUSED),
        when=rules.suspends_without_deployment,
        act=abort("A run without a deployment cannot be suspended: nothing could start it again."),
        answers=("ABORT",),
        summary="Nobody would start it again.", source="wire 4.1, B6",
    ),
    Rule(
        name="remember_pause", kinds=FLOW, from_=_only(S.RUNNING), to=_only(S.PAUSED),
        act=rules.remember_pause,
        summary="The pause key is kept with the run.", source="wire 4.1, B6",
    ),
    Rule(
        name="paused_is_not_pending", kinds=FLOW, from_=_only(S.PAUSED), to=_only(S.PENDING),
        act=reject("A paused run cannot become {proposed}; resume it or end it."),
        answers=("REJECT",),
        summary="A paused run is resumed, not submitted.", source="HandleResumingPausedFlows",
    ),
    Rule(
        name="resume_needs_deployment", kinds=FLOW, from_=_only(S.PAUSED), to=TYPES,
        when=rules.is_suspended_without_deployment,
        act=reject("The suspended run has lost its deployment, so nothing can start it again."),
        answers=("REJECT",),
        summary="Nothing could start it again.", source="HandleResumingPausedFlows",
    ),
    Rule(
        name="pause_timed_out", kinds=FLOW, from_=_only(S.PAUSED), to=TYPES - {S.CANCELLING},
        when=rules.pause_is_over, act=rules.fail_unresumed, answers=("REJECT, writes Failed",),
        summary="A pause past its timeout fails the run.", source="wire 4.1, B6",
    ),
    Rule(
        name="resume", kinds=FLOW, from_=_only(S.PAUSED), to=_only(S.SCHEDULED, S.RUNNING),
        act=rules.resume,
        summary="Going on is no new attempt.", source="wire 4.1, B6",
    ),
    Rule(
        name="leave_process", kinds=FLOW, from_=TYPES - {S.SCHEDULED}, to=_only(S.SCHEDULED), forced=True,
        when=rules.waits_in_process, act=rules.leave_process,
        summary="The run no longer waits in a process, so it is polled for again.", source="B2, W16",
    ),
    Rule(
        name="copy_scheduled_time", kinds=BOTH, from_=_only(S.SCHEDULED), to=_only(S.PENDING),
        act=rules.copy_scheduled_time,
        summary="PENDING remembers for when the run was scheduled.", source="wire 4.1",
    ),
    Rule(
        name="copy_task_parameters", kinds=TASK, from_=_only(S.SCHEDULED, S.PENDING),
        to=_only(S.PENDING, S.RUNNING), when=task_rules.is_deferred, act=task_rules.copy_task_parameters,
        summary="A background task keeps its parameters.", source="CopyTaskParametersID",
    ),
    Rule(
        name="flow_is_paused", kinds=TASK, from_=ANY, to=_only(S.RUNNING),
        when=task_rules.flow_is_paused, act=task_rules.pause_with_flow, answers=("REJECT, writes NotReady",),
        summary="The tasks of a paused flow wait with it.", source="PreventRunningTasksFromStoppedFlows",
    ),
    Rule(
        name="flow_is_not_running", kinds=TASK, from_=ANY, to=_only(S.RUNNING),
        when=task_rules.flow_is_not_running,
        act=abort("The task's flow run is not running, so its tasks cannot start."),
        answers=("ABORT",),
        summary="No task starts outside a running flow.", source="PreventRunningTasksFromStoppedFlows",
    ),
    Rule(
        name="tag_limit_is_zero", kinds=TASK, from_=ANY, to=_only(S.RUNNING),
        when=task_rules.tag_limit_is_zero, act=task_rules.abort_zero_tag, answers=("ABORT",),
        summary="A limit of 0 would keep the task waiting for ever.", source="SecureTaskConcurrencySlots",
    ),
    Rule(
        name="tag_limit_is_full", kinds=TASK, from_=ANY, to=_only(S.RUNNING),
        when=task_rules.tag_limit_is_full, act=task_rules.wait_for_tags, answers=("WAIT",),
        summary="The task waits for a slot of its tags.", source="SecureTaskConcurrencySlots",
    ),
    Rule(
        name="take_tags", kinds=TASK, from_=ANY, to=_only(S.RUNNING),
        when=task_rules.has_limited_tags, act=task_rules.take_tags,
        summary="The task takes a slot of each limited tag.", source="SecureTaskConcurrencySlots",
    ),
    Rule(
        name="wait_for_time", kinds=BOTH, from_=_only(S.SCHEDULED, S.PENDING), to=_only(S.RUNNING),
        when=rules.is_too_early, act=rules.wait_for_time, answers=("WAIT",),
        summary="Nothing runs before its time by the server's clock.", source="wire 4.1",
    ),
    Rule(
        name="retry_flow", kinds=FLOW, from_=_only(S.RUNNING), to=_only(S.FAILED),
        when=rules.has_flow_retries_left, act=rules.retry_flow, answers=("REJECT, writes AwaitingRetry",),
        summary="The same process tries again; claim and slot stay with it.", source="wire 4.1, B2",
    ),
    Rule(
        name="retry_crashed", kinds=FLOW, from_=_only(S.SCHEDULED, S.PENDING, S.RUNNING, S.PAUSED),
        to=_only(S.CRASHED),
        when=crash_retries.has_crash_retries_left, act=crash_retries.retry_crashed,
        answers=("REJECT, writes AwaitingRetry",),
        summary="A crashed run is started again in another process, as often as its deployment says.",
        source="B2, W17",
    ),
    Rule(
        name="retries_are_spent", kinds=FLOW, from_=_only(S.RUNNING), to=_only(S.FAILED),
        act=rules.end_retries,
        summary="A later retry by hand is polled for.", source="RetryFailedFlows",
    ),
    Rule(
        name="retry_task", kinds=TASK, from_=_only(S.RUNNING), to=_only(S.FAILED),
        when=task_rules.has_task_retries_left, act=task_rules.retry_task,
        answers=("REJECT, writes AwaitingRetry",),
        summary="Tried again after its delay, which may be a list and jittered.", source="B2",
    ),
    Rule(
        name="rename_rerun", kinds=TASK, from_=TYPES, to=_only(S.RUNNING),
        when=task_rules.has_run_before, act=task_rules.rename_rerun,
        summary="Retrying after AwaitingRetry, else Rerunning.", source="RenameReruns",
    ),
    Rule(
        name="track_flow_attempt", kinds=TASK, from_=ANY, to=_only(S.RUNNING),
        when=task_rules.is_of_a_flow, act=task_rules.track_flow_attempt,
        summary="The task run notes the attempt of its flow run.", source="UpdateFlowRunTrackerOnTasks",
    ),
    Rule(
        name="cache_key_is_too_long", kinds=TASK, from_=ANY, to=_only(S.COMPLETED),
        when=task_rules.cache_key_is_too_long, act=task_rules.complete_uncached,
        answers=("REJECT, writes the proposed state",),
        summary="The task completes, its result is not cached.", source="CacheInsertion",
    ),
    Rule(
        name="store_in_cache", kinds=TASK, from_=ANY, to=_only(S.COMPLETED),
        when=task_rules.has_cache_key, act=task_rules.store_in_cache,
        summary="The completed state is found again under its key.", source="CacheInsertion",
    ),
)  # fmt: skip


def rules_for(kind: Kind, from_: From, to: StateType, *, force: bool = False) -> tuple[Rule, ...]:
    """The rules that are tried for a transition, in order."""
    return tuple(
        rule
        for rule in TABLE
        if kind in rule.kinds and from_ in rule.from_ and to in rule.to and (rule.forced or not force)
    )


_INDEX: dict[tuple[bool, bool, From, StateType], tuple[Rule, ...]] = {
    (kind == "flow", force, from_, to): rules_for(kind, from_, to, force=force)
    for kind in BOTH
    for force in (False, True)
    for from_ in ANY
    for to in TYPES
}


def decide(
    run: FlowRun | TaskRun, proposed: State, facts: Facts, now: datetime, *, force: bool = False
) -> Decision:
    """What becomes of ``run`` when ``proposed`` is asked for at ``now``.

    The first rule that answers wins; when none does, the state is accepted as the rules have completed it.
    ``force`` leaves only the rules that keep runs safe (wire 4.1): tokens, stored results, repeated requests.
    A deferred task run has no force. Source: wire 4.1, rows W15-W17, B2, B5-B7.
    """
    old = run.state
    forced = force and (isinstance(run, FlowRun) or not proposed.state_details.deferred)
    case = Case(run, proposed, facts, now)
    for rule in _INDEX[isinstance(run, FlowRun), forced, old.type if old else None, proposed.type]:
        if not rule.when(case):
            continue
        answer = rule.act(case)
        if answer is None:
            continue
        if isinstance(answer, Reject) and answer.state is not None:
            state, effects = complete(case, answer.state)
            return Reject(reason=answer.reason, state=state, effects=effects, rule=rule.name)
        return msgspec.structs.replace(answer, rule=rule.name)
    state, effects = complete(case, case.new)
    return Accept(state=state, effects=effects)


# What the watchdog proposes when time runs out. Each goes through ``decide`` like any other proposal.


def lapsed(run: FlowRun, claim: Claim, now: datetime) -> State | None:
    """What to propose when nobody renewed ``claim`` (rows W16, W17); None while it stands or nothing ran.

    PENDING is scheduled again for its old time, RUNNING and what waits in its process crashed,
    CANCELLING is cancelled.
    """
    if run.state is None or not claim.lapsed(now):
        return None
    state, holder = run.state, f"worker {claim.worker_name!r}" if claim.worker_name else "its worker"
    if state.type is S.PENDING:
        message = f"Given back to its queue: {holder} did not start it and stopped renewing its claim."
        return Scheduled(state.state_details.scheduled_time or now, timestamp=now, message=message)
    if state.type is S.CANCELLING:
        return Cancelled(
            timestamp=now, message=f"Nothing is left to stop: {holder} stopped renewing its claim."
        )
    if occupies(state, run.empirical_policy):
        message = f"The run's process is gone: {holder} stopped renewing its claim while it was {state.name}."
        return Crashed(timestamp=now, message=message)
    return None


def late(run: FlowRun, now: datetime, after_seconds: float = 15.0) -> State | None:
    """A run that should have begun ``after_seconds`` ago is named Late, once (wire 4.4); None otherwise.

    A run that waits for a retry, a resume or a slot keeps the name that says so.
    """
    state = run.state
    if state is None or state.type is not S.SCHEDULED or state.name != "Scheduled":
        return None
    due = run.next_scheduled_start_time or state.state_details.scheduled_time
    if due is None or due > now - timedelta(seconds=after_seconds):
        return None
    return None if run.empirical_policy.retry_type == "in_process" else Late(due, timestamp=now)


def pause_expired(run: FlowRun, now: datetime) -> State | None:
    """A pause past its timeout ends Failed (row B6); None otherwise."""
    state = run.state
    timeout = state.state_details.pause_timeout if state else None
    if state is None or state.type is not S.PAUSED or timeout is None or timeout >= now:
        return None
    return Failed(timestamp=now, message="Nobody resumed the run before its pause timed out.")


def cancel_expired(run: FlowRun, now: datetime, after_seconds: float = 300.0) -> State | None:
    """A run that did not stop in ``after_seconds`` is Cancelled (row B7, wire 4.4); None otherwise."""
    state = run.state
    if state is None or state.type is not S.CANCELLING:
        return None
    if state.timestamp > now - timedelta(seconds=after_seconds):
        return None
    return Cancelled(timestamp=now, message="The run did not stop in time and was marked as cancelled.")
