"""The only writer of run state.

Facts are read, ``core.transitions.decide`` decides, and what it decided is written with its history, its
claim, its slot and its event, all in one transaction; the write is guarded by the state it comes from.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.decisions import (
    Abort,
    Accept,
    Decision,
    Effects,
    Enclosing,
    Facts,
    Reject,
    Wait,
    answer_of,
    state_to_write,
    written,
)
from eparch.core.errors import Conflict, NotFound
from eparch.core.model import new_id, without_nul
from eparch.core.pools import Claim, ShownToken
from eparch.core.run_events import related_to, transition_event
from eparch.core.runs import FlowRun, SetState, StateAnswer, TaskRun
from eparch.core.states import CLAIMED, Cancelled, Cancelling, Crashed, Pending, State, StateType, from_create
from eparch.core.stock import Version, renews_slots, takes_slots
from eparch.core.transitions import decide
from eparch.orchestration import concurrency, slots, subflows
from eparch.store import claims, records, rows, runs, task_queue
from eparch.store.concurrency import release_run
from eparch.store.runs import Stored
from eparch.store.statement import Note, Steps


class Answered(msgspec.Struct, frozen=True):
    """The wire's answer, and whether a state was written (201) or not (200)."""

    answer: StateAnswer
    wrote: bool


Shown = ShownToken | int | None
"""The fencing token that came with a proposal; a bare one is of the run that is written."""


class NewClaim(msgspec.Struct, frozen=True):
    """Who claims, when a transition takes a claim."""

    claim_id: UUID
    worker_name: str | None = None
    lease_until: datetime | None = None


_BY_NOW = Reject(reason="The run is in another state by now.")


def set_flow_run_state(
    run_id: UUID, body: SetState, now: datetime, *, token: Shown = None, stock: Version | None = None
) -> Steps[Answered]:
    """Propose a state for a flow run (wire 4.1); ``stock`` is the version of the Prefect client that does.

    Raises:
        NotFound: there is no such run.
    """
    stored = yield from runs.flow_run_for_decision(run_id)
    if stored is None:
        raise NotFound("Flow run not found")
    if body.if_state_id not in (None, stored.run.state_id):
        return Answered(answer_of(_BY_NOW, stored.run.state), False)
    proposed = from_create(without_nul(body.state), now)
    decision = yield from propose(stored, proposed, now, token=token, stock=stock, force=body.force)
    wrote = state_to_write(decision) is not None
    return Answered(answer_of(decision, stored.run.state), wrote)


def propose(
    stored: Stored,
    proposed: State,
    now: datetime,
    *,
    token: Shown = None,
    stock: Version | None = None,
    force: bool = False,
    claimer: NewClaim | None = None,
    own: bool = False,
) -> Steps[Decision]:
    """Decide on ``proposed`` and write what comes of it.

    ``own``: the server itself proposes, as the watchdog does; it speaks for the claim that stands.
    """
    facts = yield from _facts(stored, token, stock, own)
    if proposed.type is StateType.PENDING and claimer is None and not force:
        full = yield from slots.pool_is_full(stored)
        facts = msgspec.structs.replace(facts, pool_is_full=full)
    decision = decide(stored.run, proposed, facts, now, force=force)
    state = state_to_write(decision)
    if state is not None and isinstance(decision, (Accept, Reject)):
        yield from _write(stored, decision, state, now, claimer)
        if decision.effects is not None:
            yield from _supersede(decision.effects.cancels, now)
    return decision


def if_claimed(stored: Stored, now: datetime) -> Steps[Decision]:
    """What would be decided if a worker claimed the run at ``now``; nothing is written."""
    facts = yield from _facts(stored, None, None, own=False)
    return decide(stored.run, Pending(timestamp=now), facts, now)


def _supersede(run_ids: tuple[UUID, ...], now: datetime) -> Steps[None]:
    """Ask the runs to stop whose slots a newer run takes over (CANCEL_RUNNING, row B4)."""
    for run_id in run_ids:
        stored = yield from runs.flow_run_for_decision(run_id)
        if stored is not None:
            message = "A newer run of the deployment takes over its concurrency slot."
            yield from propose(stored, Cancelling(timestamp=now, message=message), now, own=True)


def _facts(stored: Stored, token: Shown, stock: Version | None, own: bool) -> Steps[Facts]:
    presented, current = yield from _tokens(stored, token)
    slot = None if takes_slots(stock) else (yield from slots.deployment_slot(stored))
    return Facts(
        has_deployment=stored.run.deployment_id is not None,
        is_subflow=stored.run.parent_task_run_id is not None,
        presented_token=current if own else presented,
        current_token=current,
        slot=slot,
        renews_slot=renews_slots(stock),
    )


