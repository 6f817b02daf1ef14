"""Events and lines of log as they come, from a real application on each kind of database (wire 4.3)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from eparch import settings as load
from eparch.api.app import create_app
from eparch.client.http import Client
from eparch.client.socket import Socket, connect
from eparch.core import calls
from eparch.core.errors import Disconnected
from eparch.settings import Settings

from .application import DATABASES
from .calling import served

WAIT = 15.0


@pytest.fixture(scope="module", params=DATABASES)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, Client]]:
    home: Path = tmp_path_factory.mktemp("home")
    url = f"sqlite:///{home}/eparch.db"
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres_server")
        url = server.create(request.getfixturevalue("postgres_template"))
    given = {"EPARCH_HOME": str(home), "EPARCH_DATABASE_URL": url, "EPARCH_SERVICES_ENABLED": "false"}
    with served(create_app(load.load(given, home))) as where, Client(f"http://{where}") as client:
        yield load.load({**given, "EPARCH_API_URL": f"http://{where}"}, home), client
    if request.param == "postgresql":
        server.drop(url)


def hear(socket: Socket) -> dict[str, Any]:
    message = socket.receive(WAIT)
    assert message is not None
    return message


def lines(client: Client, run: str, *texts: str, level: int = 20, ago: float = 0.0) -> None:
    when = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat()
    client.send(calls.create_logs(body=[
        {"name": "eparch", "level": level, "message": text, "timestamp": when, "flow_run_id": run}
        for text in texts
    ]))  # fmt: skip


def of(run: str, **more: Any) -> dict[str, Any]:
    return {"flow_run_id": {"any_": [run]}, **more}


def messages(socket: Socket, number: int) -> list[str]:
    return [hear(socket)["log"]["message"] for _ in range(number)]


def emit(client: Client, resource: str, *names: str, ago: float = 0.0) -> None:
    when = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat()
    client.send(calls.create_events(body=[
        {"id": str(uuid4()), "occurred": when, "event": name, "resource": {"prefect.resource.id": resource}}
        for name in names
    ]))  # fmt: skip


def test_all_lines_of_a_run_and_then_those_that_come(place: tuple[Settings, Client]) -> None:
    settings, client = place
    run, other = str(uuid4()), str(uuid4())
    lines(client, run, *(f"old{n}" for n in range(600)), ago=3600)
    with connect(settings, "/logs/out") as socket:
        socket.send({"type": "filter", "filter": of(run), "backfill": True})
        assert messages(socket, 600) == [f"old{n}" for n in range(600)]
        lines(client, other, "not this")
        lines(client, run, "late", ago=7200)
        assert messages(socket, 1) == ["late"]


def test_lines_are_as_the_api_has_them(place: tuple[Settings, Client]) -> None:
    settings, client = place
    run = str(uuid4())
    with connect(settings, "/logs/out") as socket:
        socket.send({"type": "filter", "filter": of(run), "backfill": True})
        lines(client, run, 'a "line" ü\n')
        shown = hear(socket)["log"]
    stored = client.request("POST", "/logs/filter", {"logs": of(run)})
    assert [shown] == json.loads(stored.body)


def test_who_connects_again_goes_on_where_it_was(place: tuple[Settings, Client]) -> None:
    settings, client = place
    run = str(uuid4())
    lines(client, run, "a", "b")
    with connect(settings, "/logs/out") as socket:
        socket.send({"type": "filter", "filter": of(run), "backfill": True})
        seen = [hear(socket) for _ in range(2)]
    lines(client, run, "c", "d")
    with connect(settings, "/logs/out") as socket:
        socket.send({"type": "filter", "filter": of(run), "after": seen[-1]["place"]})
        assert messages(socket, 2) == ["c", "d"]
        lines(client, run, "e")
        assert messages(socket, 1) == ["e"]


def test_a_stock_client_names_the_time_from_which_on(place: tuple[Settings, Client]) -> None:
    """It asks for the last minute and leaves out what it has seen, so a lost connection loses nothing."""
    settings, client = place
    run = str(uuid4())
    lines(client, run, "long ago", ago=3600)
    lines(client, run, "just now", ago=10)
    since = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    with connect(settings, "/logs/out") as socket:
        socket.send({"type": "filter", "filter": of(run, timestamp={"after_": since})})
        assert messages(socket, 1) == ["just now"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"level": {"ge_": 30}}, ["error: disk is full", "warning"]),
        ({"level": {"le_": 20}}, ["plain"]),
        ({"text": {"query": "DISK warning"}}, ["error: disk is full", "warning"]),
        ({"text": {"query": "disk -full"}}, []),
        ({"text": {"query": '"is full" +error'}}, ["error: disk is full"]),
        ({"task_run_id": {"is_null_": True}}, ["plain", "error: disk is full", "warning"]),
        ({"task_run_id": {"is_null_": False}}, []),
    ],
    ids=str,
)
def test_live_lines_and_stored_ones_pass_the_same_filter(
    place: tuple[Settings, Client], more: dict[str, Any], expected: list[str]
) -> None:
    settings, client = place
    run, probe = str(uuid4()), str(uuid4())
    lines(client, probe, "here")
    with connect(settings, "/logs/out") as socket:
        socket.send({"type": "filter", "filter": of(probe), "backfill": True})
        start = hear(socket)["place"]
    lines(client, run, "plain", level=20)
    lines(client, run, "error: disk is full", level=40)
    lines(client, run, "warning", level=30)
    stored = client.request("POST", "/logs/filter", {"logs": of(run, **more)})
    assert [line["message"] for line in json.loads(stored.body)] == expected
    with connect(settings, "/logs/out") as socket:
        # What comes after a place is decided in memory, what was before in SQL.
        socket.send({"type": "filter", "filter": of(run, **more), "after": start})
        assert messages(socket, len(expected)) == expected
        assert socket.receive(0.05) is None
    with connect(settings, "/logs/out") as socket:
        socket.send({"type": "filter", "filter": of(run, **more), "backfill": True})
        assert messages(socket, len(expected)) == expected


def test_events_of_the_last_minutes_and_then_those_that_come(place: tuple[Settings, Client]) -> None:
    settings, client = place
    resource = f"r.{uuid4()}"
    emit(client, resource, "too.old", ago=3600)
    emit(client, resource, *(f"e{n}" for n in range(300)), ago=60)
    with connect(settings, "/events/out") as socket:
        socket.send({"type": "filter", "filter": {"any_resource": {"id": [resource]}}})
        assert {hear(socket)["event"]["event"] for _ in range(300)} == {f"e{n}" for n in range(300)}
        emit(client, resource, "late", ago=3600)
        emit(client, "other", "not this")
        emit(client, resource, "live")
        assert [hear(socket)["event"]["event"] for _ in range(2)] == ["late", "live"]


def test_nothing_is_missed_between_what_was_and_what_comes(place: tuple[Settings, Client]) -> None:
    """A listener that comes while events pour in gets each one once."""
    settings, client = place
    resource = f"r.{uuid4()}"
    names = [f"e{n}" for n in range(400)]

    def pour() -> None:
        for at in range(0, 400, 4):
            emit(client, resource, *names[at : at + 4])

    pouring = threading.Thread(target=pour)
    pouring.start()
    try:
        for _ in range(3):
            with connect(settings, "/events/out") as socket:
                socket.send({"type": "filter", "filter": {"resource": {"id": [resource]}}})
                seen = [hear(socket)["event"]["event"] for _ in range(400)]
            assert sorted(seen) == sorted(names)
    finally:
        pouring.join()


@pytest.mark.parametrize("wanted", [{"nope": 1}, [], {"level": {"ge_": "x"}}, {"text": {"query": "x" * 201}}])
def test_a_filter_of_lines_that_is_none(place: tuple[Settings, Client], wanted: Any) -> None:
    with connect(place[0], "/logs/out") as socket:
        socket.send({"type": "filter", "filter": wanted})
        with pytest.raises(Disconnected) as over:
            socket.receive(WAIT)
        assert over.value.code == 1002
        assert over.value.reason.startswith("Invalid filter: ")
