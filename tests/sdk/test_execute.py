"""The process of a flow run and ad-hoc scripts, on a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.conftest import Server

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.model import new_id
from eparch.core.runs import DeploymentFlowRunCreate, FlowRun, SetState, TaskRun
from eparch.core.states import StateCreate, StateType

FLOWS = """
import os, signal, threading
from prefect import flow, get_run_logger, task, unmapped
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

@task(retries=1)
def double(n):
    if n == 2 and "tried" not in os.environ:
        os.environ["tried"] = "1"
        raise ValueError("once")
    return 2 * n

@flow(log_prints=True, retries=1, flow_run_name="named-{n}")
def report(n: int, label: str = "total"):
    print("in", os.getcwd())
    create_markdown_artifact(f"# {label}", key="report")
    if flow_run.run_count < 2:
        raise RuntimeError("the first attempt")
    return sum(double.map(range(n)).result())

@flow
async def quick():
    get_run_logger().info("async")

@flow
def endless():
    os.write(int(os.environ["READY"]), b"x")
    threading.Event().wait(600)

@flow
async def endless_async():
    import asyncio
    os.write(int(os.environ["READY"]), b"x")
    await asyncio.sleep(600)

@task
def hang():
    os.write(int(os.environ["READY"]), b"x")
    threading.Event().wait(600)

@flow
def endless_tasks():
    hang.submit().wait()

def plain(): ...
"""


class Desk:
    """Deploys flows of one folder and executes their runs, as a worker would."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.client = Client(server.api_url)
        (folder / "flows.py").write_text(FLOWS)

    def order(self, entrypoint: str, parameters: Any = None, **more: Any) -> UUID:
        """A run of a new deployment of ``entrypoint``."""
        flow = self.client.send(calls.create_flow(body=FlowCreate(name=entrypoint.rpartition(":")[2])))
        body = DeploymentCreate(
            name=f"d{new_id().hex}",
            flow_id=flow.id,
            entrypoint=entrypoint,
            **{"path": str(self.folder), "enforce_parameter_schema": False, **more},
        )
        deployment = self.client.send(calls.create_deployment(body=body))
        ordered = DeploymentFlowRunCreate(parameters=parameters or {})
        return self.client.send(calls.create_deployment_flow_run(id=deployment.id, body=ordered)).id

    def start(self, run_id: UUID, *, pass_fds: tuple[int, ...] = (), **env: str) -> subprocess.Popen[str]:
        """The process of the run."""
        return subprocess.Popen(
            [sys.executable, "-m", "eparch.sdk.execute"],
            env={**self.server.env, "EPARCH_FLOW_RUN_ID": str(run_id), **env},
            cwd="/",
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
        )

    def execute(self, run_id: UUID, **env: str) -> tuple[int, str, FlowRun]:
        """Exit code, standard error and the run after it."""
        process = self.start(run_id, **env)
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors, self.run(run_id)

    def run(self, run_id: UUID) -> FlowRun:
        return self.client.send(calls.read_flow_run(id=run_id))

    def lines(self, run_id: UUID) -> list[str]:
        body = {"logs": {"flow_run_id": {"any_": [str(run_id)]}}, "sort": "TIMESTAMP_ASC"}
        return [line.message for line in self.client.send(calls.read_logs(body=body))]

    def tasks(self, run_id: UUID) -> list[TaskRun]:
        body = {"flow_runs": {"id": {"any_": [str(run_id)]}}}
        return self.client.send(calls.read_task_runs(body=body))


@pytest.fixture
def desk(server: Server, tmp_path: Path) -> Iterator[Desk]:
    """A folder of flows and the server."""
    made = Desk(server, tmp_path)
    yield made
    made.client.close()


