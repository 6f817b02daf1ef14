"""Real workers, each a process, on a real server: what is left when something ends that should not."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.model import new_id
from eparch.core.pools import ClaimRuns, WorkPoolCreate
from eparch.core.runs import DeploymentFlowRunCreate, FlowRun, SetState
from eparch.core.states import StateCreate, StateDetails, StateType
from eparch.workers.process import ProcessInfrastructure

FLOWS = """
import os, signal, subprocess, sys, time
from eparch import flow

def say(text):
    with open(os.environ["SAY"], "a") as pipe:
        pipe.write(text)

@flow
def good():
    print("done here")

@flow
def dying():
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

@flow
def long():
    child = subprocess.Popen(["sleep", "600"])
    say(f"{os.getpid()} {child.pid}")
    time.sleep(600)

@flow
def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 600; sleep 600"])
    say(f"{os.getpid()} {child.pid}")
    while True:
        time.sleep(600)
"""


class Place:
    """A pool of its own with a deployment for each flow, and workers."""

    def __init__(self, server, folder: Path) -> None:
        self.client, self.home = Client(server.api_url), server.home
        self.pool = f"pool-{uuid4().hex[:8]}"
        self.folder = folder
        self.pipe = folder / "pipe"
        os.mkfifo(self.pipe)
        (folder / "flows.py").write_text(FLOWS)
        self.env = {**server.env, "EPARCH_LEASE_SECONDS": "60", "EPARCH_HOME": str(folder / "home")}
        self.env["EPARCH_WORKER_ON_STOP"] = "cancel"
        template = ProcessInfrastructure.base_job_template
        body = WorkPoolCreate(name=self.pool, type="process", base_job_template=template)
        self.client.send(calls.create_work_pool(body=body))

    def run(self, flow: str, when: datetime | None = None) -> FlowRun:
        """A run that is due, or will be."""
        made = self.client.send(calls.create_flow(body=FlowCreate(name=flow)))
        body = DeploymentCreate(
            name=self.pool, flow_id=made.id, entrypoint=f"flows.py:{flow}", work_pool_name=self.pool,
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(self.folder)}}],
            job_variables={"env": {"SAY": str(self.pipe)}},
        )  # fmt: skip
        deployment = self.client.send(calls.create_deployment(body=body))
        details = StateDetails(scheduled_time=when)
        state = StateCreate(type=StateType.SCHEDULED, state_details=details) if when else None
        created = DeploymentFlowRunCreate(state=state)
        return self.client.send(calls.create_deployment_flow_run(id=deployment.id, body=created))

    def worker(self, *more: str) -> subprocess.Popen[str]:
        """A worker; what it says is in ``worker.log``."""
        command = [sys.executable, "-m", "eparch", "worker", "start", "--pool", self.pool, *more]
        with (self.folder / "worker.log").open("a") as log:
            return subprocess.Popen(command, env=self.env, stdout=log, stderr=log, text=True)

    def log(self) -> str:
        return (self.folder / "worker.log").read_text()

    def state(self, run: FlowRun):
        state = self.client.send(calls.read_flow_run(id=run.id)).state
        assert state is not None
        return state

    def told(self) -> list[int]:
        """The numbers of the processes of a run, once its user code runs."""
        with self.pipe.open() as pipe:
            return [int(word) for word in pipe.read().split()]

    def left(self, run: FlowRun) -> list[str]:
        return ProcessInfrastructure().find({"prefect.io/flow-run-id": str(run.id)})


def is_alive(pid: int) -> bool:
    """Whether a process runs; ``ps`` is on Linux as on macOS."""
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return bool(state) and state[0] not in "ZX"


@pytest.fixture
def place(server, tmp_path):
    place = Place(server, tmp_path)
    yield place
    place.client.close()


def test_a_run_is_run_and_its_log_tells_how(place):
    run = place.run("good")
    assert place.worker("--run-once", "--name", "w").wait(60) == 0, place.log()
    assert place.state(run).is_completed(), place.log()
    stored = place.client.send(calls.read_flow_run(id=run.id))
    assert stored.infrastructure_pid
    wanted = {"logs": {"flow_run_id": {"any_": [str(run.id)]}}}
    lines = [line.message for line in place.client.send(calls.read_logs(body=wanted))]
    assert any("Worker 'w' is submitting" in line for line in lines)
    assert any("is over: exit code 0" in line for line in lines)


def test_w7_a_run_is_taken_before_its_time_and_begins_at_it(place):
    when = datetime.now(UTC) + timedelta(seconds=2)
    run = place.run("good", when)
    assert place.worker("--run-once", "--prefetch-seconds", "60").wait(60) == 0, place.log()
    stored = place.client.send(calls.read_flow_run(id=run.id))
    assert stored.state is not None
    assert stored.state.is_completed(), place.log()
    assert stored.start_time >= when


def test_w17_a_run_that_is_killed_is_crashed_with_its_last_words(place):
    run = place.run("dying")
    assert place.worker("--run-once").wait(60) == 0, place.log()
    state = place.state(run)
    assert state.is_crashed()
    assert "SIGKILL" in state.message
    assert "last words" in state.message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_w18_a_worker_that_is_stopped_leaves_no_process(place, number):
    run = place.run("long")
    worker = place.worker()
    pids = place.told()
    assert all(is_alive(pid) for pid in pids)
    worker.send_signal(number)
    assert worker.wait(60) == 0
    assert not any(is_alive(pid) for pid in pids)
    assert place.left(run) == []
    assert place.state(run).is_crashed()


def test_w18_a_second_signal_ends_what_does_not_want_to(place):
    run = place.run("stubborn")
    worker = place.worker()
    pids = place.told()
    worker.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(60) == 0
    assert not any(is_alive(pid) for pid in pids)
    assert place.state(run).is_crashed()


def test_w20_a_cancelled_run_ends_with_all_that_it_started(place):
    run = place.run("long")
    worker = place.worker("--limit", "1")
    pids = place.told()
    body = SetState(state=StateCreate(type=StateType.CANCELLING))
    place.client.send(calls.set_flow_run_state(id=run.id, body=body))
    # The slot is free again only when the job is gone: the next run begins then.
    other = place.run("long")
    more = place.told()
    assert not any(is_alive(pid) for pid in pids)
    assert place.state(run).is_cancelled()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert not any(is_alive(pid) for pid in more)
    assert place.left(other) == []


def test_w16_a_run_that_a_dead_worker_had_claimed_is_run_by_another(place):
    run = place.run("long")
    body = ClaimRuns(claim_id=new_id(), worker_name="dead", limit=1, lease_seconds=0.5)
    (claimed,) = place.client.send(calls.claim_runs(name=place.pool, body=body)).runs
    assert claimed.flow_run.id == run.id
    worker = place.worker()
    pids = place.told()
    assert place.state(run).is_running()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert not any(is_alive(pid) for pid in pids)


def test_w15_a_job_with_a_stale_claim_runs_no_user_code(place):
    run = place.run("dying")
    tokens = []
    for worker in ("first", "second"):
        body = ClaimRuns(claim_id=new_id(), worker_name=worker, limit=1, lease_seconds=30)
        (claimed,) = place.client.send(calls.claim_runs(name=place.pool, body=body)).runs
        tokens.append(claimed.claim.token)
        scheduled = SetState(state=StateCreate(type=StateType.SCHEDULED), force=True)
        if worker == "first":
            place.client.send(calls.set_flow_run_state(id=run.id, body=scheduled))
    assert tokens[0] < tokens[1]
    env = {**place.env, "EPARCH_FLOW_RUN_ID": str(run.id), "EPARCH_CLAIM_TOKEN": str(tokens[0])}
    done = subprocess.run(
        [sys.executable, "-m", "eparch.sdk.execute"], env=env, capture_output=True, text=True, check=False
    )
    assert "last words" not in done.stderr
    assert place.state(run).is_pending()
