"""Logs and artifacts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from eparch.api.request import Request, found
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.filters import Query
from eparch.core.model import new_id
from eparch.core.records import Artifact, ArtifactCreate, LogCreate
from eparch.store import records


@handles(calls.create_logs)
async def create_logs(request: Request, body: list[LogCreate]) -> None:
    """Add lines of log."""
    if body:
        await request.write(records.insert_logs, body, request.now)


@handles(calls.read_logs)
async def read_logs(request: Request, body: Query) -> Any:
    """A page of lines."""
    return await request.scan(records.read_logs, body)


@handles(calls.create_artifact)
async def create_artifact(request: Request, body: ArtifactCreate) -> Artifact:
    """Add an artifact."""
    now = request.now
    artifact = Artifact(id=new_id(), created=now, updated=now, **msgspec.structs.asdict(body))
    await request.write(records.insert_artifact, artifact)
    return artifact


@handles(calls.read_artifact)
async def read_artifact(request: Request, id: UUID) -> Any:
    """One artifact."""
    return found(await request.read(records.read_artifact, id), "Artifact not found")


@handles(calls.read_artifacts)
async def read_artifacts(request: Request, body: Query) -> Any:
    """A page of artifacts."""
    return await request.scan(records.read_artifacts, body)
