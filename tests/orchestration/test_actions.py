"""Actions of automations on each database: what they do, exactly once, and what is told of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from tests.orchestration.notifications.receiver import Receiver, receiving
from tests.orchestration.world import World, a_state, select

from eparch.core import automation_actions as a
from eparch.core.automations import (
    Automation,
    AutomationCreate,
    EventTrigger,
    Firing,
    TriggeredAction,
    TriggerState,
)
from eparch.core.blocks import BlockDocumentCreate, BlockSchemaCreate, BlockTypeCreate
from eparch.core.events import ReceivedEvent
from eparch.core.model import new_id
from eparch.core.states import StateType
from eparch.core.variables import VariableCreate
from eparch.orchestration import automation_changes, blocks, variables
from eparch.orchestration.actions.acting import MAX_DEPTH
from eparch.orchestration.actions.service import LEASE, MAX_ATTEMPTS, PER_MINUTE, Actions
from eparch.orchestration.sealing import KEY_BYTES, Keyring
from eparch.store import automations as store
from eparch.store import tables as t
from eparch.store.rows import id_of

pytestmark = pytest.mark.anyio
S = StateType
KEYS = Keyring(lambda make: [b"k" * KEY_BYTES], "the test")
TRIGGER = EventTrigger(posture="Reactive", expect=["order.placed"])


class Acting(World):
    """A world in which automations act."""

    def __init__(self, world: World) -> None:
        super().__init__(world.database, world.now)
        self.service = Actions(KEYS, lambda: "new-name", ui_url="https://ui.example")

    async def triggered(
        self,
        action: a.Action,
        *resources: str,
        labels: dict[str, str] | None = None,
        payload: dict[str, Any] | None = None,
        event: bool = True,
    ) -> TriggeredAction:
        """Put the action into the outbox, with an event about ``resources``."""
        about, *others = resources or ("shop.order.1",)
        happened = ReceivedEvent(
            occurred=self.now,
            received=self.now,
            event="order.placed",
            resource={"prefect.resource.id": about},
            related=[{"prefect.resource.id": other, "prefect.resource.role": "other"} for other in others],
            payload=payload or {},
        )
        automation = Automation(id=new_id(), name="shop", trigger=TRIGGER, actions=[action])
        firing = Firing(
            trigger=TRIGGER,
            trigger_states=[TriggerState.TRIGGERED],
            triggered=self.now,
            triggering_labels=labels or {},
            triggering_event=happened if event else None,
        )
        made = TriggeredAction(
            id=new_id(),
            automation=automation,
            firing=firing,
            triggered=self.now,
            triggering_labels=labels or {},
            triggering_event=happened if event else None,
            action=action,
            action_index=0,
            automation_triggered_event_id=new_id(),
        )
        await self.database.write(store.insert_actions, [made], self.now)
        return made

    async def carry_out(self) -> None:
        """Everything that is due now."""
        while await self.service.run_once(self.database, self.now):
            await self.service.settled()

    async def row(self, action: TriggeredAction) -> dict[str, Any]:
        """What the outbox says of the action."""
        query = sa.select(
            *(t.automation_action.c[name] for name in ("status", "error", "attempts", "next_attempt"))
        ).where(t.automation_action.c.id == sa.bindparam("id", type_=t.automation_action.c.id.type))
        (found,) = await self.database.read(select, query, {"id": action.id})
        return found

    async def told(self, action: TriggeredAction) -> list[dict[str, Any]]:
        """The events about the action, in order."""
        query = sa.select(
            t.event.c.event, t.event.c.resource, t.event.c.related, t.event.c.payload, t.event.c.follows
        )
        query = query.where(t.event.c.event.like("prefect.automation.action.%")).order_by(t.event.c.id)
        found = await self.database.read(select, query, {})
        return [one for one in found if one["payload"]["invocation"] == str(action.id)]

    async def reason(self, action: TriggeredAction) -> str:
        """Why the action failed."""
        began, ended = await self.told(action)
        assert began["event"].endswith(".triggered")
        assert ended["event"].endswith(".failed")
        assert (await self.row(action))["status"] == "failed"
        return str(ended["payload"]["reason"])

    async def done(self, action: TriggeredAction) -> dict[str, Any]:
        """The event that says that the action was executed."""
        _, ended = await self.told(action)
        assert ended["event"] == "prefect.automation.action.executed", ended["payload"]
        assert ended["payload"]["chain"] == 1
        assert (await self.row(action))["status"] == "done"
        return ended

    async def block(self, slug: str, data: dict[str, Any], capabilities: list[str] | None = None) -> UUID:
        """The id of a block of a new type."""
        type_ = await self.database.write(blocks.create_type, BlockTypeCreate(name=slug, slug=slug), self.now)
        fields = {"title": slug, "type": "object", "properties": {}, "block_type_slug": slug}
        schema, _ = await self.database.write(
            blocks.create_schema,
            BlockSchemaCreate(
                fields=fields, block_type_id=id_of(type_["id"]), capabilities=capabilities or []
            ),
            self.now,
        )
        body = BlockDocumentCreate(
            name="target", data=data, block_schema_id=id_of(schema["id"]), block_type_id=id_of(type_["id"])
        )
        made = await self.database.write(blocks.create_document, body, KEYS, self.now)
        return id_of(made["id"])


@pytest.fixture
async def shop(world: World) -> AsyncIterator[Acting]:
    acting = Acting(world)
    yield acting
    await acting.service.stop()


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


async def test_doing_nothing_is_told_once(shop: Acting) -> None:
    action = await shop.triggered(a.DoNothing())
    await shop.carry_out()
    began, ended = await shop.told(action)
    assert began["resource"]["prefect.resource.id"] == f"prefect.automation.{action.automation.id}"
    assert began["resource"]["prefect.trigger-type"] == "event"
    assert began["resource"]["prefect.posture"] == "Reactive"
    assert action.triggering_event is not None
    assert began["follows"] == action.triggering_event.id
    assert {one["prefect.resource.role"] for one in began["related"]} == {
        "automation-triggered-event",
        "triggering-event",
    }
    assert ended["payload"] == {
        "action_index": 0,
        "action_type": "do-nothing",
        "invocation": str(action.id),
        "chain": 1,
    }
    await shop.carry_out()
    assert len(await shop.told(action)) == 2


async def test_running_a_deployment_with_parameters_made_of_the_event(shop: Acting) -> None:
    await shop.pool()
    deployment = await shop.deployment()
    await shop.database.write(variables.create_variable, VariableCreate(name="region", value="eu"), shop.now)
    action = await shop.triggered(
        a.RunDeployment(
            deployment_id=deployment,
            parameters={
                "n": "{{ event.payload.n }}",
                "text": "order {{ event.resource.id }} of {{ deployment.name }}",
                "where": {"__prefect_kind": "workspace_variable", "variable_name": "region"},
                "v": "{{ variables.region }}",
            },
            schedule_after=60,
        ),
        "shop.order.1",
        f"prefect.deployment.{deployment}",
        payload={"n": 3},
    )
    await shop.carry_out()
    ended = await shop.done(action)
    assert ended["payload"]["status_code"] == 201
    (run,) = await shop.database.read(select, sa.select(t.flow_run), {})
    assert run["parameters"]["n"] == 3
    assert run["parameters"]["text"].startswith("order shop.order.1 of deployment-")
    assert (run["parameters"]["where"], run["parameters"]["v"]) == ("eu", "eu")
    assert run["next_scheduled_start_time"] == shop.now + timedelta(seconds=60)
    assert run["created_by"]["type"] == "AUTOMATION"
    assert str(action.id) in run["idempotency_key"]
    roles = {one["prefect.resource.role"]: one["prefect.resource.id"] for one in ended["related"]}
    assert roles["flow-run"] == f"prefect.flow-run.{run['id']}"
    assert roles["target"] == f"prefect.deployment.{deployment}"


async def test_what_a_run_of_a_deployment_fails_for(shop: Acting) -> None:
    gone = new_id()
    absent = await shop.triggered(a.RunDeployment(deployment_id=gone))
    nobody = await shop.triggered(a.RunDeployment(source="inferred"))
    silent = await shop.triggered(a.RunDeployment(source="inferred"), event=False)
    wrong = await shop.triggered(a.RunDeployment(deployment_id=gone, parameters={"x": "{{ 1 / 0 }}"}))
    await shop.carry_out()
    assert "404" in await shop.reason(absent)
    assert await shop.reason(nobody) == "No deployment could be inferred"
    assert await shop.reason(silent) == "No event to infer the deployment"
    assert "division by zero" in await shop.reason(wrong)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    deployment = await shop.deployment(None, parameter_openapi_schema=schema)
    bad = await shop.triggered(a.RunDeployment(deployment_id=deployment, parameters={"n": "many"}))
    await shop.carry_out()
    assert "Validation error" in await shop.reason(bad)
    assert (await shop.told(bad))[1]["payload"]["status_code"] == 409


async def test_a_chain_of_runs_that_automations_make_ends(shop: Acting) -> None:
    deployment = await shop.deployment(None)
    made: list[str] = []
    for _ in range(MAX_DEPTH + 1):
        action = await shop.triggered(a.RunDeployment(deployment_id=deployment), *made[-1:])
        await shop.carry_out()
        if (await shop.row(action))["status"] == "failed":
            break
        related = (await shop.done(action))["related"]
        made += [one["prefect.resource.id"] for one in related if one["prefect.resource.role"] == "flow-run"]
    assert len(made) == MAX_DEPTH
    assert "in a row" in await shop.reason(action)


async def test_an_automation_that_acts_too_often_waits(shop: Acting) -> None:
    first = await shop.triggered(a.DoNothing())
    await shop.carry_out()
    shop.service._recent[first.automation.id].extend([shop.now] * (PER_MINUTE - 1))
    again = TriggeredAction(
        **{name: getattr(first, name) for name in first.__struct_fields__ if name != "id"}, id=new_id()
    )
    await shop.database.write(store.insert_actions, [again], shop.now)
    await shop.carry_out()
    assert (await shop.row(again))["status"] == "pending"
    shop.pass_seconds(61)
    await shop.carry_out()
    assert (await shop.row(again))["status"] == "done"
    assert (await shop.row(again))["attempts"] == 1


async def test_deployments_pools_queues_and_automations_are_paused_and_resumed(shop: Acting) -> None:
    pool = await shop.pool()
    queue = await shop.queue("urgent")
    deployment = await shop.deployment()
    body = AutomationCreate(name="other", trigger=TRIGGER, actions=[a.DoNothing()])
    made = await shop.database.write(automation_changes.create_automation, body, shop.now)
    other = id_of(made["id"])

    async def paused() -> list[bool]:
        found = []
        for table, column in (
            (t.deployment, "paused"),
            (t.work_pool, "is_paused"),
            (t.automation, "enabled"),
        ):
            (row,) = await shop.database.read(select, sa.select(table.c[column]), {})
            found.append(bool(row[column]))
        query = sa.select(t.work_queue.c.is_paused).where(t.work_queue.c.name == "urgent")
        (row,) = await shop.database.read(select, query, {})
        return [*found, bool(row["is_paused"])]

    assert await paused() == [False, False, True, False]
    actions = [
        await shop.triggered(a.PauseDeployment(deployment_id=deployment)),
        await shop.triggered(a.PauseWorkPool(source="inferred"), f"prefect.work-pool.{pool}"),
        await shop.triggered(a.PauseAutomation(automation_id=other)),
        await shop.triggered(a.PauseWorkQueue(source="inferred"), "x.y", f"prefect.work-queue.{queue}"),
    ]
    await shop.carry_out()
    for action in actions:
        assert (await shop.done(action))["payload"]["status_code"] in (200, 204)
    assert await paused() == [True, True, False, True]
    for resumption in (
        a.ResumeDeployment(deployment_id=deployment),
        a.ResumeWorkPool(work_pool_id=pool),
        a.ResumeAutomation(automation_id=other),
        a.ResumeWorkQueue(work_queue_id=queue),
    ):
        await shop.triggered(resumption)
    await shop.carry_out()
    assert await paused() == [False, False, True, False]
    lost = [
        await shop.triggered(a.PauseWorkPool(work_pool_id=new_id())),
        await shop.triggered(a.PauseWorkQueue(work_queue_id=new_id())),
        await shop.triggered(a.PauseAutomation(source="inferred")),
        await shop.triggered(a.PauseDeployment(deployment_id=new_id())),
    ]
    await shop.carry_out()
    reasons = [await shop.reason(action) for action in lost]
    assert "not found" in reasons[0]
    assert "404" in reasons[1]
    assert reasons[2] == "No automation could be inferred"
    assert "404" in reasons[3]


async def test_flow_runs_are_cancelled_suspended_resumed_changed_and_deleted(shop: Acting) -> None:
    deployment = await shop.deployment(None)

    async def run_of(state: Any = None) -> str:
        return f"prefect.flow-run.{await shop.run(deployment, state=state)}"

    async def state_of(run: str) -> str:
        query = sa.select(t.flow_run.c.state_name).where(
            t.flow_run.c.id == sa.bindparam("id", type_=t.flow_run.c.id.type)
        )
        (row,) = await shop.database.read(select, query, {"id": UUID(run.rpartition(".")[2])})
        return str(row["state_name"])

    cancelled, suspended, changed = [await run_of(a_state(S.RUNNING)) for _ in range(3)]
    deleted = await run_of()
    await shop.triggered(a.CancelFlowRun(), cancelled)
    await shop.triggered(a.SuspendFlowRun(), "x.y", suspended)
    await shop.triggered(
        a.ChangeFlowRunState(state=S.FAILED, name="TooSlow", message="m"),
        labels={"prefect.resource.id": changed},
        event=False,
    )
    await shop.triggered(a.DeleteFlowRun(), deleted)
    await shop.carry_out()
    assert [await state_of(run) for run in (cancelled, suspended, changed)] == [
        "Cancelling",
        "Suspended",
        "TooSlow",
    ]
    assert len(await shop.database.read(select, sa.select(t.flow_run.c.id), {})) == 3
    resumed = await shop.triggered(a.ResumeFlowRun(), suspended)
    refused = await shop.triggered(a.ResumeFlowRun(), changed)
    final = await shop.triggered(a.ChangeFlowRunState(state=S.COMPLETED), changed)
    gone = await shop.triggered(a.DeleteFlowRun(), deleted)
    nothing = await shop.triggered(a.CancelFlowRun())
    await shop.carry_out()
    await shop.done(resumed)
    assert await state_of(suspended) == "Resuming"
    assert "not paused" in await shop.reason(refused)
    assert (await shop.reason(final)).startswith("Failed to set state")
    assert "404" in await shop.reason(gone)
    assert await shop.reason(nothing) == "No flow run could be inferred"


async def test_two_servers_carry_out_each_action_once(shop: Acting) -> None:
    deployment = await shop.deployment(None)
    for _ in range(12):
        await shop.triggered(a.RunDeployment(deployment_id=deployment))
    other = Actions(KEYS, lambda: "other")

    async def work(service: Actions) -> None:
        while await service.run_once(shop.database, shop.now):
            pass

    await asyncio.gather(work(shop.service), work(other))
    assert len(await shop.database.read(select, sa.select(t.flow_run.c.id), {})) == 12


async def test_an_action_whose_server_died_is_taken_over_and_not_for_ever(shop: Acting) -> None:
    from eparch.store import outbox

    action = await shop.triggered(a.DoNothing())
    for _ in range(MAX_ATTEMPTS):
        taken = await shop.database.write(outbox.take, new_id(), shop.now, shop.now + LEASE, 10)
        assert [one.triggered for one in taken] == [action]
        assert await shop.database.write(outbox.take, new_id(), shop.now, shop.now + LEASE, 10) == []
        shop.pass_seconds(LEASE.total_seconds() + 1)
    await shop.carry_out()
    assert "stopped each time" in await shop.reason(action)


async def test_who_lost_its_claim_does_nothing(shop: Acting) -> None:
    from eparch.orchestration.actions.acting import Rendered
    from eparch.orchestration.actions.outcome import Outcome
    from eparch.orchestration.actions.service import _act

    deployment = await shop.deployment(None)
    action = await shop.triggered(a.RunDeployment(deployment_id=deployment))
    await shop.database.write(_act, action, new_id(), Rendered({}, "x"), Outcome(), shop.now)
    assert await shop.database.read(select, sa.select(t.flow_run.c.id), {}) == []


async def test_a_notification_is_rendered_and_sent_with_the_state_of_the_event(
    shop: Acting, server: Receiver
) -> None:
    deployment = await shop.deployment(None)
    run = await shop.run(deployment)
    block = await shop.block("slack-webhook", {"url": f"{server.url}/services/very-secret"}, ["notify"])
    action = await shop.triggered(
        a.SendNotification(
            block_document_id=block,
            subject="{{ flow_run.name }} {{ flow.name }}",
            body="{{ flow_run.state.name }} {{ flow_run | ui_url }}",
        ),
        f"prefect.flow-run.{run}",
    )
    await shop.carry_out()
    ended = await shop.done(action)
    roles = {one["prefect.resource.role"]: one["prefect.resource.id"] for one in ended["related"]}
    assert roles["block"] == f"prefect.block-document.{block}"
    assert roles["block-type"] == "prefect.block-type.slack-webhook"
    (got,) = server.got
    text = json.loads(got.body)["text"]
    assert "Scheduled https://ui.example/runs/flow-run/" in text


async def test_a_webhook_is_called_and_its_answer_told_without_secrets(
    shop: Acting, server: Receiver
) -> None:
    data = {"url": f"{server.url}/hook", "headers": {"Authorization": "Bearer the-token"}}
    block = await shop.block("webhook", data)
    server.answer = b"you sent Bearer the-token"
    action = await shop.triggered(
        a.CallWebhook(block_document_id=block, payload='{"n": {{ event.payload.n }}}'), payload={"n": 7}
    )
    await shop.carry_out()
    ended = await shop.done(action)
    assert ended["payload"]["status_code"] == 200
    assert ended["payload"]["response_body"] == "you sent ***"
    (got,) = server.got
    assert got.body == b'{"n": 7}'
    assert got.headers["idempotency-key"] == str(action.id)


async def test_what_fails_and_passes_is_tried_again_with_the_same_key_and_then_no_more(
    shop: Acting, server: Receiver
) -> None:
    block = await shop.block("webhook", {"url": f"{server.url}/very-secret-path"})
    server.status = 503
    action = await shop.triggered(a.CallWebhook(block_document_id=block))
    waits = []
    for _ in range(MAX_ATTEMPTS):
        await shop.carry_out()
        row = await shop.row(action)
        waits.append((row["next_attempt"] - shop.now).total_seconds())
        shop.pass_seconds(waits[-1])
    assert waits == [2, 8, 32, 128, 0]
    assert len({got.headers["idempotency-key"] for got in server.got}) == 1
    assert len(server.got) == MAX_ATTEMPTS
    assert "503" in await shop.reason(action)
    again = await shop.triggered(a.CallWebhook(block_document_id=block))
    await shop.carry_out()
    server.status = 200
    shop.pass_seconds(10)
    await shop.carry_out()
    await shop.done(again)


async def test_what_a_message_fails_for(shop: Acting, server: Receiver) -> None:
    slack = await shop.block("slack-webhook", {"url": f"{server.url}/very-secret-path"}, ["notify"])
    server.status = 404
    told = await shop.triggered(a.SendNotification(block_document_id=slack, body="b"))
    gone = await shop.triggered(a.SendNotification(block_document_id=new_id(), body="b"))
    hook = await shop.triggered(a.CallWebhook(block_document_id=slack))
    wrong = await shop.triggered(a.SendNotification(block_document_id=slack, body="{{ 1 / 0 }}"))
    await shop.carry_out()
    assert "404" in await shop.reason(told)
    assert "very-secret" not in str(await shop.told(told))
    assert "not there" in await shop.reason(gone)
    assert "not a webhook block" in await shop.reason(hook)
    assert (await shop.reason(wrong)).startswith("Template rendering failed")
    assert (await shop.told(wrong))[1]["payload"]["template_source"] == "{{ 1 / 0 }}"


async def test_what_ended_is_forgotten_after_a_day(shop: Acting) -> None:
    await shop.triggered(a.DoNothing())
    await shop.carry_out()
    shop.pass_seconds(90_000)
    await shop.carry_out()
    assert await shop.database.read(select, sa.select(t.automation_action.c.id), {}) == []
