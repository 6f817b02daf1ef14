"""The slot of a run that a stock worker claimed: it is renewed, or it is free again (wire 4.5, pain 5)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from tests.orchestration.world import S, World

from eparch.core.errors import Gone
from eparch.core.model import new_id
from eparch.orchestration import concurrency
from eparch.orchestration.watchdog import Watchdog
from eparch.store import tables as t
from eparch.store.rows import id_of

pytestmark = pytest.mark.anyio

STOCK, OLD = (3, 9, 1), (3, 4, 10)


async def deployed(world: World, limit: int = 1, **options: Any) -> UUID:
    await world.pool()
    strategy = {"collision_strategy": "ENQUEUE", **options}
    return await world.deployment(concurrency_limit=limit, concurrency_options=strategy if options else None)


async def watch(world: World, seconds: float) -> None:
    world.pass_seconds(seconds)
    await Watchdog().run_once(world.database, world.now)


async def lease_of(world: World, run: UUID) -> UUID:
    return id_of((await world.read(run))["state_details"]["deployment_concurrency_lease_id"])


async def holders(world: World, deployment: UUID) -> set[UUID]:
    return {run for run, claim in (await world.claims()).items() if claim["slot_of"] == deployment}


async def begin(world: World, run: UUID, stock: tuple[int, int, int] | None = STOCK) -> None:
    for type_ in (S.PENDING, S.RUNNING):
        answer = await world.set(run, type_, stock=stock)
        assert answer.status == "ACCEPT", answer


async def renew(world: World, lease: UUID, seconds: float = 300) -> None:
    await world.database.write(concurrency.renew_lease, lease, seconds, world.now)


async def test_wire45_the_slot_of_a_dead_stock_worker_is_free_again(world: World) -> None:
    deployment = await deployed(world)
    dead, next_ = await world.run(deployment), await world.run(deployment)
    await begin(world, dead)
    lease = await lease_of(world, dead)
    assert (await world.set(next_, S.PENDING, stock=STOCK)).state.name == "AwaitingConcurrencySlot"  # type: ignore[union-attr]
    await watch(world, 299)
    assert await holders(world, deployment) == {dead}
    world.notes.clear()
    await watch(world, 2)
    assert await holders(world, deployment) == set()
    pool = (await world.claims())[dead]["work_pool_id"]
    assert ("work", pool) in [(note.topic, note.value) for note in world.notes], "who waits is woken"
    with pytest.raises(Gone):
        await renew(world, lease)
    assert await world.state(dead) == "Running"
    await begin(world, next_)
    assert await holders(world, deployment) == {next_}
    # The one that was thought dead ends: it frees nothing that is not its own.
    await world.go(dead, S.COMPLETED)
    assert await holders(world, deployment) == {next_}


async def test_wire45_a_run_that_renews_never_loses_its_slot(world: World) -> None:
    deployment = await deployed(world)
    run, other = await world.run(deployment), await world.run(deployment)
    await begin(world, run)
    lease = await lease_of(world, run)
    for seconds in (225, 225, 299, 299):
        await watch(world, seconds)
        await renew(world, lease)
        answer = await world.set(other, S.PENDING, stock=STOCK)
        assert answer.state is not None
        assert answer.state.name == "AwaitingConcurrencySlot"
    await renew(world, lease, 60)
    await watch(world, 61)
    assert await holders(world, deployment) == set()


async def test_wire45_the_grace_period_is_the_deployments(world: World) -> None:
    deployment = await deployed(world, grace_period_seconds=60)
    slow, other = await world.run(deployment), await world.run(deployment)
    await world.set(slow, S.PENDING, stock=STOCK)
    await watch(world, 59)
    assert await holders(world, deployment) == {slow}
    await watch(world, 2)
    assert await holders(world, deployment) == set()
    await begin(world, other)
    answer = await world.set(slow, S.RUNNING, stock=STOCK)
    assert answer.status == "REJECT"
    assert await world.state(slow) == "Cancelled"
    assert await holders(world, deployment) == {other}


async def test_wire45_who_begins_late_takes_a_slot_that_is_still_free(world: World) -> None:
    deployment = await deployed(world, grace_period_seconds=60)
    slow = await world.run(deployment)
    await world.set(slow, S.PENDING, stock=STOCK)
    before = await lease_of(world, slow)
    await watch(world, 100)
    assert (await world.set(slow, S.RUNNING, stock=STOCK)).status == "ACCEPT"
    assert await lease_of(world, slow) != before
    assert await holders(world, deployment) == {slow}
    await watch(world, 61)
    assert await holders(world, deployment) == set()


@pytest.mark.parametrize("stock", [OLD, None])
async def test_wire45_a_client_that_does_not_renew_keeps_its_slot(
    world: World, stock: tuple[int, int, int] | None
) -> None:
    deployment = await deployed(world)
    run = await world.run(deployment)
    await begin(world, run, stock)
    await watch(world, 100_000)
    assert await holders(world, deployment) == {run}
    await world.go(run, S.COMPLETED)
    assert await holders(world, deployment) == set()


async def test_wire45_the_first_workers_of_3_0_take_slots_themselves(memory: World) -> None:
    deployment = await deployed(memory)
    for _ in range(2):
        await begin(memory, await memory.run(deployment), (3, 0, 3))
    assert await holders(memory, deployment) == set()


async def test_wire45_the_slot_of_our_worker_lasts_as_long_as_its_claim(world: World) -> None:
    deployment = await deployed(world)
    run = await world.run(deployment)
    token = (await world.claim(lease_seconds=3600))[run]
    await world.go(run, S.RUNNING, token=token)
    lease = await lease_of(world, run)
    await watch(world, 1000)
    assert await holders(world, deployment) == {run}
    await renew(world, lease, 60)
    await watch(world, 1000)
    assert await holders(world, deployment) == {run}
    await watch(world, 2000)
    assert await holders(world, deployment) == set()
    assert await world.state(run) == "Crashed"


async def test_wire45_a_retry_that_another_worker_takes_keeps_one_slot(world: World) -> None:
    deployment = await deployed(world)
    run = await world.run(deployment)
    await begin(world, run)
    await world.go(run, S.SCHEDULED)
    assert await holders(world, deployment) == set()
    await begin(world, run)
    assert await holders(world, deployment) == {run}
    claim = (await world.claims())[run]
    assert claim["slot_id"] == await lease_of(world, run)
    assert claim["slot_until"] > world.now + timedelta(seconds=299)


async def test_wire45_a_lease_that_nobody_gave_is_gone(memory: World) -> None:
    with pytest.raises(Gone):
        await renew(memory, new_id())
    assert await memory.select(sa.select(t.claim.c.flow_run_id)) == []