def test_a_deployed_flow_that_speaks_prefect_runs_to_its_end(desk: Desk) -> None:
    run_id = desk.order("flows.py:report", {"n": "3"})
    code, errors, run = desk.execute(run_id)
    assert code == 0, errors
    assert (run.name, run.state_type, run.run_count) == ("named-3", StateType.COMPLETED, 2)
    assert run.empirical_policy.retries == 1
    tasks = desk.tasks(run_id)
    assert sorted(task.run_count for task in tasks) == [1, 1, 2]
    assert {task.state_type for task in tasks} == {StateType.COMPLETED}
    lines = desk.lines(run_id)
    assert lines.count(f"in {os.path.realpath(desk.folder)}") == 2
    assert any("RuntimeError: the first attempt" in line for line in lines)
    assert lines[-1] == "Finished in state Completed()"
    artifacts = desk.client.send(calls.read_artifacts(body={}))
    assert [a.data for a in artifacts if a.flow_run_id == run_id] == ["# total"] * 2


@pytest.mark.parametrize("entrypoint", ["flows.py:quick", "flows:quick", "flows.quick"])
def test_entrypoints_of_every_kind_run(desk: Desk, entrypoint: str) -> None:
    run_id = desk.order(entrypoint)
    code, errors, run = desk.execute(run_id)
    assert (code, run.state_type) == (0, StateType.COMPLETED), errors
    assert "async" in desk.lines(run_id)


def test_pull_steps_run_first_and_say_so_in_the_log(desk: Desk) -> None:
    inner = desk.folder / "pulled"
    inner.mkdir()
    (desk.folder / "flows.py").rename(inner / "flows.py")
    steps = [
        {"prefect.deployments.steps.run_shell_script": {"script": "echo pulled-it"}},
        {"prefect.deployments.steps.set_working_directory": {"directory": str(inner)}},
    ]
    run_id = desk.order("flows.py:quick", pull_steps=steps)
    code, errors, run = desk.execute(run_id)
    assert (code, run.state_type) == (0, StateType.COMPLETED), errors
    assert any("pulled-it" in line for line in desk.lines(run_id))


@pytest.mark.parametrize(
    ("entrypoint", "said"),
    [
        ("flows.py:reprot", "There is no flow 'reprot'."),
        ("flows.py:plain", "'plain' is not a flow."),
        ("gone.py:report", "There is no such file."),
        ("broken.py:main", "SyntaxError"),
        ("renamed.py:main", "does not have prefect.context.refresh_context"),
        ("leaves.py:main", "SystemExit: 3"),
    ],
)
def test_a_flow_that_cannot_be_loaded_has_failed_and_says_why(desk: Desk, entrypoint: str, said: str) -> None:
    (desk.folder / "broken.py").write_text("def main(:\n")
    (desk.folder / "renamed.py").write_text("from prefect.context import refresh_context\n")
    (desk.folder / "leaves.py").write_text("raise SystemExit(3)\n")
    run_id = desk.order(entrypoint)
    code, _, run = desk.execute(run_id)
    assert (code, run.state_type) == (0, StateType.FAILED)
    assert run.state is not None
    assert str(run.state.message).startswith("Flow could not be retrieved from deployment.")
    (line,) = desk.lines(run_id)
    assert said in line


def test_a_failing_step_fails_the_run(desk: Desk) -> None:
    steps = [{"prefect.deployments.steps.run_shell_script": {"script": "exit 9"}}]
    _, _, run = desk.execute(desk.order("flows.py:quick", pull_steps=steps))
    assert run.state_type is StateType.FAILED


def test_parameters_that_do_not_fit_fail_the_run(desk: Desk) -> None:
    _, _, run = desk.execute(desk.order("flows.py:report", {"m": 1}))
    assert run.state is not None
    assert run.state_type is StateType.FAILED
    assert "'m' is not a parameter" in str(run.state.message)


def test_a_run_that_is_over_is_left_alone(desk: Desk) -> None:
    run_id = desk.order("flows.py:quick")
    body = SetState(state=StateCreate(type=StateType.CANCELLED), force=True)
    desk.client.send(calls.set_flow_run_state(id=run_id, body=body))
    code, _, run = desk.execute(run_id)
    assert (code, run.state_type) == (0, StateType.CANCELLED)
    assert desk.lines(run_id) == []


NOBODY = "01a203e0-a17c-77e8-a19b-e31e7436670c"


@pytest.mark.parametrize(("id_", "code"), [("nonsense", 2), ("", 2), (NOBODY, 3)])
def test_what_cannot_be_executed_ends_with_a_line_and_a_code(desk: Desk, id_: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "eparch.sdk.execute"],
        env={**desk.server.env, "EPARCH_FLOW_RUN_ID": id_},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert done.stderr.startswith("eparch: ")
    assert "Traceback" not in done.stderr


