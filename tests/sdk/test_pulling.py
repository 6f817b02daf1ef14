"""From a storage block's document to a flow that ran with the code it keeps (row D20), on a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tests.conftest import Server
from tests.steps.keeping import Keeper
from tests.steps.repositories import Origin, serve

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.runs import DeploymentFlowRunCreate
from eparch.core.states import StateType

FLOW = "from prefect import flow\n\n@flow\ndef pulled():\n    pass\n"
TOKEN = "t0ken-of-mine"
SECRET = "s3cret-of-mine"


class Desk:
    """Deploys what a block keeps and runs it, each run in an empty folder."""

    def __init__(self, server: Server, client: Client, folder: Path) -> None:
        self.server, self.client, self.folder = server, client, folder
        self.keeper = Keeper(client)

    def run(self, slug: str, *, keep: dict[str, Any]) -> None:
        """Store the block, deploy with it as pull step, execute a run; it has to complete."""
        start = f"code-of-{slug}"
        self.keeper.keep(slug, start, **keep)
        step = {"prefect.deployments.steps.pull_with_block": {
            "block_type_slug": slug, "block_document_name": self.keeper.name(start),
        }}  # fmt: skip
        flow = self.client.send(calls.create_flow(body=FlowCreate(name="pulled")))
        body = DeploymentCreate(
            name=self.keeper.name(start), flow_id=flow.id, entrypoint="flows.py:pulled", pull_steps=[step],
        )  # fmt: skip
        deployment = self.client.send(calls.create_deployment(body=body))
        # The step is stored as it is: what the block holds is read when the run begins.
        assert self.client.send(calls.read_deployment(id=deployment.id)).pull_steps == [step]
        run = self.client.send(
            calls.create_deployment_flow_run(id=deployment.id, body=DeploymentFlowRunCreate())
        )
        place = self.folder / start
        place.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "eparch.sdk.execute"],
            env={**os.environ, **self.server.env, "EPARCH_FLOW_RUN_ID": str(run.id)},
            cwd=place, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert self.client.send(calls.read_flow_run(id=run.id)).state_type is StateType.COMPLETED
        lines = self.client.send(calls.read_logs(body={"logs": {"flow_run_id": {"any_": [str(run.id)]}}}))
        everything = done.stdout + done.stderr + "".join(line.message for line in lines)
        assert TOKEN not in everything
        assert SECRET not in everything


@pytest.fixture
def desk(server: Server, tmp_path: Path):
    with Client(server.api_url) as client:
        yield Desk(server, client, tmp_path)


def test_d20_local_and_remote_folders_run(desk: Desk, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "flows.py").write_text(FLOW)
    desk.run("local-file-system", keep={"basepath": str(source)})
    desk.run("remote-file-system", keep={"basepath": f"file://{source}", "settings": {"auto_mkdir": True}})


def test_d20_a_private_repository_over_http_runs(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    origin = Origin(tmp_path / "origin")
    (origin.work / "flows.py").write_text(FLOW)
    origin.commit("release", readme="x")
    with serve(origin.root, "x-access-token", TOKEN) as address:
        url = f"{address}/code.git"
        desk.run("github", keep={"repository": url, "reference": "release", "access_token": TOKEN})
        keep = {"repository_url": url, "reference": "release", "credentials": {"token": TOKEN}}
        desk.run("github-repository", keep=keep)


def test_d20_a_bucket_of_s3_runs(desk: Desk) -> None:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        keys = {"aws_access_key_id": "k", "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)
        client.create_bucket(Bucket="code")
        client.put_object(Bucket="code", Key="nightly/flows.py", Body=FLOW.encode())
        parameters = {"endpoint_url": f"http://{host}:{port}"}
        credentials = {**keys, "aws_client_parameters": parameters}
        keep = {"bucket_name": "code", "bucket_folder": "nightly", "credentials": credentials}
        desk.run("s3-bucket", keep=keep)
    finally:
        server.stop()
