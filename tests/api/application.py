"""A real application in this process, on each kind of database, and something in it to ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from eparch import settings
from eparch.api.app import App, create_app
from eparch.core import calls
from eparch.core.model import encode

from .calling import Response, call_in_loop

TEMPLATE = {
    "job_configuration": {"command": "{{ command }}"},
    "variables": {"type": "object", "properties": {"command": {"type": "string"}}},
}
OWN_TYPE = {
    "type": "own",
    "package": "others",
    "default_base_job_configuration": {"job_configuration": {}, "variables": {}},
}


class Client:
    """Calls an app on the loop that it was started on."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.runner = asyncio.Runner()
        self.runner.run(app.start())

    def __call__(
        self, call: calls.Call[Any], status: int | None = None, *, headers: dict[str, str] | None = None
    ) -> Any:
        """The answer, which has to have ``status`` (the endpoint's unless given) and the declared shape."""
        body = encode(call.body) if call.body is not None else None
        response = self.send(call.method, call.path, body, headers)
        expected = call.endpoint.status if status is None else status
        assert response.status == expected, response.body
        if response.status == 204:
            assert response.body == b""
            return None
        value = response.json()
        if response.status < 300:
            msgspec.convert(value, Any if call.answer is None else call.answer)
        return value

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Response:
        """One request, whatever the answer; ``path`` is below the base path."""
        return self.runner.run(call_in_loop(self.app, method, f"/api{path}", body, headers))

    def close(self) -> None:
        """Stop the app."""
        self.runner.run(self.app.stop())
        self.runner.close()


def start(home: Path, database_url: str) -> Client:
    """The app of a server without background services, with its home in ``home``."""
    loaded = settings.load(
        {"EPARCH_HOME": str(home), "EPARCH_DATABASE_URL": database_url, "EPARCH_SERVICES_ENABLED": "false"},
        home,
    )
    return Client(create_app(loaded, worker_types=lambda: [OWN_TYPE]))


DATABASES = ("sqlite", "postgresql")


@contextmanager
def started(request: pytest.FixtureRequest, home: Path) -> Iterator[Client]:
    """An app on the database that the fixture's parameter names."""
    url, server = "sqlite://", None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres_server")
        url = server.create(request.getfixturevalue("postgres_template"))
    client = start(home, url)
    try:
        yield client
    finally:
        client.close()
        if server is not None:
            server.drop(url)


