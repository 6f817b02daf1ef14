"""Variables, artifacts, inputs of runs, pauses, histories, saved searches over a real store of each kind."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from eparch.core import calls
from eparch.core.inputs import keyset_of

from .application import DATABASES, Client, started

NOBODY = uuid4()
SCHEMA = {
    "type": "object",
    "properties": {"count": {"type": "integer"}, "word": {"type": "string", "default": "x"}},
    "required": ["count"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        yield client


@pytest.fixture
def flow(ask: Client) -> Any:
    return ask(calls.create_flow(body={"name": f"flow-{uuid4().hex}"}))


@pytest.fixture
def running(ask: Client, flow: Any) -> Any:
    return ask(calls.create_flow_run(body={"flow_id": flow["id"], "state": {"type": "RUNNING"}}))


def pause(ask: Client, run: Any, **details: Any) -> Any:
    state = {"type": "PAUSED", "name": "Paused", "state_details": {"pause_key": "1", **details}}
    answer = ask(calls.set_flow_run_state(id=run["id"], body={"state": state}))
    assert answer["status"] == "ACCEPT"
    return answer["state"]


def resume(ask: Client, run: Any, status: int, **body: Any) -> Any:
    answer = ask(calls.resume_flow_run(id=run["id"], body=body), status)
    return answer["status"], answer["details"]["type"], answer["state"]


@pytest.mark.parametrize(
    ("call", "detail"),
    [
        (calls.read_variable(id=NOBODY), "Variable not found."),
        (calls.read_variable_by_name(name="nope"), "Variable not found."),
        (calls.update_variable(id=NOBODY, body={}), "Variable not found."),
        (calls.update_variable_by_name(name="nope", body={"value": 1}), "Variable not found."),
        (calls.delete_variable(id=NOBODY), "Variable not found."),
        (calls.delete_variable_by_name(name="nope"), "Variable not found."),
        (calls.read_latest_artifact(key="nope"), "Artifact not found"),
        (calls.update_artifact(id=NOBODY, body={"data": 1}), "Artifact not found"),
        (calls.delete_artifact(id=NOBODY), "Artifact not found"),
        (calls.create_flow_run_input(id=NOBODY, body={"key": "k", "value": "1"}), "Flow run not found"),
        (calls.read_flow_run_input(id=NOBODY, key="k"), "Flow run input not found"),
        (calls.delete_flow_run_input(id=NOBODY, key="k"), "Flow run input not found"),
        (calls.resume_flow_run(id=NOBODY), "Flow run not found"),
        (calls.read_flow_run_state(id=NOBODY), "Flow run state not found"),
        (calls.read_task_run_state(id=NOBODY), "Task run state not found"),
        (calls.read_saved_search(id=NOBODY), "Saved search not found"),
        (calls.delete_saved_search(id=NOBODY), "Saved search not found"),
        (
            calls.update_result_storage(body={"default_result_storage_block_id": NOBODY}),
            f"Block document {NOBODY} not found.",
        ),
    ],
    ids=lambda value: f"{value.method} {value.endpoint.path}" if isinstance(value, calls.Call) else "",
)
def test_what_is_not_there(ask: Client, call: calls.Call[Any], detail: str) -> None:
    assert ask(call, 404)["detail"] == detail


# Variables


@pytest.mark.parametrize("value", ["text", 1, 1.5, True, None, {"a": [1]}, [{"b": None}]], ids=repr)
def test_b11_variable_holds_any_json(ask: Client, value: Any) -> None:
    name = f"v-{uuid4().hex}"
    made = ask(calls.create_variable(body={"name": name, "value": value, "tags": ["t"]}))
    assert (made["name"], made["value"], made["tags"]) == (name, value, ["t"])
    assert ask(calls.read_variable(id=made["id"])) == made
    assert ask(calls.read_variable_by_name(name=name)) == made


def test_b11_variable_is_changed_and_deleted_by_name_and_by_id(ask: Client) -> None:
    one, two = f"one_{uuid4().hex}", f"two_{uuid4().hex}"
    made = ask(calls.create_variable(body={"name": one, "value": 1, "tags": ["a"]}))
    taken = ask(calls.create_variable(body={"name": one, "value": 2}), 409)
    assert taken["detail"] == f"A variable with the name {one!r} already exists."
    ask(calls.update_variable_by_name(name=one, body={"value": None}))
    assert ask(calls.read_variable(id=made["id"]))["value"] is None
    ask(calls.update_variable(id=made["id"], body={"name": two, "tags": []}))
    now = ask(calls.read_variable_by_name(name=two))
    assert (now["id"], now["value"], now["tags"]) == (made["id"], None, [])
    ask(calls.create_variable(body={"name": one, "value": 3}))
    assert "already exists" in ask(calls.update_variable_by_name(name=one, body={"name": two}), 409)["detail"]
    ask(calls.delete_variable_by_name(name=one))
    ask(calls.delete_variable(id=made["id"]))
    ask(calls.read_variable_by_name(name=two), 404)


@pytest.mark.parametrize("name", ["", "Upper", "a b", "a/b", "a.b", "x\n", "x" * 256, "ä"])
def test_b11_names_that_no_variable_can_have(ask: Client, name: str) -> None:
    ask(calls.create_variable(body={"name": name, "value": 1}), 422)


def test_b11_variables_are_found_and_counted(ask: Client) -> None:
    mark = uuid4().hex
    for number in range(3):
        tags = ["even"] if number % 2 == 0 else []
        ask(calls.create_variable(body={"name": f"{mark}-{number}", "value": number, "tags": tags}))
    like = {"name": {"like_": mark}}
    found = ask(calls.read_variables(body={"variables": like, "sort": "NAME_DESC", "limit": 2}))
    assert [one["value"] for one in found] == [2, 1]
    assert ask(calls.count_variables(body={"variables": like})) == 3
    tagged = {**like, "tags": {"all_": ["even"]}}
    assert ask(calls.count_variables(body={"variables": tagged})) == 2


# Artifacts


def test_b11_newest_artifact_of_a_key_stands_for_it(ask: Client, running: Any) -> None:
    key, other = f"k-{uuid4().hex}", f"o-{uuid4().hex}"
    made = [
        ask(calls.create_artifact(body={"key": key, "data": n, "flow_run_id": running["id"]}))
        for n in range(3)
    ]
    ask(calls.create_artifact(body={"key": other, "data": "o", "type": "markdown"}))
    ask(calls.create_artifact(body={"data": "has no key", "flow_run_id": running["id"]}))
    assert ask(calls.read_latest_artifact(key=key)) == made[-1]
    mine = {"artifacts": {"key": {"any_": [key, other]}}}
    found = ask(calls.read_latest_artifacts(body={**mine, "sort": "KEY_ASC"}))
    assert [(one["key"], one["data"]) for one in found] == [(key, 2), (other, "o")]
    assert found[0]["latest_id"] == made[-1]["id"]
    assert ask(calls.count_latest_artifacts(body=mine)) == 2
    assert ask(calls.count_artifacts(body=mine)) == 4
    of_run = {"flow_runs": {"id": {"any_": [running["id"]]}}}
    assert [one["data"] for one in ask(calls.read_latest_artifacts(body=of_run))] == [2]
    assert ask(calls.count_artifacts(body=of_run)) == 4
    ask(calls.delete_artifact(id=made[-1]["id"]))
    assert ask(calls.read_latest_artifact(key=key)) == made[-2]


def test_b11_artifact_is_changed_where_the_body_says(ask: Client) -> None:
    made = ask(calls.create_artifact(body={"type": "progress", "data": 1.0, "description": "d"}))
    ask(calls.update_artifact(id=made["id"], body={"data": 2.5}))
    now = ask(calls.read_artifact(id=made["id"]))
    assert (now["data"], now["description"], now["type"]) == (2.5, "d", "progress")
    ask(calls.update_artifact(id=made["id"], body={"description": None, "metadata_": {"a": "b"}}))
    now = ask(calls.read_artifact(id=made["id"]))
    assert (now["data"], now["description"], now["metadata_"]) == (2.5, None, {"a": "b"})


# Inputs and pauses


def test_b6_input_is_read_as_it_was_sent(ask: Client, running: Any) -> None:
    body = {"key": "my-key", "value": '{"a":  1}', "sender": "prefect.flow-run.x"}
    assert ask(calls.create_flow_run_input(id=running["id"], body=body)) is None
    again = ask(calls.create_flow_run_input(id=running["id"], body=body), 409)
    assert again["detail"] == "A flow run input with this key already exists."
    answer = ask.send("GET", f"/flow_runs/{running['id']}/input/my-key")
    assert (answer.status, answer.body) == (200, b'{"a":  1}')
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    ask(calls.delete_flow_run_input(id=running["id"], key="my-key"))
    ask(calls.delete_flow_run_input(id=running["id"], key="my-key"), 404)
    ask(calls.create_flow_run_input(id=running["id"], body={**body, "key": "not a key"}), 422)


def test_b6_inputs_are_found_by_how_their_keys_begin(ask: Client, running: Any) -> None:
    for key in ("b-2", "a-1", "b-1", "b_3"):
        ask(calls.create_flow_run_input(id=running["id"], body={"key": key, "value": key}))

    def read(**body: Any) -> list[str]:
        found = ask(calls.read_flow_run_inputs(id=running["id"], body=body))
        assert {one["flow_run_id"] for one in found} <= {running["id"]}
        return [one["key"] for one in found]

    assert read(prefix="b-") == ["b-2"]
    assert read(prefix="b-", limit=10) == ["b-2", "b-1"]
    assert read(prefix="b_", limit=10) == ["b_3"]
    assert read(prefix="b", limit=10, exclude_keys=["b-2"]) == ["b-1", "b_3"]
    assert read(prefix="%", limit=10) == []
    assert read(prefix="", limit=2) == ["b-2", "a-1"]


def test_b6_run_that_is_not_paused_cannot_be_resumed(ask: Client, running: Any) -> None:
    assert resume(ask, running, 200) == ("ABORT", "abort_details", None)


def test_b6_paused_run_goes_on_and_keeps_what_it_was_told(ask: Client, running: Any) -> None:
    keyset = keyset_of("paused", "1")
    state = pause(ask, running, run_input_keyset=keyset)
    given = {"count": 3, "word": "wörd"}
    refused = ("REJECT", "abort_details", state)
    assert resume(ask, running, 200, run_input=given) == refused  # it has not said yet what it asks
    schema = {"key": keyset["schema"], "value": msgspec.json.encode(SCHEMA).decode()}
    ask(calls.create_flow_run_input(id=running["id"], body=schema))
    for wrong in ({}, {"count": "x"}, {"count": 1, "cuont": 2}):
        assert resume(ask, running, 200, run_input=wrong) == refused
    assert ask(calls.read_flow_run(id=running["id"]))["state"] == state
    status, details, now = resume(ask, running, 201, run_input=given)
    assert (status, details, now["type"]) == ("ACCEPT", "accept_details", "RUNNING")
    kept = ask.send("GET", f"/flow_runs/{running['id']}/input/{keyset['response']}")
    assert kept.json() == given
    assert ask(calls.read_flow_run(id=running["id"]))["run_count"] == 1  # going on is no new attempt


@pytest.mark.parametrize("schema", ["{", "[1]", '{"type": 7}', '{"$ref": "https://example.org/x"}'])
def test_b6_schema_that_cannot_be_used_is_told(ask: Client, running: Any, schema: str) -> None:
    keyset = keyset_of("paused", "1")
    pause(ask, running, run_input_keyset=keyset)
    body = {"key": keyset["schema"], "value": schema}
    ask(calls.create_flow_run_input(id=running["id"], body=body))
    assert resume(ask, running, 200, run_input={"x": 1})[:2] == ("REJECT", "abort_details")


def test_b6_pause_that_comes_again_after_a_retry_is_told_anew(ask: Client, running: Any) -> None:
    keyset = keyset_of("paused", "1")
    schema = {"key": keyset["schema"], "value": "{}"}
    ask(calls.create_flow_run_input(id=running["id"], body=schema))
    for told in ({"a": 1}, {"a": 2}, None):
        pause(ask, running, run_input_keyset=keyset)
        assert resume(ask, running, 201, run_input=told)[0] == "ACCEPT"
        kept = ask.send("GET", f"/flow_runs/{running['id']}/input/{keyset['response']}")
        assert (kept.json() if kept.status == 200 else None) == told
        for type_ in ("FAILED", "SCHEDULED", "PENDING", "RUNNING"):
            ask(calls.set_flow_run_state(id=running["id"], body={"state": {"type": type_}, "force": True}))
        policy = {"empirical_policy": {"pause_keys": []}}
        ask(calls.update_flow_run(id=running["id"], body=policy))


def test_b6_suspended_run_is_scheduled_again(ask: Client, flow: Any) -> None:
    deployment = ask(calls.create_deployment(body={"name": "d", "flow_id": flow["id"]}))
    run = ask(calls.create_deployment_flow_run(id=deployment["id"], body={}))
    for type_ in ("PENDING", "RUNNING"):
        ask(calls.set_flow_run_state(id=run["id"], body={"state": {"type": type_}}))
    pause(ask, run, pause_reschedule=True)
    status, _, now = resume(ask, run, 201)
    assert (status, now["type"], now["name"]) == ("ACCEPT", "SCHEDULED", "Resuming")


def test_b6_pause_past_its_timeout_fails(ask: Client, running: Any) -> None:
    pause(ask, running, pause_timeout="2020-01-01T00:00:00Z")
    status, details, now = resume(ask, running, 201)
    assert (status, details, now["type"]) == ("REJECT", "reject_details", "FAILED")


def test_inputs_go_with_their_run(ask: Client, running: Any) -> None:
    ask(calls.create_flow_run_input(id=running["id"], body={"key": "k", "value": "1"}))
    ask(calls.delete_flow_run(id=running["id"]))
    assert ask(calls.read_flow_run_inputs(id=running["id"], body={"prefix": ""})) == []


# Histories


def test_history_of_a_flow_run_and_of_a_task_run(ask: Client, running: Any) -> None:
    pause(ask, running)
    resume(ask, running, 201)
    states = ask(calls.read_flow_run_states(flow_run_id=running["id"]))
    assert [state["type"] for state in states] == ["RUNNING", "PAUSED", "RUNNING"]
    assert states[-1] == ask(calls.read_flow_run(id=running["id"]))["state"]
    assert ask(calls.read_flow_run_state(id=states[1]["id"])) == states[1]
    body = {"flow_run_id": running["id"], "task_key": "t", "dynamic_key": "0"}
    task = ask(calls.create_task_run(body=body))
    ask(calls.set_task_run_state(id=task["id"], body={"state": {"type": "RUNNING"}}))
    (*_, last) = ask(calls.read_task_run_states(task_run_id=task["id"]))
    assert last == ask(calls.read_task_run(id=task["id"]))["state"]
    assert ask(calls.read_task_run_state(id=last["id"])) == last
    assert ask(calls.read_flow_run_states(flow_run_id=NOBODY)) == []
    assert ask.send("GET", "/flow_run_states/").status == 422
    assert ask.send("GET", "/flow_run_states/?flow_run_id=x").status == 422


# Saved searches and admin


def test_saved_search_replaces_the_one_of_its_name(ask: Client) -> None:
    name = f"search {uuid4().hex}"
    filters = [{"object": "flow", "property": "name", "type": "string", "operation": "=", "value": [1]}]
    made = ask(calls.save_search(body={"name": name, "filters": filters}), 201)
    assert made["filters"] == filters
    again = ask(calls.save_search(body={"name": name}), 200)
    assert (again["id"], again["created"], again["filters"]) == (made["id"], made["created"], [])
    assert ask(calls.read_saved_search(id=made["id"])) == again
    assert again in ask(calls.read_saved_searches(body={}))
    ask(calls.delete_saved_search(id=made["id"]))
    assert again not in ask(calls.read_saved_searches(body={"limit": 200, "offset": 0}))


def test_settings_are_shown_without_secrets(ask: Client) -> None:
    shown = ask(calls.read_server_settings())
    assert shown["server_port"] == "4200"
    assert "@" not in shown["database_url"] or ":********@" in shown["database_url"]
    ask(calls.clear_result_storage())
    assert ask(calls.read_result_storage()) == {"default_result_storage_block_id": None}


def test_ids_follow_the_order_in_which_they_are_made() -> None:
    from eparch.core.model import new_id

    made: list[UUID] = [new_id() for _ in range(10_000)]
    assert len(set(made)) == len(made)
    assert [one.version for one in made[:3]] == [7, 7, 7]
    coarse = [one.int >> 64 for one in made]
    assert coarse == sorted(coarse)
