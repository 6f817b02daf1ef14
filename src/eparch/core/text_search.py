"""The words of a text search: some to find, some that must or must not be there (wire 4.6).

``error -debug "connection timeout" +now``: one of the plain words, none of those with ``-`` (or ``!``),
all of those with ``+``. Quotes hold words together. Case does not matter.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_TERM = re.compile(r'([-!+]?)(?:"((?:[^"\\]|\\.)*)"?|([^\s"]+))')


class TextSearch(NamedTuple):
    """What a text must have, in lower case."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    def admits(self, text: str) -> bool:
        """Whether ``text`` passes."""
        text = text.lower()
        if self.include and not any(term in text for term in self.include):
            return False
        return all(term in text for term in self.required) and not any(term in text for term in self.exclude)


@lru_cache(maxsize=256)
def text_search(query: str) -> TextSearch:
    """What ``query`` asks for; an empty one admits everything."""
    found: dict[str, list[str]] = {"": [], "-": [], "+": []}
    for sign, quoted, plain in _TERM.findall(query):
        term = re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
        if term.strip() and (sign or quoted or term not in "-!+"):
            found[sign.replace("!", "-")].append(term.lower())
    return TextSearch(tuple(found[""]), tuple(found["-"]), tuple(found["+"]))
