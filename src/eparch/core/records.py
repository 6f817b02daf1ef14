"""Logs and artifacts: records and bodies (wire, schemas of the routers Logs and Artifacts)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from eparch.core.model import Body, Json, Record, Timestamp

MAX_MESSAGE = 1_000_000
"""Characters of one log message; a longer one is cut by the client and refused by the server."""


class LogCreate(Body, frozen=True, kw_only=True):
    """One line of ``POST /logs/``."""

    name: str
    level: Annotated[int, Meta(ge=0, le=1_000_000)]
    message: Annotated[str, Meta(max_length=MAX_MESSAGE)]
    timestamp: Timestamp
    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None


class Log(Record, frozen=True, kw_only=True):
    """A stored line."""

    name: str
    level: int
    message: str
    timestamp: Timestamp
    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None


class ArtifactCreate(Body, frozen=True, kw_only=True):
    """``POST /artifacts/``."""

    key: Annotated[str, Meta(max_length=255, pattern=r"^[a-z0-9-]*$")] | None = None
    type: str | None = None
    description: str | None = None
    data: Json = None
    metadata_: dict[str, str] | None = None
    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None


class Artifact(Record, frozen=True, kw_only=True):
    """Something that a run shows to people: a report, a table, a link."""

    key: str | None = None
    type: str | None = None
    description: str | None = None
    data: Json = None
    metadata_: dict[str, str] | None = None
    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None
