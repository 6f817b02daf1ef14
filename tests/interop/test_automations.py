"""Prefect's own client, unmodified: automations by command and in code, and what comes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.targets import Session
from tests.orchestration.notifications.receiver import Receiver, receiving

YAML = """
name: interop-cli
description: from a file
trigger:
  type: event
  posture: Reactive
  expect: [order.placed]
  match: {"prefect.resource.id": "shop.*"}
  for_each: ["prefect.resource.id"]
  threshold: 1
  within: 0
actions:
  - type: do-nothing
"""

CODE = """
import asyncio, os, time
from datetime import timedelta
from uuid import UUID
from prefect import flow
from prefect.automations import Automation, CompoundTrigger, EventTrigger
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.actions import CallWebhook, DoNothing, RunDeployment
from prefect.events.schemas.automations import Posture


def orders(name, actions, **more):
    trigger = EventTrigger(expect={"order.placed"}, match={"prefect.resource.id": "sdk-shop.*"},
                           posture=Posture.Reactive, threshold=1, within=timedelta(0))
    return Automation(name=name, trigger=trigger, actions=actions, **more)


made = orders("interop-sdk", [DoNothing()]).create()
made.name = "interop-sdk-2"
made.update()
read = Automation.read(name="interop-sdk-2")
assert read.id == made.id
made.disable(); made.enable()
inner = EventTrigger(expect={"a"}, posture=Posture.Reactive, threshold=1, within=timedelta(0))
compound = CompoundTrigger(require="all", within=timedelta(60), triggers=[inner, inner])
both = Automation(name="interop-both", actions=[DoNothing()], trigger=compound).create()
assert both.delete()
assert made.delete()


@flow
def breaks():
    raise ValueError("on purpose")


async def deploy():
    async with get_client() as client:
        flow_id = await client.create_flow(breaks)
        return await client.create_deployment(flow_id=flow_id, name="broken", paused=False)

deployment = asyncio.run(deploy())
block = Webhook(url=os.environ["HOOK"] + "/the-secret-path", headers={"X-Token": "interop-token"})
block_id = block.save("interop-hook", overwrite=True)
orders("interop-run", [RunDeployment(source="selected", deployment_id=deployment,
       parameters={}, job_variables={})]).create()
failed = EventTrigger(expect={"prefect.flow-run.Failed"}, match={"prefect.resource.id": "prefect.flow-run.*"},
                      posture=Posture.Reactive, threshold=1, within=timedelta(0))
payload = '{"run": "{{ flow_run.name }}", "state": "{{ flow_run.state.name }}"}'
call = CallWebhook(block_document_id=block_id, payload=payload)
Automation(name="interop-hook", trigger=failed, actions=[call]).create()
emit_event("order.placed", resource={"prefect.resource.id": "sdk-shop.1"}, payload={"n": 1})


async def made_run():
    async with get_client() as client:
        for _ in range(600):
            found = await client.read_flow_runs()
            found = [run for run in found if run.deployment_id == deployment]
            if found:
                return found[0]
            await asyncio.sleep(0.05)

run = asyncio.run(made_run())
assert run.created_by.type == "AUTOMATION", run.created_by
print("run of", run.created_by.display_value)
try:
    breaks()
except ValueError:
    print("broken")
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def test_its_commands(server: Session, stock: Session, tmp_path: Path) -> None:
    file = tmp_path / "automation.yaml"
    file.write_text(YAML)
    stock.run("automation", "create", "--from-file", str(file))
    (made,) = [one for one in server.call("POST", "/automations/filter", {}) if one["name"] == "interop-cli"]
    assert "interop-cli" in stock.run("automation", "ls").stdout
    (inspected,) = json.loads(stock.run("automation", "inspect", "interop-cli", "--json").stdout)
    assert inspected["id"] == made["id"]
    stock.run("automation", "pause", "interop-cli")
    assert server.call("GET", f"/automations/{made['id']}")["enabled"] is False
    stock.run("automation", "resume", "--id", made["id"])
    assert server.call("GET", f"/automations/{made['id']}")["enabled"] is True
    body = {"name": "interop-cli", "trigger": inspected["trigger"], "actions": [], "description": "new"}
    stock.run("automation", "update", "--id", made["id"], "--from-json", json.dumps(body))
    assert server.call("GET", f"/automations/{made['id']}")["description"] == "new"
    stock.run("--no-prompt", "automation", "delete", "--id", made["id"])
    assert server.call("POST", "/automations/filter", {}) == []


def test_in_code_a_deployment_runs_on_an_event_and_a_webhook_is_called_on_a_failure(
    server: Session, stock: Session, receiver: Receiver
) -> None:
    said = stock.run_python(CODE.replace('os.environ["HOOK"]', repr(receiver.url)))
    assert "run of interop-run" in said
    assert "broken" in said
    assert receiver.arrived.wait(60)
    (got,) = receiver.got
    assert (got.path, got.headers["x-token"]) == ("/the-secret-path", "interop-token")
    assert json.loads(got.body)["state"] == "Failed"
    events = server.call(
        "POST", "/events/filter", {"filter": {"event": {"prefix": ["prefect.automation.action."]}}}
    )
    assert "the-secret-path" not in json.dumps(events)
