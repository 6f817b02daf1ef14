"""Calls an ASGI application in this process, and starts a real server where sockets need one."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import msgspec

from eparch.api import root  # noqa: F401
from eparch.api.app import App
from eparch.api.listening import listen, run, url_of
from eparch.api.policy import Policy
from eparch.api.request import Answer, Request, Services
from eparch.api.router import HANDLERS, Route

ROOT_PATHS = (
    "/health",
    "/hello",
    "/version",
    "/eparch",
    "/admin/version",
    "/admin/settings",
    "/csrf-token",
)


def root_routes() -> list[Route]:
    """The real handlers that need no database."""
    return [route for (_, path), route in HANDLERS.items() if path in ROOT_PATHS]


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        data = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return msgspec.json.decode(data)


def make_app(*routes: Route, **policy: Any) -> App:
    """An app that has started, with the root handlers and ``routes``."""
    app = App(Policy(**policy), [*root_routes(), *routes])
    app.services = Services(app.policy, app.gate, datetime.now(UTC))
    return app


def call(
    app: App,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    chunks: list[bytes] | None = None,
) -> Response:
    """One request, answered. ``body`` has a length header, ``chunks`` come without one."""
    return asyncio.run(call_in_loop(app, method, path, body, headers, chunks=chunks))


async def call_in_loop(
    app: App,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    chunks: list[bytes] | None = None,
    stay: bool = False,
    answered: bool = True,
) -> Any:
    """The response. Who stays waits for it; without ``answered`` none may come, and None is returned."""
    given = {"host": "testserver", **({} if headers is None else headers)}
    if body is not None:
        given.setdefault("content-length", str(len(body)))
    if chunks is not None:
        given["transfer-encoding"] = "chunked"
    target, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(target),
        "raw_path": target.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"),
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in given.items()],
    }
    parts = list(chunks) if chunks is not None else [body or b""]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not parts:
            if stay:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if not answered:
        assert not sent
        return None
    start, *pieces = sent
    assert start["type"] == "http.response.start"
    assert [piece.get("more_body", False) for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    received = {k.decode(): v.decode("latin-1") for k, v in start["headers"]}
    return Response(start["status"], received, b"".join(piece["body"] for piece in pieces))


@contextmanager
def served(app: App) -> Iterator[str]:
    """``app`` behind a real server in a thread; the value is ``host:port/api``."""
    sock = listen("127.0.0.1", 0)
    ready = threading.Event()
    place = url_of(sock).removeprefix("http://")
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(app, sock, lambda url: ready.set(), stop), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield place
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


__all__ = ["Answer", "Request", "Response", "call", "call_in_loop", "make_app", "root_routes", "served"]
