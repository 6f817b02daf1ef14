"""Automations and events in code, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.sdk.conftest import Ledger

from eparch import flow, settings
from eparch.client.http import Client
from eparch.core import automation_actions, automations, calls
from eparch.core.errors import Invalid, NotFound
from eparch.core.event_pages import FilterEvents
from eparch.core.events import EventFilter, ResourceFilter
from eparch.sdk import session as sessions
from eparch.sdk.automations import (
    Automation,
    CompoundTrigger,
    DoNothing,
    EventTrigger,
    Posture,
    RunDeployment,
    SequenceTrigger,
)
from eparch.sdk.events import emit_event
from eparch.sdk.session import Session


@pytest.fixture
def connected(server: Any, tmp_path: Path) -> Iterator[Client]:
    loaded = settings.load({"EPARCH_HOME": str(tmp_path), "EPARCH_API_URL": server.api_url}, tmp_path)
    with Client(server.api_url) as client:
        sessions.use(Session(loaded, client))
        yield client
        sessions.leave()


KINDS: list[Any] = [EventTrigger, CompoundTrigger]


def orders(**more: Any) -> Any:
    return EventTrigger(
        expect={"order.placed"}, posture=Posture.Reactive, within=timedelta(seconds=5), **more
    )


def test_triggers_and_actions_are_those_of_core() -> None:
    trigger = orders(match={"prefect.resource.id": "shop.*"}, for_each={"b", "a"})
    assert isinstance(trigger, automations.EventTrigger)
    assert [isinstance(trigger, kind) for kind in KINDS] == [True, False]
    assert (trigger.within, trigger.for_each, trigger.expect) == (5.0, ["a", "b"], ["order.placed"])
    both = SequenceTrigger(triggers=[trigger, orders()], within=timedelta(minutes=1))
    matches = [getattr(inner, "match", None) for inner in both.triggers]
    assert matches == [{"prefect.resource.id": "shop.*"}, {}]
    id_ = uuid4()
    parameters = {"at": datetime(2026, 1, 1, tzinfo=UTC)}
    action = RunDeployment(deployment_id=id_, schedule_after=timedelta(hours=1), parameters=parameters)
    assert isinstance(action, automation_actions.RunDeployment)
    assert (action.deployment_id, action.schedule_after) == (id_, 3600.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EventTrigger(posture="Reactive", expct={"a"}), "'expct'"),
        (lambda: EventTrigger(posture="Sometimes"), "posture"),
        (lambda: EventTrigger(posture=Posture.Proactive, within=1), "10 seconds"),
        (lambda: RunDeployment(source="selected"), "deployment_id"),
        (lambda: CompoundTrigger(require=3, triggers=[orders()]), "require"),
        (lambda: Automation.read(), "id or the name"),
        (lambda: Automation("x", orders(), []).delete(), "not on the server"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_says_so(make: Any, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        make()


def test_b12_an_automation_through_its_life(connected: Client) -> None:
    name = f"sdk-{uuid4().hex[:8]}"
    made = Automation(name, orders(), [DoNothing()], tags=["a"]).create()
    assert made.id is not None
    read = Automation.read(name=name)
    assert (read.id, read.tags, read.actions) == (made.id, ["a"], [automation_actions.DoNothing()])
    read.description = "changed"
    read.update()
    assert Automation.read(made.id).description == "changed"
    assert read.disable()
    assert Automation.read(made.id).enabled is False
    assert read.enable()
    assert read.delete()
    assert not read.delete()
    with pytest.raises(NotFound):
        Automation.read(name=name)


def test_b12_the_same_awaited(connected: Client) -> None:
    async def live() -> None:
        made = await Automation(f"sdk-{uuid4().hex[:8]}", orders(), [DoNothing()]).create()
        assert (await Automation.aread(made.id)).name == made.name
        assert await made.adisable()
        assert await made.aenable()
        await made.aupdate()
        assert await made.adelete()

    asyncio.run(live())


def test_an_event_arrives_when_it_is_flushed(connected: Client) -> None:
    resource = f"shop.{uuid4().hex}"
    first = emit_event("order.placed", {"prefect.resource.id": resource}, payload={"n": 1})
    second = emit_event("order.paid", {"prefect.resource.id": resource}, follows=first)
    assert second.follows == first.id
    sessions.current().reporter.flush(10)
    wanted = FilterEvents(filter=EventFilter(resource=ResourceFilter(id=[resource])))
    page = connected.send(calls.read_events(body=wanted))
    assert {(one.event, one.id) for one in page.events} == {(one.event, one.id) for one in (first, second)}


def test_an_event_in_a_flow_is_related_to_its_run(ledger: Ledger) -> None:
    @flow
    def sells() -> None:
        emit_event("order.placed", {"prefect.resource.id": "shop.1"})

    sells()
    sessions.current().reporter.flush(10)
    inside = next(event for event in ledger.events if event.event == "order.placed")
    roles = {one["prefect.resource.role"]: one["prefect.resource.id"] for one in inside.related}
    assert roles["flow-run"] == f"prefect.flow-run.{ledger.only_run().id}"
    assert set(roles) == {"flow-run", "flow"}


@pytest.mark.parametrize(
    ("resource", "more"),
    [
        ({}, {}),
        ({"prefect.resource.id": "x"}, {"related": [{"prefect.resource.id": "y"}]}),
        ({"prefect.resource.id": 5}, {}),
        ({"prefect.resource.id": "x"}, {"payload": {"a": "x" * 2_000_000}}),
        ({"prefect.resource.id": "x"}, {"payload": {"a": object()}}),
    ],
)
def test_an_event_that_cannot_be_sent_says_so(ledger: Ledger, resource: Any, more: Any) -> None:
    with pytest.raises(Invalid):
        emit_event("order.placed", resource, **more)
