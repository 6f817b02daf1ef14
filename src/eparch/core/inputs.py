"""Inputs of flow runs: what people and other runs send to one, and what a paused one waits for (row B6).

Owns the record, its bodies, the keys under which a pause asks and is answered, and whether an answer fits.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from eparch.core.errors import Invalid
from eparch.core.model import Body, Json, Record, decode

InputKey = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^[a-z0-9_-]+$(?!\n)")]
"""The key of an input; underscores are taken too, as names of classes have them."""

MAX_SAID = 5
"""Mistakes of an answer that are told at once."""


class FlowRunInputCreate(Body, frozen=True, kw_only=True):
    """``POST /flow_runs/{id}/input``."""

    key: InputKey
    value: str
    sender: str | None = None


class FlowRunInputFilter(Body, frozen=True, kw_only=True):
    """``POST /flow_runs/{id}/input/filter``: the oldest inputs whose key begins with ``prefix``."""

    prefix: str
    limit: int = 1
    exclude_keys: list[str] = []


class FlowRunInput(Record, frozen=True, kw_only=True):
    """Something sent to a flow run; ``value`` is JSON text where a client of Prefect's sent it."""

    flow_run_id: UUID
    key: str
    value: str
    sender: str | None = None


class ResumeFlowRun(Body, frozen=True, kw_only=True):
    """``POST /flow_runs/{id}/resume``."""

    run_input: dict[str, Json] | None = None


def keyset_of(pause: str, key: str) -> dict[str, str]:
    """Where a pause keeps what it asks (``schema``, ``description``) and what it is told (``response``).

    ``pause`` is ``paused`` or ``suspended``; the names are those of Prefect's client, whose pages show them.
    """
    return {part: f"{pause}-{key}-{part}" for part in ("description", "response", "schema")}


def unfit(schema_text: str | None, given: dict[str, Any]) -> str:
    """Why ``given`` is no answer to a pause that asked with ``schema_text``; empty: it is one (wire 4.1)."""
    from eparch.core.json_schema import mistakes

    if schema_text is None:
        return "Run input schema not found."
    try:
        schema: Any = decode(schema_text)
    except (msgspec.DecodeError, RecursionError):
        return "Run input schema is not valid JSON."
    if not isinstance(schema, dict):
        return "Run input schema is not valid JSON."
    try:
        found = list(mistakes(schema, given))
    except Invalid as error:
        return f"The schema of the run input cannot be used: {error.message}"
    said = [
        f"'{'.'.join(map(str, one.path))}': {one.message[:300]}" if one.path else one.message[:300]
        for one in found[:MAX_SAID]
    ]
    return f"The run input does not fit: {'; '.join(said)}" if said else ""
