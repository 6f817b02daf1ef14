"""The socket of task workers behind a real server on a real store (wire 4.3, row B10)."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from eparch import settings
from eparch.api.app import App, create_app
from eparch.client.http import Client
from eparch.core import calls

from .calling import served
from .test_sockets import WAIT, hear, opened, say

NAME = "task_runs/subscriptions/scheduled"


def make_app(home: Path, database_url: str) -> App:
    loaded = settings.load({"EPARCH_HOME": str(home), "EPARCH_DATABASE_URL": database_url}, home)
    return create_app(loaded)


@pytest.fixture(params=["sqlite_url", "postgres_url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with served(make_app(tmp_path, request.getfixturevalue(request.param))) as place:
        yield place


@contextlib.contextmanager
def subscribed(place: str, *keys: str, client_id: str = "one", **more: Any) -> Iterator[ClientConnection]:
    with opened(place, NAME) as socket:
        say(socket, {"type": "subscribe", "keys": keys or ["work"], "client_id": client_id, **more})
        yield socket


def delay(client: Client, key: str = "work", **details: Any) -> str:
    state = {"type": "SCHEDULED", "state_details": {"deferred": True, **details}}
    body = {"task_key": key, "dynamic_key": str(uuid4()), "name": key, "state": state}
    return str(client.send(calls.create_task_run(body=body)).id)


def ack(socket: ClientConnection, **more: Any) -> None:
    say(socket, {"type": "ack", **more})


@pytest.fixture
def client(place: str) -> Iterator[Client]:
    with Client(f"http://{place}") as client:
        yield client


def test_b10_a_task_worker_is_handed_what_waits_and_what_comes(place: str, client: Client) -> None:
    first = delay(client)
    with subscribed(place) as socket:
        handed = hear(socket)
        assert handed["id"] == first
        assert handed["state"]["type"] == "SCHEDULED"
        assert handed["state"]["state_details"]["deferred"] is True
        ack(socket)
        second = delay(client)
        assert hear(socket)["id"] == second
        found = client.send(calls.read_task_workers(body={"task_worker_filter": {"task_keys": ["work"]}}))
        assert [(one.identifier, one.task_keys) for one in found] == [("one", ["work"])]
        assert client.send(calls.read_task_workers(body={"task_worker_filter": {"task_keys": ["x"]}})) == []


def test_b10_the_next_comes_after_the_acknowledgement(place: str, client: Client) -> None:
    made = {delay(client), delay(client)}
    with subscribed(place) as one, subscribed(place, client_id="two") as two:
        handed = [hear(one)["id"], hear(two)["id"]]
        assert set(handed) == made
        third = delay(client)
        ack(two)
        assert hear(two)["id"] == third


def test_b10_who_has_no_room_is_handed_nothing_until_it_says_so(place: str, client: Client) -> None:
    delay(client)
    with subscribed(place) as full, contextlib.ExitStack() as stack:
        hear(full)
        ack(full, more=False)
        second = delay(client)
        other = stack.enter_context(subscribed(place, client_id="two"))
        assert hear(other)["id"] == second
        ack(other)
        third = delay(client)
        assert hear(other)["id"] == third
        ack(other, more=False)
        fourth = delay(client)
        say(full, {"type": "more"})
        assert hear(full)["id"] == fourth


def test_b10_what_was_not_acknowledged_goes_to_another(place: str, client: Client) -> None:
    made = delay(client)
    with subscribed(place) as socket:
        assert hear(socket)["id"] == made
    with subscribed(place, client_id="two") as socket:
        assert hear(socket)["id"] == made


def test_b10_quitting_gives_everything_back(place: str, client: Client) -> None:
    made = delay(client)
    with subscribed(place) as socket:
        hear(socket)
        ack(socket)
        say(socket, {"type": "quit"})
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=WAIT)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1000
    with subscribed(place, client_id="two") as socket:
        assert hear(socket)["id"] == made


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "filter"}, "expected 'subscribe' message"),
        ({"type": "subscribe", "client_id": "c"}, "expected 'keys' in subscribe message"),
        ({"type": "subscribe", "keys": [], "client_id": "c"}, "expected 'keys' in subscribe message"),
        ({"type": "subscribe", "keys": ["k"]}, "expected 'client_id' in subscribe message"),
        ({"type": "subscribe", "keys": [1], "client_id": "c"}, "Expected `str`"),
        ({"type": "subscribe", "keys": ["k"], "client_id": "c", "holding": ["x"]}, "'holding'"),
        ({"type": "subscribe", "keys": ["k"] * 1001, "client_id": "c"}, "length"),
    ],
)
@pytest.mark.parametrize("place", ["sqlite_url"], indirect=True)
def test_a_wrong_subscription_is_refused(place: str, message: Any, reason: str) -> None:
    with opened(place, NAME) as socket:
        say(socket, message)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=WAIT)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4001
    assert reason in closed.value.rcvd.reason


@pytest.mark.parametrize("place", ["sqlite_url"], indirect=True)
@pytest.mark.parametrize("answer", ["not json", '{"type": "more"}', "[1]"])
def test_a_wrong_answer_ends_the_connection_and_hands_the_task_on(
    place: str, client: Client, answer: str
) -> None:
    made = delay(client)
    with subscribed(place) as socket:
        hear(socket)
        socket.send(answer)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=WAIT)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4001
    with subscribed(place, client_id="two") as socket:
        assert hear(socket)["id"] == made


def test_b10_twenty_wait_for_a_server_that_is_started_again(tmp_path: Path, sqlite_url: str) -> None:
    with served(make_app(tmp_path, sqlite_url)) as place, Client(f"http://{place}") as client:
        made = {delay(client) for _ in range(20)}
        with subscribed(place) as socket:
            hear(socket)
    with served(make_app(tmp_path, sqlite_url)) as place, subscribed(place, client_id="two") as socket:
        handed = []
        for _ in range(20):
            handed.append(hear(socket)["id"])
            ack(socket)
    assert sorted(handed) == sorted(made)


def test_b10_two_servers_on_one_database_hand_each_task_to_one(tmp_path: Path, postgres_url: str) -> None:
    with (
        served(make_app(tmp_path, postgres_url)) as one,
        served(make_app(tmp_path, postgres_url)) as two,
        Client(f"http://{one}") as client,
        subscribed(two, client_id="far") as far,
    ):
        made = {delay(client)}
        handed = [hear(far)["id"]]  # who waits at the other server was woken
        with subscribed(one, client_id="near") as near:
            made |= {delay(client) for _ in range(9)}
            handed += _all_of(near, far, 9)
            listed = client.send(calls.read_task_workers(body={}))
            assert {worker.identifier for worker in listed} == {"near", "far"}
    assert sorted(handed) == sorted(made)


def _all_of(near: ClientConnection, far: ClientConnection, count: int) -> list[str]:
    """Take ``count`` task runs with both, however they fall."""
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()

    def take(socket: ClientConnection, owes: bool) -> None:
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            while True:
                if owes:
                    ack(socket)
                heard.put(hear(socket)["id"])
                owes = True

    for socket, owes in ((near, False), (far, True)):
        threading.Thread(target=take, args=(socket, owes), daemon=True).start()
    return [heard.get(timeout=WAIT) for _ in range(count)]
