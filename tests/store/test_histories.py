"""The contract of every database, continued: what task runs and events leave behind."""

from __future__ import annotations

from datetime import timedelta

import pytest

from eparch.core.events import Event, EventFilter, OccurredFilter
from eparch.core.model import new_id
from eparch.core.states import Completed, Pending, Running
from eparch.store import event_pages, records, runs
from eparch.store.database import Database

from . import making
from .making import NOW

pytestmark = pytest.mark.anyio


async def test_histories_of_task_runs(database: Database) -> None:
    flow = making.flow()
    run = making.flow_run(flow.id)
    one, two = making.task_run(run["id"]), making.task_run(run["id"], dynamic_key="1")
    await database.write(making.insert, flow, run, one, two)
    states = [Pending(timestamp=NOW), Running(timestamp=NOW, data={"a": [1]}), Completed(timestamp=NOW)]
    of_two = [Running(timestamp=NOW)]
    await database.write(
        runs.append_task_run_states, [*((one["id"], s) for s in states), *((two["id"], s) for s in of_two)]
    )
    histories = await database.read(runs.task_histories, [one["id"], two["id"], new_id()])
    assert set(histories) == {one["id"], two["id"]}
    assert sorted(histories[one["id"]], key=lambda s: s.id) == sorted(states, key=lambda s: s.id)
    assert histories[two["id"]] == of_two


async def test_rows_of_task_runs_and_their_natural_keys(database: Database) -> None:
    flow = making.flow()
    run, other = making.flow_run(flow.id), making.flow_run(flow.id)
    first = making.task_run(run["id"], task_inputs={"x": []}, tags=["t"])
    elsewhere = making.task_run(other["id"])
    await database.write(making.insert, flow, run, other, first, elsewhere)
    rows = await database.read(runs.task_rows, [first["id"], new_id()])
    assert rows == {first["id"]: first}
    found = await database.read(runs.ids_by_dynamic_key, run["id"], "load", ["0", "1"])
    assert found == {"0": first["id"]}
    assert await database.read(runs.ids_by_dynamic_key, run["id"], "save", ["0"]) == {}
    assert await database.read(runs.task_labels, first["id"]) == ("load-0", ["t"])
    assert await database.read(runs.task_labels, new_id()) is None


async def test_what_is_above_a_run(database: Database) -> None:
    flow = making.flow()
    parent = making.flow_run(flow.id, fencing_token=3)
    task = making.task_run(parent["id"])
    await database.write(making.insert, flow, parent, task)
    assert await database.read(runs.above, task["id"]) == runs.Above(parent["id"], None, 3, None)
    await database.write(making.insert, making.claim(parent["id"], token=3))
    assert (await database.read(runs.above, task["id"])).token is None, "its holder renews nothing"
    await database.write(runs.delete_flow_run, parent["id"])
    assert await database.read(runs.above, task["id"]) is None
    leased = making.flow_run(flow.id, fencing_token=5, parent_task_run_id=new_id())
    below = making.task_run(leased["id"])
    held = making.claim(leased["id"], token=5, lease_until=NOW)
    await database.write(making.insert, leased, below, held)
    expected = runs.Above(leased["id"], leased["parent_task_run_id"], 5, 5)
    assert await database.read(runs.above, below["id"]) == expected


async def test_events_are_read_in_pages_each_once(database: Database) -> None:
    made = [
        Event(
            occurred=NOW + timedelta(seconds=n // 4),
            event="it.happened",
            resource={"prefect.resource.id": f"r.{n}", "é": "🦊"},
            related=[{"prefect.resource.id": "x", "prefect.resource.role": "y"}],
            payload={"n": n, "deep": {"big": 10**30, "none": None}},
        )
        for n in range(20)
    ]
    fresh = await database.read(records.unknown_events, [*made, made[0]])
    assert fresh == made
    await database.write(records.insert_events, made, NOW)
    new = made[0].__class__(occurred=NOW, event="e", resource={})
    assert await database.read(records.unknown_events, [*made, new]) == [new]
    until = NOW + timedelta(seconds=3)
    read, after = [], None
    asked = EventFilter(occurred=OccurredFilter(since=NOW, until=until), order="ASC")
    while page := await database.scan(event_pages.candidates, asked, after, 3):
        assert len(page) <= 3
        read += page
        after = (page[-1]["occurred"], page[-1]["id"])
    wanted = sorted((e for e in made if e.occurred <= until), key=lambda e: (e.occurred, e.id))
    assert [row["id"] for row in read] == [event.id for event in wanted]
    assert [row["payload"] for row in read] == [event.payload for event in wanted]
    assert {row["received"] for row in read} == {NOW}
