"""Claims: no run twice, limits at the claim, waiting without polling (W15, W16, P14, P15)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.orchestration.world import S, World, gather

from eparch.core.errors import NotFound
from eparch.core.model import new_id
from eparch.core.pools import ClaimRef, RenewClaims, Work, WorkPoolUpdate, WorkQueueUpdate
from eparch.core.runs import FlowRunPolicy
from eparch.orchestration import claims, pools
from eparch.orchestration.claims import Waiters
from eparch.orchestration.runs import due_deployment_runs
from eparch.orchestration.watchdog import Watchdog, act
from eparch.store.rows import id_of
from eparch.store.statement import Note

pytestmark = pytest.mark.anyio


# No run twice


async def test_w15_many_claimers_never_get_the_same_run(world: World) -> None:
    await world.pool()
    deployment = await world.deployment()
    made = set(await gather(*(world.run(deployment) for _ in range(150))))
    taken: list[UUID] = []

    async def worker(number: int) -> None:
        while got := await world.claim(limit=1 + number % 7, worker_name=f"w{number}"):
            taken.extend(got)

    await gather(*(worker(number) for number in range(8)))
    assert len(taken) == len(made)
    assert set(taken) == made == set(await world.claims())


async def test_w15_two_stock_workers_never_begin_the_same_run(world: World) -> None:
    await world.pool()
    deployment = await world.deployment()
    made = await gather(*(world.run(deployment) for _ in range(20)))
    assert set(await world.due(limit=100)) == set(made)
    assert set(await world.due(limit=100)) == set(made)
    for run in made:
        answers = await gather(*(world.set(run, S.PENDING) for _ in range(3)))
        assert Counter(answer.status for answer in answers) == {"ACCEPT": 1, "ABORT": 2}
    assert await world.due(limit=100) == []


async def test_w15_an_old_poll_does_not_start_again_what_has_ended(world: World) -> None:
    await world.pool()
    run = await world.run(await world.deployment())
    assert await world.due() == [run]
    token = (await world.claim())[run]
    await world.go(run, S.RUNNING, S.COMPLETED, token=token)
    assert (await world.set(run, S.PENDING)).status == "ABORT"
    await world.go(run, S.SCHEDULED, S.PENDING)


async def test_w15_the_same_claim_answers_the_same_runs(world: World) -> None:
    await world.pool()
    deployment = await world.deployment()
    for _ in range(3):
        await world.run(deployment)
    request = world.request(limit=2)
    first = await world.database.write(claims.claim, "pool", request, world.now)
    world.pass_seconds(5)
    again = await world.database.write(claims.claim, "pool", request, world.now)
    assert len(first.runs) == 2
    assert [(r.flow_run.id, r.claim.token) for r in again.runs] == [
        (r.flow_run.id, r.claim.token) for r in first.runs
    ]
    stored = await world.claims()
    for one in again.runs:
        assert one.claim.lease_until == world.now + timedelta(seconds=30)
        assert stored[one.flow_run.id]["lease_until"] == one.claim.lease_until


async def test_w15_a_repeated_claim_neither_gives_begun_runs_nor_takes_others(memory: World) -> None:
    await memory.pool()
    deployment = await memory.deployment()
    runs = [await memory.run(deployment, n - 3) for n in range(3)]
    request = memory.request(limit=1)
    first = await memory.database.write(claims.claim, "pool", request, memory.now)
    begun = first.runs[0]
    assert begun.flow_run.id == runs[0]
    await memory.go(runs[0], S.RUNNING, token=begun.claim.token)
    again = await memory.database.write(claims.claim, "pool", request, memory.now)
    assert again.runs == []
    assert set(await memory.claims()) == {runs[0]}


async def test_w15_one_claim_asked_for_twice_at_once_is_one(world: World) -> None:
    await world.pool()
    deployment = await world.deployment()
    for _ in range(20):
        await world.run(deployment)
    request = world.request(limit=4)
    answers = await gather(
        *(world.database.write(claims.claim, "pool", request, world.now) for _ in range(4))
    )
    assert len({tuple(run.flow_run.id for run in answer.runs) for answer in answers}) == 1
    assert len(await world.claims()) == 4


async def test_a_claimed_run_has_all_that_is_needed_to_start_it(world: World) -> None:
    pool = await world.pool()
    flow = await world.flow("report")
    deployment = await world.deployment(flow_id=flow, name="nightly", parameters={"n": 1})
    run = await world.run(deployment, parameters={"m": 2})
    work = await world.database.write(claims.claim, "pool", world.request(), world.now)
    one = work.runs[0]
    assert one.flow_run.id == one.claim.flow_run_id == run
    assert one.flow_run.parameters == {"n": 1, "m": 2}
    assert one.flow_run.state is not None
    assert one.flow_run.state.name == "Pending"
    assert one.deployment is not None
    assert (one.deployment.name, one.deployment.flow_id) == ("nightly", flow)
    assert one.flow is not None
    assert one.flow.name == "report"
    stored = (await world.claims())[run]
    assert {name: getattr(one.claim, name) for name in one.claim.__struct_fields__} == {
        name: stored[name] for name in one.claim.__struct_fields__
    }
    assert one.claim.work_pool_id == pool


# Limits


@pytest.mark.parametrize("of", ["pool", "queue", "deployment"])
async def test_p14_a_limit_holds_against_many_claimers(world: World, of: str) -> None:
    await world.pool(concurrency_limit=3 if of == "pool" else None)
    if of == "queue":
        patch = WorkQueueUpdate(concurrency_limit=3)
        await world.database.write(pools.update_queue, "pool", "default", patch, world.now)
    deployment = await world.deployment(concurrency_limit=3 if of == "deployment" else None)
    for _ in range(12):
        await world.run(deployment)
    begun = 0
    while begun < 12:
        taken = await gather(*(world.claim(limit=2) for _ in range(4)))
        now_running = {run: token for got in taken for run, token in got.items()}
        assert len(now_running) == 3 == len(await world.claims())
        assert await world.due() == []
        for run, token in now_running.items():
            await world.go(run, S.RUNNING, S.COMPLETED, token=token)
        begun += 3


async def test_p14_every_run_of_the_pool_counts_those_of_paused_queues_too(memory: World) -> None:
    await memory.pool(concurrency_limit=1)
    await memory.queue("other")
    deployment = await memory.deployment()
    await memory.run(deployment, work_queue_name="other")
    await memory.run(deployment)
    assert len(await memory.claim(work_queue_names=["other"])) == 1
    patch = WorkQueueUpdate(is_paused=True)
    await memory.database.write(pools.update_queue, "pool", "other", patch, memory.now)
    assert await memory.claim() == {}


async def test_p15_a_full_deployment_does_not_hold_up_what_stands_behind_it(world: World) -> None:
    await world.pool()
    full = await world.deployment(concurrency_limit=1)
    other = await world.deployment()
    blocked = [await world.run(full, due_in=n - 100) for n in range(30)]
    behind = [await world.run(other, due_in=n - 3) for n in range(3)]
    taken = await world.claim(limit=4)
    assert list(taken) == [blocked[0], *behind]
    assert await world.claim(limit=4) == {}
    # Those that wait are not pushed back: the free slot is taken at once.
    await world.go(blocked[0], S.RUNNING, S.COMPLETED, token=taken[blocked[0]])
    assert list(await world.claim(limit=4)) == [blocked[1]]


async def test_p15_cancel_new_is_cancelled_at_the_claim(world: World) -> None:
    await world.pool()
    full = await world.deployment(
        concurrency_limit=1, concurrency_options={"collision_strategy": "CANCEL_NEW"}
    )
    runs = [await world.run(full, due_in=n - 10) for n in range(5)]
    behind = await world.run(await world.deployment())
    assert list(await world.claim(limit=2)) == [runs[0], behind]
    await world.claim(limit=2)
    states = [await world.state(run) for run in runs]
    assert states == ["Pending"] + ["Cancelled"] * 4


async def test_p15_queues_are_a_waterfall(world: World) -> None:
    await world.pool()
    for name, priority in (("urgent", 1), ("slow", 9)):
        await world.queue(name, priority=priority)
    deployment = await world.deployment()
    order = []
    for name, due_in in (("slow", -30), ("default", -20), ("urgent", -1), ("urgent", -2)):
        order.append(await world.run(deployment, due_in, work_queue_name=name))
    slow, default, late, early = order
    assert await world.due() == [early, late, default, slow]
    assert list(await world.claim(limit=3)) == [early, late, default]
    assert await world.claim(work_queue_names=["urgent"]) == {}
    assert list(await world.claim(work_queue_names=["urgent", "slow"])) == [slow]


async def test_a_paused_pool_or_queue_gives_nothing(memory: World) -> None:
    await memory.pool(is_paused=True)
    run = await memory.run(await memory.deployment())
    assert await memory.claim() == {}
    assert await memory.due() == []
    await memory.database.write(pools.update_pool, "pool", WorkPoolUpdate(is_paused=False), memory.now)
    for paused, then in ((True, []), (False, [run])):
        patch = WorkQueueUpdate(is_paused=paused)
        await memory.database.write(pools.update_queue, "pool", "default", patch, memory.now)
        assert await memory.due() == then
        assert list(await memory.claim()) == then


async def test_runs_are_given_when_they_are_due_or_within_the_prefetch_window(memory: World) -> None:
    await memory.pool()
    deployment = await memory.deployment()
    now, soon, later = [await memory.run(deployment, seconds) for seconds in (0, 10, 30)]
    assert list(await memory.claim()) == [now]
    assert list(await memory.claim(prefetch_seconds=15)) == [soon]
    assert await memory.claim(prefetch_seconds=15) == {}
    memory.pass_seconds(30)
    assert list(await memory.claim()) == [later]


async def test_an_unknown_pool_or_queue_is_not_found(memory: World) -> None:
    await memory.pool()
    await memory.queue("reports")
    with pytest.raises(NotFound):
        await memory.claim(pool="nowhere")
    with pytest.raises(NotFound) as caught:
        await memory.claim(work_queue_names=["report"])
    assert "reports" in str(caught.value.fix)
    with pytest.raises(NotFound):
        await memory.due(names=["report"])
    # Nothing of it stays.
    assert await memory.select(_workers()) == []


def _workers() -> object:
    import sqlalchemy as sa

    from eparch.store import tables as t

    return sa.select(t.worker.c.name)


async def test_a_claim_of_none_is_a_heartbeat(memory: World) -> None:
    await memory.pool()
    await memory.run(await memory.deployment())
    assert await memory.claim(limit=0, worker_name="idle") == {}
    assert [row["name"] for row in await memory.select(_workers())] == ["idle"]


async def test_what_is_to_be_cancelled_is_told(memory: World) -> None:
    await memory.pool()
    deployment = await memory.deployment()
    run, other = await memory.run(deployment), await memory.run(deployment)
    tokens = await memory.claim()
    for one in (run, other):
        await memory.go(one, S.RUNNING, token=tokens[one])
    await memory.go(run, S.CANCELLING)
    request = memory.request(limit=0, holding=[run, other])
    work = await memory.database.write(claims.claim, "pool", request, memory.now)
    assert work.cancel == [run]


# Leases (W16)


async def renew(world: World, held: dict[UUID, int], seconds: float = 30) -> tuple[list[UUID], list[UUID]]:
    refs = [ClaimRef(flow_run_id=run, token=token) for run, token in held.items()]
    request = RenewClaims(claims=refs, lease_seconds=seconds)
    renewed = await world.database.write(claims.renew, request, world.now)
    return renewed.kept, renewed.lost


async def test_w16_a_lapsed_claim_is_taken_back_and_its_token_refused(world: World) -> None:
    await world.pool()
    deployment = await world.deployment(concurrency_limit=2)
    kept_run, lost_run = await world.run(deployment), await world.run(deployment)
    tokens = await world.claim(lease_seconds=30)
    watchdog = Watchdog()
    world.pass_seconds(29)
    assert await renew(world, {kept_run: tokens[kept_run], new_id(): 1})
    world.pass_seconds(1)
    await watchdog.run_once(world.database, world.now)
    assert await world.state(kept_run) == "Pending"
    assert (await world.read(lost_run))["state_type"] == "SCHEDULED"
    assert set(await world.claims()) == {kept_run}
    assert await renew(world, tokens) == ([kept_run], [lost_run])
    again = await world.claim()
    assert list(again) == [lost_run]
    assert again[lost_run] == tokens[lost_run] + 1
    assert await renew(world, tokens) == ([kept_run], [lost_run])
    assert (await world.set(lost_run, S.RUNNING, token=tokens[lost_run])).status == "ABORT"
    await world.go(lost_run, S.RUNNING, token=again[lost_run])


async def test_a_stock_workers_claim_cannot_be_renewed_and_never_lapses(memory: World) -> None:
    await memory.pool()
    run = await memory.run(await memory.deployment())
    await memory.go(run, S.PENDING)
    assert await renew(memory, {run: 1}) == ([], [run])
    memory.pass_seconds(10**6)
    await Watchdog().run_once(memory.database, memory.now)
    assert await memory.state(run) == "Pending"


async def test_a_claim_that_is_renewed_while_it_is_taken_back_is_one_or_the_other(world: World) -> None:
    await world.pool()
    deployment = await world.deployment()
    for _ in range(20):
        await world.run(deployment)
    tokens = await world.claim(limit=20)
    world.pass_seconds(31)
    (kept, lost), _ = await gather(renew(world, tokens), Watchdog().run_once(world.database, world.now))
    assert set(kept) == set(await world.claims())
    for run in lost:
        assert (await world.read(run))["state_type"] == "SCHEDULED"


async def test_w16_a_process_that_begins_while_its_claim_is_taken_back_does_not_run(world: World) -> None:
    await world.pool()
    deployment = await world.deployment()
    for _ in range(30):
        await world.run(deployment)
    tokens = await world.claim(limit=30)
    world.pass_seconds(31)
    due = Watchdog()._lapsed

    async def contend(run: UUID, token: int) -> None:
        await gather(world.database.write(act, run, due, world.now), world.set(run, S.RUNNING, token=token))

    await gather(*(contend(run, token) for run, token in tokens.items()))
    for run in tokens:
        path = [state["type"] for state in await world.history(run)]
        assert path in (
            ["SCHEDULED", "PENDING", "SCHEDULED"],
            ["SCHEDULED", "PENDING", "RUNNING", "CRASHED"],
            ["SCHEDULED", "PENDING", "RUNNING"],
        )
        assert (run in await world.claims()) is (path[-1] == "RUNNING")


# Waiting: nobody waits for a clock, so what happens is seen by its effect on a task that waits


class Asking:
    """Claims that wait, and a database that wakes them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.waiters = Waiters()
        self.claimed = asyncio.Event()
        world.database.on_notes = self._tell
        world.now = datetime.now(UTC)

    def _tell(self, notes: Sequence[Note]) -> None:
        self.waiters.tell(notes)

    async def ask(self, **fields: object) -> asyncio.Task[Work]:
        """A claim that found nothing and waits now."""
        request = self.world.request(**{"wait_seconds": 60.0, **fields})  # type: ignore[arg-type]
        return await self._waits(self.waiters.claim(self.world.database, "pool", request))

    async def ask_served(self, deployment_ids: Sequence[UUID], **fields: object) -> asyncio.Task[Work]:
        """The same of a process that serves deployments."""
        request = self.world.serving(deployment_ids, **{"wait_seconds": 60.0, **fields})  # type: ignore[arg-type]
        return await self._waits(self.waiters.claim_served(self.world.database, request))

    async def _waits(self, claim: Coroutine[Any, Any, Work]) -> asyncio.Task[Work]:
        task = asyncio.create_task(claim)
        while self.waiters.asleep < 1:
            assert not task.done(), task
            await asyncio.sleep(0)
        return task


