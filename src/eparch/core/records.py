"""Logs, artifacts and saved searches: records and bodies (wire, schemas of those routers)."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from eparch.core.model import UNSET, Body, Json, Patch, Record, Timestamp, UnsetType, Value

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


class ArtifactUpdate(Patch, frozen=True, kw_only=True):
    """``PATCH /artifacts/{id}``."""

    data: Json | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    metadata_: dict[str, str] | UnsetType | None = UNSET


class Artifact(Record, frozen=True, kw_only=True):
    """Something that a run shows to people: a report, a table, a link."""

    key: str | None = None
    type: str | None = None
    description: str | None = None
    data: Json = None
    metadata_: dict[str, str] | None = None
    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None


class ArtifactCollection(Artifact, frozen=True, kw_only=True):
    """The newest artifact of a key, which stands for all of them."""

    latest_id: UUID


class SavedSearchFilter(Value, frozen=True, kw_only=True):
    """One condition of a saved search, as the page that made it understands it."""

    object: str
    property: str
    type: str
    operation: str
    value: Json


class SavedSearchCreate(Body, frozen=True, kw_only=True):
    """``PUT /saved_searches/``: one of the same name is replaced."""

    name: str
    filters: list[SavedSearchFilter] = []


class SavedSearch(Record, frozen=True, kw_only=True):
    """Filters that somebody keeps under a name."""

    name: str
    filters: list[SavedSearchFilter] = []
