"""Events and logs in the order of their commits, on every kind of database."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from eparch.core.events import Event
from eparch.core.filters import READ_LOGS
from eparch.core.model import new_id
from eparch.core.records import LogCreate
from eparch.store import positions, records, where
from eparch.store import tables as t
from eparch.store.database import Database, open_database
from eparch.store.positions import BEGINNING, Place
from eparch.store.statement import Statement, Steps

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def event(name: str, id: UUID | None = None) -> Event:
    return Event(id=id or new_id(), occurred=NOW, event=name, resource={"prefect.resource.id": "r"})


def line(text: str, flow_run_id: UUID | None = None) -> LogCreate:
    return LogCreate(name="l", level=20, message=text, timestamp=NOW, flow_run_id=flow_run_id)


async def add(database: Database, *names: str) -> None:
    await database.write(records.insert_events, [event(name) for name in names], NOW)


async def follow(database: Database, place: Place, limit: int = 100) -> tuple[list[str], Place]:
    """Everything after ``place``, page by page, and the place where it ends."""
    names: list[str] = []
    while True:
        found = await database.read(positions.events_after, *place, limit)
        names += [row["event"] for row in found.rows]
        if found.rows:
            place = Place(found.rows[-1]["position"], found.rows[-1]["id"])
        if len(found.rows) < limit:
            return names, place


async def test_pages_are_the_rows_in_the_order_of_their_commits(database: Database) -> None:
    assert await database.read(positions.newest_event) == BEGINNING
    names = [f"e{n}" for n in range(7)]
    await add(database, *names[:3])
    for name in names[3:]:
        await add(database, name)
    assert (await follow(database, BEGINNING, 2))[0] == names
    newest = await database.read(positions.newest_event)
    assert await follow(database, newest) == ([], newest)
    await add(database, "next")
    assert (await follow(database, newest))[0] == ["next"]


async def test_an_event_whose_id_is_older_comes_after_what_was_read(database: Database) -> None:
    await add(database, "first")
    place = await database.read(positions.newest_event)
    await database.write(records.insert_events, [event("late", UUID(int=1))], NOW)
    assert (await follow(database, place))[0] == ["late"]


async def test_a_position_is_not_given_again_when_the_last_rows_are_gone(database: Database) -> None:
    def forget() -> Steps[None]:
        from eparch.store import tables as t
        from eparch.store.statement import Statement

        yield Statement(t.event.delete())()

    await add(database, "a", "b", "c")
    place = await database.read(positions.newest_event)
    await database.write(forget)
    await add(database, "d")
    assert (await follow(database, place))[0] == ["d"]


async def test_lines_of_some_flow_runs(database: Database) -> None:
    one, two = new_id(), new_id()
    lines = [line(f"{n}", (one, two, None)[n % 3]) for n in range(9)]
    await database.write(records.insert_logs, lines, NOW)
    place = BEGINNING
    found: list[str] = []
    for _ in range(2):
        page = await database.read(positions.logs_after, *place, 4, [one, two])
        found += [row["message"] for row in page.rows]
        place = Place(page.rows[-1]["position"], page.rows[-1]["id"])
    assert found == ["0", "1", "3", "4", "6", "7"]
    everything = await database.read(positions.logs_after, *BEGINNING, 100)
    assert [row["message"] for row in everything.rows] == [f"{n}" for n in range(9)]
    assert await database.read(positions.newest_log) == Place(
        everything.rows[-1]["position"], everything.rows[-1]["id"]
    )


async def test_two_processes_on_one_file_give_positions_in_the_order_of_their_commits(
    sqlite_url: str,
) -> None:
    one, two = await open_database(sqlite_url), await open_database(sqlite_url)
    try:
        place, seen = BEGINNING, []
        for turn in range(20):
            await asyncio.gather(add(one, f"a{turn}"), add(two, f"b{turn}"))
            names, place = await follow(one, place)
            seen += names
        assert sorted(seen) == sorted(f"{who}{turn}" for who in "ab" for turn in range(20))
    finally:
        await one.close()
        await two.close()


async def test_nothing_appears_behind_a_reader_when_a_longer_transaction_commits(postgres_url: str) -> None:
    import asyncpg

    database = await open_database(postgres_url)
    slow = await asyncpg.connect(postgres_url)
    try:
        transaction = slow.transaction()
        await transaction.start()
        # It takes its number first, and commits last.
        await slow.fetchval("SELECT pg_current_xact_id()::text")
        await add(database, "quick")
        found = await database.read(positions.events_after, *BEGINNING, 10)
        assert found == ([], True)
        assert await database.read(positions.newest_event) == BEGINNING
        await slow.execute(
            "INSERT INTO event (id, occurred, received, event, resource_id, resource, related, payload,"
            " position) VALUES ($1, now(), now(), 'slow', 'r', '{}', '[]', '{}',"
            " pg_current_xact_id()::text::bigint)",
            new_id(),
        )
        await transaction.commit()
        assert (await follow(database, BEGINNING))[0] == ["slow", "quick"]
    finally:
        await slow.close()
        await database.close()


async def test_readers_beside_writers_miss_nothing_and_get_nothing_twice(database: Database) -> None:
    writing = asyncio.Event()

    async def write(who: int) -> None:
        for turn in range(15):
            await add(database, *(f"{who}-{turn}-{n}" for n in range(who % 3 + 1)))

    async def read() -> list[str]:
        place, seen = BEGINNING, list[str]()
        while not writing.is_set():
            names, place = await follow(database, place, 3)
            seen += names
            await asyncio.sleep(0)
        return seen + (await follow(database, place, 3))[0]

    reader = asyncio.create_task(read())
    with contextlib.ExitStack() as stack:
        stack.callback(writing.set)
        await asyncio.gather(*(write(who) for who in range(6)))
    seen = await reader
    expected = [f"{who}-{turn}-{n}" for who in range(6) for turn in range(15) for n in range(who % 3 + 1)]
    assert sorted(seen) == sorted(expected)


async def test_what_was_there_before_is_read_first(database: Database) -> None:
    """A database of before positions: its rows are all at 0."""

    def old() -> Steps[Any]:
        from eparch.store import tables as t
        from eparch.store.statement import Statement

        yield Statement(t.event.update().values(position=0))()

    await add(database, "a", "b")
    await database.write(old)
    await add(database, "c")
    assert (await follow(database, BEGINNING, 1))[0] == ["a", "b", "c"]


async def test_a_page_far_behind_is_the_same_as_one_of_many(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_id()
    await database.write(records.insert_logs, [line(f"{n % 7}", run) for n in range(40)], NOW)
    for sort in ("TIMESTAMP_ASC", "TIMESTAMP_DESC"):
        wanted = {"logs": {"flow_run_id": {"any_": [str(run)]}}, "sort": sort, "limit": 9, "offset": 20}
        monkeypatch.setattr(where, "FAR", 1000)
        near = await database.read(records.read_logs, READ_LOGS.parse(wanted))
        monkeypatch.setattr(where, "FAR", 1)
        far = await database.read(records.read_logs, READ_LOGS.parse(wanted))
        assert far == near
        assert len(far) == 9


def _far_ahead() -> Steps[None]:
    """As after the restore of a dump: the numbers are those of another cluster."""
    ahead = 10**12
    for table in (t.event, t.log):
        yield Statement(sa.update(table).values(position=table.c.position + ahead))()
    cursor = t.automation_cursor
    yield Statement(sa.update(cursor).values(position=cursor.c.position + ahead))()


async def test_a8_a_dump_of_another_cluster_is_followed_on(postgres_url: str) -> None:
    database = await open_database(postgres_url)
    names = [f"e{n}" for n in range(5)]
    await add(database, *names[:2])
    await add(database, *names[2:])
    assert not await database.write(positions.mend), "nothing is wrong yet"
    await database.write(_far_ahead)
    await database.close()
    opened = await asyncio.gather(*(open_database(postgres_url) for _ in range(3)))
    database = opened[0]
    assert (await follow(database, BEGINNING))[0] == names
    place = await database.read(positions.newest_event)
    await add(opened[1], "next")
    await add(opened[2], "last")
    assert (await follow(database, place))[0] == ["next", "last"]
    assert not await database.write(positions.mend)
    for one in opened:
        await one.close()
