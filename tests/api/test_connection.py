"""Clients that are slow on purpose, or do not know when to stop: nothing of the server is held for them."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from eparch.api import connection, request
from eparch.api.request import Request
from eparch.api.router import Route
from eparch.core.calls import Endpoint

from .calling import make_app, served
from .test_router import ROUTES


@contextmanager
def opened(place: str) -> Iterator[socket.socket]:
    host, _, port = place.partition("/")[0].partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        yield sock


def until_closed(sock: socket.socket) -> bytes:
    received = b""
    try:
        while part := sock.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /api/hea",
        b"GET /api/health HTTP/1.1\r\nHost: x\r\n",
        b"GET /api/health HTTP/1.1\r\nHost: x\r\nX: ",
    ],
)
def test_who_does_not_finish_the_headers_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.1)
    with served(make_app()) as place, opened(place) as sock:
        sock.sendall(begun)
        assert until_closed(sock) == b""


def test_second_request_has_to_be_finished_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.1)
    with served(make_app()) as place, opened(place) as sock:
        sock.sendall(b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\nGET /api")
        answers = until_closed(sock)
        assert answers.startswith(b"HTTP/1.1 200")
        assert answers.endswith(b"true")


def test_connection_that_rests_between_two_requests_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.1)
    with served(make_app()) as place, opened(place) as slow:
        quick = http.client.HTTPConnection(place.partition("/")[0], timeout=30)
        quick.request("GET", "/api/health")
        assert quick.getresponse().read() == b"true"
        own = quick.sock
        assert until_closed(slow) == b""  # as long as another one's patience lasts
        quick.request("GET", "/api/health")
        assert quick.getresponse().read() == b"true"
        assert quick.sock is own
        quick.close()


def test_headers_without_end_are_not_kept() -> None:
    with served(make_app()) as place, opened(place) as sock:
        line = b"X-More: " + b"x" * 8000 + b"\r\n"
        sock.sendall(b"GET /api/health HTTP/1.1\r\nHost: x\r\n")
        try:
            for _ in range(1000):
                sock.sendall(line)
        except (BrokenPipeError, ConnectionResetError):
            return
        pytest.fail("the server read 8 MB of headers")


def test_body_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "BODY_SECONDS", 0.1)
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.1)
    with served(make_app(*ROUTES)) as place, opened(place) as sock:
        sock.sendall(b"POST /api/flows/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answer = until_closed(sock)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"did not arrive in time" in answer


def test_rest_of_a_refused_body_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.1)
    with served(make_app(*ROUTES)) as place, opened(place) as sock:
        sock.sendall(b"POST /api/flows/ HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n{")
        assert until_closed(sock).startswith(b"HTTP/1.1 413")


def test_body_of_11_mb_is_refused() -> None:
    with served(make_app(*ROUTES)) as place:
        client = http.client.HTTPConnection(place.partition("/")[0], timeout=30)
        client.request("POST", "/api/flows/", b" " * 11_000_000)
        answer = client.getresponse()
        assert answer.status == 413
        assert b"larger than" in answer.read()
        client.close()


async def read_much(request: Request) -> Any:
    return ["x" * 1000] * 50_000


def test_who_does_not_take_the_answer_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.1)
    gone = threading.Event()
    lose = connection.Connection.connection_lost

    def lost(self: connection.Connection, exc: Exception | None) -> None:
        lose(self, exc)
        gone.set()

    monkeypatch.setattr(connection.Connection, "connection_lost", lost)
    app = make_app(Route(Endpoint("GET", "/much", Any), read_much))
    with served(app) as place, opened(place) as sock:
        sock.sendall(b"GET /api/much HTTP/1.1\r\nHost: x\r\n\r\n")
        assert gone.wait(30)
        assert len(until_closed(sock)) < 50_000_000


def test_who_takes_the_answer_slowly_gets_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.5)
    app = make_app(Route(Endpoint("GET", "/much", Any), read_much))
    with served(app) as place, opened(place) as sock:
        sock.sendall(b"GET /api/much HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = 0
        while part := sock.recv(100_000):
            received += len(part)
        assert received > 50_000_000


def test_one_connection_too_many_is_turned_away() -> None:
    app = make_app(max_connections=2)
    with served(app) as place, opened(place) as first, opened(place) as second:
        for sock in (first, second):
            sock.sendall(b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        with opened(place) as third:
            answer = until_closed(third)
            assert answer.startswith(b"HTTP/1.1 503")
            head, _, body = answer.partition(b"\r\n\r\n")
            assert f"content-length: {len(body)}\r\n".encode() in head + b"\r\n"
        second.sendall(b"GET /api/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert until_closed(second).endswith(b"true")
        with opened(place) as third:
            third.sendall(b"GET /api/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert until_closed(third).endswith(b"true")


def test_bodies_that_arrive_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "MAX_UNREAD_BYTES", 1_000_000)
    head = b"POST /api/flows/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1500000\r\n\r\n"
    with served(app := make_app(*ROUTES)) as place, opened(place) as sock:
        sock.sendall(head + b" " * 1_200_000)
        assert sock.recv(1000).startswith(b"HTTP/1.1 503")
        assert app.services is not None
        assert app.services.unread_bytes == 0