def seed(ask: Client) -> dict[str, list[str]]:
    """Make one of everything, runs in every state; ids (and names, of pool and flow) by kind."""
    mark = uuid4().hex[:8]
    pool_name = f"pool-{mark}"
    flow = ask(calls.create_flow(body={"name": f"flow-{mark}", "tags": ["a"], "labels": {"x": 1}}))
    pool = ask(
        calls.create_work_pool(body={"name": pool_name, "type": "process", "base_job_template": TEMPLATE})
    )
    queue = ask(calls.create_work_queue(work_pool_name=pool_name, body={"name": "fast", "priority": 1}))
    ask(calls.heartbeat_worker(work_pool_name=pool_name, body={"name": "worker"}))
    deployment = ask(
        calls.create_deployment(
            body={
                "name": "deployment",
                "flow_id": flow["id"],
                "work_pool_name": pool_name,
                "tags": ["a"],
                "concurrency_limit": 2,
                "schedules": [{"schedule": {"cron": "0 0 * * *"}}, {"schedule": {"interval": 60}}],
            }
        )
    )
    planned = [ask(calls.create_deployment_flow_run(id=deployment["id"], body={}))["id"] for _ in range(4)]
    runs = [*planned, *_runs_in_every_state(ask, flow["id"])]
    claim = {"claim_id": str(uuid4()), "worker_name": "worker"}
    ask(calls.claim_runs(name=pool_name, body=claim))
    tasks = []
    for number, run in enumerate(runs):
        body = {"flow_run_id": run, "task_key": "t", "dynamic_key": str(number), "tags": ["a"]}
        tasks.append(ask(calls.create_task_run(body=body))["id"])
    running = len(planned) + 2
    ask(calls.set_task_run_state(id=tasks[running], body={"state": {"type": "RUNNING"}}))
    child = {"flow_id": flow["id"], "parent_task_run_id": tasks[running], "state": {"type": "RUNNING"}}
    runs.append(ask(calls.create_flow_run(body=child))["id"])
    line = {"name": "l", "level": 20, "message": "m", "timestamp": "2026-11-22T12:00:00Z"}
    ask(calls.create_logs(body=[{**line, "flow_run_id": run, "task_run_id": tasks[0]} for run in runs]))
    artifact = ask(calls.create_artifact(body={"key": "k", "data": {"x": 1}, "flow_run_id": runs[0]}))
    ask(calls.create_events(body=[_event(UUID(run)) for run in runs]))
    variable = ask(calls.create_variable(body={"name": f"variable-{mark}", "value": [1], "tags": ["a"]}))
    condition = {"object": "flow_run", "property": "name", "type": "string", "operation": "=", "value": 1}
    search = ask(calls.save_search(body={"name": f"search-{mark}", "filters": [condition]}), 201)
    block = _block(ask, mark)
    trigger = {"type": "event", "posture": "Reactive", "expect": ["never"], "threshold": 1, "within": 0}
    made = {"name": f"automation-{mark}", "trigger": trigger, "actions": [{"type": "do-nothing"}]}
    automation = ask(calls.create_automation(body={**made, "tags": ["a"]}))
    ask(calls.create_flow_run_input(id=runs[0], body={"key": "key", "value": "1"}))
    states = ask(calls.read_flow_run_states(flow_run_id=runs[-1]))
    return {
        "flow_name": [flow["name"]],
        "pool_name": [pool_name],
        "flow": [flow["id"]],
        "flow_run": runs,
        "task_run": tasks,
        "deployment": [deployment["id"]],
        "schedule": [s["id"] for s in deployment["schedules"]],
        "work_queue": [queue["id"], pool["default_queue_id"]],
        "work_pool": [pool["id"]],
        "artifact": [artifact["id"]],
        "claim": [claim["claim_id"]],
        "variable": [variable["id"]],
        "variable_name": [variable["name"]],
        "saved_searche": [search["id"]],
        "block_type": [block["block_type_id"]],
        "block_schema": [block["block_schema_id"]],
        "block_document": [block["id"]],
        "slug": [block["block_type"]["slug"]],
        "block_document_name": [block["name"]],
        "automation": [automation["id"]],
        "flow_run_state": [state["id"] for state in states],
    }


def _block(ask: Client, mark: str) -> Any:
    """A document of a type of its own."""
    type_ = ask(calls.create_block_type(body={"name": f"Type {mark}", "slug": f"type-{mark}"}))
    fields = {"properties": {"key": {"type": "string"}}, "secret_fields": ["key"]}
    schema = ask(
        calls.create_block_schema(
            body={"block_type_id": type_["id"], "fields": fields, "capabilities": ["write-path"]}
        )
    )
    ids = {"block_type_id": type_["id"], "block_schema_id": schema["id"]}
    return ask(calls.create_block_document(body={"name": f"one-{mark}", "data": {"key": "k"}, **ids}))


def _runs_in_every_state(ask: Client, flow_id: str) -> list[str]:
    made = []
    for path in (
        ["SCHEDULED"],
        ["PENDING"],
        ["RUNNING"],
        ["RUNNING", "PAUSED"],
        ["RUNNING", "CANCELLING"],
        ["RUNNING", "COMPLETED"],
        ["RUNNING", "FAILED"],
        ["RUNNING", "CRASHED"],
        ["CANCELLED"],
    ):
        run = ask(calls.create_flow_run(body={"flow_id": flow_id, "state": {"type": path[0]}, "tags": ["a"]}))
        for type_ in path[1:]:
            answer = ask(calls.set_flow_run_state(id=run["id"], body={"state": {"type": type_}}))
            assert answer["status"] == "ACCEPT", answer
        made.append(run["id"])
    return made


def _event(run_id: UUID) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "occurred": "2026-11-22T12:00:00Z",
        "event": "test.happened",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run_id}"},
    }
