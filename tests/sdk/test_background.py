"""Background tasks end to end: `delay()`, task workers in processes of their own, a real server (row B10)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.conftest import bare_environment

from eparch import flow
from eparch.client import following
from eparch.client.http import connect
from eparch.core import calls
from eparch.core.errors import FailedRun, MissingResult, SourceError, Usage
from eparch.core.states import Completed
from eparch.sdk import session as sessions
from eparch.sdk.background import readable
from eparch.sdk.loading import load_tasks
from eparch.sdk.logs import configure
from eparch.sdk.session import Session
from eparch.sdk.task_worker import TaskWorker, aserve
from eparch.settings import load

JOBS = '''
import os, time
from pathlib import Path
from eparch import task

NOTES = Path(os.environ["NOTES"])


def note(text):
    with open(NOTES, "a") as file:
        file.write(f"{text} {os.getpid()}\\n")


@task
def double(number):
    note(number)
    return 2 * number


@task
async def add(one, two):
    return one + two


@task
def fail():
    raise ValueError("on purpose")


@task(retries=1, retry_delay_seconds=0.05)
def flaky(place):
    note("attempt")
    if len(NOTES.read_text().splitlines()) == 1:
        raise ValueError("the first attempt fails")
    return "second"


@task
def held(gate):
    """Runs until ``gate`` is there."""
    note("begun")
    while not Path(gate).exists():
        time.sleep(0.02)
    return "done"
'''

KEY = """
import runpy, sys
print(runpy.run_path(sys.argv[1], run_name="__main__")["double"].task_key)
"""

SECONDS = 40.0


class Place:
    """A folder with tasks, a server and task workers."""

    def __init__(self, folder: Path, server: Any) -> None:
        self.folder = folder
        self.notes = folder / "notes.txt"
        self.notes.touch()
        self.env = {**server.env, "NOTES": str(self.notes), "EPARCH_HOME": str(folder / "home")}
        (folder / "jobs.py").write_text(JOBS)
        self.workers: list[subprocess.Popen[bytes]] = []

    def serve(self, *options: str, file: bool = True) -> subprocess.Popen[bytes]:
        """A task worker in a process of its own."""
        log = open(self.folder / f"worker{len(self.workers)}.log", "wb")  # noqa: SIM115
        files = [str(self.folder / "jobs.py")] if file else []
        command = [sys.executable, "-m", "eparch", "task", "serve", *files, *options]
        started = subprocess.Popen(command, env=self.env, cwd=self.folder, stdout=log, stderr=log)
        self.workers.append(started)
        return started

    def noted(self, count: int) -> list[str]:
        """What tasks have noted, once there are ``count`` lines."""
        return wait_for(lambda: lines if len(lines := self.notes.read_text().splitlines()) >= count else None)


def wait_for(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.fixture
def place(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place = Place(tmp_path, server)
    for name in ("NOTES", "EPARCH_HOME"):
        monkeypatch.setenv(name, place.env[name])
    settings = load({**server.env, "EPARCH_HOME": place.env["EPARCH_HOME"]}, tmp_path)
    before = sessions._current
    session = sessions.use(Session(settings, connect(settings)))
    configure(session)
    yield place
    for worker in place.workers:
        worker.kill()
        worker.wait()
    sessions.leave()
    if before is not None:
        sessions.use(before)


@pytest.fixture
def jobs(place: Place) -> Iterator[dict[str, Any]]:
    path = str(place.folder / "jobs.py")
    found = {one.name: one for one in load_tasks(path)}
    yield found
    for name in [name for name, module in sys.modules.items() if getattr(module, "__file__", None) == path]:
        del sys.modules[name]


def test_b10_a_task_worker_runs_what_is_delayed(place: Place, jobs: dict[str, Any]) -> None:
    first = jobs["double"].delay(21)
    assert first.state.is_scheduled()
    place.serve()
    assert first.result(timeout=SECONDS) == 42
    assert first.state.is_completed()
    assert jobs["add"].apply_async((1,), {"two": 2}).result(timeout=SECONDS) == 3
    failed = jobs["fail"].delay()
    with pytest.raises(FailedRun, match="on purpose"):
        failed.result(timeout=SECONDS)
    assert isinstance(failed.result(timeout=SECONDS, raise_on_failure=False), FailedRun)
    assert jobs["add"].delay(jobs["double"].delay(1), 1).result(timeout=SECONDS) == 3
    place.notes.write_text("")
    assert jobs["flaky"].delay("x").result(timeout=SECONDS) == "second"
    assert asyncio.run(jobs["double"].delay(2).result_async(SECONDS)) == 4

    @flow
    def outer() -> int:
        return int(jobs["double"].delay(5).result(timeout=SECONDS))

    assert outer() == 10


def test_b10_waiting_follows_events_and_looks_twice(
    place: Place, jobs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look before it follows, one when it was told of the end, however long the task takes."""
    looks: list[Any] = []
    silence = threading.Event()
    client = sessions.current().client
    send, follow = client.send, following.follow

    def counted(call: Any) -> Any:
        if call.endpoint is calls.read_task_runs:
            looks.append(call)
        return send(call)

    def noted(*args: Any, **kwargs: Any) -> Any:
        quiet = 0
        for event in follow(*args, **kwargs):
            quiet += event is None
            if quiet >= 10:
                silence.set()
            yield event

    monkeypatch.setattr(client, "send", counted)
    monkeypatch.setattr(following, "follow", noted)
    gate = place.folder / "gate"
    place.serve()
    held = jobs["held"].delay(str(gate))
    opener = threading.Thread(target=lambda: silence.wait(SECONDS) and gate.touch())
    opener.start()
    assert held.result(timeout=SECONDS) == "done"
    opener.join(SECONDS)
    assert silence.is_set()
    # Where the end is told before it can be read, it is asked for again until it can.
    assert 2 <= len(looks) <= 6


