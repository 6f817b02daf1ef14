"""What is sent, to whom, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from eparch.core.errors import EparchError

_SHORTEST_SECRET = 6


class NotSent(EparchError):
    """A message could not be sent."""

    def __init__(self, message: str, *, passes: bool = False) -> None:
        """``passes``: it may work when it is tried again."""
        super().__init__(message)
        self.passes = passes


@dataclass(frozen=True, slots=True)
class Message:
    """One message; ``key`` is the same each time that it is sent again."""

    subject: str
    body: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a webhook answered, bounded."""

    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Target:
    """A block: its type and its values, opened. Never shown: its values are secret."""

    slug: str
    data: Mapping[str, Any] = field(repr=False)
    shapes: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Addresses that stand for those of a service, for its tests: by the name of the service."""

    def without_secrets(self, text: str) -> str:
        """``text`` with ``***`` for every value of the block that is long enough to be one."""
        for value in sorted(set(_texts(self.data)), key=len, reverse=True):
            if len(value) >= _SHORTEST_SECRET:
                text = text.replace(value, "***")
        return text[:1000]


def _texts(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
            _, _, rest = one.partition("://")
            if rest:  # a library may show only the path of an URL
                yield rest
                yield from (part for part in rest.split("/")[1:] if len(part) >= 2 * _SHORTEST_SECRET)
        elif isinstance(one, Mapping):
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)
