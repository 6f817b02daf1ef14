"""What ``transitions.decide`` is told besides the run, and what it answers.

Owns the values on both sides of a decision: facts and slots in, Accept, Reject, Wait, Abort out.
Which answer a proposal gets is decided in ``transitions``; who gathers and who writes is orchestration.
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import msgspec

from eparch.core.deployments import CollisionStrategy
from eparch.core.model import Value
from eparch.core.runs import FlowRun, SetStateStatus, StateAnswer, StateAnswerDetails, TaskRun, after
from eparch.core.states import State

__all__ = [
    "Abort",
    "Accept",
    "Decision",
    "Effects",
    "Enclosing",
    "Facts",
    "Reject",
    "Slot",
    "TagSlots",
    "Wait",
    "answer_of",
    "replaced",
    "state_to_write",
    "written",
]


class Slot(Value, frozen=True, kw_only=True):
    """A deployment's concurrency limit as it stands (wire 4.5)."""

    limit: int
    free: int
    """Slots that nobody holds now."""
    lease_id: UUID
    """The id that a lease gets if this decision takes one."""
    held: bool = False
    """The lease that the run's current state names still lives."""
    strategy: CollisionStrategy = CollisionStrategy.ENQUEUE
    grace_seconds: float = 300.0
    """How long a lease lives when it is taken or renewed here."""
    wait_seconds: float = 30.0
    """When a run that met a full limit is due again."""
    superseded: tuple[UUID, ...] = ()
    """Runs that a run which takes over lets be cancelled, the oldest first (CANCEL_RUNNING)."""


class TagSlots(Value, frozen=True, kw_only=True):
    """The concurrency limits on a task run's tags; slots that the run itself holds count as free."""

    zero: str | None = None
    """A tag whose limit is 0."""
    full: tuple[str, ...] = ()
    """Tags whose slots are all taken."""
    wait_seconds: float = 10.0


class Enclosing(Value, frozen=True, kw_only=True):
    """The flow run that a task run belongs to."""

    flow_run_id: UUID
    state: State | None = None
    run_count: int = 0


class Facts(Value, frozen=True, kw_only=True):
    """What a decision depends on besides the run; read in the transaction that writes the outcome."""

    has_deployment: bool = False
    is_subflow: bool = False
    presented_token: int | None = None
    """The fencing token that the writer sent for the claim that governs the run: its own or, for a subflow
    or a task run in the same process, the one of the flow run that was claimed. None: it sent none."""
    current_token: int | None = None
    """The token of that claim while it stands. None: there is no claim, or its holder knows no tokens
    (a stock worker), so nobody can present one. A lapsed claim stands until somebody acts on it."""
    pool_is_full: bool = False
    """The run's work pool or queue has a limit and no slot is free. A claim asks only within the limits."""
    slot: Slot | None = None
    """None: no deployment limit, or the client takes its slots itself (Prefect 3.0.0 to 3.0.3)."""
    renews_slot: bool = True
    """The client renews the lease of its slot while its flow runs (Prefect does since 3.4.11)."""
    tags: TagSlots | None = None
    cached: State | None = None
    """The newest live state that is stored under the proposed state's cache key."""
    enclosing: Enclosing | None = None
    jitter: float = 0.5
    """A random fraction in [0, 1): where in its range a jittered retry delay falls."""


ClaimEffect = Literal["take", "keep", "release"]
SlotEffect = Literal["take", "renew", "pin", "release"]
"""``pin``: the lease no longer lapses, as the client does not renew it."""
TagsEffect = Literal["take", "release"]


class Effects(Value, frozen=True, kw_only=True):
    """What is written in the same transaction as the state. Each one may be repeated without harm."""

    claim: ClaimEffect = "keep"
    slot: SlotEffect | None = None
    lease_id: UUID | None = None
    """The lease that ``slot`` is about."""
    lease_seconds: float | None = None
    """After this the slot is free unless the lease is renewed; None: it is held as long as the claim."""
    tags: TagsEffect | None = None
    cache_key: str | None = None
    """The completed state is stored under this key."""
    cancels: tuple[UUID, ...] = ()
    """Flow runs that are asked to stop, as this one takes over their slots."""
    changes: dict[str, Any] = {}
    """Fields of the run that the rules set, over those of ``runs.after``."""


class Accept(Value, frozen=True, kw_only=True):
    """Write ``state``, which the rules may have completed."""

    state: State
    effects: Effects


class Reject(Value, frozen=True, kw_only=True):
    """Not what was proposed: write ``state`` instead or, when that is None, let the current one stand."""

    reason: str
    state: State | None = None
    effects: Effects | None = None
    rule: str = ""


class Wait(Value, frozen=True, kw_only=True):
    """Propose it again in ``delay_seconds`` (at least 1)."""

    delay_seconds: int
    reason: str
    rule: str = ""


class Abort(Value, frozen=True, kw_only=True):
    """Write nothing; whoever proposed it should stop."""

    reason: str
    rule: str = ""


Decision = Accept | Reject | Wait | Abort


def state_to_write(decision: Decision) -> State | None:
    """The state that ``decision`` puts into the run's history, None when it writes nothing."""
    return decision.state if isinstance(decision, (Accept, Reject)) else None


def written(run: FlowRun | TaskRun, decision: Decision) -> dict[str, Any]:
    """The fields of ``run`` that ``decision`` changes, without ``state``; empty when it writes nothing."""
    state = state_to_write(decision)
    effects = decision.effects if isinstance(decision, (Accept, Reject)) else None
    if state is None or effects is None:
        return {}
    return {**after(run, state), **effects.changes}


def answer_of(decision: Decision, current: State | None) -> StateAnswer:
    """``decision`` as the wire says it; one that writes nothing shows the ``current`` state (wire 4.1)."""
    if isinstance(decision, Accept):
        details = StateAnswerDetails(type="accept_details")
        return StateAnswer(state=decision.state, status=SetStateStatus.ACCEPT, details=details)
    if isinstance(decision, Reject):
        details = StateAnswerDetails(type="reject_details", reason=decision.reason)
        return StateAnswer(state=decision.state or current, status=SetStateStatus.REJECT, details=details)
    if isinstance(decision, Wait):
        details = StateAnswerDetails(
            type="wait_details", reason=decision.reason, delay_seconds=decision.delay_seconds
        )
        return StateAnswer(state=current, status=SetStateStatus.WAIT, details=details)
    details = StateAnswerDetails(type="abort_details", reason=decision.reason)
    return StateAnswer(state=current, status=SetStateStatus.ABORT, details=details)


def replaced(state: State, **details: Any) -> State:
    """``state`` with the given ``details`` in its ``state_details``."""
    return msgspec.structs.replace(
        state, state_details=msgspec.structs.replace(state.state_details, **details)
    )
