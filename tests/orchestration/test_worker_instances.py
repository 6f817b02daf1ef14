"""What is kept of workers: instances, orders, lines (W11-W13, W18, W29)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.orchestration.test_claims import Asking, asking  # noqa: F401
from tests.orchestration.world import World

from eparch.core.errors import Conflict, NotFound
from eparch.core.model import new_id
from eparch.core.pools import Heartbeat
from eparch.core.worker_instances import (
    KEPT_LINES,
    About,
    InstanceQuery,
    Keeping,
    LineQuery,
    WorkerInstance,
    WorkerLineCreate,
    WorkerOrder,
    WorkerReport,
)
from eparch.orchestration import pools, worker_instances

pytestmark = pytest.mark.anyio

KEEPING = Keeping(forget_seconds=1000)


async def report(world: World, id_: UUID, name: str = "w", pool: str = "pool", **more: Any) -> WorkerOrder:
    given = {"started_at": world.now, "heartbeat_interval_seconds": 30, "poll_interval_seconds": 25}
    body = WorkerReport(id=id_, name=name, **{**given, **more})
    answer = await world.database.write(worker_instances.report, pool, body, world.now, KEEPING)
    return answer.order


async def instances(world: World, **query: Any) -> list[WorkerInstance]:
    asked = InstanceQuery(**query)
    return await world.database.read(worker_instances.read_instances, asked, 200, world.now, KEEPING)


async def order(world: World, wanted: WorkerOrder, name: str = "w") -> list[WorkerInstance]:
    return await world.database.write(worker_instances.drain, "pool", name, wanted, world.now, KEEPING)


async def test_w11_a_restart_is_a_new_instance_of_the_same_name(world: World) -> None:
    await world.pool()
    first, second, began = new_id(), new_id(), world.now
    about = About(host="h", pid=7, software="eparch", version="1", types=["process"], labels={"a": "b"})
    await report(world, first, about=about)
    world.pass_seconds(60)
    await report(world, first, about=about, started_at=began)
    await report(world, second, about=About(pid=8, capacity=3, runs=[first]))
    new, old = await instances(world, work_pool_name="pool", name="w")
    assert (old.id, old.started_at, old.created, old.about) == (first, began, began, about)
    assert (new.id, new.started_at, new.about.pid, new.about.runs) == (second, world.now, 8, [first])
    assert [one.status for one in (new, old)] == ["ONLINE", "ONLINE"]
    await report(world, first, stopped=True)
    assert {one.id: one.status for one in await instances(world)} == {first: "OFFLINE", second: "ONLINE"}
    with pytest.raises(Conflict, match="is not one of 'other'"):
        await report(world, first, "other")
    with pytest.raises(NotFound):
        await report(world, new_id(), pool="nope")


async def test_w12_polls_and_heartbeats_are_two_things(world: World) -> None:
    await world.pool()
    beats_only, polls_only = new_id(), new_id()
    for id_, name in ((beats_only, "beats"), (polls_only, "polls")):
        await report(world, id_, name)
    world.pass_seconds(100)
    await report(world, beats_only, "beats")
    await world.claim(worker_name="polls", instance_id=polls_only)
    found = {one.name: one for one in await instances(world)}
    assert {name: one.status for name, one in found.items()} == {"beats": "UNHEALTHY", "polls": "UNHEALTHY"}
    assert "asked for runs 100 s ago" in found["beats"].reason
    assert "heartbeat came 100 s ago" in found["polls"].reason
    assert (found["polls"].last_polled_at, found["beats"].last_heartbeat_at) == (world.now, world.now)
    assert found["polls"].last_heartbeat_at == found["beats"].created
    world.pass_seconds(100)
    assert {one.status for one in await instances(world)} == {"OFFLINE"}


async def test_w12_polls_are_written_down_once_in_a_while(world: World) -> None:
    await world.pool()
    own = new_id()
    await report(world, own)
    written = set()
    for _ in range(10):
        world.pass_seconds(1)
        await world.claim(instance_id=own)
        (one,) = await instances(world)
        written.add(one.last_polled_at)
    assert len(written) == 2


async def test_a_claim_of_an_unknown_instance_or_of_another_pool_marks_nothing(memory: World) -> None:
    await memory.pool()
    await memory.pool("other")
    own = new_id()
    await report(memory, own)
    await memory.claim(instance_id=new_id())
    await memory.claim(pool="other", instance_id=own)
    (one,) = await instances(memory)
    assert one.last_polled_at is None


async def test_w11_a_stock_worker_is_one_instance_until_it_was_gone(world: World) -> None:
    await world.pool()
    about = About(software="prefect", version="3.8.8")

    async def beat() -> WorkerInstance:
        body = Heartbeat(name="stock", heartbeat_interval_seconds=30)
        call = (worker_instances.stock_heartbeat, "pool", body, about, world.now, KEEPING)
        await world.database.write(*call)
        (one,) = await instances(world)
        return one

    began = world.now
    await beat()
    world.pass_seconds(30)
    one = await beat()
    assert (one.started_at, one.status, one.about) == (began, "ONLINE", about)
    world.pass_seconds(500)
    assert (await instances(world))[0].status == "OFFLINE"
    assert (await beat()).started_at == world.now
    with pytest.raises(Conflict, match="takes no orders"):
        await order(world, WorkerOrder.DRAIN, "stock")


async def test_old_instances_are_forgotten(world: World) -> None:
    await world.pool()
    await report(world, new_id(), "old")
    world.pass_seconds(1001)
    assert await instances(world) == []
    await report(world, new_id(), "new")
    world.pass_seconds(-1001)
    assert [one.name for one in await instances(world)] == ["new"]


async def test_a_pool_keeps_so_many_instances(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_instances, "KEPT_INSTANCES", 3)
    await world.pool()
    for number in range(6):
        world.pass_seconds(1)
        await report(world, new_id(), f"w{number}")
    assert [one.name for one in await instances(world)] == ["w5", "w4", "w3"]


async def test_a_worker_that_is_deleted_leaves_no_instance(world: World) -> None:
    await world.pool()
    await report(world, new_id())
    await world.database.write(pools.delete_worker, "pool", "w")
    assert await instances(world) == []


async def test_w18_an_order_is_told_with_the_next_claim_and_the_next_report(world: World) -> None:
    await world.pool()
    deployment, own = await world.deployment(), new_id()
    await world.run(deployment)
    assert await report(world, own) == "work"
    (ordered,) = await order(world, WorkerOrder.DRAIN)
    assert (ordered.status, ordered.order) == ("DRAINING", "drain")
    assert await world.claim(instance_id=own) == {}
    assert await report(world, own, draining=True) == "drain"
    await order(world, WorkerOrder.WORK)
    assert await world.claim(instance_id=own) == {}
    assert len(await world.claim(instance_id=new_id())) == 1
    await order(world, WorkerOrder.WORK)
    assert await report(world, own) == "work"
    assert (await instances(world))[0].status == "ONLINE"
    with pytest.raises(NotFound) as caught:
        await order(world, WorkerOrder.DRAIN, "ww")
    assert caught.value.fix == "Did you mean 'w'?"
    await report(world, own, stopped=True)
    with pytest.raises(Conflict, match="offline"):
        await order(world, WorkerOrder.DRAIN)


async def test_w18_a_new_process_of_a_drained_name_works(world: World) -> None:
    await world.pool()
    await report(world, new_id())
    await order(world, WorkerOrder.EXIT)
    assert await report(world, new_id()) == "work"


async def test_w18_a_waiting_claim_is_answered_by_an_order(asking: Asking) -> None:  # noqa: F811
    own = new_id()
    asking.world.now = datetime.now(UTC)
    await report(asking.world, own)
    waiting = await asking.ask(instance_id=own)
    await order(asking.world, WorkerOrder.DRAIN)
    work = await asyncio.wait_for(waiting, 20)
    assert (work.order, work.runs) == ("drain", [])
    # It knows now, so it is not told again at once.
    waiting = await asking.ask(instance_id=own, order=WorkerOrder.DRAIN)
    assert not waiting.done()
    await order(asking.world, WorkerOrder.WORK)
    assert (await asyncio.wait_for(waiting, 20)).order == "work"


async def test_w18_a_worker_that_has_ended_is_given_nothing_by_the_claim_that_it_left_waiting(
    asking: Asking,  # noqa: F811
) -> None:
    world, own = asking.world, new_id()
    await report(world, own)
    waiting = await asking.ask(instance_id=own)
    await report(world, own, draining=True)
    await report(world, own, stopped=True)
    # Handed back by it after it asked.
    run = await world.run(await world.deployment())
    while asking.waiters.asleep < 1:
        await asyncio.sleep(0)
    assert not waiting.done()
    # A report that its last word overtook does not let it ask again.
    assert await report(world, own) == "work"
    assert await world.claim(instance_id=own) == {}
    assert [one.status for one in await instances(world)] == ["OFFLINE"]
    assert list(await world.claim(instance_id=new_id())) == [run]
    waiting.cancel()


async def test_w29_the_last_lines_of_each_instance_are_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KEPT_LINES >= 1000
    monkeypatch.setattr(worker_instances, "KEPT_LINES", 5)
    await world.pool()
    own, other = new_id(), new_id()
    await report(world, own)
    await report(world, other, "other")

    async def say(id_: UUID, *texts: str, level: int = 20) -> None:
        lines = [WorkerLineCreate(timestamp=world.now, level=level, message=text) for text in texts]
        await world.database.write(worker_instances.add_lines, id_, lines)

    async def read(name: str = "w", limit: int = 100, **query: Any) -> list[str]:
        call = (worker_instances.read_lines, "pool", name, LineQuery(**query), limit)
        return [line.message for line in await world.database.read(*call)]

    await say(other, "kept")
    await say(own, *"abcd")
    await say(own, "NUL \x00", level=40)
    await say(own, *"efg")
    assert await read() == ["d", "NUL \ufffd", "e", "f", "g"]
    assert await read("other") == ["kept"]
    assert await read(limit=2) == ["f", "g"]
    assert await read(least_level=30) == ["NUL \ufffd"]
    lines = await world.database.read(worker_instances.read_lines, "pool", "w", LineQuery(), 100)
    assert await read(after=lines[2].id) == ["f", "g"]
    assert await read(after=lines[2].id, limit=1) == ["f"]
    with pytest.raises(NotFound):
        await say(new_id(), "x")


async def test_a_pool_is_deleted_with_instances_and_lines(world: World) -> None:
    await world.pool()
    own = new_id()
    await report(world, own)
    line = WorkerLineCreate(timestamp=world.now, level=20, message="x")
    await world.database.write(worker_instances.add_lines, own, [line])
    await world.database.write(pools.delete_pool, "pool", world.now + timedelta(seconds=1))
    assert await instances(world) == []
