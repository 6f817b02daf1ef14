"""The table as a whole, its page, and what holds for any sequence of proposals."""

from __future__ import annotations

import runpy
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.core.proposals import (
    DEPLOYED,
    NOW,
    ROOT,
    STORED,
    T,
    a_flow,
    a_state,
    a_task,
    apply,
    to,
)

from eparch.core.decisions import answer_of, replaced, written
from eparch.core.deployments import CollisionStrategy
from eparch.core.model import encode
from eparch.core.runs import FlowRun, FlowRunPolicy, TaskRun, TaskRunPolicy
from eparch.core.states import FINAL, State
from eparch.core.transitions import (
    TABLE,
    Abort,
    Accept,
    Decision,
    Enclosing,
    Facts,
    Reject,
    Slot,
    TagSlots,
    Wait,
    decide,
    rules_for,
)

# The table as a whole.


def test_the_rules_have_names_of_their_own_and_are_all_reachable() -> None:
    names = [rule.name for rule in TABLE]
    assert len(set(names)) == len(names)
    for rule in TABLE:
        assert rule.when.__doc__
        assert any(
            rule in rules_for(kind, from_, to_)
            for kind in rule.kinds
            for from_ in rule.from_
            for to_ in rule.to
        )


def test_the_page_of_states_is_printed_from_the_table() -> None:
    printed = runpy.run_path(str(ROOT / "scripts" / "print_states.py"))["page"]()
    page = (ROOT / "docs" / "states.md").read_text()
    assert page == printed, "run: python scripts/print_states.py > docs/states.md"


times = st.none() | st.integers(-100, 100).map(lambda s: NOW + timedelta(seconds=s))
names = st.sampled_from([None, "Late", "Submitting", "Suspended", "AwaitingRetry", "Resuming"])
proposals = st.builds(
    a_state,
    st.sampled_from(list(T)),
    names,
    data=st.sampled_from([None, STORED, {"type": "unpersisted"}, "text"]),
    scheduled_time=times,
    pause_timeout=times,
    pause_reschedule=st.booleans(),
    pause_key=st.none() | st.sampled_from("ab"),
    transition_id=st.none() | st.integers(1, 3).map(lambda i: UUID(int=i)),
    cache_key=st.none() | st.sampled_from(["k", "k" * 2001]),
    retriable=st.sampled_from([None, True, False]),
    deferred=st.booleans(),
)
tokens = st.none() | st.integers(1, 2)
facts_of_any_kind = st.builds(
    Facts,
    has_deployment=st.booleans(),
    is_subflow=st.booleans(),
    presented_token=tokens,
    current_token=tokens,
    slot=st.none()
    | st.builds(
        Slot,
        limit=st.integers(0, 2),
        free=st.integers(0, 2),
        held=st.booleans(),
        strategy=st.sampled_from(list(CollisionStrategy)),
        lease_id=st.uuids(),
    ),
    renews_slot=st.booleans(),
    tags=st.none() | st.builds(TagSlots, zero=st.none() | st.just("z"), full=st.sampled_from([(), ("f",)])),
    cached=st.none() | st.just(a_state(T.COMPLETED, data=STORED)),
    enclosing=st.none()
    | st.builds(
        Enclosing,
        flow_run_id=st.uuids(),
        state=st.none() | st.sampled_from([a_state(T.RUNNING), a_state(T.PAUSED), a_state(T.FAILED)]),
        run_count=st.integers(0, 3),
    ),
    jitter=st.floats(0, 0.999),
)
steps = st.lists(st.tuples(proposals, facts_of_any_kind, st.booleans()), min_size=1, max_size=12)
flows = st.builds(
    lambda retries, pid: a_flow(
        None, empirical_policy=FlowRunPolicy(retries=retries), infrastructure_pid=pid
    ),
    st.none() | st.integers(0, 3),
    st.none() | st.just("host:1"),
)
tasks = st.builds(
    lambda retries, tags: a_task(
        None,
        empirical_policy=TaskRunPolicy(retries=retries, retry_delay=[1, 2], retry_jitter_factor=0.5),
        tags=tags,
    ),
    st.none() | st.integers(0, 3),
    st.sampled_from([[], ["db"]]),
)
REFUSED = {Reject: "REJECT", Abort: "ABORT", Wait: "WAIT"}


