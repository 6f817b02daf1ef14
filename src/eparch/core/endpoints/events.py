"""Events: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core.endpoint import Endpoint
from eparch.core.events import Event

create_events: Endpoint[None] = Endpoint(
    "POST", "/events", None, body=list[Event], status=204, tag="Events", idempotent=True
)
