"""When time runs out: late runs, lapsed claims, pauses and cancellations (W16, W17, B6, B7, wire 4.4)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.orchestration.world import FlowRunPolicy, S, World

from eparch.core.errors import Unavailable
from eparch.core.pools import ClaimRef, ClaimRuns, RenewClaims
from eparch.core.states import State
from eparch.orchestration import claims, watchdog
from eparch.orchestration.watchdog import Watchdog
from eparch.settings import load
from eparch.store.runs import Stored

pytestmark = pytest.mark.anyio


async def watch(world: World, **settings: Any) -> None:
    """Run the watchdog until there is nothing left, and once more: it changes nothing then."""
    dog = Watchdog(**settings)
    while await dog.run_once(world.database, world.now):
        pass
    said = len(world.notes)
    await dog.run_once(world.database, world.now)
    assert len(world.notes) == said


async def running(world: World, *, lease_seconds: float = 30.0, **fields: Any) -> tuple[UUID, int]:
    """A run whose process runs."""
    run = await world.run(await world.deployment(), **fields)
    token = (await world.claim(lease_seconds=lease_seconds))[run]
    await world.go(run, S.RUNNING, token=token)
    return run, token


async def test_a_run_is_late_after_15_seconds_and_is_still_claimed(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment(), due_in=10)
    world.pass_seconds(24.9)
    await watch(world)
    assert await world.state(run) == "Scheduled"
    world.pass_seconds(0.1)
    await watch(world)
    row = await world.read(run)
    assert (row["state_type"], row["state_name"]) == ("SCHEDULED", "Late")
    assert row["next_scheduled_start_time"] == row["expected_start_time"]
    assert len(await world.history(run)) == 2
    assert list(await world.claim()) == [run]


async def test_a_run_that_waits_for_something_keeps_its_name(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment(), empirical_policy=FlowRunPolicy(retries=1))
    await world.go(run, S.PENDING, S.RUNNING)
    await world.set(run, S.FAILED)
    world.pass_seconds(100)
    await watch(world)
    assert await world.state(run) == "AwaitingRetry"


async def test_w17_a_process_whose_lease_lapsed_crashed(world: World) -> None:
    await world.pool()
    run, token = await running(world)
    world.pass_seconds(29)
    await watch(world)
    assert await world.state(run) == "Running"
    world.pass_seconds(1)
    await watch(world)
    row = await world.read(run)
    assert (row["state_name"], "'worker'" in row["state_message"]) == ("Crashed", True)
    assert row["end_time"] == world.now
    assert await world.claims() == {}
    assert (await world.set(run, S.COMPLETED, token=token)).status == "ABORT"


async def test_w17_a_lapsed_retry_in_process_crashed(world: World) -> None:
    await world.pool()
    run, token = await running(world, empirical_policy=FlowRunPolicy(retries=3, retry_delay=1000))
    await world.set(run, S.FAILED, token=token)
    assert await world.state(run) == "AwaitingRetry"
    world.pass_seconds(31)
    await watch(world)
    assert await world.state(run) == "Crashed"
    assert await world.claims() == {}


async def test_b7_a_lapsed_claim_of_a_run_that_is_being_cancelled_is_its_end(world: World) -> None:
    await world.pool()
    run, _ = await running(world)
    await world.go(run, S.CANCELLING)
    world.pass_seconds(31)
    await watch(world)
    assert await world.state(run) == "Cancelled"


async def test_b7_cancelling_ends_in_time(world: World) -> None:
    await world.pool()
    run, token = await running(world, lease_seconds=3600)
    await world.go(run, S.CANCELLING)
    world.pass_seconds(299)
    await watch(world)
    assert await world.state(run) == "Cancelling"
    world.pass_seconds(2)
    await watch(world)
    assert await world.state(run) == "Cancelled"
    assert await world.claims() == {}
    assert (await world.set(run, S.CANCELLED, token=token)).status == "ABORT"


async def test_infrastructure_of_a_cancelled_run_is_looked_after(world: World) -> None:
    await world.pool()
    run, _ = await running(world, lease_seconds=3600)
    await world.go(run, S.CANCELLING)
    world.pass_seconds(301)
    await watch(world)
    row = await world.read(run)
    (torn,) = [note.value for note in world.notes if note.topic == "teardown"]
    assert (torn.flow_run_id, torn.work_queue_id) == (run, row["work_queue_id"])
    assert torn.infrastructure_pid == row["infrastructure_pid"]


async def test_b6_a_pause_that_timed_out_fails_among_many_that_have_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "BATCH", 3)
    await world.pool()
    deployment = await world.deployment()
    runs = []
    for number in range(8):
        run = await world.run(deployment)
        await world.go(run, S.PENDING, S.RUNNING)
        timeout = world.now + timedelta(seconds=10 if number in (1, 7) else 10_000)
        await world.set(run, S.PAUSED, pause_timeout=timeout)
        runs.append(run)
    world.pass_seconds(60)
    await watch(world)
    states = [await world.state(run) for run in runs]
    assert [number for number, state in enumerate(states) if state == "Failed"] == [1, 7]
    assert set(await world.claims()) == {run for run in runs if run not in (runs[1], runs[7])}


async def test_many_late_runs_are_all_marked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "BATCH", 3)
    await world.pool()
    deployment = await world.deployment()
    runs = [await world.run(deployment) for _ in range(7)]
    world.pass_seconds(20)
    await watch(world)
    assert {await world.state(run) for run in runs} == {"Late"}


async def test_a_run_that_cannot_be_moved_does_not_keep_the_others_waiting(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.pool()
    deployment = await world.deployment()
    bad, good = await world.run(deployment, due_in=-60), await world.run(deployment, due_in=-50)

    class Stumbling(Watchdog):
        def _late(self, stored: Stored, now: datetime) -> State | None:
            if stored.run.id == bad:
                raise RuntimeError("stumbled")
            return super()._late(stored, now)

    with caplog.at_level(logging.ERROR, "eparch.server"):
        await Stumbling().run_once(world.database, world.now)
    assert str(bad) in caplog.text
    assert (await world.state(bad), await world.state(good)) == ("Scheduled", "Late")


async def test_what_was_done_meanwhile_is_left_alone(world: World) -> None:
    await world.pool()
    run, _ = await running(world)
    world.pass_seconds(31)
    dog = Watchdog()
    due: Callable[[Stored, datetime], State | None] = dog._lapsed
    assert await world.database.write(watchdog.act, run, due, world.now)
    assert not await world.database.write(watchdog.act, run, due, world.now)
    assert len(await world.history(run)) == 4


class Renewing:
    """A run whose holder renews three times a lease of 30 s while it lives and the server is there."""

    def __init__(self, world: World) -> None:
        self.world, self.dogs, self.since = world, [Watchdog(3, absence_seconds=30)], 0
        self.run, self.token, self.lives = UUID(int=0), 0, True

    async def begin(self) -> UUID:
        await self.world.pool()
        self.run, self.token = await running(self.world)
        return self.run

    async def pass_rounds(self, seconds: int, *, there: bool = True) -> None:
        """Let this time pass; ``there``: a server answers and its watchdog goes its rounds."""
        for _ in range(seconds):
            self.world.pass_seconds(1)
            self.since += 1
            if there and self.lives and self.since >= 10:
                ref = ClaimRef(flow_run_id=self.run, token=self.token)
                body = RenewClaims(claims=[ref], lease_seconds=30)
                await self.world.database.write(claims.renew, body, self.world.now)
                self.since = 0
            if there and int(self.world.now.timestamp()) % 3 == 0:
                await self.dogs[-1].run_once(self.world.database, self.world.now)


async def test_w17_what_lapsed_while_no_server_was_there_has_a_lease_to_come_back(world: World) -> None:
    held = Renewing(world)
    run = await held.begin()
    await held.pass_rounds(20)
    await held.pass_rounds(3600, there=False)
    # The same server went on, or another process began: both must ask themselves who could have renewed.
    for dog in (held.dogs[0], Watchdog(3, absence_seconds=30)):
        held.dogs.append(dog)
        held.since = 0
        await held.pass_rounds(9)
        assert await world.state(run) == "Running"
        await held.pass_rounds(60)
        assert await world.state(run) == "Running"
        await held.pass_rounds(3600, there=False)


async def test_w17_the_dead_are_crashed_a_lease_after_the_server_came_back(world: World) -> None:
    held = Renewing(world)
    run = await held.begin()
    await held.pass_rounds(20)
    held.lives = False
    await held.pass_rounds(3600, there=False)
    await held.pass_rounds(30)
    assert await world.state(run) == "Running"
    await held.pass_rounds(6)
    assert await world.state(run) == "Crashed"


async def test_w17_a_second_server_that_takes_over_gives_a_lease_too(world: World) -> None:
    held = Renewing(world)
    run = await held.begin()
    await held.pass_rounds(20)
    # The first is gone, its lease of the duty runs for 15 s; the second takes over, then the first again.
    for dog in (Watchdog(3, absence_seconds=30), held.dogs[0]):
        await held.pass_rounds(25, there=False)
        held.dogs.append(dog)
        held.since = 0
        await held.pass_rounds(40)
        assert await world.state(run) == "Running"
    held.lives = False
    await held.pass_rounds(43)
    assert await world.state(run) == "Crashed"


async def test_w17_a_database_that_does_not_answer_is_an_absence(world: World) -> None:
    held = Renewing(world)
    run = await held.begin()
    await held.pass_rounds(30)
    real = world.database.scan

    async def fail(*_: Any, **__: Any) -> Any:
        raise Unavailable("no database")

    world.database.scan = fail  # type: ignore[method-assign]
    held.lives = False
    for _ in range(12):
        world.pass_seconds(3)
        with pytest.raises(Unavailable):
            await held.dogs[0].run_once(world.database, world.now)
    world.database.scan = real  # type: ignore[method-assign]
    await held.dogs[0].run_once(world.database, world.now)
    assert await world.state(run) == "Running"
    held.lives, held.since = True, 0
    await held.pass_rounds(60)
    assert await world.state(run) == "Running"


@pytest.mark.parametrize("leap", [3600, -3600, 90_000, -90_000])
async def test_w17_a_leap_of_the_servers_clock_crashes_nothing_and_hides_nobody(
    world: World, leap: int
) -> None:
    held = Renewing(world)
    run = await held.begin()
    await held.pass_rounds(31)
    world.pass_seconds(leap)
    await held.pass_rounds(60)
    assert await world.state(run) == "Running"
    # One that died before its next renewal is seen within two leases, not when the old time comes again.
    world.pass_seconds(-leap)
    held.lives = False
    await held.pass_rounds(66)
    assert await world.state(run) == "Crashed"


async def test_w17_rounds_that_are_a_little_late_give_no_time(world: World) -> None:
    held = Renewing(world)
    run = await held.begin()
    await held.pass_rounds(60)
    held.lives = False
    for _ in range(4):
        await held.pass_rounds(6, there=False)
        await held.dogs[0].run_once(world.database, world.now)
    await held.pass_rounds(6)
    assert await world.state(run) == "Crashed"


def test_w17_with_the_settings_as_they_come_a_lost_machine_is_seen_within_30_seconds() -> None:
    plain = load({}, Path())
    # The claim was renewed just before everything died; then a whole round passes; then the round acts.
    round_takes = 3.0
    assert plain.lease_seconds + plain.watchdog_seconds + round_takes <= 30
    asked = ClaimRuns(claim_id=UUID(int=1), worker_name="w", limit=1)
    assert asked.lease_seconds == RenewClaims(claims=[]).lease_seconds == plain.lease_seconds
