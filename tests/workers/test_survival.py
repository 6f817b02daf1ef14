"""Runs outlive their worker: the holder of a job goes on alone, the next worker takes over (W17, W20)."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from uuid import uuid4

import pytest
from tests.workers.test_end_to_end import Place, is_alive

from eparch.core import calls
from eparch.core.runs import SetState
from eparch.core.states import StateCreate, StateType
from eparch.workers.jobs import RUN_ID
from eparch.workers.process import ProcessInfrastructure, ProcessJob

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
    # The next worker looks for jobs three times a lease.
    place.env["EPARCH_LEASE_SECONDS"] = "15"
    with (tmp_path / "flows.py").open("a") as flows:
        flows.write(GO_ON)
    yield place
    place.client.close()


def settled(place: Place, run, *types: StateType):
    """The state once it is one of these: the run's log is the only thing that tells, so it is asked."""
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
    # Nobody renews but the holder; the first of these may have been under way from the worker.
    for _ in range(3):
        renewed(place, run, job)
    place.pipe.write_text("go on")
    assert settled(place, run, StateType.COMPLETED, StateType.CRASHED).is_completed()


def renewed(place: Place, run, job: int) -> None:
    """Wait until the claim of the run is renewed once more: its lease is nowhere but in the database."""
    import sqlite3

    def lease() -> str:
        with closing(sqlite3.connect(f"file:{place.home / 'eparch.db'}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT lease_until FROM claim WHERE flow_run_id = ?", (str(run.id),))
            return str(found.fetchone()[0])

    before, end = lease(), time.monotonic() + 60
    while lease() == before:
        assert time.monotonic() < end, place.log()
        assert is_alive(job)
        assert place.state(run).is_running()
        time.sleep(0.1)


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


def test_w17_a_job_is_taken_over_alive_from_a_worker_that_is_silent_not_from_one_that_cannot_renew(tmp_path):
    lease, pipe = 4.0, tmp_path / "pipe"
    os.mkfifo(pipe)
    job = ProcessJob(
        command=["/bin/sh", "-c", f"read word < {pipe}; echo told $word >&2; exit 7"], stream_output=False,
        env={RUN_ID: str(uuid4()), "EPARCH_API_URL": "http://127.0.0.1:1/api", "EPARCH_HOME": str(tmp_path)},
        labels={"eparch.io/lease-seconds": str(lease)},
    )  # fmt: skip
    first, second = ProcessInfrastructure(), ProcessInfrastructure()
    handle = first.start(job, lambda handle: None)
    try:
        # For longer than it would be waited for: it says that it is there, though it has renewed nothing.
        end = time.monotonic() + lease
        while time.monotonic() < end:
            first.renewed([handle], 0.0)
            assert not second.adopt(handle)
            time.sleep(0.05)
        end = time.monotonic() + 60
        while not second.adopt(handle):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert first.watch(handle).taken
        # What it is told to stop is not its own any more.
        first.stop(handle, 0.0)
        assert is_alive(int(handle.split(":")[1]))
        pipe.write_text("go on\n")
        seen = second.watch(handle)
        assert (seen.code, seen.stderr, seen.taken) == (7, "told go on", False)
    finally:
        second.stop(handle, 0.0)
        for one in (first, second):
            one.close()


def test_w17_a_worker_that_sleeps_and_wakes_leaves_its_run_to_who_took_it_over(place):
    place.env["EPARCH_LEASE_SECONDS"] = "8"
    run = place.run("patient")
    first = place.worker("--name", "first")
    job, _ = place.told()
    first.send_signal(signal.SIGSTOP)
    second = place.worker("--name", "second")
    try:
        while "Worker 'second' goes on with" not in place.log():
            assert second.poll() is None
            assert is_alive(job)
            time.sleep(0.05)
        first.send_signal(signal.SIGCONT)
        while "Another worker has taken over" not in place.log():
            assert first.poll() is None
            assert is_alive(job)
            time.sleep(0.05)
        # It is free of the run: it ends with nothing to wait for, and ends nothing.
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
        assert is_alive(job)
        assert place.state(run).is_running()
        place.pipe.write_text("go on")
        assert settled(place, run, StateType.COMPLETED, StateType.CRASHED).is_completed(), place.log()
    finally:
        first.kill()
        second.kill()
        first.wait()
        second.wait()


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
    place.env["EPARCH_LEASE_SECONDS"] = "8"
    run = place.run("patient")
    worker = place.worker()
    job, holder = place.told()
    for pid in (worker.pid, holder, job):
        os.kill(pid, signal.SIGKILL)
    worker.wait()
    assert "stopped renewing" in settled(place, run, StateType.CRASHED).message
