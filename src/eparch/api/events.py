"""Events over HTTP and what the sockets need of the store."""

from __future__ import annotations

from datetime import UTC, datetime

from eparch.api.errors import InvalidParts
from eparch.api.past import Past
from eparch.api.request import Request, Services
from eparch.api.router import handles
from eparch.api.sockets import Feeds
from eparch.api.worker_sockets import StoredWorkers
from eparch.core import calls
from eparch.core.events import Event, flaw
from eparch.orchestration import recorder


@handles(calls.create_events)
async def create_events(request: Request, body: list[Event]) -> None:
    """Record events, and the task runs that they report (wire 4.2)."""
    for at, event in enumerate(body):
        if message := flaw(event):
            raise InvalidParts([{"type": "value_error", "loc": ["body", at], "msg": message}])
    await request.write(recorder.record, body, request.now)


def feeds(services: Services) -> Feeds:
    """The store as the sockets know it."""

    async def record(events: list[Event]) -> None:
        await services.database.write(recorder.record, events, datetime.now(UTC))

    return Feeds(
        record, services.events, services.logs, Past(services), StoredWorkers(services), services.tasks
    )
