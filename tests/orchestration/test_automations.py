"""Automations fire exactly once (row B12, ADR 8): with several servers, and wherever one of them dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
import sqlalchemy as sa
from tests.orchestration.world import Broken, World, select

from eparch.core.automations import AutomationCreate, AutomationPatch, AutomationUpdate
from eparch.core.errors import Invalid, NotFound
from eparch.core.events import Event
from eparch.core.filters import COUNT_AUTOMATIONS, READ_AUTOMATIONS
from eparch.core.model import decode, encode, new_id
from eparch.core.states import StateType
from eparch.core.triggers import GRACE, RETAINED
from eparch.orchestration import automation_changes as changes
from eparch.orchestration import automations as deciding
from eparch.orchestration import recorder
from eparch.orchestration.automations import BATCH, Automations
from eparch.orchestration.service import Services
from eparch.store import automations as store
from eparch.store import runs
from eparch.store import tables as t
from eparch.store.database import Database, open_database
from eparch.store.rows import id_of
from eparch.store.statement import Steps

pytestmark = pytest.mark.anyio

REACTIVE = {"type": "event", "posture": "Reactive", "expect": ["e"]}


class Office:
    """A world with automations, and one who decides on them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.database = world.database
        self.service = Automations()

    async def make(self, **fields: Any) -> UUID:
        """The id of an automation; ``trigger`` is a reactive one unless it is given."""
        body = {"name": "a", "trigger": REACTIVE, "actions": [{"type": "do-nothing"}], **fields}
        made = await self.database.write(
            changes.create_automation, decode(encode(body), AutomationCreate), self.world.now
        )
        return id_of(made["id"])

    async def emit(self, name: str = "e", times: int = 1, **labels: str) -> list[UUID]:
        """The ids of events that happen now, each told by itself."""
        ids = []
        for _ in range(times):
            resource = {"prefect.resource.id": "thing.1", **labels}
            event = Event(occurred=self.world.now, event=name, resource=resource)
            await self.database.write(recorder.record, [event], self.world.now)
            ids.append(event.id)
        return ids

    async def decide(self, service: Automations | None = None) -> None:
        """Let everything be decided that can be."""
        while await (service or self.service).run_once(self.database, self.world.now):
            pass

    async def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        """All rows of a table."""
        return await self.world.select(sa.select(*table.columns))

    async def fired(self) -> list[UUID | None]:
        """The ids of the events that the actions in the outbox are for."""
        rows = await self.rows(t.automation_action)
        found = [row["firing"]["triggering_event"] for row in rows if row["action_index"] == 0]
        return [UUID(event["id"]) if event else None for event in found]


def an_update(name: str, trigger: dict[str, Any] = REACTIVE) -> AutomationUpdate:
    made: AutomationUpdate = decode(
        encode({"name": name, "trigger": trigger, "actions": []}), AutomationUpdate
    )
    return made


@pytest.fixture
async def office(world: World) -> Office:
    return Office(world)


async def test_b12_a_firing_is_its_event_its_actions_and_what_is_remembered(office: Office) -> None:
    notified = {"type": "send-notification", "block_document_id": str(new_id()), "body": "{{ event.id }}"}
    automation = await office.make(
        trigger={**REACTIVE, "threshold": 2, "within": 60, "for_each": ["k"]},
        actions=[{"type": "cancel-flow-run"}, notified],
        actions_on_trigger=[{"type": "do-nothing"}],
        actions_on_resolve=[{"type": "do-nothing"}],
    )
    await office.emit(times=1, k="v")
    await office.decide()
    assert not await office.rows(t.automation_action)
    assert len(await office.rows(t.automation_bucket)) == 1
    (last,) = await office.emit(k="v")
    await office.decide()
    rows = sorted(await office.rows(t.automation_action), key=lambda row: row["action_index"])
    assert [(row["action_index"], row["action"]["type"]) for row in rows] == [
        (0, "cancel-flow-run"),
        (1, "send-notification"),
        (2, "do-nothing"),
    ]
    said = (await office.database.scan(select, EVENTS_OF, {"name": "prefect.automation.triggered"}))[0]
    for row in rows:
        assert (row["automation_id"], row["automation_name"], row["status"]) == (automation, "a", "pending")
        assert (row["attempts"], row["claimed_by"], row["lease_until"]) == (0, None, None)
        assert row["firing"]["triggering_labels"] == {"k": "v"}
        assert row["triggered_event_id"] == said["id"]
    causes = [UUID(row["triggering_event"]["id"]) for row in rows]
    assert causes == [last, last, said["id"]]
    assert said["resource"]["prefect.resource.id"] == f"prefect.automation.{automation}"
    assert said["resource"]["prefect.posture"] == "Reactive"
    assert said["related"][0]["prefect.resource.id"] == f"prefect.event.{last}"
    notes = [note for note in office.world.notes if note.topic == "actions"]
    assert [note.value for note in notes] == [automation]


