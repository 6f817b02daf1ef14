"""The newest of what grows in the database, for many who follow it: each row is read once for all of them.

Owns the reading: in the order of commits, woken by notes of this server and of others, with a slow look of
its own in between. A follower is nothing but a place; what it has not read is in memory as long as it is
among the newest, and in the database before that, so nobody is kept waiting by a slow one, nothing is lost
and nothing comes twice. Everything here belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from eparch.core.model import encode
from eparch.orchestration.broadcast import FellBehind
from eparch.store.positions import BEGINNING, Following, Place

logger = logging.getLogger("eparch.orchestration.tail")

T = TypeVar("T")

PAGE = 250
"""Rows that are read at once."""
MOST_ITEMS = 4096
MOST_BYTES = 16 * 1024 * 1024
"""What is kept in memory of the newest, as JSON."""
SLOWEST_SECONDS = 1.0
"""A note can be lost, or come from a server that sends none: so often it is looked anyway."""
FASTEST_SECONDS = 0.002
"""The first look after a row that may not be read yet, because an older transaction goes on."""
MOST_BEHIND = timedelta(minutes=15)
"""A follower may be as far behind as somebody who connects anew is shown (wire 4.3)."""


class Item(NamedTuple, Generic[T]):
    """A row: where it is, its value, and the value as JSON, encoded once for all followers."""

    place: Place
    value: T
    text: str


class Tail(Generic[T]):
    """What is added to one table, as it is added."""

    def __init__(
        self,
        read: Callable[[Place, int], Awaitable[Following]],
        newest: Callable[[], Awaitable[Place]],
        make: Callable[[dict[str, Any]], T],
        received: Callable[[T], datetime],
    ) -> None:
        """``read`` gives rows after a place and ``make`` their values; ``received`` tells how old one is."""
        self._read = read
        self._newest = newest
        self._make = make
        self._received = received
        self._items: list[Item[T]] = []
        self._bytes = 0
        self._start = BEGINNING
        """The place before the first of the items."""
        self._followers = 0
        self._woken = asyncio.Event()
        self._grown = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    def __len__(self) -> int:
        """How many follow."""
        return self._followers

    def wake(self) -> None:
        """Something was added, perhaps."""
        self._woken.set()

    @contextlib.asynccontextmanager
    async def follow(self, place: Place | None = None) -> AsyncIterator[Follower[T]]:
        """A follower from ``place`` on, by default of what is added from now on.

        Raises:
            EparchError: the database does not answer.
        """
        self._followers += 1
        try:
            async with self._starting:
                if self._task is None and not self._closed:
                    self._start = await self._newest()
                    self._task = asyncio.create_task(self._run(), name="eparch-tail")
            yield Follower(self, self.end if place is None else place)
        finally:
            self._followers -= 1
            if not self._followers:
                await self._rest()

    async def _rest(self) -> None:
        task, self._task = self._task, None
        self._items, self._bytes = [], 0
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def close(self) -> None:
        """The server stops: every follower ends."""
        self._closed = True
        self._tell()

    @property
    def end(self) -> Place:
        """The place of the last row that was read."""
        return self._items[-1].place if self._items else self._start

    # Reading

    async def _run(self) -> None:
        pause = FASTEST_SECONDS
        while not self._closed:
            self._woken.clear()
            try:
                found = await self._read(self.end, PAGE)
            except Exception as error:  # whoever follows waits until the database answers again
                logger.warning("The newest rows cannot be read: %s", error)
                await asyncio.sleep(SLOWEST_SECONDS)
                continue
            if found.rows:
                self._keep([self.item(row) for row in found.rows])
                pause = FASTEST_SECONDS
                if len(found.rows) == PAGE:
                    await asyncio.sleep(0)
                    continue
            pause = min(pause * 2, SLOWEST_SECONDS) if found.unsettled else FASTEST_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause if found.unsettled else SLOWEST_SECONDS):
                    await self._woken.wait()

    def item(self, row: dict[str, Any]) -> Item[T]:
        """The item of a row as the database has it."""
        place = Place(row.pop("position"), row["id"])
        value = self._make(row)
        return Item(place, value, encode(value).decode())

    def _keep(self, items: list[Item[T]]) -> None:
        self._items += items
        self._bytes += sum(len(item.text) for item in items)
        first = 0
        while len(self._items) - first > MOST_ITEMS or (
            self._bytes > MOST_BYTES and first < len(self._items) - 1
        ):
            self._start = self._items[first].place
            self._bytes -= len(self._items[first].text)
            first += 1
        del self._items[:first]
        self._tell()

    def _tell(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    async def after(self, place: Place) -> list[Item[T]]:
        """The next items after ``place``, at most ``PAGE``; empty when the server stops.

        Raises:
            FellBehind: the next one was received too long ago.
            EparchError: the database does not answer.
        """
        while not self._closed:
            if place >= self.end:
                await self._grown.wait()
                continue
            if place >= self._start:
                at = bisect_right(self._items, place, key=lambda item: item.place)
                return self._items[at : at + PAGE]
            start = self._start
            found = await self._read(place, PAGE)
            items = [self.item(row) for row in found.rows]
            if not items:  # they were deleted
                place = start
            elif datetime.now(UTC) - self._received(items[0].value) > MOST_BEHIND:
                raise FellBehind
            else:
                return items
        return []


class Follower(Generic[T]):
    """One who follows a tail at its own pace: an iterator over pages of what is new, to the server's end."""

    def __init__(self, tail: Tail[T], place: Place) -> None:
        """Made by ``Tail.follow``; what comes after ``place`` is new."""
        self._tail = tail
        self.place = place

    def __aiter__(self) -> Follower[T]:
        return self

    async def __anext__(self) -> list[Item[T]]:
        items = await self._tail.after(self.place)
        if not items:
            raise StopAsyncIteration
        self.place = items[-1].place
        return items


def place_of(token: str) -> Place | None:
    """The place that ``token`` names; None when it is none of ours."""
    position, _, last = token.partition(":")
    if not (position.isascii() and position.isdigit() and len(position) < 20):
        return None
    try:
        return Place(int(position), UUID(last))
    except ValueError:
        return None


def token_of(place: Place) -> str:
    """``place`` as a text."""
    return f"{place.position}:{place.id}"
