"""Variables: named JSON values that flows and deployments share (row B11).

Owns the record and its bodies. What a placeholder makes of a variable is in ``templates``.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from eparch.core.model import UNSET, Body, Json, Patch, Record, UnsetType

VariableName = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-z0-9_-]+$(?!\n)")]
"""Small letters, digits, dashes and underscores (wire: ``VariableCreate``)."""


class VariableCreate(Body, frozen=True, kw_only=True):
    """``POST /variables/``."""

    name: VariableName
    value: Json
    tags: list[str] = []


class VariableUpdate(Patch, frozen=True, kw_only=True):
    """``PATCH /variables/{id}``; null is a value, but no name and no tags."""

    name: VariableName | UnsetType | None = UNSET
    value: Json | UnsetType = UNSET
    tags: list[str] | UnsetType | None = UNSET


class Variable(Record, frozen=True, kw_only=True):
    """A value under a name."""

    name: str
    value: Json
    tags: list[str] = []
