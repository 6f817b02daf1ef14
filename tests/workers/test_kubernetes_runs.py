"""Runs of a pool of the type kubernetes, from the server to the pod and back."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.infrastructure_types import shipped_template
from eparch.core.pools import WorkPoolCreate
from eparch.core.runs import DeploymentFlowRunCreate, FlowRun, SetState
from eparch.core.states import State, StateCreate, StateType
from eparch.testing.kubernetes import FakeCluster
from eparch.testing.kubernetes_objects import Key

FLOWS = """
import os, sys, time
from eparch import flow

@flow(log_prints=True)
def good():
    print("from within")
    print("a bare line", os.environ["OWN"], file=sys.__stderr__, flush=True)

@flow
def long():
    with open(os.environ["PIPE"], "w") as pipe:
        pipe.write("runs")
    with open(os.environ["PIPE"]) as pipe:
        print("told:", pipe.read(), file=sys.__stderr__, flush=True)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with FakeCluster(tmp_path_factory.mktemp("cluster"), ["default", "team"]) as cluster:
        yield cluster


class Place:
    """A pool with a deployment for each flow, and workers."""

    def __init__(self, server, cluster: FakeCluster, folder: Path) -> None:
        self.client = Client(server.api_url)
        self.cluster = cluster
        self.pool = f"pool-{uuid4().hex[:8]}"
        self.folder = folder
        self.env = {**server.env, "KUBECONFIG": str(cluster.write_kubeconfig(folder))}
        # A claim lasts until the next worker is there, however busy the machine is.
        self.env |= {"EPARCH_WORKER_ON_STOP": "cancel", "EPARCH_LEASE_SECONDS": "120"}
        self.env["EPARCH_HOME"] = str(folder / "home")
        self.pipe = folder / "pipe"
        os.mkfifo(self.pipe)
        (folder / "flows.py").write_text(FLOWS)
        template = shipped_template("kubernetes")
        body = WorkPoolCreate(name=self.pool, type="kubernetes", base_job_template=template)
        self.client.send(calls.create_work_pool(body=body))
        self.workers: list[subprocess.Popen[str]] = []

    def run(self, flow: str, **variables) -> FlowRun:
        """A run that is due, in a namespace that is not the worker's own."""
        made = self.client.send(calls.create_flow(body=FlowCreate(name=flow)))
        env = {"PIPE": str(self.pipe), "OWN": "was given"}
        body = DeploymentCreate(
            name=self.pool, flow_id=made.id, entrypoint=f"flows.py:{flow}", work_pool_name=self.pool,
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(self.folder)}}],
            job_variables={"image": "flows:1", "namespace": "team", "env": env, **variables},
        )  # fmt: skip
        deployment = self.client.send(calls.create_deployment(body=body))
        created = DeploymentFlowRunCreate()
        return self.client.send(calls.create_deployment_flow_run(id=deployment.id, body=created))

    def worker(self, *more: str) -> subprocess.Popen[str]:
        """A worker; what it says is in ``worker.log``."""
        command = [sys.executable, "-m", "eparch", "worker", "start", "--pool", self.pool, "-t", "kubernetes"]
        with (self.folder / "worker.log").open("a") as log:
            self.workers.append(
                subprocess.Popen([*command, *more], env=self.env, stdout=log, stderr=log, text=True)
            )
        return self.workers[-1]

    def log(self) -> str:
        return (self.folder / "worker.log").read_text()

    def stored(self, run: FlowRun) -> FlowRun:
        return self.client.send(calls.read_flow_run(id=run.id))

    def state(self, run: FlowRun) -> State:
        state = self.stored(run).state
        assert state is not None
        return state

    def job_of(self, run: FlowRun) -> Key:
        _, namespace, name = (self.stored(run).infrastructure_pid or "::").split(":")
        return Key("jobs", namespace, name)

    def begun(self) -> None:
        """Wait until the user code of ``long`` runs."""
        assert self.pipe.read_text() == "runs"

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.client.close()


@pytest.fixture
def place(server, cluster, tmp_path):
    place = Place(server, cluster, tmp_path)
    yield place
    place.close()


