"""One proposal under the rules: what they read and rewrite, and what follows from the state that is written.

Does not know any rule: those are in ``rules`` and ``task_rules``, their order is in ``transitions``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from eparch.core.decisions import Abort, ClaimEffect, Decision, Effects, Facts, Reject, SlotEffect, TagsEffect
from eparch.core.runs import FlowRun, FlowRunPolicy, TaskRun
from eparch.core.states import CLAIMED, State, StateType


class Case:
    """One proposal while the rules look at it: ``new`` and what goes with it are rewritten as they pass."""

    __slots__ = (
        "cache_key",
        "cancels",
        "changes",
        "facts",
        "lease_id",
        "new",
        "now",
        "old",
        "pinned",
        "policy",
        "run",
        "slot",
        "tags",
    )

    def __init__(self, run: FlowRun | TaskRun, new: State, facts: Facts, now: datetime) -> None:
        self.run = run
        self.old = run.state
        self.new = new
        self.facts = facts
        self.now = now
        self.policy: FlowRunPolicy | None = run.empirical_policy if isinstance(run, FlowRun) else None
        self.lease_id: UUID | None = (
            run.state.state_details.deployment_concurrency_lease_id if run.state else None
        )
        self.slot: SlotEffect | None = None
        self.pinned = False
        self.tags: TagsEffect | None = None
        self.cache_key: str | None = None
        self.cancels: tuple[UUID, ...] = ()
        self.changes: dict[str, Any] = {}

    @property
    def current(self) -> State:
        """The state that the run is in, for rules that are tried only where there is one."""
        assert self.old is not None
        return self.old

    @property
    def flow_policy(self) -> FlowRunPolicy:
        """The policy as it stands, for rules of flow runs."""
        assert self.policy is not None
        return self.policy

    def set_policy(self, **fields: Any) -> None:
        """Change the flow run's policy with the state."""
        self.policy = replace(self.flow_policy, **fields)

    def instead(self, state: State | None, reason: str) -> Reject:
        """A Reject that writes ``state``; what earlier rules wanted to change is forgotten."""
        if isinstance(self.run, FlowRun):
            self.policy = self.run.empirical_policy
        self.changes = {}
        self.slot = self.tags = self.cache_key = None
        self.cancels = ()
        self.pinned = False
        self.lease_id = self.old.state_details.deployment_concurrency_lease_id if self.old else None
        return Reject(reason=reason, state=state)


def always(case: Case) -> bool:
    """No condition."""
    return True


def occupies(state: State, policy: FlowRunPolicy | None) -> bool:
    """A run in ``state`` may have a live process, so it keeps its claim and its slot.

    That is: it is claimed, it is paused but not suspended, or it waits for a retry in its own process
    (row B2, a retry keeps its slot; row B6, only suspending frees the process).
    """
    if state.type in CLAIMED:
        return True
    if state.type is StateType.PAUSED:
        return not state.state_details.pause_reschedule
    in_process = policy is not None and policy.retry_type == "in_process"
    return state.type is StateType.SCHEDULED and in_process


def _said(reason: str, case: Case) -> str:
    return reason.format(
        state=case.old.name if case.old else "without a state",
        state_type=case.old.type.value if case.old else "without a state",
        proposed=case.new.type.value,
        pausing="suspended" if case.new.name == "Suspended" else "paused",
    )


def abort(reason: str) -> Callable[[Case], Decision]:
    """An outcome that aborts; ``reason`` may name {state}, {state_type}, {proposed} and {pausing}."""
    return lambda case: Abort(reason=_said(reason, case))


def reject(reason: str) -> Callable[[Case], Decision]:
    """An outcome that lets the current state stand; ``reason`` as in ``abort``."""
    return lambda case: Reject(reason=_said(reason, case))


# What follows from the state that is written, whichever rule chose it.


def complete(case: Case, state: State) -> tuple[State, Effects]:
    """``state`` with what the server owns in it, and the effects that go with writing it.

    The lease id is never taken from the proposal: workers send null (wire 4.5), and nobody may name
    another run's lease. A run's history is strictly ordered by its timestamps.
    """
    run, old = case.run, case.old
    claim: ClaimEffect = "keep"
    flow_run_id: UUID | None
    task_run_id: UUID | None
    if isinstance(run, FlowRun):
        flow_run_id, task_run_id = run.id, run.parent_task_run_id
        claim = _settle_flow(case, run, state)
    else:
        flow_run_id, task_run_id = run.flow_run_id, run.id
        if state.type is StateType.RUNNING and "run_count" in case.changes:
            case.changes["run_count"] += 1
        if run.tags and state.type not in (StateType.RUNNING, StateType.CANCELLING):
            case.tags = "release"
    details = replace(
        state.state_details,
        flow_run_id=flow_run_id,
        task_run_id=task_run_id,
        deployment_concurrency_lease_id=None if case.slot == "release" else case.lease_id,
    )
    stamp = state.timestamp
    if old is not None and stamp <= old.timestamp:
        stamp = old.timestamp + timedelta(microseconds=1)
    limit = case.facts.slot
    leased = limit is not None and case.slot in ("take", "renew") and not case.pinned
    effects = Effects(
        claim=claim,
        slot=case.slot,
        lease_id=case.lease_id if case.slot else None,
        lease_seconds=limit.grace_seconds if leased and limit else None,
        tags=case.tags,
        cache_key=case.cache_key,
        cancels=case.cancels,
        changes=case.changes,
    )
    return replace(state, timestamp=stamp, state_details=details), effects


def _settle_flow(case: Case, run: FlowRun, state: State) -> ClaimEffect:
    """Settle the policy, the count of attempts, the slot; what becomes of the claim."""
    policy = case.flow_policy
    if policy.resuming:
        # Going on after a pause is no new attempt: it uses up no retry.
        if state.type is StateType.RUNNING:
            case.changes["run_count"] = run.run_count
        if state.type is StateType.RUNNING or state.is_final():
            case.set_policy(resuming=False)
    if case.policy != run.empirical_policy:
        case.changes["empirical_policy"] = case.policy
    if not occupies(state, case.policy):
        if case.lease_id is not None:
            case.slot = "release"
        return "release"
    if state.type is not StateType.PENDING or case.facts.current_token is not None:
        return "keep"
    return "keep" if case.old is not None and case.old.type is StateType.PENDING else "take"
