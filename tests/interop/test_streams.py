"""Prefect's own client, unmodified: events and lines of log as they come, against our server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

from bench.targets import Session, wait_for

SUBSCRIBERS = """
import asyncio
from uuid import uuid4
from prefect import flow, get_run_logger, task
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.events.schemas.events import Event
from prefect.events.subscribers import FlowRunSubscriber
from prefect.states import Pending

RESOURCE = f"interop.{uuid4()}"


@task
def add(a, b):
    return a + b


@flow
def told(a):
    get_run_logger().info("the sum is %s", add(a, 1))


async def follow(run):
    names, lines = [], []
    async with FlowRunSubscriber(flow_run_id=run.id, straggler_timeout=3) as subscriber:
        running = asyncio.create_task(asyncio.to_thread(run_in_place, run))
        async for item in subscriber:
            if isinstance(item, Event):
                names.append(item.event)
            else:
                lines.append(item.message)
        await running
    return names, lines


def run_in_place(run):
    from prefect.flow_engine import run_flow
    run_flow(told, flow_run=run, parameters={"a": 1})


async def emitted():
    wanted = EventFilter(event=EventNameFilter(name=["interop.sdk"]))
    async with get_events_subscriber(filter=wanted) as subscriber:
        emit_event("interop.sdk", resource={"prefect.resource.id": RESOURCE})
        async for event in subscriber:
            return event.resource.id


async def main():
    async with get_client() as client:
        run = await client.create_flow_run(told, parameters={"a": 1}, state=Pending())
    names, lines = await asyncio.wait_for(follow(run), 60)
    assert await asyncio.wait_for(emitted(), 30) == RESOURCE
    flow_names = [n for n in names if n.startswith("prefect.flow-run.") and not n.endswith("heartbeat")]
    assert flow_names == [f"prefect.flow-run.{s}" for s in ("Pending", "Running", "Completed")], names
    finished = "Finished in state Completed()"  # the task says so, and the flow
    assert lines[1:] == [finished, "the sum is 2", finished], lines
    print("run", run.id)


asyncio.run(main())
"""


def test_its_subscribers_and_the_log_of_a_run(server: Session, stock: Session) -> None:
    printed = stock.run_python(SUBSCRIBERS)
    run_id = printed.split("run ")[-1].strip()
    assert "the sum is 2" in stock.run("flow-run", "logs", run_id).stdout


def test_its_events_commands(server: Session, stock: Session) -> None:
    # Its stream begins with the last minute; `--output-file` is broken in 3.8.8.
    printed = stock.home / "events-stream.log"

    def is_shown(name: str) -> bool:
        return printed.exists() and name in printed.read_text()

    emit(server, "interop.before")
    with stock.spawn("events", "stream", env={"PYTHONUNBUFFERED": "1"}):
        wait_for(lambda: is_shown("interop.before"), "what was is shown", 60.0, 0.1)
        stock.run("event", "emit", "interop.cli", "--resource-id", "interop.order", "--payload", '{"n": 1}')
        wait_for(lambda: is_shown("interop.cli"), "what comes is shown", 60.0, 0.1)
    shown = [json.loads(line) for line in printed.read_text().splitlines() if line.startswith("{")]
    (found,) = [event for event in shown if event["event"] == "interop.cli"]
    assert (found["resource"], found["payload"]) == ({"prefect.resource.id": "interop.order"}, {"n": 1})
    assert len({event["id"] for event in shown}) == len(shown)


def emit(server: Session, name: str) -> None:
    event = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": name,
        "resource": {"prefect.resource.id": "interop.probe"},
    }
    server.call("POST", "/events", [event])