@pytest.fixture
async def asking(world: World) -> Asking:
    """A pool with a deployment, and somebody to ask for its work."""
    await world.pool()
    return Asking(world)


async def test_a_waiting_claim_is_answered_when_a_run_is_made(asking: Asking) -> None:
    deployment = await asking.world.deployment()
    task = await asking.ask()
    run = await asking.world.run(deployment)
    work = await asyncio.wait_for(task, 20)
    assert [one.flow_run.id for one in work.runs] == [run]


async def test_d23_who_serves_waits_and_is_told(asking: Asking) -> None:
    world = asking.world
    served = await world.deployment(None)
    task = await asking.ask_served([served])
    run = await world.run(served)
    work = await asyncio.wait_for(task, 20)
    assert [one.flow_run.id for one in work.runs] == [run]
    # Who has no room watches what it holds: until that is to be cancelled, or is over.
    task = await asking.ask_served([served], limit=0, holding=[run])
    await world.set(run, S.CANCELLING)
    assert (await asyncio.wait_for(task, 20)).cancel == [run]
    other = await world.run(served)
    [held] = (await world.database.write(claims.claim_served, world.serving([served]), world.now)).runs
    task = await asking.ask_served([served], limit=0, holding=[other])
    await world.set(other, S.CANCELLED, token=held.claim.token)
    await asyncio.wait_for(task, 20)


