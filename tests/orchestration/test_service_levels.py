"""Service levels: each breach is one event, whoever looks and however often (row D17)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from tests.orchestration.world import S, World, gather

from eparch.core.errors import Invalid, NotFound
from eparch.core.model import new_id
from eparch.core.service_levels import BREACH, LevelsApplied, NamedLevel, ServiceLevelSpec
from eparch.orchestration import service_levels
from eparch.orchestration.service_levels import ServiceLevels, look
from eparch.store import service_levels as stored
from eparch.store import tables as t

pytestmark = pytest.mark.anyio


async def deploy(world: World, **fields: Any) -> UUID:
    await world.pool()
    deployment_id = await world.deployment()
    spec = ServiceLevelSpec(name="own", **fields)
    await world.database.write(service_levels.apply, deployment_id, [spec], world.now)
    return deployment_id


async def watch(world: World, seconds: float) -> list[str]:
    """The resources of all breaches so far, after everybody has looked at once."""
    world.pass_seconds(seconds)
    ids = await world.select(sa.select(t.service_level.c.id))
    await gather(*(world.database.write(look, row["id"], world.now) for row in ids for _ in range(3)))
    await ServiceLevels().run_once(world.database, world.now)
    rows = await world.select(sa.select(t.event.c.event, t.event.c.resource_id, t.event.c.payload))
    assert all(row["payload"]["sla"]["name"] == "own" for row in rows if row["event"] == BREACH)
    return sorted(row["resource_id"] for row in rows if row["event"] == BREACH)


async def test_d17_a_run_that_takes_too_long_is_told_once(world: World) -> None:
    deployment_id = await deploy(world, duration=60.0)
    quick, slow, late = [await world.run(deployment_id) for _ in range(3)]
    tokens = await world.claim()
    for run_id in (quick, slow, late):
        await world.go(run_id, S.RUNNING, token=tokens[run_id])
    world.pass_seconds(50)
    await world.go(quick, S.COMPLETED, token=tokens[quick])
    assert await watch(world, 5) == []
    # It ends between two looks, too late.
    world.pass_seconds(10)
    await world.go(late, S.COMPLETED, token=tokens[late])
    both = sorted(f"prefect.flow-run.{run_id}" for run_id in (slow, late))
    assert await watch(world, 10) == both
    assert await watch(world, 600) == both


async def test_d17_a_run_that_begins_too_late_is_told_once(world: World) -> None:
    deployment_id = await deploy(world, within=timedelta(seconds=60))
    prompt, never = await world.run(deployment_id, 10), await world.run(deployment_id, 100)
    world.pass_seconds(30)
    [(run_id, token)] = (await world.claim()).items()
    assert run_id == prompt
    await world.go(prompt, S.RUNNING, token=token)
    assert await watch(world, 60) == []
    told = [f"prefect.flow-run.{never}"]
    assert await watch(world, 100) == told
    assert await watch(world, 100) == told


async def test_d17_no_completed_run_in_time_is_told_once_until_there_is_one(world: World) -> None:
    deployment_id = await deploy(world, stale_after=3600.0)
    own = f"prefect.deployment.{deployment_id}"
    assert await watch(world, 3600) == []
    assert await watch(world, 1) == [own]
    assert await watch(world, 7200) == [own]
    await world.run(deployment_id)
    [(run_id, token)] = (await world.claim()).items()
    await world.go(run_id, S.RUNNING, S.COMPLETED, token=token)
    assert await watch(world, 3000) == [own]
    assert await watch(world, 3000) == [own, own]


async def test_d17_levels_are_merged_by_name(world: World) -> None:
    deployment_id = await deploy(world, duration=60.0)

    async def apply(*specs: ServiceLevelSpec) -> LevelsApplied:
        return await world.database.write(service_levels.apply, deployment_id, specs, world.now)

    answer = await apply(ServiceLevelSpec(name="own", duration=90), ServiceLevelSpec(name="b", within=5))
    assert answer == LevelsApplied(created=[NamedLevel(name="b")], updated=[NamedLevel(name="own")])
    assert await apply(ServiceLevelSpec(name="b", within=5, enabled=False)) == LevelsApplied(
        updated=[NamedLevel(name="b")], deleted=[NamedLevel(name="own")]
    )
    assert await world.database.read(stored.enabled, UUID(int=0), 10) == []
    [one] = await world.database.read(stored.of_deployment, deployment_id)
    assert (one.name, one.seconds, one.enabled) == ("b", 5.0, False)
    for wrong in (
        [ServiceLevelSpec(name="x")],
        [ServiceLevelSpec(name="x", within=1, duration=1)],
        [ServiceLevelSpec(name="x", within=1), ServiceLevelSpec(name="x", within=1)],
    ):
        with pytest.raises(Invalid):
            await apply(*wrong)
    with pytest.raises(NotFound):
        await world.database.write(service_levels.apply, new_id(), [], world.now)
