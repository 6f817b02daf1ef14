"""``eparch event`` and following a run's lines, in processes of their own against a real server."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from eparch.core import calls


@pytest.fixture
def process(environ):
    """Starts a command; its standard output can be read line by line."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "eparch", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ.copy(),
        )
        started.append(process)
        return process

    yield start
    for one in started:
        one.kill()
        one.communicate()


def test_emitted_events_are_streamed(eparch, process, client, tmp_path):
    resource = f"order-{uuid4()}"
    emitted = eparch(
        "event", "emit", "order.shipped", "--resource-id", resource, "-r", "color=red",
        "--related", '{"prefect.resource.id": "shop", "prefect.resource.role": "seller"}',
        "-p", '{"n": [1]}', "-o", "json",
    ).json()  # fmt: skip
    about = ("--resource", resource, "--since", "5 minutes")
    found = eparch("event", "stream", *about, "--run-once", "-o", "json").json()
    assert found["id"] == emitted["id"]
    assert (found["resource"], found["payload"]) == (
        {"prefect.resource.id": resource, "color": "red"}, {"n": [1]}
    )  # fmt: skip
    text = eparch("events", "stream", *about, "--related", "shop", "--event", "order.", "--run-once").out
    assert text.split()[1:] == ["order.shipped", resource]
    file = tmp_path / "events.jsonl"
    eparch("event", "stream", *about, "--run-once", "--format", "json", "--output-file", file)
    assert json.loads(file.read_text())["id"] == found["id"]
    streaming = process("event", "stream", *about, "--format", "text")
    assert "order.shipped" in streaming.stdout.readline()
    eparch("event", "emit", "order.paid", "--resource-id", resource)
    assert "order.paid" in streaming.stdout.readline()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["e"], "prefect.resource.id"),
        (["e", "-r", "nonsense"], "key=value"),
        (["e", "--resource-id", "r", "-p", "[]"], "JSON object"),
        (["e", "--resource-id", "r", "--related", "5"], "no JSON of labels"),
        (["e", "--resource-id", "r", "--related", '{"a": "b"}'], "prefect.resource.role"),
        (["e", "-r", '{"prefect.resource.id": '], "not JSON"),
    ],
)
def test_an_event_that_is_none_is_refused_with_the_reason(run, client, arguments, says):
    assert says in run("event", "emit", *arguments, code=2).err


def test_a_file_that_cannot_be_written(run, client, tmp_path):
    assert "cannot be written" in run(
        "event", "stream", "--output-file", tmp_path / "no" / "such", code=2
    ).err  # fmt: skip


def test_lines_of_a_run_are_followed_to_its_end(process, client):
    flow = client.send(calls.create_flow(body={"name": f"f-{uuid4()}"}))
    run = client.send(calls.create_flow_run(body={"flow_id": str(flow.id), "state": {"type": "RUNNING"}}))

    def log(*texts):
        now = datetime.now(UTC).isoformat()
        client.send(calls.create_logs(body=[
            {"name": "l", "level": 20, "message": text, "timestamp": now, "flow_run_id": str(run.id)}
            for text in texts
        ]))  # fmt: skip

    log("first", "second")
    following = process("flow-run", "logs", run.id, "-f")
    assert "first" in following.stdout.readline()
    assert "second" in following.stdout.readline()
    log("third")
    assert "third" in following.stdout.readline()
    log("last")
    client.send(calls.set_flow_run_state(id=run.id, body={"state": {"type": "COMPLETED"}}))
    rest = following.communicate(timeout=60)
    assert following.returncode == 0, rest
    assert [line.split()[-1] for line in rest[0].splitlines()] == ["last"]
