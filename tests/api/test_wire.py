"""What a client of Prefect relies on, as its server answers it, and the differences that are meant.

The facts were observed on Prefect 3.8.8; ``docs/wire-differences.md`` lists the differences, with reasons.
"""

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from eparch.core import calls

from .application import DATABASES, TEMPLATE, Client, started

NOBODY = str(uuid4())
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}
FULL = {
    "tags": ["t"],
    "labels": {"of": "deployment"},
    "parameters": {"x": 1},
    "version": "1",
    "description": "d",
    "path": "p",
    "entrypoint": "e",
    "pull_steps": [{"a": {}}],
    "paused": True,
    "concurrency_limit": 3,
    "concurrency_options": {"collision_strategy": "CANCEL_NEW", "grace_period_seconds": None},
    "enforce_parameter_schema": False,
    "job_variables": {"command": "z"},
    "parameter_openapi_schema": SCHEMA,
    "schedules": [{"schedule": {"interval": 3600}, "active": False}],
}


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        yield client


@pytest.fixture
def flow(ask: Client) -> Any:
    return ask(calls.create_flow(body={"name": f"flow-{uuid4().hex}", "labels": {"of": "flow", "own": 1}}))


@pytest.fixture
def pool(ask: Client) -> Any:
    body = {"name": f"pool-{uuid4().hex}", "type": "process", "base_job_template": TEMPLATE}
    return ask(calls.create_work_pool(body=body))


@pytest.fixture
def deployment(ask: Client, flow: Any, pool: Any) -> Any:
    body = {"name": "d", "flow_id": flow["id"], "work_pool_name": pool["name"], **FULL}
    return ask(calls.create_deployment(body=body))


# Deployments


def test_what_a_second_post_leaves_out_stays_but_parameters_labels_and_schedules(
    ask: Client, flow: Any, deployment: Any
) -> None:
    again = ask(calls.create_deployment(body={"name": "d", "flow_id": flow["id"]}), 200)
    reset = {
        "parameters": {},
        "schedules": [],
        "labels": {"of": "flow", "own": 1, "prefect.flow.id": flow["id"]},
        "updated": again["updated"],
        "global_concurrency_limit": again["global_concurrency_limit"],
    }
    assert again["global_concurrency_limit"]["limit"] == 3
    assert again == {**deployment, **reset}


def test_null_empties_but_leaves_the_queue(ask: Client, flow: Any, deployment: Any) -> None:
    nothing = dict.fromkeys(
        ("version", "description", "path", "entrypoint", "pull_steps", "concurrency_limit")
    )
    body = {"name": "d", "flow_id": flow["id"], "work_pool_name": None, "work_queue_name": None, **nothing}
    again = ask(calls.create_deployment(body=body), 200)
    assert {name: again[name] for name in nothing} == nothing
    assert again["work_queue_id"] == deployment["work_queue_id"]
    assert again["global_concurrency_limit"] is None


def test_new_deployment_has_what_prefect_gives_it(ask: Client, flow: Any) -> None:
    made = ask(calls.create_deployment(body={"name": "bare", "flow_id": flow["id"]}))
    expected = {
        "paused": False,
        "tags": [],
        "job_variables": {},
        "parameters": {},
        "parameter_openapi_schema": {},
        "pull_steps": [],
        "enforce_parameter_schema": True,
        "schedules": [],
        "status": "NOT_READY",
        "work_pool_name": None,
    }
    assert {name: made[name] for name in expected} == expected


def test_interval_is_anchored_when_it_is_made_and_keeps_its_anchor(
    ask: Client, flow: Any, deployment: Any
) -> None:
    (schedule,) = deployment["schedules"]
    assert schedule["schedule"]["interval"] == 3600
    assert schedule["schedule"]["timezone"] == "UTC"
    assert schedule["schedule"]["anchor_date"] == schedule["created"]
    body = {"name": "d", "flow_id": flow["id"], "schedules": FULL["schedules"]}
    again = ask(calls.create_deployment(body=body), 200)
    assert again["schedules"] == deployment["schedules"]
    ask(calls.update_deployment(id=deployment["id"], body={"schedules": FULL["schedules"]}))
    assert ask(calls.read_deployment_schedules(id=deployment["id"])) == deployment["schedules"]


def test_schedules_of_each_kind_as_they_are_kept(ask: Client, deployment: Any) -> None:
    given = [
        {"schedule": {"cron": "0 0 * * *"}},
        {"schedule": {"interval": "PT1H", "timezone": "Europe/Athens"}},
        {"schedule": {"rrule": "FREQ=DAILY"}},
    ]
    cron, interval, rrule = ask(calls.create_deployment_schedules(id=deployment["id"], body=given))
    assert cron["schedule"] == {"cron": "0 0 * * *", "timezone": None, "day_or": True}
    assert (interval["schedule"]["interval"], interval["schedule"]["timezone"]) == (3600, "Europe/Athens")
    assert interval["schedule"]["anchor_date"]
    assert rrule["schedule"] == {"rrule": "FREQ=DAILY", "timezone": "UTC"}


