"""Backfills: endpoints of ours (row B16)."""

from __future__ import annotations

from eparch.core.backfills import Backfill, BackfillQuery, BackfillSpec
from eparch.core.endpoint import Endpoint

create_backfill: Endpoint[Backfill] = Endpoint(
    "POST", "/deployments/{id}/backfills", Backfill, body=BackfillSpec, status=201, tag="Backfills"
)
read_backfills: Endpoint[list[Backfill]] = Endpoint(
    "POST", "/backfills/filter", list[Backfill], body=BackfillQuery, tag="Backfills", idempotent=True
)
read_backfill: Endpoint[Backfill] = Endpoint("GET", "/backfills/{id}", Backfill, tag="Backfills")
pause_backfill: Endpoint[Backfill] = Endpoint(
    "POST", "/backfills/{id}/pause", Backfill, tag="Backfills", idempotent=True
)
resume_backfill: Endpoint[Backfill] = Endpoint(
    "POST", "/backfills/{id}/resume", Backfill, tag="Backfills", idempotent=True
)
cancel_backfill: Endpoint[Backfill] = Endpoint(
    "POST", "/backfills/{id}/cancel", Backfill, tag="Backfills", idempotent=True
)
