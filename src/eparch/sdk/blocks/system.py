"""The blocks of one value: ``Secret``, and ``JSON``, ``String`` and ``DateTime`` as Prefect 2 has them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Generic, TypeVar

from eparch.core.secrets import SecretValue, reveal
from eparch.sdk.blocks.block import Block
from eparch.sdk.blocks.fields import Field

T = TypeVar("T")


class Secret(Block, Generic[T]):
    """A value that is kept sealed and is masked wherever it is shown."""

    _is_system = True

    value: SecretValue[Any] = Field(
        description="The value: a text or any JSON.",
        json_schema_extra={"format": "password", "writeOnly": True},
    )

    def get(self) -> Any:
        """The value; a text that is JSON is read, as Prefect does."""
        value = reveal(self.value)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            return value


class JSON(Block):
    """Any JSON."""

    value: Any = Field(description="The value.")


class String(Block):
    """A text."""

    value: str = Field(description="The text.")


class DateTime(Block):
    """A time."""

    _block_type_name = "Date Time"

    value: datetime = Field(description="The time, in ISO 8601.")
