"""Following what grows: nothing missed, nothing twice, across servers, slow or fast."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from eparch.api.past import tail_of_events, tail_of_logs
from eparch.core.events import Event, ReceivedEvent
from eparch.core.model import new_id
from eparch.core.records import LogCreate
from eparch.orchestration import tail as module
from eparch.orchestration.broadcast import FellBehind
from eparch.orchestration.tail import Follower, Tail, place_of, token_of
from eparch.store import records
from eparch.store.database import Database, open_database
from eparch.store.positions import BEGINNING, Place
from eparch.store.statement import Note

pytestmark = pytest.mark.anyio


def now() -> datetime:
    return datetime.now(UTC)


def event(name: str) -> Event:
    return Event(id=new_id(), occurred=now(), event=name, resource={"prefect.resource.id": "r"})


async def add(database: Database, *names: str, at: datetime | None = None) -> None:
    def write() -> Any:
        yield from records.insert_events([event(name) for name in names], at or now())
        yield Note("events", None)

    await database.write(write)


def woken(database: Database) -> Tail[ReceivedEvent]:
    """The tail of one server."""
    tail = tail_of_events(database)
    database.on_notes = lambda notes: tail.wake()
    return tail


async def take(follower: Follower[ReceivedEvent], number: int) -> list[str]:
    names: list[str] = []
    async with asyncio.timeout(30):
        while len(names) < number:
            names += [item.value.event for item in await anext(follower)]
    return names


async def test_followers_get_what_comes_after_them(database: Database) -> None:
    tail = woken(database)
    await add(database, "before")
    async with tail.follow() as one:
        await add(database, "a", "b")
        assert await take(one, 2) == ["a", "b"]
        async with tail.follow() as two, tail.follow(BEGINNING) as all_:
            await add(database, "c")
            assert await take(one, 1) == ["c"]
            assert await take(two, 1) == ["c"]
            assert await take(all_, 4) == ["before", "a", "b", "c"]
            assert len(tail) == 3
    assert len(tail) == 0
    async with tail.follow() as later:
        await add(database, "d")
        assert await take(later, 1) == ["d"]


@pytest.fixture
async def pair(anyio_backend: str, postgres_url: str) -> AsyncIterator[tuple[Database, Database]]:
    """Two servers on one database, which hear of each other."""
    one, two = await open_database(postgres_url), await open_database(postgres_url)
    for database in (one, two):
        await asyncio.wait_for(database.relay.listening.wait(), 30)  # type: ignore[attr-defined]
    yield one, two
    await one.close()
    await two.close()


async def test_a_follower_gets_everything_of_two_servers_once(pair: tuple[Database, Database]) -> None:
    tails = [woken(database) for database in pair]
    expected = [f"{who}-{turn}-{n}" for who in range(6) for turn in range(15) for n in range(who % 3 + 1)]

    async def write(who: int) -> None:
        for turn in range(15):
            await add(pair[who % 2], *(f"{who}-{turn}-{n}" for n in range(who % 3 + 1)))

    async with tails[0].follow() as one, tails[1].follow() as two:
        reading = [asyncio.create_task(take(follower, len(expected))) for follower in (one, two)]
        await asyncio.gather(*(write(who) for who in range(6)))
        found = await asyncio.gather(*reading)
    assert sorted(found[0]) == sorted(expected)
    assert found[0] == found[1]


async def test_a_note_of_another_server_wakes(
    pair: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOWEST_SECONDS", 3600.0)
    tails = [woken(database) for database in pair]
    async with tails[1].follow() as follower:
        for name in ("a", "b"):
            await add(pair[0], name)
            assert await take(follower, 1) == [name]


async def test_a_lost_note_is_made_up_for(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    """Two processes on one file tell each other nothing."""
    monkeypatch.setattr(module, "SLOWEST_SECONDS", 0.01)
    one, two = await open_database(sqlite_url), await open_database(sqlite_url)
    async with tail_of_events(two).follow() as follower:
        await add(one, "a")
        assert await take(follower, 1) == ["a"]
    await one.close()
    await two.close()


async def test_an_event_behind_a_longer_transaction_comes_when_that_ends(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    import asyncpg

    monkeypatch.setattr(module, "SLOWEST_SECONDS", 0.02)
    database = await open_database(postgres_url)
    slow = await asyncpg.connect(postgres_url)
    tail = woken(database)
    async with tail.follow() as follower:
        transaction = slow.transaction()
        await transaction.start()
        await slow.fetchval("SELECT pg_current_xact_id()::text")
        await add(database, "quick")
        taking = asyncio.create_task(take(follower, 1))
        await asyncio.wait([taking], timeout=0.1)
        assert not taking.done()
        await transaction.commit()
        assert await taking == ["quick"]
    await slow.close()
    await database.close()


async def test_who_is_slow_reads_later_and_memory_stays_bounded(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ITEMS", 10)
    tail = woken(database)
    names = [f"e{n}" for n in range(600)]
    async with tail.follow() as slow, tail.follow() as fast:
        for at in range(0, 600, 50):
            await add(database, *names[at : at + 50])
        assert sorted(await take(fast, 600)) == sorted(names)
        assert len(tail._items) <= 10
        assert sorted(await take(slow, 600)) == sorted(names)
        await add(database, "next")
        assert await take(slow, 1) == ["next"]


async def test_large_rows_are_not_kept_by_their_number(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 2000)
    tail = woken(database)
    async with tail.follow() as follower:
        await add(database, *("x" * 900 for _ in range(8)))
        assert len(await take(follower, 8)) == 8
        assert 0 < len(tail._items) < 8
        assert tail._bytes == sum(len(item.text) for item in tail._items)


async def test_who_is_too_far_behind_is_told(database: Database) -> None:
    tail = woken(database)
    await add(database, "old", at=now() - timedelta(minutes=16))
    await add(database, "new")
    async with tail.follow(BEGINNING) as follower:
        with pytest.raises(FellBehind):
            await anext(follower)


async def test_rows_that_were_deleted_meanwhile_are_passed_over(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eparch.store import tables as t
    from eparch.store.statement import Statement

    def forget() -> Any:
        yield Statement(t.event.delete())()

    tail = woken(database)
    await add(database, "gone")
    async with tail.follow() as first:
        await database.write(forget)
        async with tail.follow(BEGINNING) as follower:
            await add(database, "here")
            assert await take(first, 1) == ["here"]
            assert await take(follower, 1) == ["here"]


async def test_the_end_of_the_server_ends_everybody(database: Database) -> None:
    tail = woken(database)
    async with tail.follow() as follower:
        taking = asyncio.create_task(anext(follower, None))
        await asyncio.sleep(0)
        tail.close()
        assert await asyncio.wait_for(taking, 30) is None
    async with tail.follow() as late:
        assert await anext(late, None) is None


async def test_a_database_that_does_not_answer_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    monkeypatch.setattr(module, "SLOWEST_SECONDS", 0.01)
    tail = woken(database)
    read, failures = tail._read, [OSError("gone"), OSError("gone")]

    async def broken(place: Place, limit: int) -> Any:
        if failures:
            raise failures.pop()
        return await read(place, limit)

    monkeypatch.setattr(tail, "_read", broken)
    async with tail.follow() as follower:
        await add(database, "a")
        assert await take(follower, 1) == ["a"]
    assert not failures


async def test_lines_of_log(database: Database) -> None:
    tail = tail_of_logs(database)
    database.on_notes = lambda notes: tail.wake()
    run = new_id()
    line = LogCreate(name="l", level=20, message="m", timestamp=now(), flow_run_id=run)
    async with tail.follow() as follower:
        await database.write(records.insert_logs, [line], now())
        (item,) = await asyncio.wait_for(anext(follower), 30)
    assert (item.value.flow_run_id, item.value.message) == (run, "m")
    assert item.value.updated == item.value.created


def test_a_place_is_a_token() -> None:
    place = Place(7, UUID(int=9))
    assert place_of(token_of(place)) == place
    assert place_of("7:x") is None
