"""Background tasks: each is with one task worker at a time, and none is lost (row B10, wire 4.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from msgspec.structs import replace
from tests.orchestration.test_recorder import an_event
from tests.orchestration.world import START, S, World, a_state

from eparch.core.concurrency import TagLimitCreate
from eparch.core.model import new_id
from eparch.core.runs import SetState, TaskRunCreate
from eparch.core.task_workers import LEASE, MOST_LOST, RECONNECT
from eparch.orchestration import concurrency, creation, recorder, task_queues, transition
from eparch.orchestration import runs as run_changes
from eparch.orchestration.task_queues import Handed, TaskLeases, TaskWorkers
from eparch.store import runs, task_queue
from eparch.store.rows import id_of, value_of

pytestmark = pytest.mark.anyio


async def delay(world: World, key: str = "work", *, tags: Sequence[str] = (), **details: Any) -> UUID:
    """Schedule a background task, as ``task.delay`` does."""
    details.setdefault("task_parameters_id", uuid4())
    state = a_state(S.SCHEDULED, deferred=True, **details)
    body = TaskRunCreate(task_key=key, dynamic_key=str(uuid4()), name=key, tags=list(tags), state=state)
    made = await world.database.write(creation.create_task_run, body, world.now)
    return id_of(made.run["id"])


async def take(world: World, holder: UUID, *keys: str) -> Handed | None:
    return await world.database.write(task_queues.take, keys or ("work",), holder, world.now)


async def report(world: World, run_id: UUID, type_: str, after: float = 0.0) -> None:
    """What a task worker tells of the task run, by an event."""
    event = an_event(run_id, None, type_, world.now + timedelta(seconds=after), dynamic_key=str(run_id))
    await world.database.write(recorder.record, [event], world.now)


async def state_of(world: World, run_id: UUID) -> tuple[str, dict[str, Any]]:
    run = await world.database.read(runs.read_task_run, run_id, world.now)
    assert run is not None
    return run["state_type"], value_of(run["state"]["state_details"])


async def join(world: World, client: str, holding: list[UUID] | None = None, *standing: UUID) -> UUID:
    connection = new_id()
    await world.database.write(
        task_queues.join, connection, client, ["work"], holding, list(standing), world.now
    )
    return connection


async def leave(world: World, connection: UUID, *, has_quit: bool = False) -> None:
    await world.database.write(task_queues.leave, connection, world.now, has_quit=has_quit)


async def lapse(world: World) -> None:
    await TaskLeases().run_once(world.database, world.now)


async def test_b10_a_task_run_is_handed_to_one(world: World) -> None:
    run_id = await delay(world)
    one, two = new_id(), new_id()
    handed = await take(world, one)
    assert handed is not None
    assert (handed.id, handed.task_key) == (run_id, "work")
    assert handed.run["state_type"] == "SCHEDULED"
    assert value_of(handed.run["state"]["state_details"])["deferred"] is True
    assert await take(world, two) is None


async def test_b10_two_take_at_once_and_each_task_runs_once(world: World) -> None:
    made = {await delay(world) for _ in range(12)}

    async def worker() -> list[UUID]:
        holder, mine = new_id(), []
        while (handed := await take(world, holder)) is not None:
            mine.append(handed.id)
        return mine

    one, two, three = await asyncio.gather(worker(), worker(), worker())
    left = await take(world, new_id())
    taken = [*one, *two, *three, *([left.id] if left else [])]
    assert sorted(taken) == sorted(made)


async def test_b10_only_what_is_deferred_waits(world: World) -> None:
    state = a_state(S.SCHEDULED)
    body = TaskRunCreate(task_key="work", dynamic_key="1", name="w", state=state)
    await world.database.write(creation.create_task_run, body, world.now)
    assert await take(world, new_id()) is None


async def test_b10_a_task_run_is_not_handed_out_before_its_time(world: World) -> None:
    due = world.now + timedelta(seconds=30)
    run_id = await delay(world, scheduled_time=due)
    assert await take(world, new_id()) is None
    assert await world.database.read(task_queue.next_due, ["other", "work"]) == due
    world.pass_seconds(30)
    handed = await take(world, new_id())
    assert handed is not None
    assert handed.id == run_id


async def test_b10_a_cancelled_task_run_is_not_handed_out(world: World) -> None:
    run_id = await delay(world)
    body = SetState(state=a_state(S.CANCELLED))
    answered = await world.database.write(transition.set_task_run_state, run_id, body, world.now)
    assert answered.answer.status == "ACCEPT"
    assert await take(world, new_id()) is None
    assert await world.database.read(task_queue.one, run_id) is None


async def test_b10_a_retry_that_is_proposed_waits_until_it_is_due(world: World) -> None:
    run_id = await delay(world)
    holder = new_id()
    assert await take(world, holder) is not None
    for state in (
        a_state(S.PENDING, deferred=True),
        a_state(S.RUNNING),
        a_state(S.SCHEDULED, "AwaitingRetry", deferred=True, scheduled_time=START + timedelta(seconds=5)),
    ):
        body = SetState(state=state)
        answered = await world.database.write(transition.set_task_run_state, run_id, body, world.now)
        assert answered.answer.status == "ACCEPT", answered
    assert await take(world, holder) is None
    world.pass_seconds(5)
    again = await take(world, holder)
    assert again is not None
    assert again.id == run_id


async def test_b10_keys_take_turns(memory: World) -> None:
    for key in ("busy", "busy", "busy", "rare"):
        await delay(memory, key)
    workers = TaskWorkers(memory.database)
    memory.now = START
    async with workers.connect("client", ["busy", "rare"]) as connected:
        taken = [await connected.next() for _ in range(4)]
    assert [one.task_key for one in taken if one] == ["busy", "rare", "busy", "busy"]


async def test_b10_who_waits_is_woken_by_what_is_scheduled(memory: World) -> None:
    workers = TaskWorkers(memory.database)
    memory.database.on_notes = workers.tell
    async with workers.connect("client", ["work"]) as connected:
        waiting = asyncio.create_task(connected.next())
        await asyncio.sleep(0)
        run_id = await delay(memory)
        handed = await asyncio.wait_for(waiting, 10)
        assert handed is not None
        assert handed.id == run_id
        waiting = asyncio.create_task(connected.next())
        await asyncio.sleep(0)
        workers.stop()
        assert await asyncio.wait_for(waiting, 10) is None


async def test_b10_what_was_not_begun_is_free_when_the_connection_ends(world: World) -> None:
    run_id = await delay(world)
    connection = await join(world, "client")
    assert await take(world, connection) is not None
    await leave(world, connection)
    again = await take(world, new_id())
    assert again is not None
    assert again.id == run_id


async def test_b10_what_has_arrived_waits_a_moment_for_its_worker(world: World) -> None:
    run_id = await delay(world)
    connection = await join(world, "client")
    await take(world, connection)
    await world.database.write(task_queues.acknowledge, run_id, connection, world.now)
    await leave(world, connection)
    assert await take(world, new_id()) is None
    world.pass_seconds(RECONNECT.total_seconds())
    await lapse(world)
    again = await take(world, new_id())
    assert again is not None
    assert again.id == run_id


async def test_b10_what_was_begun_is_handed_out_again_after_its_lease_and_only_once(world: World) -> None:
    run_id = await delay(world)
    _, before = await state_of(world, run_id)
    connection = await join(world, "client")
    await take(world, connection)
    await world.database.write(task_queues.acknowledge, run_id, connection, world.now)
    await report(world, run_id, "PENDING", 0.1)
    await report(world, run_id, "RUNNING", 0.2)
    await leave(world, connection)
    world.pass_seconds(LEASE.total_seconds() - 1)
    await lapse(world)
    assert (await state_of(world, run_id))[0] == "RUNNING"
    world.pass_seconds(2)
    await asyncio.gather(lapse(world), lapse(world))
    type_, details = await state_of(world, run_id)
    assert type_ == "SCHEDULED"
    assert details["task_parameters_id"] == before["task_parameters_id"]
    assert details["deferred"] is True
    again = await take(world, new_id())
    assert again is not None
    assert again.id == run_id
    assert await take(world, new_id()) is None


async def test_b10_a_connection_that_stands_keeps_what_it_has(world: World) -> None:
    run_id = await delay(world)
    connection = await join(world, "client")
    await take(world, connection)
    for _ in range(4):
        world.pass_seconds(LEASE.total_seconds() / 2)
        await world.database.write(task_queues.renew, connection, "client", ["work"], world.now)
        await lapse(world)
        assert await take(world, new_id()) is None
    held = await world.database.read(task_queue.one, run_id)
    assert held is not None
    assert held.holder == connection


async def test_b10_a_worker_that_quits_gives_back_what_it_began(world: World) -> None:
    run_id = await delay(world)
    connection = await join(world, "client")
    await take(world, connection)
    await report(world, run_id, "RUNNING", 0.1)
    world.pass_seconds(1)
    await leave(world, connection, has_quit=True)
    again = await take(world, new_id())
    assert again is not None
    assert again.id == run_id
    assert (await state_of(world, run_id))[0] == "SCHEDULED"


@pytest.mark.parametrize("how", ["event", "rest"])
async def test_b10_what_has_ended_is_forgotten(world: World, how: str) -> None:
    run_id = await delay(world)
    connection = await join(world, "client")
    await take(world, connection)
    if how == "event":
        await report(world, run_id, "RUNNING", 0.1)
        await report(world, run_id, "COMPLETED", 0.2)
    else:
        for type_ in (S.RUNNING, S.COMPLETED):
            body = SetState(state=a_state(type_))
            await world.database.write(transition.set_task_run_state, run_id, body, world.now)
    assert await world.database.read(task_queue.one, run_id) is None
    world.pass_seconds(1000)
    await leave(world, connection)
    await lapse(world)
    assert (await state_of(world, run_id))[0] == "COMPLETED"


async def test_b10_a_task_that_takes_its_workers_down_is_given_up(world: World) -> None:
    run_id = await delay(world)
    for number in range(MOST_LOST):
        connection = new_id()
        assert await take(world, connection) is not None, number
        await report(world, run_id, "RUNNING", 0.1)
        world.pass_seconds(LEASE.total_seconds() + 1)
        await lapse(world)
    assert (await state_of(world, run_id))[0] == "CRASHED"
    assert await take(world, new_id()) is None


async def test_b10_a_client_that_comes_to_another_server_keeps_what_it_acknowledged(
    world: World,
) -> None:
    arrived, lost = await delay(world), await delay(world)
    gone = await join(world, "client")
    first, second = await take(world, gone), await take(world, gone)
    assert first is not None
    assert second is not None
    assert {first.id, second.id} == {arrived, lost}
    await world.database.write(task_queues.acknowledge, first.id, gone, world.now)
    connection = await join(world, "client")
    held = await world.database.read(task_queue.held_by, [connection])
    assert [one.task_run_id for one in held] == [first.id]
    again = await take(world, new_id())
    assert again is not None
    assert again.id == second.id


async def test_b10_a_client_that_names_what_it_holds_keeps_that(world: World) -> None:
    mine, dropped = await delay(world), await delay(world)
    gone = await join(world, "client")
    for run_id in (mine, dropped):
        assert await take(world, gone) is not None
        await world.database.write(task_queues.acknowledge, run_id, gone, world.now)
    connection = await join(world, "client", [mine])
    held = await world.database.read(task_queue.held_by, [connection])
    assert [one.task_run_id for one in held] == [mine]
    again = await take(world, new_id())
    assert again is not None
    assert again.id == dropped


async def test_b10_what_another_has_by_now_stays_there(world: World) -> None:
    run_id = await delay(world)
    other = await join(world, "other")
    assert await take(world, other) is not None
    await join(world, "client", [run_id])
    held = await world.database.read(task_queue.one, run_id)
    assert held is not None
    assert held.holder == other


async def test_b10_a_second_connection_of_a_client_takes_nothing_from_the_first(world: World) -> None:
    await delay(world)
    first = await join(world, "client")
    assert await take(world, first) is not None
    await join(world, "client", None, first)
    held = await world.database.read(task_queue.held_by, [first])
    assert len(held) == 1


async def test_b10_the_event_of_what_was_scheduled_over_rest_is_no_second_state(world: World) -> None:
    """Prefect's client creates the run over REST, and then tells of the same state by an event."""
    run_id = await delay(world)
    run = await world.database.read(runs.read_task_run, run_id, world.now)
    assert run is not None
    told = an_event(run_id, None, "SCHEDULED", world.now, dynamic_key="x")
    told = replace(told, id=id_of(run["state"]["id"]))
    await report(world, run_id, "PENDING", 0.5)
    await world.database.write(recorder.record, [told], world.now)
    assert (await state_of(world, run_id))[0] == "PENDING"
    histories = await world.database.read(runs.task_histories, [run_id])
    assert len(histories[run_id]) == 2