EVENTS_OF = sa.select(t.event.c.id, t.event.c.resource, t.event.c.related).where(
    t.event.c.event == sa.bindparam("name", type_=t.event.c.event.type)
)


async def test_b12_nothing_of_the_past_fires(office: Office) -> None:
    await office.emit(times=3)
    first = await office.make()
    await office.decide()
    (one,) = await office.emit()
    second = await office.make(name="b")
    (two,) = await office.emit()
    await office.decide()
    rows = await office.rows(t.automation_action)
    found = {(row["automation_id"], UUID(row["triggering_event"]["id"])) for row in rows}
    assert found == {(first, one), (first, two), (second, two)}


async def test_b12_without_an_enabled_automation_no_event_is_read(office: Office) -> None:
    await office.make(enabled=False)
    await office.emit(times=3)
    await office.decide()
    assert not office.service.waits
    await office.make(name="b")
    await office.decide()
    assert office.service.waits
    assert not await office.fired()


async def test_b12_enabled_anew_it_begins_anew(office: Office) -> None:
    automation = await office.make(trigger={**REACTIVE, "threshold": 2, "within": 600})
    await office.emit()
    await office.decide()

    async def switch(enabled: bool) -> None:
        patch = AutomationPatch(enabled=enabled)
        await office.database.write(changes.enable_automation, automation, patch, office.world.now)

    await switch(False)
    assert not await office.rows(t.automation_bucket)
    await office.emit(times=5)
    await office.decide()
    await switch(True)
    await office.emit()
    await office.decide()
    assert not await office.fired()
    await switch(True)  # it is already, so this changes nothing
    (last,) = await office.emit()
    await office.decide()
    assert await office.fired() == [last]


async def test_b12_a_decision_by_an_older_version_is_not_committed(office: Office) -> None:
    automation = await office.make()
    await office.decide()
    await office.emit()
    ahead = await office.database.scan(store.ahead, office.service._place, BATCH)
    hits, place = office.service._hits(ahead.events)
    assert hits
    await office.database.write(changes.delete_automation, automation, office.world.now)
    assert ahead.standing is not None
    decided = await office.database.write(deciding.decide, ahead.standing, hits, place, office.world.now)
    assert decided is False
    await office.decide()
    assert not await office.fired()


async def test_b12_absence_fires_when_it_is_due_and_not_before(office: Office) -> None:
    await office.make(trigger={"type": "event", "posture": "Proactive", "expect": ["e"], "within": 60})
    await office.decide()
    due = 60 + GRACE.total_seconds()
    office.world.pass_seconds(due - 1)
    await office.decide()
    assert office.service.interval == 1.0
    assert not await office.fired()
    office.world.pass_seconds(1)
    await office.decide()
    await office.decide(Automations())
    assert await office.fired() == [None]
    office.world.pass_seconds(30)
    await office.emit()
    office.world.pass_seconds(30)
    await office.decide()
    assert await office.fired() == [None]


async def test_b12_an_event_that_is_not_read_yet_comes_before_the_time_that_went_by(office: Office) -> None:
    """A server that was away decides on the events first, in whole batches, then on time."""
    await office.make(
        trigger={"type": "event", "posture": "Proactive", "after": ["a"], "expect": ["z"], "within": 60}
    )
    await office.decide()
    await office.emit("a")
    fill = [
        Event(occurred=office.world.now, event="e", resource={"prefect.resource.id": "r"})
        for _ in range(BATCH + 10)
    ]
    await office.database.write(recorder.record, fill, office.world.now)
    office.world.pass_seconds(30)
    await office.emit("z")
    office.world.pass_seconds(500)
    await office.decide(Automations())
    assert not await office.fired()


