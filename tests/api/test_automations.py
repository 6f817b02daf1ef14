"""Automations over the wire, on a real store of each kind (wire section 3, row B12)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from eparch.core import calls
from eparch.core.model import encode

from .application import DATABASES, Client, started

EVENT = {"type": "event", "posture": "Reactive", "expect": ["shop.order.*"]}
NOBODY = uuid4()


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        yield client


def body(**fields: Any) -> dict[str, Any]:
    return {"name": "orders", "trigger": EVENT, "actions": [{"type": "do-nothing"}], **fields}


def test_b12_made_read_replaced_paused_and_deleted(ask: Client) -> None:
    made = ask(calls.create_automation(body=body(tags=["x"], description="d")))
    assert made["trigger"] == {
        **EVENT,
        "id": made["trigger"]["id"],
        "match": {},
        "match_related": {},
        "after": [],
        "for_each": [],
        "threshold": 1,
        "within": 0.0,
    }
    assert (made["enabled"], made["tags"], made["actions_on_resolve"]) == (True, ["x"], [])
    assert ask(calls.read_automation(id=made["id"])) == made
    ask(calls.patch_automation(id=made["id"], body={"enabled": False}))
    ask(calls.patch_automation(id=made["id"], body={}))
    assert ask(calls.read_automation(id=made["id"]))["enabled"] is False
    ask(calls.update_automation(id=made["id"], body=body(name="other")))
    found = ask(calls.read_automation(id=made["id"]))
    assert (found["name"], found["enabled"], found["tags"]) == ("other", True, [])
    assert found["trigger"]["id"] != made["trigger"]["id"]
    ask(calls.delete_automation(id=made["id"]))
    ask(calls.read_automation(id=made["id"]), status=404)


def test_b12_what_is_not_there(ask: Client) -> None:
    answer = ask(calls.read_automation(id=NOBODY), status=404)
    assert "not found" in str(answer)
    ask(calls.update_automation(id=NOBODY, body=body()), status=404)
    ask(calls.patch_automation(id=NOBODY, body={}), status=404)
    ask(calls.delete_automation(id=NOBODY), status=404)
    ask(calls.dry_run_automation(body={"id": str(NOBODY)}), status=404)
    assert ask(calls.read_related_automations(resource_id="prefect.deployment.x")) == []
    assert ask(calls.delete_owned_automations(resource_id="prefect.deployment.x")) is None


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"trigger": {"type": "event", "posture": "Proactive", "within": 3}}, ["body", "trigger"]),
        ({"trigger": {"type": "event"}}, ["body", "trigger", "posture"]),
        ({"trigger": {**EVENT, "threshold": "many"}}, ["body", "trigger", "threshold"]),
        ({"trigger": {**EVENT, "within": None}}, ["body", "trigger", "within"]),
        ({"trigger": {"type": "sun"}}, ["body", "trigger"]),
        ({"actions": [{"type": "pause-deployment"}]}, ["body", "actions", 0]),
        (
            {"actions": [{"type": "change-flow-run-state", "state": "ASLEEP"}]},
            ["body", "actions", 0, "state"],
        ),
        ({"nmae": "x"}, ["body", "nmae"]),
    ],
)
def test_b12_what_is_wrong_is_said_with_its_place(
    ask: Client, wrong: dict[str, Any], place: list[Any]
) -> None:
    answer = ask(calls.create_automation(body=body(**wrong)), status=422)
    assert answer["exception_detail"][0]["loc"][: len(place)] == place


def test_b12_what_stock_ignores_is_ignored(ask: Client) -> None:
    made = ask(calls.create_automation(body=body(trigger={**EVENT, "color": "red"})))
    assert "color" not in made["trigger"]
    ask(calls.patch_automation(id=made["id"], body={"enabled": True, "name": "x"}), status=422)
    ask(calls.delete_automation(id=made["id"]))


def test_b12_found_counted_and_deleted_with_their_deployment(ask: Client) -> None:
    owner = f"prefect.deployment.{uuid4()}"
    mark = f"mark-{uuid4()}"
    names = [
        ask(calls.create_automation(body=body(name=f"{mark}-{n}", tags=[mark], owner_resource=owner)))["name"]
        for n in "ba"
    ]
    tagged = {"automations": {"tags": {"all_": [mark]}}}
    found = ask(calls.read_automations(body=tagged))
    assert [one["name"] for one in found] == sorted(names)
    found = ask(calls.read_automations(body={**tagged, "sort": "CREATED_DESC", "limit": 1}))
    assert [one["name"] for one in found] == [names[1]]
    assert ask(calls.count_automations(body=tagged)) == 2
    assert ask(calls.count_automations(body={"automations": {"name": {"any_": names[:1]}}})) == 1
    ask(calls.read_automations(body={"automations": {"nmae": {}}}), status=422)
    assert len(ask(calls.read_related_automations(resource_id=owner))) == 2
    response = ask.send("DELETE", f"/automations/owned-by/{owner}")
    assert response.status == 202
    assert ask(calls.count_automations(body=tagged)) == 0


def emit(ask: Client, *events: tuple[float, str, str]) -> None:
    """Events so many seconds ago, with a name and a shop."""
    now = datetime.now(UTC)
    ask(
        calls.create_events(
            body=[
                {
                    "id": str(uuid4()),
                    "occurred": now - timedelta(seconds=ago),
                    "event": name,
                    "resource": {"prefect.resource.id": "shop", "shop": shop},
                }
                for ago, name, shop in events
            ]
        )
    )


def test_b12_a_dry_run_says_when_it_would_have_fired(ask: Client) -> None:
    name = f"shop.{uuid4()}"
    emit(ask, *((ago, name, shop) for ago, shop in ((50, "a"), (49, "b"), (30, "a"), (20, "a"), (10, "a"))))
    trigger = {**EVENT, "expect": [name], "threshold": 2, "within": 25, "for_each": ["shop"]}
    automation = body(trigger=trigger, actions_on_trigger=[{"type": "cancel-flow-run"}])
    answer = ask(calls.dry_run_automation(body={"automation": automation}))
    assert (answer["cut"], answer["events"]) == (False, 5)
    # The window of shop a goes from 50 to 25 seconds ago, the next one from there on; shop b has too few.
    first, second = answer["firings"]
    assert first["triggered"] < second["triggered"]
    assert (first["labels"], first["actions"]) == ({"shop": "a"}, ["do-nothing", "cancel-flow-run"])
    assert first["event"] == name
    quiet = body(trigger={"type": "event", "posture": "Proactive", "expect": [name], "within": 15})
    since = (datetime.now(UTC) - timedelta(seconds=60)).isoformat()
    until = (datetime.now(UTC) - timedelta(seconds=2)).isoformat()
    answer = ask(calls.dry_run_automation(body={"automation": quiet, "since": since, "until": until}))
    assert answer["firings"] == []
    quiet["trigger"]["expect"] = ["never"]
    answer = ask(calls.dry_run_automation(body={"automation": quiet, "since": since, "until": until}))
    assert len(answer["firings"]) == 3
    assert {firing["event_id"] for firing in answer["firings"]} == {None}
    assert ask(calls.count_automations(body={})) == 0


def test_b12_a_dry_run_of_one_that_there_is_needs_a_span_that_can_be(ask: Client) -> None:
    made = ask(calls.create_automation(body=body()))
    emit(ask, (5, "shop.order.paid", "a"))
    answer = ask(calls.dry_run_automation(body={"id": made["id"]}))
    assert [firing["event"] for firing in answer["firings"]] == ["shop.order.paid"]
    future = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    ask(calls.dry_run_automation(body={"id": made["id"], "since": future}), status=422)
    ask(calls.dry_run_automation(body={"id": made["id"], "automation": body()}), status=422)
    ask(calls.dry_run_automation(body={}), status=422)
    ask(calls.delete_automation(id=made["id"]))


def test_b12_a_dry_run_is_bounded(ask: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"shop.{uuid4()}"
    emit(ask, *((50 - n, name, "a") for n in range(20)))
    automation = body(trigger={**EVENT, "expect": [name]})
    monkeypatch.setattr("eparch.core.automation_replay.MOST_FIRINGS", 7)
    answer = ask(calls.dry_run_automation(body={"automation": automation}))
    assert (len(answer["firings"]), answer["cut"]) == (7, True)


@pytest.mark.parametrize("depth", [20, 200])
def test_b12_triggers_in_triggers_are_no_end_of_the_server(ask: Client, depth: int) -> None:
    trigger: dict[str, Any] = EVENT
    for _ in range(depth):
        trigger = {"type": "sequence", "within": 60, "triggers": [trigger]}
    response = ask.send("POST", "/automations/", encode(body(trigger=trigger)))
    assert response.status == (201 if depth < 100 else 422)
    if response.status == 201:
        ask(calls.delete_automation(id=response.json()["id"]))
