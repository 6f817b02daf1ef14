"""The frozen value that every record and body is made of, its ids and its clock types.

Owns: the base struct, UUIDv7 ids, UTC timestamps, the JSON codec. Does not own any field.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = [
    "UNSET",
    "Body",
    "Json",
    "Labels",
    "Name",
    "Patch",
    "Record",
    "Timestamp",
    "UnsetType",
    "Value",
    "changes",
    "decode",
    "encode",
    "new_id",
    "utc",
    "without_nul",
]

T = TypeVar("T")

Timestamp = Annotated[datetime, Meta(tz=True)]
"""A point in time with a zone; naive times are refused where they enter."""

Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^/%&><\x00]+$")]
"""A name that can stand in a path segment (wire: the ``name`` pattern of flows, pools, deployments)."""

Json = Any
"""Whatever JSON can hold."""

Labels = dict[str, bool | int | float | str]
"""Key-value labels of flows, deployments and runs."""


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A frozen value. Unknown fields in input are ignored, as answers of a newer server may have them."""


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request body: an unknown field is a mistake of the sender and is refused (422)."""


class Patch(Body, frozen=True, kw_only=True, omit_defaults=True):
    """A partial update: a field left out is ``UNSET`` and stays as it is; null is a value."""


class Record(Value, frozen=True, kw_only=True):
    """A stored thing: its id and when it was made and last changed (UTC)."""

    id: UUID
    created: Timestamp | None = None
    updated: Timestamp | None = None


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562, 5.7; 6.2, method 3): sorts by the quarter of a microsecond it was made in."""
    millis, nanos = divmod(time.time_ns(), 1_000_000)
    random = int.from_bytes(os.urandom(8), "big")
    value = (millis & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76 | (nanos * 4096 // 1_000_000) << 64
    value |= 0b10 << 62 | (random & 0x3FFF_FFFF_FFFF_FFFF)
    return UUID(int=value)


def utc(moment: datetime) -> datetime:
    """The same moment in UTC.

    Raises:
        ValueError: ``moment`` has no zone, so it names no moment.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return moment.astimezone(UTC)


def changes(patch: msgspec.Struct) -> dict[str, Any]:
    """The fields of ``patch`` that were given, by name."""
    return {name: value for name in patch.__struct_fields__ if (value := getattr(patch, name)) is not UNSET}


_encoder = msgspec.json.Encoder()
S = TypeVar("S", bound=msgspec.Struct)


def without_nul(value: S) -> S:
    """``value`` with U+FFFD for every NUL in its texts.

    No database holds a NUL, and what a run has to say must not be lost for one.
    """
    if b"\\u0000" not in _encoder.encode(value):
        return value
    return msgspec.convert(_replaced(msgspec.to_builtins(value)), type(value))


def _replaced(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, dict):
        return {_replaced(key): _replaced(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item) for item in value]
    return value


_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def encode(value: Any) -> bytes:
    """``value`` as JSON."""
    return _encoder.encode(value)


def decode(data: bytes | str, type_: type[T] | Any = Any) -> T:
    """The JSON text ``data`` as a value of ``type_``; the decoder of a type is built once.

    Raises:
        msgspec.DecodeError: it is not JSON.
        msgspec.ValidationError: it is JSON of another shape; the message ends in the path.
    """
    decoder = _decoders.get(type_)
    if decoder is None:
        decoder = _decoders[type_] = msgspec.json.Decoder(type_)
    result: T = decoder.decode(data)
    return result