@pytest.mark.parametrize("late", [False, True])
async def test_b12_a_server_that_dies_leaves_nothing_or_all(
    office: Office, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    await office.make(trigger={**REACTIVE, "threshold": 2, "within": 60})
    await office.decide()
    ids = await office.emit(times=4)
    before = await office.rows(t.automation_cursor)
    whole = deciding.decide

    def dies(*args: Any) -> Steps[bool]:
        decided = yield from whole(*args)
        if not late:
            raise Broken
        return decided

    with monkeypatch.context() as patched:
        patched.setattr(deciding, "decide", dies)
        if late:  # it dies after the commit, before it knows of it
            await office.service.run_once(office.database, office.world.now)
        else:
            with pytest.raises(Broken):
                await office.service.run_once(office.database, office.world.now)
            assert not await office.fired()
            assert not await office.rows(t.automation_bucket)
            assert await office.rows(t.automation_cursor) == before
    await office.decide(Automations())
    await office.decide()  # the first one was only slow
    assert await office.fired() == [ids[1]]


@pytest.fixture
async def other(database: Database, database_url: str) -> AsyncIterator[Database]:
    """Another server's connection to the same database; the same one where there can be no other."""
    if not database_url.startswith("postgresql"):
        yield database
        return
    opened = await open_database(database_url)
    yield opened
    await opened.close()


async def test_b12_servers_that_decide_at_once_fire_once(office: Office, other: Database) -> None:
    await office.make(trigger={**REACTIVE, "threshold": 3, "within": 600, "for_each": ["k"]})
    await office.make(name="each")
    quiet = {"type": "event", "posture": "Proactive", "expect": ["never"], "within": 10}
    await office.make(name="quiet", trigger=quiet)
    servers = [Automations() for _ in range(4)]
    done = asyncio.Event()

    async def serve(number: int) -> None:
        database = (office.database, other)[number % 2]
        while not done.is_set() or await servers[number].run_once(database, office.world.now):
            await servers[number].run_once(database, office.world.now)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(serve(number)) for number in range(len(servers))]
    for number in range(30):
        await office.emit(k=str(number % 5))
        if number == 15:
            office.world.pass_seconds(15)
    done.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)
    await office.decide()
    rows = await office.rows(t.automation_action)
    by_name = {name: [r for r in rows if r["automation_name"] == name] for name in ("a", "each", "quiet")}
    assert {name: len(found) for name, found in by_name.items()} == {"a": 5, "each": 30, "quiet": 1}
    assert len({row["triggering_event"]["id"] for row in by_name["each"]}) == 30
    said = await office.database.scan(select, EVENTS_OF, {"name": "prefect.automation.triggered"})
    assert len(said) == 36