def test_b10_a_module_is_served_and_a_task_waits_for_another(place: Place, jobs: dict[str, Any]) -> None:
    gate = place.folder / "gate"
    place.serve("--limit", "2", "--module", "jobs", file=False)
    first = jobs["held"].delay(str(gate))
    second = jobs["double"].apply_async((4,), wait_for=[first])
    place.noted(1)
    wait_for(lambda: first.state.is_running())
    assert not second.done
    gate.touch()
    assert second.result(timeout=SECONDS) == 8
    assert [line.split()[0] for line in place.noted(2)] == ["begun", "4"]
    inputs = sessions.current().client.send(calls.read_task_run(id=second.task_run_id)).task_inputs
    assert str(inputs["wait_for"][0]["id"]) == str(first.task_run_id)


def test_b10_aserve_serves_until_it_is_cancelled(place: Place, jobs: dict[str, Any]) -> None:
    async def main() -> int:
        serving = asyncio.create_task(aserve(jobs["double"]))
        value: int = await jobs["double"].delay(3).result_async(SECONDS)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(serving, SECONDS)
        return value

    assert asyncio.run(main()) == 6


def test_b10_two_task_workers_run_each_of_many_once(place: Place, jobs: dict[str, Any]) -> None:
    place.serve("--limit", "4")
    place.serve("--limit", "4")
    futures = [jobs["double"].delay(number) for number in range(200)]
    assert [future.result(timeout=SECONDS) for future in futures] == [2 * number for number in range(200)]
    ran = [int(line.split()[0]) for line in place.noted(200)]
    assert sorted(ran) == list(range(200))


def test_b10_a_killed_task_workers_task_goes_to_another_when_it_was_not_begun(
    place: Place, jobs: dict[str, Any]
) -> None:
    gate = place.folder / "gate"
    killed = place.serve("--limit", "1")
    busy = jobs["held"].delay(str(gate))
    wait_for(lambda: busy.state.is_running())
    waiting = jobs["double"].delay(4)
    assert waiting.state.is_scheduled()
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    place.serve("--limit", "1")
    assert waiting.result(timeout=SECONDS) == 8
    # What had begun is not handed out while it might still be running.
    assert busy.state.is_running()
    assert len(place.notes.read_text().splitlines()) == 2


