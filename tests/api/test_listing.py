"""Pages, counts, histories and bulk operations over a real store of each kind (wire section 3, T1 and T2)."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from eparch.core import calls

from .application import DATABASES, Client, started

NOBODY = uuid4()
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        yield client


def name(prefix: str) -> str:
    return f"{prefix}-{uuid4().hex[:8]}"


@pytest.fixture
def flow(ask: Client) -> Any:
    return ask(calls.create_flow(body={"name": name("flow"), "tags": ["a"]}))


@pytest.fixture
def pool(ask: Client) -> Any:
    return ask(calls.create_work_pool(body={"name": name("pool"), "type": "process"}))


@pytest.fixture
def deployment(ask: Client, flow: Any, pool: Any) -> Any:
    body = {"name": name("dep"), "flow_id": flow["id"], "work_pool_name": pool["name"]}
    return ask(calls.create_deployment(body=body))


def make_runs(ask: Client, flow: Any, *states: dict[str, Any]) -> list[Any]:
    return [ask(calls.create_flow_run(body={"flow_id": flow["id"], "state": state})) for state in states]


def due(when: datetime) -> dict[str, Any]:
    return {"type": "SCHEDULED", "state_details": {"scheduled_time": when.isoformat()}}


def of(flow: Any) -> dict[str, Any]:
    return {"flows": {"id": {"any_": [flow["id"]]}}}


PENDING = {"type": "PENDING"}


def test_pages_cover_everything_once(ask: Client, flow: Any) -> None:
    runs = make_runs(ask, flow, *[PENDING] * 5)
    seen: list[str] = []
    for number in (1, 2, 3):
        page = ask(calls.page_flow_runs(body={**of(flow), "limit": 2, "page": number}))
        assert {k: v for k, v in page.items() if k != "results"} == {
            "count": 5,
            "limit": 2,
            "pages": 3,
            "page": number,
        }
        seen += [run["id"] for run in page["results"]]
    assert seen == [run["id"] for run in reversed(runs)]
    beyond = ask(calls.page_flow_runs(body={**of(flow), "limit": 2, "page": 4}))
    assert beyond["results"] == []
    assert ask(calls.page_flow_runs(body={"limit": 0}))["pages"] == 0


@pytest.mark.parametrize("body", [{"page": 0}, {"page": -1}, {"offset": 1}, {"page": "x"}, {"limit": 201}])
def test_a_page_that_is_none_is_refused(ask: Client, body: dict[str, Any]) -> None:
    ask(calls.page_flow_runs(body=body), 422)


def test_every_entity_has_pages_and_counts(ask: Client, flow: Any, deployment: Any) -> None:
    run = make_runs(ask, flow, PENDING)[0]
    task = ask(calls.create_task_run(body={"flow_run_id": run["id"], "task_key": "t", "dynamic_key": "0"}))
    for page, count, known in (
        (calls.page_flows, calls.count_flows, flow),
        (calls.page_deployments, calls.count_deployments, deployment),
        (calls.page_task_runs, calls.count_task_runs, task),
    ):
        found = ask(page(body=of(flow)))
        assert [row["id"] for row in found["results"]] == [known["id"]]
        assert found["count"] == ask(count(body=of(flow))) == 1
    pools = {"work_pools": {"name": {"any_": [deployment["work_pool_name"]]}}}
    assert ask(calls.count_work_pools(body=pools)) == 1


def span(start: datetime, hours: float, seconds: float) -> dict[str, Any]:
    end = start + timedelta(hours=hours)
    return {
        "history_start": start.isoformat(),
        "history_end": end.isoformat(),
        "history_interval_seconds": seconds,
    }


def test_history_counts_runs_where_they_were_to_start(ask: Client, flow: Any) -> None:
    make_runs(ask, flow, due(NOON), due(NOON + timedelta(minutes=59)), due(NOON + timedelta(hours=2)))
    make_runs(ask, flow, due(NOON - timedelta(microseconds=1)), due(NOON + timedelta(hours=3)))
    found = ask(calls.read_flow_run_history(body={**of(flow), **span(NOON, 3, 3600)}))
    assert [part["interval_start"] for part in found] == [
        f"2026-03-01T{hour}:00:00Z" for hour in (12, 13, 14)
    ]
    assert found[0]["interval_end"] == found[1]["interval_start"]
    states = [[(s["state_name"], s["count_runs"]) for s in part["states"]] for part in found]
    assert states == [[("Scheduled", 2)], [], [("Scheduled", 1)]]
    assert found[0]["states"][0]["sum_estimated_run_time"] == 0
    assert found[0]["states"][0]["sum_estimated_lateness"] > 3600
    assert ask(calls.read_flow_run_history(body=span(NOON, -1, 60))) == []
    assert len(ask(calls.read_flow_run_history(body=span(NOON, 1000, 60)))) == 500
    ask(calls.read_flow_run_history(body=span(NOON, 1, 0.5)), 422)
    ask(calls.read_flow_run_history(body={}), 422)
    ask(calls.read_flow_run_history(body=span(datetime(9999, 12, 31, tzinfo=UTC), 23.9, 1e10)), 422)


def test_history_of_task_runs(ask: Client, flow: Any) -> None:
    run = make_runs(ask, flow, PENDING)[0]
    task = {"flow_run_id": run["id"], "task_key": "t"}
    for key in "ab":
        ask(calls.create_task_run(body={**task, "dynamic_key": key, "state": {"type": "RUNNING"}}))
    start = datetime.now(UTC) - timedelta(hours=1)
    found = ask(calls.read_task_run_history(body={**of(flow), **span(start, 2, 7200)}))
    assert [(s["state_type"], s["count_runs"]) for s in found[0]["states"]] == [("RUNNING", 2)]
    by_state = ask(calls.count_task_runs_by_state(body=of(flow)))
    assert by_state["RUNNING"] == 2
    assert sum(by_state.values()) == 2


def test_lateness_is_that_of_runs_that_wait_and_of_those_that_began(ask: Client, flow: Any) -> None:
    assert ask(calls.read_flow_run_lateness(body=of(flow))) is None
    now = datetime.now(UTC)
    make_runs(ask, flow, due(now - timedelta(seconds=1000)), due(now + timedelta(hours=1)))
    assert 500 <= ask(calls.read_flow_run_lateness(body=of(flow))) < 600


def test_a_chart_has_every_run_in_short(ask: Client, flow: Any) -> None:
    run = make_runs(ask, flow, due(NOON))[0]
    (short,) = ask(calls.read_short_flow_runs(body=of(flow)))
    assert short["id"] == run["id"]
    assert short["timestamp"] == "2026-03-01T12:00:00Z"
    assert short["duration"] == 0
    assert short["lateness"] > 0
    ask(calls.read_short_flow_runs(body={"limit": 1000}))
    ask(calls.read_short_flow_runs(body={"limit": 1001}), 422)


def test_counts_by_flow_and_by_flow_run(ask: Client, flow: Any, deployment: Any) -> None:
    other = ask(calls.create_flow(body={"name": name("flow")}))
    ids = {"flow_ids": [flow["id"], other["id"], str(NOBODY)]}
    assert list(ask(calls.count_deployments_by_flow(body=ids)).values()) == [1, 0, 0]
    late = make_runs(ask, flow, due(NOON + timedelta(hours=1)), due(NOON))[1]
    next_runs = ask(calls.read_next_runs_by_flow(body=ids))
    assert next_runs[flow["id"]]["id"] == late["id"]
    assert next_runs[other["id"]] is None
    task = ask(calls.create_task_run(body={"flow_run_id": late["id"], "task_key": "t", "dynamic_key": "0"}))
    ask(calls.create_task_run(body={"flow_run_id": late["id"], "task_key": "u", "dynamic_key": "0"}))
    ask(calls.create_flow_run(body={"flow_id": flow["id"], "parent_task_run_id": task["id"]}))
    runs = {"flow_run_ids": [late["id"], str(NOBODY)]}
    assert list(ask(calls.count_task_runs_by_flow_run(body=runs)).values()) == [1, 0]


def test_outcomes_fall_into_twenty_intervals(ask: Client, flow: Any) -> None:
    run = make_runs(ask, flow, PENDING)[0]
    for key, kind in enumerate(("COMPLETED", "FAILED", "CRASHED", "RUNNING")):
        task = ask(
            calls.create_task_run(
                body={"flow_run_id": run["id"], "task_key": "t", "dynamic_key": str(key),
                      "state": {"type": "RUNNING"}}))  # fmt: skip
        if kind != "RUNNING":
            ask(calls.set_task_run_state(id=task["id"], body={"state": {"type": kind}}))
    since = {"task_runs": {"start_time": {"after_": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}}}
    found = ask(calls.read_task_run_outcomes(body={**of(flow), **since}))
    assert len(found) == 20
    assert (sum(part["completed"] for part in found), sum(part["failed"] for part in found)) == (1, 2)
    ask(calls.read_task_run_outcomes(body={"task_runs": {}}), 422)
    ask(calls.read_task_run_outcomes(body={}), 422)


def test_what_fits_is_deleted_and_nothing_else(ask: Client, flow: Any, deployment: Any) -> None:
    runs = make_runs(ask, flow, *[PENDING] * 4)
    chosen = [run["id"] for run in runs[:3]]
    body = {"flow_runs": {"id": {"any_": chosen}}}
    first = ask(calls.delete_flow_runs(body={**body, "limit": 2}))["deleted"]
    assert len(first) == 2
    assert set(first) < set(chosen)
    assert len(ask(calls.delete_flow_runs(body=body))["deleted"]) == 1
    assert ask(calls.delete_flow_runs(body=body)) == {"deleted": []}
    ask(calls.read_flow_run(id=runs[3]["id"]))
    gone = ask(calls.delete_deployments(body={"deployments": {"id": {"any_": [deployment["id"]]}}}))
    assert gone == {"deleted": [deployment["id"]]}
    assert ask(calls.delete_flows(body={"flows": {"id": {"any_": [flow["id"]]}}})) == {
        "deleted": [flow["id"]]
    }
    ask(calls.read_flow_run(id=runs[3]["id"]), 404)
    for limit in (0, 51, "x"):
        ask(calls.delete_flows(body={"flows": {"name": {"any_": ["none"]}}, "limit": limit}), 422)


def test_a_state_is_proposed_for_each_run(ask: Client, flow: Any) -> None:
    runs = make_runs(ask, flow, {"type": "RUNNING"}, {"type": "COMPLETED"})
    body = {"flow_runs": {"id": {"any_": [run["id"] for run in runs]}}, "state": {"type": "COMPLETED"}}
    found = ask(calls.set_flow_run_states(body=body))["results"]
    assert [answer["flow_run_id"] for answer in found] == sorted(run["id"] for run in runs)
    assert found[0]["status"] == "ACCEPT"
    assert found[1]["status"] != "ACCEPT"
    assert ask(calls.read_flow_run(id=runs[0]["id"]))["state"]["type"] == "COMPLETED"
    ask(calls.set_flow_run_states(body={}), 422)


def test_a_flow_and_a_task_run_are_changed_and_deleted(ask: Client, flow: Any) -> None:
    ask(calls.update_flow(id=flow["id"], body={"tags": ["new"]}))
    assert ask(calls.read_flow(id=flow["id"]))["tags"] == ["new"]
    run = make_runs(ask, flow, PENDING)[0]
    task = ask(calls.create_task_run(body={"flow_run_id": run["id"], "task_key": "t", "dynamic_key": "0"}))
    ask(calls.update_task_run(id=task["id"], body={"name": "renamed"}))
    named = ask(calls.read_named_task_run(id=task["id"]))
    assert (named["name"], named["flow_run_name"]) == ("renamed", run["name"])
    ask(calls.delete_task_run(id=task["id"]))
    ask(calls.read_named_task_run(id=task["id"]), 404)
    ask(calls.delete_flow(id=flow["id"]))
    ask(calls.read_flow_run(id=run["id"]), 404)


@pytest.mark.parametrize(
    ("call", "detail"),
    [
        (calls.update_flow(id=NOBODY, body={"tags": []}), "Flow not found"),
        (calls.delete_flow(id=NOBODY), "Flow not found"),
        (calls.update_task_run(id=NOBODY, body={"name": "a"}), "Task run not found"),
        (calls.delete_task_run(id=NOBODY), "Task not found"),
        (calls.read_named_task_run(id=NOBODY), "Task not found"),
        (calls.read_flow_run_graph(id=NOBODY), "Flow run not found"),
        (calls.read_flow_run_dependencies(id=NOBODY), "Flow run not found"),
        (calls.download_flow_run_logs(id=NOBODY), "Flow run not found"),
        (calls.pause_deployment(id=NOBODY), "Deployment not found."),
        (calls.check_deployment_queue(id=NOBODY), "Deployment not found"),
        (calls.create_deployment_flow_runs(id=NOBODY, body=[]), "Deployment not found"),
        (calls.read_work_queue_health(id=NOBODY), f"Work queue with id {NOBODY} not found"),
        (calls.read_work_queue_slots(id=NOBODY, body={}), "Work queue not found."),
        (calls.read_work_queue_runs(id=NOBODY, body={}), "work queue not found"),
        (calls.read_default_pool_queue(name="none"), "work queue not found"),
        (calls.update_work_queue_by_id(id=NOBODY, body={}), f"Work Queue {NOBODY} not found"),
        (calls.delete_work_queue_by_id(id=NOBODY), "work queue not found"),
        (calls.read_work_pool_slots(name="none", body={}), "Work pool 'none' not found."),
    ],
    ids=lambda value: f"{value.method} {value.endpoint.path}" if isinstance(value, calls.Call) else "",
)
def test_what_is_not_there(ask: Client, call: calls.Call[Any], detail: str) -> None:
    assert ask(call, 404)["detail"] == detail


def test_several_runs_of_a_deployment_are_made_at_once(ask: Client, deployment: Any) -> None:
    body = [{"name": "one"}, {"work_queue_name": "no such queue"}, {"name": "three"}]
    found = ask(calls.create_deployment_flow_runs(id=deployment["id"], body=body))["results"]
    assert [result["status"] for result in found] == ["CREATED", "FAILED", "CREATED"]
    assert "no such queue" in found[1]["error"]
    assert ask(calls.read_flow_run(id=found[2]["flow_run_id"]))["name"] == "three"
    ask(calls.create_deployment_flow_runs(id=deployment["id"], body=[{}] * 101), 400)


def test_a_deployment_is_paused_planned_and_resumed(ask: Client, deployment: Any) -> None:
    id_ = deployment["id"]
    ask(calls.create_deployment_schedules(id=id_, body=[{"schedule": {"cron": "0 0 * * *"}}]))
    past = {"start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-05T00:00:00Z"}
    planned = {"deployments": {"id": {"any_": [id_]}}}
    for _ in range(2):
        ask(calls.plan_deployment_runs(id=id_, body=past))
        assert ask(calls.count_flow_runs(body=planned)) == 5
    ask(calls.plan_deployment_runs(id=id_, body={"min_runs": 2, "min_time": 0}))
    assert ask(calls.count_flow_runs(body=planned)) == 7
    ask(calls.pause_deployment(id=id_))
    assert ask(calls.read_deployment(id=id_))["paused"] is True
    assert ask(calls.count_flow_runs(body=planned)) == 5
    ask(calls.plan_deployment_runs(id=id_, body={}))
    assert ask(calls.count_flow_runs(body=planned)) == 5
    ask(calls.resume_deployment(id=id_))
    assert ask(calls.read_deployment(id=id_))["paused"] is False
    ask(calls.plan_deployment_runs(id=NOBODY, body={}))
    (queue,) = ask(calls.check_deployment_queue(id=id_))
    assert queue["id"] == deployment["work_queue_id"]


def test_a_queue_tells_its_health_its_slots_and_its_runs(ask: Client, deployment: Any, pool: Any) -> None:
    queue_id = deployment["work_queue_id"]
    assert ask(calls.read_work_queue_health(id=queue_id)) == {
        "healthy": False,
        "late_runs_count": 0,
        "last_polled": None,
        "health_check_policy": {"maximum_late_runs": 0, "maximum_seconds_since_last_polled": 60},
    }
    run = ask(calls.create_deployment_flow_run(id=deployment["id"], body={}))
    assert [r["id"] for r in ask(calls.read_work_queue_runs(id=queue_id, body={}))] == [run["id"]]
    assert ask(calls.read_work_queue_health(id=queue_id))["healthy"] is True
    claim = {"claim_id": str(uuid4()), "worker_name": "w"}
    ask(calls.claim_runs(name=pool["name"], body=claim))
    slots = ask(calls.read_work_queue_slots(id=queue_id, body={}))
    assert (slots["active_slots"], slots["count"], slots["pages"], slots["page"]) == (1, 1, 1, 1)
    assert slots["flow_runs"][0]["id"] == run["id"]
    assert slots["flow_runs"][0]["state_type"] == "PENDING"
    whole = ask(calls.read_work_pool_slots(name=pool["name"], body={}))
    assert whole["active_slots"] == 1
    assert whole["queues"][0]["queue_name"] == "default"
    assert whole["queues"][0]["flow_runs"][0]["id"] == run["id"]
    bare = ask(calls.read_work_pool_slots(name=pool["name"], body={"flow_run_limit": 0}))
    assert bare["queues"][0]["flow_runs"] == []
    late = {"state": {"type": "SCHEDULED", "name": "Late"}}
    ask(calls.create_deployment_flow_run(id=deployment["id"], body=late))
    health = ask(calls.read_work_queue_health(id=queue_id))
    assert (health["late_runs_count"], health["healthy"]) == (1, False)


def test_a_queue_without_a_pool_is_one_of_the_default_pool(ask: Client) -> None:
    own = name("queue")
    queue = ask(calls.create_default_pool_queue(body={"name": own}))
    assert queue["work_pool_name"] == "default-agent-pool"
    ask(calls.create_default_pool_queue(body={"name": own}), 409)
    assert ask(calls.read_default_pool_queue(name=own))["id"] == queue["id"]
    ask(calls.update_work_queue_by_id(id=queue["id"], body={"is_paused": True}))
    assert ask(calls.read_work_queue(id=queue["id"]))["status"] == "PAUSED"
    ask(calls.delete_work_queue_by_id(id=queue["id"]))
    ask(calls.read_work_queue(id=queue["id"]), 404)


def test_a_graph_links_what_needed_what(ask: Client, flow: Any) -> None:
    run = make_runs(ask, flow, {"type": "RUNNING"})[0]

    def task(key: str, **inputs: str) -> Any:
        body = {
            "flow_run_id": run["id"], "task_key": key, "dynamic_key": "0", "state": {"type": "RUNNING"},
            "task_inputs": {k: [{"input_type": "task_run", "id": v}] for k, v in inputs.items()},
        }  # fmt: skip
        return ask(calls.create_task_run(body=body))

    first = task("first")
    second = task("second", x=first["id"], gone=str(uuid4()))
    inner = task("inner", __parents__=second["id"])
    begun = {"flow_id": flow["id"], "parent_task_run_id": inner["id"], "state": {"type": "RUNNING"}}
    child = ask(calls.create_flow_run(body=begun))
    ask(calls.create_artifact(body={"key": name("k"), "type": "table", "flow_run_id": run["id"]}))
    mine = {"type": "progress", "data": 50, "flow_run_id": run["id"], "task_run_id": first["id"]}
    ask(calls.create_artifact(body=mine))
    graph = ask(calls.read_flow_run_graph(id=run["id"]))
    nodes = dict(graph["nodes"])
    assert list(nodes) == [first["id"], second["id"], child["id"]]
    assert nodes[first["id"]]["children"] == [{"id": second["id"]}]
    assert nodes[second["id"]]["parents"] == [{"id": first["id"]}]
    assert nodes[child["id"]]["kind"] == "flow-run"
    assert nodes[child["id"]]["label"] == f"{flow['name']} / {child['name']}"
    assert nodes[child["id"]]["encapsulating"] == [{"id": second["id"]}]
    assert graph["root_node_ids"] == [first["id"], child["id"]]
    assert nodes[first["id"]]["artifacts"][0]["data"] == 50
    assert [a["type"] for a in graph["artifacts"]] == ["table"]
    assert [s["name"] for s in graph["states"]] == ["Running"]
    ask(calls.set_task_run_state(id=first["id"], body={"state": {"type": "COMPLETED"}}))
    later = calls.read_flow_run_graph(id=run["id"], since="2100-01-01T00:00:00Z")
    assert first["id"] not in dict(ask(later)["nodes"])
    tasks = {t["id"]: t for t in ask(calls.read_flow_run_dependencies(id=run["id"]))}
    assert tasks[second["id"]]["upstream_dependencies"][0] == {"input_type": "task_run", "id": first["id"]}
    ask(calls.read_flow_run_graph(id=run["id"], since="no time"), 422)


def test_a_log_is_a_file_that_spreadsheets_read(ask: Client, flow: Any) -> None:
    run = make_runs(ask, flow, PENDING)[0]
    line = {"name": "l", "level": 20, "flow_run_id": run["id"]}
    texts = ['says "hello", twice', "two\nlines", "größe 🦊"]
    lines = [
        {**line, "message": text, "timestamp": f"2026-01-01T00:00:0{n}Z"} for n, text in enumerate(texts)
    ]
    ask(calls.create_logs(body=lines[::-1]))
    response = ask.send("GET", f"/flow_runs/{run['id']}/logs/download", None, None)
    assert response.status == 200
    assert response.headers["content-type"].startswith("text/csv")
    assert run["name"] in response.headers["content-disposition"]
    rows = list(csv.reader(io.StringIO(response.body.decode(), newline="")))
    assert rows[0] == ["timestamp", "level", "flow_run_id", "task_run_id", "message"]
    assert [row[4] for row in rows[1:]] == texts
    assert rows[1][:4] == ["2026-01-01 00:00:00+00:00", "20", run["id"], ""]
