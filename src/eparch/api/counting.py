"""Counts of rows: large ones are shared by all who ask the same within a moment.

Counting millions of rows takes a tenth of a second however good the index is, and dashboards ask again and
again. What is small is always counted anew, so that a client finds what it has just made.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eparch.core.filters import Query
from eparch.core.model import encode
from eparch.store import runs

if TYPE_CHECKING:
    from eparch.store.database import Database

LARGE = 100_000
"""Rows from which on a count is shared."""

KEPT = 2.0
"""Seconds for which it is."""

MOST = 256
"""Questions whose counts are remembered."""


@dataclass(slots=True)
class _Known:
    number: int
    asked: float
    again: asyncio.Future[int] | None = None


class SharedCounts:
    """Counts the rows of queries."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` tells seconds."""
        self._database = database
        self._clock = clock
        self._known: OrderedDict[Any, _Known] = OrderedDict()

    async def count(self, query: Query) -> int:
        """How many rows ``query`` has, its page aside; ``LARGE`` or more may be ``KEPT`` seconds old."""
        question = (query.shape()[:3], encode(query.values()))
        known = self._known.get(question)
        if known is None:
            return await self._ask(question, query)
        if self._clock() - known.asked < KEPT:
            return known.number
        if known.again is None:
            known.again = asyncio.ensure_future(self._ask(question, query))
            known.again.add_done_callback(_retrieve)
        # Whoever goes away takes nothing from the others that wait.
        return await asyncio.shield(known.again)

    async def _ask(self, question: Any, query: Query) -> int:
        asked = self._clock()
        try:
            number: int = await self._database.scan(runs.count, query)
        except BaseException:
            self._known.pop(question, None)
            raise
        self._known.pop(question, None)
        if number >= LARGE:
            self._known[question] = _Known(number, asked)
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        return number


def _retrieve(asked: asyncio.Future[int]) -> None:
    """Look at the error of a count that nobody waits for any more."""
    if not asked.cancelled():
        asked.exception()
