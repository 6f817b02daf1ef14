"""Work pools and queues: names, templates, priorities, the default queue (P1, P2, P15, W3)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.orchestration.world import S, World

from eparch.core.errors import Conflict, Forbidden, Invalid, NotFound
from eparch.core.pools import Heartbeat, WorkPoolCreate, WorkPoolUpdate, WorkQueueUpdate
from eparch.orchestration import pools
from eparch.store import pools as stored
from eparch.store.rows import id_of

pytestmark = pytest.mark.anyio

TEMPLATE: dict[str, Any] = {
    "job_configuration": {"command": "{{ command }}"},
    "variables": {"type": "object", "properties": {"command": {"type": "string"}}},
}


async def priorities(world: World, pool: str = "pool") -> dict[str, int]:
    made = await world.database.read(stored.read_pool, pool, world.now)
    assert made is not None
    found = await world.database.read(stored.queue_priorities, id_of(made["id"]))
    return {name: priority for _, name, priority in found}


async def update(world: World, queue: str, **fields: Any) -> None:
    patch = WorkQueueUpdate(**fields)
    await world.database.write(pools.update_queue, "pool", queue, patch, world.now)


async def test_p1_a_new_pool_has_a_default_queue(world: World) -> None:
    await world.pool(base_job_template=TEMPLATE, concurrency_limit=0)
    made = await world.database.read(stored.read_pool, "pool", world.now)
    assert made is not None
    assert (made["type"], made["concurrency_limit"], str(made["status"])) == ("process", 0, "NOT_READY")
    queue = await world.database.read(stored.read_queue_by_name, "pool", "default", world.now)
    assert queue is not None
    assert (id_of(queue["id"]), queue["priority"]) == (id_of(made["default_queue_id"]), 1)


async def test_p1_a_name_is_taken_once_also_at_once(world: World) -> None:
    body = WorkPoolCreate(name="pool", type="process")

    async def create() -> bool:
        try:
            await world.database.write(pools.create_pool, body, world.now)
        except Conflict:
            return False
        return True

    assert sum(await asyncio.gather(*(create() for _ in range(4)))) == 1
    assert await priorities(world) == {"default": 1}


@pytest.mark.parametrize("name", ["prefect-x", "Prefect", "PREFECT:managed"])
async def test_reserved_names_are_refused(world: World, name: str) -> None:
    with pytest.raises(Forbidden):
        await world.pool(name)


@pytest.mark.parametrize(
    "template",
    [
        {"variables": {}},
        {"job_configuration": {}},
        {**TEMPLATE, "job_configuration": {"command": "{{ comand }}"}},
        {**TEMPLATE, "variables": {"type": "object", "properties": {"command": {"type": "strin"}}}},
    ],
)
async def test_p2_a_template_that_cannot_work_is_refused(world: World, template: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        await world.pool(base_job_template=template)
    await world.pool(base_job_template=TEMPLATE)
    patch = WorkPoolUpdate(base_job_template=template)
    with pytest.raises(Invalid):
        await world.database.write(pools.update_pool, "pool", patch, world.now)


async def test_p1_a_pool_changes_only_what_is_given(world: World) -> None:
    await world.pool(base_job_template=TEMPLATE, concurrency_limit=5, description="d")
    for patch in (
        WorkPoolUpdate(is_paused=True),
        WorkPoolUpdate(is_paused=None, base_job_template=None),
        WorkPoolUpdate(concurrency_limit=None),
    ):
        await world.database.write(pools.update_pool, "pool", patch, world.now)
    made = await world.database.read(stored.read_pool, "pool", world.now)
    assert made is not None
    assert (made["is_paused"], made["concurrency_limit"], made["description"]) == (True, None, "d")
    template = await world.database.read(stored.read_template, id_of(made["id"]))
    assert template == (TEMPLATE, "process")


async def test_p15_priorities_are_unique(world: World) -> None:
    await world.pool()
    await world.queue("last")
    await world.queue("first", priority=1)
    assert await priorities(world) == {"first": 1, "default": 2, "last": 3}
    await world.queue("far", priority=9)
    await world.queue("new", priority=9)
    await update(world, "last", priority=1)
    assert await priorities(world) == {"last": 1, "first": 2, "default": 3, "new": 9, "far": 10}
    await update(world, "last", priority=1, description="same place")
    await update(world, "far", priority=4)
    assert await priorities(world) == {"last": 1, "first": 2, "default": 3, "far": 4, "new": 9}


async def test_p15_queues_made_at_once_have_places_of_their_own(world: World) -> None:
    await world.pool()
    await asyncio.gather(*(world.queue(f"q{n}", priority=1 + n % 2) for n in range(6)))
    found = await priorities(world)
    assert len(found) == 7
    assert len(set(found.values())) == 7


async def test_the_default_queue_stays(world: World) -> None:
    await world.pool()
    with pytest.raises(Conflict):
        await world.database.write(pools.delete_queue, "pool", "default", world.now)
    with pytest.raises(Invalid):
        await update(world, "default", name="other")
    await update(world, "default", name="default", concurrency_limit=2)


async def test_a_queue_is_renamed_and_deleted(world: World) -> None:
    await world.pool()
    await world.queue("a")
    await world.queue("b")
    with pytest.raises(Conflict, match="'b'"):
        await update(world, "a", name="b")
    with pytest.raises(Conflict):
        await world.queue("a")
    await update(world, "a", name="c")
    deployment = await world.deployment(work_queue_name="c")
    run = await world.run(deployment)
    await world.database.write(pools.delete_queue, "pool", "c", world.now)
    assert set(await priorities(world)) == {"default", "b"}
    assert (await world.read(run))["work_queue_id"] is None
    with pytest.raises(NotFound):
        await world.database.write(pools.delete_queue, "pool", "c", world.now)


async def test_a_pool_is_deleted_with_its_queues_and_its_runs_stay(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment())
    token = (await world.claim())[run]
    await world.database.write(pools.delete_pool, "pool", world.now)
    assert await world.state(run) == "Pending"
    await world.go(run, S.RUNNING, S.COMPLETED, token=token)
    assert await world.claims() == {}
    for call in (
        (pools.delete_pool, "pool", world.now),
        (pools.update_pool, "pool", WorkPoolUpdate(), world.now),
        (pools.heartbeat, "pool", Heartbeat(name="w"), world.now),
        (pools.update_queue, "pool", "default", WorkQueueUpdate(), world.now),
    ):
        with pytest.raises(NotFound):
            await world.database.write(*call)


async def test_w13_many_workers_beat_at_once(world: World) -> None:
    await world.pool()
    beats = [Heartbeat(name=f"w{n % 3}", heartbeat_interval_seconds=10) for n in range(12)]
    await asyncio.gather(*(world.database.write(pools.heartbeat, "pool", beat, world.now) for beat in beats))
    made = await world.database.read(stored.read_pool, "pool", world.now)
    assert made is not None
    assert str(made["status"]) == "READY"
