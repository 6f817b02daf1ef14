"""Why a run waits: the named blocker, when removed, lets it start (pain 4, P14-P16, moonshot 8)."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.orchestration.world import S, World

from eparch.core import blockers as b
from eparch.core.blockers import Explanation
from eparch.core.model import decode, encode, new_id
from eparch.core.pools import WorkPoolUpdate, WorkQueueUpdate
from eparch.orchestration import claims, pools
from eparch.orchestration.explaining import explain
from eparch.store.database import open_database

pytestmark = pytest.mark.anyio


async def why(world: World, run: UUID) -> Explanation:
    """The explanation, as a client gets it."""
    found = await world.database.read(explain, run, world.now)
    return decode(encode(found), Explanation)


def kinds(found: Explanation) -> list[str]:
    return [type(reason.blocker).__name__ for reason in found.reasons]


async def poll(world: World, *names: str) -> None:
    """A worker asks, and has no hand free."""
    await world.claim(limit=0, work_queue_names=list(names))


async def test_nothing_blocks_a_due_run_of_a_pool_that_is_polled(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment())
    await poll(world)
    found = await why(world, run)
    assert (found.waiting, found.reasons, found.ahead, found.summary) == (True, [], 0, b.FREE)
    assert list(await world.claim()) == [run]


# The property: what is named blocks, and nothing else does


class Taken(Exception):
    """Carries what a claim took out of a transaction of which nothing stays."""


async def would_take(world: World, pool: str, names: list[str]) -> set[UUID]:
    """What a claim without a bound of its own would take now."""

    def attempt() -> Any:
        work = yield from claims.claim(pool, world.request(1000, work_queue_names=names), world.now)
        raise Taken({one.flow_run.id for one in work.runs})

    try:
        await world.database.write(attempt)
    except Taken as taken:
        found: set[UUID] = taken.args[0]
        return found
    raise AssertionError


limits = st.none() | st.integers(0, 3)
WORLDS = st.fixed_dictionaries(
    {
        "pool": st.tuples(limits, st.booleans()),
        "urgent": st.tuples(limits, st.booleans()),
        "default": st.tuples(limits, st.booleans()),
        "deployments": st.lists(
            st.tuples(
                st.none() | st.integers(1, 2),
                st.sampled_from(["ENQUEUE", "CANCEL_NEW", "CANCEL_RUNNING"]),
                st.sampled_from(["urgent", "default"]),
            ),
            min_size=1,
            max_size=3,
        ),
        "held": st.lists(st.integers(0, 2), max_size=4),
        "runs": st.lists(st.tuples(st.integers(0, 2), st.integers(-50, 20)), min_size=1, max_size=7),
        "polls": st.sampled_from(["nobody", "all", "own"]),
        "dice": st.randoms(use_true_random=False),
    }
)


class Scene:
    """One drawn world."""

    def __init__(self, world: World, drawn: dict[str, Any]) -> None:
        self.world, self.drawn = world, drawn
        self.pool = f"pool-{new_id().hex[-12:]}"

    async def begin(self) -> list[UUID]:
        world, drawn = self.world, self.drawn
        await world.pool(self.pool)
        await world.queue("urgent", self.pool, priority=1)
        made = [
            await world.deployment(
                self.pool,
                concurrency_limit=limit,
                concurrency_options={"collision_strategy": strategy},
                work_queue_name=queue,
            )
            for limit, strategy, queue in drawn["deployments"]
        ]
        for which in drawn["held"]:
            await world.run(made[which % len(made)], -100)
        await world.claim(100, self.pool)
        world.pass_seconds(300)
        runs = [await world.run(made[which % len(made)], due) for which, due in drawn["runs"]]
        for name in ("urgent", "default"):
            limit, paused = drawn[name]
            patch = WorkQueueUpdate(concurrency_limit=limit, is_paused=paused)
            await world.database.write(pools.update_queue, self.pool, name, patch, world.now)
        limit, paused = drawn["pool"]
        pool_patch = WorkPoolUpdate(concurrency_limit=limit, is_paused=paused)
        await world.database.write(pools.update_pool, self.pool, pool_patch, world.now)
        return runs

    async def polled(self, run: UUID) -> list[str]:
        """The queues that somebody polls for, as the claim names them; [] are all."""
        if self.drawn["polls"] == "own":
            queue = (await self.world.database.read(_run_value, run)).work_queue_name
            return [str(queue)]
        return []

    async def remove(self, blocker: b.Blocker, run: UUID) -> None:
        """Take away exactly this."""
        world = self.world
        if isinstance(blocker, b.ScheduledLater):
            world.now = blocker.at
        elif isinstance(blocker, b.WorkPoolPaused):
            patch = WorkPoolUpdate(is_paused=False)
            await world.database.write(pools.update_pool, blocker.work_pool_name, patch, world.now)
        elif isinstance(blocker, b.WorkQueuePaused):
            await self._queue(blocker.work_queue_name, is_paused=False)
        elif isinstance(blocker, b.NobodyPolls):
            await world.claim(0, self.pool, work_queue_names=await self.polled(run))
        elif isinstance(blocker, b.RunsAhead):
            assert blocker.ahead >= blocker.free > 0
            await self._end(blocker.runs[0].flow_run_id)
        elif isinstance(blocker, b.LimitFull) and blocker.limit > 0:
            assert blocker.taken >= blocker.limit
            await self._end(blocker.holders[0].flow_run_id)
        elif isinstance(blocker, b.LimitFull) and blocker.of == "work_queue":
            await self._queue(blocker.name, concurrency_limit=1)
        elif isinstance(blocker, b.LimitFull) and blocker.of == "work_pool":
            patch = WorkPoolUpdate(concurrency_limit=1)
            await world.database.write(pools.update_pool, blocker.name, patch, world.now)
        else:
            raise AssertionError(blocker)

    async def _queue(self, name: str, **fields: Any) -> None:
        patch = WorkQueueUpdate(**fields)
        await self.world.database.write(pools.update_queue, self.pool, name, patch, self.world.now)

    async def _end(self, run: UUID) -> None:
        answer = await self.world.set(run, S.CANCELLED, force=True)
        assert answer.status == "ACCEPT"

    async def check(self) -> None:
        """Each run of the world in turn: what is named blocks it, and once all is gone it is taken."""
        world = self.world
        for run in await self.begin():
            if self.drawn["polls"] != "nobody":
                await world.claim(0, self.pool, work_queue_names=await self.polled(run))
            for _ in range(100):
                if (await world.read(run))["state_type"] != "SCHEDULED":
                    break
                found = await why(world, run)
                taken = run in await would_take(world, self.pool, await self.polled(run))
                unasked = not set(kinds(found)) - {"NobodyPolls"}
                assert taken == unasked, found
                if not found.reasons:
                    assert run in await world.claim(1000, self.pool, work_queue_names=await self.polled(run))
                    break
                assert found.summary == found.reasons[0].says
                await self.remove(self.drawn["dice"].choice(found.reasons).blocker, run)
            else:
                raise AssertionError("It never starts.")


def _run_value(run: UUID) -> Any:
    from eparch.store import runs

    return (yield from runs.flow_run_value(run))


async def play(url: str, drawn: dict[str, Any]) -> None:
    database = await open_database(url)
    try:
        await Scene(World(database), drawn).check()
    finally:
        await database.close()


@given(WORLDS)
@settings(max_examples=150, deadline=None)
def test_p14_p15_the_named_blocker_once_removed_lets_the_run_start(drawn: dict[str, Any]) -> None:
    asyncio.run(play("sqlite://", drawn))


@given(WORLDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_p14_p15_the_named_blocker_is_the_one_on_postgresql_too(
    postgres_url: str, drawn: dict[str, Any]
) -> None:
    asyncio.run(play(postgres_url, drawn))
