"""What a server shows on a socket, through lost connections: each event or line once, none lost (wire 4.3).

Owns connecting again and from where to go on: from the place that the last message named or, where a server
names none, from the time of the newest one, leaving out what was seen.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from eparch.client.socket import connect
from eparch.core.errors import Disconnected, Unreachable
from eparch.settings import Settings

QUIET_SECONDS = 1.0
ATTEMPTS = 30
"""How often in a row it is tried to connect again: for about two minutes."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
REMEMBERED = 10_000
"""Messages of which it is known that they were seen."""

PROTOCOL_ERROR = 1002
TRY_AGAIN_LATER = 1013


@dataclass(frozen=True, slots=True)
class Feed:
    """A socket that shows something."""

    path: str
    kind: str
    """The key of what it shows in a message."""
    time: str
    """Its field that orders what was."""
    span: tuple[str, str]
    """Where the filter says from which time on."""


EVENTS = Feed("/events/out", "event", "occurred", ("occurred", "since"))
LOGS = Feed("/logs/out", "log", "timestamp", ("timestamp", "after_"))


class _Reader:
    def __init__(self, feed: Feed, wanted: dict[str, Any], backfill: bool) -> None:
        self.feed, self.wanted, self.backfill = feed, wanted, backfill
        self.place: str | None = None
        self.newest: str | None = None
        self.seen: dict[str, None] = {}
        self.attempts = 0

    def opening(self) -> dict[str, Any]:
        """What to send first: from where on it is to be shown."""
        if self.place is not None:
            return {"type": "filter", "filter": self.wanted, "after": self.place}
        wanted = self.wanted
        if self.newest is not None:
            field, since = self.feed.span
            wanted = {**wanted, field: {**(wanted.get(field) or {}), since: self.newest}}
        return {"type": "filter", "filter": wanted, "backfill": self.backfill or self.newest is not None}

    def take(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """What ``message`` shows; None when it is nothing new."""
        value = message.get(self.feed.kind)
        if not isinstance(value, dict):
            return None
        self.attempts = 0
        self.place = message.get("place") or self.place
        key = str(value.get("id"))
        if key in self.seen:
            return None
        self.seen[key] = None
        if len(self.seen) > REMEMBERED:
            del self.seen[next(iter(self.seen))]
        self.newest = max(self.newest or "", str(value.get(self.feed.time)))
        return value

    def lost(self, error: Disconnected | Unreachable) -> None:
        """Wait before the next attempt; raises ``error`` when there is none."""
        code = error.code if isinstance(error, Disconnected) else 0
        self.attempts += 1
        if code == PROTOCOL_ERROR or self.attempts > ATTEMPTS:
            raise error
        if code == TRY_AGAIN_LATER:
            self.place = None
        time.sleep(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self.attempts - 1)))


def follow(
    settings: Settings, feed: Feed, wanted: dict[str, Any], *, backfill: bool, quiet: float = QUIET_SECONDS
) -> Generator[dict[str, Any] | None, None, None]:
    """What the filter ``wanted`` admits, without an end; None after ``quiet`` seconds in which nothing came.

    Raises:
        EparchError: the first connection failed, or no other one came about for long.
    """
    reader, connected = _Reader(feed, wanted, backfill), False
    while True:
        try:
            with connect(settings, feed.path) as socket:
                socket.send(reader.opening())
                connected = True
                while True:
                    message = socket.receive(quiet)
                    if message is None:
                        yield None
                    elif (value := reader.take(message)) is not None:
                        yield value
        except Unreachable as error:
            if not connected:
                raise
            reader.lost(error)
            yield None
