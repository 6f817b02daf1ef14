"""Backfills of deployments: endpoints of ours (row B16)."""

from __future__ import annotations

from uuid import UUID

from eparch.api.request import Request, found
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.backfills import Backfill, BackfillQuery, BackfillSpec
from eparch.orchestration import backfills as changes
from eparch.store import backfills


@handles(calls.create_backfill)
async def create_backfill(request: Request, id: UUID, body: BackfillSpec) -> Backfill:
    """Begin a backfill of the deployment."""
    return await request.write(changes.create, id, body, request.now)


@handles(calls.read_backfills)
async def read_backfills(request: Request, body: BackfillQuery) -> list[Backfill]:
    """A page of backfills, the newest first."""
    return await request.scan(backfills.read_backfills, body)


@handles(calls.read_backfill)
async def read_backfill(request: Request, id: UUID) -> Backfill:
    """One backfill with its counts."""
    value: Backfill = found(await request.scan(backfills.read_backfill, id), "Backfill not found")
    return value


@handles(calls.pause_backfill)
async def pause_backfill(request: Request, id: UUID) -> Backfill:
    """Make no more runs until it is resumed."""
    return await request.write(changes.pause, id, request.now)


@handles(calls.resume_backfill)
async def resume_backfill(request: Request, id: UUID) -> Backfill:
    """Make runs again."""
    return await request.write(changes.resume, id, request.now)


@handles(calls.cancel_backfill)
async def cancel_backfill(request: Request, id: UUID) -> Backfill:
    """End it, and cancel its runs that have not begun."""
    return await request.write(changes.cancel, id, request.now)
