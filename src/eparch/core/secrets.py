"""Values that are not shown: a text, and a mapping of which the keys may be known.

Owns that neither ``str`` nor ``repr``, so no log and no error, has the value. Who keeps it sealed is the
server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")

HIDDEN = "**********"
"""Stands for a secret that has a value."""


class SecretValue(Generic[T]):
    """Any value; ``get_secret_value`` shows it."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def get_secret_value(self) -> T:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __str__(self) -> str:
        return HIDDEN if self._value or self._value == 0 else ""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and reveal(self) == reveal(other)

    def __hash__(self) -> int:
        return hash((type(self), repr(self._value)))


class SecretStr(SecretValue[str]):
    """A secret text."""

    __slots__ = ()

    def __init__(self, value: object) -> None:
        """Raises ``ValueError`` where ``value`` is no text."""
        if not isinstance(value, str):
            raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
        super().__init__(value)

    def __len__(self) -> int:
        return len(self._value)


class SecretDict(SecretValue[dict[str, Any]]):
    """A mapping of secrets."""

    __slots__ = ()

    def __init__(self, value: object) -> None:
        """Raises ``ValueError`` where ``value`` is no mapping."""
        if not isinstance(value, Mapping):
            raise ValueError(f"Expected `dict`, got `{type(value).__name__}`")
        super().__init__(dict(value))

    def __len__(self) -> int:
        return len(self._value)


def is_secret_type(kind: Any) -> bool:
    """Whether values of the class ``kind`` are secret: ours, and those of pydantic."""
    return isinstance(kind, type) and callable(getattr(kind, "get_secret_value", None))


def reveal(value: Any) -> Any:
    """What a secret holds; any other value itself."""
    return value.get_secret_value() if is_secret_type(type(value)) else value
