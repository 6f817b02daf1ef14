"""What a transition tells: its event as the wire has it, and whom it wakes (wire 4.2)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from tests.orchestration.world import START, S, World, a_state

from eparch.core.errors import EparchError
from eparch.core.runs import SetState
from eparch.orchestration import transition
from eparch.store import tables as t

pytestmark = pytest.mark.anyio


# Events: as the server of the wire writes them


async def test_an_event_has_the_shape_of_the_wire(world: World) -> None:
    await world.pool()
    flow = await world.flow("report", tags=["flow-tag"])
    deployment = await world.deployment(flow_id=flow, name="nightly", tags=["b"], parameters={})
    run = await world.run(deployment, tags=["a"], name="quiet-owl")
    await world.set(run, S.PENDING, message="soon")
    scheduled, pending = await world.events(run)
    row = await world.read(run)
    queue = (await world.select(sa.select(t.work_queue.c.id, t.work_queue.c.work_pool_id)))[0]
    assert {key: pending[key] for key in ("event", "resource", "related", "payload", "follows")} == {
        "event": "prefect.flow-run.Pending",
        "resource": {
            "prefect.resource.id": f"prefect.flow-run.{run}",
            "prefect.resource.name": "quiet-owl",
            "prefect.run-count": "0",
            "prefect.state-message": "soon",
            "prefect.state-name": "Pending",
            "prefect.state-timestamp": row["state_timestamp"].isoformat(),
            "prefect.state-type": "PENDING",
        },
        "related": [
            _related("flow", flow, "report"),
            _related("deployment", deployment, "nightly"),
            _related("work-queue", queue["id"], "default"),
            {**_related("work-pool", queue["work_pool_id"], "pool"), "prefect.work-pool.type": "process"},
            *(_related("tag", tag) for tag in ("a", "b", "flow-tag")),
        ],
        "payload": {
            "intended": {"from": "SCHEDULED", "to": "PENDING"},
            "initial_state": {"type": "SCHEDULED", "name": "Scheduled"},
            "validated_state": {"type": "PENDING", "name": "Pending", "message": "soon"},
        },
        "follows": scheduled["id"],
    }
    assert scheduled["related"] == pending["related"]
    assert (scheduled["follows"], scheduled["payload"]["initial_state"]) == (None, None)


def _related(kind: str, id_: Any, name: str | None = None) -> dict[str, str]:
    labels = {"prefect.resource.id": f"prefect.{kind}.{id_}", "prefect.resource.role": kind}
    return labels if name is None else {**labels, "prefect.resource.name": name}


async def test_the_event_of_a_pause_says_whether_it_reschedules(memory: World) -> None:
    await memory.pool()
    for name, said in (("Paused", "false"), ("Suspended", "true")):
        run = await memory.run(await memory.deployment())
        await memory.go(run, S.PENDING, S.RUNNING)
        await memory.set(run, S.PAUSED, name, pause_reschedule=said == "true")
        payload = (await memory.events(run))[-1]["payload"]
        assert payload["validated_state"]["pause_reschedule"] == said


async def test_the_event_of_a_subflow_names_its_task_run(memory: World) -> None:
    parent = await memory.ad_hoc()
    task = await memory.dummy_task(parent, name="child-0", tags=["t"])
    child = await memory.ad_hoc(parent_task_run_id=task)
    related = (await memory.events(child))[0]["related"]
    assert related[1:] == [_related("task-run", task, "child-0"), _related("tag", "t")]


async def test_an_event_follows_only_what_was_recent(memory: World) -> None:
    run = await memory.ad_hoc()
    memory.pass_seconds(299)
    await memory.go(run, S.RUNNING)
    memory.pass_seconds(301)
    await memory.go(run, S.COMPLETED)
    pending, running, completed = await memory.events(run)
    assert (running["follows"], completed["follows"]) == (pending["id"], None)


async def test_what_is_said_after_a_transition(memory: World) -> None:
    pool = await memory.pool()
    run = await memory.run(await memory.deployment())
    assert ("work", pool) in [(n.topic, n.value) for n in memory.notes]
    token = (await memory.claim())[run]
    await memory.go(run, S.RUNNING, token=token)
    memory.notes.clear()
    await memory.set(run, S.PAUSED, pause_key="k", token=token)
    await memory.set(run, S.CANCELLING)
    assert [(n.topic, n.value) for n in memory.notes if n.topic != "events"] == [("cancel", run)]
    memory.notes.clear()
    await memory.go(run, S.CANCELLED, token=token)
    said = [(n.topic, n.value) for n in memory.notes if n.topic != "events"]
    assert ("work", pool) in said
    told = [n.value for n in memory.notes if n.topic == "events"]
    assert [event.event for event in told] == ["prefect.flow-run.Cancelled"]


async def test_state_data_and_odd_text_come_back_as_they_were(world: World) -> None:
    run = await world.ad_hoc()
    data = {"type": "reference", "n": 1.5, "x": None, "ключ": "雪"}
    await world.set(run, S.COMPLETED, "Ünusual/Näme", message="line\n'\"\\", data=data)
    row = (await world.history(run))[-1]
    assert (row["name"], row["message"], row["data"]) == ("Ünusual/Näme", "line\n'\"\\", data)


async def test_a_nul_in_a_message_does_not_keep_a_run_from_ending(world: World) -> None:
    run = await world.ad_hoc()
    answer = await world.set(run, S.FAILED, message="a\x00b", data={"k\x00": ["\x00"]})
    assert answer.status == "ACCEPT"
    row = await world.read(run)
    assert (row["state_message"], row["state_data"]) == ("a\ufffdb", {"k\ufffd": ["\ufffd"]})


async def test_errors_are_for_people(memory: World) -> None:
    with pytest.raises(EparchError) as caught:
        await memory.ad_hoc(work_pool_name="nowhere")
    assert "nowhere" in str(caught.value)


async def test_clock_that_stands_still_orders_history(memory: World) -> None:
    run = await memory.ad_hoc()
    moments: list[datetime] = []
    for type_ in (S.RUNNING, S.COMPLETED):
        body = SetState(state=a_state(type_))
        await memory.database.write(transition.set_flow_run_state, run, body, START)
    moments = [row["timestamp"] for row in await memory.history(run)]
    assert moments == sorted(set(moments))
