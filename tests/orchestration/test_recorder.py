"""Task runs from events: once, twice, in any order, partly lost (wire 4.2)."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.orchestration.world import START, World

from eparch.core.errors import Invalid
from eparch.core.events import Event
from eparch.core.model import new_id
from eparch.orchestration import recorder
from eparch.store import tables as t
from eparch.store.database import open_database

pytestmark = pytest.mark.anyio


def an_event(
    task_run_id: UUID,
    flow_run_id: UUID | None,
    type_: str,
    at: datetime,
    *,
    name: str | None = None,
    key: str = "work",
    dynamic_key: str = "0",
    message: str | None = None,
    details: dict[str, Any] | None = None,
    **task_run: Any,
) -> Event:
    """What a flow's process reports of a task run."""
    name = name or type_.capitalize()
    related = []
    if flow_run_id is not None:
        resource = f"prefect.flow-run.{flow_run_id}"
        related.append({"prefect.resource.id": resource, "prefect.resource.role": "flow-run"})
    return Event(
        occurred=at,
        event=f"prefect.task-run.{name}",
        resource={
            "prefect.resource.id": f"prefect.task-run.{task_run_id}",
            "prefect.resource.name": f"{key}-{dynamic_key}",
            "prefect.orchestration": "client",
        },
        related=related,
        payload={
            "intended": {"from": None, "to": type_},
            "validated_state": {
                "type": type_,
                "name": name,
                "message": message,
                "state_details": details or {},
            },
            "task_run": {
                "task_key": key,
                "dynamic_key": dynamic_key,
                "name": f"{key}-{dynamic_key}",
                "tags": ["t"],
                **task_run,
            },
        },
    )


PATH = (
    ("PENDING", None),
    ("RUNNING", None),
    ("SCHEDULED", "AwaitingRetry"),
    ("RUNNING", "Retrying"),
    ("FAILED", None),
    ("RUNNING", None),
    ("COMPLETED", None),
)


def a_life(task_run_id: UUID, flow_run_id: UUID | None, *, counted: bool, apart: float = 1.0) -> list[Event]:
    """The events of a task run that is retried; ``counted``: its process tells the counts, as stock does."""
    events, running, spent = [], 0, 0.0
    for number, (type_, name) in enumerate(PATH):
        at = START + timedelta(seconds=number * apart)
        told: dict[str, Any] = {}
        if counted:
            running += type_ == "RUNNING"
            spent += apart if number and PATH[number - 1][0] == "RUNNING" else 0.0
            told = {"run_count": running, "total_run_time": spent, "expected_start_time": START.isoformat()}
            if running:
                told["start_time"] = (START + timedelta(seconds=apart)).isoformat()
        details = {"scheduled_time": at.isoformat()} if type_ == "SCHEDULED" else None
        told["flow_run_run_count"] = number
        events.append(an_event(task_run_id, flow_run_id, type_, at, name=name, details=details, **told))
    return events


async def record(world: World, *batches: Sequence[Event]) -> None:
    for batch in batches:
        await world.database.write(recorder.record, batch, world.now)


async def task_history(world: World, task_run_id: UUID) -> list[tuple[str, datetime]]:
    table = t.task_run_state
    rows = await world.select(
        sa.select(table.c.task_run_id, table.c.type, table.c.timestamp).order_by(table.c.timestamp)
    )
    return [(row["type"], row["timestamp"]) for row in rows if row["task_run_id"] == task_run_id]


SEEN = (
    "state_type", "state_name", "run_count", "start_time", "end_time", "total_run_time",
    "expected_start_time", "next_scheduled_start_time", "flow_run_run_count", "name", "tags",
)  # fmt: skip


async def outcome(world: World, task_run_id: UUID) -> dict[str, Any]:
    table = t.task_run
    rows = await world.select(sa.select(*table.columns))
    row = next(row for row in rows if row["id"] == task_run_id)
    return {name: row[name] for name in SEEN}


