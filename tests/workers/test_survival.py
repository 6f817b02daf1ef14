"""Runs outlive their worker: the holder of a job goes on alone, the next worker takes over (W17, W20)."""

from __future__ import annotations

import os
import signal

import pytest
from tests.workers.test_end_to_end import Place, is_alive

from eparch.core import calls
from eparch.core.runs import SetState
from eparch.core.states import StateCreate, StateType

GO_ON = """
import os
from eparch import flow

@flow
def patient():
    with open(os.environ["SAY"], "w") as pipe:
        pipe.write(f"{os.getpid()} {os.getppid()}")
    with open(os.environ["SAY"]) as pipe:
        pipe.read()
    print("to the end")
"""


@pytest.fixture
def place(server, tmp_path):
    place = Place(server, tmp_path)
    with (tmp_path / "flows.py").open("a") as flows:
        flows.write(GO_ON)
    yield place
    place.client.close()


def settled(place: Place, run, *types: StateType):
    """The state once it is one of these: the run's log is the only thing that tells, so it is asked."""
    import time

    for _ in range(900):
        state = place.state(run)
        if state.type in types:
            return state
        time.sleep(0.1)
    raise AssertionError((place.state(run), place.log()))


def test_w17_a_run_whose_worker_is_killed_goes_on_to_its_end(place):
    run = place.run("patient")
    worker = place.worker()
    job, _ = place.told()
    worker.kill()
    worker.wait()
    # For longer than the lease of two seconds nobody renews but the holder.
    assert not place_lapses(place, run, job)
    place.pipe.write_text("go on")
    assert settled(place, run, StateType.COMPLETED, StateType.CRASHED).is_completed()


def place_lapses(place: Place, run, job: int) -> bool:
    """Whether the run ends within three leases."""
    import time

    for _ in range(60):
        time.sleep(0.1)
        if not place.state(run).is_running() or not is_alive(job):
            return True
    return False


def test_w17_the_next_worker_adopts_what_runs_and_counts_it(place):
    run, waiting = place.run("patient"), None
    first = place.worker("--limit", "1", "--name", "first")
    job, _ = place.told()
    first.kill()
    first.wait()
    waiting = place.run("good")
    second = place.worker("--limit", "1", "--name", "second")
    while "goes on with the flow run" not in place.log():
        assert second.poll() is None
        assert is_alive(job)
    assert place.state(waiting).is_scheduled()
    place.pipe.write_text("go on")
    assert settled(place, run, StateType.COMPLETED, StateType.CRASHED).is_completed()
    assert settled(place, waiting, StateType.COMPLETED).is_completed()
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0


@pytest.mark.parametrize("adopted", [False, True], ids=["no worker", "another worker"])
def test_w20_a_run_is_cancelled_whose_worker_is_gone(place, adopted):
    run = place.run("long")
    worker = place.worker()
    pids = place.told()
    worker.kill()
    worker.wait()
    second = place.worker() if adopted else None
    body = SetState(state=StateCreate(type=StateType.CANCELLING))
    place.client.send(calls.set_flow_run_state(id=run.id, body=body))
    assert "infrastructure is gone" in str(settled(place, run, StateType.CANCELLED).message)
    assert not any(is_alive(pid) for pid in pids)
    if second is not None:
        # Before it has begun a signal ends it as it ends any program.
        while place.log().count("serves the pool") < 2:
            assert second.poll() is None
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 0


def test_w17_worker_and_job_killed_is_crashed(place):
    run = place.run("long")
    worker = place.worker()
    job, _ = place.told()
    worker.kill()
    worker.wait()
    os.kill(job, signal.SIGKILL)
    state = settled(place, run, StateType.CRASHED)
    assert "SIGKILL" in state.message
    assert place.left(run) == []


def test_w17_worker_holder_and_job_killed_is_crashed_when_the_lease_is_over(place):
    run = place.run("patient")
    worker = place.worker()
    job, holder = place.told()
    for pid in (worker.pid, holder, job):
        os.kill(pid, signal.SIGKILL)
    worker.wait()
    assert "stopped renewing" in settled(place, run, StateType.CRASHED).message
