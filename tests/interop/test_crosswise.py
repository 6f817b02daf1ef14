"""What one product's command line deploys, the other's worker runs."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from bench.targets import Session
from tests.interop.watching import latest_run, wait_for_end, wait_for_log, wait_for_task_runs


@pytest.mark.parametrize(
    ("deployer", "runner"), [("stock", "ours"), ("ours", "stock")], ids=["our worker", "their worker"]
)
def test_worker_runs_what_the_other_deployed(
    server: Session, deployer: str, runner: str, project: Path, request: pytest.FixtureRequest
) -> None:
    deploying: Session = request.getfixturevalue(deployer)
    running: Session = request.getfixturevalue(runner)
    pool = f"{deployer}-to-{runner}"
    file = project / "prefect.yaml"
    file.write_text(file.read_text().replace(request.node.name.replace("_", "-"), pool))

    deploying.run("work-pool", "create", pool, "--type", "process")
    deploying.run("deploy", "--all", cwd=project)
    with running.spawn("worker", "start", "--pool", pool, "--name", runner):
        deploying.run("deployment", "run", "pipeline/large")
        run = latest_run(server, "pipeline/large")
        ended = wait_for_end(server, run)
        assert ended["state_type"] == "COMPLETED", ended["state"]
        wait_for_log(server, run, "five squares add up to 30")
        assert len(wait_for_task_runs(server, run, 5)) == 5


def test_w15_our_worker_runs_a_job_with_their_package_inside(
    server: Session, stock: Session, ours: Session, project: Path
) -> None:
    """As in an image made for Prefect's worker: the job shows a claim that its client knows nothing of."""
    pool = "their-package"
    ours.run("work-pool", "create", pool, "--type", "process")
    execute = shlex.join(stock.target.command("flow-run", "execute"))
    ours.run(
        "deploy", "flows.py:pipeline", "-n", "theirs", "-p", pool, "--no-prompt",
        "--job-variable", f"command=/bin/sh -c {shlex.quote(execute)}", cwd=project,
    )  # fmt: skip
    ours.run("deployment", "run", "pipeline/theirs")
    ours.run("worker", "start", "--pool", pool, "--run-once")
    run = latest_run(server, "pipeline/theirs")
    ended = wait_for_end(server, run)
    assert ended["state_type"] == "COMPLETED", ended["state"]
    wait_for_log(server, run, "squares add up to 1")
    assert len(wait_for_task_runs(server, run, 2)) == 2