async def test_a_task_run_is_recorded_from_its_events(world: World) -> None:
    flow_run = await world.ad_hoc()
    task_run = new_id()
    events = a_life(task_run, flow_run, counted=True)
    await record(world, events)
    read = await world.task_run(task_run)
    assert read is not None
    assert (read["state_type"], read["run_count"], read["total_run_time"]) == ("COMPLETED", 3, 3.0)
    assert read["start_time"] == START + timedelta(seconds=1)
    assert read["end_time"] == START + timedelta(seconds=6)
    assert str(read["flow_run_id"]) == str(flow_run)
    assert str(read["state"]["id"]) == str(events[-1].id)
    assert [type_ for type_, _ in await task_history(world, task_run)] == [type_ for type_, _ in PATH]
    stored = {row["id"] for row in await world.select(sa.select(t.event.c.id))}
    assert {event.id for event in events} <= stored


@pytest.mark.parametrize("counted", [True, False])
async def test_any_order_and_any_repetition_ends_the_same(world: World, counted: bool) -> None:
    flow_run = await world.ad_hoc()
    straight = new_id()
    await record(world, a_life(straight, flow_run, counted=counted))
    expected = await outcome(world, straight)
    assert (expected["state_type"], expected["run_count"]) == ("COMPLETED", 3)
    mixer = random.Random(1)
    for _ in range(12):
        other_run = await world.ad_hoc()
        task_run = new_id()
        events = a_life(task_run, other_run, counted=counted) * 2
        mixer.shuffle(events)
        cut = mixer.randrange(len(events))
        batches = [events[:cut], events[cut:]] if cut % 2 else [[event] for event in events]
        await record(world, *batches)
        assert await outcome(world, task_run) == expected
        assert len(await task_history(world, task_run)) == len(PATH)


@settings(max_examples=60, deadline=None)
@given(order=st.permutations(range(len(PATH))), cuts=st.sets(st.integers(1, 6)), counted=st.booleans())
def test_every_order_in_batches_ends_the_same(order: list[int], cuts: set[int], counted: bool) -> None:
    async def check() -> None:
        database = await open_database("sqlite://")
        world = World(database)
        try:
            flow_run = await world.ad_hoc()
            straight, task_run = new_id(), new_id()
            await record(world, a_life(straight, flow_run, counted=counted))
            edges = [0, *sorted(cuts), len(PATH)]
            life = a_life(task_run, await world.ad_hoc(), counted=counted)
            events = [life[i] for i in order]
            await record(world, *(events[a:b] for a, b in itertools.pairwise(edges)))
            assert await outcome(world, task_run) == await outcome(world, straight)
        finally:
            await database.close()

    asyncio.run(check())


@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(st.lists(st.integers(0, len(PATH) - 1), min_size=1, max_size=4), min_size=1, max_size=5)
)
def test_whatever_is_lost_or_comes_twice_the_furthest_state_stands(batches: list[list[int]]) -> None:
    async def check() -> None:
        database = await open_database("sqlite://")
        world = World(database)
        try:
            task_run = new_id()
            life = a_life(task_run, await world.ad_hoc(), counted=True)
            came: set[int] = set()
            for batch in batches:
                came.update(batch)
                await record(world, [life[i] for i in batch])
                found = await outcome(world, task_run)
                type_, name = PATH[max(came)]
                # Never an earlier one, whatever comes late; and a final one stays.
                assert (found["state_type"], found["state_name"]) == (type_, name or type_.capitalize())
                assert found["run_count"] == sum(kind == "RUNNING" for kind, _ in PATH[: max(came) + 1])
                assert (found["end_time"] is not None) == (type_ in ("COMPLETED", "FAILED"))
                assert len(await task_history(world, task_run)) == len(came)
        finally:
            await database.close()

    asyncio.run(check())


async def test_states_of_one_microsecond_stand_in_the_order_of_a_run(memory: World) -> None:
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)):
        flow_run, task_run = await memory.ad_hoc(), new_id()
        events = [an_event(task_run, flow_run, s, START) for s in ("PENDING", "RUNNING", "COMPLETED")]
        await record(memory, *([events[i]] for i in order))
        seen = await outcome(memory, task_run)
        assert (seen["state_type"], seen["run_count"]) == ("COMPLETED", 1)


