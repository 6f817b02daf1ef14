"""Prefect's own command line, worker and SDK, unmodified, against our server."""

from __future__ import annotations

import json
from pathlib import Path

from bench.targets import Session
from tests.interop.projects import AD_HOC
from tests.interop.watching import latest_run, wait_for_end, wait_for_log, wait_for_task_runs


def test_its_cli_and_worker_run_a_deployment(server: Session, stock: Session, project: Path) -> None:
    pool = "test-its-cli-and-worker-run-a-deployment"

    stock.run("work-pool", "create", pool, "--type", "process")
    made = server.call("GET", f"/work_pools/{pool}")
    assert (made["type"], made["is_paused"]) == ("process", False)
    assert "command" in made["base_job_template"]["variables"]["properties"]

    stock.run("--no-prompt", "deploy", "--all", cwd=project)
    small = server.call("GET", "/deployments/name/pipeline/small")
    large = server.call("GET", "/deployments/name/pipeline/large")
    assert (small["description"], small["tags"], small["work_pool_name"]) == (
        "two numbers",
        ["interop"],
        pool,
    )
    assert large["parameters"] == {"count": 5, "word": "five squares"}
    assert large["job_variables"] == {"env": {"INTEROP": "1"}}
    assert [(each["schedule"]["cron"], each["active"]) for each in large["schedules"]] == [
        ("0 4 * * *", False)
    ]
    assert large["parameter_openapi_schema"]["properties"]["count"]["default"] == 2

    stock.run("deployment", "run", "pipeline/large", "--param", "count=4")
    run = latest_run(server, "pipeline/large")
    stock.run("worker", "start", "--pool", pool, "--run-once", timeout=180)

    ended = wait_for_end(server, run)
    assert ended["state_type"] == "COMPLETED", ended["state"]
    assert ended["parameters"] == {"count": 4, "word": "five squares"}
    wait_for_log(server, run, "five squares add up to 14")
    tasks = wait_for_task_runs(server, run, 4)
    assert {task["state_name"] for task in tasks} == {"Completed"}

    assert ended["name"] in stock.run("flow-run", "ls").stdout
    assert "five squares add up to 14" in stock.run("flow-run", "logs", run).stdout
    assert json.loads(stock.run("flow-run", "inspect", run, "-o", "json").stdout)["id"] == run


def test_deploying_again_changes_nothing(server: Session, stock: Session, project: Path) -> None:
    stock.run("work-pool", "create", "test-deploying-again-changes-nothing", "--type", "process")
    ids = []
    for _ in range(2):
        stock.run("--no-prompt", "deploy", "--all", cwd=project)
        ids.append(
            [server.call("GET", f"/deployments/name/pipeline/{name}")["id"] for name in ("small", "large")]
        )
    assert ids[0] == ids[1]


def test_its_sdk_runs_an_ad_hoc_flow_with_tasks_a_retry_and_a_subflow(
    server: Session, stock: Session
) -> None:
    stock.run_python(AD_HOC)
    flows = {"flows": {"name": {"any_": ["adhoc"]}}}
    (run,) = server.call("POST", "/flow_runs/filter", flows)
    assert run["state_type"] == "COMPLETED"
    wait_for_log(server, run["id"], "the total is 186")

    tasks = wait_for_task_runs(server, run["id"], 20)
    (flaky,) = [task for task in tasks if task["name"].startswith("flaky")]
    assert (flaky["state_type"], flaky["run_count"]) == ("COMPLETED", 2)
    assert len([task for task in tasks if task["name"].startswith("double")]) == 18

    (child,) = server.call("POST", "/flow_runs/filter", {"flows": {"name": {"any_": ["child"]}}})
    assert child["state_type"] == "COMPLETED"
    assert child["parent_task_run_id"] in {task["id"] for task in tasks}
    wait_for_task_runs(server, child["id"], 1)
