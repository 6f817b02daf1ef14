"""How runs begin: many states, slots from the start, idempotency keys (wire 4.1)."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.orchestration.world import S, World, a_state, traces

from eparch.core.errors import Conflict, NotFound
from eparch.core.model import new_id
from eparch.store import tables as t

pytestmark = pytest.mark.anyio


# How a run begins


@pytest.mark.parametrize("type_", [S.SCHEDULED, S.PENDING, S.RUNNING, S.COMPLETED, S.FAILED])
async def test_a_run_may_begin_in_many_states(memory: World, type_: S) -> None:
    run = await memory.ad_hoc(state=a_state(type_))
    row, history, events, claims = await traces(memory, run)
    assert row["state_type"] == type_.value
    assert len(history) == len(events) == 1
    assert events[0]["payload"]["intended"] == {"from": None, "to": type_.value}
    assert claims == {}


async def test_a_run_cannot_begin_paused(world: World) -> None:
    await world.pool()
    deployment = await world.deployment()
    for state in (a_state(S.PAUSED), a_state(S.PAUSED, "Suspended")):
        with pytest.raises(Conflict, match="cannot begin"):
            await world.ad_hoc(state=state)
        with pytest.raises(Conflict, match="cannot begin"):
            await world.run(deployment, state=state)
    assert await world.select(sa.select(t.flow_run.c.id)) == []
    about_runs = sa.select(t.event.c.id).where(t.event.c.event.like("prefect.flow-run.%"))
    assert await world.select(about_runs) == []


async def test_b4_a_run_that_begins_pending_takes_its_slots(world: World) -> None:
    await world.pool(concurrency_limit=2)
    deployment = await world.deployment(concurrency_limit=1)
    first = await world.run(deployment, state=a_state(S.PENDING))
    second = await world.run(deployment, state=a_state(S.PENDING))
    assert await world.state(second) == "AwaitingConcurrencySlot"
    claims = await world.claims()
    assert set(claims) == {first}
    assert claims[first]["slot_of"] == deployment
    assert claims[first]["token"] == (await world.read(first))["fencing_token"] == 1
    await world.go(first, S.RUNNING, S.COMPLETED)
    assert await world.claims() == {}


async def test_an_unknown_deployment_or_flow_is_not_found(memory: World) -> None:
    with pytest.raises(NotFound):
        await memory.ad_hoc(new_id())
    with pytest.raises(NotFound):
        await memory.ad_hoc(deployment_id=new_id())
    with pytest.raises(NotFound):
        await memory.run(new_id())
    with pytest.raises(NotFound):
        await memory.dummy_task(new_id())
    with pytest.raises(NotFound):
        await memory.ad_hoc(work_pool_name="nowhere")


async def test_the_same_idempotency_key_is_the_same_run(world: World) -> None:
    flow = await world.flow()
    first = await world.ad_hoc(flow, idempotency_key="k")
    assert await world.ad_hoc(flow, idempotency_key="k") == first
    assert await world.ad_hoc(await world.flow(), idempotency_key="k") != first
