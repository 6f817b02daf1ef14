"""Logs and artifacts."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from eparch.api.request import Request, found
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.errors import NotFound
from eparch.core.filters import Query
from eparch.core.model import changes, new_id
from eparch.core.records import Artifact, ArtifactCreate, ArtifactUpdate, LogCreate
from eparch.store import records


@handles(calls.create_logs)
async def create_logs(request: Request, body: list[LogCreate]) -> None:
    """Add lines of log."""
    if body:
        await request.write(records.insert_logs, body, request.now)


@handles(calls.read_logs)
async def read_logs(request: Request, body: Query) -> Any:
    """A page of lines."""
    return await request.page(records.read_logs, body)


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


@handles(calls.read_latest_artifact)
async def read_latest_artifact(request: Request, key: str) -> Any:
    """The newest artifact of a key."""
    return found(await request.read(records.read_latest_artifact, key), "Artifact not found")


@handles(calls.update_artifact)
async def update_artifact(request: Request, id: UUID, body: ArtifactUpdate) -> None:
    """Change what the body names."""
    if not await request.write(records.write_artifact, id, {**changes(body), "updated": request.now}):
        raise NotFound("Artifact not found")


@handles(calls.delete_artifact)
async def delete_artifact(request: Request, id: UUID) -> None:
    """Delete an artifact; the one before it is then the newest of its key."""
    if not await request.write(records.delete_artifact, id):
        raise NotFound("Artifact not found")


@handles(calls.count_artifacts)
async def count_artifacts(request: Request, body: Query) -> int:
    """How many artifacts there are."""
    count: int = await request.count(body)
    return count


@handles(calls.read_latest_artifacts)
async def read_latest_artifacts(request: Request, body: Query) -> Any:
    """A page of the newest artifacts of each key."""
    return await request.scan(records.read_latest_artifacts, body)


@handles(calls.count_latest_artifacts)
async def count_latest_artifacts(request: Request, body: Query) -> int:
    """How many keys have artifacts."""
    count: int = await request.count(body)
    return count
