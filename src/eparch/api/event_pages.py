"""Events that were: pages of them and counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from urllib.parse import quote
from uuid import UUID

from eparch.api.request import Request
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.event_pages import (
    CountEvents,
    Counts,
    Cursor,
    EventCount,
    EventPage,
    FilterEvents,
    countable_of,
    cursor_of,
    pinned,
)
from eparch.core.events import EventFilter, ReceivedEvent
from eparch.store import event_pages

BATCH = 1000
MAX_TOTAL = 10_000
"""The total of a filter is counted as far as this."""
MAX_COUNTED = 100_000
"""Events that a count looks at."""

Place = tuple[datetime, UUID]


@handles(calls.read_events)
async def read_events(request: Request, body: FilterEvents) -> EventPage:
    """The first page of the events that fit, and where the next one is."""
    wanted = pinned(body.filter or EventFilter(), request.now)
    events: list[ReceivedEvent] = []
    total = await request.scan(event_pages.total, wanted, MAX_TOTAL)
    seen = 0
    async for event in _admitted(request, wanted, None, BATCH if total is None else body.limit + 1):
        if len(events) < body.limit:
            events.append(event)
        elif total is not None:
            break
        seen += 1
        if seen == MAX_TOTAL:
            break
    total = seen if total is None else max(total, len(events))
    return _page(request, wanted, events, body.limit, total, more=total > len(events))


@handles(calls.read_next_events)
async def read_next_events(request: Request, page_token: str) -> EventPage:
    """The page that a page before has named."""
    cursor = cursor_of(page_token)
    wanted = pinned(cursor.filter, request.now)
    events: list[ReceivedEvent] = []
    async for event in _admitted(request, wanted, (cursor.occurred, cursor.id)):
        events.append(event)
        if len(events) > cursor.limit:
            break
    more = len(events) > cursor.limit
    return _page(request, wanted, events[: cursor.limit], cursor.limit, cursor.total, more=more)


def _page(
    request: Request, wanted: EventFilter, events: list[ReceivedEvent], limit: int, total: int, *, more: bool
) -> EventPage:
    if not more or not events:
        return EventPage(events=events, total=total)
    last = events[-1]
    cursor = Cursor(filter=wanted, limit=limit, total=total, occurred=last.occurred, id=last.id)
    base = request.services.policy.base_path
    site = f"{request.scope.get('scheme', 'http')}://{request.header('host') or 'localhost'}"
    place = f"{site}{base}{calls.read_next_events.path}?page-token={quote(cursor.token())}"
    return EventPage(events=events, total=total, next_page=place)


@handles(calls.count_events)
async def count_events(request: Request, countable: str, body: CountEvents) -> list[EventCount]:
    """How many of the events that fit there are by name, by resource or over time."""
    by = countable_of(countable)
    wanted = pinned(body.filter, request.now)
    counts = Counts(body, wanted, by)
    if await request.scan(event_pages.count, wanted, counts, MAX_COUNTED):
        return counts.answer()
    seen = 0
    async for event in _admitted(request, wanted, None):
        counts.add(event)
        seen += 1
        if seen == MAX_COUNTED:
            break
    return counts.answer()


async def _admitted(
    request: Request, wanted: EventFilter, after: Place | None, batch: int = BATCH
) -> AsyncIterator[ReceivedEvent]:
    while True:
        rows = await request.scan(event_pages.candidates, wanted, after, batch)
        for row in rows:
            row.pop("position")
            event = ReceivedEvent(**row)
            if wanted.admits(event):
                yield event
        if len(rows) < batch:
            return
        after = rows[-1]["occurred"], rows[-1]["id"]