def test_labels_are_inherited(ask: Client, flow: Any, deployment: Any) -> None:
    own = {"prefect.flow.id": flow["id"]}
    assert deployment["labels"] == {"of": "deployment", "own": 1, **own}
    by_hand = ask(calls.create_flow_run(body={"flow_id": flow["id"], "labels": {"more": True}}))
    assert by_hand["labels"] == {"of": "flow", "own": 1, "more": True, **own}
    body = {"flow_id": flow["id"], "deployment_id": deployment["id"]}
    of_deployment = ask(calls.create_deployment_flow_run(id=deployment["id"], body={}))
    expected = {**deployment["labels"], "prefect.deployment.id": deployment["id"]}
    assert of_deployment["labels"] == expected
    assert ask(calls.create_flow_run(body=body))["labels"] == expected
    task = ask(
        calls.create_task_run(body={"flow_run_id": by_hand["id"], "task_key": "t", "dynamic_key": "0"})
    )
    assert task["labels"] == {**by_hand["labels"], "prefect.flow-run.id": by_hand["id"]}


# Runs


def test_defaults_of_a_run(ask: Client, flow: Any) -> None:
    run = ask(calls.create_flow_run(body={"flow_id": flow["id"]}))
    assert run["empirical_policy"]["pause_keys"] == []
    assert (run["job_variables"], run["state_type"], run["run_count"]) == ({}, "PENDING", 0)
    assert run["expected_start_time"] == run["created"]
    assert run["name"]


def test_job_variables_change_only_while_a_run_waits(ask: Client, flow: Any, deployment: Any) -> None:
    waiting = ask(calls.create_deployment_flow_run(id=deployment["id"], body={}))
    change = {"job_variables": {"command": "x"}}
    ask(calls.update_flow_run(id=waiting["id"], body=change))
    assert ask(calls.read_flow_run(id=waiting["id"]))["job_variables"] == {"command": "x"}
    taken = ask(calls.create_flow_run(body={"flow_id": flow["id"]}))
    refused = ask(calls.update_flow_run(id=taken["id"], body={**change, "name": "new"}), 400)
    assert refused == {"detail": "Job variables for a flow run in state PENDING cannot be updated"}
    assert ask(calls.read_flow_run(id=taken["id"])) == {
        **taken,
        "estimated_start_time_delta": pytest.approx(0, abs=60),
    }


def test_name_of_a_run_cannot_be_taken_away(ask: Client, flow: Any) -> None:
    run = ask(calls.create_flow_run(body={"flow_id": flow["id"]}))
    for name in ("", None):
        ask(calls.update_flow_run(id=run["id"], body={"name": name}))
        assert ask(calls.read_flow_run(id=run["id"]))["name"] == run["name"]


def test_set_state_answers(ask: Client, flow: Any) -> None:
    body = {"flow_id": flow["id"], "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": LATER}}}
    run = ask(calls.create_flow_run(body=body))
    details = {}
    for type_, status in (("RUNNING", 200), ("PENDING", 201), ("PENDING", 200), ("RUNNING", 200)):
        answer = ask(calls.set_flow_run_state(id=run["id"], body={"state": {"type": type_}}), status)
        details[answer["status"]] = (set(answer["details"]), answer["details"]["type"])
        assert answer["state"]["type"] == ask(calls.read_flow_run(id=run["id"]))["state_type"]
    assert details == {
        "WAIT": ({"type", "delay_seconds", "reason"}, "wait_details"),
        "ACCEPT": ({"type"}, "accept_details"),
        "ABORT": ({"type", "reason"}, "abort_details"),
    }
    rejected = ask(calls.set_flow_run_state(id=run["id"], body={"state": {"type": "PAUSED"}}), 200)
    assert (rejected["status"], rejected["details"]["type"]) == ("REJECT", "reject_details")
    assert rejected["state"]["type"] == "PENDING"


def test_an_end_is_final_but_for_force(ask: Client, flow: Any) -> None:
    run = ask(calls.create_flow_run(body={"flow_id": flow["id"], "state": {"type": "FAILED"}}))
    change = {"state": {"type": "COMPLETED"}}
    answer = ask(calls.set_flow_run_state(id=run["id"], body=change), 200)
    assert (answer["status"], answer["state"]["type"]) == ("REJECT", "FAILED")
    answer = ask(calls.set_flow_run_state(id=run["id"], body={**change, "force": True}))
    assert (answer["status"], answer["state"]["type"]) == ("ACCEPT", "COMPLETED")
    assert run["start_time"] is None
    assert run["end_time"]


LATER = "2999-01-01T00:00:00Z"