async def test_b12_what_an_older_transaction_may_still_say_is_waited_for(postgres_url: str) -> None:
    """On PostgreSQL: absence is not decided on while an event may come before it."""
    import asyncpg

    database = await open_database(postgres_url)
    office = Office(World(database))
    await office.make(
        trigger={"type": "event", "posture": "Proactive", "after": ["a"], "expect": ["e"], "within": 10}
    )
    await office.emit("a")
    await office.decide()
    connection = await asyncpg.connect(postgres_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT pg_current_xact_id()")
    await office.emit("e")
    office.world.pass_seconds(60)
    await office.decide()
    assert not await office.fired()
    assert office.service.interval < 1
    await transaction.rollback()
    await connection.close()
    await office.decide()
    assert not await office.fired()
    assert not await office.rows(t.automation_bucket)
    await database.close()


async def test_b12_compound_and_sequence_outlive_a_server(office: Office) -> None:
    parts = [{**REACTIVE, "expect": [name]} for name in ("x", "y")]
    await office.make(trigger={"type": "sequence", "within": 60, "triggers": parts})
    await office.emit("x")
    await office.decide(Automations())
    assert len(await office.rows(t.automation_firing)) == 1
    (last,) = await office.emit("y")
    await office.decide(Automations())
    assert await office.fired() == [last]
    assert not await office.rows(t.automation_firing)
    (row,) = await office.rows(t.automation_action)
    assert len(row["firing"]["triggering_firings"]) == 2


async def test_b12_a_metric_knows_how_long_runs_took(office: Office) -> None:
    query = {"name": "duration", "operator": ">", "threshold": 20, "firing_for": 300}
    await office.make(trigger={"type": "metric", "posture": "Metric", "metric": query})
    run = await office.world.ad_hoc()
    await office.world.go(run, StateType.RUNNING)
    office.world.pass_seconds(30)
    await office.world.go(run, StateType.COMPLETED)
    await office.decide()
    assert len(await office.rows(t.automation_bucket)) == 1
    office.world.pass_seconds(300 + GRACE.total_seconds())
    await office.decide()
    (row,) = await office.rows(t.automation_action)
    assert row["firing"]["triggering_value"] == pytest.approx(30, abs=1)


async def test_b12_one_automation_wakes_another(office: Office) -> None:
    first = await office.make()
    match = {"prefect.resource.id": f"prefect.automation.{first}"}
    second = await office.make(
        trigger={**REACTIVE, "expect": ["prefect.automation.triggered"], "match": match}
    )
    await office.emit()
    await office.decide()
    assert [row["automation_id"] for row in await office.rows(t.automation_action)] == [first, second]


async def test_b12_events_of_no_concern_write_next_to_nothing(office: Office) -> None:
    await office.make()
    await office.decide()
    before = await office.rows(t.automation_cursor)
    await office.emit("other", times=20)
    await office.decide()
    assert await office.rows(t.automation_cursor) == before
    (last,) = await office.emit()
    await office.decide()
    assert await office.fired() == [last]


async def test_b12_windows_that_nothing_came_of_are_forgotten(office: Office) -> None:
    await office.make(trigger={**REACTIVE, "threshold": 2, "within": 60, "for_each": ["k"]})
    for number in range(5):
        await office.emit(k=str(number))
    await office.decide()
    assert len(await office.rows(t.automation_bucket)) == 5
    office.world.pass_seconds((RETAINED + GRACE).total_seconds() + 60)
    await office.decide()
    assert not await office.rows(t.automation_bucket)


async def test_b12_a_server_that_runs_fires_when_it_is_told(office: Office) -> None:
    services = Services(office.database, [office.service])
    office.database.on_notes = lambda notes: [services.call("automations") for _ in notes] and None  # type: ignore[func-returns-value,assignment]
    services.start()
    await office.make()
    (event,) = await office.emit()
    async with asyncio.timeout(30):
        while await office.fired() != [event]:
            await asyncio.sleep(0)
    await services.stop()
    assert not services.failures


# Their rows


async def read(office: Office, **filters: Any) -> list[str]:
    query = READ_AUTOMATIONS.parse({"automations": filters} if filters else {})
    return [row["name"] for row in await office.database.scan(store.read_automations, query)]


async def test_b12_automations_are_found_by_name_tags_id_and_age(office: Office) -> None:
    one = await office.make(name="one", tags=["x", "y"])
    office.world.pass_seconds(60)
    await office.make(name="two")
    assert await read(office) == ["one", "two"]
    assert await read(office, id={"any_": [str(one)]}) == ["one"]
    assert await read(office, name={"any_": ["two", "three"]}) == ["two"]
    assert await read(office, tags={"all_": ["x", "y"]}) == ["one"]
    assert await read(office, tags={"any_": ["z", "y"]}) == ["one"]
    assert await read(office, tags={"is_null_": True}) == ["two"]
    before = (office.world.now - timedelta(seconds=30)).isoformat()
    assert await read(office, created={"before_": before}) == ["one"]
    assert await office.database.scan(runs.count, COUNT_AUTOMATIONS.parse({})) == 2


async def test_b12_an_automation_goes_with_its_owner(office: Office) -> None:
    deployment = new_id()
    owner = f"prefect.deployment.{deployment}"
    owned = await office.make(name="owned", owner_resource=owner)
    runs_it = await office.make(
        name="runs it", actions=[{"type": "run-deployment", "deployment_id": str(deployment)}]
    )
    related = await office.database.scan(store.related_to, owner)
    assert [row["name"] for row in related] == ["owned", "runs it"]
    assert await office.database.write(changes.delete_owned, owner, office.world.now) == 1
    assert await read(office) == ["runs it"]
    assert await office.database.scan(store.automation_value, owned) is None
    body = an_update("else")
    await office.database.write(changes.update_automation, runs_it, body, office.world.now)
    assert not await office.database.scan(store.related_to, owner)


async def test_b12_replaced_it_has_new_triggers_and_remembers_nothing(office: Office) -> None:
    quiet = {"type": "event", "posture": "Proactive", "within": 60}
    automation = await office.make(trigger=quiet)
    (before,) = await office.rows(t.automation_bucket)
    office.world.pass_seconds(30)
    body = an_update("b", quiet)
    await office.database.write(changes.update_automation, automation, body, office.world.now)
    (after,) = await office.rows(t.automation_bucket)
    assert after["trigger_id"] != before["trigger_id"]
    assert after["due"] - before["due"] == timedelta(seconds=30)
    await office.database.write(changes.delete_automation, automation, office.world.now)
    for table in (t.automation, t.automation_bucket, t.automation_firing, t.automation_resource):
        assert not await office.rows(table)
    told = await office.rows(t.event)
    assert [row["event"].rpartition(".")[2] for row in sorted(told, key=lambda row: row["position"])] == [
        "created",
        "updated",
        "deleted",
    ]


async def test_b12_what_is_not_there_or_cannot_be_used(office: Office) -> None:
    body = an_update("b")
    now = office.world.now
    with pytest.raises(NotFound):
        await office.database.write(changes.update_automation, new_id(), body, now)
    with pytest.raises(NotFound):
        await office.database.write(changes.enable_automation, new_id(), AutomationPatch(enabled=True), now)
    with pytest.raises(NotFound):
        await office.database.write(changes.delete_automation, new_id(), now)
    webhook = {"type": "call-webhook", "block_document_id": str(new_id()), "payload": "{{ event.id"}
    with pytest.raises(Invalid, match=r"actions\.0\.payload"):
        await office.make(actions=[webhook])
    wrong = {"a": {"__prefect_kind": "jinja", "template": "{{ event.id"}}
    with pytest.raises(Invalid, match=r"actions\.0\.parameters"):
        await office.make(actions=[{"type": "run-deployment", "source": "inferred", "parameters": wrong}])
    endless = await office.make(
        enabled=False,
        trigger={**REACTIVE, "expect": ["prefect.flow-run.Running"]},
        actions=[{"type": "run-deployment", "source": "inferred"}],
    )
    with pytest.raises(Invalid, match="without end"):
        await office.database.write(changes.enable_automation, endless, AutomationPatch(enabled=True), now)
    assert await read(office) == ["a"]


async def test_b12_job_variables_that_the_pool_does_not_take_are_refused(office: Office) -> None:
    schema = {"type": "object", "properties": {"cpu": {"type": "integer"}}}
    template = {"job_configuration": {"cpu": "{{ cpu }}"}, "variables": schema}
    await office.world.pool(base_job_template=template)
    deployment = str(await office.world.deployment())
    run = {"type": "run-deployment", "deployment_id": deployment}
    with pytest.raises(Invalid, match="Error creating automation"):
        await office.make(actions=[{**run, "job_variables": {"cpu": "many"}}])
    await office.make(actions=[{**run, "job_variables": {"cpu": 2}}])


async def test_b12_automations_are_read_as_they_were_written(office: Office) -> None:
    body = {
        "name": "a",
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "match": {"b": ["x"], "a": "*"},
            "match_related": [{"z": "1"}, {}],
            "expect": ["e"],
            "within": "PT1M",
        },
        "actions": [{"type": "run-deployment", "source": "inferred", "parameters": {"b": 1, "a": None}}],
    }
    automation = await office.make(**body)
    found = msgspec.json.decode(encode(await office.database.read(store.read_automation, automation)))
    assert found["trigger"]["match"] == body["trigger"]["match"]  # type: ignore[index]
    assert list(found["actions"][0]["parameters"]) == ["b", "a"]
    assert found["trigger"]["within"] == 60.0
    assert found["actions"][0]["job_variables"] is None
    assert not {"after_position", "after_id"} & set(found)
    assert (await office.database.read(store.automation_value, automation)) is not None
