"""What is made, changed and deleted is told once, in the transaction that does it (wire 4.2)."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from tests.orchestration.world import World

from eparch.core.deployments import DeploymentUpdate
from eparch.core.errors import EparchError
from eparch.core.pools import Heartbeat, WorkPoolUpdate, WorkQueueUpdate
from eparch.orchestration import deployments, pools
from eparch.store import tables as t
from eparch.store.statement import Steps

pytestmark = pytest.mark.anyio


async def told(world: World, about: str = "") -> list[dict[str, Any]]:
    """The events about ``about``, in the order of their commits."""
    table = t.event
    found = await world.select(sa.select(*table.columns).order_by(table.c.position, table.c.id))
    return [row for row in found if row["resource_id"].startswith(f"prefect.{about}")]


async def names(world: World, about: str = "") -> list[str]:
    return [row["event"].removeprefix("prefect.") for row in await told(world, about)]


async def test_a_pool_and_its_queues(world: World) -> None:
    pool_id = await world.pool("p")
    assert await names(world) == ["work-queue.created", "work-pool.created"]
    queue, pool = await told(world)
    assert pool["resource"] == {
        "prefect.resource.id": f"prefect.work-pool.{pool_id}",
        "prefect.resource.name": "p",
        "prefect.resource.role": "work-pool",
        "prefect.work-pool.type": "process",
    }
    assert [r["prefect.resource.role"] for r in pool["related"]] == ["default-queue"]
    assert (queue["resource"]["prefect.resource.name"], queue["related"]) == ("default", [pool["resource"]])
    await world.queue("fast", "p", priority=1)
    await world.database.write(pools.delete_pool, "p", world.now)
    assert await names(world, "work-pool") == ["work-pool.created", "work-pool.deleted"]
    assert (await names(world, "work-queue")).count("work-queue.deleted") == 2


async def test_a_change_of_a_pool_says_what_changed(world: World) -> None:
    await world.pool("p")
    patch = WorkPoolUpdate(description="new", concurrency_limit=5)
    for _ in range(2):  # the second time nothing is another
        await world.database.write(pools.update_pool, "p", patch, world.now)
    (event,) = [row for row in await told(world) if row["event"].endswith("updated")]
    assert event["payload"] == {
        "updated_fields": ["description", "concurrency_limit"],
        "updates": {
            "description": {"from": None, "to": "new"},
            "concurrency_limit": {"from": None, "to": 5},
        },
    }


async def test_a_pool_that_pauses_goes_on_and_gets_a_worker(world: World) -> None:
    await world.pool("p")
    for paused in (True, False):
        await world.database.write(pools.update_pool, "p", WorkPoolUpdate(is_paused=paused), world.now)
    beat = Heartbeat(name="w")
    for _ in range(2):
        await world.database.write(pools.heartbeat, "p", beat, world.now)
    assert await names(world, "work-pool") == [
        f"work-pool.{what}" for what in ("created", "updated", "paused", "updated", "not-ready", "ready")
    ]


async def test_a_queue(world: World) -> None:
    await world.pool("p")
    await world.queue("q", "p")
    for patch in (WorkQueueUpdate(is_paused=True), WorkQueueUpdate(concurrency_limit=2)):
        await world.database.write(pools.update_queue, "p", "q", patch, world.now)
    await world.database.write(pools.delete_queue, "p", "q", world.now)
    own = [row for row in await told(world) if row["resource"].get("prefect.resource.name") == "q"]
    assert [row["event"].rpartition(".")[2] for row in own] == [
        "created", "updated", "paused", "updated", "deleted"
    ]  # fmt: skip
    assert {row["related"][0]["prefect.resource.name"] for row in own} == {"p"}


async def test_a_deployment(world: World) -> None:
    await world.pool()
    flow = await world.flow("report")
    made = await world.deployment(flow_id=flow, name="nightly", tags=["a"])
    await world.deployment(flow_id=flow, name="nightly", tags=["a"])  # the same again changes nothing
    await world.deployment(flow_id=flow, name="nightly", tags=["b"])
    await world.database.write(deployments.update_deployment, made, DeploymentUpdate(paused=True), world.now)
    await world.database.write(deployments.delete_deployment, made, world.now)
    found = await told(world, "deployment")
    assert [row["event"].rpartition(".")[2] for row in found] == ["created", "updated", "updated", "deleted"]
    assert found[1]["payload"]["updates"] == {"tags": {"from": ["a"], "to": ["b"]}}
    assert found[2]["payload"]["updated_fields"] == ["paused"]
    for row in found:
        assert row["resource"] == {
            "prefect.resource.id": f"prefect.deployment.{made}",
            "prefect.resource.name": "nightly",
        }
        roles = {r["prefect.resource.role"]: r["prefect.resource.name"] for r in row["related"]}
        assert roles == {"flow": "report", "work-queue": "default", "work-pool": "pool"}


async def test_what_is_rolled_back_is_not_told(world: World) -> None:
    await world.pool("p")
    made = await world.deployment("p")
    await world.queue("fast", "p")
    before = await names(world)

    def broken(operation: Any, *args: Any) -> Steps[None]:
        yield from operation(*args)
        raise EparchError("Something else went wrong.")

    for operation, *args in (
        (pools.update_pool, "p", WorkPoolUpdate(is_paused=True), world.now),
        (pools.update_queue, "p", "default", WorkQueueUpdate(is_paused=True), world.now),
        (pools.delete_queue, "p", "fast", world.now),
        (deployments.update_deployment, made, DeploymentUpdate(paused=True), world.now),
        (deployments.delete_deployment, made, world.now),
        (pools.delete_pool, "p", world.now),
    ):
        with pytest.raises(EparchError):
            await world.database.write(broken, operation, *args)
    assert await names(world) == before
