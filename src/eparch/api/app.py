"""The server as an ASGI application, and the process that runs it.

Owns the order in which a request passes: size of the headers, gate, route, handler, encoding; the life
of the services; starting and stopping. Knows no entity.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from eparch.api.auth import Gate, oversized
from eparch.api.errors import answer_to
from eparch.api.policy import Policy, exposure
from eparch.api.request import Answer, Disconnected, Receive, Request, Scope, Send, Services
from eparch.api.router import HANDLERS, MethodNotAllowed, Route, Router, body_of
from eparch.api.sockets import POLICY_VIOLATION, Feeds, Socket, run_socket
from eparch.core.errors import Forbidden, Unauthorized

if TYPE_CHECKING:
    from eparch.settings import Settings

Site = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application."""

Opening = Callable[[Services], AbstractAsyncContextManager[None]]
"""Opens what the handlers use and puts it into the services, until the server stops."""

WorkerTypes = Callable[[], list[dict[str, Any]]]
"""Describes the types of infrastructure: ``type``, ``default_base_job_configuration`` and texts."""

logger = logging.getLogger("eparch.api")

OPEN_TO_ALL = ("/health", "/ready")
"""Paths that can be read without the secret: probes have none (wire section 1, "Auth")."""

UNCOUNTED = (*OPEN_TO_ALL, "/eparch")
"""Asking whether the server is there does not keep it from stopping when idle."""

REPORT_SECONDS = 10.0
"""Wrong secrets are told to the log once in so long, with their number."""

GZIP_FROM = 1024
"""Bytes of a body from which it is compressed."""
GZIP_APART = 256 * 1024
"""Bytes from which it is compressed in a thread, so that nobody waits for it."""
MAX_TARGET = 16 * 1024
"""Bytes of a path with its query."""

