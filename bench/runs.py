"""The rows about running flows: the SDK in one process, and a worker that starts deployed runs."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.rows import Reading
from bench.targets import Session, wait_for

POOL = "bench"
REAPED = 1.0
"""Seconds after which a process that ended is counted to its parent."""

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
    begun = time.perf_counter()
    session.run("deploy", "--all", cwd=project, timeout=1800)
    seconds = time.perf_counter() - begun
    # Those of a row before this one may be there already: their names are the same.
    missing = deployments - session.call("POST", "/deployments/count", {})
    return Reading(seconds, {"missing": missing} if missing > 0 else {})


def measure_plan(session: Session) -> Reading:
    """Seconds until the plan of 1,000 deployments says that nothing is to be done; Prefect has no plans."""
    project = session.home / "project-1000"
    if not project.is_dir():
        measure_deploy(session, 1000)
    begun = time.perf_counter()
    session.run("deploy", "--all", "--plan", cwd=project, timeout=300)  # exits with 2 if anything differs
    return Reading(time.perf_counter() - begun)


_MEASURED: dict[tuple[str, str], tuple[list[float], str]] = {}
"""Seconds and a note by server and kind: several rows tell different parts of one measurement."""


def measure_start(session: Session, part: float) -> Reading:
    """Seconds from creating a deployment's run to its start within which ``part`` of the runs began: run
    after run on one worker, its first left out.
    """

    def measure() -> tuple[list[float], str]:
        many = 100 if session.target.name == "eparch" else 5
        with working(session, "warm") as worker:
            start_one(session)
            before = processor_time(worker.pid)
            seconds = [start_one(session) for _ in range(many)]
            time.sleep(2 * REAPED)
            spent = (processor_time(worker.pid) - before) / many
        return seconds, f"{spent:.3f} s of processor time a run"

    return tell_part(session, "warm", measure, part)


def measure_many(session: Session, part: float) -> Reading:
    """The same for 50 runs that are created one after the other without waiting for any."""

    def measure() -> tuple[list[float], str]:
        with working(session, "many"):
            start_one(session)
            deployment = find_deployment(session)
            begun = {}
            for _ in range(50):
                now = time.time()
                begun[create_one(session, deployment)] = now
            wanted = {"flow_runs": {"id": {"any_": list(begun)}}}

            def look() -> Any:
                found = session.call("POST", "/flow_runs/filter", wanted)
                return found if all(run["state_type"] in FINAL for run in found) else None

            ended = wait_for(look, "50 runs are over", 600, 0.2)
            lasted = time.time() - min(begun.values())
        if any(run["state_type"] != "COMPLETED" for run in ended):
            raise RuntimeError(f"not all completed: {sorted(run['state_type'] for run in ended)}")
        return [started_at(run) - begun[run["id"]] for run in ended], f"all over after {lasted:.1f} s"

    return tell_part(session, "many", measure, part)


def measure_cold(session: Session) -> Reading:
    """Median of the seconds from creating a run to its start: the first of a new worker, three times."""
    seconds = []
    for name in ("cold-1", "cold-2", "cold-3"):
        more = {"EPARCH_WORKER_WARM_START": "false"}
        with working(session, name, more):
            seconds.append(start_one(session))
    return Reading(statistics.median(seconds), note=f"min {min(seconds):.3f} s, max {max(seconds):.3f} s")


def tell_part(
    session: Session, kind: str, measure: Callable[[], tuple[list[float], str]], part: float
) -> Reading:
    """The seconds within which ``part`` of the runs began; measured once for each server."""
    key = (session.url, kind)
    if key not in _MEASURED:
        _MEASURED[key] = measure()
    seconds, note = sorted(_MEASURED[key][0]), _MEASURED[key][1]
    found = seconds[min(int(len(seconds) * part), len(seconds) - 1)]
    return Reading(found, note=f"{len(seconds)} runs, max {seconds[-1]:.3f} s, {note}")


@contextlib.contextmanager
def working(
    session: Session, name: str, more: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A pool with a deployment, and a worker that serves it for the length of the block."""
    prepare_pool(session)
    if not session.call("POST", "/deployments/filter", {"deployments": {"name": {"any_": ["d0"]}}}):
        session.run("deploy", "--all", cwd=write_project(session, 1), timeout=120)
    with session.spawn("worker", "start", "--pool", POOL, "--name", name, env=more) as worker:
        wait_for_worker(session, name)
        yield worker


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process and all below it have used; 0 where there is no /proc."""
    spent, below = 0.0, {pid}
    with contextlib.suppress(FileNotFoundError):
        entries = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
        parents = {}
        for one in entries:
            with contextlib.suppress(OSError):
                parents[one] = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        while more := {one for one, told in parents.items() if int(told[1]) in below} - below:
            below |= more
        spent = sum(sum(map(int, parents[one][11:15])) for one in below if one in parents)
    return spent / os.sysconf("SC_CLK_TCK")


def wait_for_worker(session: Session, name: str) -> None:
    """Return once the server knows that the worker is online."""

    def look() -> bool:
        workers = session.call("POST", f"/work_pools/{POOL}/workers/filter", {})
        return any(worker["name"] == name and worker["status"] == "ONLINE" for worker in workers)

    wait_for(look, f"worker {name} is online", 60)


def find_deployment(session: Session) -> str:
    """The id of the deployment whose runs are measured."""
    return str(session.call("GET", "/deployments/name/empty/d0")["id"])


def create_one(session: Session, deployment: str) -> str:
    """Create one run of a deployment; its id."""
    state = {"type": "SCHEDULED", "name": "Scheduled"}
    return str(session.call("POST", f"/deployments/{deployment}/create_flow_run", {"state": state})["id"])


def start_one(session: Session) -> float:
    """Create one run of the deployment and wait for its end; seconds from the request to its start."""
    deployment = find_deployment(session)
    begun = time.time()
    run = create_one(session, deployment)

    def look() -> Any:
        found = session.call("GET", f"/flow_runs/{run}")
        return found if found["state_type"] in FINAL else None

    ended = wait_for(look, "the run is over", 120, 0.05)
    if ended["state_type"] != "COMPLETED":
        raise RuntimeError(f"the run ended as {ended['state_type']}: {ended['state'].get('message')}")
    return started_at(ended) - begun


def started_at(run: Mapping[str, Any]) -> float:
    """When it began, as a timestamp."""
    return datetime.fromisoformat(run["start_time"]).timestamp()
