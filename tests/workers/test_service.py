"""Real workers on real servers: outages, hand-back, pausing, many at once (W3, W14, W18, W19)."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from tests.workers.test_end_to_end import Place, is_alive

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.model import new_id
from eparch.core.pools import ClaimRuns, WorkPoolUpdate
from eparch.core.states import StateType


@pytest.fixture
def place(server, tmp_path):
    made = Place(server, tmp_path)
    yield made
    made.client.close()


def until(true, seconds=60):
    """What becomes true; another process tells nobody when."""
    deadline = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found, "it never came to that"
    return found


class Restarted:
    """A server that can be stopped and started again at the same port."""

    def __init__(self, home):
        self.home, self.port, self.process = home, 0, None
        home.mkdir()
        self.env = {
            name: value for name, value in os.environ.items() if not name.startswith(("EPARCH", "PREFECT"))
        }
        self.env |= {"EPARCH_HOME": str(home), "EPARCH_DATABASE_URL": f"sqlite:///{home / 'eparch.db'}"}

    def start(self):
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "eparch", "server", "start", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--ready-fd", str(writing)], env=self.env, pass_fds=[writing]
        )
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert select.select([pipe], [], [], 30)[0]
            self.api_url = json.loads(pipe.readline())["url"]
        self.port = int(self.api_url.rpartition(":")[2].partition("/")[0])
        self.env["EPARCH_API_URL"] = self.api_url

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def test_w19_a_worker_outlives_its_server_at_the_start_and_later_and_so_do_its_runs(tmp_path):
    server = Restarted(tmp_path / "server")
    server.start()
    place = Place(server, tmp_path)
    worker = None
    try:
        run = place.run("long")
        server.stop()
        worker = place.worker("--name", "w")
        until(lambda: "No runs can be taken, next attempt in" in place.log())
        server.start()
        pids = place.told()
        server.stop()
        said = len(place.log())
        until(lambda: "WARNING" in place.log()[said:])
        assert "refused" in place.log()[said:].lower()
        assert all(is_alive(pid) for pid in pids)
        server.start()
        beats = Client(server.api_url)
        seen = datetime.now(UTC)

        def asks_again():
            (one,) = beats.send(calls.read_worker_instances(body={"name": "w"}))
            return one.last_polled_at is not None and one.last_polled_at > seen

        until(asks_again)
        beats.close()
        assert all(is_alive(pid) for pid in pids)
        assert place.state(run).is_running()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        assert not any(is_alive(pid) for pid in pids)
    finally:
        if worker is not None:
            worker.kill()
            worker.wait()
        place.client.close()
        server.stop()


def test_w18_a_run_that_waits_for_its_time_is_handed_back_with_it(place):
    when = datetime.now(UTC) + timedelta(seconds=3000)
    run = place.run("good", when)
    worker = place.worker("--prefetch-seconds", "6000", "--on-stop", "hand-back", "--grace-seconds", "30")
    until(lambda: place.client.send(calls.read_flow_run(id=run.id)).infrastructure_pid)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0, place.log()
    state = place.state(run)
    assert (state.type, state.state_details.scheduled_time) == (StateType.SCHEDULED, when), place.log()
    assert place.left(run) == []


def test_w3_workers_that_start_at_once_make_one_pool(server, tmp_path):
    env = {**server.env, "EPARCH_HOME": str(tmp_path)}
    name = f"pool-{new_id().hex[-8:]}"
    command = [sys.executable, "-m", "eparch", "worker", "start", "-p", name, "-t", "process", "--run-once"]
    started = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate(timeout=60)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], told
    with Client(server.api_url) as client:
        pool = client.send(calls.read_work_pool(name=name))
    assert pool.type == "process"
    assert pool.base_job_template


def test_w14_a_pool_that_is_paused_gives_nothing_and_then_no_more_than_its_limit(place):
    def claim(worker):
        body = ClaimRuns(claim_id=new_id(), worker_name=worker, limit=10, lease_seconds=60)
        return place.client.send(calls.claim_runs(name=place.pool, body=body)).runs

    place.client.send(
        calls.update_work_pool(name=place.pool, body=WorkPoolUpdate(is_paused=True, concurrency_limit=2))
    )
    for _ in range(5):
        place.run("good")
    assert claim("one") == []
    assert place.client.send(calls.read_work_pool(name=place.pool)).status == "PAUSED"
    place.client.send(calls.update_work_pool(name=place.pool, body=WorkPoolUpdate(is_paused=False)))
    taken = [len(claim(name)) for name in ("one", "two", "three")]
    assert taken == [2, 0, 0]
    assert place.client.send(calls.read_work_pool(name=place.pool)).status == "READY"


def test_w14_workers_that_wait_at_a_paused_pool_get_no_more_than_its_limit_when_it_goes_on(place):
    most = 3
    body = WorkPoolUpdate(is_paused=True, concurrency_limit=most)
    place.client.send(calls.update_work_pool(name=place.pool, body=body))
    runs = {place.run("good").id for _ in range(8)}
    asked, decided = threading.Barrier(7, timeout=60), threading.Event()

    def wait(number):
        given, last = [], False
        with Client(place.env["EPARCH_API_URL"]) as client:
            asked.wait()
            while not last:
                last = decided.is_set()
                body = ClaimRuns(
                    claim_id=new_id(), worker_name=f"w{number}", limit=10, lease_seconds=600, wait_seconds=1
                )
                given += client.send(calls.claim_runs(name=place.pool, body=body), timeout=60).runs
        return given

    with ThreadPoolExecutor(6) as threads:
        waiting = [threads.submit(wait, number) for number in range(6)]
        asked.wait()
        for paused in (False, True, False):
            body = WorkPoolUpdate(is_paused=paused)
            place.client.send(calls.update_work_pool(name=place.pool, body=body))
        decided.set()
        given = [one.flow_run.id for each in waiting for one in each.result(120)]
    # Nobody is given too much at once, and what there is room for is given.
    assert len(given) == len(set(given)) == most
    assert set(given) < runs
    pool = place.client.send(calls.read_work_pool(name=place.pool))
    assert (pool.active_slots, pool.status) == (most, "READY")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--pool", "nope"], 3, "no work pool 'nope'"),
        (["--pool", "POOL", "--type", "docker"], 2, "docker"),
        (["--pool", "POOL", "--base-job-template", "/nowhere.json", "--type", "process"], 0, ""),
    ],
)
def test_w1_what_a_worker_cannot_begin_with_is_an_error_and_no_traceback(place, arguments, code, says):
    given = [place.pool if word == "POOL" else word for word in arguments]
    command = [sys.executable, "-m", "eparch", "worker", "start", *given, "--run-once"]
    done = subprocess.run(command, env=place.env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_w9_a_port_that_is_taken_is_told_on_the_command_line(place):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        env = place.env | {
            "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
            "PREFECT_WORKER_WEBSERVER_PORT": str(port),
        }
        command = [sys.executable, "-m", "eparch", "worker", "start", "-p", place.pool, "--with-healthcheck"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"cannot listen on port {port}" in done.stderr
    assert "Traceback" not in done.stderr
