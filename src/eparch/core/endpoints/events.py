"""Events: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core.endpoint import Endpoint
from eparch.core.event_pages import CountEvents, EventCount, EventPage, FilterEvents
from eparch.core.events import Event

create_events: Endpoint[None] = Endpoint(
    "POST", "/events", None, body=list[Event], status=204, tag="Events", idempotent=True
)
read_events: Endpoint[EventPage] = Endpoint(
    "POST", "/events/filter", EventPage, body=FilterEvents, tag="Events", idempotent=True
)
read_next_events: Endpoint[EventPage] = Endpoint(
    "GET", "/events/filter/next", EventPage, query=("page-token",), tag="Events"
)
count_events: Endpoint[list[EventCount]] = Endpoint(
    "POST", "/events/count-by/{countable}", list[EventCount], body=CountEvents, tag="Events", idempotent=True
)
