"""Keeping secrets out of what people read: which texts are secret, and a text without them.

Owns both rules. Where a secret comes from is ``blocks``; who writes what people read is their caller.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from eparch.core.blocks import MASK, masked

SHORTEST = 4
"""Characters of the shortest text that is hidden: a log in which each 7 is hidden tells nothing any more."""


def secret_texts(data: Mapping[str, Any], secrets: tuple[str, ...]) -> frozenset[str]:
    """Every text that must not be told of a document's ``data``; ``secrets`` are the schema's secret fields.

    A value of several lines is also told line by line, and within JSON it is escaped.
    """
    found: set[str] = set()
    for value in _hidden(data, masked(data, secrets)):
        for leaf in _leaves(value):
            text = leaf.strip()
            found |= {text, json.dumps(text)[1:-1], *(line.strip() for line in text.splitlines())}
    return frozenset(text for text in found if len(text) >= SHORTEST)


def redact(text: str, secrets: Iterable[str]) -> str:
    """``text`` with ``MASK`` for each of ``secrets``, the longest first: one may stand within another."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _hidden(value: Any, shown: Any) -> Iterator[Any]:
    """The parts of ``value`` that ``shown``, the same masked, does not show."""
    if isinstance(value, Mapping) and isinstance(shown, Mapping):
        for key, item in value.items():
            yield from _hidden(item, shown[key])
    elif isinstance(value, list) and isinstance(shown, list):
        for item, other in zip(value, shown, strict=True):
            yield from _hidden(item, other)
    elif shown == MASK:
        yield value


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
