"""Why a run waits: the named blocker, when removed, lets it start (pain 4, P14-P16, moonshot 8)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.orchestration.world import FlowRunPolicy, S, World, a_state

from eparch.core import blockers as b
from eparch.core.blockers import Explanation
from eparch.core.errors import NotFound
from eparch.core.model import decode, encode, new_id
from eparch.core.pools import WorkPoolUpdate, WorkQueueUpdate
from eparch.core.worker_instances import About, Keeping, WorkerReport
from eparch.orchestration import claims, pools, runs, worker_instances
from eparch.orchestration.explaining import explain
from eparch.store import explaining as store
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


async def test_there_is_no_such_run(memory: World) -> None:
    with pytest.raises(NotFound):
        await why(memory, new_id())


async def test_pain4_a_run_that_nobody_asks_for_says_who_is_missing(memory: World) -> None:
    await memory.pool()
    await memory.queue("mine")
    deployment = await memory.deployment()
    run, other = await memory.run(deployment), await memory.run(deployment, work_queue_name="mine")
    found = await why(memory, run)
    assert kinds(found) == ["NobodyPolls"]
    assert found.summary == "No worker of the work pool 'pool' is online: there has never been one."
    assert found.reasons[0].todo == ["eparch worker start --pool pool"]
    await memory.claim(0, worker_name="w1", work_queue_names=["default"])
    assert kinds(await why(memory, run)) == []
    found = await why(memory, other)
    assert "online in the pool 'pool': 'w1'" in found.summary
    assert found.reasons[0].todo == ["eparch worker start --pool pool --work-queue mine"]
    memory.pass_seconds(300)
    assert "'w1' was seen last, 5 min ago" in (await why(memory, run)).summary


async def test_workers_that_are_full_or_drain_take_nothing(memory: World) -> None:
    await memory.pool()
    run = await memory.run(await memory.deployment())
    busy, other = new_id(), new_id()
    full = About(capacity=1, runs=[new_id()])

    async def report(id_: UUID, name: str, **more: Any) -> None:
        body = WorkerReport(
            id=id_, name=name, started_at=memory.now, heartbeat_interval_seconds=30,
            poll_interval_seconds=25, **more,
        )  # fmt: skip
        await memory.database.write(worker_instances.report, "pool", body, memory.now, Keeping())

    await report(busy, "w1", about=full)
    await memory.claim(0, worker_name="w1", instance_id=busy)
    found = await why(memory, run)
    assert kinds(found) == ["WorkersBusy"]
    assert found.summary.endswith("has as many runs as it takes: 'w1' 1 of 1.")
    await report(other, "w2", about=About(capacity=2, runs=[new_id()]))
    assert kinds(await why(memory, run)) == []
    await report(other, "w2", draining=True)
    assert kinds(await why(memory, run)) == ["WorkersBusy"]
    await report(busy, "w1", draining=True)
    found = await why(memory, run)
    assert kinds(found) == ["NobodyPolls"]
    assert found.summary.endswith("finishes its runs and takes no more: 'w1', 'w2'.")


async def test_a_run_of_no_pool_needs_a_process_that_serves_it(memory: World) -> None:
    deployment = await memory.deployment(None, concurrency_limit=1)
    run, second = await memory.run(deployment), await memory.run(deployment)
    found = await why(memory, run)
    assert kinds(found) == ["NotServed"]
    assert "no process serves it (never asked for its runs)" in found.summary
    await memory.database.write(runs.due_deployment_runs, [deployment], memory.now, 10, memory.now)
    found = await why(memory, run)
    assert (kinds(found), found.summary) == ([], b.FREE_SERVED)
    await memory.go(run, S.PENDING, S.RUNNING)
    assert kinds(await why(memory, second)) == ["LimitFull"]
    later = await memory.run(deployment, 1000)
    assert kinds(await why(memory, later)) == ["ScheduledLater"]
    alone = await memory.ad_hoc(state=a_state(S.SCHEDULED, scheduled_time=memory.now))
    assert kinds(await why(memory, alone)) == ["NotServed"]


async def test_w21_a_claimed_run_says_who_has_it_and_how_far_it_has_come(memory: World) -> None:
    await memory.pool()
    run = await memory.run(await memory.deployment())
    token = (await memory.claim(worker_name="w1"))[run]
    found = await why(memory, run)
    assert kinds(found) == ["Claimed"]
    assert found.waiting
    claimed = found.reasons[0].blocker
    assert isinstance(claimed, b.Claimed)
    assert (claimed.worker_name, claimed.lease_until) == ("w1", memory.now + timedelta(seconds=30))
    answer = await memory.set(
        run, S.PENDING, "InfrastructurePending", token=token, message="Unschedulable: insufficient cpu"
    )
    assert answer.status == "ACCEPT"
    memory.pass_seconds(10)
    summary = (await why(memory, run)).summary
    assert summary.startswith(
        "The worker 'w1' took it 10 s ago and has not begun it yet: InfrastructurePending"
    )
    assert "Unschedulable: insufficient cpu. Unless renewed, its claim lapses in 20 s" in summary
    memory.pass_seconds(60)
    assert (await why(memory, run)).summary.endswith("Its lease is over: it goes back to its queue.")
    await memory.go(run, S.RUNNING, token=token)
    found = await why(memory, run)
    assert (kinds(found), found.waiting) == (["RunRuns"], False)
    assert (await memory.set(run, S.CANCELLING)).status == "ACCEPT"
    assert kinds(await why(memory, run)) == ["RunStops"]


async def test_a_stock_workers_claim_has_no_lease_so_a_person_has_to_end_it(memory: World) -> None:
    await memory.pool()
    run = await memory.run(await memory.deployment())
    await memory.go(run, S.PENDING)
    reason = (await why(memory, run)).reasons[0]
    assert reason.todo == [f"If nothing of it lives any more: eparch flow-run cancel {run}"]


async def test_states_that_somebody_has_to_end_or_time(memory: World) -> None:
    await memory.pool()
    deployment = await memory.deployment()
    run = await memory.run(deployment, empirical_policy=FlowRunPolicy(retries=1, retry_delay=60))
    token = (await memory.claim())[run]
    await memory.go(run, S.RUNNING, token=token)
    assert (await memory.set(run, S.FAILED, token=token)).status == "REJECT"
    found = await why(memory, run)
    assert kinds(found) == ["RetryWaits"]
    assert found.not_before == memory.now + timedelta(seconds=60)
    paused = await memory.run(deployment)
    token = (await memory.claim())[paused]
    await memory.go(paused, S.RUNNING, token=token)
    timeout = memory.now + timedelta(hours=1)
    await memory.set(paused, S.PAUSED, token=token, pause_timeout=timeout)
    found = await why(memory, paused)
    assert found.reasons[0].todo == [f"eparch flow-run resume {paused}"]
    assert "it fails at 2026-03-02 13:00:00 UTC" in found.summary
    over = await memory.run(deployment)
    await memory.set(over, S.CRASHED, force=True, message="The image x:1 was not found.")
    found = await why(memory, over)
    assert (kinds(found), found.waiting) == (["RunEnded"], False)
    assert found.summary == "It does not wait: it ended as Crashed just now: The image x:1 was not found."
    assert found.reasons[0].todo == [f"eparch flow-run retry {over}"]


async def test_who_met_a_full_limit_waits_for_the_limit_and_not_for_the_time(memory: World) -> None:
    await memory.pool()
    deployment = await memory.deployment(concurrency_limit=1)
    first, second = await memory.run(deployment, -1), await memory.run(deployment)
    await memory.claim(1)
    assert (await memory.set(second, S.PENDING)).status == "REJECT"
    found = await why(memory, second)
    assert found.state_name == "AwaitingConcurrencySlot"
    assert kinds(found) == ["LimitFull", "ScheduledLater"]
    full = found.reasons[0].blocker
    assert isinstance(full, b.LimitFull)
    assert [one.flow_run_id for one in full.holders] == [first]
    assert full.strategy == "ENQUEUE"


async def test_p16_holders_are_told_with_since_and_until_the_longest_first(world: World) -> None:
    pool = await world.pool(concurrency_limit=5)
    deployment = await world.deployment(concurrency_limit=4)
    made = [await world.run(deployment, n - 10) for n in range(3)]
    for number in range(3):
        await world.claim(1, worker_name=f"w{number}")
        world.pass_seconds(5)
    queue = (await world.read(made[0]))["work_queue_id"]
    for of, key in (("work_pool", pool), ("work_queue", queue), ("deployment", deployment)):
        found = await world.database.read(store.holders, of, key, 10)
        assert [(one.flow_run_id, one.worker_name) for one in found] == [
            (run, f"w{n}") for n, run in enumerate(made)
        ]
        assert found[1].since == world.now - timedelta(seconds=10)
        assert found[1].lease_until == found[1].since + timedelta(seconds=30)
        assert (found[1].state_name, found[1].work_queue_name) == ("Pending", "default")
        assert await world.database.read(store.holders, of, key, 1, 2) == found[2:]


async def test_p15_new_urgent_work_overtakes_and_200_that_wait_for_a_limit_hold_up_nobody(
    world: World,
) -> None:
    await world.pool(concurrency_limit=2)
    await world.queue("urgent", priority=1)
    full, free = await world.deployment(concurrency_limit=1), await world.deployment()
    first = await world.run(full, -1000)
    await world.claim(1)
    blocked = [await world.run(full, n - 500) for n in range(200)]
    behind = await world.run(free)
    assert (await why(world, behind)).ahead == 0
    found = await why(world, blocked[150])
    # 150 of its own deployment stand before it, of which one would be given the next slot.
    assert (kinds(found)[0], found.ahead) == ("LimitFull", 0)
    urgent = await world.run(free, work_queue_name="urgent")
    found = await why(world, behind)
    assert kinds(found) == ["RunsAhead"]
    assert found.summary == (
        "1 run of higher priority or earlier time takes what is free of the work pool 'pool' "
        f"(1 of 2 slots): '{(await world.read(urgent))['name']}'."
    )
    assert list(await world.claim()) == [urgent]
    await world.set(urgent, S.CANCELLED, force=True)
    assert list(await world.claim()) == [behind]
    assert first in await world.claims()


async def test_a_long_line_is_counted_up_to_a_bound(memory: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eparch.orchestration.explaining.LONGEST_LINE", 5)
    await memory.pool()
    deployment = await memory.deployment()
    made = [await memory.run(deployment, n - 50) for n in range(9)]
    await poll(memory)
    found = await why(memory, made[3])
    assert (found.ahead, found.ahead_is_least) == (3, False)
    found = await why(memory, made[8])
    assert (found.ahead, found.ahead_is_least) == (5, True)


async def test_who_explains_waits_for_no_lock(postgres_url: str) -> None:
    """A claim that stands in the middle of its transaction holds nobody up who only asks."""
    database = await open_database(postgres_url)
    try:
        world = World(database)
        await world.pool()
        run = await world.run(await world.deployment(concurrency_limit=1))
        await poll(world)
        connection = await database._pool.acquire()  # type: ignore[attr-defined]
        transaction = connection.transaction()
        await transaction.start()
        for table in ("flow_run", "deployment", "work_pool", "work_queue"):
            await connection.fetch(f"SELECT id FROM {table} FOR UPDATE")
        found = await asyncio.wait_for(why(world, run), 10)
        await transaction.rollback()
        await database._pool.release(connection)  # type: ignore[attr-defined]
        assert found.reasons == []
    finally:
        await database.close()


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
    from eparch.store.runs import flow_run_value

    return (yield from flow_run_value(run))


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
