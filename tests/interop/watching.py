"""What the server knows about a run, asked for until it is so, with a deadline."""

from __future__ import annotations

from typing import Any

from bench.targets import Session, wait_for

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
PATIENCE = 120.0  # seconds; a stock worker polls every 10 to 15


def latest_run(session: Session, deployment: str) -> str:
    """Id of the newest run of the deployment called ``flow/name``."""
    found = session.call("GET", f"/deployments/name/{deployment}")
    body = {"deployments": {"id": {"any_": [found["id"]]}}, "sort": "ID_DESC", "limit": 200}
    runs = [run for run in session.call("POST", "/flow_runs/filter", body) if not run["auto_scheduled"]]
    return str(max(runs, key=lambda run: run["created"])["id"])


def wait_for_end(session: Session, run: str) -> dict[str, Any]:
    """The run once it is over."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = session.call("GET", f"/flow_runs/{run}")
        return found if found["state_type"] in FINAL else None

    return wait_for(look, f"run {run} is over", PATIENCE)


def wait_for_log(session: Session, run: str, text: str) -> list[str]:
    """The messages of a run once one of them holds ``text``."""
    body = {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}

    def look() -> list[str] | None:
        messages = [log["message"] for log in session.call("POST", "/logs/filter", body)]
        return messages if any(text in message for message in messages) else None

    return wait_for(look, f"{text!r} is logged", PATIENCE)


def wait_for_task_runs(session: Session, run: str, count: int) -> list[dict[str, Any]]:
    """The task runs of a flow run once there are ``count`` and all of them are over."""
    body = {"flow_runs": {"id": {"any_": [run]}}, "limit": 200, "sort": "ID_DESC"}

    def look() -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = session.call("POST", "/task_runs/filter", body)
        over = [each for each in found if each["state_type"] in FINAL]
        return over if len(over) >= count else None

    return wait_for(look, f"{count} task runs of {run} are over", PATIENCE)
