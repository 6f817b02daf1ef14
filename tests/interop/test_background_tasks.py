"""Prefect's own client and task worker, unmodified: background tasks on our server (row B10, wire 4.3)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.targets import Session, stop, wait_for

JOBS = """
from prefect import flow, task


@task
def double(number: int) -> int:
    return 2 * number


@task(retries=1, retry_delay_seconds=0.1)
def fails() -> None:
    raise ValueError("on purpose")


@flow
def outer() -> int:
    return double.delay(50).result()


if __name__ == "__main__":
    futures = [double.delay(number) for number in range(10)]
    assert [future.result() for future in futures] == [2 * number for number in range(10)]
    failed = fails.delay()
    failed.wait(timeout=60)
    assert failed.state.is_failed(), failed.state
    assert outer() == 100
    print("all of it")
"""


def test_its_task_worker_runs_what_its_client_delays(server: Session, stock: Session, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.py"
    jobs.write_text(JOBS)
    with (tmp_path / "worker.log").open("wb") as log:
        command = stock.target.command("task", "serve", f"{jobs}:double", f"{jobs}:fails")
        worker = subprocess.Popen(
            command, cwd=tmp_path, env=stock.environment(), stdout=log, stderr=log, start_new_session=True
        )
    try:
        listed = wait_for(lambda: server.call("POST", "/task_workers/filter", {}), "a task worker is listed")
        assert len(listed[0]["task_keys"]) == 2
        told = subprocess.run(
            [str(stock.target.python), str(jobs)],
            cwd=tmp_path,
            env=stock.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "all of it" in told.stdout, told.stderr + (tmp_path / "worker.log").read_text()
    finally:
        stop(worker)
    runs = server.call("POST", "/task_runs/filter", {})
    ended = [run for run in runs if run["task_key"].startswith("double-")]
    assert [run["state_type"] for run in ended] == ["COMPLETED"] * 11
    assert sum(run["flow_run_id"] is not None for run in ended) == 1
    wait_for(lambda: not server.call("POST", "/task_workers/filter", {}), "the task worker is forgotten")
