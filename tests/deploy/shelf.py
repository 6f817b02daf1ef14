"""A project on disk, and a server in memory that it is deployed to."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from eparch import settings
from eparch.core import calls
from eparch.core.automations import Automation, AutomationUpdate
from eparch.core.calls import Call
from eparch.core.deployments import Deployment, DeploymentCreate, DeploymentSchedule, Flow
from eparch.core.errors import (
    EparchError,
    NotFound,
    SourceError,
    SourceErrors,
)
from eparch.core.model import new_id
from eparch.core.pools import Worker, WorkerStatus, WorkPool
from eparch.core.variables import Variable
from eparch.deploy.apply import deploy
from eparch.deploy.request import DeployRequest, DeployResult

TEMPLATE: dict[str, Any] = {
    "variables": {
        "type": "object",
        "properties": {
            "env": {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
            "image": {"type": "string"},
            "memory": {"type": "integer"},
        },
    },
    "job_configuration": {"env": "{{ env }}", "image": "{{ image }}", "memory": "{{ memory }}"},
}
FLOWS = '''
from prefect import flow
from somewhere_not_installed import anything

@flow(name="daily-report")
def report(day: str = "today", pages: int = 1):
    """Reports on a day."""

@flow
def clean():
    pass
'''


class Shelf:
    """A server in memory: flows, deployments, pools and workers, and every call in order."""

    def __init__(self) -> None:
        self.flows: dict[str, Flow] = {}
        self.deployments: dict[tuple[UUID, str], Deployment] = {}
        self.pools: dict[str, WorkPool] = {}
        self.workers: list[Worker] = []
        self.calls: list[str] = []
        self.refused: dict[str, EparchError] = {}
        self.variables: dict[str, Any] = {}
        self.automations: list[tuple[str | None, Automation]] = []
        self.add_pool("local")

    def add_pool(self, name: str, type: str = "process", **fields: Any) -> None:
        given = {"base_job_template": TEMPLATE, **fields}
        self.pools[name] = WorkPool(id=new_id(), name=name, type=type, **given)

    def send(self, call: Call[Any]) -> Any:
        self.calls.append(f"{call.method} {call.path}")
        if call.endpoint is calls.read_server:
            raise NotFound("Not Found")  # as a stock server says
        if call.endpoint is calls.create_flow:
            flow = Flow(id=new_id(), name=call.body.name)
            return self.flows.setdefault(flow.name, flow)
        if call.endpoint is calls.create_deployment:
            return self.create(call.body)
        if call.endpoint is calls.read_variable_by_name:
            name = call.path.rpartition("/")[2]
            if name not in self.variables:
                raise NotFound("Variable not found.")
            return Variable(id=new_id(), name=name, value=self.variables[name])
        if call.endpoint is calls.read_variables:
            return [Variable(id=new_id(), name=name, value=None) for name in self.variables]
        if call.endpoint is calls.read_related_automations:
            owner = call.path.rpartition("/")[2]
            return [one for known, one in self.automations if known == owner]
        if call.endpoint is calls.create_automation:
            fields = {name: getattr(call.body, name) for name in AutomationUpdate.__struct_fields__}
            made = Automation(id=new_id(), **fields)
            self.automations.append((call.body.owner_resource, made))
            return made
        if call.endpoint is calls.delete_owned_automations:
            owner = call.path.rpartition("/")[2]
            self.automations = [(known, one) for known, one in self.automations if known != owner]
            return None
        if call.endpoint is calls.read_workers:
            return [one for one in self.workers if one.status is WorkerStatus.ONLINE]
        return self.filter(call.endpoint, call.body)

    def create(self, body: DeploymentCreate) -> Deployment:
        if body.name in self.refused:
            raise self.refused[body.name]
        old = self.deployments.get((body.flow_id, body.name))
        fields = {
            name: getattr(body, name)
            for name in body.__struct_fields__
            if name not in ("schedules", "global_concurrency_limit_id", "version_info", "labels")
        }
        schedules = [
            DeploymentSchedule(id=new_id(), schedule=s.schedule, active=s.active, slug=s.slug)
            for s in body.schedules
        ]
        made = Deployment(**{**fields, "id": old.id if old else new_id(), "schedules": schedules})
        self.deployments[body.flow_id, body.name] = made
        return made

    def filter(self, endpoint: Any, body: dict[str, Any]) -> list[Any]:
        if endpoint is calls.read_work_pools:
            wanted = body.get("work_pools", {}).get("name", {}).get("any_", list(self.pools))
            return [pool for name, pool in self.pools.items() if name in wanted]
        if endpoint is calls.read_flows:
            return [flow for name, flow in self.flows.items() if name in body["flows"]["name"]["any_"]]
        assert endpoint is calls.read_deployments
        flows, names = body["flows"]["id"]["any_"], body["deployments"]["name"]["any_"]
        return [one for (f, name), one in self.deployments.items() if str(f) in flows and name in names]

    def named(self, name: str) -> Deployment:
        [found] = [one for (_, known), one in self.deployments.items() if known == name]
        return found


class Folder:
    """A project on disk and the server that it is deployed to."""

    def __init__(self, path: Path) -> None:
        self.path, self.server, self.told = path, Shelf(), list[str]()
        self.write("flows.py", FLOWS)
        self.settings = settings.load({"EPARCH_HOME": str(path / "home")}, path)

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def deploy(self, text: str | None = None, **request: Any) -> DeployResult:
        if text is not None:
            self.write("prefect.yaml", text)
        return deploy(DeployRequest(**request), self.server, self.settings, self.told.append, root=self.path)

    def errors(self, text: str, **request: Any) -> list[SourceError]:
        with pytest.raises(SourceErrors) as caught:
            self.deploy(text, **request)
        assert not [call for call in self.server.calls if call in ("POST /flows/", "POST /deployments/")]
        return list(caught.value.errors)


TWO = """
deployments:
  - name: nightly
    entrypoint: flows.py:report
    parameters: {pages: 2}
    schedules: [{cron: "0 3 * * *"}]
    work_pool:
      name: local
      job_variables: {env: {A: "1"}, memory: 5}
  - name: tidy
    entrypoint: flows.py:clean
    work_pool: {name: local}
"""


def labels(result: DeployResult) -> list[str]:
    return [one.name for one in result.deployments]