def test_w27_a_run_is_run_in_a_pod_with_labels_environment_and_log(place, cluster):
    run = place.run("good", labels={"team": "data & more"})
    assert place.worker("--run-once", "--name", "w").wait(60) == 0, place.log()
    assert place.state(run).is_completed(), place.log()
    assert "a bare line was given" in place.log()
    job = cluster.objects.get(place.job_of(run))
    labels = job["metadata"]["labels"]
    assert labels["prefect.io/flow-run-id"] == str(run.id)
    assert labels["team"] == "data-more"
    assert job["metadata"]["name"].startswith(run.name)
    lines = place.client.send(calls.read_logs(body={"logs": {"flow_run_id": {"any_": [str(run.id)]}}}))
    assert "from within" in [line.message for line in lines]


def test_w21_why_a_pod_waits_is_shown_on_the_run_until_it_begins(place, cluster):
    cluster.kubelet.no_room = "0/3 nodes are available: 3 Insufficient cpu."
    try:
        run = place.run("good")
        worker = place.worker("--run-once")
        with (place.folder / "worker.log").open() as log:
            while "Reported flow run" not in log.readline():
                assert worker.poll() is None, place.log()
        state = place.state(run)
    finally:
        cluster.kubelet.no_room = ""
    assert (state.type, state.name) == (StateType.PENDING, "InfrastructurePending")
    assert state.message == "Unschedulable: 0/3 nodes are available: 3 Insufficient cpu"
    assert worker.wait(60) == 0, place.log()
    assert place.state(run).is_completed(), place.log()


def test_w20_a_cancelled_run_ends_with_its_job_and_pods(place, cluster):
    run = place.run("long")
    worker = place.worker("--limit", "1")
    place.begun()
    body = SetState(state=StateCreate(type=StateType.CANCELLING))
    place.client.send(calls.set_flow_run_state(id=run.id, body=body))
    # The slot is free again only when the job is gone: the next run begins then.
    place.run("long")
    place.begun()
    assert place.state(run).is_cancelled(), place.log()
    assert not cluster.objects.is_there(place.job_of(run))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert [pod for pod in cluster.pods("team") if pod["status"]["phase"] == "Running"] == []


def test_w17_an_evicted_pod_crashes_its_run_with_the_reason(place, cluster):
    run = place.run("long")
    worker = place.worker("--run-once")
    place.begun()
    (pod,) = cluster.objects.find("pods", "team", f"job-name={place.job_of(run).name}")
    key = Key("pods", "team", pod["metadata"]["name"])
    cluster.kubelet.end(key, {"reason": "Evicted", "message": "The node was low on resource: memory."})
    assert worker.wait(60) == 0, place.log()
    state = place.state(run)
    assert state.is_crashed()
    assert "its pod was evicted: The node was low on resource: memory" in state.message


def test_w17_a_job_outlives_its_worker_and_the_next_one_takes_it_over(place, cluster):
    run = place.run("long")
    first = place.worker("--name", "first")
    place.begun()
    first.kill()
    first.wait()
    second = place.worker("--name", "second", "--run-once")
    with (place.folder / "worker.log").open() as log:
        while "Worker 'second' goes on with" not in log.readline():
            assert second.poll() is None, place.log()
    place.pipe.write_text("go on")
    assert second.wait(60) == 0, place.log()
    assert place.state(run).is_completed(), place.log()
    assert "told: go on" in place.log()


def test_w21_a_run_that_the_cluster_refuses_says_why_and_leaves_nothing(place, cluster):
    place.env["KUBECONFIG"] = str(place.folder / "config")
    config = {**cluster.kubeconfig, "users": [{"name": "worker", "user": {"token": "old"}}]}
    Path(place.env["KUBECONFIG"]).write_text(json.dumps(config))
    run = place.run("good")
    assert place.worker("--run-once").wait(60) == 1
    state = place.state(run)
    assert state.is_crashed()
    assert "The Kubernetes API does not know who asks" in state.message
    assert f"renew the credentials of {place.env['KUBECONFIG']}" in state.message
