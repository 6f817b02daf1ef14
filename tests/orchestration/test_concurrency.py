"""Slots of named limits: never more than the limit, never lost with who held them (wire 4.5, B4, pain 5)."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.orchestration.world import S, World, a_state

from eparch.core.concurrency import (
    ConcurrencyLimitCreate,
    ConcurrencyLimitUpdate,
    Holder,
    Lease,
    TagLimitCreate,
)
from eparch.core.errors import Conflict, Gone, Invalid, NotFound
from eparch.core.model import new_id
from eparch.core.runs import SetState, StateAnswer
from eparch.core.states import StateType
from eparch.orchestration import concurrency
from eparch.orchestration.concurrency import Denied
from eparch.orchestration.runs import delete_flow_run, delete_task_run
from eparch.orchestration.transition import set_task_run_state
from eparch.orchestration.watchdog import Watchdog
from eparch.store.concurrency import any_lapsed
from eparch.store.database import Database, open_database

pytestmark = pytest.mark.anyio


async def limit(world: World, name: str = "db", limit: int = 2, **fields: object) -> UUID:
    body = ConcurrencyLimitCreate(name=name, limit=limit, **fields)  # type: ignore[arg-type]
    return (await world.database.write(concurrency.create_limit, body, world.now)).id


async def held(world: World, name: str = "db") -> int:
    return (await world.database.read(concurrency.read_limit, name, world.now)).active_slots


async def lease(
    world: World,
    *names: str,
    slots: int = 1,
    seconds: float = 300,
    holder: Holder | None = None,
    mode: str = "concurrency",
) -> UUID | None:
    """The id of the lease; None when there was no slot."""
    wanted = (list(names or ("db",)), slots, mode, seconds, holder)
    found = await world.database.write(concurrency.lease_slots, *wanted, world.now)
    return found.lease_id if isinstance(found, Lease) else None


async def take(world: World, name: str = "db", slots: int = 1, mode: str = "concurrency") -> bool:
    found = await world.database.write(concurrency.take_slots, [name], slots, mode, world.now)
    return not isinstance(found, Denied)


async def end(world: World, lease_id: UUID) -> None:
    await world.database.write(concurrency.end_lease, lease_id, world.now)


async def renew(world: World, lease_id: UUID, seconds: float = 300) -> None:
    await world.database.write(concurrency.renew_lease, lease_id, seconds, world.now)


async def test_b4_a_slot_is_held_until_it_is_given_back(world: World) -> None:
    await limit(world)
    first, second = await lease(world), await lease(world)
    assert first
    assert second
    assert await lease(world) is None
    await end(world, first)
    assert await held(world) == 1
    assert await lease(world)
    await end(world, first)
    assert await held(world) == 2


async def test_b4_all_limits_or_none(world: World) -> None:
    await limit(world, "db", 5)
    await limit(world, "api", 1)
    assert await lease(world, "db", "api", "nowhere")
    assert await lease(world, "api", "db") is None
    assert (await held(world, "db"), await held(world, "api")) == (1, 1)


async def test_b4_a_lapsed_lease_frees_itself_and_cannot_come_back(world: World) -> None:
    await limit(world, "db", 1)
    await limit(world, "api", 1)
    lost = await lease(world, "db", "api", seconds=60)
    assert lost
    world.pass_seconds(59)
    await renew(world, lost, 60)
    world.pass_seconds(59)
    assert await lease(world) is None
    world.pass_seconds(1)
    assert (await held(world), await held(world, "api")) == (0, 0)
    assert await lease(world)
    with pytest.raises(Gone):
        await renew(world, lost)
    # Not even by a request that was on its way before it lapsed.
    world.pass_seconds(-10)
    with pytest.raises(Gone):
        await renew(world, lost)
    assert await held(world, "api") == 0


async def test_b4_the_watchdog_deletes_what_lapsed(world: World) -> None:
    await limit(world)
    await lease(world, seconds=60)
    kept = await lease(world, seconds=120)
    world.pass_seconds(60)
    await Watchdog().run_once(world.database, world.now)
    assert not await world.database.read(any_lapsed, world.now)
    assert kept
    await renew(world, kept)


async def test_b4_a_rate_limit_gives_slots_back_with_time(world: World) -> None:
    await limit(world, "api", 2, slot_decay_per_second=0.5)
    assert [await take(world, "api", mode="rate_limit") for _ in range(3)] == [True, True, False]
    world.pass_seconds(1)
    assert not await take(world, "api", mode="rate_limit")
    world.pass_seconds(1)  # being asked in between has not put it off
    assert [await take(world, "api", mode="rate_limit") for _ in range(2)] == [True, False]


async def test_a_lease_in_rate_mode_holds_nothing_but_can_be_renewed(world: World) -> None:
    await limit(world, "api", 1, slot_decay_per_second=1)
    lease_id = await lease(world, "api", mode="rate_limit")
    assert lease_id
    assert await held(world, "api") == 1
    world.pass_seconds(1)
    assert await held(world, "api") == 0
    await renew(world, lease_id)


async def test_who_is_denied_often_waits_longer(world: World) -> None:
    await limit(world, "db", 1)
    assert await take(world)
    waits = []
    for _ in range(6):
        found = await world.database.write(concurrency.take_slots, ["db"], 1, "concurrency", world.now)
        assert isinstance(found, Denied)
        assert found.retry_after is not None
        waits.append(found.retry_after)
    assert waits[-1] > 2 * waits[0]


async def test_slots_without_a_lease_are_counted_down_to_none(world: World) -> None:
    await limit(world, "db", 3)
    assert await take(world, slots=2)
    assert await lease(world)
    await world.database.write(concurrency.return_slots, ["db"], 5, 4.0, world.now)
    assert await held(world) == 1  # what a lease holds, only the lease gives back


async def test_an_inactive_limit_holds_nobody_up(world: World) -> None:
    await limit(world, "db", 1, active=False)
    ids = [await lease(world, slots=5) for _ in range(3)]
    assert all(ids)
    assert await held(world) == 0
    await renew(world, ids[0])  # type: ignore[arg-type]


async def test_more_than_the_limit_is_refused(world: World) -> None:
    await limit(world)
    with pytest.raises(Invalid):
        await lease(world, slots=3)


async def test_active_slots_can_be_set_and_the_oldest_leases_end_for_it(world: World) -> None:
    await limit(world, "db", 4)
    old, new = await lease(world, slots=2), None
    world.pass_seconds(1)
    new = await lease(world)
    for wanted in (4, 2, 1, 0):
        patch = ConcurrencyLimitUpdate(active_slots=wanted)
        await world.database.write(concurrency.update_limit, "db", patch, world.now)
        assert await held(world) == wanted
    for lost in (old, new):
        assert lost
        with pytest.raises(Gone):
            await renew(world, lost)


async def test_a_name_is_given_once(world: World) -> None:
    id_ = await limit(world)
    await limit(world, "api")
    with pytest.raises(Conflict):
        await limit(world)
    rename = ConcurrencyLimitUpdate(name="api")
    with pytest.raises(Conflict):
        await world.database.write(concurrency.update_limit, str(id_), rename, world.now)
    rename = ConcurrencyLimitUpdate(name="db", limit=None)
    await world.database.write(concurrency.update_limit, str(id_), rename, world.now)


async def test_a_deleted_limit_takes_its_leases_along(world: World) -> None:
    await limit(world)
    lost = await lease(world)
    await world.database.write(concurrency.delete_limit, "db", world.now)
    with pytest.raises(NotFound):
        await held(world)
    assert lost
    with pytest.raises(Gone):
        await renew(world, lost)


# Runs


async def tag(world: World, name: str, most: int) -> None:
    body = TagLimitCreate(tag=name, concurrency_limit=most)
    await world.database.write(concurrency.set_tag_limit, body, world.now)


async def set_task(world: World, run_id: UUID, type_: StateType) -> StateAnswer:
    world.pass_seconds(0.001)
    body = SetState(state=a_state(type_))
    return (await world.database.write(set_task_run_state, run_id, body, world.now)).answer


async def holders(world: World, name: str) -> list[UUID]:
    return (await world.database.read(concurrency.read_tag_limit, name, world.now)).active_slots


@pytest.mark.parametrize("how", ["final", "deleted", "lapsed"])
async def test_pain_5_what_a_run_and_its_tasks_hold_is_free_when_it_ends(world: World, how: str) -> None:
    await world.pool()
    await limit(world, "db", 6)
    run = await world.run(await world.deployment())
    token = (await world.claim(lease_seconds=30))[run]
    await world.go(run, S.RUNNING, token=token)
    task = await world.dummy_task(run)
    subflow = await world.ad_hoc(parent_task_run_id=await world.dummy_task(run))
    deep = await world.dummy_task(await world.ad_hoc(parent_task_run_id=await world.dummy_task(subflow)))
    apart = await world.run(await world.deployment(), parent_task_run_id=task)
    kinds = ["flow_run", "task_run", "flow_run", "task_run", "flow_run", "flow_run"]
    holders = [run, task, subflow, deep, apart, await world.ad_hoc()]
    for type_, id_ in zip(kinds, holders, strict=True):
        assert await lease(world, seconds=86_400, holder=Holder(type=type_, id=id_))  # type: ignore[arg-type]
    assert await lease(world) is None
    if how == "final":
        await world.go(run, S.COMPLETED, token=token)
    elif how == "deleted":
        await world.database.write(delete_flow_run, run)
    else:
        world.pass_seconds(31)
        await Watchdog().run_once(world.database, world.now)
    # Those of a run with a process of its own, and of somebody else, stay.
    assert await held(world) == 2


async def test_pain_5_a_deleted_task_run_holds_nothing(world: World) -> None:
    await limit(world)
    task = await world.dummy_task(await world.ad_hoc())
    assert await lease(world, holder=Holder(type="task_run", id=task))
    await world.database.write(delete_task_run, task)
    assert await held(world) == 0


async def test_slots_of_tags_are_taken_and_given_back_by_states_of_task_runs(world: World) -> None:
    await tag(world, "db", 1)
    run = await world.ad_hoc()
    await world.go(run, S.RUNNING)
    first, second = [await world.dummy_task(run, tags=["db", "free"]) for _ in range(2)]
    assert (await set_task(world, first, S.RUNNING)).status == "ACCEPT"
    assert await holders(world, "db") == [first]
    waits = await set_task(world, second, S.RUNNING)
    assert (waits.status, waits.details.delay_seconds) == ("WAIT", 10)
    assert (await set_task(world, first, S.COMPLETED)).status == "ACCEPT"
    assert await holders(world, "db") == []
    assert (await set_task(world, second, S.RUNNING)).status == "ACCEPT"
    await world.go(run, S.CRASHED)
    assert await holders(world, "db") == []


async def test_a_tag_with_limit_0_aborts(world: World) -> None:
    await tag(world, "never", 0)
    run = await world.ad_hoc()
    await world.go(run, S.RUNNING)
    task = await world.dummy_task(run, tags=["never"])
    assert (await set_task(world, task, S.RUNNING)).status == "ABORT"


async def test_a_task_run_holds_one_slot_of_a_tag_however_often_it_asks(world: World) -> None:
    await tag(world, "db", 2)
    one, other = new_id(), new_id()
    for _ in range(3):
        found = await world.database.write(concurrency.take_tags, ["db"], one, world.now)
        assert not isinstance(found, Denied)
    assert await held(world, "tag:db") == 1
    await world.database.write(concurrency.take_tags, ["db"], other, world.now)
    denied = await world.database.write(concurrency.take_tags, ["db"], new_id(), world.now)
    assert denied == Denied(10.0, "Concurrency limit for the db tag has been reached")
    await world.database.write(concurrency.return_tags, ["db"], one, world.now)
    assert await holders(world, "db") == [other]
    await world.database.write(concurrency.reset_tag_limit, "db", [one], world.now)
    assert await holders(world, "db") == [one]
    ids = [new_id() for _ in range(3)]
    with pytest.raises(Invalid):
        await world.database.write(concurrency.reset_tag_limit, "db", ids, world.now)
    assert await holders(world, "db") == [one]


# Any order


async def test_a_race_never_takes_more_than_is_there(world: World) -> None:
    """Forty at once want one of two limits or both, named in either order."""
    await limit(world, "a", 3)
    await limit(world, "b", 5)

    async def want(number: int) -> UUID | None:
        names = (["a", "b"], ["b", "a"], ["b"])[number % 3]
        got = await lease(world, *names)
        if got and number % 4 == 0:
            await end(world, got)
            return None
        return got

    got = await asyncio.gather(*(want(number) for number in range(40)))
    assert await held(world, "b") == len([one for one in got if one]) <= 5
    assert await held(world, "a") <= 3
    filled = [await lease(world, "b") for _ in range(6)]
    assert await held(world, "b") == 5
    got += filled
    await asyncio.gather(*(end(world, one) for one in got if one))
    assert (await held(world, "a"), await held(world, "b")) == (0, 0)


class Model:
    """What should be: leases with what they hold and until when, and a plain count for each limit."""

    def __init__(self, most: dict[str, int]) -> None:
        self.most = most
        self.undated = dict.fromkeys(most, 0)
        self.leases: dict[UUID, tuple[set[str], int, object]] = {}

    def held(self, name: str, now: object) -> int:
        leased = sum(n for names, n, until in self.leases.values() if name in names and until > now)  # type: ignore[operator]
        return self.undated[name] + leased

    def fits(self, names: set[str], slots: int, now: object) -> bool:
        return all(self.held(name, now) + slots <= self.most[name] for name in names)


async def play(database: Database, seed: int, steps: int) -> None:
    roll = random.Random(seed)
    world = World(database)
    model = Model({name: roll.randint(1, 4) for name in ("a", "b", "c")})
    for name, most in model.most.items():
        await limit(world, name, most)
    for _ in range(steps):
        world.pass_seconds(roll.choice([0, 0, 1, 59, 60, 200]))
        names = set(roll.sample(sorted(model.most), roll.randint(1, 3)))
        slots = roll.randint(1, min(model.most[name] for name in names))
        known = roll.choice(sorted(model.leases)) if model.leases else None
        match roll.randint(0, 5):
            case 0 | 1:
                seconds = roll.choice([60, 120, 300])
                got = await lease(world, *names, slots=slots, seconds=seconds)
                assert (got is not None) == model.fits(names, slots, world.now)
                if got:
                    model.leases[got] = (names, slots, world.now + timedelta(seconds=seconds))
            case 2:
                name = min(names)
                took = await take(world, name, slots)
                assert took == model.fits({name}, slots, world.now)
                model.undated[name] += slots if took else 0
            case 3:
                await database.write(concurrency.return_slots, sorted(names), slots, None, world.now)
                model.undated |= {name: max(model.undated[name] - slots, 0) for name in names}
            case 4 if known:
                await end(world, known)
                del model.leases[known]
            case 5 if known:
                of, count, until = model.leases[known]
                try:
                    await renew(world, known, 60)
                except Gone:
                    assert until <= world.now  # type: ignore[operator]
                else:
                    assert until > world.now  # type: ignore[operator]
                    model.leases[known] = (of, count, world.now + timedelta(seconds=60))
        for name, most in model.most.items():
            count = await held(world, name)
            assert 0 <= count <= most
            assert count == model.held(name, world.now)
    world.pass_seconds(1000)
    for name in model.most:
        assert await held(world, name) == model.undated[name]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_any_sequence_on_sqlite(seed: int) -> None:
    async def run() -> None:
        database = await open_database("sqlite://")
        try:
            await play(database, seed, 40)
        finally:
            await database.close()

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(3))
async def test_some_sequences_on_every_database(database: Database, seed: int) -> None:
    await play(database, seed, 60)
