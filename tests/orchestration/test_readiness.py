"""Pools, queues and deployments become ready and cease to be; each is told once (wire 4.2, row W14)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from tests.orchestration.world import World, gather

from eparch.core.pools import Heartbeat, WorkPoolUpdate
from eparch.orchestration import deployments, erasure, pools
from eparch.orchestration.readiness import Readiness
from eparch.orchestration.runs import due_deployment_runs
from eparch.store import pools as stored_pools
from eparch.store import tables as t

pytestmark = pytest.mark.anyio

KINDS = ("work-pool", "work-queue", "deployment")


async def look(world: World, seconds: float = 0) -> None:
    world.pass_seconds(seconds)
    while await Readiness().run_once(world.database, world.now):
        pass


async def told(world: World) -> list[dict[str, Any]]:
    found = await world.select(sa.select(*t.event.columns).order_by(t.event.c.position, t.event.c.id))
    return [row for row in found if row["event"].endswith("ready")]


async def statuses(world: World) -> list[str]:
    return sorted(row["event"].removeprefix("prefect.") for row in await told(world))


async def serve(world: World, deployment: UUID) -> None:
    await world.database.write(due_deployment_runs, [deployment], None, 10, world.now)


async def test_w14_a_claim_makes_pool_queue_and_deployments_ready_until_nobody_claims(world: World) -> None:
    await world.pool()
    made = {await world.deployment() for _ in range(2)}
    await world.deployment(None)
    await look(world)
    assert await told(world) == []
    await world.claim()
    for _ in range(2):
        await look(world)
    ready = ["deployment.ready", "deployment.ready", "work-pool.ready", "work-queue.ready"]
    assert await statuses(world) == ready
    about = {r["resource_id"] for r in await told(world) if "deployment" in r["event"]}
    assert about == {f"prefect.deployment.{id_}" for id_ in made}
    for _ in range(4):
        world.pass_seconds(50)
        await world.claim()
        await look(world)
    assert await statuses(world) == ready
    await look(world, 61)
    gone = ["deployment.not-ready", "deployment.not-ready", "work-queue.not-ready"]
    assert await statuses(world) == sorted([*ready, *gone])
    await look(world, 30)
    assert await statuses(world) == sorted([*ready, *gone, "work-pool.not-ready"])
    await look(world, 1000)
    await world.claim()
    await look(world)
    assert await statuses(world) == sorted([*ready, *ready, *gone, "work-pool.not-ready"])


async def test_w14_a_deployment_that_is_served_is_ready(world: World) -> None:
    deployment = await world.deployment(None)
    await serve(world, deployment)
    await look(world)
    await look(world, 59)
    assert await statuses(world) == ["deployment.ready"]
    await look(world, 2)
    assert await statuses(world) == ["deployment.not-ready", "deployment.ready"]
    event = (await told(world))[0]
    assert event["resource"]["prefect.resource.id"] == f"prefect.deployment.{deployment}"
    assert [one["prefect.resource.role"] for one in event["related"]] == ["flow"]


async def test_a_heartbeat_tells_at_once_and_nobody_tells_again(world: World) -> None:
    await world.pool()
    await world.database.write(pools.heartbeat, "pool", Heartbeat(name="w"), world.now)
    assert await statuses(world) == ["work-pool.ready"]
    await look(world)
    assert await statuses(world) == ["work-pool.ready"]
    # It is back before anybody has seen that it was gone.
    world.pass_seconds(100)
    await world.database.write(pools.heartbeat, "pool", Heartbeat(name="w"), world.now)
    await look(world)
    assert await statuses(world) == ["work-pool.ready"]


async def test_w13_w14_a_pool_is_ready_for_as_long_as_its_workers_own_intervals_say(world: World) -> None:
    async def own() -> tuple[str, list[str]]:
        await look(world)
        pool = await world.database.read(stored_pools.read_pool, "pool", world.now)
        return pool["status"], await statuses(world)

    async def beat(name: str, interval: int) -> None:
        body = Heartbeat(name=name, heartbeat_interval_seconds=interval)
        await world.database.write(pools.heartbeat, "pool", body, world.now)

    await world.pool()
    await beat("often", 5)
    world.pass_seconds(15)
    assert await own() == ("READY", ["work-pool.ready"])
    world.pass_seconds(1)
    gone = ["work-pool.not-ready", "work-pool.ready"]
    assert await own() == ("NOT_READY", gone)
    await beat("seldom", 600)
    await beat("often", 5)
    world.pass_seconds(1800)
    assert await own() == ("READY", [*gone, "work-pool.ready"])
    world.pass_seconds(1)
    assert (await own())[0] == "NOT_READY"
    # What no worker means cannot be reckoned with.
    for number, interval in enumerate((10**18, -(10**18), 0)):
        await beat(f"odd{number}", interval)
    assert (await own())[0] == "READY"
    world.pass_seconds(3 * 86_400 + 1)
    assert (await own())[0] == "NOT_READY"


async def test_a_paused_pool_is_neither(world: World) -> None:
    await world.pool()
    await world.claim()
    await look(world)
    await world.database.write(pools.update_pool, "pool", WorkPoolUpdate(is_paused=True), world.now)
    await look(world, 1000)
    own = [name for name in await statuses(world) if name.startswith("work-pool")]
    assert own == ["work-pool.ready"]
    await world.database.write(pools.update_pool, "pool", WorkPoolUpdate(is_paused=False), world.now)
    await look(world)
    own = [name for name in await statuses(world) if name.startswith("work-pool")]
    assert own == ["work-pool.not-ready", "work-pool.ready"]


async def test_what_is_deleted_is_forgotten(world: World) -> None:
    await world.pool()
    deployment = await world.deployment()
    await world.claim()
    await look(world)
    await world.database.write(deployments.delete_deployment, deployment, world.now)
    await world.database.write(pools.delete_pool, "pool", world.now)
    await look(world, 1000)
    assert await world.select(sa.select(t.ready_resource.c.id)) == []
    assert await statuses(world) == ["deployment.ready", "work-pool.ready", "work-queue.ready"]


async def test_two_servers_that_look_at_once_tell_once(world: World) -> None:
    await world.pool()
    for _ in range(60):
        await world.deployment()
    await world.claim()
    await gather(*(look(world) for _ in range(4)))
    found = await statuses(world)
    assert (len(found), len({r["resource_id"] for r in await told(world)})) == (62, 62)


async def test_a_deleted_flow_tells_of_its_deployments(world: World) -> None:
    flow = await world.flow("doomed")
    made = {await world.deployment(None, flow_id=flow) for _ in range(2)}
    await erasure.empty_flow(world.database, flow)
    await world.database.write(erasure.delete_flow, flow, world.now)
    found = await world.select(sa.select(*t.event.columns))
    deleted = [row for row in found if row["event"] == "prefect.deployment.deleted"]
    assert {row["resource_id"] for row in deleted} == {f"prefect.deployment.{id_}" for id_ in made}
    assert all(row["related"][0]["prefect.resource.name"] == "doomed" for row in deleted)
