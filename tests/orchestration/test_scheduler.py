"""Runs of schedules: how far ahead, once only, and what a change replaces (B1, D15, wire 4.4)."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from tests.orchestration.world import START, S, World, gather

from eparch.core.deployments import (
    DeploymentCreate,
    DeploymentScheduleCreate,
    DeploymentScheduleUpdate,
    DeploymentUpdate,
)
from eparch.orchestration import deployments
from eparch.orchestration.scheduler import Scheduler, plan
from eparch.orchestration.watchdog import Watchdog
from eparch.store import deployments as stored
from eparch.store import tables as t

pytestmark = pytest.mark.anyio

MINUTE = {"interval": 60.0, "anchor_date": "2026-01-01T00:00:00Z"}
HOUR = {"interval": 3600.0, "anchor_date": "2026-01-01T00:00:00Z"}
DAY = {"cron": "0 9 * * *", "timezone": "Europe/Berlin"}


@pytest.fixture(autouse=True)
def off_the_hour(world: World) -> None:
    """A run that is due this very moment is no future run, which would only muddle what is counted."""
    world.pass_seconds(30)


async def planned(world: World) -> dict[UUID, dict[str, Any]]:
    """The runs that wait to begin, by id, in their order."""
    query = sa.select(*t.flow_run.columns).order_by(t.flow_run.c.expected_start_time)
    rows = await world.select(query)
    return {row["id"]: row for row in rows if row["state_type"] == "SCHEDULED"}


async def schedule(world: World) -> None:
    await Scheduler().run_once(world.database, world.now)


async def only_schedule(world: World) -> UUID:
    rows = await world.select(sa.select(t.deployment_schedule.c.id))
    assert len(rows) == 1
    found: UUID = rows[0]["id"]
    return found


@pytest.mark.parametrize(("rule", "runs"), [(MINUTE, 60), (HOUR, 3), (DAY, 3)])
async def test_b1_at_least_three_runs_and_an_hour_are_planned(world: World, rule: Any, runs: int) -> None:
    await world.pool()
    await world.deploy(schedules=[rule])
    await schedule(world)
    assert len(await planned(world)) in (runs, runs + 1)
    ahead = [row["expected_start_time"] for row in (await planned(world)).values()]
    assert all(when > world.now for when in ahead)
    assert ahead[-1] >= world.now + timedelta(hours=1)


async def test_b1_max_scheduled_runs_holds(world: World) -> None:
    await world.pool()
    await world.deploy(schedules=[DeploymentScheduleCreate(schedule=MINUTE, max_scheduled_runs=5)])
    await schedule(world)
    assert len(await planned(world)) == 5


async def test_planning_again_or_at_once_makes_nothing_twice(world: World) -> None:
    await world.pool()
    await world.deploy(schedules=[MINUTE])
    one = await only_schedule(world)
    await gather(*(world.database.write(plan, one, world.now) for _ in range(4)))
    first = await planned(world)
    await schedule(world)
    assert await planned(world) == first
    await world.database.write(stored.reschedule, next(iter(first.values()))["deployment_id"])
    await schedule(world)
    assert set(await planned(world)) == set(first)


async def test_a_planned_run_is_what_a_worker_needs(world: World) -> None:
    pool = await world.pool()
    made, _ = await world.deploy(
        schedules=[DeploymentScheduleCreate(schedule=HOUR, parameters={"n": 2}, slug="hourly")],
        parameters={"n": 1, "m": 1},
        tags=["team"],
        version="v1",
    )
    await schedule(world)
    run_id, row = next(iter((await planned(world)).items()))
    assert row["parameters"] == {"n": 2, "m": 1}
    assert row["tags"] == ["team", "auto-scheduled"]
    assert row["auto_scheduled"]
    one = await only_schedule(world)
    assert row["created_by"]["type"] == "SCHEDULE"
    assert row["created_by"]["id"] == str(one) == str(row["schedule_id"])
    assert row["idempotency_key"].startswith(f"scheduled {made['id']} {one} 2026-03-02T13:00")
    assert row["labels"]["prefect.deployment.id"] == str(made["id"])
    assert row["deployment_version"] == "v1"
    event = (await world.events(run_id))[0]
    pools = [r for r in event["related"] if r["prefect.resource.role"] == "work-pool"]
    assert pools[0]["prefect.resource.id"] == f"prefect.work-pool.{pool}"
    assert pools[0]["prefect.work-pool.type"] == "process"
    assert ("work", pool) in [(note.topic, note.value) for note in world.notes]
    world.now = row["expected_start_time"]
    assert list(await world.claim()) == [run_id]


async def test_time_goes_by_and_runs_are_added(world: World) -> None:
    await world.pool()
    await world.deploy(schedules=[HOUR])
    await schedule(world)
    before = await planned(world)
    world.pass_seconds(3570)
    await schedule(world)
    assert set(await planned(world)) == set(before)
    world.pass_seconds(1)
    await schedule(world)
    after = await planned(world)
    assert len(after) == len(before) + 1
    assert set(before) < set(after)


async def test_after_a_long_stop_there_is_no_flood(world: World) -> None:
    await world.pool()
    await world.deploy(schedules=[MINUTE])
    await schedule(world)
    before = await planned(world)
    world.now += timedelta(days=7)
    await schedule(world)
    after = await planned(world)
    made = [row for run_id, row in after.items() if run_id not in before]
    assert len(made) in (60, 61)
    assert all(row["expected_start_time"] > world.now for row in made)
    assert set(before) <= set(after)


# What a change replaces


async def test_d15_only_future_runs_that_never_began_are_replaced(world: World) -> None:
    await world.pool()
    made, _ = await world.deploy(schedules=[DeploymentScheduleCreate(schedule=MINUTE, slug="s")])
    deployment = UUID(str(made["id"]))
    await schedule(world)
    ids = list(await planned(world))
    by_hand = await world.run(deployment, due_in=600)
    world.pass_seconds(50)
    late, claimed, waiting = ids[0], ids[1], ids[2]
    await Watchdog().run_once(world.database, world.now)
    await world.go(claimed, S.PENDING)
    await world.set(waiting, S.SCHEDULED, "AwaitingRetry", scheduled_time=world.now + timedelta(hours=1))
    patch = DeploymentScheduleUpdate(schedule=HOUR)
    one = await only_schedule(world)
    await world.database.write(deployments.update_schedule, deployment, one, patch, world.now)
    left = await planned(world)
    assert set(left) == {late, waiting, by_hand}
    assert await world.state(late) == "Late"
    await schedule(world)
    assert len(await planned(world)) == 6
    assert await world.state(claimed) == "Pending"


@pytest.mark.parametrize("how", ["pause", "deactivate", "delete schedule", "delete deployment"])
async def test_d15_what_is_paused_or_deleted_is_no_longer_planned(world: World, how: str) -> None:
    await world.pool()
    made, _ = await world.deploy(schedules=[HOUR])
    deployment = UUID(str(made["id"]))
    await schedule(world)
    one = await only_schedule(world)
    write = world.database.write
    if how == "pause":
        await write(deployments.update_deployment, deployment, DeploymentUpdate(paused=True), world.now)
    elif how == "deactivate":
        off = DeploymentScheduleUpdate(active=False)
        await write(deployments.update_schedule, deployment, one, off, world.now)
    elif how == "delete schedule":
        await write(deployments.delete_schedule, deployment, one, world.now)
    else:
        await write(deployments.delete_deployment, deployment, world.now)
    assert await planned(world) == {}
    # A plan that was decided upon before finds that it is no longer wanted.
    assert await write(plan, one, world.now) == 0
    await schedule(world)
    assert await planned(world) == {}
    if how == "pause":
        await write(deployments.update_deployment, deployment, DeploymentUpdate(paused=False), world.now)
        await schedule(world)
        assert len(await planned(world)) == 3


async def test_d15_another_schedules_runs_stay(world: World) -> None:
    await world.pool()
    made, _ = await world.deploy(
        schedules=[
            DeploymentScheduleCreate(schedule=HOUR, slug="a"),
            DeploymentScheduleCreate(schedule=DAY, slug="b"),
        ]
    )
    await schedule(world)
    before = await planned(world)
    rows = await world.select(sa.select(t.deployment_schedule.c.id, t.deployment_schedule.c.slug))
    ids = {row["slug"]: row["id"] for row in rows}
    await world.database.write(deployments.delete_schedule, UUID(str(made["id"])), ids["a"], world.now)
    after = await planned(world)
    assert {row["schedule_id"] for row in after.values()} == {ids["b"]}
    assert set(after) < set(before)
    assert len(after) == 3


async def test_d15_a_redeploy_replaces_what_it_changes_and_nothing_else(world: World) -> None:
    await world.pool()
    flow = await world.flow("f")

    async def deploy(**fields: Any) -> None:
        schedules = [
            DeploymentScheduleCreate(schedule=HOUR, slug="a"),
            DeploymentScheduleCreate(schedule=DAY),
        ]
        body = DeploymentCreate(
            **{"name": "d", "flow_id": flow, "work_pool_name": "pool", "schedules": schedules, **fields}
        )
        await world.database.write(deployments.create_deployment, body, world.now)
        await schedule(world)

    await deploy()
    before = await planned(world)
    world.pass_seconds(5)
    await deploy()
    await deploy(description="said otherwise")
    assert set(await planned(world)) == set(before)
    rows = await world.select(sa.select(t.deployment_schedule.c.id))
    await deploy(parameters={"n": 1})
    after = await planned(world)
    assert set(after).isdisjoint(before)
    assert len(after) == len(before)
    assert all(row["parameters"] == {"n": 1} for row in after.values())
    assert await world.select(sa.select(t.deployment_schedule.c.id)) == rows
    await deploy(parameters={"n": 1}, schedules=[DeploymentScheduleCreate(schedule=DAY, slug="a")])
    kept = await planned(world)
    assert set(kept).isdisjoint(after)


async def test_a_schedule_that_cannot_be_used_does_not_stop_the_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.pool()
    await world.deploy(schedules=[HOUR])
    await world.deploy(name="other", schedules=[HOUR])
    rows = await world.select(sa.select(t.deployment_schedule.c.id, t.deployment_schedule.c.deployment_id))
    for bad in ({"cron": "not a cron"}, {"weekly": 1}):
        await world.database.write(stored.write_schedule, rows[0]["id"], {"schedule": bad})
        await world.database.write(stored.reschedule, rows[0]["deployment_id"])
        with caplog.at_level(logging.ERROR, "eparch.server"):
            assert await Scheduler().run_once(world.database, world.now) is False
        assert str(rows[0]["id"]) in caplog.text
    assert {row["deployment_id"] for row in (await planned(world)).values()} == {rows[1]["deployment_id"]}
    # It is not looked at again at once, and again when it is mended.
    caplog.clear()
    await schedule(world)
    assert caplog.text == ""
    await world.database.write(stored.write_schedule, rows[0]["id"], {"schedule": HOUR})
    world.pass_seconds(600)
    await schedule(world)
    assert len({row["deployment_id"] for row in (await planned(world)).values()}) == 2


async def test_a_schedule_that_has_ended_is_left_alone(world: World) -> None:
    await world.pool()
    await world.deploy(schedules=[{"rrule": "DTSTART:20200101T000000\nRRULE:FREQ=DAILY;COUNT=2"}])
    await schedule(world)
    assert await planned(world) == {}
    assert await world.database.scan(stored.to_schedule, START, 10) == []