async def test_a_waiting_claim_is_answered_when_its_run_is_to_be_cancelled(asking: Asking) -> None:
    world = asking.world
    run = await world.run(await world.deployment())
    token = (await world.claim())[run]
    await world.go(run, S.RUNNING, token=token)
    task = await asking.ask(holding=[run], limit=0)
    await world.go(run, S.CANCELLING)
    assert (await asyncio.wait_for(task, 20)).cancel == [run]


@pytest.mark.parametrize("of", ["pool", "deployment"])
async def test_a_waiting_claim_is_answered_by_a_freed_slot(
    asking: Asking, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "BLOCKED_SECONDS", 60.0)
    world = asking.world
    if of == "pool":
        patch = WorkPoolUpdate(concurrency_limit=1)
        await world.database.write(pools.update_pool, "pool", patch, world.now)
    deployment = await world.deployment(concurrency_limit=1 if of == "deployment" else None)
    first, second = await world.run(deployment, -1), await world.run(deployment)
    token = (await world.claim(limit=1))[first]
    task = await asking.ask()
    await world.go(first, S.RUNNING, S.COMPLETED, token=token)
    work = await asyncio.wait_for(task, 20)
    assert [one.flow_run.id for one in work.runs] == [second]


@pytest.mark.parametrize("of", ["pool", "queue"])
async def test_a_waiting_claim_is_answered_when_it_is_no_longer_paused(
    asking: Asking, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "BLOCKED_SECONDS", 60.0)
    world = asking.world

    async def pause(paused: bool) -> None:
        if of == "pool":
            pool = WorkPoolUpdate(is_paused=paused)
            await world.database.write(pools.update_pool, "pool", pool, world.now)
        else:
            queue = WorkQueueUpdate(is_paused=paused)
            await world.database.write(pools.update_queue, "pool", "default", queue, world.now)

    run = await world.run(await world.deployment())
    await pause(True)
    task = await asking.ask()
    await pause(False)
    work = await asyncio.wait_for(task, 20)
    assert [one.flow_run.id for one in work.runs] == [run]


