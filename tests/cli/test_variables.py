"""Acceptance: variables, artifacts and resuming on the command line against our server."""

from uuid import uuid4

from eparch.core import calls
from eparch.core.deployments import FlowCreate
from eparch.core.inputs import FlowRunInputCreate, keyset_of
from eparch.core.records import ArtifactCreate


def test_b11_variable_through_its_life(client, run):
    name = f"region-{uuid4().hex[:8]}"
    run("variable", "set", name, "eu-west-1", "--tag", "cloud", code=0)
    assert run("variable", "get", name, code=0).out == "eu-west-1\n"
    assert run("variable", "set", name, '{"a": [1]}', code=5).err.count("--overwrite")
    run("variable", "set", name, '{"a": [1]}', "--overwrite", code=0)
    assert run("variable", "get", name, code=0).out == '{"a":[1]}\n'
    shown = run("variable", "inspect", name, "-o", "json", code=0).json()
    assert (shown["name"], shown["value"], shown["tags"]) == (name, {"a": [1]}, [])
    assert name in run("variable", "ls", "-o", "name", code=0).out.split()
    assert f"Did you mean '{name}'?" in run("variable", "get", name[:-1], code=3).err
    run("variable", "unset", name, code=2)
    run("variable", "unset", name, "-y", code=0)
    run("variable", "unset", name, "-y", code=3)


def test_b11_artifacts_by_key(client, run):
    key = f"report-{uuid4().hex[:8]}"
    ids = [
        str(client.send(calls.create_artifact(body=ArtifactCreate(key=key, type="markdown", data=text))).id)
        for text in ("# one", "# two")
    ]
    listed = run("artifact", "ls", "-o", "name", code=0).out.split()
    assert ids[1] in listed
    assert ids[0] not in listed
    assert ids[0] in run("artifact", "ls", "--all", "-o", "name", code=0).out.split()
    found = run("artifact", "inspect", key, "-o", "json", code=0).json()
    assert [one["data"] for one in found] == ["# two", "# one"]
    assert "# one" in run("artifact", "inspect", ids[0], code=0).out
    run("artifact", "delete", key, "--dry-run", code=0)
    run("artifact", "delete", key, "-y", code=0)
    assert f"There is no artifact '{key}'" in run("artifact", "inspect", key, code=3).err


def test_b6_paused_run_is_resumed_with_what_it_asks_for(client, run):
    flow = client.send(calls.create_flow(body=FlowCreate(name=f"flow-{uuid4().hex[:8]}")))
    body = {"flow_id": flow.id, "state": {"type": "RUNNING"}}
    made = client.send(calls.create_flow_run(body=body))
    keyset = keyset_of("paused", "1")
    schema = '{"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}'
    sent = FlowRunInputCreate(key=keyset["schema"], value=schema)
    client.send(calls.create_flow_run_input(id=made.id, body=sent))
    state = {"type": "PAUSED", "state_details": {"pause_key": "1", "run_input_keyset": keyset}}
    client.send(calls.set_flow_run_state(id=made.id, body={"state": state}))
    assert "count" in run("flow-run", "resume", made.id, code=5).err
    run("flow-run", "resume", made.id, "--input", "count=3", code=0)
    told = client.send(calls.read_flow_run_input(id=made.id, key=keyset["response"]))
    assert told == '{"count":3}'
    assert "not paused" in run("flow-run", "resume", made.id, code=5).err
