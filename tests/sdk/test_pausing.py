"""Pausing, suspending, resuming; variables; progress: with a real server, in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from eparch import Variable, flow, pause_flow_run, resume_flow_run, suspend_flow_run, task
from eparch.client.http import Client
from eparch.core import calls
from eparch.core.errors import Conflict, Invalid, Usage
from eparch.core.runs import FlowRun
from eparch.sdk import context
from eparch.sdk import session as sessions
from eparch.sdk.artifacts import create_image_artifact, create_progress_artifact, update_progress_artifact
from eparch.sdk.run_input import RunInput
from eparch.sdk.session import Session
from eparch.settings import load


class Order(RunInput):
    count: int
    word: str = "none"


@pytest.fixture
def client(server: Any, tmp_path: Path) -> Iterator[Client]:
    with Client(server.api_url) as found:
        sessions.use(Session(load({"EPARCH_HOME": str(tmp_path)}, tmp_path), found))
        yield found
        sessions.leave()


def resumer(client: Client, answers: list[dict[str, Any] | None], refused: list[str]) -> threading.Thread:
    """A person who resumes the run that is paused next, with each of ``answers`` until one is taken."""
    ids: list[UUID] = []

    def run() -> None:
        while not ids:
            paused = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
            for found in client.send(calls.read_flow_runs(body=paused)):
                keyset = found.state.state_details.run_input_keyset if found.state else None
                asked = calls.read_flow_run_inputs(id=found.id, body={"prefix": "paused", "limit": 10})
                if keyset is None or client.send(asked):
                    ids.append(found.id)
        for answer in answers:
            try:
                resume_flow_run(ids[0], answer)
            except Conflict as error:
                refused.append(error.why)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def the_run(client: Client, state: Any) -> FlowRun:
    return client.send(calls.read_flow_run(id=state.state_details.flow_run_id))


def test_b6_paused_flow_gets_what_it_asks_for(client: Client) -> None:
    refused: list[str] = []

    @flow
    def asks() -> Any:
        order = pause_flow_run(wait_for_input=Order.with_initial_data("How many?", word="some"))
        number = pause_flow_run(wait_for_input=int, poll_interval=0.05)
        pause_flow_run(poll_interval=0.05)
        return order, number

    people = resumer(client, [{"count": "x"}, {}, {"count": 2}], refused)

    def more() -> None:
        people.join(30)
        resumer(client, [{"value": 7}], refused).join(30)
        resumer(client, [None], refused).join(30)

    rest = threading.Thread(target=more, daemon=True)
    rest.start()
    order, number = asks()
    rest.join(30)
    assert isinstance(order, Order)
    assert (order.count, order.word, number) == (2, "some", 7)
    assert len(refused) == 2
    assert "count" in refused[0]


def test_b6_paused_async_flow_is_awaited(client: Client) -> None:
    ran: list[str] = []

    @flow
    async def asks() -> Any:
        async def beside() -> None:
            ran.append("beside")

        answer, _ = await asyncio.gather(
            pause_flow_run(wait_for_input=dict[str, int], poll_interval=0.05), beside()
        )
        return answer

    people = resumer(client, [{"value": {"a": 1}}], [])
    assert asyncio.run(asks()) == {"a": 1}
    people.join(30)
    assert ran == ["beside"]


def test_b6_history_of_a_pause_and_its_number(client: Client) -> None:
    @flow
    def pauses() -> str:
        pause_flow_run(poll_interval=0.05)
        run = context.flow_run.get()
        assert run is not None
        return str(run.record.id)

    people = resumer(client, [None], [])
    run_id = UUID(pauses())
    people.join(30)
    states = client.send(calls.read_flow_run_states(flow_run_id=run_id))
    assert [state.name for state in states] == ["Pending", "Running", "Paused", "Running", "Completed"]
    assert states[2].state_details.pause_key == "1"
    assert client.send(calls.read_flow_run(id=run_id)).run_count == 1


def test_b6_nobody_resumes(client: Client) -> None:
    @flow
    def waits() -> None:
        pause_flow_run(timeout=0.05)

    state = waits(return_state=True)
    assert state.is_failed()
    assert state.name in ("TimedOut", "Failed")
    assert "resumed" in (state.message or "")


def test_b6_only_a_flow_can_be_paused_or_suspended(client: Client) -> None:
    for call in (pause_flow_run, suspend_flow_run):
        with pytest.raises(Usage, match="There is no flow run"):
            call()

    @task
    def inner() -> None:
        suspend_flow_run()

    with pytest.raises(Usage, match="A task cannot be suspended"):
        flow(lambda: inner())()


def test_b6_run_without_a_deployment_cannot_be_suspended(client: Client) -> None:
    with pytest.raises(Conflict, match="cannot be suspended") as raised:
        flow(lambda: suspend_flow_run())()
    assert "deployment" in raised.value.why


def test_b6_run_that_is_not_paused_cannot_be_resumed(client: Client) -> None:
    @flow
    def runs() -> None:
        run = context.flow_run.get()
        assert run is not None
        with pytest.raises(Conflict, match="cannot be resumed"):
            resume_flow_run(run.record.id)

    runs()


def test_b11_variables_of_the_sdk(client: Client) -> None:
    assert Variable.get("absent") is None
    assert Variable.get("absent", default=5) == 5
    made = Variable.set("limits", {"a": [1]}, tags=["t"])
    assert (made.name, made.value, made.tags) == ("limits", {"a": [1]}, ["t"])
    with pytest.raises(Conflict, match="already"):
        Variable.set("limits", 2)
    Variable.set("limits", None, overwrite=True)
    assert Variable.get("limits", default="not null") is None
    with pytest.raises(Invalid):
        Variable.set("Not A Name", 1)
    assert Variable.unset("limits") is True
    assert Variable.unset("limits") is False

    async def use() -> Any:
        await Variable.set("later", 1)
        found = await Variable.aget("later")
        await Variable.unset("later")
        return found

    assert asyncio.run(use()) == 1
    assert Variable[int].get("later") is None


def test_b11_progress_moves_and_stays_within_its_bounds(client: Client) -> None:
    @flow
    def works() -> tuple[UUID, UUID]:
        made = create_progress_artifact(10, key="progress", description="begun")
        update_progress_artifact(made, 250.0)
        return made, create_image_artifact("https://example.org/x.png", key="image")

    progress, image = works()
    found = client.send(calls.read_latest_artifact(key="progress"))
    assert (found.id, found.type, found.data, found.description) == (progress, "progress", 100.0, "begun")
    found = client.send(calls.read_artifact(id=image))
    assert (found.type, found.data) == ("image", "https://example.org/x.png")


def test_b11_artifacts_of_an_async_flow_are_awaited(client: Client) -> None:
    @flow
    async def works() -> Any:
        made = await create_progress_artifact(1.0)
        return await update_progress_artifact(made, 2.0, description="now")

    found = client.send(calls.read_artifact(id=asyncio.run(works())))
    assert (found.data, found.description) == (2.0, "now")
    assert found.flow_run_id is not None
