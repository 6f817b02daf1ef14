"""Serving flows: real scripts, each a process, that run what is due of their own deployments (row D23)."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.conftest import Server

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.deployments import Deployment
from eparch.core.errors import Usage
from eparch.core.runs import DeploymentFlowRunCreate, FlowRun, SetState
from eparch.core.states import StateCreate, StateType
from eparch.sdk import session as sessions
from eparch.sdk.flow import flow
from eparch.sdk.serving import aserve, serve
from eparch.sdk.session import Session
from eparch.settings import load

SCRIPT = '''
import os, signal, sys, time
from eparch import flow, serve

def say(text):
    with open(os.environ["SAY"], "a") as pipe:
        pipe.write(text)

@flow
def good(number: int = 0):
    """Adds a line."""
    with open("numbers", "a") as numbers:
        numbers.write(f"{number}\\n")

@flow
def dying():
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

@flow
def long():
    say(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    flows = [globals()[name].to_deployment("served", interval=36000) for name in sys.argv[2:]]
    serve(*flows, limit=int(sys.argv[1]))
    print("over")
'''

WAIT = 60.0


class Place:
    """A folder with the script, and the server that it serves on."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.client = Client(server.api_url)
        self.folder = folder
        self.pipe = folder / "pipe"
        os.mkfifo(self.pipe)
        (folder / "flows.py").write_text(SCRIPT)
        self.env = {**server.env, "SAY": str(self.pipe), "EPARCH_WORKER_ON_STOP": "cancel"}
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A process that serves."""
        with (self.folder / "log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, *command], env=self.env, cwd=self.folder, stdout=log, stderr=log, text=True
            )
        self.started.append(process)
        return process

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def until(self, look: Callable[[], Any]) -> Any:
        """What ``look`` sees once it sees something."""
        end = time.monotonic() + WAIT
        while not (seen := look()):
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)
        return seen

    def served(self, name: str) -> Deployment:
        """The deployment, once its process asks for runs."""

        def look() -> Deployment | None:
            flow_name, _, own = name.partition("/")
            body = {"flows": {"name": {"any_": [flow_name]}}, "deployments": {"name": {"any_": [own]}}}
            found = self.client.send(calls.read_deployments(body=body))
            return found[0] if found and found[0].last_polled and not found[0].paused else None

        return self.until(look)  # type: ignore[no-any-return]

    def run(self, deployment: Deployment, **parameters: Any) -> UUID:
        body = DeploymentFlowRunCreate(parameters=parameters)
        return self.client.send(calls.create_deployment_flow_run(id=deployment.id, body=body)).id

    def ended(self, run_id: UUID) -> FlowRun:
        """The run, once it is over."""

        def look() -> FlowRun | None:
            run = self.client.send(calls.read_flow_run(id=run_id))
            return run if run.state is not None and run.state.is_final() else None

        return self.until(look)  # type: ignore[no-any-return]

    def read(self, deployment: Deployment) -> Deployment:
        return self.client.send(calls.read_deployment(id=deployment.id))

    def told(self) -> int:
        """The process of a ``long`` run, once its user code runs."""
        with self.pipe.open() as pipe:
            return int(pipe.read())

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        self.client.close()


@pytest.fixture
def place(server: Server, tmp_path: Path) -> Iterator[Place]:
    place = Place(server, tmp_path)
    yield place
    place.close()


def test_d23_a_script_runs_what_is_due_of_its_flows(place: Place) -> None:
    process = place.start("flows.py", "1", "good", "dying", "long")
    good, dying, long = (place.served(f"{name}/served") for name in ("good", "dying", "long"))
    assert (good.work_pool_name, good.entrypoint) == (None, "flows.py:good")
    assert good.schedules[0].schedule["interval"] == 36000
    command = [
        sys.executable,
        "-m",
        "eparch",
        "deployment",
        "run",
        "good/served",
        "--param",
        "number=7",
        "--watch",
    ]
    done = subprocess.run(command, env=place.env, capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 0, done.stderr + place.log()
    assert (place.folder / "numbers").read_text() == "7\n"

    crashed = place.ended(place.run(dying)).state
    assert crashed is not None
    assert crashed.is_crashed()
    assert "last words" in str(crashed.message)

    # There is room for one: the next run begins when the first is cancelled, with its job gone.
    first = place.run(long)
    pid = place.told()
    second = place.run(good, number=8)
    body = SetState(state=StateCreate(type=StateType.CANCELLING))
    place.client.send(calls.set_flow_run_state(id=first, body=body))
    cancelled, completed = place.ended(first), place.ended(second)
    assert cancelled.state is not None
    assert cancelled.state.is_cancelled()
    assert completed.state is not None
    assert completed.state.is_completed()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert completed.start_time is not None
    [pending] = [
        state
        for state in place.client.send(calls.read_flow_run_states(flow_run_id=first))
        if state.type is StateType.CANCELLING
    ]
    assert completed.start_time >= pending.timestamp

    # Who serves the same after one that was killed takes its run over.
    running = place.run(long)
    place.told()
    process.kill()
    process = place.start("flows.py", "1", "good", "dying", "long")
    place.until(lambda: "goes on with the flow run" in place.log())
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT) == 0, place.log()
    assert "over" in place.log()
    ended = place.ended(running).state
    assert ended is not None
    assert ended.is_crashed()
    assert [place.read(one).paused for one in (good, dying, long)] == [True] * 3
    planned = {
        "deployments": {"id": {"any_": [str(good.id)]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    assert place.client.send(calls.read_flow_runs(body=planned)) == []


def test_d23_several_processes_serve_a_deployment_and_each_run_begins_once(place: Place) -> None:
    (place.folder / "flows.py").write_text(SCRIPT.replace("def good", "def shared"))
    processes = [place.start("flows.py", "2", "shared") for _ in range(2)]
    shared = place.served("shared/served")
    place.until(lambda: place.log().count("serves one deployment") == 2)
    runs = [place.run(shared, number=number) for number in range(8)]
    assert {str(place.ended(run).state_name) for run in runs} == {"Completed"}, place.log()
    numbers = Counter((place.folder / "numbers").read_text().split())
    assert numbers == Counter(map(str, range(8)))
    for run in runs:
        history = place.client.send(calls.read_flow_run_states(flow_run_id=run))
        assert [state.name for state in history].count("Pending") == 1
    for process in processes:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(WAIT) for process in processes] == [0, 0], place.log()


def test_d23_the_command_serves_a_flow_and_what_was_paused_goes_on(place: Place) -> None:
    command = ["-m", "eparch", "flow", "serve", "flows.py:good", "--name", "cli"]
    flags = [
        "-d",
        "Numbers",
        "-v",
        "3",
        "-t",
        "a",
        "-t",
        "b",
        "--cron",
        "0 3 * * *",
        "--timezone",
        "Europe/Athens",
    ]
    process = place.start(*command, *flags, "--limit", "2", "--global-limit", "4")
    made = place.served("good/cli")
    assert (made.description, made.version, made.tags, made.concurrency_limit) == (
        "Numbers",
        "3",
        ["a", "b"],
        4,
    )
    assert made.schedules[0].schedule["cron"] == "0 3 * * *"
    assert made.schedules[0].schedule["timezone"] == "Europe/Athens"
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT) == 0, place.log()
    assert place.read(made).paused
    again = place.start(*command, *flags, "--no-pause-on-shutdown")
    same = place.served("good/cli")
    assert same.id == made.id
    run = place.ended(place.run(same, number=1)).state
    assert run is not None
    assert run.is_completed(), place.log()
    again.send_signal(signal.SIGTERM)
    assert again.wait(WAIT) == 0, place.log()
    assert not place.read(made).paused


def test_d23_the_commands_of_the_page_do_what_it_says(place: Place) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
    [script] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    by_script, asked, by_command = re.findall(r"```sh\n(.*?)\n```", page, re.DOTALL)
    (place.folder / "report.py").write_text(script)
    assert by_script == "python report.py"
    processes = [place.start("report.py"), place.start("-m", *shlex.split(by_command))]
    nightly, hourly = place.served("report/nightly"), place.served("report/hourly")
    assert nightly.schedules[0].schedule["cron"] == "0 3 * * *"
    assert hourly.schedules[0].schedule["interval"] == 3600
    command = [sys.executable, "-m", *shlex.split(asked)]
    done = subprocess.run(command, env=place.env, capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 0, done.stderr + place.log()
    place.until(lambda: "3 pages" in place.log())
    for process in processes:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(WAIT) for process in processes] == [0, 0], place.log()


@pytest.mark.anyio
@pytest.mark.parametrize("is_ours", [True, False])
async def test_d23_it_can_be_awaited_and_a_stock_server_is_polled(
    place: Place, server: Server, monkeypatch: pytest.MonkeyPatch, is_ours: bool
) -> None:
    monkeypatch.chdir(place.folder)
    environ = {**server.env, "EPARCH_WORKER_POLL_SECONDS": "0.1"}
    monkeypatch.setattr(sessions, "_current", Session(load(environ, place.folder), place.client))
    if not is_ours:
        monkeypatch.setattr("eparch.workers.worker.is_ours", lambda _: False)
    (place.folder / "flows.py").write_text(SCRIPT.replace("def good", f"def awaited_{is_ours}"))
    sourced = await flow.from_source(str(place.folder), f"flows.py:awaited_{is_ours}")  # type: ignore[attr-defined]
    one = sourced.to_deployment("awaited", work_pool_name="nowhere")
    serving = asyncio.create_task(aserve(one, limit=1))
    deployment = await asyncio.to_thread(place.served, one.full_name)
    assert deployment.pull_steps[0].popitem()[1] == {"directory": str(place.folder.resolve())}
    runs = [place.run(deployment, number=number) for number in range(2)]
    for run in runs:
        state = (await asyncio.to_thread(place.ended, run)).state
        assert state is not None
        assert state.is_completed()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert place.read(deployment).paused


def test_what_cannot_be_served_is_refused_before_anything_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    @flow
    def local() -> None:
        """Is in no file that could be loaded."""

    with pytest.raises(Usage, match="nothing to serve"):
        serve()
    with pytest.raises(Usage, match="in no file"):
        local.serve()
    one: Any = object()
    with pytest.raises(Usage, match="limit is 0"):
        serve(one, limit=0)
    monkeypatch.setenv("EPARCH_FLOW_RUN_ID", str(UUID(int=1)))
    with pytest.raises(Usage) as caught:
        serve(one)
    assert "__main__" in caught.value.fix
