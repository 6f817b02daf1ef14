"""Where pages ended: a far page goes on from the one before it instead of counting off all rows again.

Exporters read everything in pages by offset, which would cost the square of the number of rows. Only far
pages do this, and only for a minute: nearer ones are always counted off. Rows that come or go meanwhile
neither repeat nor hide others, as they would by offset alone.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eparch.core.filters import Query
from eparch.core.model import encode
from eparch.store.where import FAR, key_of

KEPT = 60.0
"""Seconds for which the end of a page is good, counted from the last that was counted off."""

MOST = 128
"""Lists that are remembered."""

MOST_ENDS = 8
"""Ends of pages of one list."""


@dataclass(frozen=True, slots=True)
class _End:
    offset: int
    after: tuple[Any, Any]
    since: float


class Places:
    """The ends of pages that were read last, by list."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` tells seconds."""
        self._clock = clock
        self._ends: OrderedDict[Any, list[_End]] = OrderedDict()

    def begin(self, query: Query) -> tuple[Query, float]:
        """``query`` from the nearest known end on, and when that was counted off."""
        now = self._clock()
        if query.offset < FAR:
            return query, now
        nearest: _End | None = None
        for end in self._ends.get(_list_of(query), ()):
            if now - end.since < KEPT and end.offset <= query.offset:
                nearest = end if nearest is None or end.offset > nearest.offset else nearest
        if nearest is None:
            return query, now
        return replace(query, offset=query.offset - nearest.offset, after=nearest.after), nearest.since

    def keep(self, query: Query, rows: Sequence[dict[str, Any]], since: float) -> None:
        """Remember where the page of ``query``, which has these ``rows``, ended."""
        offset = query.offset + len(rows)
        if not rows or len(rows) < query.limit or offset < FAR:
            return
        after = key_of(query, rows[-1])
        if after is None:
            return
        question = _list_of(query)
        others = [end for end in self._ends.pop(question, []) if end.offset != offset]
        self._ends[question] = [*others[1 - MOST_ENDS :], _End(offset, after, since)]
        if len(self._ends) > MOST:
            self._ends.popitem(last=False)


def _list_of(query: Query) -> Any:
    return query.shape(), encode(query.values())
