"""Backfills: each time once, no more at once than allowed, paused, resumed, cancelled (row B16)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from tests.orchestration.world import S, World, gather

from eparch.core import backfills as rules
from eparch.core.backfills import Backfill, BackfillQuery, BackfillSpec, BackfillStatus, Order
from eparch.core.deployments import CronSchedule
from eparch.core.errors import Conflict, Invalid, NotFound
from eparch.core.model import new_id
from eparch.orchestration import backfills
from eparch.orchestration.backfills import Backfills
from eparch.store import backfills as stored
from eparch.store import tables as t

pytestmark = pytest.mark.anyio

DAILY = {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}
START = datetime(2026, 2, 1, tzinfo=UTC)


async def begin(world: World, days: int = 5, deployment_id: UUID | None = None, **fields: Any) -> Backfill:
    if deployment_id is None:
        await world.pool()
        deployment_id = await world.deployment(schedules=[DAILY])
    spec = BackfillSpec(start=START, end=START + timedelta(days=days), **fields)
    return await world.database.write(backfills.create, deployment_id, spec, world.now)


async def go_on(world: World) -> None:
    world.pass_seconds(1)
    while await Backfills().run_once(world.database, world.now):
        pass


async def work(world: World, *, state: Any = S.COMPLETED) -> list[datetime]:
    """Do all that is due; the times of the runs, in the order in which they were taken."""
    taken = await world.claim(100)
    times = []
    for run_id, token in taken.items():
        times.append((await world.read(run_id))["expected_start_time"])
        await world.go(run_id, S.RUNNING, state, token=token)
    return times


async def backfill_runs(world: World) -> list[dict[str, Any]]:
    rows = await world.select(sa.select(*t.flow_run.columns).order_by(t.flow_run.c.expected_start_time))
    return [row for row in rows if "backfill" in row["tags"]]


async def read(world: World, id_: UUID) -> Backfill:
    found = await world.database.read(stored.read_backfill, id_)
    assert found is not None
    return found


@pytest.mark.parametrize("order", Order)
async def test_b16_runs_come_in_order_and_no_more_at_once_than_allowed(world: World, order: Order) -> None:
    made = await begin(world, concurrency=2, order=order, parameters={"day": "{{ logical_date }}", "n": [1]})
    assert made.total == 5
    times: list[datetime] = []
    for wanted in (2, 2, 1, 0):
        await go_on(world)
        await gather(*(Backfills().run_once(world.database, world.now) for _ in range(3)))
        done = await work(world)
        assert len(done) == wanted
        times += sorted(done, reverse=order is Order.DESC)
    days = [START.replace(hour=2) + timedelta(days=day) for day in range(5)]
    assert times == (days if order is Order.ASC else days[::-1])
    done_ = await read(world, made.id)
    assert (done_.status, done_.counts) == (BackfillStatus.COMPLETED, {"done": 5})
    for row, day in zip(await backfill_runs(world), days, strict=True):
        assert row["parameters"] == {"day": day.isoformat(), "n": [1]}
        assert row["created_by"]["type"] == "BACKFILL"
        assert row["labels"][backfills.LABEL] == str(made.id)
    events = await world.select(sa.select(t.event.c.event, t.event.c.resource_id))
    told = [row["event"] for row in events if row["resource_id"] == f"prefect.backfill.{made.id}"]
    assert told == ["prefect.backfill.completed"]


async def test_b16_again_makes_no_run_but_of_what_failed_on_demand(world: World) -> None:
    first = await begin(world, concurrency=10)
    await go_on(world)
    assert len(await work(world, state=S.FAILED)) == 5
    again = await begin(world, 7, first.deployment_id, concurrency=10)
    await go_on(world)
    assert len(await work(world)) == 2
    await go_on(world)
    assert (await read(world, again.id)).counts == {"there": 5, "done": 2}
    retried = await begin(world, 7, first.deployment_id, concurrency=10, retry_failed=True)
    await go_on(world)
    assert len(await work(world)) == 5
    await go_on(world)
    assert (await read(world, retried.id)).counts == {"there": 2, "done": 5}
    # Other parameters are other runs.
    other = await begin(world, 1, first.deployment_id, parameters={"region": "north"})
    await go_on(world)
    assert len(await work(world)) == 1
    page = await world.database.read(stored.read_backfills, BackfillQuery(limit=2))
    assert [one.id for one in page] == [other.id, retried.id]
    page = await world.database.read(stored.read_backfills, BackfillQuery(before=retried.id))
    assert [one.id for one in page] == [again.id, first.id]


async def test_b16_paused_resumed_cancelled(world: World) -> None:
    made = await begin(world)
    await go_on(world)
    await world.database.write(backfills.pause, made.id, world.now)
    assert len(await work(world)) == 1
    await go_on(world)
    assert await work(world) == []
    await world.database.write(backfills.resume, made.id, world.now)
    assert world.notes[-1].topic == "backfills"
    await go_on(world)
    assert len(await backfill_runs(world)) == 2
    cancelled = await world.database.write(backfills.cancel, made.id, world.now)
    assert cancelled.status is BackfillStatus.CANCELLED
    assert [row["state_type"] for row in await backfill_runs(world)] == ["COMPLETED", "CANCELLED"]
    await go_on(world)
    assert len(await backfill_runs(world)) == 2
    with pytest.raises(Conflict, match="over"):
        await world.database.write(backfills.resume, made.id, world.now)
    with pytest.raises(NotFound):
        await world.database.write(backfills.pause, new_id(), world.now)


async def test_b16_a_backfill_whose_runs_cannot_be_made_is_paused(world: World) -> None:
    await world.pool()
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    deployment_id = await world.deployment(schedules=[DAILY], parameter_openapi_schema=schema)
    made = await begin(world, deployment_id=deployment_id, parameters={"n": "x"})
    await go_on(world)
    assert (await read(world, made.id)).status is BackfillStatus.PAUSED


async def test_b16_what_is_refused(memory: World) -> None:
    world = memory
    await world.pool()
    deployment_id = await world.deployment()
    with pytest.raises(Invalid, match="Which schedule"):
        await begin(world, deployment_id=deployment_id)
    for fields, message in (
        ({"schedule": {"cron": "0 3 * * *"}, "days": 1000}, "past"),
        ({"schedule": {"cron": "0 3 * * *"}, "days": -1}, "before it starts"),
        ({"schedule": {"cron": "0 0 1 1 *"}}, "does not run"),
        ({"schedule": {"interval": 1.0}}, "more than"),
        ({"slug": "x"}, "no schedule 'x'"),
    ):
        with pytest.raises(Invalid, match=message):
            await begin(world, deployment_id=deployment_id, **fields)
    assert await world.database.read(stored.read_backfills, BackfillQuery()) == []


async def test_b16_a_hundred_thousand_times_are_kept(memory: World) -> None:
    world = memory
    await world.pool()
    deployment_id = await world.deployment()
    end = START + timedelta(minutes=rules.MOST - 1)
    spec = BackfillSpec(start=START, end=end, schedule={"interval": 60.0, "anchor_date": START.isoformat()})
    world.now = end
    made = await world.database.write(backfills.create, deployment_id, spec, world.now)
    assert made.total == rules.MOST
    await go_on(world)
    assert (await read(world, made.id)).counts == {"made": 1, "waiting": rules.MOST - 1}


def test_b16_an_hour_that_is_twice_has_two_runs_where_the_schedule_says_so() -> None:
    hourly = CronSchedule(cron="0 * * * *", timezone="Europe/Berlin")
    start = datetime(2026, 10, 24, 22, tzinfo=UTC)
    assert len(rules.logical_dates(hourly, start, start + timedelta(hours=24), Order.ASC)) == 25
