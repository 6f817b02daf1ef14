"""The rows about the HTTP API: each drives a running server with the load generator."""

from __future__ import annotations

import json

from bench.load import Outcome, Plan, drive
from bench.rows import Reading
from bench.targets import Session

SEEDED = 200  # runs that are there before runs are read or listed


def find_flow(session: Session) -> str:
    """Id of the flow that the rows here make runs of."""
    return str(session.call("POST", "/flows/", {"name": "bench"})["id"])


def port(session: Session) -> int:
    """The port that the session's server listens on."""
    return int(session.url.rsplit(":", 1)[1].split("/")[0])


def read_outcome(outcome: Outcome) -> Reading:
    """Rate and failures as a reading."""
    note = f"median {outcome.median:.1f} ms, p99 {outcome.p99:.1f} ms"
    return Reading(outcome.rate, outcome.failures, f"{note}; {outcome.example}" if outcome.example else note)


def create_steps(session: Session) -> tuple[tuple[str, str, str], ...]:
    """One request: a new pending run."""
    state = {"type": "PENDING", "name": "Pending", "message": None, "data": None}
    body = {
        "flow_id": find_flow(session),
        "name": "{unique}",
        "parameters": {},
        "tags": ["bench"],
        "state": state,
    }
    return (("POST", "/flow_runs/", json.dumps(body)),)


def cycle_steps(session: Session) -> tuple[tuple[str, str, str], ...]:
    """Three requests: a new run, running, completed."""
    steps = create_steps(session)
    for kind in ("RUNNING", "COMPLETED"):
        body = {"state": {"type": kind, "name": kind.capitalize()}, "force": False}
        steps += (("POST", "/flow_runs/{id}/set_state", json.dumps(body)),)
    return steps


def measure_create(session: Session, connections: int = 8) -> Reading:
    """New flow runs a second."""
    return read_outcome(drive(Plan(port(session), create_steps(session), connections)))


def measure_cycle(session: Session, connections: int = 8) -> Reading:
    """Runs a second that are created, set running and set completed."""
    return read_outcome(drive(Plan(port(session), cycle_steps(session), connections)))


def seed(session: Session) -> tuple[str, ...]:
    """Make sure that there are runs to read; some of their ids."""
    listed = list_ids(session)
    if len(listed) < SEEDED:
        drive(Plan(port(session), cycle_steps(session), 2, 60, SEEDED))
        listed = list_ids(session)
    return listed


def list_ids(session: Session) -> tuple[str, ...]:
    """Ids of at most 200 runs."""
    return tuple(run["id"] for run in session.call("POST", "/flow_runs/filter", {"limit": 200}))


def measure_read(session: Session) -> Reading:
    """Single runs read a second."""
    ids = seed(session)
    return read_outcome(drive(Plan(port(session), (("GET", "/flow_runs/{id}", ""),), ids=ids)))


def measure_list(session: Session) -> Reading:
    """Pages of the 50 runs that started last, read a second."""
    seed(session)
    body = json.dumps({"sort": "START_TIME_DESC", "limit": 50})
    return read_outcome(drive(Plan(port(session), (("POST", "/flow_runs/filter", body),))))


def measure_logs(session: Session) -> Reading:
    """Requests with 100 log lines each, a second."""
    run = seed(session)[0]
    line = {"name": "bench", "level": 20, "timestamp": "2026-01-01T00:00:00Z", "flow_run_id": run}
    body = json.dumps(
        [line | {"message": f"line {number}: what a step of a flow has to say"} for number in range(100)]
    )
    return read_outcome(drive(Plan(port(session), (("POST", "/logs/", body),))))
