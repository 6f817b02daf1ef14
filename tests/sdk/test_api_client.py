"""`get_client`: calls as code for Prefect makes them, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eparch.client.http import connect
from eparch.core import calls
from eparch.core.deployments import DeploymentCreate
from eparch.core.errors import NotFound, Usage
from eparch.core.states import Cancelled, Completed, Scheduled
from eparch.core.variables import VariableCreate
from eparch.sdk import filter_values as f
from eparch.sdk import session as sessions
from eparch.sdk.api_client import get_client
from eparch.sdk.session import Session
from eparch.settings import load


@pytest.fixture
def name(server: Any, tmp_path: Path) -> Iterator[str]:
    before = sessions._current
    settings = load({**server.env, "EPARCH_HOME": str(tmp_path)}, tmp_path)
    session = sessions.use(Session(settings, connect(settings)))
    flow_id = session.flow_id("etl")
    body = DeploymentCreate(name=tmp_path.name, flow_id=flow_id, entrypoint="a.py:etl")
    session.client.send(calls.create_deployment(body=body))
    yield f"etl/{tmp_path.name}"
    sessions.leave()
    if before is not None:
        sessions.use(before)


def test_the_usual_calls(name: str) -> None:
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(name)
        assert client.read_deployment(deployment_id=deployment.id).name == deployment.name
        run = client.create_flow_run_from_deployment(
            deployment.id, parameters={"a": 1}, state=Scheduled(), tags={"x"}, name="mine"
        )
        assert (run.name, run.parameters, run.tags) == ("mine", {"a": 1}, ["x"])
        wanted = f.FlowRunFilter(
            deployment_id=f.FlowRunFilterDeploymentId(any_=[deployment.id]),
            state=f.FlowRunFilterState(type=f.FlowRunFilterStateType(any_=["SCHEDULED"])),
            name=None,
        )
        found = client.read_flow_runs(flow_run_filter=wanted, sort=f.FlowRunSort.START_TIME_DESC, limit=5)
        assert [one.id for one in found] == [run.id]
        named = f.DeploymentFilter(id=f.DeploymentFilterId(any_=[deployment.id]))
        assert client.count_flow_runs(deployment_filter=named) == 1
        client.set_flow_run_name(run.id, "other")
        client.update_flow_run(flow_run_id=run.id, tags=["y"])
        assert client.set_flow_run_state(run.id, Cancelled(message="enough"), force=True).status == "ACCEPT"
        read = client.read_flow_run(run.id)
        assert (read.name, read.tags, read.state.message) == ("other", ["y"], "enough")
        assert [state.name for state in client.read_flow_run_states(run.id)] == ["Scheduled", "Cancelled"]
        assert client.read_logs(f.LogFilter(flow_run_id=f.LogFilterFlowRunId(any_=[run.id]))) == []
        assert client.read_logs(log_filter=None, limit=1, offset=0) is not None
        assert client.read_flow_by_name("etl").id == client.read_flow(read.flow_id).id
        client.delete_flow_run(run.id)
        with pytest.raises(NotFound):
            client.read_flow_run(run.id)
        client.create_variable(variable=VariableCreate(name="color", value="red"))
        assert client.read_variable_by_name("color").value == "red"
        client.delete_variable_by_name("color")
        assert client.read_variable_by_name("color") is None
        assert client.hello()


def test_async_calls_and_what_does_not_fit(name: str) -> None:
    async def main() -> Any:
        async with get_client() as client:
            deployment = await client.read_deployment_by_name(name=name)
            made = [client.create_flow_run_from_deployment(deployment_id=deployment.id) for _ in range(3)]
            runs = await asyncio.gather(*made)
            answer = await client.set_flow_run_state(flow_run_id=runs[0].id, state=Completed(), force=True)
            return answer.state.name, len({run.id for run in runs})

    assert asyncio.run(main()) == ("Completed", 3)
    client = get_client(sync_client=True)
    with pytest.raises(AttributeError, match="read_flow_run"):
        client.read_flow_rum()
    for wrong in (lambda: client.read_flow_run(), lambda: client.read_flow_run("a", "b")):
        with pytest.raises(TypeError):
            wrong()
    for wrong in (
        lambda: client.read_deployment_by_name("no-slash"),
        lambda: client.update_flow_run("a", nmae="x", tags=[]),
    ):
        with pytest.raises(Usage):
            wrong()
