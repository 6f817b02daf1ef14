"""Asking for events that were: a page, the token of the next one, counts over time (wire 4.6).

Owns the bodies and answers and how a token is made; which event a filter admits is in ``events``.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from eparch.core.errors import Forbidden, Invalid
from eparch.core.events import EventFilter, OccurredFilter, ReceivedEvent, resource_id
from eparch.core.model import Body, Timestamp, Value, decode, encode

PAGE = 50
"""Events of one page, at most (wire 4.6)."""

RANGE = timedelta(days=180)
"""How far back a filter without a time looks."""

MAX_COUNTS = 1000
"""Intervals of one count."""


class FilterEvents(Body, frozen=True, kw_only=True):
    """``POST /events/filter``."""

    filter: EventFilter | None = None
    limit: Annotated[int, Meta(ge=0, le=PAGE)] = PAGE


class EventPage(Value, frozen=True, kw_only=True):
    """A page of events, how many there are, and where the next page is."""

    events: list[ReceivedEvent]
    total: int
    next_page: str | None = None


class Cursor(Value, frozen=True, kw_only=True):
    """What the token of a page holds: the query, and the last event of the page before."""

    filter: EventFilter
    limit: Annotated[int, Meta(ge=1, le=PAGE)]
    total: int
    occurred: Timestamp
    id: UUID

    def token(self) -> str:
        """It as a text that nobody else needs to understand."""
        return base64.urlsafe_b64encode(encode(self)).decode()


def cursor_of(token: str) -> Cursor:
    """The cursor in ``token``.

    Raises:
        Forbidden: there is none (wire: 403).
    """
    try:
        cursor: Cursor = decode(base64.urlsafe_b64decode(token.encode()), Cursor)
    except (binascii.Error, msgspec.DecodeError, UnicodeError) as error:
        raise Forbidden("Forbidden", why="The page token was not made by this API.") from error
    return cursor


class Countable(StrEnum):
    """What events are counted by."""

    DAY = "day"
    TIME = "time"
    EVENT = "event"
    RESOURCE = "resource"


class TimeUnit(StrEnum):
    """The unit of an interval."""

    WEEK = "week"
    DAY = "day"
    HOUR = "hour"
    MINUTE = "minute"
    SECOND = "second"


_SECONDS = {
    TimeUnit.WEEK: 604_800,
    TimeUnit.DAY: 86_400,
    TimeUnit.HOUR: 3_600,
    TimeUnit.MINUTE: 60,
    TimeUnit.SECOND: 1,
}


class CountEvents(Body, frozen=True, kw_only=True):
    """``POST /events/count-by/{countable}``."""

    filter: EventFilter
    time_unit: TimeUnit = TimeUnit.DAY
    time_interval: Annotated[float, Meta(ge=0.01, le=1e6)] = 1.0


class EventCount(Value, frozen=True, kw_only=True):
    """How many events there are of one kind, of one resource or in one interval."""

    value: str
    label: str
    count: int
    start_time: Timestamp
    end_time: Timestamp


def countable_of(text: str) -> Countable:
    """What ``text`` says to count by.

    Raises:
        Invalid: nothing that is known.
    """
    try:
        return Countable(text)
    except ValueError as error:
        known = ", ".join(Countable)
        raise Invalid(f"Events cannot be counted by {text[:50]!r}.", fix=f"Choose one of {known}.") from error


def pinned(wanted: EventFilter, now: datetime) -> EventFilter:
    """``wanted`` with both ends of its time, so that every page looks at the same span."""
    until = wanted.occurred.until or now
    since = wanted.occurred.since or now - RANGE
    return msgspec.structs.replace(wanted, occurred=OccurredFilter(since=since, until=until))


class Counts:
    """Counts events by name, by resource or over time."""

    def __init__(self, body: CountEvents, wanted: EventFilter, by: Countable) -> None:
        """``wanted`` is pinned.

        Raises:
            Invalid: there would be too many intervals.
        """
        self.by = by
        since, until = wanted.occurred.since, wanted.occurred.until
        assert since is not None
        assert until is not None
        self.since, self.until = since, until
        self.interval = timedelta(0)
        self._found: dict[str, EventCount] = {}
        if by in (Countable.DAY, Countable.TIME):
            self._cut(86_400.0 if by is Countable.DAY else _SECONDS[body.time_unit] * body.time_interval)

    def _cut(self, seconds: float) -> None:
        if self.by is Countable.DAY:
            self.since = self.since.replace(hour=0, minute=0, second=0, microsecond=0)
        self.interval = timedelta(seconds=seconds)
        number = max(-(-(self.until - self.since) // self.interval), 0)
        if number > MAX_COUNTS:
            raise Invalid(
                f"The given interval would create {number} buckets, which is too many. Please increase the"
                f" interval or reduce the time range to produce {MAX_COUNTS} buckets or fewer."
            )
        for at in range(number):
            start = self.since + at * self.interval
            end = min(start + self.interval - timedelta(microseconds=1), self.until)
            self._found[str(at)] = EventCount(
                value=str(at), label=start.isoformat(), count=0, start_time=start, end_time=max(end, start)
            )

    @property
    def length(self) -> int:
        """Microseconds of an interval."""
        return self.interval // timedelta(microseconds=1)

    def add(self, event: ReceivedEvent) -> None:
        """Count ``event``, which lies in the span."""
        if self.interval:
            self.add_interval((event.occurred - self.since) // self.interval, 1)
        elif self.by is Countable.EVENT:
            self.add_group(event.event, None, 1, event.occurred, event.occurred)
        else:
            label = event.resource.get("prefect.resource.name")
            self.add_group(resource_id(event.resource), label, 1, event.occurred, event.occurred)

    def add_interval(self, number: int, count: int) -> None:
        """Count events of the interval of that number; what lies on the end belongs to the last one."""
        key = str(min(number, len(self._found) - 1))
        if key in self._found:  # a span without length has no interval
            found = self._found[key]
            self._found[key] = msgspec.structs.replace(found, count=found.count + count)

    def add_group(self, value: str, label: str | None, count: int, first: datetime, last: datetime) -> None:
        """Count events of one name or resource, which goes by the label that it had last."""
        label = value if label is None else label
        found = self._found.get(value)
        if found is not None:
            label = max((last, label), (found.end_time, found.label))[1]
            count, first, last = count + found.count, min(first, found.start_time), max(last, found.end_time)
        self._found[value] = EventCount(
            value=value, label=label, count=count, start_time=first, end_time=last
        )

    def answer(self) -> list[EventCount]:
        """The counts: intervals in their order, others by how many they are."""
        found = list(self._found.values())
        return found if self.interval else sorted(found, key=lambda one: (-one.count, one.value))