async def test_what_was_lost_is_made_up_for_by_what_the_process_counted(memory: World) -> None:
    flow_run, task_run = await memory.ad_hoc(), new_id()
    life = a_life(task_run, flow_run, counted=True)
    await record(memory, [life[0]], [life[-1]])
    seen = await outcome(memory, task_run)
    assert (seen["state_type"], seen["run_count"], seen["total_run_time"]) == ("COMPLETED", 3, 3.0)
    assert seen["start_time"] == START + timedelta(seconds=1)


async def test_without_counts_what_came_is_counted(memory: World) -> None:
    flow_run, task_run = await memory.ad_hoc(), new_id()
    life = a_life(task_run, flow_run, counted=False)
    await record(memory, life[:2], life[4:])
    seen = await outcome(memory, task_run)
    assert (seen["state_type"], seen["run_count"]) == ("COMPLETED", 2)


async def test_an_unfinished_task_run_waits_for_its_retry(memory: World) -> None:
    flow_run, task_run = await memory.ad_hoc(), new_id()
    await record(memory, a_life(task_run, flow_run, counted=False)[:3])
    seen = await outcome(memory, task_run)
    assert (seen["state_name"], seen["end_time"]) == ("AwaitingRetry", None)
    assert seen["next_scheduled_start_time"] == START + timedelta(seconds=2)


# The natural key: flow run, task key, dynamic key


async def test_the_same_task_of_a_flow_that_is_run_again_is_one_task_run(world: World) -> None:
    flow_run, first, second = await world.ad_hoc(), new_id(), new_id()
    await record(world, [an_event(first, flow_run, "FAILED", START)])
    later = START + timedelta(seconds=9)
    await record(
        world,
        [an_event(second, flow_run, "RUNNING", later)],
        [an_event(second, flow_run, "COMPLETED", later + timedelta(seconds=1), flow_run_run_count=2)],
    )
    rows = await world.select(sa.select(t.task_run.c.id, t.task_run.c.state_type))
    assert rows == [{"id": first, "state_type": "COMPLETED"}]
    assert [type_ for type_, _ in await task_history(world, first)] == [
        "FAILED", "RUNNING", "COMPLETED",
    ]  # fmt: skip


async def test_one_task_under_two_ids_in_one_batch_is_one_task_run(memory: World) -> None:
    flow_run, first, second = await memory.ad_hoc(), new_id(), new_id()
    later = START + timedelta(seconds=9)
    await record(
        memory,
        [an_event(second, flow_run, "COMPLETED", later), an_event(first, flow_run, "FAILED", START)],
        [an_event(new_id(), flow_run, "PENDING", START - timedelta(seconds=1))],
    )
    rows = await memory.select(sa.select(t.task_run.c.id, t.task_run.c.state_type))
    assert rows == [{"id": first, "state_type": "COMPLETED"}]
    assert [type_ for type_, _ in await task_history(memory, first)] == ["PENDING", "FAILED", "COMPLETED"]


async def test_other_keys_are_other_task_runs(memory: World) -> None:
    flow_run, other = await memory.ad_hoc(), await memory.ad_hoc()
    at = START
    await record(
        memory,
        [
            an_event(new_id(), flow_run, "RUNNING", at, dynamic_key="0"),
            an_event(new_id(), flow_run, "RUNNING", at, dynamic_key="1"),
            an_event(new_id(), flow_run, "RUNNING", at, key="else"),
            an_event(new_id(), other, "RUNNING", at),
            an_event(new_id(), None, "RUNNING", at),
            an_event(new_id(), None, "RUNNING", at),
        ],
    )
    assert len(await memory.select(sa.select(t.task_run.c.id))) == 6


async def test_a_task_run_made_over_rest_is_the_one_that_is_reported(memory: World) -> None:
    flow_run = await memory.ad_hoc()
    made = await memory.dummy_task(flow_run)
    read = await memory.task_run(made)
    assert read is not None
    await record(
        memory,
        [an_event(new_id(), flow_run, "RUNNING", START + timedelta(seconds=1), key=read["task_key"])],
    )
    again = await memory.task_run(made)
    assert again is not None
    assert again["state_type"] == "RUNNING"


# What is not a task run


