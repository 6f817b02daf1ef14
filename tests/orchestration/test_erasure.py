"""Deleting what much hangs on: in parts, completely, with the slots that were held."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.orchestration.world import S, World

from eparch.core.concurrency import ConcurrencyLimitCreate, Holder
from eparch.core.errors import NotFound
from eparch.orchestration import concurrency, deployments, erasure, runs
from eparch.store import tables as t

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "PART", 3)
    monkeypatch.setattr(erasure, "TASKS", 3)


async def count(world: World, table: sa.Table) -> int:
    return len(await world.select(sa.select(*table.primary_key.columns)))


async def test_a_flow_is_emptied_in_parts_and_holds_nothing_afterwards(world: World) -> None:
    await world.database.write(
        concurrency.create_limit, ConcurrencyLimitCreate(name="db", limit=9), world.now
    )
    flow = await world.flow("large")
    other = await world.ad_hoc()
    runs = [await world.ad_hoc(flow) for _ in range(8)]
    for run in runs:
        holder = Holder(type="task_run", id=await world.dummy_task(run))
        await world.database.write(
            concurrency.lease_slots, ["db"], 1, "concurrency", 86_400, holder, world.now
        )
    assert await world.database.write(erasure.delete_part, flow)
    assert await count(world, t.flow_run) == 6
    await erasure.empty_flow(world.database, flow)
    assert await count(world, t.flow_run) == 1
    late = await world.ad_hoc(flow)
    await world.database.write(erasure.delete_flow, flow, world.now)
    assert [row["id"] for row in await world.select(sa.select(t.flow_run.c.id))] == [other]
    assert late != other
    for table in (t.flow_run_state, t.concurrency_slot):
        assert await count(world, table) == (1 if table is t.flow_run_state else 0)
    with pytest.raises(NotFound):
        await world.database.write(erasure.delete_flow, flow, world.now)


async def test_a_deployment_leaves_its_runs_in_parts(world: World) -> None:
    deployment, other = await world.deployment(None), await world.deployment(None)
    runs = [await world.run(deployment) for _ in range(7)]
    await world.go(runs[0], S.PENDING, S.RUNNING)
    kept = await world.run(other)
    assert await world.database.write(erasure.detach_part, deployment)
    await erasure.empty_deployment(world.database, deployment, world.now)
    await world.database.write(deployments.delete_deployment, deployment, world.now)
    rows = {row["id"]: row["deployment_id"] for row in await world.select(sa.select(*t.flow_run.columns))}
    assert rows == {**dict.fromkeys(runs), kept: other}


async def test_a_run_of_many_task_runs_is_emptied_in_parts(world: World) -> None:
    await world.database.write(
        concurrency.create_limit, ConcurrencyLimitCreate(name="db", limit=9), world.now
    )
    run, small, other = [await world.ad_hoc() for _ in range(3)]
    tasks = [await world.dummy_task(run) for _ in range(8)]
    kept = {await world.dummy_task(small) for _ in range(3)} | {await world.dummy_task(other)}
    holder = Holder(type="task_run", id=tasks[5])
    await world.database.write(concurrency.lease_slots, ["db"], 1, "concurrency", 86_400, holder, world.now)
    assert await world.database.write(erasure.delete_tasks, run)
    assert await count(world, t.task_run) == 5 + len(kept)
    assert await count(world, t.concurrency_slot) == 0, "a slot does not outlive who held it"
    await erasure.empty_run(world.database, run)
    await erasure.empty_run(world.database, small)
    left = {row["id"] for row in await world.select(sa.select(t.task_run.c.id))}
    assert left >= kept, "few are left for the deletion itself"
    assert len(left) == len(kept) + 2
    await world.database.write(runs.delete_flow_run, run)
    assert {row["id"] for row in await world.select(sa.select(t.task_run.c.id))} == kept
