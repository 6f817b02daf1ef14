"""A run of a stock client that has sent heartbeats and fell silent has crashed (wire 4.2, row W17)."""

from __future__ import annotations

from uuid import UUID

import pytest
from tests.orchestration.world import S, World

from eparch.core.events import Event
from eparch.core.heartbeats import EVENT
from eparch.core.model import new_id
from eparch.core.records import LogCreate
from eparch.orchestration.heartbeats import Heartbeats
from eparch.orchestration.recorder import record
from eparch.store import records

pytestmark = pytest.mark.anyio


async def beat(world: World, run: UUID, times: int = 1, every: float = 30) -> None:
    for _ in range(times):
        world.pass_seconds(every)
        resource = {"prefect.resource.id": f"prefect.flow-run.{run}"}
        event = Event(id=new_id(), occurred=world.now, event=EVENT, resource=resource)
        await world.database.write(record, [event], world.now)


async def look(world: World, watch: Heartbeats, seconds: float) -> None:
    """Let time go by while it is looked at."""
    for _ in range(int(seconds // watch.interval)):
        world.pass_seconds(watch.interval)
        await watch.run_once(world.database, world.now)


async def running(world: World, deployment: UUID | None = None) -> UUID:
    run = await world.run(deployment) if deployment else await world.ad_hoc()
    if deployment:
        await world.go(run, S.PENDING)
    await world.go(run, S.RUNNING)
    return run


async def test_w17_a_process_that_fell_silent_crashed(world: World) -> None:
    await world.pool()
    for run in (await running(world), await running(world, await world.deployment())):
        watch = Heartbeats()
        await beat(world, run, 3)
        await watch.run_once(world.database, world.now)
        await look(world, watch, 90)
        assert await world.state(run) == "Running"
        await look(world, watch, 15)
        row = await world.read(run)
        assert row["state_type"] == "CRASHED"
        assert "last heartbeat came 105 seconds ago" in row["state_message"]
        assert run not in await world.claims()
        assert "prefect.flow-run.Crashed" in [event["event"] for event in await world.events(run)]


async def test_a_slow_pace_is_kept_to(memory: World) -> None:
    run, watch = await running(memory), Heartbeats()
    await beat(memory, run, 2, every=180)
    await watch.run_once(memory.database, memory.now)
    await look(memory, watch, 540)
    assert await memory.state(run) == "Running"
    await look(memory, watch, 15)
    assert await memory.state(run) == "Crashed"


async def test_who_is_heard_of_lives(memory: World) -> None:
    alive, logging, never, once = [await running(memory) for _ in range(4)]
    watch = Heartbeats()
    await beat(memory, once)
    await beat(memory, logging, 2)
    for _ in range(8):
        await beat(memory, alive)
        line = LogCreate(name="f", level=20, message="m", timestamp=memory.now, flow_run_id=logging)
        await memory.database.write(records.insert_logs, [line], memory.now)
        await look(memory, watch, 30)
    assert {await memory.state(run) for run in (alive, logging, never, once)} == {"Running"}
    await look(memory, watch, 300)
    assert await memory.state(logging) == await memory.state(alive) == "Crashed"
    assert await memory.state(never) == await memory.state(once) == "Running"


async def test_heartbeats_of_an_attempt_before_do_not_count(memory: World) -> None:
    run = await running(memory)
    await beat(memory, run, 3)
    await memory.set(run, S.SCHEDULED, force=True)
    memory.pass_seconds(1000)
    await memory.set(run, S.RUNNING, force=True)
    await look(memory, Heartbeats(), 1000)
    assert await memory.state(run) == "Running"


async def test_a_server_that_was_down_waits_before_it_judges(memory: World) -> None:
    run = await running(memory)
    await beat(memory, run, 3)
    memory.pass_seconds(5000)
    watch = Heartbeats()
    await look(memory, watch, 105)
    assert await memory.state(run) == "Running"
    memory.pass_seconds(5000)  # it slept
    await look(memory, watch, 105)
    assert await memory.state(run) == "Running"
    await look(memory, watch, 15)
    assert await memory.state(run) == "Crashed"


async def test_a_run_whose_claim_is_renewed_needs_no_heartbeat(memory: World) -> None:
    await memory.pool()
    run = await memory.run(await memory.deployment())
    token = (await memory.claim(lease_seconds=3600))[run]
    await memory.go(run, S.RUNNING, token=token)
    await beat(memory, run, 2)
    await look(memory, Heartbeats(), 600)
    assert await memory.state(run) == "Running"


async def test_it_can_be_turned_off(memory: World) -> None:
    run = await running(memory)
    await beat(memory, run, 2)
    await look(memory, Heartbeats(0), 1000)
    assert await memory.state(run) == "Running"