def test_who_polls_without_a_bound_is_told_of_later_runs(ask: Client, pool: Any, deployment: Any) -> None:
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": LATER}}
    run = ask(calls.create_deployment_flow_run(id=deployment["id"], body={"state": state}))
    found = ask(calls.read_due_runs(name=pool["name"], body={}))
    assert [due["flow_run"]["id"] for due in found] == [run["id"]]
    assert (
        ask(calls.read_due_runs(name=pool["name"], body={"scheduled_before": "2020-01-01T00:00:00Z"})) == []
    )


# Refusals


def test_422_has_what_clients_look_for(ask: Client, flow: Any) -> None:
    for call in (
        calls.create_flow(body={"name": "a/b"}),
        calls.read_flows(body={"limit": -1}),
        calls.read_flows(body={"flows": {"nme": {}}}),
        calls.create_work_pool(body={"name": "x", "base_job_template": {"x": 1}}),
        calls.create_deployment(
            body={"name": "x", "flow_id": flow["id"], "schedules": [{"schedule": {"cron": "bad"}}]}
        ),
        calls.create_events(body=[{"occurred": LATER, "event": "e", "resource": {"x": "y"}}]),
        calls.create_artifact(body={"key": "Not A Key"}),
    ):
        refused = ask(call, 422)
        assert refused["exception_message"] == "Invalid request received."
        (entry,) = refused["exception_detail"]
        assert {"type", "loc", "msg"} <= set(entry)
        assert entry["loc"][0] == "body"
        assert "request_body" in refused


@pytest.mark.parametrize(
    ("limit", "text"),
    [(201, "must be less than or equal to 200."), (-1, "must be greater than or equal to 0.")],
)
def test_limit_out_of_bounds(ask: Client, pool: Any, limit: int, text: str) -> None:
    body = {"limit": limit}
    for call in (
        calls.read_flow_runs(body=body),
        calls.read_logs(body=body),
        calls.read_due_runs(name=pool["name"], body=body),
        calls.read_due_deployment_runs(body={**body, "deployment_ids": [NOBODY]}),
    ):
        assert ask(call, 422)["detail"] == f"Invalid limit: {text}"


def test_unknown_keys_are_told(ask: Client, flow: Any) -> None:
    for body, loc in (
        ({"flow_runs": {"id": {"any_": ["x"]}}}, ["flow_runs", "id", "any_"]),
        ({"flow_runs": {"state": {"type": {"any": []}}}}, ["flow_runs", "state", "type", "any"]),
        ({"flow_rusn": {}}, ["flow_rusn"]),
        ({"flow_runs": {"operator": "xor"}}, ["flow_runs", "operator"]),
        ({"limit": -1}, ["limit"]),
        ({"sort": "UP"}, ["sort"]),
    ):
        refused = ask(calls.read_flow_runs(body=body), 422)["exception_detail"]
        assert [entry["loc"] for entry in refused] == [["body", *loc]]
    run = ask(calls.create_flow_run(body={"flow_id": ask(calls.create_flow(body={"name": "x"}))["id"]}))
    for state in ({"type": "RUNNING", "nmae": "x"}, {"type": "RUNNING", "timestamp": "2026-01-01T00:00:00Z"}):
        refused = ask(calls.set_flow_run_state(id=run["id"], body={"state": state}), 422)["exception_detail"]
        assert refused[0]["loc"] == ["body", "state", [*state][1]]
    told = ask(calls.create_flow(body={"name": "x", "tgas": []}), 422)["exception_detail"][0]
    assert (told["type"], told["loc"]) == ("extra_forbidden", ["body", "tgas"])
    assert re.match(r"Extra inputs are not permitted. Did you mean .tags.\?", told["msg"])
    run = ask(calls.create_flow_run(body={"flow_id": flow["id"]}))
    state = {"type": "RUNNING"}
    ask(calls.set_flow_run_state(id=run["id"], body={"state": state, "froce": True}), 422)
    ask(calls.read_flow_runs(body={"flow_rnus": {}}), 422)


def test_texts_that_name_what_is_missing(ask: Client, flow: Any, pool: Any) -> None:
    queue = f"Work pool queue '{pool['name']}/nope' not found."
    place = {"work_pool_name": pool["name"], "name": "nope"}
    run = {"flow_id": flow["id"], "work_pool_name": pool["name"], "work_queue_name": "nope"}
    for call, detail in (
        (calls.read_work_queue_by_name(**place), queue),
        (calls.update_work_queue(**place, body={}), queue),
        (calls.delete_work_queue(**place), queue),
        (calls.create_flow_run(body=run), queue),
        (calls.read_due_runs(name=pool["name"], body={"work_queue_names": ["nope"]}), queue),
        (calls.create_flow_run(body={**run, "work_pool_name": "nope"}), 'Work pool "nope" not found.'),
    ):
        assert ask(call, 404)["detail"] == detail
    taken = ask(calls.create_work_pool(body={"name": pool["name"]}), 409)
    assert taken == {"detail": "A work pool with this name already exists."}
