"""What is wrong with a job stands in the state of its run, with what to do (issue: never only a log line)."""

from __future__ import annotations

import stat
import subprocess
import sys

from tests.workers.test_end_to_end import Place

from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.runs import DeploymentFlowRunCreate


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