async def test_b10_an_event_that_names_no_flow_run_does_not_take_the_run_from_it(world: World) -> None:
    flow_run = await world.ad_hoc()
    body = TaskRunCreate(
        task_key="work", dynamic_key="1", name="w", flow_run_id=flow_run,
        state=a_state(S.SCHEDULED, deferred=True),
    )  # fmt: skip
    made = await world.database.write(creation.create_task_run, body, world.now)
    run_id = id_of(made.run["id"])
    await report(world, run_id, "PENDING", 0.5)
    run = await world.database.read(runs.read_task_run, run_id, world.now)
    assert run is not None
    assert id_of(run["flow_run_id"]) == flow_run
    assert run["state_type"] == "PENDING"


async def test_b10_task_workers_are_listed_while_they_are_heard_of(world: World) -> None:
    await join(world, "one")
    connection = new_id()
    await world.database.write(task_queues.join, connection, "two", ["b", "a"], None, [], world.now)

    async def listed(*keys: str) -> list[tuple[str, list[str]]]:
        found = await world.database.scan(task_queue.read_workers, keys, world.now - LEASE)
        return [(one.identifier, one.task_keys) for one in found]

    assert await listed() == [("one", ["work"]), ("two", ["a", "b"])]
    assert await listed("a", "x") == [("two", ["a", "b"])]
    world.pass_seconds(LEASE.total_seconds() - 1)
    await world.database.write(task_queues.renew, connection, "two", ["b", "a"], world.now)
    world.pass_seconds(2)
    assert [name for name, _ in await listed()] == ["two"]
    await lapse(world)
    await leave(world, connection)
    assert await listed() == []


