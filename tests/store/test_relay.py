"""Servers on one PostgreSQL database hear each other's notes; a broken line is mended."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest
import sqlalchemy as sa

from eparch.core.deployments import FlowCreate
from eparch.core.model import new_id
from eparch.core.pools import ClaimRuns, WorkPoolCreate
from eparch.core.runs import FlowRunCreate
from eparch.core.states import StateCreate, StateType
from eparch.orchestration import creation, deployments, pools
from eparch.orchestration.claims import Waiters
from eparch.store.database import open_database
from eparch.store.postgres import PostgresDatabase
from eparch.store.relay import ANYTHING
from eparch.store.statement import Note, Statement, Steps

pytestmark = pytest.mark.anyio


class Ear:
    """Collects what a database is told, and wakes who waits for it."""

    def __init__(self, database: PostgresDatabase) -> None:
        self.notes: list[Note] = []
        self._new = asyncio.Event()
        database.on_notes = self.hear

    def hear(self, notes: Sequence[Note]) -> None:
        self.notes.extend(notes)
        self._new.set()

    async def until(self, wanted: Note) -> None:
        async with asyncio.timeout(20):
            while wanted not in self.notes:
                self._new.clear()
                await self._new.wait()


async def opened(url: str) -> PostgresDatabase:
    database = await open_database(url)
    assert isinstance(database, PostgresDatabase)
    await database.relay.listening.wait()
    return database


def note(topic: str, value: UUID) -> Steps[None]:
    yield Note(topic, value)


async def test_a_note_is_heard_by_the_other_server_and_told_once_to_its_own(postgres_url: str) -> None:
    one, two = await opened(postgres_url), await opened(postgres_url)
    here, there = Ear(one), Ear(two)
    pool = new_id()
    await one.write(note, "work", pool)
    await one.write(note, "private", pool)
    last = new_id()
    await one.write(note, "cancel", last)
    await there.until(Note("cancel", last))
    assert there.notes == [Note("work", pool), Note("cancel", last)]
    # what comes back on the channel is its own and is not heard twice
    answer = new_id()
    await two.write(note, "work", answer)
    await here.until(Note("work", answer))
    assert here.notes.count(Note("work", pool)) == 1
    await one.close()
    await two.close()


async def test_a_broken_line_is_mended_and_everybody_looks(postgres_url: str) -> None:
    one, two = await opened(postgres_url), await opened(postgres_url)
    there = Ear(two)
    kill = Statement(
        sa.select(sa.func.pg_terminate_backend(sa.column("pid")))
        .select_from(sa.table("pg_stat_activity"))
        .where(sa.column("query").like(sa.literal_column("'LISTEN%'")))
    )

    def break_lines() -> Steps[None]:
        yield kill()

    await one.write(break_lines)
    await there.until(ANYTHING)
    await one.relay.listening.wait()
    pool = new_id()
    await one.write(note, "work", pool)
    await there.until(Note("work", pool))
    await one.close()
    await two.close()


async def test_a_message_of_somebody_else_is_ignored(postgres_url: str) -> None:
    one = await opened(postgres_url)
    ear = Ear(one)
    shout = Statement(sa.select(sa.func.pg_notify("eparch", sa.bindparam("text", type_=sa.Text))))

    def send(text: str) -> Steps[None]:
        yield shout(text=text)

    bad_id, secret = (
        f'{{"sender": "x", "notes": [["{t}", "{v}"]]}}' for t, v in (("work", 1), ("x", new_id()))
    )
    for text in ("", "hello", "[]", bad_id, secret):
        await one.write(send, text)
    pool = new_id()
    await one.write(send, f'{{"sender": "x", "notes": [["work", "{pool}"]]}}')
    await ear.until(Note("work", pool))
    assert [heard for heard in ear.notes if heard.value is not None] == [Note("work", pool)]
    await one.close()


async def test_w15_a_worker_that_waits_at_one_server_is_told_of_a_run_made_at_another(
    postgres_url: str,
) -> None:
    one, two = await opened(postgres_url), await opened(postgres_url)
    waiters = Waiters()
    one.on_notes = waiters.tell
    now = datetime.now(UTC)
    await two.write(pools.create_pool, WorkPoolCreate(name="shared", type="process"), now)
    flow, _ = await two.write(deployments.create_flow, FlowCreate(name="far"), now)
    request = ClaimRuns(claim_id=new_id(), worker_name="w", wait_seconds=60)
    waiting = asyncio.create_task(waiters.claim(one, "shared", request))
    while not waiters.asleep:
        await asyncio.sleep(0)
    body = FlowRunCreate(
        flow_id=UUID(str(flow["id"])), work_pool_name="shared", state=StateCreate(type=StateType.SCHEDULED)
    )
    made = await two.write(creation.create_flow_run, body, datetime.now(UTC), new_name="r")
    async with asyncio.timeout(20):
        work = await waiting
    assert [str(claimed.flow_run.id) for claimed in work.runs] == [str(made.run["id"])]
    await one.close()
    await two.close()
