"""What only PostgreSQL does: transactions side by side, retries, a server that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eparch.core.errors import Conflict, Unavailable
from eparch.core.model import new_id
from eparch.store import claims, deployments, runs
from eparch.store.database import Database, open_database
from eparch.store.statement import Note, Steps

from . import making

pytestmark = pytest.mark.anyio


@pytest.fixture
async def postgres(anyio_backend: str, postgres_url: str) -> AsyncIterator[Any]:
    database = await open_database(postgres_url)
    yield database
    await database.close()


async def two_flow_runs(database: Database) -> tuple[dict[str, Any], dict[str, Any]]:
    flow = making.flow()
    one, two = making.flow_run(flow.id), making.flow_run(flow.id)
    await database.write(making.insert, flow, one, two)
    return one, two


async def test_a_deadlock_is_tried_again_and_told_once(postgres: Any) -> None:
    one, two = await two_flow_runs(postgres)
    told: list[Any] = []
    postgres.on_notes = lambda notes: told.extend(note.value for note in notes)
    attempts: list[str] = []

    def cross(name: str, first: Any, second: Any) -> Steps[str]:
        attempts.append(name)
        yield Note("work", name)
        yield from runs.write_flow_run(first["id"], {"name": name})
        yield from runs.write_flow_run(second["id"], {"name": name})
        return name

    pairs = [("a", one, two), ("b", two, one)] * 4
    answers = await asyncio.gather(*(postgres.write(cross, *pair) for pair in pairs))
    assert sorted(answers) == sorted(told) == ["a"] * 4 + ["b"] * 4
    names = {(await postgres.read(runs.flow_run_value, run["id"])).name for run in (one, two)}
    assert len(names) == 1
    assert len(attempts) > 8, "nothing had to be tried again, so nothing was proved"


async def test_a_transaction_that_cannot_be_serialised_is_tried_again(postgres: Any) -> None:
    import asyncpg

    calls = 0

    def unlucky() -> Steps[int]:
        nonlocal calls
        calls += 1
        yield Note("work", calls)
        if calls < 3:
            raise asyncpg.SerializationError("could not serialize access")
        return calls

    told: list[Any] = []
    postgres.on_notes = lambda notes: told.extend(note.value for note in notes)
    assert await postgres.write(unlucky) == 3
    assert told == [3]


async def test_a_write_that_always_loses_says_so(postgres: Any) -> None:
    import asyncpg

    def unlucky() -> Steps[None]:
        raise asyncpg.DeadlockDetectedError("deadlock detected")
        yield

    with pytest.raises(Unavailable, match="busy"):
        await postgres.write(unlucky)


async def test_of_many_guarded_writes_one_wins(postgres: Any) -> None:
    run, _ = await two_flow_runs(postgres)

    def guarded(name: str) -> Steps[bool]:
        columns = {"name": name, "state_id": new_id()}
        changed = yield from runs.write_flow_run(run["id"], columns, was=run["state_id"])
        return changed

    answers = await asyncio.gather(*(postgres.write(guarded, str(n)) for n in range(20)))
    assert answers.count(True) == 1
    value = await postgres.read(runs.flow_run_value, run["id"])
    assert value.name == str(answers.index(True))


async def test_a_slot_is_given_once(postgres: Any) -> None:
    flow = making.flow()
    deployment = making.deployment(flow.id, concurrency_limit=1)
    waiting = [making.flow_run(flow.id, deployment_id=deployment["id"]) for _ in range(20)]
    await postgres.write(making.insert, flow, deployment, *waiting)

    def take(run: dict[str, Any]) -> Steps[bool]:
        if (yield from runs.slots_taken(deployment["id"])) >= 1:
            return False
        yield from making.insert(making.claim(run["id"]))
        yield from claims.set_slot(run["id"], new_id(), deployment["id"])
        return True

    answers = await asyncio.gather(*(postgres.write(take, run) for run in waiting))
    assert answers.count(True) == 1


async def test_a_name_that_two_make_at_once_is_made_once(postgres: Any) -> None:
    flows = [making.flow(name="same") for _ in range(5)]
    found = await asyncio.gather(
        *(postgres.write(making.insert, flow) for flow in flows), return_exceptions=True
    )
    assert [type(error) for error in found if error is not None] == [Conflict] * 4


async def test_a_connection_that_ends_within_an_operation_is_unavailable(
    postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncpg

    async def fetch(*_: object) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")

    monkeypatch.setattr(asyncpg.Connection, "fetch", fetch)
    with pytest.raises(Unavailable):
        await postgres.read(deployments.flow_value, new_id())


async def test_after_the_server_has_ended_the_connections_it_goes_on(
    postgres: Any, postgres_url: str
) -> None:
    import asyncpg

    await postgres.write(making.insert, flow := making.flow())
    other = await asyncpg.connect(postgres_url)
    await other.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eparch'"
        " AND datname = current_database()"
    )
    await other.close()
    for _ in range(20):
        try:
            found = await postgres.read(deployments.flow_value, flow.id)
            break
        except Unavailable:
            continue
    assert found == flow
    await postgres.write(making.insert, making.flow())


async def test_a_cancellation_that_the_driver_turns_into_an_error_stays_one(
    postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncpg

    begun = asyncio.Event()

    async def fetch(*_: object) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise TimeoutError from error  # as its rollback does when it takes too long

    monkeypatch.setattr(asyncpg.Connection, "fetch", fetch)
    task = asyncio.create_task(postgres.read(deployments.flow_value, new_id()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