def check(run: Any, proposed: State, facts: Facts, decision: Decision, force: bool) -> None:
    old = run.state
    assert encode(answer_of(decision, old))
    if not isinstance(decision, Accept):
        rule = next(rule for rule in TABLE if rule.name == decision.rule)
        assert rule.answers
        assert any(answer.startswith(REFUSED[type(decision)]) for answer in rule.answers)
        assert decision.reason
        assert force is False or rule.forced or proposed.state_details.deferred
    if isinstance(decision, Wait):
        assert type(decision.delay_seconds) is int
        assert decision.delay_seconds > 0
    if isinstance(decision, Accept):
        assert decision.state.type is proposed.type
        assert decision.state.id == proposed.id
    stale = facts.presented_token is not None and facts.presented_token != facts.current_token
    state = decision.state if isinstance(decision, (Accept, Reject)) else None
    assert not (stale and state)
    if state is None:
        assert written(run, decision) == {}
        return
    repeated = old is not None and old.state_details.transition_id is not None
    assert not (repeated and old.state_details.transition_id == proposed.state_details.transition_id)
    if old is not None:
        assert state.timestamp > old.timestamp
        if old.type in FINAL and not force:
            leaves = proposed.type not in FINAL
            assert leaves, (old.type, proposed.type)


def check_flow(run: FlowRun, after: FlowRun, facts: Facts) -> None:
    assert run.run_count <= after.run_count <= run.run_count + 1
    if after is run:
        return
    assert after.state is not None
    if after.state_type in (T.PENDING, T.RUNNING) and facts.current_token is not None:
        resumed = run.state_type is T.PAUSED and after.state_type is T.RUNNING
        assert facts.presented_token == facts.current_token or resumed
    if after.state_type is T.SCHEDULED and after.empirical_policy.retry_type == "in_process":
        # Nobody polls for it, so its process must be the one that goes on.
        waited = run.state_type is T.SCHEDULED and run.empirical_policy.retry_type == "in_process"
        assert waited or (run.state_type is T.RUNNING and after.state_name == "AwaitingRetry")
    if after.state_type in FINAL:
        assert after.state.state_details.deployment_concurrency_lease_id is None


@given(flows, steps)
def test_b5_any_sequence_of_proposals_keeps_a_flow_run_sound(
    run: FlowRun, sequence: list[tuple[State, Facts, bool]]
) -> None:
    now = NOW
    for proposed, facts, force in sequence:
        now += timedelta(seconds=1)
        proposal = replace(proposed, timestamp=now)
        decision = decide(run, proposal, facts, now, force=force)
        check(run, proposal, facts, decision, force)
        after = apply(run, decision)
        check_flow(run, after, facts)
        run = after


@given(tasks, steps)
def test_b5_any_sequence_of_proposals_keeps_a_task_run_sound(
    run: TaskRun, sequence: list[tuple[State, Facts, bool]]
) -> None:
    now = NOW
    for proposed, facts, force in sequence:
        now += timedelta(seconds=1)
        proposal = replace(proposed, timestamp=now)
        decision = decide(run, proposal, facts, now, force=force)
        check(run, proposal, facts, decision, force)
        after = apply(run, decision)
        restarted = run.state_type in FINAL and after.state_type not in FINAL
        assert after.run_count >= run.run_count or (restarted and after.run_count <= 1)
        run = after


@pytest.mark.parametrize("kind", ["flow", "task"])
@pytest.mark.parametrize("force", [False, True])
def test_every_pair_of_states_has_an_outcome(kind: str, force: bool) -> None:
    for from_ in (None, *T):
        for type_ in T:
            state = a_state(from_) if from_ else None
            run: FlowRun | TaskRun = a_flow(state) if kind == "flow" else a_task(state)
            decision = decide(run, replaced(to(type_), scheduled_time=NOW), DEPLOYED, NOW, force=force)
            assert isinstance(decision, (Accept, Reject, Wait, Abort))
