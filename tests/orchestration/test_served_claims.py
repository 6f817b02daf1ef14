"""Claims of a process that serves deployments: once each, inside their limits (row D23)."""

from __future__ import annotations

import pytest
from tests.orchestration.world import World, gather

from eparch.orchestration import claims
from eparch.orchestration.watchdog import Watchdog

pytestmark = pytest.mark.anyio


async def test_d23_a_process_claims_what_it_serves_and_nothing_else(world: World) -> None:
    await world.pool()
    served, other, pooled = [await world.deployment(pool) for pool in (None, None, "pool")]
    later, first = await world.run(served, -1), await world.run(served, -2)
    await world.run(served, 60)
    await world.run(other)
    in_queue = await world.run(pooled)
    ids = [served, pooled]
    request = world.serving(ids, limit=1)
    [one] = (await world.database.write(claims.claim_served, request, world.now)).runs
    assert (one.flow_run.id, one.claim.token, one.claim.work_pool_id) == (first, 1, None)
    assert one.deployment is not None
    assert one.deployment.id == served
    # A lost answer loses nothing, and another process has what is left.
    [again] = (await world.database.write(claims.claim_served, request, world.now)).runs
    assert again.claim.claim_id == one.claim.claim_id
    rest = await world.database.write(claims.claim_served, world.serving(ids), world.now)
    assert [each.flow_run.id for each in rest.runs] == [later]
    assert list(await world.claim()) == [in_queue]
    # Nobody renewed, so the run waits again.
    world.pass_seconds(31)
    await Watchdog().run_once(world.database, world.now)
    lost = await world.database.write(claims.claim_served, world.serving([served]), world.now)
    assert {each.flow_run.id: each.claim.token for each in lost.runs} == {first: 2, later: 2}


async def test_d23_the_limit_of_a_deployment_holds_for_all_who_serve_it(world: World) -> None:
    served = await world.deployment(None, concurrency_limit=2)
    for _ in range(5):
        await world.run(served)
    claiming = [
        world.database.write(claims.claim_served, world.serving([served]), world.now) for _ in range(4)
    ]
    taken = [len(work.runs) for work in await gather(*claiming)]
    assert sum(taken) == 2
