"""The client's end of a socket, against servers that behave and servers that do not (wire 4.3)."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.server import ServerConnection, serve

from eparch import settings as load
from eparch.client.socket import connect
from eparch.core.errors import Disconnected, Forbidden, Unreachable
from eparch.settings import Settings

WAIT = 15.0


def settings(home: Path, **given: str) -> Settings:
    return load.load({"EPARCH_HOME": str(home), **given}, home)


@contextlib.contextmanager
def serving(handle: Callable[[ServerConnection], None], **options: Any) -> Iterator[str]:
    with serve(handle, "127.0.0.1", 0, subprotocols=["prefect"], **options) as server:  # type: ignore[list-item]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}/api"
        server.shutdown()
        thread.join()


def welcome(connection: ServerConnection) -> Any:
    said = json.loads(connection.recv(WAIT))
    connection.send('{"type":"auth_success"}')
    return said


def test_messages_go_both_ways_after_the_handshake(tmp_path: Path) -> None:
    def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        said = welcome(connection)
        heard = json.loads(connection.recv(WAIT))
        connection.send(json.dumps({"path": connection.request.path, "auth": said, "heard": heard}))

    with (
        serving(handle) as url,
        connect(settings(tmp_path, EPARCH_AUTH_STRING="u:p"), "/events/out", api_url=url) as socket,
    ):
        socket.send({"type": "filter"})
        assert socket.receive(WAIT) == {
            "path": "/api/events/out",
            "auth": {"type": "auth", "token": "u:p"},
            "heard": {"type": "filter"},
        }


def test_silence_is_none_and_the_end_says_why(tmp_path: Path) -> None:
    go = threading.Event()

    def handle(connection: ServerConnection) -> None:
        welcome(connection)
        go.wait(WAIT)
        connection.close(1013, "Too slow")

    with serving(handle) as url, connect(settings(tmp_path), "/x", api_url=url) as socket:
        assert socket.receive(0) is None
        go.set()
        with pytest.raises(Disconnected) as over:
            socket.receive(WAIT)
        assert (over.value.code, over.value.reason) == (1013, "Too slow")
        with pytest.raises(Disconnected):
            socket.send({})


@pytest.mark.parametrize("frame", ["nonsense", "[]", b"\xff"])
def test_what_is_no_message_ends_the_connection(tmp_path: Path, frame: str | bytes) -> None:
    def handle(connection: ServerConnection) -> None:
        welcome(connection)
        connection.send(frame)
        with contextlib.suppress(Exception):
            connection.recv(WAIT)

    with (
        serving(handle) as url,
        connect(settings(tmp_path), "/x", api_url=url) as socket,
        pytest.raises(Disconnected),
    ):
        socket.receive(WAIT)


def test_a_wrong_secret_is_told_from_a_server_that_stops(tmp_path: Path) -> None:
    for code, kind in ((1008, Forbidden), (1012, Disconnected)):

        def handle(connection: ServerConnection, code: int = code) -> None:
            connection.recv(WAIT)
            connection.close(code, "because")

        with (
            serving(handle) as url,
            pytest.raises(kind) as failure,
            connect(settings(tmp_path), "/x", api_url=url),
        ):
            pass
        assert "because" in failure.value.why


def test_a_socket_that_is_not_offered(tmp_path: Path) -> None:
    def refuse(connection: ServerConnection, _: Any) -> Any:
        return connection.respond(HTTPStatus.FORBIDDEN, "no")

    with (
        serving(welcome, process_request=refuse) as url,
        pytest.raises(Forbidden, match="refused ws://"),
        connect(settings(tmp_path), "/x", api_url=url),
    ):
        pass


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/api", "nonsense", "http://"])
def test_nobody_is_there(tmp_path: Path, url: str) -> None:
    with pytest.raises(Unreachable), connect(settings(tmp_path), "/x", api_url=url):
        pass
