"""Transitions on a real database: wire 4.1 end to end, tokens, slots, events, all or nothing."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from tests.orchestration.world import START, Broken, FlowRunPolicy, S, World, a_state, traces

from eparch.core.errors import Conflict, NotFound
from eparch.core.model import new_id
from eparch.core.pools import ShownToken
from eparch.core.runs import SetState, StateAnswer
from eparch.core.states import Pending
from eparch.orchestration import transition
from eparch.store import runs
from eparch.store.statement import Steps

pytestmark = pytest.mark.anyio


# One transaction: state, history, claim, event


async def test_accept_writes_row_history_claim_and_event(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment())
    answer = await world.set(run, S.PENDING)
    assert (answer.status, answer.details.type) == ("ACCEPT", "accept_details")
    row, history, events, claims = await traces(world, run)
    assert answer.state is not None
    assert row["state_id"] == answer.state.id == history[-1]["id"] == events[-1]["id"]
    assert [h["type"] for h in history] == ["SCHEDULED", "PENDING"]
    assert [e["event"] for e in events] == ["prefect.flow-run.Scheduled", "prefect.flow-run.Pending"]
    assert claims[run]["token"] == row["fencing_token"] == 1
    assert claims[run]["lease_until"] is None


async def test_nothing_of_a_transition_stays_when_it_breaks_off(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment(concurrency_limit=1))
    before = await traces(world, run)
    world.notes.clear()

    def broken() -> Steps[None]:
        body = SetState(state=a_state(S.PENDING))
        yield from transition.set_flow_run_state(run, body, world.now)
        raise Broken

    with pytest.raises(Broken):
        await world.database.write(broken)
    assert await traces(world, run) == before
    assert world.notes == []


async def test_a_write_is_guarded_by_the_state_that_it_comes_from(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment())
    stored = await world.database.read(runs.flow_run_for_decision, run)
    await world.go(run, S.PENDING, S.RUNNING)
    before = await traces(world, run)
    with pytest.raises(Conflict, match="changed while"):
        await world.database.write(transition.propose, stored, Pending(timestamp=world.now), world.now)
    assert await traces(world, run) == before


async def test_w18_a_proposal_for_one_state_counts_for_no_other(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment())
    token = (await world.claim())[run]
    pending = (await world.read(run))["state_id"]

    async def hand_back(state_id: UUID | None) -> str:
        world.pass_seconds(0.001)
        body = SetState(state=a_state(S.SCHEDULED), if_state_id=state_id)
        answered = await world.database.write(
            transition.set_flow_run_state, run, body, world.now, token=token
        )
        assert answered.answer.state is not None
        return f"{answered.answer.status} {answered.answer.state.name} {answered.wrote}"

    await world.set(run, S.RUNNING, token=token)
    # The worker had seen it pending, and user code has begun since.
    assert await hand_back(pending) == "REJECT Running False"
    assert token in {claim["token"] for claim in (await world.claims()).values()}
    again = await world.run(await world.deployment())
    run, token = again, (await world.claim())[again]
    assert await hand_back((await world.read(run))["state_id"]) == "ACCEPT Scheduled True"
    assert run not in await world.claims()


async def test_a_proposal_for_one_state_of_a_task_run_counts_for_no_other(memory: World) -> None:
    task = await memory.dummy_task(await memory.ad_hoc())

    async def propose(type_: S, state_id: UUID | None) -> StateAnswer:
        memory.pass_seconds(0.001)
        body = SetState(state=a_state(type_), if_state_id=state_id)
        return (await memory.database.write(transition.set_task_run_state, task, body, memory.now)).answer

    begun = await propose(S.RUNNING, None)
    assert begun.state is not None
    assert (await propose(S.FAILED, new_id())).status == "REJECT"
    assert (await propose(S.COMPLETED, begun.state.id)).status == "ACCEPT"
    assert (await propose(S.FAILED, begun.state.id)).status == "REJECT"


async def test_an_unknown_run_is_not_found(memory: World) -> None:
    body = SetState(state=a_state(S.RUNNING))
    with pytest.raises(NotFound):
        await memory.database.write(transition.set_flow_run_state, new_id(), body, START)
    with pytest.raises(NotFound):
        await memory.database.write(transition.set_task_run_state, new_id(), body, START)


# Wire 4.1, line by line


@pytest.mark.parametrize("path", [(S.PENDING,), (S.PENDING, S.RUNNING), (S.PENDING, S.RUNNING, S.CANCELLING)])
async def test_w15_what_was_begun_is_not_begun_again(world: World, path: tuple[S, ...]) -> None:
    await world.pool()
    run = await world.run(await world.deployment())
    await world.claim()
    token = 1
    for type_ in path[1:]:
        await world.go(run, type_, token=token)
    before = await traces(world, run)
    answer = await world.set(run, S.PENDING)
    assert answer.status in ("ABORT", "REJECT")
    assert await traces(world, run) == before


async def test_w21_pending_sub_states_carry_time_and_lease(memory: World) -> None:
    await memory.pool()
    run = await memory.run(await memory.deployment(concurrency_limit=1))
    await memory.go(run, S.PENDING)
    first = (await memory.read(run))["state_details"]
    answer = await memory.set(run, S.PENDING, "Submitting")
    assert answer.status == "ACCEPT"
    details = (await memory.read(run))["state_details"]
    for name in ("scheduled_time", "deployment_concurrency_lease_id"):
        assert details[name] == first[name] is not None
    assert len(await memory.claims()) == 1


async def test_wait_writes_nothing(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment(), due_in=60)
    before = await traces(world, run)
    answer = await world.set(run, S.RUNNING)
    assert (answer.status, answer.details.type, answer.details.delay_seconds) == ("WAIT", "wait_details", 60)
    assert answer.state is not None
    assert answer.state.name == "Scheduled"
    assert await traces(world, run) == before


async def test_abort_writes_nothing(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment())
    await world.go(run, S.PENDING, S.RUNNING, S.COMPLETED)
    before = await traces(world, run)
    for type_ in (S.CANCELLING, S.PAUSED, S.CRASHED):
        answer = await world.set(run, type_)
        assert (answer.status, answer.details.type) == ("ABORT", "abort_details")
    assert await traces(world, run) == before


async def test_a_reject_may_write(world: World) -> None:
    await world.pool()
    policy = FlowRunPolicy(retries=1, retry_delay=10)
    run = await world.run(await world.deployment(), empirical_policy=policy)
    token = (await world.claim())[run]
    await world.go(run, S.RUNNING, token=token)
    body = SetState(state=a_state(S.FAILED))
    world.pass_seconds(1)
    answered = await world.database.write(transition.set_flow_run_state, run, body, world.now, token=token)
    assert answered.wrote
    assert answered.answer.status == "REJECT"
    row, history, events, claims = await traces(world, run)
    assert row["state_name"] == history[-1]["name"] == "AwaitingRetry"
    assert events[-1]["event"] == "prefect.flow-run.AwaitingRetry"
    assert row["in_process_retry"]
    assert row["next_scheduled_start_time"] == world.now + timedelta(seconds=10)
    # It waits in its process: it keeps its claim, and nobody is given it.
    assert list(claims) == [run]
    world.pass_seconds(60)
    assert await world.claim() == {}
    assert await world.due() == []
    await world.go(run, S.RUNNING, token=token)
    await world.go(run, S.FAILED, token=token)
    assert await world.claims() == {}


async def test_a_repeated_request_changes_nothing(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment())
    once = new_id()
    assert (await world.set(run, S.PENDING, transition_id=once)).status == "ACCEPT"
    before = await traces(world, run)
    answer = await world.set(run, S.PENDING, transition_id=once)
    assert answer.status == "REJECT"
    assert answer.state is not None
    assert answer.state.id == before[0]["state_id"]
    assert await traces(world, run) == before


async def test_a_stored_result_is_not_lost_even_by_force(memory: World) -> None:
    await memory.pool()
    run = await memory.run(await memory.deployment())
    await memory.go(run, S.PENDING, S.RUNNING)
    await memory.set(run, S.COMPLETED, data={"type": "reference", "storage_key": "k"})
    before = await traces(memory, run)
    assert (await memory.set(run, S.RUNNING)).status == "REJECT"
    assert (await memory.set(run, S.COMPLETED, force=True)).status == "REJECT"
    assert await traces(memory, run) == before


async def test_force_passes_the_other_rules(memory: World) -> None:
    run = await memory.ad_hoc()
    await memory.go(run, S.RUNNING, S.FAILED)
    assert (await memory.set(run, S.COMPLETED)).status == "REJECT"
    assert (await memory.set(run, S.COMPLETED, force=True)).status == "ACCEPT"
    assert await memory.state(run) == "Completed"


async def test_b5_a_run_without_deployment_is_not_scheduled_again(memory: World) -> None:
    run = await memory.ad_hoc()
    await memory.go(run, S.RUNNING, S.FAILED)
    assert (await memory.set(run, S.SCHEDULED)).status == "ABORT"


async def test_b7_what_has_not_begun_is_cancelled_at_once(memory: World) -> None:
    await memory.pool()
    run = await memory.run(await memory.deployment())
    answer = await memory.set(run, S.CANCELLING)
    assert answer.status == "REJECT"
    assert await memory.state(run) == "Cancelled"


async def test_b7_what_is_being_cancelled_ends_cancelled(memory: World) -> None:
    await memory.pool()
    run = await memory.run(await memory.deployment())
    await memory.go(run, S.PENDING, S.RUNNING, S.CANCELLING)
    assert (await memory.set(run, S.COMPLETED)).status == "REJECT"
    await memory.go(run, S.CANCELLED)
    assert await memory.claims() == {}


async def test_b6_a_pause_keeps_the_claim_and_a_suspension_frees_it(world: World) -> None:
    await world.pool(concurrency_limit=2)
    deployment = await world.deployment()
    paused, suspended = await world.run(deployment), await world.run(deployment)
    tokens = await world.claim()
    for run in (paused, suspended):
        await world.go(run, S.RUNNING, token=tokens[run])
    await world.set(paused, S.PAUSED, pause_key="a", token=tokens[paused])
    await world.set(
        suspended, S.PAUSED, "Suspended", pause_key="a", pause_reschedule=True, token=tokens[suspended]
    )
    assert set(await world.claims()) == {paused}
    assert (await world.set(paused, S.RUNNING)).status == "ACCEPT"
    again = await world.set(paused, S.PAUSED, pause_key="a", token=tokens[paused])
    assert again.status == "REJECT"
    assert (await world.set(suspended, S.SCHEDULED, "Resuming")).status == "ACCEPT"
    token = (await world.claim())[suspended]
    assert token == 2
    await world.go(suspended, S.RUNNING, token=token)
    assert (await world.read(suspended))["run_count"] == 1


async def test_b6_a_pause_that_timed_out_fails(memory: World) -> None:
    await memory.pool()
    run = await memory.run(await memory.deployment())
    await memory.go(run, S.PENDING, S.RUNNING)
    await memory.set(run, S.PAUSED, pause_timeout=memory.now + timedelta(seconds=5))
    memory.pass_seconds(6)
    assert (await memory.set(run, S.RUNNING)).status == "REJECT"
    assert await memory.state(run) == "Failed"
    assert await memory.claims() == {}


# Tokens (W15, W16)


async def test_w16_a_stale_token_is_refused_before_running(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment())
    old = (await world.claim())[run]
    await world.set(run, S.SCHEDULED)
    new = (await world.claim())[run]
    assert new == old + 1
    before = await traces(world, run)
    assert (await world.set(run, S.RUNNING, token=old)).status == "ABORT"
    assert (await world.set(run, S.RUNNING)).status == "ABORT"
    assert (await world.set(run, S.CRASHED, token=old)).status == "ABORT"
    assert await traces(world, run) == before
    await world.go(run, S.RUNNING, S.COMPLETED, token=new)
    assert (await world.set(run, S.CRASHED, token=new)).status == "ABORT"


async def nested(world: World, run: UUID, levels: int) -> UUID:
    """A subflow of a subflow ... of ``run``, all in its process."""
    for _ in range(levels):
        task = await world.dummy_task(run)
        run = await world.ad_hoc(parent_task_run_id=task)
    return run


@pytest.mark.parametrize("levels", [1, 2, 5])
async def test_w15_a_subflow_goes_by_the_token_of_the_claimed_flow(world: World, levels: int) -> None:
    await world.pool()
    parent = await world.run(await world.deployment())
    token = (await world.claim())[parent]
    await world.go(parent, S.RUNNING, token=token)
    child = await nested(world, parent, levels)
    assert (await world.set(child, S.RUNNING, token=token + 1)).status == "ABORT"
    await world.go(child, S.RUNNING, token=token)
    task = await world.dummy_task(child)
    body = SetState(state=a_state(S.RUNNING))
    answered = await world.database.write(
        transition.set_task_run_state, task, body, world.pass_seconds(1), token=token + 1
    )
    assert answered.answer.status == "ABORT"
    answered = await world.database.write(
        transition.set_task_run_state, task, body, world.pass_seconds(1), token=token
    )
    assert answered.answer.status == "ACCEPT"
    # The claim is over: the process that lost it changes nothing any more, on no level.
    await world.set(parent, S.CRASHED, token=token)
    assert (await world.set(child, S.COMPLETED, token=token)).status == "ABORT"


async def test_a_token_that_cannot_be_meant_for_the_run_is_none(world: World) -> None:
    run = await world.ad_hoc()
    child = await nested(world, run, 2)
    for one in (run, child):
        assert (await world.set(one, S.RUNNING, token=3)).status == "ACCEPT"
    task = await world.dummy_task(run)
    answered = await world.database.write(
        transition.set_task_run_state, task, SetState(state=a_state(S.RUNNING)), world.now, token=3
    )
    assert answered.answer.status == "ACCEPT"


async def test_a_stock_workers_claim_asks_for_no_token(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment())
    await world.go(run, S.PENDING, S.RUNNING)
    child = await nested(world, run, 1)
    await world.go(child, S.RUNNING, S.COMPLETED)
    await world.go(run, S.COMPLETED)


# The deployment's limit (B4, wire 4.5)


@pytest.mark.parametrize("end", [S.COMPLETED, S.FAILED, S.CRASHED, S.CANCELLED])
async def test_b4_a_slot_is_free_after_any_end(world: World, end: S) -> None:
    await world.pool()
    deployment = await world.deployment(concurrency_limit=1)
    for _ in range(3):
        run = await world.run(deployment)
        await world.go(run, S.PENDING, S.RUNNING, end)
        assert await world.claims() == {}


async def test_b4_enqueue_waits_and_cancel_new_cancels(world: World) -> None:
    await world.pool()
    for strategy, then in (("ENQUEUE", "AwaitingConcurrencySlot"), ("CANCEL_NEW", "Cancelled")):
        deployment = await world.deployment(
            concurrency_limit=1, concurrency_options={"collision_strategy": strategy}
        )
        first, second = await world.run(deployment), await world.run(deployment)
        await world.go(first, S.PENDING)
        assert (await world.set(second, S.PENDING)).status == "REJECT"
        assert await world.state(second) == then
        held = [row for row in (await world.claims()).values() if row["slot_of"] == deployment]
        assert [row["flow_run_id"] for row in held] == [first]


async def test_b4_a_retry_in_process_keeps_the_slot(world: World) -> None:
    await world.pool()
    deployment = await world.deployment(concurrency_limit=1)
    run = await world.run(deployment, empirical_policy=FlowRunPolicy(retries=1))
    other = await world.run(deployment)
    await world.go(run, S.PENDING, S.RUNNING)
    await world.set(run, S.FAILED)
    assert await world.state(run) == "AwaitingRetry"
    assert (await world.set(other, S.PENDING)).status == "REJECT"
    await world.go(run, S.RUNNING, S.COMPLETED)
    assert await world.claims() == {}
    await world.go(other, S.PENDING)


async def test_b4_a_client_that_sends_no_lease_keeps_it(memory: World) -> None:
    await memory.pool()
    run = await memory.run(await memory.deployment(concurrency_limit=1))
    await memory.go(run, S.PENDING)
    slot = (await memory.claims())[run]["slot_id"]
    await memory.set(run, S.RUNNING, deployment_concurrency_lease_id=new_id())
    row = await memory.read(run)
    assert row["state_details"]["deployment_concurrency_lease_id"] == str(slot)


async def test_p14_the_limit_of_a_pool_holds_for_workers_that_propose_pending(world: World) -> None:
    await world.pool(concurrency_limit=1)
    deployment = await world.deployment()
    first, second = await world.run(deployment), await world.run(deployment)
    await world.go(first, S.PENDING)
    before = await traces(world, second)
    answer = await world.set(second, S.PENDING)
    assert answer.status == "ABORT"
    assert "no free slot" in str(answer.details.reason)
    assert await traces(world, second) == before
    await world.go(first, S.RUNNING, S.COMPLETED)
    await world.go(second, S.PENDING)


async def test_p14_a_run_that_goes_straight_to_running_counts(memory: World) -> None:
    await memory.pool(concurrency_limit=1)
    deployment = await memory.deployment()
    first = await memory.run(deployment)
    await memory.run(deployment)
    await memory.go(first, S.RUNNING)
    assert await memory.claim() == {}
    await memory.go(first, S.COMPLETED)
    assert len(await memory.claim()) == 1


# Fields of a run


async def test_fields_of_a_run_follow_its_states(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment(), due_in=10, empirical_policy=FlowRunPolicy(retries=1))
    row = await world.read(run)
    due = START + timedelta(seconds=10)
    assert row["expected_start_time"] == row["next_scheduled_start_time"] == due
    world.now = due
    await world.go(run, S.PENDING)
    assert (await world.read(run))["next_scheduled_start_time"] is None
    await world.go(run, S.RUNNING)
    began = world.now
    world.pass_seconds(5)
    await world.set(run, S.FAILED)
    row = await world.read(run)
    assert (row["run_count"], row["end_time"]) == (1, None)
    world.pass_seconds(20)
    await world.go(run, S.RUNNING)
    world.pass_seconds(2)
    await world.go(run, S.COMPLETED)
    row = await world.read(run)
    assert (row["start_time"], row["end_time"], row["run_count"]) == (began, world.now, 2)
    assert row["total_run_time"] == pytest.approx(7.0, abs=0.01)
    assert row["expected_start_time"] == due


async def test_w15_the_token_of_one_run_does_not_judge_another(world: World) -> None:
    await world.pool()
    deployment = await world.deployment()
    mine, other = await world.run(deployment), await world.run(deployment)
    tokens = await world.claim()
    await world.go(mine, S.SCHEDULED, token=tokens[mine])
    tokens |= await world.claim()
    assert tokens[mine] != tokens[other]

    async def propose(run: UUID, type_: S, shown: ShownToken) -> str:
        world.pass_seconds(0.001)
        body = SetState(state=a_state(type_))
        change = transition.set_flow_run_state
        return str((await world.database.write(change, run, body, world.now, token=shown)).answer.status)

    shown = ShownToken(token=tokens[mine], flow_run_id=mine)
    assert await propose(mine, S.RUNNING, shown) == "ACCEPT"
    assert await propose(other, S.RUNNING, shown) == "ABORT", "only who holds its claim starts it"
    assert await propose(other, S.CANCELLING, shown) == "ACCEPT", "anybody may ask it to stop"
    stale = ShownToken(token=tokens[mine] - 1, flow_run_id=mine)
    assert await propose(mine, S.COMPLETED, stale) == "ABORT"
    assert await propose(mine, S.COMPLETED, shown) == "ACCEPT"
    assert await propose(mine, S.RUNNING, shown) == "ABORT", "its claim is over"


async def test_w15_a_subflow_is_judged_by_the_token_of_the_run_around_it(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment())
    token = (await world.claim())[run]
    await world.go(run, S.RUNNING, token=token)
    inside = await world.ad_hoc(parent_task_run_id=await world.dummy_task(run))
    shows = ((run, token + 1, "ABORT"), (new_id(), token + 1, "ACCEPT"), (run, token, "ACCEPT"))
    for of, number, status in shows:
        body = SetState(state=a_state(S.RUNNING))
        shown = ShownToken(token=number, flow_run_id=of)
        world.pass_seconds(1)
        answered = await world.database.write(
            transition.set_flow_run_state, inside, body, world.now, token=shown
        )
        assert answered.answer.status == status


@pytest.mark.parametrize(
    ("end", "then"), [("CRASHED", "Crashed"), ("CANCELLED", "Cancelled"), ("FAILED", "Running")]
)
async def test_pain_1_subflows_end_with_the_process_that_they_lived_in(
    world: World, end: str, then: str
) -> None:
    run = await world.ad_hoc()
    await world.go(run, S.RUNNING)
    inside = await world.ad_hoc(parent_task_run_id=await world.dummy_task(run))
    deeper = await world.ad_hoc(parent_task_run_id=await world.dummy_task(inside))
    done = await world.ad_hoc(parent_task_run_id=await world.dummy_task(run))
    elsewhere = await world.run(await world.deployment(None), parent_task_run_id=await world.dummy_task(run))
    for one in (inside, deeper, done, elsewhere):
        await world.go(one, S.RUNNING)
    await world.go(done, S.COMPLETED)
    await world.go(run, S(end))
    states = [await world.state(one) for one in (inside, deeper, done, elsewhere)]
    assert states == [then, then, "Completed", "Running"]
