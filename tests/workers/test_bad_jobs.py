"""What is wrong with a job stands in the state of its run, with what to do (issue: never only a log line)."""

from __future__ import annotations

import stat
import subprocess
import sys

from tests.workers.test_end_to_end import Place

from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.pools import WorkPoolCreate, WorkPoolUpdate
from eparch.core.runs import DeploymentFlowRunCreate
from eparch.workers.process import ProcessInfrastructure


def cases(folder):
    """Job variables and what the message says."""
    locked = folder / "locked.sh"
    locked.write_text("#!/bin/sh\nexit 0\n")
    locked.chmod(stat.S_IRUSR)
    nowhere = folder / "nowhere"
    full = f"/bin/sh -c 'ulimit -f 1; head -c 1000000 /dev/zero > {folder}/big'"
    return {
        "missing directory": ({"working_dir": str(nowhere)}, [f"'{nowhere}' is not there", "working_dir"]),
        "unknown command": ({"command": "no-such-program"}, ["'no-such-program' was not found", "install"]),
        "no permission": ({"command": str(locked)}, ["may not be executed", "chmod +x"]),
        "open quote": ({"command": "say 'this"}, ["command"]),
        "impossible variable": ({"env": {"A": "a\x01"}, "command": "/bin/false"}, ["exit code 1"]),
        "not to be read": ({"env": {"A=B": "c"}}, ["'A=B'", "job variable 'env'"]),
        "file too large": ({"command": full}, ["infrastructure ended"]),
        "killed": ({"command": "/bin/sh -c 'kill -9 $$'"}, ["SIGKILL"]),
        "not a Python": ({"command": f"{sys.executable} -m no_such_module"}, ["No module named no_such"]),
    }


def test_bad_jobs_crash_their_run_with_a_reason(server, tmp_path):
    place = Place(server, tmp_path)
    flow = place.client.send(calls.create_flow(body=FlowCreate(name="bad")))
    runs = {}
    for name, (variables, wanted) in cases(tmp_path).items():
        body = DeploymentCreate(
            name=name, flow_id=flow.id, entrypoint="flows.py:good", work_pool_name=place.pool,
            path=str(tmp_path), job_variables=variables,
        )  # fmt: skip
        deployment = place.client.send(calls.create_deployment(body=body))
        body = DeploymentFlowRunCreate()
        made = place.client.send(calls.create_deployment_flow_run(id=deployment.id, body=body))
        runs[name] = (made, wanted)
    worker = place.worker("--run-once")
    try:
        worker.wait(120)
    except subprocess.TimeoutExpired:
        worker.kill()
        raise
    seen = {}
    for name, (run, wanted) in runs.items():
        state = place.state(run)
        told = f"{state.name}: {state.message}"
        seen[name] = (state.is_crashed() and all(word in told for word in wanted)) or told
        assert place.left(run) == []
    place.client.close()
    assert seen == dict.fromkeys(runs, True), place.log()


def test_a_template_that_renders_wrong_crashes_its_run_with_what_to_correct(server, tmp_path):
    """Each was right when the deployment was made; then somebody changed the template of the pool."""
    place = Place(server, tmp_path)
    whole = ProcessInfrastructure.base_job_template
    properties, configuration = whole["variables"]["properties"], whole["job_configuration"]
    team = {"type": "string"}
    runs = {}
    for name, given, template, wanted in (
        (
            "knows less", {"team": "blue"},
            {"variables": {"properties": {**properties, "teams": team}},
             "job_configuration": {**configuration, "env": {"TEAM": "{{ teams }}"}}},
            ["'team'", "'teams'"],
        ),
        (
            "no text", {},
            {"variables": {"properties": properties},
             "job_configuration": {**configuration, "working_dir": {"is": "a mapping"}}},
            ["working_dir"],
        ),
    ):  # fmt: skip
        pool = f"{place.pool}-{name.replace(' ', '-')}"
        first = {
            "variables": {"properties": {**properties, "team": team}},
            "job_configuration": {**configuration, "env": {"TEAM": "{{ team }}"}},
        }
        body = WorkPoolCreate(name=pool, type="process", base_job_template=first)
        place.client.send(calls.create_work_pool(body=body))
        flow = place.client.send(calls.create_flow(body=FlowCreate(name="good")))
        body = DeploymentCreate(
            name=pool, flow_id=flow.id, entrypoint="flows.py:good", work_pool_name=pool, path=str(tmp_path),
            job_variables=given,
        )  # fmt: skip
        deployment = place.client.send(calls.create_deployment(body=body))
        body = DeploymentFlowRunCreate()
        run = place.client.send(calls.create_deployment_flow_run(id=deployment.id, body=body))
        body = WorkPoolUpdate(base_job_template=template)
        place.client.send(calls.update_work_pool(name=pool, body=body))
        place.pool = pool
        runs[name] = (run, wanted, place.worker("--run-once"))
        place.pool = pool.removesuffix(f"-{name.replace(' ', '-')}")
    for name, (run, wanted, worker) in runs.items():
        assert worker.wait(120) == 1, place.log()
        state = place.state(run)
        assert state.is_crashed(), (name, state)
        assert "could not be submitted" in state.message
        assert [word for word in wanted if word not in state.message] == [], (name, state.message)
        assert place.left(run) == []
    place.client.close()
