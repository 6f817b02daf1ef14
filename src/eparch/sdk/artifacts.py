"""Artifacts that a run makes for people to look at: Markdown, tables, links, images, progress (row B11)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from eparch.core import calls
from eparch.core.errors import Usage
from eparch.core.model import UNSET
from eparch.core.records import ArtifactCreate, ArtifactUpdate
from eparch.sdk import context
from eparch.sdk.either import either
from eparch.sdk.session import Sender, current
from eparch.sdk.text import printable

MAX_CHARACTERS = 1_000_000
_KEY = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*$")

Table = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]]


@either
def create_markdown_artifact(markdown: str, key: str | None = None, description: str | None = None) -> UUID:
    """Keep ``markdown`` with the current run; artifacts of one ``key`` are its versions. Gives the id.

    Raises:
        Usage: the key is not made of small letters, digits and dashes, or the text is too long.
    """
    return _create("markdown", markdown, key, description)


@either
def create_table_artifact(table: Table, key: str | None = None, description: str | None = None) -> UUID:
    """Keep a table with the current run: columns by name, or a list of rows. Gives the id.

    Raises:
        Usage: the key cannot be one, or the table cannot be written as JSON.
    """
    try:
        data = json.dumps(_without_nan(table), default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise Usage(f"The table cannot be written as JSON: {error}") from error
    return _create("table", data, key, description)


@either
def create_link_artifact(
    link: str, link_text: str | None = None, key: str | None = None, description: str | None = None
) -> UUID:
    """Keep a link with the current run, shown as ``link_text``. Gives the id.

    Raises:
        Usage: the key cannot be one.
    """
    text = (link_text or link).replace("[", "\\[").replace("]", "\\]")
    return _create("markdown", f"[{text}]({link})", key, description)


@either
def create_image_artifact(image_url: str, key: str | None = None, description: str | None = None) -> UUID:
    """Keep an image, which the page shows from its URL, with the current run. Gives the id.

    Raises:
        Usage: the key cannot be one.
    """
    return _create("image", image_url, key, description)


@either
def create_progress_artifact(progress: float, key: str | None = None, description: str | None = None) -> UUID:
    """Keep how far the current run is, from 0 to 100. Gives the id, to change it with.

    Raises:
        Usage: the key cannot be one.
    """
    return _create("progress", _percent(progress), key, description)


@either
def update_progress_artifact(artifact_id: UUID, progress: float, description: str | None = None) -> UUID:
    """Say anew how far it is, from 0 to 100. Gives the id.

    Raises:
        NotFound: there is no such artifact.
    """
    said = UNSET if description is None else printable(description)
    patch = ArtifactUpdate(data=_percent(progress), description=said)
    _client().send(calls.update_artifact(id=artifact_id, body=patch))
    return artifact_id


acreate_image_artifact = create_image_artifact.aio
acreate_link_artifact = create_link_artifact.aio
acreate_markdown_artifact = create_markdown_artifact.aio
acreate_progress_artifact = create_progress_artifact.aio
acreate_table_artifact = create_table_artifact.aio
aupdate_progress_artifact = update_progress_artifact.aio


def _percent(progress: float) -> float:
    """``progress`` within 0 and 100; what is outside is a slip that must not end a run."""
    return 0.0 if progress != progress else min(max(float(progress), 0.0), 100.0)


def _client() -> Sender:
    flow, task = context.flow_run.get(), context.task_run.get()
    session = task.session if task is not None else flow.session if flow is not None else current()
    return session.client


def _create(type_: str, data: str | float, key: str | None, description: str | None) -> UUID:
    if key is not None and (not _KEY.match(key) or len(key) > 255):
        raise Usage(
            f"{key!r} cannot be the key of an artifact.", fix="Use small letters, digits and dashes only."
        )
    if isinstance(data, str) and len(data) > MAX_CHARACTERS:
        raise Usage(f"The artifact has {len(data)} characters.", fix=f"At most {MAX_CHARACTERS} are kept.")
    flow, task = context.flow_run.get(), context.task_run.get()
    body = ArtifactCreate(
        key=key,
        type=type_,
        description=None if description is None else printable(description),
        data=printable(data, MAX_CHARACTERS) if isinstance(data, str) else data,
        flow_run_id=flow.record.id if flow is not None else None,
        task_run_id=task.record.id if task is not None else None,
    )
    return _client().send(calls.create_artifact(body=body)).id


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_without_nan(item) for item in value]
    return value