@pytest.mark.parametrize("how", ["rest", "event", "deleted"])
async def test_b4_background_tasks_of_a_tag_run_within_its_limit(world: World, how: str) -> None:
    """The slot of a tag is free when its holder ends, whoever tells of the end (pain 5)."""
    limit = TagLimitCreate(tag="gpu", concurrency_limit=1)
    await world.database.write(concurrency.set_tag_limit, limit, world.now)
    first, second = [await delay(world, tags=["gpu"]) for _ in range(2)]

    async def propose(run_id: UUID, type_: S) -> str:
        world.pass_seconds(1)
        body = SetState(state=a_state(type_))
        answered = await world.database.write(transition.set_task_run_state, run_id, body, world.now)
        return answered.answer.status.value

    assert [await propose(first, S.PENDING), await propose(first, S.RUNNING)] == ["ACCEPT", "ACCEPT"]
    assert [await propose(second, S.PENDING), await propose(second, S.RUNNING)] == ["ACCEPT", "WAIT"]
    if how == "rest":
        assert await propose(first, S.COMPLETED) == "ACCEPT"
    elif how == "event":
        world.pass_seconds(1)
        await report(world, first, "COMPLETED")
    else:
        await world.database.write(run_changes.delete_task_run, first)
    shown = await world.database.read(concurrency.read_tag_limit, "gpu", world.now)
    assert shown.active_slots == []
    assert await propose(second, S.RUNNING) == "ACCEPT"
