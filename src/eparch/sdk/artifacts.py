"""Artifacts that a run makes for people to look at: Markdown, tables, links (row B11, its SDK part)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from eparch.core import calls
from eparch.core.errors import Usage
from eparch.core.records import ArtifactCreate
from eparch.sdk import context
from eparch.sdk.session import current
from eparch.sdk.text import printable

MAX_CHARACTERS = 1_000_000
_KEY = re.compile(r"^[a-z0-9]+(-[a-z0-9]+)*$")

Table = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]]


def create_markdown_artifact(markdown: str, key: str | None = None, description: str | None = None) -> UUID:
    """Keep ``markdown`` with the current run; artifacts of one ``key`` are its versions. Gives the id.

    Raises:
        Usage: the key is not made of small letters, digits and dashes, or the text is too long.
    """
    return _create("markdown", markdown, key, description)


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


def create_link_artifact(
    link: str, link_text: str | None = None, key: str | None = None, description: str | None = None
) -> UUID:
    """Keep a link with the current run, shown as ``link_text``. Gives the id.

    Raises:
        Usage: the key cannot be one.
    """
    text = (link_text or link).replace("[", "\\[").replace("]", "\\]")
    return _create("markdown", f"[{text}]({link})", key, description)


def _create(type_: str, data: str, key: str | None, description: str | None) -> UUID:
    if key is not None and (not _KEY.match(key) or len(key) > 255):
        raise Usage(
            f"{key!r} cannot be the key of an artifact.", fix="Use small letters, digits and dashes only."
        )
    if len(data) > MAX_CHARACTERS:
        raise Usage(f"The artifact has {len(data)} characters.", fix=f"At most {MAX_CHARACTERS} are kept.")
    flow, task = context.flow_run.get(), context.task_run.get()
    session = task.session if task is not None else flow.session if flow is not None else current()
    body = ArtifactCreate(
        key=key,
        type=type_,
        description=None if description is None else printable(description),
        data=printable(data, MAX_CHARACTERS),
        flow_run_id=flow.record.id if flow is not None else None,
        task_run_id=task.record.id if task is not None else None,
    )
    return session.client.send(calls.create_artifact(body=body)).id


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_without_nan(item) for item in value]
    return value
