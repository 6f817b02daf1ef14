"""The sockets: the handshake of all, and events in (wire 4.3).

Owns the handshake, the frames, back-pressure and how a connection ends. What an event means is none of
its business: events go to ``record``, which is handed in. What is shown is in ``stream_sockets``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from eparch.api.auth import Gate
from eparch.api.request import Receive, Scope, Send
from eparch.api.router import too_deep, without_nul
from eparch.core.errors import EparchError, Forbidden, Invalid
from eparch.core.events import Event, EventFilter, ReceivedEvent
from eparch.core.filters import Query
from eparch.core.model import decode, encode
from eparch.core.records import Log
from eparch.core.worker_channel import Ending, Hello
from eparch.orchestration.broadcast import Broadcast, FellBehind
from eparch.orchestration.tail import Item, Tail
from eparch.orchestration.task_queues import TaskWorkers
from eparch.orchestration.worker_channels import Connected, Desk

logger = logging.getLogger("eparch.api.sockets")

SUBPROTOCOL = "prefect"
HANDSHAKE_SECONDS = 30.0
MAX_BATCH = 500
"""Events that are recorded at once."""
MAX_QUEUE = 2000
"""Events of one socket that wait to be recorded; when there are more, the socket is not read."""

PROTOCOL_ERROR = 1002
POLICY_VIOLATION = 1008
SERVER_ERROR = 1011
SERVICE_RESTART = 1012
TRY_AGAIN_LATER = 1013

Record = Callable[[list[Event]], Awaitable[None]]
"""Makes events durable; raises ``Invalid`` when they can never be."""


@dataclass(frozen=True, slots=True)
class Feeds:
    """Where events go and come from."""

    record: Record
    events: Tail[ReceivedEvent]
    logs: Tail[Log]
    past: Past
    workers: WorkerFeed | None = None
    tasks: TaskWorkers | None = None


class WorkerFeed(Protocol):
    """What the channel of a worker needs (``api.worker_sockets``)."""

    changes: Broadcast[UUID | None]
    """Ids of pools that changed or have something to tear down; None is any of them."""
    cleanups: Desk

    async def connect(self, pool_name: str, hello: Hello) -> Connected:
        """Let a worker in; raises ``ChannelRefused``."""

    async def beat(self, pool_id: UUID, hello: Hello, interval: int) -> dict[str, Any] | None:
        """Record a heartbeat of who said ``hello``; the pool, None when it is gone."""

    async def read_pool(self, pool_id: UUID) -> dict[str, Any] | None:
        """The pool as it is now, None when it is gone."""


class Past(Protocol):
    """What the store tells of what was (``api.stream_sockets``)."""

    def events(self, wanted: EventFilter) -> AsyncIterator[list[Item[ReceivedEvent]]]:
        """Pages of the events that ``wanted`` admits, in the order of their time."""

    def logs(self, wanted: Query) -> AsyncIterator[list[Item[Log]]]:
        """Pages of the lines that ``wanted`` has, in the order of their time."""


class Closed(Exception):
    """The connection is over."""


class Socket:
    """One connection, as text frames."""

    __slots__ = ("_receive", "_send", "headers", "max_bytes", "scope")

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_bytes: int) -> None:
        """A frame of more than ``max_bytes`` ends the connection."""
        self.scope = scope
        self.headers = dict(scope["headers"])
        self.max_bytes = max_bytes
        self._receive = receive
        self._send = send

    async def is_asked(self) -> bool:
        """Whether a client really wants to connect."""
        return bool((await self._receive())["type"] == "websocket.connect")

    async def accept(self, subprotocol: str | None) -> None:
        """Open it."""
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": []})

    async def receive(self) -> str | bytes:
        """The next frame.

        Raises:
            Closed: there is none.
        """
        message = await self._receive()
        if message["type"] != "websocket.receive":
            raise Closed
        frame: str | bytes | None = message.get("text")
        if frame is None:
            frame = message.get("bytes") or b""
        if len(frame) > self.max_bytes:
            await self.close(1009, f"A frame may have {self.max_bytes} bytes.")
            raise Closed
        return frame

    async def send(self, value: Any) -> None:
        """Send ``value`` as JSON."""
        await self.send_text(encode(value).decode())

    async def send_text(self, text: str) -> None:
        """Send ``text``, which is JSON; waits while the client does not take what was sent before."""
        await self._send({"type": "websocket.send", "text": text})

    async def close(self, code: int, reason: str = "") -> None:
        """End it; before it was accepted this is HTTP 403. ``reason`` is cut to what a frame can hold."""
        reason = reason.encode()[:120].decode("utf-8", "ignore")
        with contextlib.suppress(Exception):
            await self._send({"type": "websocket.close", "code": code, "reason": reason})


async def run_socket(socket: Socket, name: str, gate: Gate, feeds: Feeds) -> None:
    """Serve one connection to the socket ``name``, to its end; one that is not offered is refused (403).

    Clients take the refusal as "not offered here" and fall back to HTTP (wire 4.3).
    """
    if not await socket.is_asked():
        return
    from eparch.api import stream_sockets, task_sockets, worker_sockets

    serve = {
        "events/in": _take_events,
        "events/out": stream_sockets.give_events,
        "logs/out": stream_sockets.give_logs,
    }.get(name)
    if feeds.tasks is not None and name == "task_runs/subscriptions/scheduled":
        serve = task_sockets.give_tasks
    ending: Ending | None = None
    if feeds.workers is not None and (pool := worker_sockets.pool_of(name)) is not None:
        serve, ending = partial(worker_sockets.serve_worker, pool_name=pool), Ending.AUTHENTICATION_FAILED
    if serve is None or not _origin_admitted(socket, gate):
        await socket.close(POLICY_VIOLATION)
        return
    try:
        if await _shake_hands(socket, gate, ending):
            await serve(socket, feeds)
    except Closed:
        pass
    except FellBehind:
        await socket.close(TRY_AGAIN_LATER, "Too slow: events were lost. Connect again.")
    except EparchError as error:
        logger.warning("A socket was closed: %s", error.message)
        await socket.close(SERVER_ERROR, error.message)
    except Exception:
        logger.exception("A socket failed.")
        await socket.close(SERVER_ERROR, "Internal Server Error")


def _origin_admitted(socket: Socket, gate: Gate) -> bool:
    origin = socket.headers.get(b"origin")
    if origin is None:
        return True
    try:
        gate.check_origin(origin, socket.headers)
    except Forbidden:
        return False
    return True


async def _shake_hands(socket: Socket, gate: Gate, ending: Ending | None = None) -> bool:
    """Accept and authenticate; False when the connection was closed instead (wire 4.3).

    With an ``ending`` every refusal is that one, and the subprotocol is required.
    """
    if SUBPROTOCOL not in socket.scope.get("subprotocols", ()):
        if ending is not None:
            await socket.close(ending.code, ending)
            return False
        if gate.asks_secret:
            await socket.close(PROTOCOL_ERROR, "'prefect' subprotocol required when auth is configured")
            return False
        await socket.accept(None)
        return True
    await socket.accept(SUBPROTOCOL)
    message = await first_message(socket)
    if message.get("type") != "auth":
        await socket.close(POLICY_VIOLATION, ending or "Expected 'auth' message")
        return False
    if not gate.admit_token(message.get("token")):
        reason = "Invalid token" if message.get("token") else "Auth required but no token provided"
        await socket.close(POLICY_VIOLATION, ending or reason)
        return False
    await socket.send({"type": "auth_success"})
    return True


async def first_message(socket: Socket) -> dict[str, Any]:
    """The message that a connection begins with; empty when it is none, or comes too late."""
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            message: Any = decode(await socket.receive())
    except (TimeoutError, ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


async def _take_events(socket: Socket, feeds: Feeds) -> None:
    """``events/in``: one event a frame, recorded in batches while more arrive."""
    queue: asyncio.Queue[Event] = asyncio.Queue(MAX_QUEUE)
    writer = asyncio.create_task(_record_all(queue, feeds.record))
    reader = asyncio.create_task(_read_events(socket, queue))
    tasks = [writer, reader]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not writer.done():
            # Whatever was received is recorded, also when the sender has gone.
            tasks.append(asyncio.create_task(queue.join()))
            await asyncio.wait((writer, tasks[-1]), return_when=asyncio.FIRST_COMPLETED)
        if writer.done():
            writer.result()
        reader.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read_events(socket: Socket, queue: asyncio.Queue[Event]) -> None:
    while True:
        event = _event_of(await socket.receive())
        if event is not None:
            await queue.put(event)


def _event_of(frame: str | bytes) -> Event | None:
    """The event in ``frame``; None when there is none.

    One bad frame does not end the connection: the sender would connect again and send it again, forever.
    """
    data = frame.encode("utf-8", "replace") if isinstance(frame, str) else frame
    try:
        if too_deep(data):
            raise RecursionError("It is nested too deeply.")
        event: Event = decode(without_nul(data), Event)
    except (ValueError, RecursionError) as error:
        logger.warning("An event was refused: %s", error)
        return None
    return event


async def _record_all(queue: asyncio.Queue[Event], record: Record) -> None:
    while True:
        batch = [await queue.get()]
        while len(batch) < MAX_BATCH and not queue.empty():
            batch.append(queue.get_nowait())
        try:
            await record(batch)
        except Invalid as error:
            logger.warning("%d events were refused: %s", len(batch), error.message)
        for _ in batch:
            queue.task_done()