_VARY = (b"vary", b"Accept-Encoding, Origin")
_SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
"""Of every answer: it is what it says it is, is kept nowhere, runs nothing and is shown in no frame."""
_SAFE_PAGE = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"frame-ancestors 'none'; base-uri 'self'; form-action 'self'"),
    (b"referrer-policy", b"same-origin"),
)
_DOCS_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class App:
    """One server: an ASGI callable."""

    def __init__(
        self,
        policy: Policy,
        routes: Iterable[Route],
        *,
        opening: Opening | None = None,
        feeds: Callable[[Services], Feeds] | None = None,
        site: Site | None = None,
    ) -> None:
        """``site`` answers what is not below the base path (the web page); ``feeds`` serve the sockets."""
        self.policy = policy
        self.gate = Gate(policy)
        self.router = Router(policy.base_path, routes)
        self.services: Services | None = None
        self.failure: BaseException | None = None
        """What went wrong at the start."""
        self.active_at = time.monotonic()
        self.open_sockets = 0
        self._opening = opening
        self._feeds = feeds
        self._site = site
        self._stack = AsyncExitStack()
        self._document: bytes | None = None
        self._open_to_all = frozenset(policy.base_path + path for path in OPEN_TO_ALL)
        self._uncounted = frozenset(policy.base_path + path for path in UNCOUNTED)
        self._wrong_secrets = 0
        self._reported_at = -REPORT_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI 3)."""
        kind = scope["type"]
        if kind == "http":
            await self._serve_http(scope, receive, send)
        elif kind == "websocket":
            await self._serve_socket(scope, receive, send)
        elif kind == "lifespan":
            await self._live(receive, send)

    # Life

    async def start(self) -> None:
        """Open what the handlers use.

        Raises:
            EparchError: the database cannot be used.
        """
        services = Services(self.policy, self.gate, datetime.now(UTC))
        if self._opening is not None:
            await self._stack.enter_async_context(self._opening(services))
        self.services = services

    def begin_stop(self) -> None:
        """Tell whoever waits for something (workers, sockets) that it will not come."""
        if self.services is not None:
            while self.services.on_stop:
                self.services.on_stop.pop(0)()

    async def stop(self) -> None:
        """Close what ``start`` opened."""
        self.begin_stop()
        self.services = None
        await self._stack.aclose()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:
            self.failure = error
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    def idle_seconds(self) -> float:
        """How long nobody has wanted anything."""
        return 0.0 if self.open_sockets else time.monotonic() - self.active_at

    # HTTP

    async def _serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path not in self._uncounted:
            self.active_at = time.monotonic()
        headers = dict(scope["headers"])
        if self._site is not None and not self._owns(path):
            refused = self._refused(scope, headers)
            if refused is None:
                await self._site(scope, receive, _safely(send))
            else:
                await self._send(scope["method"], headers, refused, body_of(refused), send)
            return
        try:
            answer = await self._answer(scope, receive, headers)
            body = body_of(answer)
            if answer.chunks is not None:
                # What fails before the first piece still has an answer that says so.
                body = await anext(answer.chunks, b"")
        except Disconnected:
            return
        except MethodNotAllowed as error:
            answer = Answer(405, {"detail": "Method Not Allowed"}, {"allow": error.allowed})
            body = body_of(answer)
        except Exception as error:
            if isinstance(error, Unauthorized) and b"authorization" in headers:
                self._report_wrong_secret(scope)
            answer = answer_to(error)
            body = body_of(answer)
        if answer.chunks is None:
            await self._send(scope["method"], headers, answer, body, send)
        else:
            await self._stream(scope, headers, answer, body, receive, send)

    async def _stream(
        self,
        scope: Scope,
        asked: dict[bytes, bytes],
        answer: Answer,
        first: bytes,
        receive: Receive,
        send: Send,
    ) -> None:
        """Send ``first`` and the chunks of ``answer``; none is made before the client took the one before."""
        assert answer.chunks is not None
        gone = asyncio.ensure_future(_until_disconnect(receive))
        try:
            await send(self._start(answer, asked, None))
            if scope["method"] != "HEAD":
                await send({"type": "http.response.body", "body": first, "more_body": True})
                async for chunk in answer.chunks:
                    if gone.done():
                        return
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()
            await answer.chunks.aclose()

    def _refused(self, scope: Scope, headers: dict[bytes, bytes]) -> Answer | None:
        """Why a page of the site is not shown, whatever it is."""
        try:
            self.gate.check_host(headers)
        except Forbidden as error:
            return answer_to(error)
        return _oversized(scope)

    def _report_wrong_secret(self, scope: Scope) -> None:
        """Tell the log, so that somebody can act; not each time, or guessing would fill the disk."""
        self._wrong_secrets += 1
        now = time.monotonic()
        if now - self._reported_at >= REPORT_SECONDS:
            client = str((scope.get("client") or ("unknown",))[0])[:100]
            logger.warning("Wrong credentials: %d times, the last by %r.", self._wrong_secrets, client)
            self._reported_at, self._wrong_secrets = now, 0

    def _owns(self, path: str) -> bool:
        return self.router.owns(path) or path in ("/docs", "/openapi.json")

    async def _answer(self, scope: Scope, receive: Receive, headers: dict[bytes, bytes]) -> Answer:
        method: str = scope["method"]
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        if (refused := _oversized(scope)) is not None:
            return refused
        if method == "OPTIONS" and (shared := self.gate.preflight(headers)) is not None:
            return Answer(200, "OK", shared)
        self.gate.admit(
            method, headers, open_to_all=method in ("GET", "HEAD") and scope["path"] in self._open_to_all
        )
        if self.services is None:
            return Answer(503, {"exception_message": "Service Unavailable"}, {"retry-after": "1"})
        path = raw.decode("latin-1")
        if method in ("GET", "HEAD") and (page := self._page(path)) is not None:
            return page
        route, values = self.router.find(method, path)
        return await route.call(Request(scope, receive, headers, self.services), values)

    def _page(self, path: str) -> Answer | None:
        page = path.removeprefix(self.policy.base_path).removesuffix("/")
        if page == "/openapi.json":
            if self._document is None:
                from eparch.api.openapi import document
                from eparch.core.model import encode

                self._document = encode(
                    document((route.endpoint for route in self.router.routes), self.policy.base_path)
                )
            return Answer(200, self._document, media="application/json; charset=utf-8")
        if page == "/docs":
            from importlib.resources import files

            html = files("eparch.api").joinpath("docs.html").read_bytes()
            return Answer(
                200,
                html,
                {"content-security-policy": _DOCS_POLICY, "x-frame-options": "DENY"},
                "text/html; charset=utf-8",
            )
        return None

    async def _send(
        self, method: str, asked: dict[bytes, bytes], answer: Answer, body: bytes, send: Send
    ) -> None:
        encoding = None
        if len(body) >= GZIP_FROM and b"gzip" in asked.get(b"accept-encoding", b""):
            body = await asyncio.to_thread(_gzip, body) if len(body) >= GZIP_APART else _gzip(body)
            encoding = b"gzip"
        start = self._start(answer, asked, None if answer.status == 204 else len(body), encoding)
        await send(start)
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})

    def _start(
        self, answer: Answer, asked: dict[bytes, bytes], length: int | None, encoding: bytes | None = None
    ) -> MutableMapping[str, Any]:
        """Status and headers of ``answer``, of which ``length`` bytes follow, where that is known."""
        headers = [] if answer.status == 204 else [(b"content-type", answer.media.encode())]
        headers += [_VARY, *_SAFE]
        if encoding is not None:
            headers.append((b"content-encoding", encoding))
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        if answer.headers:
            own = [(k.encode("latin-1"), v.encode("latin-1", "replace")) for k, v in answer.headers.items()]
            given = {name for name, _ in own}
            headers = [header for header in headers if header[0] not in given] + own
        origin = asked.get(b"origin")
        if origin is not None and (shared := self.gate.shared_with(origin)) is not None:
            headers.append((b"access-control-allow-origin", shared))
        return {"type": "http.response.start", "status": answer.status, "headers": headers}

    # Sockets

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removesuffix("/")
        if self._site is not None and not self._owns(path):
            await self._site(scope, receive, send)
            return
        socket = Socket(scope, receive, send, self.policy.max_event_bytes)
        if self.services is None or self._feeds is None:
            await socket.close(1013, "The server is not ready.")
            return
        try:
            self.gate.check_host(socket.headers)
        except Forbidden:
            await socket.close(POLICY_VIOLATION)
            return
        self.open_sockets += 1
        name = path.removeprefix(self.policy.base_path + "/")
        try:
            await run_socket(socket, name, self.gate, self._feeds(self.services))
        finally:
            self.open_sockets -= 1
            self.active_at = time.monotonic()


def _oversized(scope: Scope) -> Answer | None:
    if len(scope.get("raw_path") or b"") + len(scope.get("query_string", b"")) > MAX_TARGET:
        return Answer(414, {"detail": "The path is too long."})
    if oversized(scope["headers"]):
        return Answer(431, {"detail": "The headers are too large."})
    return None


def _safely(send: Send) -> Send:
    """``send`` with the headers that keep a page safe, where it does not have its own."""

    async def send_safely(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            given = {name.lower() for name, _ in headers}
            message["headers"] = headers + [header for header in _SAFE_PAGE if header[0] not in given]
        await send(message)

    return send_safely


def _gzip(body: bytes) -> bytes:
    # wbits 31 is the gzip format; the first level is most of the gain at a fifth of the cost.
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


def create_app(
    settings: Settings,
    *,
    idle_seconds: float = 0.0,
    site: Site | None = None,
    worker_types: WorkerTypes | None = None,
) -> App:
    """The server that ``settings`` describe; its lifespan opens and closes all that it uses.

    ``idle_seconds`` > 0: a server that stops when nobody wants anything. ``worker_types`` describes the
    installed types of infrastructure, which belong to the client's tower.
    """
    from eparch.api import (  # noqa: F401
        action_templates,
        automations,
        backfills,
        blocks,
        concurrency,
        deploying,
        deployments,
        event_pages,
        events,
        explaining,
        inputs,
        listing,
        observing,
        pools,
        records,
        root,
        runs,
        service_levels,
        task_sockets,
        variables,
        worker_instances,
    )
    from eparch.api.opening import opening

    return App(
        Policy.of(settings, idle_seconds=idle_seconds),
        HANDLERS.values(),
        opening=opening(settings, worker_types),
        feeds=events.feeds,
        site=site,
    )


def serve(
    settings: Settings,
    host: str | None = None,
    port: int | None = None,
    on_ready: Callable[[str], None] | None = None,
    *,
    idle_seconds: float = 0.0,
    site: Site | None = None,
    worker_types: WorkerTypes | None = None,
) -> None:
    """Run the server in this process until SIGTERM, SIGINT, or until it was idle for ``idle_seconds``.

    ``on_ready`` is called with the URL of the API once the server listens; without it the URL is printed.
    ``host`` and ``port`` default to those of ``settings``; port 0 takes a free one.

    Raises:
        Usage: nothing can listen at that address.
        EparchError: the server could not start, for example because of its database.
    """
    from eparch.api.listening import listen, run

    app = create_app(settings, idle_seconds=idle_seconds, site=site, worker_types=worker_types)
    with listen(
        settings.server_host if host is None else host, settings.server_port if port is None else port
    ) as sock:
        if (warning := exposure(sock.getsockname()[0], settings.server_auth_string)) is not None:
            logger.warning("%s", warning)
        run(app, sock, on_ready)
