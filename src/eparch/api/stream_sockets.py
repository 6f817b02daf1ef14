"""The sockets that show what happens: ``events/out`` and ``logs/out`` (wire 4.3).

A listener is shown what was, as far as it asks for it, and then what comes: all that is committed until a
certain place is the past, all after it the future, so nothing is missed and nothing is shown twice. A
message names the place from which to go on, and a filter that comes with one as ``after`` does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from eparch.api.sockets import (
    PROTOCOL_ERROR,
    SERVICE_RESTART,
    TRY_AGAIN_LATER,
    Closed,
    Feeds,
    Socket,
    first_message,
)
from eparch.core.errors import Invalid
from eparch.core.events import EventFilter, OccurredFilter
from eparch.core.filters import READ_LOGS, Group
from eparch.core.matching import admits
from eparch.orchestration.broadcast import FellBehind
from eparch.orchestration.tail import Follower, Item, Tail, place_of, token_of
from eparch.store.positions import Place

T = TypeVar("T")

BACKFILL = timedelta(minutes=15)
"""How far back a listener of events is shown what was (wire 4.3)."""
AHEAD = timedelta(minutes=15)
"""How far in the future an event may lie and still be part of what was: clocks differ."""
SEND_SECONDS = 20.0
"""A listener that takes no message for so long is sent away; it can go on from the place of its last one.

It is told if it begins to read again before ``connection.ANSWER_SECONDS`` are over, which end it in any case.
"""


async def give_events(socket: Socket, feeds: Feeds) -> None:
    """``events/out``: what was in the last minutes and what comes."""
    message = await _filter_message(socket)
    if message is None:
        return
    try:
        wanted = msgspec.convert(message.get("filter"), EventFilter)
    except msgspec.ValidationError as error:
        await socket.close(PROTOCOL_ERROR, f"Invalid filter: {error}")
        return
    before = None
    if message.get("backfill", True):
        earliest = datetime.now(UTC) - BACKFILL
        since, until = wanted.occurred.since, wanted.occurred.until
        span = OccurredFilter(
            since=max(since, earliest) if since else earliest, until=until or datetime.now(UTC) + AHEAD
        )
        before = feeds.past.events(msgspec.structs.replace(wanted, occurred=span, order="ASC"))
    await _give(socket, "event", feeds.events, message, before, wanted.admits)


async def give_logs(socket: Socket, feeds: Feeds) -> None:
    """``logs/out``: what comes; before it what was, if the filter says since when or ``backfill`` asks."""
    message = await _filter_message(socket)
    if message is None:
        return
    given = message.get("filter")
    try:
        wanted = READ_LOGS.parse({"logs": {} if given is None else given})
    except Invalid as error:
        await socket.close(PROTOCOL_ERROR, f"Invalid filter: {error.message}")
        return
    wants_past = message.get("backfill", _begins(wanted.where))
    before = feeds.past.logs(wanted) if wants_past else None
    await _give(socket, "log", feeds.logs, message, before, lambda line: admits(wanted.where, line))


def _begins(where: Group) -> bool:
    """Whether lines are asked for from some time on: a client that connects again does, to miss none."""
    return any(_begins(p) if isinstance(p, Group) else (p.op == "after_") for p in where.parts)


async def _filter_message(socket: Socket) -> dict[str, Any] | None:
    message = await first_message(socket)
    if message.get("type") == "filter":
        return message
    await socket.close(PROTOCOL_ERROR, "Expected 'filter' message")
    return None


async def _give(
    socket: Socket,
    kind: str,
    tail: Tail[T],
    message: dict[str, Any],
    past: AsyncIterator[list[Item[T]]] | None,
    wanted: Callable[[T], bool],
) -> None:
    place = None
    if (after := message.get("after")) is not None:
        place = place_of(after) if isinstance(after, str) else None
        if place is None:
            await socket.close(PROTOCOL_ERROR, "Invalid place in 'after'")
            return
        past = None
    async with tail.follow(place) as follower:
        sending = asyncio.create_task(_send(socket, kind, follower, past, wanted))
        leaving = asyncio.create_task(_until_closed(socket))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
                await socket.close(SERVICE_RESTART, "The server stops.")
        except TimeoutError:
            await socket.close(TRY_AGAIN_LATER, "Too slow: nothing was taken for 20 seconds. Connect again.")
        except FellBehind:
            await socket.close(TRY_AGAIN_LATER, "Too far behind. Connect again, without 'after'.")
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)


async def _send(
    socket: Socket,
    kind: str,
    follower: Follower[T],
    past: AsyncIterator[list[Item[T]]] | None,
    wanted: Callable[[T], bool],
) -> None:
    start = follower.place
    last: Item[T] | None = None
    if past is not None:
        async for page in past:
            for item in page:
                if item.place <= start:  # what was committed since comes with the future
                    if last is not None:
                        await _send_item(socket, kind, last)
                    last = item
    if last is not None:
        # Whoever has the last one of the past has all of it.
        await _send_item(socket, kind, last, start)
    async for page in follower:
        for item in page:
            if wanted(item.value):
                await _send_item(socket, kind, item, item.place)


async def _send_item(socket: Socket, kind: str, item: Item[T], place: Place | None = None) -> None:
    token = f',"place":"{token_of(place)}"' if place is not None else ""
    async with asyncio.timeout(SEND_SECONDS):
        await socket.send_text(f'{{"type":"{kind}","{kind}":{item.text}{token}}}')


async def _until_closed(socket: Socket) -> None:
    with contextlib.suppress(Closed):
        while True:
            await socket.receive()