async def test_what_cannot_be_read_is_an_event_and_no_task_run(world: World) -> None:
    flow_run = await world.ad_hoc()
    good = an_event(new_id(), flow_run, "RUNNING", START)
    payload = good.payload

    def other(**parts: Any) -> Event:
        return Event(**{**{f: getattr(good, f) for f in good.__struct_fields__}, "id": new_id(), **parts})

    bad = [
        other(payload={}),
        other(payload={**payload, "task_run": 5}),
        other(payload={**payload, "task_run": {"name": "x"}}),
        other(payload={**payload, "task_run": {**payload["task_run"], "tags": "t"}}),
        other(payload={**payload, "task_run": {**payload["task_run"], "task_inputs": {"x": 5}}}),
        other(payload={**payload, "validated_state": {"type": "SLEEPING"}}),
        other(payload={**payload, "validated_state": None}),
        other(resource={**good.resource, "prefect.resource.id": "prefect.task-run.xyz"}),
        other(resource={**good.resource, "prefect.orchestration": "server"}),
        other(related=[{"prefect.resource.id": "prefect.flow-run.?", "prefect.resource.role": "flow-run"}]),
        Event(occurred=START, event="my.thing", resource={"prefect.resource.id": "thing"}),
    ]
    unknown_flow_run = an_event(new_id(), new_id(), "RUNNING", START)
    await record(world, [*bad, unknown_flow_run, good])
    rows = await world.select(sa.select(t.task_run.c.id, t.task_run.c.flow_run_id))
    assert [row["flow_run_id"] for row in rows] == [flow_run]
    stored = {row["id"] for row in await world.select(sa.select(t.event.c.id))}
    assert {event.id for event in (*bad, unknown_flow_run, good)} <= stored
    assert await task_history(world, unknown_flow_run.id) == []


async def test_odd_text_does_not_lose_the_batch(world: World) -> None:
    flow_run, task_run, other = await world.ad_hoc(), new_id(), new_id()
    await record(
        world,
        [
            an_event(task_run, flow_run, "FAILED", START, message="\u2028 \x7f, 雪", dynamic_key="a"),
            an_event(other, flow_run, "COMPLETED", START, dynamic_key="b"),
        ],
    )
    read = await world.task_run(task_run)
    assert read is not None
    assert read["state"]["message"] == "\u2028 \x7f, 雪"
    assert await world.task_run(other) is not None


async def test_5000_events_are_one_batch_and_more_are_refused(memory: World) -> None:
    flow_run = await memory.ad_hoc()
    events = [
        an_event(new_id(), flow_run, "RUNNING", START, dynamic_key=str(n))
        for n in range(recorder.MOST_EVENTS)
    ]
    await record(memory, events)
    assert len(await memory.select(sa.select(t.task_run.c.id))) == recorder.MOST_EVENTS
    with pytest.raises(Invalid):
        await record(memory, [*events, events[0]])


async def test_batches_of_the_same_run_at_once_end_right(world: World) -> None:
    flow_run = await world.ad_hoc()
    lives = [(run, a_life(run, None, counted=False)) for run in (new_id() for _ in range(3))]
    shared = []
    for number in range(20):
        run = new_id()
        life = [
            an_event(run, flow_run, s, START + timedelta(seconds=n), dynamic_key=str(number))
            for n, s in enumerate(("PENDING", "RUNNING", "COMPLETED"))
        ]
        shared.append((run, life))
    batches = [[life[n] for _, life in shared] for n in (2, 0, 1)] * 2
    await asyncio.gather(*(record(world, batch) for batch in batches))
    for run, life in shared:
        assert (await outcome(world, run))["run_count"] == 1
        assert (await outcome(world, run))["state_type"] == "COMPLETED"
        assert len(await task_history(world, run)) == len(life)
    for run, life in lives:
        await record(world, life)
        assert (await outcome(world, run))["run_count"] == 3


async def test_what_is_recorded_is_told_once(memory: World) -> None:
    flow_run = await memory.ad_hoc()
    event = an_event(new_id(), flow_run, "RUNNING", START)
    memory.notes.clear()
    await record(memory, [event, event], [event])
    assert [note.value.id for note in memory.notes] == [event.id]
