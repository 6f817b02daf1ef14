"""The rows about running flows: the SDK in one process, and a worker that starts deployed runs."""

from __future__ import annotations

import json
import statistics
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.rows import Reading
from bench.targets import Session, wait_for

POOL = "bench"
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

TASKS = """
import json, time
from {module} import flow, task

@task
def noop(number=0):
    return None

@flow
def call(count):
    for _ in range(count):
        noop()

@flow
def spread(count):
    for future in noop.map(list(range(count))):
        future.wait()

call(3)
chosen = {{"called": call, "mapped": spread}}["{way}"]
begun = time.perf_counter()
chosen({count})
print("RESULT", json.dumps(time.perf_counter() - begun))
"""

FLOWS = """
import json, time
from {module} import flow

@flow
def empty():
    return None

empty()
begun = time.perf_counter()
for _ in range({count}):
    empty()
print("RESULT", json.dumps(time.perf_counter() - begun))
"""


def read_result(output: str) -> float:
    """The seconds that a script of this module printed."""
    return float(json.loads(next(line[7:] for line in output.splitlines() if line.startswith("RESULT "))))


def measure_tasks(session: Session, way: str) -> Reading:
    """No-op tasks a second in one flow, from call to return; notes when all were recorded."""
    count = 4000 if session.target.name == "eparch" else 400
    script = TASKS.format(module=session.target.module, way=way, count=count)
    seconds = read_result(session.run_python(script))
    begun = time.perf_counter()
    run = session.call("POST", "/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})[0]["id"]
    last = {"flow_runs": {"id": {"any_": [run]}}, "limit": 1, "offset": count - 1}
    try:
        wait_for(
            lambda: session.call("POST", "/task_runs/filter", last), "all task runs are recorded", 60, 0.1
        )
    except TimeoutError as error:
        return Reading(count / seconds, {"not all recorded": 1}, str(error))
    return Reading(count / seconds, note=f"all {count} recorded {time.perf_counter() - begun:.1f} s later")


def measure_flows(session: Session) -> Reading:
    """Empty flows a second, called one after the other."""
    count = 200 if session.target.name == "eparch" else 5
    script = FLOWS.format(module=session.target.module, count=count)
    return Reading(count / read_result(session.run_python(script)))


def write_project(session: Session, deployments: int) -> Path:
    """A folder with a flow file and a ``prefect.yaml`` of trivial deployments."""
    project = session.home / f"project-{deployments}"
    project.mkdir()
    source = f"from {session.target.module} import flow\n\n\n@flow\ndef empty():\n    return None\n"
    (project / "flows.py").write_text(source)
    entries: list[dict[str, Any]] = [
        {"name": f"d{number}", "entrypoint": "flows.py:empty", "work_pool": {"name": POOL}}
        for number in range(deployments)
    ]
    pull = [{"prefect.deployments.steps.set_working_directory": {"directory": str(project)}}]
    # JSON is YAML
    (project / "prefect.yaml").write_text(json.dumps({"name": "bench", "pull": pull, "deployments": entries}))
    return project


def prepare_pool(session: Session) -> None:
    """Make the process pool when it is not there."""
    if not any(pool["name"] == POOL for pool in session.call("POST", "/work_pools/filter", {})):
        session.run("work-pool", "create", POOL, "--type", "process")


def measure_deploy(session: Session, deployments: int = 30) -> Reading:
    """Seconds that deploying so many trivial deployments takes."""
    if deployments > 30 and session.target.name != "eparch":
        raise RuntimeError("Prefect deploys one after the other, about one a second")
    prepare_pool(session)
    project = write_project(session, deployments)
    before = session.call("POST", "/deployments/count", {})
    begun = time.perf_counter()
    session.run("deploy", "--all", cwd=project, timeout=1800)
    seconds = time.perf_counter() - begun
    made = session.call("POST", "/deployments/count", {}) - before
    missing = deployments - made
    return Reading(seconds, {"missing": missing} if missing > 0 else {})


def measure_plan(session: Session) -> Reading:
    """Seconds until the plan of 1,000 deployments says that nothing is to be done; Prefect has no plans."""
    project = session.home / "project-1000"
    if not project.is_dir():
        measure_deploy(session, 1000)
    begun = time.perf_counter()
    session.run("deploy", "--all", "--plan", cwd=project, timeout=300)  # exits with 2 if anything differs
    return Reading(time.perf_counter() - begun)


def measure_start(session: Session, *, warm: bool) -> Reading:
    """Median of the seconds from creating a deployment's run to its start.

    Warm: run after run on one worker, its first left out. Cold: the first run of a new worker, three times.
    """
    prepare_pool(session)
    session.run("deploy", "--all", cwd=write_project(session, 1 if warm else 2), timeout=120)
    many = 21 if session.target.name == "eparch" else 5
    seconds: list[float] = []
    if warm:
        with session.spawn("worker", "start", "--pool", POOL, "--name", "warm"):
            wait_for_worker(session, "warm")
            seconds = [start_one(session) for _ in range(many)][1:]
    else:
        for name in ("cold-1", "cold-2", "cold-3"):
            with session.spawn("worker", "start", "--pool", POOL, "--name", name):
                wait_for_worker(session, name)
                seconds.append(start_one(session))
    return Reading(statistics.median(seconds), note=f"min {min(seconds):.3f} s, max {max(seconds):.3f} s")


def wait_for_worker(session: Session, name: str) -> None:
    """Return once the server knows that the worker is online."""

    def look() -> bool:
        workers = session.call("POST", f"/work_pools/{POOL}/workers/filter", {})
        return any(worker["name"] == name and worker["status"] == "ONLINE" for worker in workers)

    wait_for(look, f"worker {name} is online", 60)


def start_one(session: Session) -> float:
    """Create one run of the deployment and wait for its end; seconds from the request to its start."""
    deployment = session.call("GET", "/deployments/name/empty/d0")["id"]
    state = {"type": "SCHEDULED", "name": "Scheduled"}
    begun = time.time()
    run = session.call("POST", f"/deployments/{deployment}/create_flow_run", {"state": state})["id"]

    def look() -> Any:
        found = session.call("GET", f"/flow_runs/{run}")
        return found if found["state_type"] in FINAL else None

    ended = wait_for(look, "the run is over", 120, 0.05)
    if ended["state_type"] != "COMPLETED":
        raise RuntimeError(f"the run ended as {ended['state_type']}: {ended['state'].get('message')}")
    return datetime.fromisoformat(ended["start_time"]).timestamp() - begun
