"""The events of blocks that are made, changed and deleted (wire 4.2). None tells a secret."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from eparch.core.blocks import MASK
from eparch.core.change_events import change_event, labels_of
from eparch.core.events import Event

MAX_VALUE = 1_000
"""Characters of a value that an event tells."""

_TOLD = ("name", "slug", "logo_url", "documentation_url", "description", "code_example", "is_protected")


def type_event(what: str, type_: Mapping[str, Any], now: datetime) -> Event:
    """``prefect.block-type.<what>``."""
    event = change_event(what, labels_of("block-type", type_["id"], type_["name"]), now)
    return msgspec.structs.replace(event, payload={name: type_[name] for name in _TOLD})


def document_event(what: str, document: Mapping[str, Any], now: datetime) -> Event:
    """``prefect.block-document.<what>`` about a document that was read without secrets.

    It tells the texts of the document's own fields that are not masked.
    """
    type_id, schema = document["block_type_id"], document["block_schema"]
    data = {
        name: value
        for name, value in document["data"].items()
        if isinstance(value, str) and value != MASK and len(value) <= MAX_VALUE
    }
    type_ = {"id": str(type_id), "name": document["block_type_name"]}
    event = change_event(
        what,
        labels_of("block-document", document["id"], document["name"]),
        now,
        related=[
            labels_of("block-type", type_id, document["block_type_name"], role="block-type"),
            labels_of("block-schema", schema["id"], None, role="block-schema"),
        ],
    )
    payload = {
        "name": document["name"],
        "data": data,
        "block_schema": {"capabilities": schema["capabilities"], "block_type": type_},
    }
    return msgspec.structs.replace(event, payload=payload)
