"""Blocks and variables that a real worker fills in when it submits a run; nothing tells them (P10, D19)."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import Server
from tests.steps.keeping import Keeper

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.pools import WorkPoolCreate
from eparch.core.runs import DeploymentFlowRunCreate, FlowRun
from eparch.core.variables import VariableCreate
from eparch.workers.process import ProcessInfrastructure

FLOWS = """
import json, os
from eparch import flow

@flow
def look():
    kept = {name: os.environ.get(name) for name in ("OWN", "TEXT", "WORD", "FOLDER", "RUN")}
    with open(os.environ["SEEN"], "w") as file:
        json.dump({**kept, "here": os.path.basename(os.getcwd())}, file)
"""

EVERYTHING = [
    "/logs/filter", "/flow_runs/filter", "/deployments/filter", "/work_pools/filter", "/events/filter",
    "/block_documents/filter", "/flows/filter", "/artifacts/filter",
]  # fmt: skip


class Place:
    """A pool whose template refers to blocks, and runs on it."""

    def __init__(self, server: Server, folder: Path, client: Client) -> None:
        self.server, self.folder, self.client = server, folder, client
        self.keeper = Keeper(client)
        self.pool = self.keeper.name("pool")
        (folder / "code").mkdir()
        (folder / "code/flows.py").write_text(FLOWS)

    def make_pool(self, **defaults: Any) -> None:
        template: dict[str, Any] = json.loads(json.dumps(ProcessInfrastructure.base_job_template))
        for name, default in defaults.items():
            template["variables"]["properties"][name]["default"] = default
        body = WorkPoolCreate(name=self.pool, type="process", base_job_template=template)
        self.client.send(calls.create_work_pool(body=body))

    def run(self, steps: list[dict[str, Any]], deployed: dict[str, Any], own: dict[str, Any]) -> FlowRun:
        """A run that a worker took; the run after it."""
        flow = self.client.send(calls.create_flow(body=FlowCreate(name="look")))
        body = DeploymentCreate(
            name=self.pool, flow_id=flow.id, entrypoint="flows.py:look", work_pool_name=self.pool,
            pull_steps=steps, job_variables=deployed,
        )  # fmt: skip
        deployment = self.client.send(calls.create_deployment(body=body))
        ordered = DeploymentFlowRunCreate(job_variables=own)
        run = self.client.send(calls.create_deployment_flow_run(id=deployment.id, body=ordered))
        self.ran = run.id
        command = [sys.executable, "-m", "eparch", "worker", "start", "--pool", self.pool, "--run-once"]
        env = {**self.server.env, "EPARCH_HOME": str(self.folder / "home")}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90, check=False)
        self.printed = done.stdout + done.stderr
        return self.client.send(calls.read_flow_run(id=run.id))

    def told(self) -> str:
        """All that the server, its log, its database and the worker tell anybody."""
        parts = [self.printed, self.server.log(), self.get(f"/flow_run_states/?flow_run_id={self.ran}")]
        parts += [self.get(path, b"{}") for path in EVERYTHING]
        stored = [file.read_bytes().decode(errors="replace") for file in self.server.home.rglob("*.db*")]
        assert stored
        return "\n".join([*parts, *stored])

    def get(self, path: str, body: bytes | None = None) -> str:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.server.api_url + path, data=body, headers=headers)
        with urllib.request.urlopen(request) as answer:
            return str(answer.read().decode())


@pytest.fixture
def place(server: Server, tmp_path: Path) -> Iterator[Place]:
    with Client(server.api_url) as client:
        yield Place(server, tmp_path, client)


def test_p10_what_a_job_refers_to_is_read_at_submit_and_told_nowhere(place: Place) -> None:
    secrets = {name: f"s3cret-{name}-{uuid4().hex}" for name in ("own", "pool", "run", "pull")}
    keeper = place.keeper
    for name in ("own", "run", "pull"):
        keeper.keep("secret", name, value=secrets[name])
    env = keeper.keep("secret", "pool", value={"TEXT": secrets["pool"]})
    code = keeper.keep("local-file-system", "code", basepath=str(place.folder / "code"))
    place.client.send(calls.create_variable(body=VariableCreate(name=keeper.name("word"), value="hello")))
    names = {name: f"{{{{ prefect.blocks.secret.{keeper.name(name)} }}}}" for name in secrets}
    place.make_pool(
        env={"TEXT": names["pool"].replace(" }}", ".TEXT }}"), "FOLDER": "x"},
        labels={"$ref": {"block_document_id": str(code.id)}},
    )
    steps = [
        {"prefect.deployments.steps.run_shell_script": {"script": f"echo pulled with {names['pull']}"}},
        {
            "prefect.deployments.steps.pull_with_block": {
                "block_type_slug": "local-file-system",
                "block_document_name": keeper.name("code"),
            }
        },
    ]
    seen = place.folder / "seen.json"
    word = f"{{{{ prefect.variables.{keeper.name('word')} }}}}"
    run = place.run(
        steps,
        {"env": {"OWN": names["own"], "WORD": f"{word} there", "SEEN": str(seen)},
         "working_dir": str(place.folder)},
        {"env": {"RUN": f"key={names['run']}"}},
    )  # fmt: skip
    assert run.state is not None
    assert run.state.is_completed(), place.printed
    found = json.loads(seen.read_text())
    assert found == {
        "OWN": secrets["own"],
        "TEXT": secrets["pool"],
        "WORD": "hello there",
        "FOLDER": "x",
        "RUN": f"key={secrets['run']}",
        "here": f"local-file-system-{keeper.name('code')}",
    }
    assert env.data == {"value": "********"}
    told = place.told()
    assert "pulled with ********" in told
    for secret in secrets.values():
        assert secret not in told


@pytest.mark.parametrize("where", ["job", "reference", "pull"])
def test_p10_a_block_that_is_not_there_is_said_by_the_state(place: Place, where: str) -> None:
    place.keeper.keep("secret", "api-token", value="x")
    wanted = place.keeper.name("api-tokne")
    unknown = str(uuid4())
    text = f"{{{{ prefect.blocks.secret.{wanted} }}}}"
    place.make_pool()
    steps = [{"prefect.deployments.steps.run_shell_script": {"script": text}}] if where == "pull" else []
    value = {"job": text, "reference": {"$ref": {"block_document_id": unknown}}, "pull": "x"}[where]
    run = place.run(steps, {"env": {"A": value}}, {})
    assert run.state is not None
    message = str(run.state.message)
    if where == "pull":
        assert run.state.is_failed()
    else:
        assert run.state.is_crashed()
        assert "env.A" in message
    assert (unknown if where == "reference" else f"secret/{wanted}") in message
    if where != "reference":
        lines = place.client.send(calls.read_logs(body={"logs": {"flow_run_id": {"any_": [str(run.id)]}}}))
        hint = f"Did you mean 'secret/{place.keeper.name('api-token')}'?"
        assert hint in message + "".join(line.message for line in lines)


def test_p10_a_job_that_cannot_start_tells_no_secret(place: Place) -> None:
    secret = f"/s3cret-{uuid4().hex}"
    place.keeper.keep("secret", "folder", value=secret)
    place.make_pool()
    text = f"{{{{ prefect.blocks.secret.{place.keeper.name('folder')} }}}}"
    run = place.run([], {"working_dir": text}, {})
    assert run.state is not None
    assert run.state.is_crashed()
    assert "********" in str(run.state.message)
    assert secret not in place.told()
