"""Prefect's own commands for pools, queues, deployments, schedules and runs, and ``serve``, on our server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.targets import Session, wait_for
from tests.interop.watching import latest_run, wait_for_end, wait_for_log, wait_for_task_runs

SERVED = """
import time
from prefect import flow, task

@task
def look(number):
    return number

@flow(log_prints=True)
def patient(seconds: float = 0.0):
    print(f"waiting for {seconds} seconds")
    look(1)
    time.sleep(seconds)
"""


def pool_of(server: Session, name: str) -> Any:
    return server.call("GET", f"/work_pools/{name}")


def test_its_commands_for_work_pools(server: Session, stock: Session, tmp_path: Path) -> None:
    template = tmp_path / "template.json"
    shown = stock.run(
        "work-pool", "get-default-base-job-template", "--type", "process", "--file", str(template)
    )
    assert "process" in shown.stdout + shown.stderr or template.exists()
    body = json.loads(template.read_text())
    body["variables"]["properties"]["stream_output"]["default"] = False
    template.write_text(json.dumps(body))

    stock.run(
        "work-pool",
        "create",
        "commands",
        "--type",
        "process",
        "--base-job-template",
        str(template),
        "--paused",
    )
    assert pool_of(server, "commands")["base_job_template"] == body
    assert pool_of(server, "commands")["is_paused"] is True
    stock.run("work-pool", "resume", "commands")
    stock.run("work-pool", "set-concurrency-limit", "commands", "3")
    stock.run("work-pool", "update", "commands", "--description", "for commands")
    changed = pool_of(server, "commands")
    assert (changed["is_paused"], changed["concurrency_limit"]) == (False, 3)
    assert changed["description"] == "for commands"
    assert (
        json.loads(stock.run("work-pool", "inspect", "commands", "-o", "json").stdout)["id"] == changed["id"]
    )
    assert "commands" in stock.run("work-pool", "ls").stdout
    stock.run("work-pool", "slots", "commands")
    stock.run("work-pool", "preview", "commands")
    stock.run("work-pool", "pause", "commands")
    stock.run("work-pool", "clear-concurrency-limit", "commands")
    changed = pool_of(server, "commands")
    assert (changed["is_paused"], changed["concurrency_limit"]) == (True, None)

    of_pool = ("--pool", "commands")
    stock.run("work-queue", "create", "urgent", *of_pool, "--limit", "2", "--priority", "1")
    stock.run("work-queue", "set-concurrency-limit", "urgent", "5", *of_pool)
    stock.run("work-queue", "pause", "urgent", *of_pool)
    queue = server.call("GET", "/work_pools/commands/queues/urgent")
    assert (queue["concurrency_limit"], queue["priority"], queue["is_paused"]) == (5, 1, True)
    assert "urgent" in stock.run("work-queue", "ls", *of_pool).stdout
    assert queue["id"] in stock.run("work-queue", "inspect", "urgent", *of_pool).stdout
    stock.run("work-queue", "slots", "urgent", *of_pool)
    stock.run("work-queue", "resume", "urgent", *of_pool)
    stock.run("work-queue", "clear-concurrency-limit", "urgent", *of_pool)
    stock.run("work-queue", "preview", "urgent", *of_pool)
    stock.run("work-queue", "read-runs", "urgent", *of_pool)
    queue = server.call("GET", "/work_pools/commands/queues/urgent")
    assert (queue["concurrency_limit"], queue["is_paused"]) == (None, False)
    stock.run("--no-prompt", "work-queue", "delete", "urgent", *of_pool)
    left = server.call("POST", "/work_pools/commands/queues/filter", {})
    assert [each["name"] for each in left] == ["default"]
    stock.run("--no-prompt", "work-pool", "delete", "commands")
    assert "commands" not in {each["name"] for each in server.call("POST", "/work_pools/filter", {})}


def test_its_commands_for_deployments_schedules_and_runs(
    server: Session, stock: Session, project: Path
) -> None:
    pool = "test-its-commands-for-deployments-schedules-and-runs"
    stock.run("work-pool", "create", pool, "--type", "process")
    stock.run("--no-prompt", "deploy", "--name", "small", cwd=project)
    name = "pipeline/small"

    def schedules() -> list[Any]:
        return list(server.call("GET", f"/deployments/name/{name}")["schedules"])

    def identified(cron: str) -> str:
        return next(str(each["id"]) for each in schedules() if each["schedule"].get("cron") == cron)

    stock.run("deployment", "schedule", "create", name, "--cron", "5 4 * * *", "--timezone", "Europe/Berlin")
    stock.run("deployment", "schedule", "create", name, "--interval", "3600", "--no-active")
    stock.run("deployment", "schedule", "create", name, "--rrule", "FREQ=HOURLY;COUNT=3")
    assert {each["active"] for each in schedules()} == {True, False}
    listed = stock.run("deployment", "schedule", "ls", name).stdout
    assert identified("5 4 * * *")[:8] in listed
    stock.run("deployment", "schedule", "pause", name, identified("5 4 * * *"))
    assert [e["active"] for e in schedules() if e["schedule"].get("cron") == "5 4 * * *"] == [False]
    stock.run("deployment", "schedule", "resume", name, identified("5 4 * * *"))
    before = len(schedules())
    stock.run("deployment", "schedule", "delete", "-y", name, identified("5 4 * * *"))
    assert len(schedules()) == before - 1
    stock.run("deployment", "schedule", "clear", "-y", name)
    assert schedules() == []
    assert name in stock.run("deployment", "ls").stdout
    assert "small" in stock.run("deployment", "inspect", name).stdout

    stock.run("deployment", "run", name, "--start-in", "1 hour", "--tag", "later")
    run = latest_run(server, name)
    assert server.call("GET", f"/flow_runs/{run}")["tags"].count("later") == 1
    shown = stock.run("flow-run", "ls", "--state-type", "SCHEDULED").stdout
    assert server.call("GET", f"/flow_runs/{run}")["name"] in shown
    stock.run("flow-run", "cancel", run)
    assert server.call("GET", f"/flow_runs/{run}")["state_type"] in ("CANCELLED", "CANCELLING")
    stock.run("flow-run", "retry", run, check=False)
    stock.run("--no-prompt", "flow-run", "delete", run)
    assert server.call("POST", "/flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}}) == []
    assert "pipeline" in stock.run("flow", "ls").stdout
    stock.run("--no-prompt", "deployment", "delete", name)
    assert server.call("POST", "/deployments/filter", {"deployments": {"name": {"any_": ["small"]}}}) == []


def test_it_serves_runs_and_cancels_them(server: Session, stock: Session, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(SERVED)
    with stock.spawn("flow", "serve", "served.py:patient", "--name", "served", cwd=tmp_path):
        wait_for(lambda: is_served(server), "the deployment is there", 60)
        stock.run("deployment", "run", "patient/served")
        done = latest_run(server, "patient/served")
        stock.run("flow-run", "watch", done, timeout=120)
        assert wait_for_end(server, done)["state_type"] == "COMPLETED"
        wait_for_log(server, done, "waiting for 0.0 seconds")
        (task,) = wait_for_task_runs(server, done, 1)
        assert task["id"] in stock.run("task-run", "inspect", task["id"]).stdout
        assert task["name"][:4] in stock.run("task-run", "ls").stdout
        stock.run("task-run", "logs", task["id"])

        stock.run("deployment", "run", "patient/served", "--param", "seconds=600")
        endless = latest_run(server, "patient/served")
        wait_for(
            lambda: server.call("GET", f"/flow_runs/{endless}")["state_type"] == "RUNNING", "it runs", 60
        )
        stock.run("flow-run", "cancel", endless)
        assert wait_for_end(server, endless)["state_type"] == "CANCELLED"
        log = stock.home / "flow-serve.log"
        # Its process still runs the hooks of the run; a signal in between makes it forget the rest.
        wait_for(lambda: "Cancelled flow run" in log.read_text(), "its process is done with the run", 60)
    wait_for(lambda: server.call("GET", "/deployments/name/patient/served")["paused"], "it is paused", 30)


def is_served(server: Session) -> bool:
    found = server.call("POST", "/deployments/filter", {"deployments": {"name": {"any_": ["served"]}}})
    return bool(found)
