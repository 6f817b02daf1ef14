"""The process that listens: uvicorn with our choices, its signals, and stopping when idle.

Owns sockets of the operating system and signals; knows no request.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from eparch.api.connection import Connection, SocketConnection
from eparch.api.policy import BASE_PATH
from eparch.core.errors import ServerFault, Usage

if TYPE_CHECKING:
    from eparch.api.app import App

BACKLOG = 2048
STOP_SECONDS = 10
"""How long requests that run may take to end when the server stops."""
KEEP_ALIVE_SECONDS = 75
SPARE_FILES = 128
GC_THRESHOLDS = (20_000, 10, 10)
"""A request of 500 events makes some 10,000 containers, none of them garbage: with Python's own 700 a third
of the time goes into looking at them.
"""
"""Open files that are no connections: of the database, the log, threads."""
IDLE_CHECK_TICKS = 10
"""uvicorn ticks ten times a second."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at ``host`` and ``port``; 0 is a free one.

    Raises:
        Usage: the address is taken, unknown or not allowed.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, proto)
    except (OSError, UnicodeError, OverflowError) as error:
        raise Usage(f"Cannot listen on {host}:{port}.", why=str(error)) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise Usage(
            f"Cannot listen on {host}:{port}.",
            why=error.strerror or str(error),
            fix="Stop what listens there, or choose another port with --port.",
        ) from error
    return sock


def url_of(sock: socket.socket, base_path: str = BASE_PATH) -> str:
    """The URL of the API behind a listening socket, as this machine can call it."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{base_path}"


def run(
    app: App,
    sock: socket.socket,
    on_ready: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serve ``app`` on ``sock`` until a signal, idleness or ``stop`` ends it; see ``app.serve``.

    ``stop`` is for a server in a thread: whoever started it sets it.

    Raises:
        EparchError: it could not start.
    """
    most = _files_for(app.policy.max_connections)
    config = uvicorn.Config(
        app,
        http=type("Limited", (Connection,), {"most": most}),
        ws=SocketConnection,
        ws_max_size=app.policy.max_event_bytes,
        # Its buffers are a quarter of a megabyte for each socket, whatever is sent.
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        backlog=BACKLOG,
    )
    server = _Server(config, app, lambda: (on_ready or _say)(url_of(sock, app.policy.base_path)), stop)
    # SystemExit and a line in a log are uvicorn's ways to say that it could not start.
    with contextlib.suppress(SystemExit), _silent_failure(app):
        server.run(sockets=[sock])
    if app.failure is not None:
        raise app.failure
    if not server.started:
        raise ServerFault("The server could not start.", why="See its log for the reason.")


def _files_for(connections: int) -> int:
    """How many ``connections`` there can be: each is an open file, and the system allows few unless asked."""
    wanted = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft - SPARE_FILES))


@contextlib.contextmanager
def _silent_failure(app: App) -> Iterator[None]:
    """Log nothing of a failed start: it is raised, for whoever started the server to tell."""

    def admits(record: logging.LogRecord) -> bool:
        return app.failure is None

    logger = logging.getLogger("uvicorn.error")
    logger.addFilter(admits)
    try:
        yield
    finally:
        logger.removeFilter(admits)


def _say(url: str) -> None:
    sys.stdout.write(f"Eparch listens at {url}\n")
    sys.stdout.flush()


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        app: App,
        on_ready: Callable[[], None],
        stop: threading.Event | None,
    ) -> None:
        super().__init__(config)
        self._stop = stop
        self._app = app
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop gracefully on SIGINT and SIGTERM, and then end as after any other reason: with code 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        old = {sig: signal.signal(sig, self._handle) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in old.items():
                signal.signal(sig, handler)

    def _handle(self, sig: int, frame: FrameType | None) -> None:
        self.handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            # What was made until now stays: no collection has to look at it again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
            self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        idle = self._app.policy.idle_seconds
        if idle and counter % IDLE_CHECK_TICKS == 0 and self._app.idle_seconds() > idle:
            self.should_exit = True
        if self._stop is not None and self._stop.is_set():
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> Any:
        self._app.begin_stop()
        return await super().shutdown(sockets)
