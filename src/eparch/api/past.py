"""What was and what comes, as sockets show it: events and lines of log, in the order of their time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from eparch.api.request import Services
from eparch.core.events import EventFilter, ReceivedEvent
from eparch.core.filters import Query
from eparch.core.records import Log
from eparch.orchestration.tail import Item, Tail
from eparch.store import event_pages, positions, records
from eparch.store.database import Database
from eparch.store.positions import Following, Place

PAGE = 250
"""Rows that are read at once (wire 4.3)."""

_FIRST = (datetime.min.replace(tzinfo=UTC), UUID(int=0))


class Past:
    """What the store has."""

    def __init__(self, services: Services) -> None:
        """Reads from the database of ``services``."""
        self._services = services

    async def events(self, wanted: EventFilter) -> AsyncIterator[list[Item[ReceivedEvent]]]:
        """Pages of the events that ``wanted`` admits; it has both ends of its time."""
        after: tuple[datetime, UUID] | None = None
        while True:
            rows = await self._services.database.scan(event_pages.candidates, wanted, after, PAGE)
            items = [self._services.events.item(row) for row in rows]
            yield [item for item in items if wanted.admits(item.value)]
            if len(rows) < PAGE:
                return
            after = items[-1].value.occurred, items[-1].value.id

    async def logs(self, wanted: Query) -> AsyncIterator[list[Item[Log]]]:
        """Pages of the lines that ``wanted`` has."""
        after = _FIRST
        while True:
            rows = await self._services.database.scan(records.log_page, wanted, after, PAGE)
            items = [self._services.logs.item(row) for row in rows]
            yield items
            if len(rows) < PAGE:
                return
            after = items[-1].value.timestamp, items[-1].value.id


def tail_of_events(database: Database) -> Tail[ReceivedEvent]:
    """The newest events."""

    async def read(place: Place, limit: int) -> Following:
        return await database.read(positions.events_after, *place, limit)

    async def newest() -> Place:
        return await database.read(positions.newest_event)

    return Tail(read, newest, lambda row: ReceivedEvent(**row), lambda event: event.received)


def tail_of_logs(database: Database) -> Tail[Log]:
    """The newest lines of log."""

    async def read(place: Place, limit: int) -> Following:
        return await database.read(positions.logs_after, *place, limit)

    async def newest() -> Place:
        return await database.read(positions.newest_log)

    def make(row: dict[str, Any]) -> Log:
        return Log(updated=row["created"], **row)

    return Tail(read, newest, make, lambda line: line.created or line.timestamp)
