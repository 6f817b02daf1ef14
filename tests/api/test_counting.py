"""Large counts are shared for a moment; small ones never are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eparch.api import counting
from eparch.api.counting import KEPT, LARGE, SharedCounts
from eparch.core.errors import Unavailable
from eparch.core.filters import Condition, Group, Query

RUNS = Query("flow_runs")
FAILED = Query("flow_runs", Group("and_", (Condition("state_type", "any_", ["FAILED"]),)))


class Rows:
    """A database of so many rows that takes as long to count them as it is told."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.scans = 0
        self.go = asyncio.Event()
        self.go.set()
        self.error: Exception | None = None

    async def scan(self, operation: Any, query: Query) -> int:
        self.scans += 1
        number = self.number
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return number


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def counts_of(rows: Rows, clock: Clock) -> SharedCounts:
    return SharedCounts(rows, clock)  # type: ignore[arg-type]


def test_a_small_count_is_taken_anew() -> None:
    async def ask() -> None:
        rows = Rows(LARGE - 1)
        counts = counts_of(rows, Clock())
        assert await counts.count(RUNS) == LARGE - 1
        rows.number = 7
        assert await counts.count(RUNS) == 7

    asyncio.run(ask())


def test_a_large_count_is_shared_for_a_moment_by_those_who_ask_the_same() -> None:
    async def ask() -> None:
        rows, clock = Rows(LARGE), Clock()
        counts = counts_of(rows, clock)
        await counts.count(RUNS)
        rows.number = LARGE + 1
        clock.now = KEPT - 0.01
        assert await counts.count(Query("flow_runs", limit=7, offset=70, sort="NAME_ASC")) == LARGE
        assert await counts.count(FAILED) == LARGE + 1
        clock.now = KEPT
        assert await counts.count(RUNS) == LARGE + 1
        assert rows.scans == 3

    asyncio.run(ask())


def test_one_count_serves_all_who_wait_and_survives_one_who_goes_away() -> None:
    async def ask() -> None:
        rows, clock = Rows(LARGE), Clock()
        counts = counts_of(rows, clock)
        await counts.count(RUNS)
        clock.now = KEPT
        rows.go.clear()
        asking = [asyncio.ensure_future(counts.count(RUNS)) for _ in range(3)]
        await asyncio.sleep(0)
        asking[0].cancel()
        await asyncio.sleep(0)
        rows.go.set()
        assert await asyncio.gather(*asking[1:]) == [LARGE, LARGE]
        assert rows.scans == 2

    asyncio.run(ask())


def test_an_error_is_told_and_not_kept() -> None:
    async def ask() -> None:
        rows, clock = Rows(LARGE), Clock()
        counts = counts_of(rows, clock)
        await counts.count(RUNS)
        clock.now = KEPT
        rows.error = Unavailable("The database does not answer.")
        with pytest.raises(Unavailable):
            await counts.count(RUNS)
        rows.error = None
        assert await counts.count(RUNS) == LARGE

    asyncio.run(ask())


def test_only_so_many_questions_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        rows = Rows(LARGE)
        counts = counts_of(rows, Clock())
        await counts.count(RUNS)
        await counts.count(FAILED)
        await counts.count(RUNS)
        assert rows.scans == 3

    monkeypatch.setattr(counting, "MOST", 1)
    asyncio.run(ask())
