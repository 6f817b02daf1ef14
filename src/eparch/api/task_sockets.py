"""``task_runs/subscriptions/scheduled``: task runs for task workers (wire 4.3); who is connected.

Owns the frames. One task run is on its way at a time: the next is handed out when the task worker has
acknowledged the last. Beyond the wire, ours says with ``"more": false`` that it has no room, sends ``more``
when it has, ``quit`` when it runs nothing any more, and names what it holds when it comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any
from uuid import UUID

import msgspec

from eparch.api.request import Request
from eparch.api.router import handles
from eparch.api.sockets import SERVICE_RESTART, Feeds, Socket
from eparch.core import calls
from eparch.core.model import decode
from eparch.core.task_workers import LEASE, ReadTaskWorkers, Subscribe, TaskWorker
from eparch.orchestration.task_queues import Connected
from eparch.store import task_queue

logger = logging.getLogger("eparch.api.sockets")

PROTOCOL_VIOLATION = 4001
SUBSCRIBE_SECONDS = 30.0
LAST_ACK_SECONDS = 1.0
"""A server that stops waits so long to hear whether the last task run has arrived."""
MAX_UNREAD = 100
"""Frames of a task worker that wait to be looked at."""


class Violation(Exception):
    """The task worker said something that it may not say now."""


@handles(calls.read_task_workers)
async def read_task_workers(request: Request, body: ReadTaskWorkers) -> list[TaskWorker]:
    """The connected task workers, whichever server they are connected to."""
    keys = body.task_worker_filter.task_keys if body.task_worker_filter is not None else []
    workers: list[TaskWorker] = await request.scan(task_queue.read_workers, keys, request.now - LEASE)
    return workers


async def give_tasks(socket: Socket, feeds: Feeds) -> None:
    """Hand task runs to one task worker, until it leaves or the server stops."""
    assert feeds.tasks is not None
    try:
        asked = await _subscription(socket)
        holding = _ids(asked.holding)
        async with feeds.tasks.connect(asked.client_id, asked.keys, holding) as connected:
            logger.info("The task worker %r is connected.", asked.client_id)
            await _serve(socket, connected, asked.more)
    except Violation as error:
        await socket.close(PROTOCOL_VIOLATION, f"Protocol violation: {error}")


async def _subscription(socket: Socket) -> Subscribe:
    try:
        async with asyncio.timeout(SUBSCRIBE_SECONDS):
            message = _message(await socket.receive())
    except TimeoutError:
        message = {}
    if message.get("type") != "subscribe":
        raise Violation("expected 'subscribe' message")
    for name in ("keys", "client_id"):
        if not message.get(name):
            raise Violation(f"expected '{name}' in subscribe message")
    try:
        return msgspec.convert(message, Subscribe)
    except msgspec.ValidationError as error:
        raise Violation(str(error)) from error


def _message(frame: str | bytes) -> dict[str, Any]:
    try:
        message: Any = decode(frame)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _ids(holding: list[str] | None) -> list[UUID] | None:
    if holding is None:
        return None
    try:
        return [UUID(one) for one in holding]
    except ValueError as error:
        raise Violation("'holding' has what is no id") from error


async def _serve(socket: Socket, connected: Connected, more: bool) -> None:
    said: asyncio.Queue[str] = asyncio.Queue(MAX_UNREAD)
    reading = asyncio.create_task(_read(socket, said))
    giving = asyncio.create_task(_give(socket, connected, said, more))
    try:
        await asyncio.wait((reading, giving), return_when=asyncio.FIRST_COMPLETED)
        if not giving.done():
            reading.result()
        giving.result()
    finally:
        for task in (reading, giving):
            task.cancel()
        await asyncio.gather(reading, giving, return_exceptions=True)


async def _read(socket: Socket, said: asyncio.Queue[str]) -> None:
    while True:
        message = _message(await socket.receive())
        kind = str(message.get("type"))
        await said.put("full" if kind == "ack" and message.get("more") is False else kind)


async def _give(socket: Socket, connected: Connected, said: asyncio.Queue[str], more: bool) -> None:
    answer: str | None = "ack" if more else "full"
    while answer is not None:
        if answer == "full" and await _answer(connected, said, "more") != "more":
            break
        handed = await _next(connected, said)
        if handed is None:
            break
        await socket.send(handed.run)
        answer = await _answer(connected, said, "ack", "full")
        if answer not in ("ack", "full"):
            break
        await connected.acknowledge(handed)
    if connected.has_quit:
        await socket.close(1000)
    else:
        await socket.close(SERVICE_RESTART, "The server stops.")


async def _next(connected: Connected, said: asyncio.Queue[str]) -> Any:
    """The next task run; None when the task worker quits or the server stops."""
    finding = asyncio.create_task(connected.next())
    hearing = asyncio.create_task(said.get())
    try:
        await asyncio.wait((finding, hearing), return_when=asyncio.FIRST_COMPLETED)
        if not hearing.done():
            return finding.result()
        _obey(connected, hearing.result(), "quit")
        return None
    finally:
        for task in (finding, hearing):
            task.cancel()
        await asyncio.gather(finding, hearing, return_exceptions=True)


async def _answer(connected: Connected, said: asyncio.Queue[str], *expected: str) -> str | None:
    """What the task worker says next, one of ``expected`` or ``quit``; None when the server stops instead."""
    hearing = asyncio.create_task(said.get())
    stopping = asyncio.create_task(connected.stopping.wait())
    try:
        await asyncio.wait((hearing, stopping), return_when=asyncio.FIRST_COMPLETED)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if hearing.done() else LAST_ACK_SECONDS):
                return _obey(connected, await hearing, *expected, "quit")
        return None
    finally:
        for task in (hearing, stopping):
            task.cancel()
        await asyncio.gather(hearing, stopping, return_exceptions=True)


def _obey(connected: Connected, said: str, *expected: str) -> str:
    if said not in expected:
        raise Violation(f"expected '{expected[0]}' message")
    connected.has_quit = connected.has_quit or said == "quit"
    return said