DEEPEST = 100
"""Flow runs around a run that are looked at for the claim that governs it."""


def _tokens(stored: Stored, shown: Shown) -> Steps[tuple[int | None, int | None]]:
    """The presented token and that of the claim which governs the run: its own, or one around it.

    A flow's process shows its token with everything it sends. One that is of another run, or cannot be meant
    for this one because nobody ever claimed it or a run around it, counts as none.
    """
    presented, of = (shown.token, shown.flow_run_id) if isinstance(shown, ShownToken) else (shown, None)
    claim, own = stored.claim, of in (None, stored.run.id)
    if claim is not None:
        return presented if own else None, claim.token if claim.lease_until is not None else None
    if presented is None:
        return None, None
    around = yield from _governing(stored.run.parent_task_run_id)
    if around is not None and of in (None, around.flow_run_id):
        return presented, around.token
    return presented if own and stored.fencing_token else None, None


def _governing(task_run_id: UUID | None) -> Steps[runs.Above | None]:
    """The nearest flow run around a task run that was ever claimed; None when there is none."""
    for _ in range(DEEPEST):
        around = (yield from runs.above(task_run_id)) if task_run_id is not None else None
        if around is None or around.fencing_token:
            return around
        task_run_id = around.parent_task_run_id
    return None


def _write(
    stored: Stored, decision: Accept | Reject, state: State, now: datetime, claimer: NewClaim | None
) -> Steps[None]:
    run, effects = stored.run, decision.effects or Effects()
    columns = {**written(run, decision), **rows.state_columns(state), "updated": now}
    policy = columns.get("empirical_policy")
    if policy is not None:
        columns["in_process_retry"] = policy.retry_type == "in_process"
    takes = _takes(stored, effects, state)
    if takes:
        columns["fencing_token"] = stored.fencing_token + 1
    changed = yield from runs.write_flow_run(run.id, columns, was=run.state_id)
    if not changed:
        raise Conflict("The run changed while its state was decided.", fix="Propose the state again.")
    yield from runs.append_flow_run_state(run.id, state)
    yield from _write_claim(stored, effects, takes, state, now, claimer)
    if state.is_final():
        yield from release_run(run.id)
        yield from _end_subflows(run.id, state, now)
    yield from subflows.follow(run.id, run.parent_task_run_id, state, now)
    yield from announce(stored, run.state, state, columns.get("run_count", run.run_count), now)


def _end_subflows(run_id: UUID, state: State, now: datetime) -> Steps[None]:
    """Let the subflows end that lived in the process of a run that crashed or was cancelled (pain 1)."""
    if state.type not in (StateType.CRASHED, StateType.CANCELLED):
        return
    for subflow_id in (yield from runs.open_subflows(run_id)):
        stored = yield from runs.flow_run_for_decision(subflow_id)
        if stored is not None:
            end = Crashed if state.type is StateType.CRASHED else Cancelled
            message = f"The flow run around it ended as {state.name}."
            yield from propose(stored, end(timestamp=now, message=message), now, own=True)


def _takes(stored: Stored, effects: Effects, state: State) -> bool:
    """A run of a pool or a deployment has a claim while it may have a process, however it came to one."""
    run = stored.run
    if run.work_queue_id is None and run.deployment_id is None:
        return False
    # Who takes a run that waits for a retry in another process gets a claim of its own; that one's is over.
    kept = effects.claim == "keep" and stored.claim is None and state.type in CLAIMED
    return effects.claim == "take" or kept


def _write_claim(
    stored: Stored, effects: Effects, takes: bool, state: State, now: datetime, claimer: NewClaim | None
) -> Steps[None]:
    run = stored.run
    place = run.work_pool_id or run.deployment_id
    if effects.claim != "keep" and stored.claim is not None:
        yield from claims.delete_claim(run.id)
        yield Note("work", place)
        yield Note("watched", run.id)
    if takes:
        yield from claims.insert_claim(claim_of(stored, claimer, now))
    if effects.slot in ("take", "renew") and effects.lease_id is not None:
        holder = claimer if takes else stored.claim
        # The slot of who renews its claim lasts as long as that; others have to renew the slot (wire 4.5).
        until = None
        if effects.lease_seconds is not None and (holder is None or holder.lease_until is None):
            until = now + timedelta(seconds=effects.lease_seconds)
        yield from claims.set_slot(run.id, effects.lease_id, run.deployment_id, until)
    elif effects.slot == "pin":
        yield from claims.pin_slot(run.id)
    elif effects.slot == "release" and effects.claim == "keep":
        yield from claims.set_slot(run.id, None, None)
        yield Note("work", place)
    if state.type is StateType.SCHEDULED and place is not None:
        yield Note("work", place)
    if state.type in (StateType.CANCELLING, StateType.CANCELLED) and stored.claim is not None:
        yield Note("cancel", run.id)


