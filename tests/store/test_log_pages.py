"""A far page of a run's log is the page that skipping every line would find, however the lines came."""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from eparch.core.filters import READ_LOGS
from eparch.core.records import LogCreate
from eparch.store import log_pages, records, sqlite
from eparch.store import tables as t
from eparch.store.database import Database
from eparch.store.statement import Statement, Steps
from eparch.store.where import bind

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
RUNS = [UUID(int=1), UUID(int=2), None]
LEVELS = (10, 20, 40)


def lines(seed: int) -> list[list[LogCreate]]:
    """Batches whose times overlap; two runs and no run, from before 1970 to now, many at the same time."""
    chosen = random.Random(seed)
    batches = []
    for number in range(40):
        begin = NOW - timedelta(days=30_000) if number == 7 else NOW
        batches.append(
            [
                LogCreate(
                    name="l",
                    level=chosen.choice(LEVELS),
                    message=f"{number}",
                    timestamp=begin
                    + timedelta(seconds=chosen.randrange(400), microseconds=chosen.choice((0, 7))),
                    flow_run_id=chosen.choice(RUNS),
                )
                for _ in range(chosen.randrange(1, 20))
            ]
        )
    return batches


def plainly(query: Any) -> Steps[list[str]]:
    return [str(row[0]) for row in (yield bind(records.LOGS, query))]


def counted() -> Steps[Sequence[Any]]:
    order = (t.log_tally.c.flow_run_id, t.log_tally.c.begun, t.log_tally.c.level)
    return [tuple(row) for row in (yield Statement(t.log_tally.select().order_by(*order))())]


async def filled(database: Database, seed: int = 1) -> None:
    for batch in lines(seed):
        await database.write(records.insert_logs, batch, NOW)


async def test_a_far_page_is_the_page_that_skipping_finds(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_pages, "FAR", 1)
    await filled(database)
    chosen = random.Random(2)
    bounds = [{}, {"level": {"ge_": 20}}, {"level": {"le_": 20}}, {"level": {"ge_": 15, "le_": 30}}]
    nearer = 0
    for _ in range(120):
        body = {
            "logs": {"flow_run_id": {"any_": [str(chosen.choice(RUNS[:2]))]}, **chosen.choice(bounds)},
            "sort": chosen.choice(("TIMESTAMP_ASC", "TIMESTAMP_DESC")),
            "offset": chosen.randrange(250),
            "limit": chosen.choice((1, 7, 200)),
        }
        query = READ_LOGS.parse(body)
        found = [str(row["id"]) for row in await database.scan(records.read_logs, query)]
        assert found == await database.scan(plainly, query), body
        nearer += (await database.scan(log_pages.nearer, query)).offset < query.offset
    assert nearer > 60, "the counts were made use of"


@pytest.mark.parametrize(
    "logs",
    [
        {},
        {"flow_run_id": {"any_": [str(run) for run in RUNS[:2]]}},
        {"flow_run_id": {"any_": [str(RUNS[0])]}, "task_run_id": {"is_null_": True}},
        {"operator": "or_", "flow_run_id": {"any_": [str(RUNS[0])]}, "level": {"ge_": 20}},
        {"flow_run_id": {"any_": [str(RUNS[0])]}, "text": {"query": "7"}},
        {"level": {"ge_": 20}},
    ],
)
async def test_what_the_counts_do_not_tell_is_skipped_line_by_line(
    database: Database, monkeypatch: pytest.MonkeyPatch, logs: dict[str, Any]
) -> None:
    monkeypatch.setattr(log_pages, "FAR", 1)
    await filled(database)
    query = READ_LOGS.parse({"logs": logs, "sort": "TIMESTAMP_ASC", "offset": 50})
    assert await database.scan(log_pages.nearer, query) == query


async def test_a_page_that_is_near_needs_no_counts(database: Database) -> None:
    await filled(database)
    body = {"logs": {"flow_run_id": {"any_": [str(RUNS[0])]}}, "sort": "TIMESTAMP_ASC", "offset": 200}
    query = READ_LOGS.parse(body)
    assert await database.scan(log_pages.nearer, query) == query


async def test_an_upgrade_counts_the_lines_that_are_there(database: Database) -> None:
    await filled(database)
    before = await database.scan(counted)
    assert sum(row[3] for row in before) == sum(
        line.flow_run_id is not None for batch in lines(1) for line in batch
    )
    revision = importlib.import_module("eparch.store.migrations.versions.0014_scale")
    script = f"DELETE FROM log_tally; {revision.COUNT_LINES[database.dialect.name]};"
    done = database.run_script(script)  # type: ignore[attr-defined]
    if database.dialect.name != sqlite.DIALECT.name:
        await done
    assert await database.scan(counted) == before
