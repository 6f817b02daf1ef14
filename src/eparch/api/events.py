"""Events over HTTP and what the sockets need of the store; automations as far as deploying asks for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from eparch.api.errors import InvalidParts
from eparch.api.request import Request, Services
from eparch.api.router import handles
from eparch.api.sockets import Feeds
from eparch.api.worker_sockets import StoredWorkers
from eparch.core import calls
from eparch.core.events import Event, EventFilter, ReceivedEvent, flaw
from eparch.orchestration import recorder
from eparch.store import records

AHEAD = timedelta(minutes=15)
"""How far in the future an event may lie and still be part of what was: clocks differ."""

PAGE = 1000


@handles(calls.create_events)
async def create_events(request: Request, body: list[Event]) -> None:
    """Record events, and the task runs that they report (wire 4.2)."""
    for at, event in enumerate(body):
        if message := flaw(event):
            raise InvalidParts([{"type": "value_error", "loc": ["body", at], "msg": message}])
    await request.write(recorder.record, body, request.now)


@handles(calls.delete_owned_automations)
async def delete_owned_automations(request: Request, resource_id: str) -> None:
    """Nothing owns an automation here; every deploy asks for this (wire 4.6)."""


def feeds(services: Services) -> Feeds:
    """The store as the sockets know it."""

    async def record(events: list[Event]) -> None:
        await services.database.write(recorder.record, events, datetime.now(UTC))

    async def read(wanted: EventFilter, after: ReceivedEvent | None, limit: int) -> list[ReceivedEvent]:
        return await _read(services, wanted, after, limit)

    return Feeds(record, read, services.events, StoredWorkers(services))


async def _read(
    services: Services, wanted: EventFilter, after: ReceivedEvent | None, limit: int
) -> list[ReceivedEvent]:
    now = datetime.now(UTC)
    since, until = wanted.occurred.since or now, wanted.occurred.until or now + AHEAD
    place = (after.occurred, after.id) if after is not None else None
    admitted: list[ReceivedEvent] = []
    while True:
        rows = await services.database.scan(records.read_events, since, until, PAGE, place)
        for row in rows:
            event = ReceivedEvent(**row)
            if wanted.admits(event):
                admitted.append(event)
                if len(admitted) == limit:
                    return admitted
        if len(rows) < PAGE:
            return admitted
        place = (rows[-1]["occurred"], rows[-1]["id"])
