"""Sockets whose client says too much, too little or nothing that makes sense, over real connections.

What a server keeps for one is bounded by its queues, and whoever is sent away is told why, if it listens.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from eparch.api import connection, sockets, stream_sockets
from eparch.api.app import App
from eparch.api.policy import Policy
from eparch.core.events import Event
from eparch.core.model import encode

from .calling import root_routes, served
from .test_sockets import Memory, closing, listen, make, opened, received, say

PATIENCE = 60
UPGRADE = (
    b"GET /api/%b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
MASK = b"\x00" * 4
TEXT, BINARY, CONTINUATION, PING, END = 1, 2, 0, 9, 0x80


def frame(kind: int, data: bytes = b"") -> bytes:
    """A frame of less than 126 bytes."""
    return bytes([kind, 0x80 | len(data)]) + MASK + data


@contextmanager
def raw(place: str, name: bytes = b"events/in") -> Iterator[socket.socket]:
    """A connection after the handshake, without the subprotocol, on which any bytes can be sent."""
    host, _, port = place.partition("/")[0].partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
        sock.sendall(UPGRADE % name)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += sock.recv(1)
        assert answer.startswith(b"HTTP/1.1 101")
        yield sock


def close_code(sock: socket.socket) -> int:
    """The code with which the server closes; 0 when it hangs up without one."""
    said = b""
    with suppress(ConnectionResetError):
        while part := sock.recv(65536):
            said += part
    return struct.unpack(">H", said[2:4])[0] if said[:1] == b"\x88" else 0


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def place(memory: Memory) -> Iterator[str]:
    with served(App(Policy(), root_routes(), feeds=memory.feeds)) as found:
        yield found


def test_frames_that_come_faster_than_they_are_recorded_wait_outside(
    monkeypatch: pytest.MonkeyPatch, memory: Memory, place: str
) -> None:
    monkeypatch.setattr(sockets, "MAX_QUEUE", 50)
    monkeypatch.setattr(sockets, "MAX_BATCH", 20)
    may_record, full = threading.Event(), threading.Event()
    record, read = memory.record, sockets._event_of
    inside = most = 0

    async def record_late(events: list[Event]) -> None:
        nonlocal inside
        await asyncio.to_thread(may_record.wait, PATIENCE)
        await record(events)
        inside -= len(events)

    def count(data: str | bytes) -> Event | None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if inside > 50:
            full.set()
        return read(data)

    monkeypatch.setattr(sockets, "_event_of", count)
    monkeypatch.setattr(memory, "record", record_late)
    with (
        served(App(Policy(), root_routes(), feeds=memory.feeds)) as slow,
        opened(slow, "events/in") as client,
    ):

        def send() -> None:
            for n in range(10_000):
                say(client, make(f"e{n}"))

        sender = threading.Thread(target=send)
        sender.start()
        assert full.wait(PATIENCE)
        may_record.set()
        sender.join(PATIENCE)
        for _ in range(10_000):
            assert memory.arrived.acquire(timeout=PATIENCE)
    assert [event.event for event in memory.kept] == [f"e{n}" for n in range(10_000)]
    assert most <= 50 + 20 + 1


def test_answers_that_are_not_taken_stop_the_reading(
    monkeypatch: pytest.MonkeyPatch, memory: Memory, place: str
) -> None:
    monkeypatch.setattr(connection, "MAX_UNTAKEN_BYTES", 100_000)
    sizes, held = [0], threading.Event()
    take = connection.SocketConnection.data_received

    def watch(self: connection.SocketConnection, data: bytes) -> None:
        take(self, data)
        sizes.append(self.transport.get_write_buffer_size())
        if sizes[-1] > 100_000:
            held.set()

    monkeypatch.setattr(connection.SocketConnection, "data_received", watch)
    number = 250_000
    with raw(place) as sock:
        ping = frame(END | PING, b"x" * 120)
        sender = threading.Thread(target=sock.sendall, args=(ping * number,))
        sender.start()
        assert held.wait(PATIENCE)
        pongs = 0
        while pongs < number * 122:
            part = sock.recv(2**20)
            assert part
            pongs += len(part)
        sender.join(PATIENCE)
    # What is read at once is a quarter of a megabyte.
    assert max(sizes) < 100_000 + 2**18


def test_a_message_of_endless_parts_ends_the_socket(place: str) -> None:
    with raw(place) as sock:
        with suppress(ConnectionError):
            sock.sendall(frame(TEXT) + frame(CONTINUATION) * 5000)
        assert close_code(sock) == 1009


def test_a_message_of_64_mb_ends_the_socket(memory: Memory, place: str) -> None:
    with opened(place, "events/in") as client:
        with suppress(ConnectionClosed):
            client.send(b"x" * 64_000_000)
        # 1006 where the rest of it was under way: then the close frame is lost with the connection.
        assert closing(client)[0] in (1006, 1009)
    with opened(place, "events/in") as client:
        say(client, make("after"))
        assert memory.wait(1) == ["after"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(END | TEXT, b"\xff\xfe"), 1007),
        (frame(TEXT, b"\xe2\x82") + frame(END | CONTINUATION, b"("), 1007),
        (b"\xff" * 100, 1002),
        (bytes(range(256)), 1002),
        (b"GET /api/health HTTP/1.1\r\n\r\n", 1002),
        (b"\x81\x05hello", 1002),
        (frame(END | CONTINUATION, b"x"), 1002),
        (frame(PING, b"x"), 1002),
        (frame(0x88, b"\x00"), 1002),
    ],
    ids=["bytes", "half a letter", "ones", "all", "HTTP", "no mask", "no begin", "ping in parts", "close"],
)
def test_what_is_no_frame_ends_the_socket_and_is_not_in_the_log(
    place: str, sent: bytes, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), raw(place) as sock:
        sock.sendall(sent)
        assert close_code(sock) == code
    assert [record for record in caplog.records if record.exc_info] == []


def test_binary_garbage_in_frames_is_left_out(memory: Memory, place: str) -> None:
    with opened(place, "events/in") as client:
        for garbage in (b"", b"\x00" * 1000, b"\xff\xfe", bytes(range(256)), b"[" * 100_000, b"\x1f\x8b\x08"):
            client.send(garbage)
        client.send(encode(make("after")))
        assert memory.wait(1) == ["after"]


@pytest.mark.parametrize("name", ["events/in", "events/out", "logs/out"])
def test_who_never_says_who_it_is_is_sent_away(
    monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    monkeypatch.setattr(sockets, "HANDSHAKE_SECONDS", 0.05)
    with connect(f"ws://{place}/{name}", subprotocols=["prefect"]) as client:  # type: ignore[list-item]
        assert closing(client) == (1008, "Expected 'auth' message")


@pytest.mark.parametrize("name", ["events/out", "logs/out"])
def test_who_never_says_what_it_wants_is_sent_away(
    monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    monkeypatch.setattr(sockets, "HANDSHAKE_SECONDS", 0.05)
    with opened(place, name, subprotocols=None) as client:
        assert closing(client) == (1002, "Expected 'filter' message")


@pytest.mark.parametrize("much", [40, 90, 150])
def test_a_handshake_that_does_not_end_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch, place: str, much: int
) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.05)
    host, _, port = place.partition("/")[0].partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as sock:
        sock.sendall((UPGRADE % b"events/in")[:much])
        assert close_code(sock) == 0


@pytest.mark.parametrize("kind", ["events", "logs"])
def test_a_listener_that_takes_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, memory: Memory, kind: str
) -> None:
    monkeypatch.setattr(stream_sockets, "SEND_SECONDS", 0.2)
    given_up, close = threading.Event(), sockets.Socket.close

    async def watch(self: sockets.Socket, code: int, reason: str = "") -> None:
        given_up.set()
        await close(self, code, reason)

    monkeypatch.setattr(sockets.Socket, "close", watch)
    memory.logs = memory.events
    with (
        served(App(Policy(), root_routes(), feeds=memory.feeds)) as place,
        opened(place, f"{kind}/out") as client,
    ):
        listen(client, memory, backfill=False)
        event = msgspec.structs.replace(make("much"), payload={"x": "x" * 100_000})
        memory.kept += [received(event) for _ in range(400)]
        memory.events.wake()
        assert given_up.wait(PATIENCE)
        assert closing(client) == (1013, "Too slow: nothing was taken for 20 seconds. Connect again.")
