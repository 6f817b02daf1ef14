"""Prefect's own client, unmodified, against our server when that asks for a secret."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from bench.targets import Session, find_target

SECRET = "admin:secret"

FLOW = """
from prefect import flow, get_client, task
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

@task
def double(number):
    return 2 * number

@flow
def numbers():
    return double.submit(21).result()

state = numbers(return_state=True)
assert state.result() == 42
run = state.state_details.flow_run_id
with get_client(sync_client=True) as client:
    assert client.read_flow_run(run).state_name == "Completed"
print(run)
"""


def test_its_sdk_and_command_line_with_the_secret_and_without(stock: Session, tmp_path: Path) -> None:
    guarded = dataclasses.replace(find_target("eparch"), settings={"EPARCH_SERVER_AUTH_STRING": SECRET})
    home = tmp_path / "server"
    home.mkdir()
    with Session(guarded, home).serve() as server:
        client = Session(stock.target, stock.home, server.url)
        secret = {"PREFECT_API_AUTH_STRING": SECRET}
        run = client.run_python(FLOW, env=secret).split()[-1]
        client.run("work-pool", "create", "guarded", "--type", "process", env=secret)
        assert "guarded" in client.run("work-pool", "ls", env=secret).stdout
        assert run in client.run("flow-run", "inspect", run, env=secret).stdout
        refused = client.run("work-pool", "ls", check=False)
        assert refused.returncode == 1
        assert "Unauthorized" in refused.stdout + refused.stderr
        with pytest.raises(RuntimeError, match="401"):
            server.call("POST", "/flow_runs/filter", {})


PATIENT = """
import time
from prefect import flow, get_client, task

@task
def double(number):
    return 2 * number

@flow
def numbers():
    before = double(21)
    time.sleep(1.5)  # the token of each client has expired by now
    return double(before)

state = numbers(return_state=True)
assert state.result() == 84
with get_client(sync_client=True) as client:
    client.request("POST", "/flows/", json={"name": "a"})
    held = client._client.csrf_token
    assert held
    time.sleep(2.1)
    client.request("POST", "/flows/", json={"name": "b"})
    assert client._client.csrf_token != held
    client._client.csrf_token = "forged"  # it has to notice, ask again and succeed
    client.request("POST", "/flows/", json={"name": "c"})
print(state.state_details.flow_run_id)
"""


def test_its_sdk_and_command_line_with_tokens_against_cross_site_requests(
    stock: Session, tmp_path: Path
) -> None:
    asked = {"PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true", "EPARCH_CSRF_TOKEN_SECONDS": "1"}
    home = tmp_path / "server"
    home.mkdir()
    with Session(dataclasses.replace(find_target("eparch"), settings=asked), home).serve() as server:
        client = Session(stock.target, stock.home, server.url)
        run = client.run_python(PATIENT).split()[-1]
        client.run("work-pool", "create", "tokens", "--type", "process")
        assert "tokens" in client.run("work-pool", "ls").stdout
        assert server.call("GET", f"/flow_runs/{run}")["state_type"] == "COMPLETED"
        with pytest.raises(RuntimeError, match="Missing CSRF token"):
            server.call("POST", "/flows/", {"name": "f"})
