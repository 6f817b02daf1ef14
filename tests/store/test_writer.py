"""Writes on SQLite: one transaction for many, each on its own, and an answer means on disk."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from eparch.core.errors import Conflict, DatabaseUnusable, EparchError
from eparch.core.model import new_id
from eparch.store import deployments, leadership
from eparch.store.database import Database, open_database
from eparch.store.sqlite import SqliteDatabase
from eparch.store.statement import Note, Steps

from . import making
from .making import NOW

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sqlite(anyio_backend: str, sqlite_url: str) -> Any:
    database = await open_database(sqlite_url)
    yield database
    await database.close()


def noted(value: Any, *made: Any) -> Steps[Any]:
    """Write ``made`` and tell ``value``."""
    yield Note("work", value)
    yield from making.insert(*made)
    return value


def failing(*made: Any) -> Steps[None]:
    """Write ``made``, then fail."""
    yield from making.insert(*made)
    yield Note("work", "never")
    raise KeyError("a mistake")


def commits(database: SqliteDatabase) -> list[str]:
    """The COMMIT statements that the writer runs from now on."""
    seen: list[str] = []
    database._writer.raw.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)
    return seen


def names_in(url: str) -> set[str]:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        found = {row[0] for row in connection.execute("SELECT name FROM flow")}
    connection.close()
    return found


async def test_many_writes_share_few_transactions(sqlite: SqliteDatabase, sqlite_url: str) -> None:
    seen = commits(sqlite)
    flows = [making.flow() for _ in range(500)]
    await asyncio.gather(*(sqlite.write(making.insert, flow) for flow in flows))
    assert names_in(sqlite_url) == {flow.name for flow in flows}
    assert 1 <= len(seen) < 50


async def test_a_write_that_fails_harms_nobody_else(sqlite: SqliteDatabase, sqlite_url: str) -> None:
    good, bad = [making.flow() for _ in range(20)], [making.flow() for _ in range(20)]
    taken = making.flow(name=good[0].name)
    work = [sqlite.write(making.insert, flow) for flow in good]
    work += [sqlite.write(failing, flow) for flow in bad]
    work.append(sqlite.write(making.insert, making.flow(name="also gone"), taken))
    found = await asyncio.gather(*work, return_exceptions=True)
    assert found[:20] == [None] * 20
    assert {type(error) for error in found[20:40]} == {KeyError}
    assert isinstance(found[40], Conflict)
    assert names_in(sqlite_url) == {flow.name for flow in good}


async def test_notes_are_told_after_the_commit_and_not_for_what_failed(
    sqlite: SqliteDatabase, sqlite_url: str
) -> None:
    told: list[Any] = []
    on_disk: list[set[str]] = []

    def hear(notes: Any) -> None:
        told.extend(note.value for note in notes)
        on_disk.append(names_in(sqlite_url))

    sqlite.on_notes = hear
    flow = making.flow()
    await asyncio.gather(
        sqlite.write(noted, 1, flow), sqlite.write(failing, making.flow()), return_exceptions=True
    )
    assert told == [1]
    assert flow.name in on_disk[0]


async def test_who_stops_waiting_leaves_a_whole_write_or_none(
    sqlite: SqliteDatabase, sqlite_url: str
) -> None:
    pairs = [(making.flow(), making.flow()) for _ in range(50)]
    tasks = [asyncio.ensure_future(sqlite.write(making.insert, *pair)) for pair in pairs]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    await sqlite.write(making.insert)
    names = names_in(sqlite_url)
    for pair, answer in zip(pairs, found, strict=True):
        there = {flow.name in names for flow in pair}
        assert len(there) == 1
        assert answer is not None or there == {True}


async def test_closing_finishes_what_is_queued(sqlite_url: str) -> None:
    database = await open_database(sqlite_url)
    flows = [making.flow() for _ in range(600)]
    tasks = [asyncio.ensure_future(database.write(making.insert, flow)) for flow in flows]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*tasks)
    assert names_in(sqlite_url) == {flow.name for flow in flows}
    with pytest.raises(DatabaseUnusable, match="closed"):
        await database.write(making.insert, making.flow())
    with pytest.raises(DatabaseUnusable, match="closed"):
        await database.read(deployments.read_flow, new_id())
    assert not Path(sqlite_url.removeprefix("sqlite:///") + "-wal").exists(), "all is in one file"


async def test_hundreds_of_writers_and_readers_meet_no_lock(sqlite: SqliteDatabase) -> None:
    flows = [making.flow() for _ in range(200)]

    async def one(flow: Any) -> None:
        await sqlite.write(making.insert, flow)
        assert (await sqlite.read(deployments.read_flow_by_name, flow.name)) is not None
        assert (await sqlite.scan(deployments.read_flow, flow.id)) is not None

    await asyncio.gather(*(one(flow) for flow in flows))


async def test_two_databases_on_one_file_wait_for_each_other(sqlite_url: str) -> None:
    one, two = await open_database(sqlite_url), await open_database(sqlite_url)
    flows = [making.flow() for _ in range(100)]
    await asyncio.gather(
        *((one if n % 2 else two).write(making.insert, flow) for n, flow in enumerate(flows))
    )
    assert (await one.read(deployments.read_flow, flows[0].id)) is not None
    await one.close()
    await two.close()
    assert names_in(sqlite_url) == {flow.name for flow in flows}


async def test_a_mistake_in_an_operation_does_not_end_the_writer(sqlite: SqliteDatabase) -> None:
    def stops() -> Steps[None]:
        raise SystemExit(3)
        yield

    with pytest.raises(EparchError, match="interrupted"):
        await asyncio.wait_for(sqlite.write(stops), 10)
    await asyncio.wait_for(sqlite.write(making.insert, making.flow()), 10)


_WRITER = """
import asyncio, sys
from eparch.store.database import open_database
from tests.store import making

async def main():
    database = await open_database(sys.argv[1])
    number = 0
    while True:
        await database.write(making.insert, making.flow(name=f"{sys.argv[2]}-{number}"))
        print(number, flush=True)
        number += 1

asyncio.run(main())
"""


def start_writer(url: str, name: str) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", _WRITER, url, name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, cwd=root)


def test_what_was_answered_survives_a_kill(sqlite_url: str) -> None:
    process = start_writer(sqlite_url, "w")
    assert process.stdout is not None
    with process:
        answered = [process.stdout.readline() for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        answered += process.stdout.readlines()
    last = max(int(line) for line in answered if line.endswith("\n"))
    assert last >= 19
    assert {f"w-{n}" for n in range(last + 1)} <= names_in(sqlite_url)


def test_two_processes_that_start_at_once_on_a_new_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    processes = [start_writer(url, name) for name in ("a", "b")]
    for process in processes:
        with process:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in range(5)] == [f"{n}\n" for n in range(5)]
            process.kill()
    assert {"a-4", "b-4"} <= names_in(url)


async def test_a_lease_is_taken_once_by_many(sqlite: Database) -> None:
    until = NOW + timedelta(seconds=9)
    holders: list[UUID] = [new_id() for _ in range(20)]
    taken = await asyncio.gather(
        *(sqlite.write(leadership.acquire, "duty", holder, NOW, until) for holder in holders)
    )
    assert taken.count(True) == 1
