"""Clients that are slow on purpose, or do not know when to stop: nothing of the server is held for them."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from eparch.api import connection, request

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
