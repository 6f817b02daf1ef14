"""Every endpoint over a real store of each kind: statuses, bodies, what one call leaves for the next."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from eparch.api.router import HANDLERS
from eparch.core import calls
from eparch.core.errors import DatabaseUnusable
from eparch.core.infrastructure_types import shipped_template
from eparch.core.model import encode

from .application import DATABASES, OWN_TYPE, Client, started
from .calling import Response, call_in_loop

NOBODY = uuid4()
CLAIM = {"claim_id": NOBODY, "worker_name": "w"}
DAILY = {"schedule": {"cron": "0 0 * * *"}}


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
    body = {"name": name("dep"), "flow_id": flow["id"], "work_pool_name": pool["name"], "tags": ["d"]}
    return ask(calls.create_deployment(body=body))


def propose(type_: str, **more: Any) -> dict[str, Any]:
    return {"state": {"type": type_, "state_details": {"transition_id": str(uuid4())}, **more}}


def test_every_endpoint_has_a_handler(ask: Client) -> None:
    assert set(HANDLERS) == {(endpoint.method, endpoint.path) for endpoint in calls.ENDPOINTS}


def test_flow_is_made_once(ask: Client, flow: Any) -> None:
    again = ask(calls.create_flow(body={"name": flow["name"]}), 200)
    assert again == flow
    assert ask(calls.read_flow(id=flow["id"])) == flow
    assert ask(calls.read_flow_by_name(name=flow["name"])) == flow
    found = ask(calls.read_flows(body={"flows": {"name": {"any_": [flow["name"]]}}}))
    assert found == [flow]


@pytest.mark.parametrize(
    ("call", "detail"),
    [
        (calls.read_flow(id=NOBODY), "Flow not found"),
        (calls.read_flow_by_name(name="nope"), "Flow not found"),
        (calls.read_flow_run(id=NOBODY), "Flow run not found"),
        (calls.update_flow_run(id=NOBODY, body={"name": "x"}), "Flow run not found"),
        (calls.delete_flow_run(id=NOBODY), "Flow run not found"),
        (calls.update_flow_run_labels(id=NOBODY, body={"a": 1}), "Flow run not found"),
        (calls.set_flow_run_state(id=NOBODY, body=propose("RUNNING")), "Flow run not found"),
        (calls.read_task_run(id=NOBODY), "Task not found"),
        (calls.set_task_run_state(id=NOBODY, body=propose("RUNNING")), "Task run not found"),
        (calls.read_deployment(id=NOBODY), "Deployment not found"),
        (calls.read_deployment_by_name(flow_name="a", deployment_name="b"), "Deployment not found"),
        (calls.update_deployment(id=NOBODY, body={}), "Deployment not found."),
        (calls.delete_deployment(id=NOBODY), "Deployment not found"),
        (calls.create_deployment_flow_run(id=NOBODY, body={}), "Deployment not found"),
        (calls.read_deployment_schedules(id=NOBODY), "Deployment not found."),
        (calls.create_deployment_schedules(id=NOBODY, body=[]), "Deployment not found."),
        (calls.update_deployment_schedule(id=NOBODY, schedule_id=NOBODY, body={}), "Schedule not found."),
        (calls.delete_deployment_schedule(id=NOBODY, schedule_id=NOBODY), "Schedule not found."),
        (calls.read_work_pool(name="nope"), 'Work pool "nope" not found.'),
        (calls.update_work_pool(name="nope", body={}), 'Work pool "nope" not found.'),
        (calls.delete_work_pool(name="nope"), 'Work pool "nope" not found.'),
        (calls.read_due_runs(name="nope", body={}), 'Work pool "nope" not found.'),
        (
            calls.claim_runs(name="nope", body={"claim_id": NOBODY, "worker_name": "w"}),
            'Work pool "nope" not found.',
        ),
        (calls.create_work_queue(work_pool_name="nope", body={"name": "q"}), 'Work pool "nope" not found.'),
        (calls.read_pool_queues(work_pool_name="nope", body={}), 'Work pool "nope" not found.'),
        (calls.heartbeat_worker(work_pool_name="nope", body={"name": "w"}), 'Work pool "nope" not found.'),
        (calls.read_workers(work_pool_name="nope", body={}), 'Work pool "nope" not found.'),
        (
            calls.read_work_queue_by_name(work_pool_name="nope", name="q"),
            "Work pool queue 'nope/q' not found.",
        ),
        (calls.read_work_queue(id=NOBODY), "work queue not found"),
        (calls.read_artifact(id=NOBODY), "Artifact not found"),
        (calls.read_collection_view(view="nope"), "View nope not found in registry"),
    ],
    ids=lambda value: f"{value.method} {value.endpoint.path}" if isinstance(value, calls.Call) else "",
)
def test_what_is_not_there(ask: Client, call: calls.Call[Any], detail: str) -> None:
    assert ask(call, 404)["detail"] == detail


def test_flow_run_through_its_life(ask: Client, flow: Any) -> None:
    body = {"flow_id": flow["id"], "parameters": {"x": [1, None]}, "idempotency_key": name("key")}
    run = ask(calls.create_flow_run(body=body))
    assert ask(calls.create_flow_run(body=body), 200)["id"] == run["id"]
    assert run["name"].count("-") >= 1
    assert run["parameters"] == {"x": [1, None]}
    assert run["state"]["type"] == "PENDING"
    answer = ask(calls.set_flow_run_state(id=run["id"], body=propose("RUNNING")))
    assert answer["status"] == "ACCEPT"
    assert answer["details"]["type"] == "accept_details"
    ask(calls.update_flow_run(id=run["id"], body={"name": "renamed", "tags": ["t"]}))
    ask(calls.update_flow_run_labels(id=run["id"], body={"team": "x"}))
    ask(calls.set_flow_run_state(id=run["id"], body=propose("COMPLETED")))
    ended = ask(calls.read_flow_run(id=run["id"]))
    assert (ended["name"], ended["state_type"], ended["run_count"]) == ("renamed", "COMPLETED", 1)
    assert ended["labels"]["team"] == "x"
    refused = ask(calls.set_flow_run_state(id=run["id"], body=propose("CRASHED")), 200)
    assert refused["status"] == "ABORT"
    wanted = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    assert [found["id"] for found in ask(calls.read_flow_runs(body=wanted))] == [run["id"]]
    assert ask(calls.count_flow_runs(body=wanted)) == 1
    ask(calls.delete_flow_run(id=run["id"]))
    assert ask(calls.count_flow_runs(body=wanted)) == 0


def test_run_of_a_flow_that_is_not_there(ask: Client) -> None:
    assert ask(calls.create_flow_run(body={"flow_id": NOBODY}), 404)["detail"] == "Flow not found"


def test_task_run(ask: Client, flow: Any) -> None:
    run = ask(calls.create_flow_run(body={"flow_id": flow["id"]}))
    body = {"flow_run_id": run["id"], "task_key": "t", "dynamic_key": "0"}
    task = ask(calls.create_task_run(body=body))
    assert ask(calls.create_task_run(body=body), 200)["id"] == task["id"]
    ask(calls.set_flow_run_state(id=run["id"], body=propose("RUNNING")))
    assert ask(calls.set_task_run_state(id=task["id"], body=propose("RUNNING")))["status"] == "ACCEPT"
    assert ask(calls.read_task_run(id=task["id"]))["state_type"] == "RUNNING"
    wanted = {"task_runs": {"flow_run_id": {"any_": [run["id"]]}}}
    assert [found["id"] for found in ask(calls.read_task_runs(body=wanted))] == [task["id"]]


def test_deployment_and_its_schedules(ask: Client, flow: Any, pool: Any, deployment: Any) -> None:
    found = ask(calls.read_deployment_by_name(flow_name=flow["name"], deployment_name=deployment["name"]))
    assert found["id"] == deployment["id"]
    assert found["work_pool_name"] == pool["name"]
    again = {
        "name": deployment["name"],
        "flow_id": flow["id"],
        "work_pool_name": pool["name"],
        "version": "2",
    }
    assert ask(calls.create_deployment(body=again), 200)["id"] == deployment["id"]
    made = ask(calls.create_deployment_schedules(id=deployment["id"], body=[DAILY]))
    (schedule,) = ask(calls.read_deployment_schedules(id=deployment["id"]))
    assert schedule["id"] == made[0]["id"]
    place = {"id": deployment["id"], "schedule_id": schedule["id"]}
    ask(calls.update_deployment_schedule(**place, body={"active": False}))
    assert ask(calls.read_deployment_schedules(id=deployment["id"]))[0]["active"] is False
    ask(calls.delete_deployment_schedule(**place))
    assert ask(calls.read_deployment_schedules(id=deployment["id"])) == []
    ask(calls.update_deployment(id=deployment["id"], body={"description": "d", "paused": True}))
    assert ask(calls.read_deployment(id=deployment["id"]))["paused"] is True
    wanted = {"deployments": {"id": {"any_": [deployment["id"]]}}}
    assert len(ask(calls.read_deployments(body=wanted))) == 1
    ask(calls.delete_deployment(id=deployment["id"]))
    assert ask(calls.read_deployments(body=wanted)) == []


def test_bad_schedule_is_refused(ask: Client, deployment: Any) -> None:
    for schedule in (
        {"cron": "not cron"},
        {},
        {"interval": 0},
        {"rrule": "x"},
        {"cron": "* * * * *", "timezone": "X"},
    ):
        ask(calls.create_deployment_schedules(id=deployment["id"], body=[{"schedule": schedule}]), 422)


def test_due_runs_of_a_deployment(ask: Client, deployment: Any) -> None:
    run = ask(calls.create_deployment_flow_run(id=deployment["id"], body={"parameters": {"n": 1}}))
    assert run["state"]["type"] == "SCHEDULED"
    due = ask(calls.read_due_deployment_runs(body={"deployment_ids": [deployment["id"]]}))
    assert [found["id"] for found in due] == [run["id"]]
    before = {"deployment_ids": [deployment["id"]], "scheduled_before": "2020-01-01 00:00:00+00:00"}
    assert ask(calls.read_due_deployment_runs(body=before)) == []
    ask(calls.read_due_deployment_runs(body={**before, "limit": 201}), 422)
    ask(calls.read_due_deployment_runs(body={**before, "limit": -1}), 422)


def test_run_that_its_own_process_tries_again_is_not_due(ask: Client, deployment: Any) -> None:
    run = ask(calls.create_deployment_flow_run(id=deployment["id"], body={}))
    ask(calls.update_flow_run(id=run["id"], body={"empirical_policy": {"retry_type": "in_process"}}))
    assert ask(calls.read_due_deployment_runs(body={"deployment_ids": [deployment["id"]]})) == []


def test_pool_queues_and_workers(ask: Client, pool: Any) -> None:
    ask(calls.create_work_pool(body={"name": pool["name"]}), 409)
    ask(calls.create_work_pool(body={"name": "prefect-x"}), 403)
    assert ask(calls.read_work_pool(name=pool["name"]))["id"] == pool["id"]
    ask(calls.update_work_pool(name=pool["name"], body={"concurrency_limit": 3}))
    queue = ask(calls.create_work_queue(work_pool_name=pool["name"], body={"name": "fast"}))
    ask(calls.create_work_queue(work_pool_name=pool["name"], body={"name": "fast"}), 409)
    place = {"work_pool_name": pool["name"], "name": "fast"}
    assert ask(calls.read_work_queue_by_name(**place))["id"] == queue["id"]
    assert ask(calls.read_work_queue(id=queue["id"]))["work_pool_name"] == pool["name"]
    ask(calls.update_work_queue(**place, body={"is_paused": True}))
    names = [q["name"] for q in ask(calls.read_pool_queues(work_pool_name=pool["name"], body={}))]
    assert sorted(names) == ["default", "fast"]
    assert len(ask(calls.read_work_queues(body={"work_queues": {"id": {"any_": [queue["id"]]}}}))) == 1
    ask(calls.delete_work_queue(**place))
    ask(calls.heartbeat_worker(work_pool_name=pool["name"], body={"name": "w1"}))
    (worker,) = ask(calls.read_workers(work_pool_name=pool["name"], body={}))
    assert (worker["name"], worker["status"]) == ("w1", "ONLINE")
    assert ask(calls.read_work_pool(name=pool["name"]))["concurrency_limit"] == 3
    ask(calls.delete_work_pool(name=pool["name"]))
    assert ask(calls.read_work_pools(body={"work_pools": {"name": {"any_": [pool["name"]]}}})) == []


def test_w15_run_is_claimed_once_and_a_stale_token_is_refused(
    ask: Client, pool: Any, deployment: Any
) -> None:
    run = ask(calls.create_deployment_flow_run(id=deployment["id"], body={}))
    due = ask(calls.read_due_runs(name=pool["name"], body={}))
    assert [found["flow_run"]["id"] for found in due] == [run["id"]]
    ask(calls.read_due_runs(name=pool["name"], body={"work_queue_names": ["nope"]}), 404)
    body = {"claim_id": str(uuid4()), "worker_name": "w1", "limit": 5}
    (claimed,) = ask(calls.claim_runs(name=pool["name"], body=body))["runs"]
    assert claimed["flow_run"]["id"] == run["id"]
    assert (
        ask(calls.claim_runs(name=pool["name"], body=body))["runs"][0]["claim"]["token"]
        == claimed["claim"]["token"]
    )
    assert ask(calls.claim_runs(name=pool["name"], body={**body, "claim_id": str(uuid4())}))["runs"] == []
    token = claimed["claim"]["token"]
    refs = [{"flow_run_id": run["id"], "token": token}, {"flow_run_id": str(NOBODY), "token": 1}]
    renewed = ask(calls.renew_claims(name=pool["name"], body={"claims": refs}))
    assert renewed == {"kept": [run["id"]], "lost": [str(NOBODY)]}
    start = calls.set_flow_run_state(id=run["id"], body=propose("RUNNING"))
    assert ask(start, 200, headers={calls.CLAIM_HEADER: str(token + 1)})["status"] == "ABORT"
    assert ask(start, headers={calls.CLAIM_HEADER: str(token)})["status"] == "ACCEPT"


def test_waiting_claim_is_woken_by_a_run(ask: Client, pool: Any, deployment: Any) -> None:
    body = encode({"claim_id": str(uuid4()), "worker_name": "w1", "wait_seconds": 30})
    path = f"/api/work_pools/{pool['name']}/claim"
    run_path = f"/api/deployments/{deployment['id']}/create_flow_run"

    async def go() -> tuple[Response, Response]:
        waiting = asyncio.ensure_future(call_in_loop(ask.app, "POST", path, body, stay=True))
        while not ask.app.services.waiters._waiting:  # type: ignore[union-attr]
            await asyncio.sleep(0)
        made = await call_in_loop(ask.app, "POST", run_path, b"{}")
        return made, await waiting

    made, work = ask.runner.run(go())
    assert [r["flow_run"]["id"] for r in work.json()["runs"]] == [made.json()["id"]]


def test_worker_that_goes_away_waits_no_longer(ask: Client, pool: Any) -> None:
    body = encode({"claim_id": str(uuid4()), "worker_name": "w1", "wait_seconds": 60})
    path = f"/api/work_pools/{pool['name']}/claim"
    assert ask.runner.run(call_in_loop(ask.app, "POST", path, body, answered=False)) is None
    assert not ask.app.services.waiters._waiting  # type: ignore[union-attr]


def test_logs(ask: Client, flow: Any) -> None:
    run = ask(calls.create_flow_run(body={"flow_id": flow["id"]}))
    line = {"name": "eparch", "level": 20, "timestamp": "2026-11-22T12:00:00Z", "flow_run_id": run["id"]}
    ask(calls.create_logs(body=[{**line, "message": f"m{n}"} for n in range(3)]))
    ask(calls.create_logs(body=[]))
    ask(calls.create_logs(body=[line]), 422)
    found = ask(calls.read_logs(body={"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 2}))
    assert len(found) == 2


def test_artifacts(ask: Client) -> None:
    made = ask(calls.create_artifact(body={"key": name("k"), "type": "markdown", "data": "# x"}))
    assert ask(calls.read_artifact(id=made["id"]))["data"] == "# x"
    assert len(ask(calls.read_artifacts(body={"artifacts": {"id": {"any_": [made["id"]]}}}))) == 1


def test_events_and_the_task_runs_that_they_report(ask: Client, flow: Any) -> None:
    run = ask(calls.create_flow_run(body={"flow_id": flow["id"]}))
    task_id = str(uuid4())
    event = {
        "id": str(uuid4()),
        "occurred": "2026-11-22T12:00:00Z",
        "event": "prefect.task-run.Running",
        "resource": {"prefect.resource.id": f"prefect.task-run.{task_id}", "prefect.orchestration": "client"},
        "related": [
            {"prefect.resource.id": f"prefect.flow-run.{run['id']}", "prefect.resource.role": "flow-run"}
        ],
        "payload": {
            "validated_state": {"type": "RUNNING", "name": "Running"},
            "task_run": {"task_key": "t", "dynamic_key": "0", "name": "t-0"},
        },
    }
    ask(calls.create_events(body=[event, event]))
    assert ask(calls.read_task_run(id=task_id))["state_type"] == "RUNNING"


def test_what_deploying_asks_for(ask: Client) -> None:
    assert ask(calls.delete_owned_automations(resource_id="prefect.deployment.1")) is None
    view = ask(calls.read_collection_view(view="aggregate-worker-metadata"))
    assert list(view) == [
        "prefect",
        "prefect-docker",
        "prefect-kubernetes",
        "prefect-aws",
        "prefect-gcp",
        "prefect-azure",
        "others",
    ]
    assert list(view["prefect-gcp"]) == ["cloud-run", "cloud-run-v2", "vertex-ai"]
    assert view["others"] == {"own": OWN_TYPE}
    docker = view["prefect-docker"]["docker"]
    assert docker["default_base_job_configuration"] == shipped_template("docker")
    assert (docker["display_name"], docker["is_beta"]) == ("Docker", False)
    assert ask(calls.read_collection_view(view="aggregate-block-metadata")) == {}


def test_lease_that_nobody_holds(ask: Client) -> None:
    renew = calls.renew_concurrency_lease(lease_id=NOBODY, body={"lease_duration": 60})
    assert "Lease not found" in ask(renew, 410)["detail"]
    ask(calls.renew_concurrency_lease(lease_id="x", body={}), 422)


async def _refuse(*_: Any) -> None:
    raise DatabaseUnusable("It is gone.")


def test_server_is_ready(ask: Client) -> None:
    assert ask(calls.read_ready()) == {"message": "OK"}
    database = ask.app.services.database  # type: ignore[union-attr]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "read", _refuse)
        assert ask(calls.read_ready(), 503)["why"] == "It is gone."
    assert ask(calls.read_server())["database"] in DATABASES


def test_number_that_no_store_can_hold_is_refused(ask: Client, pool: Any) -> None:
    for limit in (2**31, 2**63, 10**40):
        response = ask.send("PATCH", f"/work_pools/{pool['name']}", encode({"concurrency_limit": limit}))
        assert response.status == 422, limit
