"""Background duties: one server at a time, tried again after a failure, stopped at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from tests.orchestration.world import START

from eparch.orchestration.service import Services
from eparch.store.database import Database

pytestmark = pytest.mark.anyio


class Duty:
    """Counts how often it was done."""

    name = "duty"

    def __init__(self, interval: float = 60.0, do: Callable[[int], bool] | None = None) -> None:
        self.interval = interval
        self.done = 0
        self._do = do or (lambda _: False)
        self._changed = asyncio.Condition()

    async def run_once(self, database: Database, now: datetime) -> bool:
        self.done += 1
        async with self._changed:
            self._changed.notify_all()
        return self._do(self.done)

    async def reach(self, times: int) -> None:
        """Wait until it was done so often."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.done >= times)


async def test_one_server_does_a_duty_until_its_lease_ends(database: Database) -> None:
    one, two = Duty(), Duty()
    first, second = Services(database, [one]), Services(database, [two])
    await first.attempt(one, START)
    await second.attempt(two, START)
    assert (one.done, two.done) == (1, 0)
    await first.attempt(one, START + timedelta(seconds=100))
    await second.attempt(two, START + timedelta(seconds=200))
    assert (one.done, two.done) == (2, 0)
    # The first server is gone: the lease is three intervals long.
    await second.attempt(two, START + timedelta(seconds=281))
    await first.attempt(one, START + timedelta(seconds=282))
    assert (one.done, two.done) == (2, 1)


async def test_two_servers_that_start_at_once_take_turns_at_nothing(database: Database) -> None:
    duties = [Duty() for _ in range(6)]
    servers = [Services(database, [duty]) for duty in duties]
    await asyncio.gather(*(server.attempt(duty, START) for server, duty in zip(servers, duties, strict=True)))
    assert sum(duty.done for duty in duties) == 1


async def test_a_server_that_stops_hands_its_duties_over(database: Database) -> None:
    one, two = Duty(), Duty()
    first, second = Services(database, [one]), Services(database, [two])
    first.start()
    await one.reach(1)
    await first.stop()
    second.start()
    await two.reach(1)
    await second.stop()
    assert one.done == 1


async def test_a_duty_that_fails_is_logged_and_tried_again(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_first(times: int) -> bool:
        if times == 1:
            raise RuntimeError("it went wrong")
        return False

    failing, other = Duty(do=fail_first), Duty()
    other.name = "other"
    services = Services(database, [failing, other])
    with caplog.at_level(logging.ERROR, "eparch.server"):
        services.start()
        await failing.reach(1)
        await other.reach(1)
        while not services.failures:
            await asyncio.sleep(0)
        assert services.failures == {"duty": "it went wrong"}
        assert "it went wrong" in caplog.text
        services.call("duty")
        await failing.reach(2)
        while services.failures:
            await asyncio.sleep(0)
    await services.stop()


async def test_a_duty_goes_on_while_there_is_more(database: Database) -> None:
    duty = Duty(do=lambda times: times < 5)
    services = Services(database, [duty])
    services.start()
    await duty.reach(5)
    services.call("duty")
    await duty.reach(6)
    services.call("nobody")
    await services.stop()


async def test_stopping_does_not_wait_for_the_interval_nor_for_a_duty(database: Database) -> None:
    begun = asyncio.Event()

    class Endless(Duty):
        name = "endless"

        async def run_once(self, database: Database, now: datetime) -> bool:
            begun.set()
            await asyncio.Event().wait()
            return False

    services = Services(database, [Duty(interval=3600), Endless()])
    services.start()
    await begun.wait()
    await asyncio.wait_for(services.stop(), 10)
    await asyncio.wait_for(services.stop(), 10)


async def test_a_lease_is_renewed_when_half_of_it_is_over_and_not_at_each_run(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[datetime] = []
    write = database.write

    async def counted(operation: Callable[..., object], *args: object, **kwargs: object) -> object:
        written.append(args[2])  # type: ignore[arg-type]
        return await write(operation, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(database, "write", counted)
    duty = Duty()
    services = Services(database, [duty])
    for seconds in (0, 1, 89, 91, 100, 400):
        await services.attempt(duty, START + timedelta(seconds=seconds))
    assert duty.done == 6
    assert [(moment - START).seconds for moment in written] == [0, 91, 400]


async def test_a_driver_that_swallows_the_cancellation_does_not_keep_the_server(database: Database) -> None:
    begun = asyncio.Event()

    class Swallows(Duty):
        async def run_once(self, database: Database, now: datetime) -> bool:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                raise TimeoutError from error
            return False

    services = Services(database, [Swallows()])
    services.start()
    async with asyncio.timeout(60):
        await begun.wait()
        await services.stop()
    assert services.failures == {}
