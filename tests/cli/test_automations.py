"""Acceptance: automations on the command line against our server."""

import json
from uuid import uuid4

AUTOMATION = """
name: {name}
trigger:
  expect: order.placed
  match: {{"prefect.resource.id": "shop.*"}}
actions:
  - type: do-nothing
"""


def test_b12_an_automation_through_its_life(client, run, tmp_path):
    name = f"tell-{uuid4().hex[:8]}"
    file = tmp_path / "automation.yaml"
    file.write_text(AUTOMATION.format(name=name))
    made = run("automation", "create", "--from-file", str(file), "-o", "json", code=0).json()
    assert made["trigger"]["expect"] == ["order.placed"]
    assert name in run("automation", "ls", "-o", "name", code=0).out.split()
    assert "do-nothing" in run("automation", "ls", code=0).out
    assert run("automation", "inspect", name, "--json", code=0).json()["id"] == made["id"]
    assert f"name: {name}" in run("automation", "inspect", "--id", made["id"], "--yaml", code=0).out
    assert f"Did you mean '{name}'?" in run("automation", "inspect", name[:-1], code=3).err
    run("automation", "pause", name, code=0)
    assert run("automation", "inspect", name, "-o", "json", code=0).json()["enabled"] is False
    assert run("automation", "enable", name, "-o", "json", code=0).json()["enabled"] is True
    body = {"name": name, "description": "new", "trigger": {"posture": "Reactive"}, "actions": []}
    run("automation", "update", name, "--from-json", json.dumps(body), code=0)
    assert run("automation", "inspect", name, "-o", "json", code=0).json()["description"] == "new"
    run("automation", "delete", name, code=2)
    run("automation", "delete", name, "--dry-run", code=0)
    run("automation", "delete", name, "-y", code=0)
    run("automation", "delete", name, "-y", code=3)


def test_b12_what_cannot_be_an_automation(client, run, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: x\ntrigger: {posture: Reactive}\nactions: [{type: run-deploymnt}]\n")
    assert "'x'" in run("automation", "create", "-f", str(wrong), code=2).err
    wrong.write_text("a: [")
    assert "not YAML" in run("automation", "create", "-f", str(wrong), code=2).err
    run("automation", "create", code=2)
    run("automation", "create", "-f", str(tmp_path / "absent.yaml"), code=2)
    run("automation", "create", "-j", "{", code=2)
    run("automation", "create", "-j", "[]", code=2)
    run("automation", "inspect", "--id", "x", code=2)
    run("automation", "inspect", "--id", str(uuid4()), code=3)
    run("automation", "delete", "x", "--all", code=2)


def test_b12_a_dry_run_says_when_it_would_have_fired(client, run, tmp_path):
    resource = f"shop.{uuid4().hex[:8]}"
    body = {
        "name": "maybe",
        "trigger": {"expect": ["order.placed"], "match": {"prefect.resource.id": resource}},
        "actions": [{"type": "do-nothing"}],
    }
    asked = ("automation", "dry-run", "--from-json", json.dumps(body))
    assert "Would have fired 0 times" in run(*asked, code=0).err
    run("event", "emit", "order.placed", "--resource-id", resource, code=0)
    answer = run(*asked, "-o", "json", code=0).json()
    assert [one["event"] for one in answer["firings"]] == ["order.placed"]
    shown = run(*asked, code=0)
    assert "Would have fired 1 time " in shown.err
    assert "do-nothing" in shown.out
