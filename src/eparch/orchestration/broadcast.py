"""Publish and subscribe within one process: bounded, never waiting, never silently losing.

Owns who hears what. Does not own what is said, nor how it reaches another process; it knows no database.
Everything here belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

CAPACITY = 4096
"""Items that a subscriber may be behind before it is dropped."""


class FellBehind(Exception):
    """The subscriber was too slow: items were lost, so it has to begin again."""


class Subscription(Generic[T]):
    """What one subscriber has not read yet: an asynchronous iterator and a context manager.

    Iteration ends when the broadcast is closed, and raises ``FellBehind`` when items were lost.
    """

    def __init__(self, broadcast: Broadcast[T], admits: Callable[[T], bool] | None, capacity: int) -> None:
        """Made by ``Broadcast.subscribe``."""
        self._broadcast = broadcast
        self._admits = admits
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._wake = asyncio.Event()
        self._behind = False
        self._closed = False

    def offer(self, item: T) -> None:
        """Take ``item`` if it is wanted; called by the broadcast."""
        if self._behind or self._closed or (self._admits is not None and not self._admits(item)):
            return
        if len(self._items) >= self._capacity:
            self._behind = True
            self._items.clear()
            self._broadcast.drop(self)
        else:
            self._items.append(item)
        self._wake.set()

    def close(self) -> None:
        """Hear nothing more; what is there can still be read. Closing twice is harmless."""
        self._closed = True
        self._broadcast.drop(self)
        self._wake.set()

    def waiting(self) -> list[T]:
        """Everything that is there now, taken out.

        Raises:
            FellBehind: items were lost.
        """
        if self._behind:
            raise FellBehind
        items = list(self._items)
        self._items.clear()
        return items

    async def __aenter__(self) -> Subscription[T]:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def __aiter__(self) -> Subscription[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._behind:
                raise FellBehind
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._items.popleft()


class Broadcast(Generic[T]):
    """Says each item to every subscriber that wants it."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription[T]] = set()

    def __len__(self) -> int:
        return len(self._subscriptions)

    def publish(self, item: T) -> None:
        """Hand ``item`` to the subscribers. Never waits: who is too far behind is dropped and told."""
        for subscription in tuple(self._subscriptions):
            subscription.offer(item)

    def subscribe(
        self, admits: Callable[[T], bool] | None = None, *, capacity: int = CAPACITY
    ) -> Subscription[T]:
        """A subscription to what is published from now on, of the items that ``admits`` lets through."""
        subscription = Subscription(self, admits, capacity)
        self._subscriptions.add(subscription)
        return subscription

    def drop(self, subscription: Subscription[T]) -> None:
        """Forget ``subscription``; use its ``close`` instead."""
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End every subscription: the server stops."""
        for subscription in tuple(self._subscriptions):
            subscription.close()
