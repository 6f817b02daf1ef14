"""The contract of every database: what is written is read, whatever it is, and what is refused says why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest

from eparch.core.errors import Conflict, Invalid
from eparch.core.filters import READ_WORKERS, Query
from eparch.core.model import encode, new_id
from eparch.core.records import Artifact, LogCreate
from eparch.core.runs import Author, FlowRunPolicy
from eparch.core.states import Completed, Paused, Running, Scheduled, StateDetails, StateType
from eparch.store import claims, deployments, leadership, pools, records, runs
from eparch.store.database import Database

from . import making
from .making import NOW

pytestmark = pytest.mark.anyio

DEEP: Any = 1
for _ in range(150):
    DEEP = {"d": [DEEP]}

HOSTILE = [
    pytest.param({"n": 10**30, "m": -(10**30)}, id="huge"),
    pytest.param({"b": 1, "a": 2, "c": {"z": 0, "y": 1}}, id="order"),
    pytest.param({"given": None, "empty": {}, "list": [None]}, id="null"),
    pytest.param({"🦊": "größe\n\t\"'\\", "u": "\u2028\ufeff"}, id="unicode"),
    pytest.param({"looks like NUL": "\\u0000"}, id="backslash"),
    pytest.param(DEEP, id="deep"),
    pytest.param({"f": 0.1, "e": 1e300, "i": 1.0, "t": True}, id="numbers"),
    pytest.param({"sql": "'; DROP TABLE flow; --", ":x": "$1 ? %s"}, id="sql"),
]


async def a_flow(database: Database) -> UUID:
    made = making.flow()
    await database.write(making.insert, made)
    return made.id


def through_json(answer: Any) -> Any:
    """What a client reads of ``answer``."""
    return msgspec.json.decode(encode(answer))


@pytest.mark.parametrize("document", HOSTILE)
async def test_a_document_is_read_as_it_was_written(database: Database, document: Any) -> None:
    run = making.flow_run(await a_flow(database), parameters=document, context={}, state_data=None)
    await database.write(making.insert, run)
    value = await database.read(runs.flow_run_value, run["id"])
    answer = await database.read(runs.read_flow_run, run["id"], NOW)
    assert value.parameters == document
    assert encode(value.parameters) == encode(document)
    assert encode(answer["parameters"]) == encode(document)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"name": "a\x00b"}, "NUL"),
        ({"parameters": {"x": "a\x00b"}}, "NUL"),
        ({"parameters": {"a\x00": 1}}, "NUL"),
        ({"tags": ["\\\x00"]}, "NUL"),
        ({"name": "half \ud800"}, "surrogate"),
        ({"parameters": {"x": "\udfff"}}, "surrogate"),
        ({"run_count": 2**63}, "large|fit"),
    ],
)
async def test_a_value_that_no_database_can_hold_is_refused(
    database: Database, columns: dict[str, Any], says: str
) -> None:
    run = making.flow_run(await a_flow(database), **columns)
    with pytest.raises(Invalid, match=says):
        await database.write(making.insert, run)
    assert await database.read(runs.read_flow_run, run["id"], NOW) is None


async def test_a_filter_with_a_value_that_no_database_can_hold_is_refused(database: Database) -> None:
    for name in ("a\x00b", "\ud800"):
        with pytest.raises(Invalid):
            await database.read(deployments.read_flow_by_name, name)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 2, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 30, 0, 1, timezone(timedelta(hours=-11, minutes=-30))),
        datetime(2262, 4, 12, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999998, UTC),
    ],
    ids=str,
)
async def test_a_time_keeps_its_microseconds(database: Database, moment: datetime) -> None:
    run = making.flow_run(await a_flow(database), expected_start_time=moment)
    await database.write(making.insert, run)
    value = await database.read(runs.flow_run_value, run["id"])
    assert value.expected_start_time == moment
    assert value.expected_start_time.utcoffset() == timedelta(0)


async def test_the_answer_of_a_run_reads_as_its_value(database: Database) -> None:
    state = Running(timestamp=NOW, message="go", data={"x": [1]}, state_details=StateDetails(retriable=True))
    policy = FlowRunPolicy(retries=3, retry_type="in_process")
    author = Author(id=new_id(), type="DEPLOYMENT", display_value="d")
    run = making.flow_run(
        await a_flow(database), state, empirical_policy=policy, created_by=author, tags=["b", "a"],
        labels={"k": 1, "f": 1.5, "t": True}, run_count=2**40, total_run_time=1.25, start_time=NOW,
    )  # fmt: skip
    await database.write(making.insert, run)
    later = NOW + timedelta(seconds=4)
    answer = await database.read(runs.read_flow_run, run["id"], later)
    value = await database.read(runs.flow_run_value, run["id"])
    assert value.state == state
    assert (value.empirical_policy, value.created_by) == (policy, author)
    assert value.run_count == 2**40
    again = msgspec.convert(through_json(answer), type(value), strict=False)
    assert again.estimated_run_time == 5.25
    assert msgspec.structs.replace(again, estimated_run_time=0.0) == value
    assert list(through_json(answer)["labels"]) == ["k", "f", "t"]


async def test_what_a_decision_needs(database: Database) -> None:
    flow, pool = making.flow(name="etl", tags=["f"]), making.pool(name="local")
    queue = making.queue(pool["id"], name="q")
    deployment = making.deployment(
        flow.id, concurrency_limit=2, concurrency_options={"collision_strategy": "CANCEL_NEW"}, tags=["d"]
    )
    run = making.flow_run(
        flow.id, deployment_id=deployment["id"], work_queue_id=queue["id"], fencing_token=6, tags=["t"]
    )
    held = making.claim(run["id"], token=6, lease_until=NOW, worker_name="w")
    await database.write(making.insert, flow, pool, queue, deployment, run, held)
    await database.write(claims.set_slot, run["id"], slot := new_id(), deployment["id"])
    stored = await database.write(runs.flow_run_for_decision, run["id"])
    assert (stored.flow_name, stored.deployment_name, stored.pool_type) == ("etl", "nightly", "process")
    assert (stored.fencing_token, stored.slot_limit, stored.slot_id) == (6, 2, slot)
    assert stored.slot_options == {"collision_strategy": "CANCEL_NEW"}
    assert (stored.run.work_queue_name, stored.run.work_pool_id) == ("q", pool["id"])
    assert (stored.claim.claim_id, stored.claim.lease_until) == (held.claim_id, NOW)
    assert await database.write(runs.slots_taken, deployment["id"]) == 1
    assert await database.read(runs.lease_exists, slot)
    assert not await database.read(runs.lease_exists, new_id())
    assert await database.write(runs.flow_run_for_decision, new_id()) is None


async def test_a_guarded_write_changes_only_what_it_expects(database: Database) -> None:
    run = making.flow_run(await a_flow(database))
    await database.write(making.insert, run)
    assert not await database.write(runs.write_flow_run, run["id"], {"name": "new"}, was=new_id())
    assert await database.write(runs.write_flow_run, run["id"], {"name": "new"}, was=run["state_id"])
    assert (await database.read(runs.flow_run_value, run["id"])).name == "new"
    assert not await database.write(runs.write_flow_run, new_id(), {"name": "new"})


async def test_an_idempotency_key_belongs_to_one_run_of_a_flow(database: Database) -> None:
    one, other = await a_flow(database), await a_flow(database)
    run = making.flow_run(one, idempotency_key="k")
    await database.write(making.insert, run, making.flow_run(other, idempotency_key="k"))
    with pytest.raises(Conflict):
        await database.write(making.insert, making.flow_run(one, idempotency_key="k"))
    found = await database.read(runs.read_flow_run_by_key, one, "k", NOW)
    assert UUID(str(found["id"])) == run["id"]
    assert await database.read(runs.read_flow_run_by_key, one, "K", NOW) is None


async def test_labels_are_merged(database: Database) -> None:
    run = making.flow_run(await a_flow(database), labels={"a": 1, "b": 2})
    await database.write(making.insert, run)
    assert await database.write(runs.add_labels, run["id"], {"b": 3, "c": "x"}, NOW)
    assert (await database.read(runs.flow_run_value, run["id"])).labels == {"a": 1, "b": 3, "c": "x"}
    assert not await database.write(runs.add_labels, new_id(), {}, NOW)


async def test_a_deleted_run_takes_along_what_hangs_on_it(database: Database) -> None:
    flow = making.flow()
    run = making.flow_run(flow.id)
    task = making.task_run(run["id"])
    await database.write(making.insert, flow, run, task, making.claim(run["id"]))
    await database.write(runs.append_flow_run_state, run["id"], state := Running(timestamp=NOW))
    await database.write(runs.append_task_run_states, [(task["id"], state)])
    assert await database.write(runs.delete_flow_run, run["id"])
    assert await database.read(runs.read_task_run, task["id"], NOW) is None
    assert await database.write(claims.locked_claim, run["id"]) is None
    assert not await database.write(runs.delete_flow_run, run["id"])


async def test_task_runs_are_recorded_and_found(database: Database) -> None:
    run = making.flow_run(await a_flow(database))
    await database.write(making.insert, run)
    first = making.task_run(
        run["id"], Running(timestamp=NOW), task_inputs={"x": [{"input_type": "constant"}]}
    )
    await database.write(runs.record_task_runs, [first, making.task_run(None, dynamic_key="1")])
    done = Completed(timestamp=NOW + timedelta(seconds=1), message="ok")
    again = making.task_run(run["id"], done, id=first["id"], total_run_time=1.0, tags=["t"])
    await database.write(runs.record_task_runs, [again])
    value = await database.write(runs.task_run_for_decision, first["id"])
    assert (value.state, value.total_run_time, value.tags) == (done, 1.0, ["t"])
    progress = await database.read(runs.task_progress, [first["id"], new_id()])
    assert set(progress) == {first["id"]}
    assert progress[first["id"]]["state_details"] == StateDetails()
    found = await database.read(runs.read_task_run_by_key, run["id"], "load", "0", NOW)
    assert through_json(found)["state"]["message"] == "ok"
    assert await database.write(runs.known_flow_runs, [run["id"], new_id()]) == {run["id"]}
    assert await database.write(runs.write_task_run, first["id"], {"name": "new"})
    assert (await database.read(runs.read_task_run, first["id"], NOW))["name"] == "new"


async def test_runs_out_of_time_are_found(database: Database) -> None:
    flow = await a_flow(database)
    soon, later = NOW + timedelta(seconds=1), NOW + timedelta(hours=1)
    due = making.flow_run(flow, Scheduled(soon), next_scheduled_start_time=soon)
    ahead = making.flow_run(flow, Scheduled(later), next_scheduled_start_time=later)
    paused = making.flow_run(flow, Paused(timestamp=soon))
    await database.write(making.insert, due, ahead, paused)
    assert await database.scan(runs.overdue, NOW, 10) == []
    assert await database.scan(runs.overdue, soon, 10) == [due["id"]]
    none = UUID(int=0)
    assert await database.scan(runs.in_state_since, StateType.PAUSED, soon, none, 10) == [paused["id"]]
    assert await database.scan(runs.in_state_since, StateType.PAUSED, NOW, none, 10) == []
    assert await database.scan(runs.in_state_since, StateType.CANCELLING, later, none, 10) == []


async def test_flows_and_deployments(database: Database) -> None:
    flow, pool = making.flow(name="ETL", labels={"a": 1}), making.pool()
    queue = making.queue(pool["id"])
    made = making.deployment(
        flow.id, work_queue_id=queue["id"], concurrency_limit=2, pull_steps=[{"x": {"requires": "y"}}],
        version_info={"type": "git", "version": "1"}, created_by=Author(type="USER"),
    )  # fmt: skip
    times = {"a": NOW, "b": NOW - timedelta(days=1)}
    plans = [
        making.schedule(made["id"], slug=s, created=c, schedule={"cron": "0 * * * *"})
        for s, c in times.items()
    ]
    run = making.flow_run(flow.id, deployment_id=made["id"])
    await database.write(making.insert, flow, pool, queue, made, *plans, run, making.claim(run["id"]))
    await database.write(claims.set_slot, run["id"], new_id(), made["id"])
    assert await database.read(deployments.flow_value, flow.id) == flow
    assert (await database.read(deployments.read_flow_by_name, "ETL"))["name"] == "ETL"
    assert await database.read(deployments.read_flow_by_name, "etl") is None
    answer = through_json(await database.read(deployments.read_deployment, made["id"], NOW))
    value = await database.read(deployments.deployment_value, made["id"], NOW)
    assert msgspec.convert(answer, type(value), strict=False) == value
    assert value.global_concurrency_limit.active_slots == 1
    assert [s.slug for s in value.schedules] == ["a", "b"]
    assert (value.work_pool_name, value.work_queue_name) == (pool["name"], "default")
    by_name = await database.read(deployments.read_deployment_by_name, "ETL", "nightly", NOW)
    assert through_json(by_name) == answer
    assert await database.read(deployments.deployment_id, flow.id, "nightly") == made["id"]
    page = await database.scan(deployments.read_deployments, Query("deployments", sort="NAME_ASC"), NOW)
    assert through_json(page) == [answer]
    await database.write(deployments.mark_polled, [made["id"]], NOW)
    assert (await database.read(deployments.read_deployment, made["id"], NOW))["status"] == "READY"
    assert await database.write(deployments.write_deployment, made["id"], {"paused": True})
    with pytest.raises(Conflict):
        await database.write(making.insert, making.deployment(flow.id))
    assert await database.write(deployments.delete_deployment, made["id"])
    assert (await database.read(runs.flow_run_value, run["id"])).deployment_id is None
    assert await database.read(deployments.read_schedules, made["id"]) == []


async def test_schedules_wait_until_their_runs_are_made(database: Database) -> None:
    flow = making.flow()
    made, paused = making.deployment(flow.id), making.deployment(flow.id, name="p", paused=True)
    plan, off = making.schedule(made["id"]), making.schedule(made["id"], active=False)
    await database.write(making.insert, flow, made, paused, plan, off, making.schedule(paused["id"]))
    assert await database.scan(deployments.to_schedule, NOW, 10) == [plan.id]
    await database.write(deployments.scheduled_until, plan.id, NOW)
    assert await database.scan(deployments.to_schedule, NOW, 10) == []
    later = NOW + timedelta(seconds=1)
    assert await database.scan(deployments.to_schedule, later, 10) == [plan.id]
    assert (await database.write(deployments.schedule_to_plan, plan.id, later))["flow_id"] == flow.id
    assert await database.write(deployments.schedule_to_plan, plan.id, NOW) is None
    await database.write(deployments.reschedule, made["id"])
    assert await database.scan(deployments.to_schedule, NOW, 10) == [plan.id]
    assert await database.write(deployments.write_schedule, plan.id, {"active": False})
    assert {s.active for s in await database.read(deployments.read_schedules, made["id"])} == {False}
    assert await database.write(deployments.delete_schedule, plan.id)
    await database.write(deployments.delete_schedules, made["id"])
    assert await database.read(deployments.read_schedules, made["id"]) == []


async def test_scheduled_runs_can_be_forgotten(database: Database) -> None:
    flow = making.flow()
    made = making.deployment(flow.id)
    later = NOW + timedelta(hours=1)
    common = {"deployment_id": made["id"], "next_scheduled_start_time": later, "auto_scheduled": True}
    planned = making.flow_run(flow.id, Scheduled(later), schedule_id=(schedule := new_id()), **common)
    other = making.flow_run(flow.id, Scheduled(later), schedule_id=new_id(), **common)
    by_hand = making.flow_run(flow.id, Scheduled(later), **{**common, "auto_scheduled": False})
    await database.write(making.insert, flow, made, planned, other, by_hand)
    assert await database.write(runs.forget_scheduled, made["id"], later) == 0
    assert await database.write(runs.forget_scheduled, made["id"], NOW, schedule) == 1
    assert await database.write(runs.forget_scheduled, made["id"], NOW) == 1
    assert await database.read(runs.read_flow_run, by_hand["id"], NOW) is not None


async def test_pools_queues_and_workers(database: Database) -> None:
    pool = making.pool(name="local", concurrency_limit=3)
    one, two = making.queue(pool["id"], priority=2), making.queue(pool["id"], name="High", priority=1)
    flow = making.flow()
    run = making.flow_run(flow.id, work_queue_id=two["id"])
    held = making.claim(run["id"], work_pool_id=pool["id"], work_queue_id=two["id"])
    await database.write(making.insert, pool, one, two, flow, run, held)
    answer = await database.read(pools.read_pool, "local", NOW)
    assert (answer["active_slots"], answer["status"], answer["concurrency_limit"]) == (1, "NOT_READY", 3)
    await database.write(pools.heartbeat, pool["id"], "w", 30, NOW)
    await database.write(pools.heartbeat, pool["id"], "w", 10, NOW)
    assert (await database.read(pools.read_pool, "local", NOW))["status"] == "READY"
    (worker,) = await database.read(
        pools.read_workers, Query("workers", sort="LAST_HEARTBEAT_TIME_DESC"), NOW, pool["id"]
    )
    assert (worker["status"], worker["heartbeat_interval_seconds"]) == ("ONLINE", 10)
    queues = await database.read(
        pools.read_queues, Query("work_queues", sort="PRIORITY_ASC"), NOW, pool["id"]
    )
    assert [(q["name"], q["active_slots"]) for q in queues] == [("High", 1), ("default", 0)]
    queue = await database.read(pools.read_queue_by_name, "local", "High", NOW)
    assert queue["id"] == two["id"], "a full value: notes are compared with it"
    await database.write(pools.mark_polled, [two["id"]], NOW)
    assert (await database.read(pools.read_queue, two["id"], NOW))["status"] == "READY"
    assert await database.read(pools.queue_priorities, pool["id"]) == [
        (two["id"], "High", 1),
        (one["id"], "default", 2),
    ]
    assert await database.read(pools.read_template, pool["id"]) == ({}, "process")
    assert await database.write(pools.write_pool, pool["id"], {"is_paused": True})
    assert (await database.read(pools.read_pool, "local", NOW))["status"] == "PAUSED"
    assert await database.write(pools.write_queue, one["id"], {"concurrency_limit": 2**40})
    assert await database.write(pools.delete_queue, two["id"])
    assert (await database.read(runs.flow_run_value, run["id"])).work_queue_id is None
    assert await database.write(pools.delete_pool, pool["id"])
    assert await database.read(pools.read_queue, one["id"], NOW) is None


async def test_workers_are_chosen_by_their_status(database: Database) -> None:
    pool, long_ago = making.pool(), NOW - timedelta(hours=1)
    await database.write(making.insert, pool)
    for name, seen in (("a", NOW), ("b", long_ago), ("c", NOW - timedelta(seconds=1))):
        await database.write(pools.heartbeat, pool["id"], name, 30, seen)

    async def names(body: dict[str, Any], limit: int = 10) -> list[str]:
        query = READ_WORKERS.parse({"workers": body, "limit": limit})
        found = await database.scan(pools.read_workers, query, NOW, pool["id"])
        return [worker["name"] for worker in found]

    online, old = {"status": {"any_": ["ONLINE"]}}, {"last_heartbeat_time": {"before_": long_ago.isoformat()}}
    assert await names({}) == ["a", "c", "b"]
    assert await names(online) == ["a", "c"]
    assert await names(online, 1) == ["a"]
    assert await names({"status": {"not_any_": ["ONLINE"]}}) == ["b"]
    assert await names(old) == ["b"]
    assert await names({**online, **old}) == []
    assert await names({**online, **old, "operator": "or_"}) == ["a", "c", "b"]


async def test_claims(database: Database) -> None:
    flow, pool = making.flow(), making.pool(name="p")
    queue = making.queue(pool["id"])
    due = [
        making.flow_run(flow.id, Scheduled(t), work_queue_id=queue["id"], next_scheduled_start_time=t)
        for t in (NOW, NOW - timedelta(seconds=1), NOW + timedelta(seconds=1))
    ]
    await database.write(making.insert, flow, pool, queue, *due)
    assert await database.read(claims.read_pool, "p") == (pool["id"], False, None)
    assert await database.read(claims.read_queues, pool["id"]) == [(queue["id"], "default", False, None, 1)]
    await database.write(claims.lock_pool, pool["id"])
    found = await database.write(claims.due, queue["id"], NOW, 10)
    assert [run_id for run_id, _ in found] == [due[1]["id"], due[0]["id"]]
    assert await database.write(claims.due, queue["id"], NOW, 10, NOW) == [(due[0]["id"], None)]
    assert await database.read(claims.next_due, [queue["id"], new_id()]) == NOW - timedelta(seconds=1)
    assert await database.read(claims.next_due, []) is None
    held = making.claim(due[0]["id"], work_pool_id=pool["id"], work_queue_id=queue["id"], lease_until=NOW)
    await database.write(making.insert, held)
    assert await database.read(claims.held, pool["id"]) == {queue["id"]: 1}
    assert await database.read(claims.by_claim_id, held.claim_id) == [held]
    assert await database.read(claims.lapsed, NOW, 10) == [due[0]["id"]]
    assert not await database.write(claims.renew, due[0]["id"], 2, NOW)
    assert await database.write(claims.renew, due[0]["id"], 1, NOW + timedelta(seconds=1))
    assert await database.read(claims.lapsed, NOW, 10) == []
    assert await database.read(claims.to_cancel, [due[0]["id"]]) == []
    with pytest.raises(Conflict):
        await database.write(making.insert, making.claim(due[0]["id"]))
    await database.write(claims.delete_claim, due[0]["id"])
    assert await database.read(claims.held, pool["id"]) == {}


async def test_a_run_whose_deployment_is_full_is_passed_over(database: Database) -> None:
    flow, pool = making.flow(), making.pool()
    queue = making.queue(pool["id"])
    full, cancels = (
        making.deployment(flow.id, name=name, concurrency_limit=1, concurrency_options=options)
        for name, options in (("full", None), ("cancels", {"collision_strategy": "CANCEL_NEW"}))
    )
    holders, waiting = [], {}
    for deployment in (full, cancels):
        holders.append(making.flow_run(flow.id, deployment_id=deployment["id"]))
        waiting[deployment["name"]] = making.flow_run(
            flow.id, Scheduled(NOW), deployment_id=deployment["id"], work_queue_id=queue["id"],
            next_scheduled_start_time=NOW,
        )  # fmt: skip
    await database.write(making.insert, flow, pool, queue, full, cancels, *holders, *waiting.values())
    for holder in holders:
        await database.write(making.insert, making.claim(holder["id"]))
        await database.write(claims.set_slot, holder["id"], new_id(), holder["deployment_id"])
    found = await database.write(claims.due, queue["id"], NOW, 10)
    assert [run_id for run_id, _ in found] == [waiting["cancels"]["id"]]
    await database.write(claims.set_slot, holders[0]["id"], None, None)
    assert len(await database.write(claims.due, queue["id"], NOW, 10)) == 2


async def test_logs_keep_the_order_in_which_they_came(database: Database) -> None:
    run_id = new_id()
    lines = [
        LogCreate(name="n", level=20, message=f"{n} ☃\n", timestamp=NOW, flow_run_id=run_id)
        for n in range(50)
    ]
    await database.write(records.insert_logs, lines, NOW)
    read = await database.scan(records.read_logs, Query("logs", sort="TIMESTAMP_ASC"))
    assert [line["message"] for line in read] == [line.message for line in lines]
    back = await database.scan(records.read_logs, Query("logs", sort="TIMESTAMP_DESC"))
    assert back == read[::-1]


async def test_artifacts(database: Database) -> None:
    made = Artifact(
        id=new_id(), created=NOW, updated=NOW, key="k", type="table", data=[{"a": 1}], metadata_={"x": "y"}
    )
    bare = Artifact(id=new_id(), created=NOW, updated=NOW, data="text")
    await database.write(records.insert_artifact, made)
    await database.write(records.insert_artifact, bare)
    for artifact in (made, bare):
        answer = through_json(await database.read(records.read_artifact, artifact.id))
        assert msgspec.convert(answer, Artifact, strict=False) == artifact
    page = await database.scan(records.read_artifacts, Query("artifacts", sort="KEY_ASC"))
    assert [row["key"] for row in page] == ["k", None]


async def test_a_duty_has_one_holder_until_its_lease_lapses(database: Database) -> None:
    one, two = new_id(), new_id()
    until = NOW + timedelta(seconds=5)
    assert await database.write(leadership.acquire, "scheduler", one, NOW, until)
    assert not await database.write(leadership.acquire, "scheduler", two, NOW, until)
    assert await database.write(leadership.acquire, "scheduler", one, NOW, until)
    assert await database.write(leadership.acquire, "scheduler", two, until, until)
    await database.write(leadership.release, two)
    assert await database.write(leadership.acquire, "scheduler", one, NOW, until)


async def test_a_failed_write_leaves_nothing(database: Database) -> None:
    flow, other = making.flow(name="one"), making.flow(name="one")
    with pytest.raises(Conflict):
        await database.write(making.insert, flow, other)
    assert await database.read(deployments.read_flow, flow.id) is None
