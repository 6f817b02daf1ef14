"""The policies of schedules, kept by the scheduler (row B1)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from tests.orchestration.world import S, World, gather

from eparch.core.deployments import (
    DeploymentCreate,
    DeploymentScheduleCreate,
    DeploymentScheduleUpdate,
    DeploymentUpdate,
)
from eparch.core.schedule_policies import MissedPolicy, MissedRuns, Overlap
from eparch.orchestration import deployments
from eparch.orchestration.scheduler import SKIPPED, Overlaps, Scheduler, plan
from eparch.store import deployments as stored
from eparch.store import tables as t

pytestmark = pytest.mark.anyio

HOUR = {"interval": 3600.0, "anchor_date": "2026-01-01T00:00:00Z"}
HALF = timedelta(minutes=30)


async def deploy(world: World, **fields: Any) -> UUID:
    await world.pool()
    world.now += HALF
    return await world.deployment(schedules=[DeploymentScheduleCreate(schedule=HOUR, **fields)])


async def look(world: World, hours: float = 0) -> None:
    world.pass_seconds(3600 * hours)
    await Scheduler().run_once(world.database, world.now)


async def runs(world: World, *states: str) -> list[datetime]:
    """The times of runs in these states."""
    query = sa.select(t.flow_run.c.expected_start_time, t.flow_run.c.state_name)
    rows = await world.select(query.order_by(t.flow_run.c.expected_start_time))
    return [row["expected_start_time"] for row in rows if row["state_name"] in states]


def missed(policy: MissedPolicy, window: float | None = None) -> MissedRuns:
    return MissedRuns(policy=policy, window=window)


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (None, [-9, -8, -7]),  # as Prefect: what was planned ahead runs late
        (missed(MissedPolicy.SKIP), []),
        (missed(MissedPolicy.SKIP, 3600.0), [0]),
        (missed(MissedPolicy.LATEST), [0]),
        (missed(MissedPolicy.ALL), list(range(-9, 1))),
        (missed(MissedPolicy.ALL, 3 * 3600.0), [-2, -1, 0]),
    ],
)
async def test_b1_missed_runs_after_ten_hours_without_a_server(
    world: World, policy: MissedRuns | None, kept: list[int]
) -> None:
    await deploy(world, missed_runs=policy)
    await look(world)
    await look(world, 10)
    last = world.now - HALF
    past = [when for when in await runs(world, "Scheduled", "Late") if when < world.now]
    assert past == [last + timedelta(hours=hour) for hour in kept]
    ahead = [when for when in await runs(world, "Scheduled") if when > world.now]
    assert ahead[:2] == [last + timedelta(hours=1), last + timedelta(hours=2)]
    planned = {last + timedelta(hours=hour) for hour in (-9, -8, -7)}
    assert set(await runs(world, SKIPPED)) == planned - set(past)


@pytest.mark.parametrize("of_deployment", [True, False])
async def test_b1_after_a_pause_the_newest_missed_run_is_made(world: World, of_deployment: bool) -> None:
    deployment_id = await deploy(world, missed_runs=missed(MissedPolicy.LATEST))
    await look(world)

    async def set_active(active: bool) -> None:
        if of_deployment:
            patch = DeploymentUpdate(paused=not active)
            await world.database.write(deployments.update_deployment, deployment_id, patch, world.now)
            return
        [one] = await world.database.read(stored.read_schedules, deployment_id)
        change = DeploymentScheduleUpdate(active=active)
        await world.database.write(deployments.update_schedule, deployment_id, one.id, change, world.now)

    await set_active(False)
    assert await runs(world, "Scheduled") == []
    await look(world, 5)
    assert await runs(world, "Scheduled") == []
    await set_active(True)
    await look(world)
    past = [when for when in await runs(world, "Scheduled") if when < world.now]
    assert past == [world.now - HALF]
    # Once decided it is decided.
    await look(world, 0.1)
    assert [when for when in await runs(world, "Scheduled") if when < world.now] == past


async def test_b1_another_rule_has_missed_nothing(world: World) -> None:
    deployment_id = await deploy(world, missed_runs=missed(MissedPolicy.ALL))
    await look(world)
    world.pass_seconds(5 * 3600)
    [one] = await world.database.read(stored.read_schedules, deployment_id)
    change = DeploymentScheduleUpdate(schedule={"cron": "*/5 * * * *"})
    await world.database.write(deployments.update_schedule, deployment_id, one.id, change, world.now)
    await look(world)
    past = [when for when in await runs(world, "Scheduled") if when < world.now]
    assert len(past) == 3  # what the old one planned ahead for times that are past now
    assert past[-1] < world.now - timedelta(hours=1)


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE])
async def test_b1_a_run_begins_when_the_one_before_is_over(world: World, overlap: Overlap) -> None:
    await deploy(world, overlap=overlap)
    await look(world)
    [first] = await runs(world, "Scheduled")
    assert first == world.now + HALF
    await look(world, 0.6)
    [(run_id, token)] = (await world.claim()).items()
    await world.go(run_id, S.RUNNING, token=token)
    for _ in range(3):
        world.pass_seconds(3600)
        await Overlaps().run_once(world.database, world.now)
        await look(world)
        assert await runs(world, "Scheduled") == []
    await world.go(run_id, S.COMPLETED, token=token)
    for _ in range(2):
        world.pass_seconds(3)
        await Overlaps().run_once(world.database, world.now)
    hours = 1 if overlap is Overlap.QUEUE else 4
    assert await runs(world, "Scheduled") == [first + timedelta(hours=hours)]
    if overlap is Overlap.QUEUE:
        world.pass_seconds(1)
        [(run_id, token)] = (await world.claim()).items()
        await world.go(run_id, S.RUNNING, S.COMPLETED, token=token)
        for _ in range(2):  # the first look sees that the time has had its run
            world.pass_seconds(3)
            await Overlaps().run_once(world.database, world.now)
        assert await runs(world, "Scheduled") == [first + timedelta(hours=2)]


async def test_b1_deciding_at_once_makes_one_run(world: World) -> None:
    deployment_id = await deploy(world, overlap=Overlap.QUEUE)
    [one] = await world.database.read(stored.read_schedules, deployment_id)
    await gather(*(world.database.write(plan, one.id, world.now) for _ in range(4)))
    assert len(await runs(world, "Scheduled")) == 1


async def test_b1_a_client_that_knows_no_policies_leaves_them(world: World) -> None:
    flow_id = await world.flow("flow")
    policies = {"missed_runs": missed(MissedPolicy.ALL, 60.0), "overlap": Overlap.SKIP}
    await world.pool()
    made, _ = await world.deploy(
        flow_id=flow_id, name="own", schedules=[DeploymentScheduleCreate(schedule=HOUR, **policies)]
    )
    body = DeploymentCreate(
        name="own", flow_id=flow_id, schedules=[DeploymentScheduleCreate(schedule=HOUR, active=False)]
    )
    made, fresh = await world.database.write(deployments.create_deployment, body, world.now)
    assert not fresh
    [one] = await world.database.read(stored.read_schedules, UUID(str(made["id"])))
    assert (one.active, one.missed_runs, one.overlap) == (False, *policies.values())