def claim_of(stored: Stored, claimer: NewClaim | None, now: datetime) -> Claim:
    """The claim that the run gets when it is taken now."""
    run = stored.run
    return Claim(
        flow_run_id=run.id,
        claim_id=claimer.claim_id if claimer else new_id(),
        token=stored.fencing_token + 1,
        worker_name=claimer.worker_name if claimer else None,
        work_pool_id=run.work_pool_id,
        work_queue_id=run.work_queue_id,
        claimed_at=now,
        lease_until=claimer.lease_until if claimer else None,
    )


def announce(stored: Stored, old: State | None, new: State, run_count: int, now: datetime) -> Steps[None]:
    """Write the event of a transition, and let it be told once it is on disk."""
    parent = None
    if stored.run.parent_task_run_id is not None:
        parent = yield from runs.task_labels(stored.run.parent_task_run_id)
    related = related_to(
        stored.run,
        flow_name=stored.flow_name,
        deployment_name=stored.deployment_name,
        pool_type=stored.pool_type,
        parent_name=parent[0] if parent else None,
        inherited_tags=[
            *stored.flow_tags,
            *(stored.deployment_tags or []),
            *(parent[1] if parent else []),
        ],
    )
    event = transition_event(stored.run, old, new, related, run_count, now)
    yield from records.insert_events([event], now)
    yield Note("events", event)


# Task runs whose states come over REST: background tasks and the dummies of subflows (wire 4.2).


def set_task_run_state(
    run_id: UUID, body: SetState, now: datetime, *, token: Shown = None
) -> Steps[Answered]:
    """Propose a state for a task run.

    Raises:
        NotFound: there is no such run.
    """
    run = yield from runs.task_run_for_decision(run_id)
    if run is None:
        raise NotFound("Task run not found")
    if body.if_state_id not in (None, run.state.id if run.state else None):
        return Answered(answer_of(_BY_NOW, run.state), False)
    proposed = from_create(without_nul(body.state), now)
    decision = yield from propose_for_task(run, proposed, now, token=token, force=body.force)
    return Answered(answer_of(decision, run.state), state_to_write(decision) is not None)


def propose_for_task(
    run: TaskRun, proposed: State, now: datetime, *, token: Shown = None, force: bool = False
) -> Steps[Decision]:
    """Decide on ``proposed`` for a task run that is locked, and write what comes of it."""
    facts = yield from _task_facts(run, token)
    if run.tags and proposed.type is StateType.RUNNING:
        tags = yield from concurrency.tag_slots(run.tags, run.id, now)
        facts = msgspec.structs.replace(facts, tags=tags)
    decision = decide(run, proposed, facts, now, force=force)
    state = state_to_write(decision)
    if state is not None:
        columns = {**written(run, decision), **rows.state_columns(state), "updated": now}
        yield from runs.write_task_run(run.id, columns)
        yield from runs.append_task_run_states([(run.id, state)])
        effects = decision.effects if isinstance(decision, (Accept, Reject)) else None
        yield from concurrency.follow_tags(effects.tags if effects else None, run.tags, run.id, now)
        yield from task_queue.follow(run.id, run.task_key, state)
    return decision


def _task_facts(run: TaskRun, token: Shown) -> Steps[Facts]:
    enclosing = None
    presented = current = None
    if run.flow_run_id is not None:
        stored = yield from runs.flow_run_for_decision(run.flow_run_id)
        if stored is not None:
            flow = stored.run
            enclosing = Enclosing(flow_run_id=flow.id, state=flow.state, run_count=flow.run_count)
            presented, current = yield from _tokens(stored, token)
    return Facts(
        presented_token=presented,
        current_token=current,
        enclosing=enclosing,
        jitter=random.random(),  # noqa: S311 - spreads retries, hides nothing
    )


def first_state(
    run: FlowRun | TaskRun, proposed: State, now: datetime, facts: Facts
) -> tuple[State, dict[str, Any]]:
    """The state that a new run begins with, and the columns that go with it.

    Raises:
        Conflict: a run cannot begin in ``proposed``.
    """
    decision = decide(run, proposed, facts, now)
    if isinstance(decision, (Abort, Wait)):
        raise Conflict(f"A run cannot begin as {proposed.name}.", why=decision.reason)
    state = state_to_write(decision)
    if state is None:
        raise Conflict(f"A run cannot begin as {proposed.name}.", why=_reason(decision))
    return state, {**written(run, decision), **rows.state_columns(state)}


def _reason(decision: Decision) -> str:
    return "" if isinstance(decision, Accept) else decision.reason