async def test_a_waiting_claim_is_answered_when_a_run_is_due(asking: Asking) -> None:
    run = await asking.world.run(await asking.world.deployment(), due_in=0.3)
    task = await asking.ask()
    work = await asyncio.wait_for(task, 20)
    assert [one.flow_run.id for one in work.runs] == [run]


async def test_a_run_is_given_to_one_of_those_who_wait(asking: Asking) -> None:
    deployment = await asking.world.deployment()
    tasks = [await asking.ask() for _ in range(3)]
    while asking.waiters.asleep < 3:
        await asyncio.sleep(0)
    run = await asking.world.run(deployment)
    done, waiting = await asyncio.wait(tasks, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    assert [one.flow_run.id for one in done.pop().result().runs] == [run]
    assert len(waiting) == 2
    asking.waiters.stop()
    assert [work.runs for work in await asyncio.wait_for(asyncio.gather(*waiting), 20)] == [[], []]


async def test_another_pools_work_wakes_nobody(asking: Asking) -> None:
    await asking.world.pool("other")
    deployment = await asking.world.deployment("other")
    task = await asking.ask()
    await asking.world.run(deployment)
    assert asking.waiters.asleep == 1
    asking.waiters.stop()
    assert (await asyncio.wait_for(task, 20)).runs == []


async def test_who_stops_waiting_is_forgotten(asking: Asking) -> None:
    task = await asking.ask()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert asking.waiters.asleep == 0
    assert len(asking.waiters) == 0


async def test_nobody_waits_on_a_server_that_stops(asking: Asking) -> None:
    asking.waiters.stop()
    request = asking.world.request(wait_seconds=60)
    assert (await asking.waiters.claim(asking.world.database, "pool", request)).runs == []


TAKES_OVER = {"concurrency_options": {"collision_strategy": "CANCEL_RUNNING"}}


async def test_b4_the_newest_run_takes_over(world: World) -> None:
    await world.pool()
    deployment = await world.deployment(concurrency_limit=1, **TAKES_OVER)
    old = await world.run(deployment)
    token = (await world.claim())[old]
    await world.go(old, S.RUNNING, token=token)
    new = await world.run(deployment)
    elsewhere = await world.run(await world.deployment())
    assert list(await world.claim(1)) == [elsewhere], "who waits keeps nobody else waiting"
    assert [await world.state(run) for run in (old, new)] == ["Cancelling", "AwaitingConcurrencySlot"]
    history = await world.history(new)
    assert await world.claim() == {}
    assert await world.history(new) == history, "it waits without a word"
    await world.go(old, S.CANCELLED, token=token)
    assert list(await world.claim()) == [new]


async def test_b4_of_those_who_wait_the_newest_takes_over_too(world: World) -> None:
    await world.pool()
    deployment = await world.deployment(concurrency_limit=2, **TAKES_OVER)
    runs = []
    for _ in range(5):
        runs.append(await world.run(deployment))
        await world.claim()
        world.pass_seconds(1)
    # Of five runs for two slots the first two are stopped, the third waited for nothing.
    states = [await world.state(run) for run in runs]
    assert states == ["Cancelling"] * 2 + ["Cancelled"] + ["AwaitingConcurrencySlot"] * 2
    held = [row for row in (await world.claims()).values() if row["slot_of"] == deployment]
    assert len(held) == 2
    for run in runs[:2]:
        await world.set(run, S.CANCELLED)
    assert set(await world.claim()) == set(runs[3:])


async def test_b4_who_proposes_pending_supersedes_once(world: World) -> None:
    await world.pool()
    deployment = await world.deployment(concurrency_limit=2, **TAKES_OVER)
    first, second, third = [await world.run(deployment) for _ in range(3)]
    await world.go(first, S.PENDING, S.RUNNING)
    await world.go(second, S.PENDING, S.RUNNING)
    for _ in range(3):
        answer = await world.set(third, S.PENDING)
        assert (answer.status, answer.state and answer.state.name) == ("REJECT", "AwaitingConcurrencySlot")
    assert [await world.state(run) for run in (first, second)] == ["Cancelling", "Running"]
    await world.go(first, S.CANCELLED)
    await world.go(third, S.PENDING)


async def test_b2_retries_in_process_do_not_shorten_a_page(world: World) -> None:
    deployment = await world.deployment(None)
    retrying = [await world.run(deployment, -60, empirical_policy=FlowRunPolicy(retries=1)) for _ in range(3)]
    for run in retrying:
        await world.go(run, S.PENDING, S.RUNNING)
        await world.set(run, S.FAILED)
    world.pass_seconds(10)
    waiting = [await world.run(deployment) for _ in range(2)]
    found = await world.database.write(due_deployment_runs, [deployment], world.now, 2, world.now)
    assert {id_of(run["id"]) for run in found} == set(waiting)