def test_b10_sigterm_lets_tasks_end_and_takes_no_more(place: Place, jobs: dict[str, Any]) -> None:
    gate = place.folder / "gate"
    worker = place.serve("--limit", "1")
    busy = jobs["held"].delay(str(gate))
    place.noted(1)
    waiting = jobs["double"].delay(4)
    worker.send_signal(signal.SIGTERM)
    gate.touch()
    assert worker.wait(SECONDS) == 0, (place.folder / "worker0.log").read_text()
    assert busy.result(timeout=SECONDS) == "done"
    assert waiting.state.is_scheduled()


def test_b10_a_second_signal_hands_back_what_runs(place: Place, jobs: dict[str, Any]) -> None:
    gate = place.folder / "gate"
    worker = place.serve("--limit", "1")
    busy = jobs["held"].delay(str(gate))
    place.noted(1)
    wait_for(lambda: busy.state.is_running())
    worker.send_signal(signal.SIGTERM)
    worker.send_signal(signal.SIGTERM)
    wait_for(lambda: worker.poll() is not None or worker.send_signal(signal.SIGINT))
    wait_for(lambda: busy.state.is_scheduled())
    gate.touch()
    place.serve()
    assert busy.result(timeout=SECONDS) == "done"


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[Any]:
    """A server that can be started again at the same port, on the same database."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    env = {**bare_environment(), "EPARCH_HOME": str(folder / "server")}
    command = [sys.executable, "-m", "eparch", "server", "start", "--port", str(port)]
    with open(folder / "server.log", "ab") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    env["EPARCH_API_URL"] = f"http://127.0.0.1:{port}/api"
    try:
        yield SimpleNamespace(env=env, port=port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)


def test_b10_a_task_worker_outlives_its_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = tmp_path / "gate"
    with serving(tmp_path, 0) as server:
        place = Place(tmp_path, server)
        monkeypatch.setenv("NOTES", place.env["NOTES"])
        settings = load(place.env, tmp_path)
        sessions.use(Session(settings, connect(settings)))
        jobs = {one.name: one for one in load_tasks(str(tmp_path / "jobs.py"))}
        worker = place.serve("--limit", "1")
        busy = jobs["held"].delay(str(gate))
        place.noted(1)
        wait_for(lambda: busy.state.is_running())
        waiting = [jobs["double"].delay(number) for number in range(20)]
    try:
        with serving(tmp_path, server.port):
            gate.touch()
            assert busy.result(timeout=SECONDS) == "done"
            assert [one.result(timeout=SECONDS) for one in waiting] == [2 * n for n in range(20)]
            assert len(place.notes.read_text().splitlines()) == 21
    finally:
        worker.kill()
        worker.wait()
        sessions.leave()


def test_b10_status_tells_what_prefects_does(place: Place, jobs: dict[str, Any]) -> None:
    worker = TaskWorker(jobs["double"], limit=3)
    told = worker.status()
    assert (told["limit"], told["current"], told["available"], told["stopping"]) == (3, 0, 3, False)
    assert told["tasks"] == [jobs["double"].task_key]
    from eparch.workers.health import Status

    page = Status(0, worker.status)
    with contextlib.closing(page), urllib.request.urlopen(f"http://127.0.0.1:{page.port}/status") as answer:
        assert json.load(answer)["client_id"] == worker.client_id


def test_what_cannot_be_served_is_refused(place: Place, jobs: dict[str, Any]) -> None:
    for wrong in ((), (print,)):
        with pytest.raises(Usage):
            TaskWorker(*wrong)
    with pytest.raises(Usage):
        TaskWorker(jobs["double"], limit=0)
    with pytest.raises(SourceError, match="dubble"):
        load_tasks(str(place.folder / "jobs.py"), "dubble")


def test_a_result_is_read_from_this_home_only(place: Place) -> None:
    session = sessions.current()
    for outside in ("/etc/passwd", str(place.folder / "home/storage/../../notes.txt")):
        state = readable(session, Completed(data={"storage_key": outside}))
        with pytest.raises(MissingResult):
            state.result()


def test_a_task_has_one_key_in_a_script_and_where_it_is_loaded(place: Place) -> None:
    script = place.folder / "jobs.py"
    asked = subprocess.run(
        [sys.executable, "-c", KEY, str(script)],
        env=place.env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert asked.stdout.strip() == load_tasks(str(script), "double")[0].task_key
