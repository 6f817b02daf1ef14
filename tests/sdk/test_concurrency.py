"""Slots for the code of flows and tasks, on a real server (wire 4.5, row B4, pain 5)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from eparch import flow, task
from eparch.client.http import Client
from eparch.concurrency import NoSlots, NoSlotsInTime, concurrency, rate_limit, rate_limit_async
from eparch.core import calls
from eparch.core.concurrency import (
    ConcurrencyLimitCreate,
    ConcurrencyLimitUpdate,
    LeaseSlots,
    TagLimitCreate,
)
from eparch.core.errors import Usage
from eparch.sdk import session as sessions
from eparch.sdk.session import Session
from eparch.settings import load


@pytest.fixture
def client(server: Any, tmp_path: Path) -> Iterator[Client]:
    """A client of a real server, which is also that of the SDK."""
    settings = load({"EPARCH_HOME": str(tmp_path / "home"), "EPARCH_API_URL": server.api_url}, tmp_path)
    with Client(server.api_url) as client:
        sessions.use(Session(settings, Client(server.api_url)))
        yield client
        sessions.leave()


@pytest.fixture
def db(client: Client) -> str:
    """The name of a limit with one slot."""
    name = f"db-{uuid4().hex[:8]}"
    client.send(calls.create_concurrency_limit(body=ConcurrencyLimitCreate(name=name, limit=1)))
    return name


def held(client: Client, name: str) -> int:
    return client.send(calls.read_concurrency_limit(id_or_name=name)).active_slots


def test_b4_a_block_holds_a_slot_and_gives_it_back_however_it_ends(client: Client, db: str) -> None:
    with concurrency(db):
        assert held(client, db) == 1
    assert held(client, db) == 0
    with pytest.raises(ZeroDivisionError), concurrency([db, db]):
        _ = 1 / held(client, db) / 0
    assert held(client, db) == 0


def test_b4_the_same_for_async_code(client: Client, db: str) -> None:
    async def work() -> int:
        async with concurrency(db):
            return held(client, db)

    assert asyncio.run(work()) == 1
    assert held(client, db) == 0


def test_a_cancelled_wait_leaves_no_slot_behind(client: Client, db: str) -> None:
    async def work() -> None:
        async with concurrency(db):
            waiting = asyncio.create_task(concurrency(db).__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(work())
    with concurrency(db, timeout_seconds=20):
        assert held(client, db) == 1


def test_who_waits_too_long_is_told(client: Client, db: str) -> None:
    with concurrency(db):
        with (
            pytest.raises(NoSlotsInTime, match=f"{db} got free within 0 seconds"),
            concurrency(db, timeout_seconds=0),
        ):
            raise AssertionError
        with pytest.raises(TimeoutError), concurrency(db, timeout_seconds=0.01):
            raise AssertionError
        with pytest.raises(NoSlots), concurrency(db, max_retries=0):
            raise AssertionError


def test_a_limit_that_is_not_there_holds_nobody_up_unless_strict(client: Client) -> None:
    with concurrency("nowhere"), concurrency([]):
        pass
    with pytest.raises(NoSlots, match="nowhere"), concurrency("nowhere", strict=True):
        raise AssertionError


def test_b4_a_rate_limit_is_used_up(client: Client, db: str) -> None:
    with pytest.raises(NoSlots, match="decay"):
        rate_limit(db)
    slow = ConcurrencyLimitUpdate(slot_decay_per_second=0.0001)
    client.send(calls.update_concurrency_limit(id_or_name=db, body=slow))
    asyncio.run(rate_limit_async(db))
    with pytest.raises(NoSlotsInTime):
        rate_limit(db, timeout_seconds=0)
    rate_limit("nowhere")
    with pytest.raises(NoSlots):
        rate_limit("nowhere", strict=True)


def test_pain_5_a_lost_lease_is_taken_again_and_ends_nothing(client: Client, db: str, caplog: Any) -> None:
    with concurrency(db) as slots:
        freed = ConcurrencyLimitUpdate(active_slots=0)
        client.send(calls.update_concurrency_limit(id_or_name=db, body=freed))
        slots.renew()
        assert held(client, db) == 1
        client.send(calls.update_concurrency_limit(id_or_name=db, body=freed))
        other = client.send(calls.lease_slots(body=LeaseSlots(names=[db], slots=1)))
        slots.renew()
        assert "are lost" in caplog.text
    assert client.send(calls.renew_concurrency_lease(lease_id=other.lease_id)) is None


@pytest.mark.parametrize("options", [{"occupy": 0}, {"lease_duration": 59}, {"occupy": True}])
def test_what_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(Usage):
        concurrency("db", **options)


def test_slots_are_in_the_name_of_the_run(client: Client, db: str) -> None:
    """So the end of the run frees what its process could not give back."""

    @flow
    def leaves() -> None:
        concurrency(db).acquire()
        assert held(client, db) == 1

    leaves()
    assert held(client, db) == 0


def test_b4_tasks_with_a_tag_run_as_many_at_once_as_it_has_slots(client: Client) -> None:
    tag = f"tag-{uuid4().hex[:8]}"
    client.send(calls.create_tag_limit(body=TagLimitCreate(tag=tag, concurrency_limit=1)))
    lock, seen, at_once = threading.Lock(), [], 0

    @task(tags=[tag])
    def work(number: int) -> int:
        nonlocal at_once
        with lock:
            at_once += 1
            seen.append(at_once)
        holders = client.send(calls.read_tag_limit(tag=tag)).active_slots
        with lock:
            at_once -= 1
        return len(holders)

    @flow
    def works() -> list[int]:
        return [future.result() for future in work.map([1, 2, 3])]

    assert works() == [1, 1, 1]
    assert seen == [1, 1, 1]
    assert client.send(calls.read_tag_limit(tag=tag)).active_slots == []


def test_a_tag_with_limit_0_fails_its_tasks(client: Client) -> None:
    tag = f"tag-{uuid4().hex[:8]}"
    client.send(calls.create_tag_limit(body=TagLimitCreate(tag=tag, concurrency_limit=0)))

    @task(tags=[tag])
    def never() -> None:
        raise AssertionError

    @flow
    def tries() -> str:
        return str(never(return_state=True).message)

    assert "greater than the limit" in tries()
