"""Runs, proposed states and what is asserted of a decision, for the tests of transitions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from msgspec.structs import replace

from eparch.core import states
from eparch.core.decisions import written
from eparch.core.pools import Claim
from eparch.core.runs import FlowRun, TaskRun
from eparch.core.states import State, StateDetails, StateType
from eparch.core.transitions import (
    Abort,
    Accept,
    Decision,
    Enclosing,
    Facts,
    Reject,
    Slot,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BEFORE = NOW - timedelta(minutes=1)
ROOT = Path(__file__).parents[2]
DEPLOYED = Facts(has_deployment=True)
STORED = {"type": "result-record", "metadata": {}}
T = StateType


def a_state(type_: StateType, name: str | None = None, **fields: Any) -> State:
    details = {k: fields.pop(k) for k in list(fields) if k in StateDetails.__struct_fields__}
    return states.state(type_, name, state_details=StateDetails(**details), **{"timestamp": BEFORE, **fields})


def to(type_: StateType, name: str | None = None, **fields: Any) -> State:
    return a_state(type_, name, **{"timestamp": NOW, **fields})


def a_flow(state: State | None, **fields: Any) -> FlowRun:
    run = FlowRun(id=uuid4(), name="wise-owl", flow_id=uuid4(), **fields)
    return replace(run, state=state, state_type=state.type if state else None)


def a_task(state: State | None, **fields: Any) -> TaskRun:
    run = TaskRun(id=uuid4(), name="t-0", task_key="t", dynamic_key="0", **fields)
    return replace(run, state=state, state_type=state.type if state else None)


def slot(free: int, **fields: Any) -> Facts:
    return Facts(
        has_deployment=True, slot=Slot(**{"limit": 3, "free": free, "lease_id": UUID(int=9), **fields})
    )


def accepted(decision: Decision) -> Accept:
    assert isinstance(decision, Accept), decision
    return decision


def stands(decision: Decision, rule: str) -> None:
    assert isinstance(decision, Reject), decision
    assert decision.state is None
    assert decision.rule == rule


def rejected(decision: Decision, rule: str) -> State:
    assert isinstance(decision, Reject), decision
    assert decision.rule == rule
    assert decision.state is not None
    assert decision.effects is not None
    return decision.state


def aborts(decision: Decision, rule: str) -> None:
    assert isinstance(decision, Abort), decision
    assert decision.rule == rule


def apply(run: Any, decision: Decision) -> Any:
    """The run after ``decision``, as orchestration writes it."""
    state = decision.state if isinstance(decision, (Accept, Reject)) else None
    return replace(run, **written(run, decision), state=state) if state else run


def in_flow(type_: StateType | None = T.RUNNING, run_count: int = 1, **details: Any) -> Facts:
    state = a_state(type_, **details) if type_ else None
    return Facts(enclosing=Enclosing(flow_run_id=uuid4(), state=state, run_count=run_count))


def a_claim(**fields: Any) -> Claim:
    return Claim(
        flow_run_id=uuid4(), claim_id=uuid4(), token=4, worker_name="w-1", claimed_at=BEFORE, **fields
    )