def test_a_server_that_is_away_is_a_line_and_a_code(desk: Desk) -> None:
    run_id = desk.order("flows.py:quick")
    process = desk.start(run_id, EPARCH_API_URL="http://127.0.0.1:9/api", EPARCH_MAX_RETRIES="0")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 6
    assert errors.startswith("eparch: Cannot reach the server")


@pytest.mark.parametrize(
    ("before", "final"),
    [(None, StateType.CRASHED), (StateType.CANCELLING, StateType.CANCELLED)],
)
@pytest.mark.parametrize("name", ["endless", "endless_async", "endless_tasks"])
def test_b7_sigterm_ends_a_run(desk: Desk, name: str, before: StateType | None, final: StateType) -> None:
    run_id = desk.order(f"flows.py:{name}")
    reading, writing = os.pipe()
    process = desk.start(run_id, pass_fds=(writing,), READY=str(writing))
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    if before is not None:
        body = SetState(state=StateCreate(type=before), force=True)
        desk.client.send(calls.set_flow_run_state(id=run_id, body=body))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, desk.run(run_id).state_type) == (143, final), errors
    assert {task.state_type for task in desk.tasks(run_id)} <= {StateType.CRASHED}


SCRIPT = """
import os, signal, sys, threading
from eparch import flow, task

@task
def double(n):
    return 2 * n

@flow
def child(n):
    return double(n)

@flow
def parent(pid: int):
    futures = double.map(range(300))
    if pid:
        os.kill(pid, signal.SIGSTOP)  # the server stands still in the middle of it
        threading.Timer(0.5, os.kill, (pid, signal.SIGCONT)).start()
    more = double.map(range(700))
    return sum(futures.result()) + sum(more.result()) + child(1)

print(parent(int(sys.argv[1])))
"""


@pytest.mark.parametrize("stops", [False, True])
def test_a_script_is_recorded_whole_even_when_the_server_stands_still(
    server: Server, tmp_path: Path, stops: bool
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py", str(server.pid if stops else 0)],
        env=server.env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    expected = sum(2 * n for n in range(300)) + sum(2 * n for n in range(700)) + 2
    assert done.stdout == f"{expected}\n", done.stderr
    with Client(server.api_url) as client:
        runs = client.send(calls.read_flow_runs(body={"sort": "START_TIME_DESC", "limit": 2}))
        child, parent = runs
        assert child.parent_task_run_id is not None
        mine = {"flow_runs": {"id": {"any_": [str(parent.id)]}}}
        found: list[TaskRun] = []
        while page := client.send(calls.read_task_runs(body={**mine, "limit": 200, "offset": len(found)})):
            found.extend(page)
        assert len(found) == 1001
        (tracking,) = [task for task in found if task.id == child.parent_task_run_id]
        assert tracking.name == "child-0"
        assert tracking.state is not None
        assert tracking.state.state_details.child_flow_run_id == child.id
        assert {task.state_type for task in found} == {StateType.COMPLETED}


def test_importing_and_defining_needs_no_server() -> None:
    code = """
    from eparch import flow, task
    @task
    def a(): ...
    @flow
    def b(): ...
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={"PATH": os.environ["PATH"], "EPARCH_API_URL": "http://127.0.0.1:9/api"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_w19_the_run_of_a_worker_is_patient_with_a_server_that_is_away(tmp_path):
    from eparch.client.retries import Fault
    from eparch.sdk import session
    from eparch.settings import load

    settings = load({}, tmp_path)
    assert session._retries(settings, None) is None
    patient = session._retries(settings, "run:1")
    elapsed, attempt, pauses = 0.0, 0, []
    while True:
        attempt += 1
        fault = Fault(connected=False)
        pause = patient.delay(fault, idempotent=True, attempt=attempt, elapsed=elapsed, roll=0.5)
        if pause is None:
            break
        pauses.append(pause)
        elapsed += pause
    # Longer than a restart takes, asked often enough to go on at once, and over in the end.
    assert 250 < elapsed <= session.PATIENCE
    assert max(pauses) <= 5
