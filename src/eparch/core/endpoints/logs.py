"""Logs: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.endpoint import Endpoint
from eparch.core.records import Log, LogCreate

create_logs: Endpoint[None] = Endpoint("POST", "/logs/", None, body=list[LogCreate], status=201, tag="Logs")
read_logs: Endpoint[list[Log]] = Endpoint(
    "POST", "/logs/filter", list[Log], body=filters.READ_LOGS, tag="Logs", idempotent=True
)
