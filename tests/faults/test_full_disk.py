"""A disk that is full: the server says so and goes on once there is room; a run says so or goes on."""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import ExitStack

import pytest
from tests.faults.disks import empty, fill, small_disk
from tests.workers.test_end_to_end import Place

from eparch.client.http import Client
from eparch.client.retries import Retries
from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.errors import NotFound, Unavailable
from eparch.core.runs import DeploymentFlowRunCreate

FLOWS = """
import os
from eparch import flow

@flow
def writes():
    with open(os.path.join(os.environ["FULL"], "result"), "wb") as result:
        result.write(bytes(100_000))

@flow
def goes_on():
    for number in range(500):
        print("line", number)
    return None
"""


def until(true, tell=str):
    """Wait until it is so; there is no signal of another process's state."""
    end = time.monotonic() + 150
    while not true():
        assert time.monotonic() < end, tell()
        time.sleep(0.1)


def test_a_server_whose_disk_is_full_says_so_keeps_what_it_has_and_goes_on(start_server, tmp_path):
    with small_disk(tmp_path / "disk", 6000) as disk:
        settings = {"EPARCH_DATABASE_URL": f"sqlite:///{disk / 'eparch.db'}"}
        with (
            start_server(**settings) as server,
            Client(server.api_url, retries=Retries(attempts=0)) as client,
        ):
            kept = client.send(calls.create_flow(body=FlowCreate(name="kept")))
            fill(disk)
            made, error = [], None
            for number in range(500):
                body = FlowCreate(name=f"flow-{number}", labels={"much": "x" * 20_000})
                try:
                    made.append(client.send(calls.create_flow(body=body)))
                except Unavailable as refused:
                    error = refused
                    break
            assert error is not None
            assert "disk is full" in error.why
            assert "space" in error.fix
            # What was answered is there, what was refused is not there at all.
            assert client.send(calls.read_flow(id=kept.id)).name == "kept"
            for one in made:
                assert client.send(calls.read_flow(id=one.id)).name == one.name
            with pytest.raises(NotFound):
                client.send(calls.read_flow_by_name(name=body.name))
            with pytest.raises(Unavailable) as refused:
                client.send(calls.read_ready())
            assert "not available" in refused.value.why
            assert client.send(calls.read_health()) is True
            empty(disk)
            assert client.send(calls.read_ready()) == {"message": "OK"}
            again = client.send(calls.create_flow(body=body))
            assert client.send(calls.read_flow(id=again.id)).name == body.name


def test_runs_on_a_full_disk_say_so_or_go_on(server, tmp_path):
    place = Place(server, tmp_path)
    (tmp_path / "flows.py").write_text(FLOWS)
    deployments, runs = {}, {}
    for name, entrypoint, variables in (
        ("no directory", "goes_on", {}),
        ("writes", "writes", {"working_dir": str(tmp_path)}),
        ("goes on", "goes_on", {"working_dir": str(tmp_path)}),
    ):
        flow = place.client.send(calls.create_flow(body=FlowCreate(name=entrypoint)))
        env = {"FULL": str(tmp_path / "disk"), "EPARCH_HOME": str(tmp_path / "home")}
        body = DeploymentCreate(
            name=name, flow_id=flow.id, entrypoint=f"flows.py:{entrypoint}", work_pool_name=place.pool,
            path=str(tmp_path), job_variables={**variables, "env": env},
        )  # fmt: skip
        deployments[name] = place.client.send(calls.create_deployment(body=body)).id
    with small_disk(tmp_path / "disk", 64, files=20) as disk, ExitStack() as stack:
        place.env["TMPDIR"] = str(disk)
        worker = place.worker()
        stack.callback(worker.kill)
        until(lambda: "serves the pool" in place.log())
        # Whatever it has there by now goes too, so that nothing can be made again.
        for left in disk.glob("eparch-jobs-*"):
            shutil.rmtree(left)
        fill(disk)
        for name, deployment in deployments.items():
            body = DeploymentFlowRunCreate()
            runs[name] = place.client.send(calls.create_deployment_flow_run(id=deployment, body=body))
        until(lambda: all(place.state(run).is_final() for run in runs.values()), place.log)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0, place.log()
    states = {name: place.state(run) for name, run in runs.items()}
    told = {name: f"{state.name}: {state.message}" for name, state in states.items()}
    assert states["no directory"].is_crashed(), told
    assert "No working directory could be made" in told["no directory"]
    assert "No space left" in told["no directory"]
    assert "TMPDIR" in told["no directory"]
    assert states["writes"].is_failed(), told
    assert "No space left on device" in told["writes"]
    assert states["goes on"].is_completed(), (told, place.log())
    assert place.log().count("line ") >= 500
    assert [place.left(run) for run in runs.values()] == [[], [], []]
    place.client.close()
