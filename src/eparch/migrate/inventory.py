"""What somebody has in Prefect 2, whatever it was read from: blocks, deployments, queues.

Owns these values and what tells a masked secret. Does not own reading (``deployment_files``) or what becomes
of anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from eparch.core.model import Json, Value

_MASKED = re.compile(r"\*{6,}")

OF_DOCUMENT = (
    "_block_document_id",
    "_block_document_name",
    "_block_type_slug",
    "_is_anonymous",
    "block_type_slug",
    "type",
)
"""Fields within a block of a file that say which block it is."""

SLUGS = {
    "container-instance-job": "azure-container-instance-job",
    "slurm-job": "slurmjob",
}
"""``type`` of an infrastructure block -> slug of its block type, where they differ (real-files 4)."""


class Reference(Value, frozen=True, kw_only=True):
    """Another block that stands in a field of a block."""

    id: str | None = None
    slug: str | None = None
    name: str | None = None


class Block(Value, frozen=True, kw_only=True):
    """An infrastructure or storage block; ``name`` is None for an anonymous one, ``id`` if not known."""

    slug: str
    name: str | None = None
    id: str | None = None
    data: dict[str, Json] = {}
    """Its own fields; blocks within it are ``references``."""
    references: dict[str, Reference] = {}
    origin: str = ""
    """What it was read from, for people."""

    @property
    def label(self) -> str:
        """What to call it."""
        return f"{self.slug} block '{self.name}'" if self.name else f"{self.slug} block of {self.origin}"


class OldSchedule(Value, frozen=True, kw_only=True):
    """A schedule as Prefect 2 keeps it; ``active`` None: it was not said, so it is."""

    schedule: dict[str, Json]
    active: bool | None = None


class OldDeployment(Value, frozen=True, kw_only=True):
    """A deployment. ``fields`` are those that are not typed here, as they were written."""

    name: str
    origin: str
    fields: dict[str, Json] = {}
    infrastructure: Block | None = None
    storage: Block | None = None


class Queue(Value, frozen=True, kw_only=True):
    """A work queue; its limits move with it (row M11)."""

    name: str
    pool: str | None = None
    priority: int | None = None
    concurrency_limit: int | None = None
    is_paused: bool = False
    description: str = ""


class Source(Value, frozen=True, kw_only=True):
    """Everything that is to be moved, from files, a server or a database."""

    blocks: list[Block] = []
    deployments: list[OldDeployment] = []
    queues: list[Queue] = []


def read_block(data: Mapping[str, Json], origin: str) -> Block:
    """The block that a file holds as a mapping; the fields that say which block it is are in ``data`` too."""
    kind = data.get("type")
    slug = data.get("_block_type_slug") or data.get("block_type_slug")
    known = SLUGS.get(kind, kind) if isinstance(kind, str) else None
    own = {key: value for key, value in data.items() if not _is_block(value)}
    references = {
        key: Reference(
            id=_text(value.get("_block_document_id")),
            slug=_text(value.get("_block_type_slug") or value.get("block_type_slug")),
            name=_text(value.get("_block_document_name")),
        )
        for key, value in data.items()
        if _is_block(value)
    }
    is_anonymous = data.get("_is_anonymous") is True
    return Block(
        slug=_text(known) or _text(slug) or "unknown",
        name=None if is_anonymous else _text(data.get("_block_document_name")),
        id=_text(data.get("_block_document_id")),
        data=dict(own),
        references=references,
        origin=origin,
    )


def read_document(document: Mapping[str, Json]) -> Block:
    """The block of a document as the API of Prefect 2 answers it."""
    data = dict(document.get("data") or {})
    references = {}
    for key, value in (document.get("block_document_references") or {}).items():
        found = value.get("block_document") or {}
        kind = found.get("block_type") or {}
        references[key] = Reference(
            id=_text(found.get("id")), slug=_text(kind.get("slug")), name=_text(found.get("name"))
        )
        data.pop(key, None)
    slug = (document.get("block_type") or {}).get("slug") or data.get("type")
    return Block(
        slug=_text(slug) or "unknown",
        name=None if document.get("is_anonymous") else _text(document.get("name")),
        id=_text(document.get("id")),
        data=data,
        references=references,
        origin="the server",
    )


def is_masked(value: Json) -> bool:
    """Whether there is a secret in ``value`` that was replaced by asterisks when it was written."""
    if isinstance(value, str):
        return _MASKED.fullmatch(value) is not None
    if isinstance(value, Mapping):
        return any(is_masked(item) for item in value.values())
    return isinstance(value, list) and any(is_masked(item) for item in value)


def _is_block(value: Json) -> bool:
    if not isinstance(value, Mapping):
        return False
    return "_block_document_id" in value or "block_type_slug" in value or "_block_type_slug" in value


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None
