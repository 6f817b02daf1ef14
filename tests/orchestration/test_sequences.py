"""Any sequence of what workers, processes, people and the watchdog do keeps the books right.

After each step: a claim stands exactly where it should, slots are claims, no limit is exceeded and nothing is
negative, what is over stays over, history only grows and its end is the run's row, each transition is one
event, tokens rise, and nobody holds anything who has ended. The server may be stopped and started in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.orchestration.world import Broken, FlowRunPolicy, S, World, a_state, traces

from eparch.core.concurrency import (
    ConcurrencyLimitCreate,
    ConcurrencyLimitUpdate,
    Holder,
    Lease,
    TagLimitCreate,
)
from eparch.core.errors import Gone, Invalid, NotFound
from eparch.core.model import new_id
from eparch.core.pools import ClaimRef, RenewClaims
from eparch.core.runs import SetState
from eparch.core.states import CLAIMED, FINAL
from eparch.orchestration import claims, concurrency, erasure, inputs
from eparch.orchestration import runs as run_changes
from eparch.orchestration.transition import set_flow_run_state, set_task_run_state
from eparch.orchestration.watchdog import Watchdog
from eparch.store import tables as t
from eparch.store.database import Database, open_database
from eparch.store.statement import Steps

POOL_LIMIT, QUEUE_LIMIT, DEPLOYMENT_LIMIT, NAMED_LIMIT = 4, 2, 2, 3
TAG_LIMIT, RATE_LIMIT = 2, 3

engine.MAX_SHRINKING_SECONDS = 60
"""A sequence that fails is made short for a minute, not for five: the test is ended before."""

PROPOSED = (
    (S.RUNNING, {}),
    (S.RUNNING, {}),
    (S.COMPLETED, {}),
    (S.FAILED, {}),
    (S.CRASHED, {}),
    (S.CANCELLING, {}),
    (S.CANCELLED, {}),
    (S.PENDING, {}),
    (S.PENDING, {"name": "Submitting"}),
    (S.SCHEDULED, {}),
    (S.SCHEDULED, {"name": "Resuming"}),
    (S.PAUSED, {}),
    (S.PAUSED, {"name": "Suspended", "pause_reschedule": True}),
)


class Play:
    """A world, what its players know, and what the books said after the last step."""

    def __init__(self, database: Database, dice: random.Random, url: str | None = None) -> None:
        self.world = World(database)
        self.dice = dice
        self.url = url
        self.leases: list[UUID] = []
        self.tagged_tasks: list[UUID] = []
        self.tokens: dict[UUID, list[int]] = {}
        self.runs: list[UUID] = []
        self.before: dict[UUID, list[dict[str, Any]]] = {}
        self.fencing: dict[UUID, int] = {}

    async def begin(self) -> None:
        await self.world.pool(concurrency_limit=POOL_LIMIT)
        await self.world.queue("narrow", concurrency_limit=QUEUE_LIMIT, priority=1)
        limit = {"concurrency_limit": DEPLOYMENT_LIMIT}
        options = {"collision_strategy": "CANCEL_NEW"}
        self.deployments = [
            await self.world.deployment(),
            await self.world.deployment(**limit),
            await self.world.deployment(**limit, concurrency_options=options),
            await self.world.deployment(work_queue_name="narrow"),
            await self.world.deployment(None, **limit),
            await self.world.deployment(
                **limit, concurrency_options={"collision_strategy": "CANCEL_RUNNING"}
            ),
        ]
        body = ConcurrencyLimitCreate(name="db", limit=NAMED_LIMIT)
        await self.world.database.write(concurrency.create_limit, body, self.world.now)
        rate = ConcurrencyLimitCreate(name="rate", limit=RATE_LIMIT, slot_decay_per_second=0.05)
        await self.world.database.write(concurrency.create_limit, rate, self.world.now)
        tag = TagLimitCreate(tag="t", concurrency_limit=TAG_LIMIT)
        await self.world.database.write(concurrency.set_tag_limit, tag, self.world.now)

    # Moves

    async def create(self) -> None:
        policy = FlowRunPolicy(retries=self.dice.choice((0, 0, 2)), retry_delay=5)
        deployment = self.dice.choice(self.deployments)
        type_ = self.dice.choice((S.SCHEDULED, S.SCHEDULED, S.SCHEDULED, S.PENDING, S.RUNNING))
        state = None if type_ is S.SCHEDULED else a_state(type_)
        due_in = self.dice.choice((-5, 0, 10))
        self.runs.append(await self.world.run(deployment, due_in, state=state, empirical_policy=policy))

    async def subflow(self) -> None:
        if self.runs:
            task = await self.world.dummy_task(self.dice.choice(self.runs))
            self.runs.append(await self.world.ad_hoc(parent_task_run_id=task))

    async def claim(self) -> None:
        taken = await self.world.claim(
            self.dice.randint(0, 4), lease_seconds=self.dice.choice((10, 40)), prefetch_seconds=5
        )
        if taken:
            held = [row for row in (await self.world.claims()).values() if row["work_pool_id"] is not None]
            assert len(held) <= POOL_LIMIT, "a claim went over the limit"
        for run, token in taken.items():
            known = self.tokens.setdefault(run, [])
            assert not known or token > known[-1], "tokens rise"
            known.append(token)

    async def propose(self) -> None:
        if not self.runs:
            return
        run = self.dice.choice(self.runs)
        type_, more = self.dice.choice(PROPOSED)
        known = self.tokens.get(run, [])
        token = self.dice.choice((None, *known, *known[-1:], *known[-1:]))
        force = self.dice.random() < 0.05
        row = await self.world.read(run)
        claim = (await self.world.claims()).get(run)
        stock = self.dice.choice((None, (3, 9, 1)))
        answer = await self.world.set(run, type_, token=token, stock=stock, force=force, **more)
        if answer.status != "ACCEPT":
            return
        stale = token is not None and claim is not None and claim["lease_until"] and token != claim["token"]
        assert not stale, "a stale token wrote"
        if S(row["state_type"]) in FINAL and not force:
            assert type_ in (S.SCHEDULED, S.PENDING, S.RUNNING), "what is over ended in another way"

    async def renew(self) -> None:
        refs = [
            ClaimRef(flow_run_id=run, token=self.dice.choice(tokens)) for run, tokens in self.tokens.items()
        ]
        standing = {run: row["token"] for run, row in (await self.world.claims()).items()}
        request = RenewClaims(claims=refs, lease_seconds=20)
        renewed = await self.world.database.write(claims.renew, request, self.world.now)
        by_run = {ref.flow_run_id: ref.token for ref in refs}
        assert all(standing.get(run) == by_run[run] for run in renewed.kept)
        assert all(standing.get(run) != by_run[run] for run in renewed.lost)

    async def watch(self) -> None:
        await Watchdog().run_once(self.world.database, self.world.now)

    async def wait(self) -> None:
        self.world.pass_seconds(self.dice.choice((1, 12, 45, 400)))

    async def resume(self) -> None:
        if not self.runs:
            return
        run = self.dice.choice(self.runs)
        row = await self.world.read(run)
        self.world.pass_seconds(0.001)
        done = await self.world.database.write(inputs.resume, run, None, self.world.now)
        assert not done.wrote or row["state_type"] == "PAUSED"

    async def lease(self) -> None:
        """Somebody takes slots of a named limit: nobody in particular, a run, or one of its tasks."""
        kind = self.dice.choice(("none", "flow_run", "task_run"))
        holder = None
        if kind != "none" and self.runs:
            run = self.dice.choice(self.runs)
            id_ = run if kind == "flow_run" else await self.world.dummy_task(run)
            holder = Holder(type=kind, id=id_)  # type: ignore[arg-type]
        wanted = (["db"], self.dice.choice((1, 1, 2)), "concurrency", self.dice.choice((60, 3600)), holder)
        try:
            found = await self.world.database.write(concurrency.lease_slots, *wanted, self.world.now)
        except Invalid:  # the limit was lowered below what is wanted
            return
        if isinstance(found, Lease):
            self.leases.append(found.lease_id)

    async def end_lease(self) -> None:
        if self.leases:
            lease = self.leases.pop(self.dice.randrange(len(self.leases)))
            await self.world.database.write(concurrency.end_lease, lease, self.world.now)

    async def renew_lease(self) -> None:
        if not self.leases:
            return
        lease = self.dice.choice(self.leases)
        alive = await self.world.select(sa.select(*t.concurrency_slot.columns))
        standing = {row["lease_id"] for row in alive if row["expires"] > self.world.now}
        try:
            await self.world.database.write(concurrency.renew_lease, lease, 120, self.world.now)
        except Gone:
            assert lease not in standing
        else:
            assert lease in standing, "what was lost came back"

    async def change_limit(self) -> None:
        patch = ConcurrencyLimitUpdate(limit=self.dice.choice((1, 2, NAMED_LIMIT)))
        await self.world.database.write(concurrency.update_limit, "db", patch, self.world.now)

    async def rate(self) -> None:
        """Somebody takes a slot that nobody gives back."""
        wanted = (["rate"], self.dice.choice((1, 1, 2)), "rate_limit")
        await self.world.database.write(concurrency.take_slots, *wanted, self.world.now)

    async def tagged(self) -> None:
        """A task run of a flow or of none begins, or one that has begun ends."""
        if not self.tagged_tasks or self.dice.random() < 0.5:
            run = self.dice.choice([None, *self.runs])
            self.tagged_tasks.append(await self.world.dummy_task(run, tags=["t", "free"]))
        task = self.dice.choice(self.tagged_tasks)
        type_ = self.dice.choice((S.RUNNING, S.RUNNING, S.COMPLETED, S.FAILED, S.CANCELLED, S.PENDING))
        self.world.pass_seconds(0.001)
        proposal = SetState(state=a_state(type_), force=self.dice.random() < 0.05)
        with contextlib.suppress(NotFound):  # it went with its flow run
            await self.world.database.write(set_task_run_state, task, proposal, self.world.now)

    async def break_off(self) -> None:
        """The server dies in the middle of a transaction: nothing of it stays."""
        if not self.runs:
            return
        run, (type_, more) = self.dice.choice(self.runs), self.dice.choice(PROPOSED)
        before = await traces(self.world, run)

        def broken() -> Steps[None]:
            yield from set_flow_run_state(
                run, SetState(state=a_state(type_, **more)), self.world.now, stock=(3, 9, 1)
            )
            raise Broken

        self.world.pass_seconds(0.001)
        with pytest.raises(Broken):
            await self.world.database.write(broken)
        assert await traces(self.world, run) == before

    async def delete(self) -> None:
        if self.runs:
            run = self.runs.pop(self.dice.randrange(len(self.runs)))
            await self.world.database.write(run_changes.delete_flow_run, run)
            self.forget(run)

    async def delete_flow(self) -> None:
        """All of a flow that nobody else has runs of."""
        flow = await self.world.flow()
        runs = [await self.world.ad_hoc(flow) for _ in range(2)]
        await self.world.go(runs[0], S.RUNNING)
        await erasure.empty_flow(self.world.database, flow)
        await self.world.database.write(erasure.delete_flow, flow, self.world.now)
        for run in runs:
            with pytest.raises(NotFound):
                await self.world.set(run, S.RUNNING)
            self.forget(run)

    def forget(self, run: UUID) -> None:
        for known in (self.tokens, self.before, self.fencing):
            known.pop(run, None)

    async def restart(self) -> None:
        if self.url is not None:
            await self.world.database.close()
            self.world.database = await open_database(self.url)

    def moves(self) -> list[Callable[[], Any]]:
        often = [self.create, self.claim, self.propose, self.propose, self.propose]
        rare = [self.resume, self.lease, self.renew_lease, self.end_lease, self.change_limit]
        rare += [self.rate, self.tagged, self.tagged, self.break_off]
        return [*often, *rare, self.renew, self.watch, self.wait, self.subflow, self.delete]

    # Books

    async def check(self) -> None:
        world = self.world
        rows = {row["id"]: row for row in await world.select(sa.select(*t.flow_run.columns))}
        standing = await world.claims()
        for run_id, row in rows.items():
            self._check_claim(row, standing.get(run_id))
        self._check_limits(standing)
        await self._check_named(rows)
        await self._check_history(rows)

    async def _check_named(self, rows: dict[UUID, dict[str, Any]]) -> None:
        slots = await self.world.select(sa.select(*t.concurrency_slot.columns))
        for name, most in (("db", NAMED_LIMIT), ("tag:t", TAG_LIMIT), ("rate", RATE_LIMIT)):
            shown = await self.world.database.read(concurrency.read_limit, name, self.world.now)
            own = [row for row in slots if row["limit_id"] == shown.id and row["expires"] > self.world.now]
            held = sum(row["slots"] for row in own)
            assert name == "rate" or shown.active_slots == held
            assert 0 <= shown.active_slots <= most
            if name == "tag:t":
                tagged = [row["holder_id"] for row in own]
        tasks = {row["id"]: row for row in await self.world.select(sa.select(*t.task_run.columns))}
        assert len(set(tagged)) == len(tagged)
        assert all(tasks[id_]["state_type"] in ("RUNNING", "CANCELLING") for id_ in tagged), "a slot leaks"
        for row in slots:
            holder = row["holder_id"]
            if holder in tasks and tasks[holder]["flow_run_id"] is None:
                continue
            if holder is not None:
                run = rows.get(tasks[holder]["flow_run_id"] if holder in tasks else holder)
                assert run is not None, "what is deleted holds something"
                open_then = run["state_timestamp"] <= row["created"] or S(run["state_type"]) not in FINAL
                assert open_then, "what has ended holds something"

    def _check_claim(self, row: dict[str, Any], claim: dict[str, Any] | None) -> None:
        type_ = S(row["state_type"])
        placed = row["work_queue_id"] is not None or row["deployment_id"] is not None
        if placed and type_ in CLAIMED:
            assert claim is not None, (type_, "has no claim")
        elif claim is not None:
            suspended = row["state_details"]["pause_reschedule"]
            assert placed
            assert (type_ is S.PAUSED and not suspended) or (
                type_ is S.SCHEDULED and row["in_process_retry"]
            ), (type_, "has a claim")
        assert row["fencing_token"] >= self.fencing.get(row["id"], 0)
        self.fencing[row["id"]] = row["fencing_token"]
        if claim is not None:
            assert claim["token"] == row["fencing_token"]
            lease = row["state_details"]["deployment_concurrency_lease_id"]
            lapses = claim["lease_until"] is None
            assert str(claim["slot_id"]) == str(lease) or (lapses and claim["slot_id"] is None)
            assert claim["slot_until"] is None or lapses

    def _check_limits(self, standing: dict[UUID, dict[str, Any]]) -> None:
        for deployment in (*self.deployments[1:3], *self.deployments[4:]):
            held = [c for c in standing.values() if c["slot_of"] == deployment]
            assert len(held) <= DEPLOYMENT_LIMIT

    async def _check_history(self, rows: dict[UUID, dict[str, Any]]) -> None:
        table = t.flow_run_state
        history: dict[UUID, list[dict[str, Any]]] = {}
        for state in await self.world.select(sa.select(*table.columns).order_by(table.c.timestamp)):
            history.setdefault(state["flow_run_id"], []).append(state)
        assert set(history) == set(rows)
        for run_id, states in history.items():
            old = self.before.get(run_id, [])
            assert states[: len(old)] == old, "history was changed"
            stamps = [state["timestamp"] for state in states]
            assert stamps == sorted(set(stamps))
            row, last = rows[run_id], states[-1]
            for name in ("id", "type", "name", "timestamp", "message", "data", "state_details"):
                own = name if name == "state_details" else f"state_{name}"
                assert row[own] == last[name]
            assert row["end_time"] == (last["timestamp"] if S(last["type"]) in FINAL else None)
        self.before = history
        events = await self.world.select(sa.select(t.event.c.id, t.event.c.event, t.event.c.resource_id))
        known = {f"prefect.flow-run.{run_id}" for run_id in rows}
        events = [event for event in events if event["resource_id"] in known]
        told = {event["id"]: event["event"] for event in events}
        written = {
            state["id"]: f"prefect.flow-run.{state['name']}"
            for states in history.values()
            for state in states
        }
        assert told == written
        assert len(events) == len(told)

    async def finish(self) -> None:
        """Nothing stays: when everybody is gone, time frees every claim whose holder knows leases."""
        self.world.pass_seconds(4000)
        while await Watchdog().run_once(self.world.database, self.world.now):
            pass
        left = await self.world.claims()
        assert all(row["lease_until"] is None for row in left.values())
        for task in self.tagged_tasks:
            with contextlib.suppress(NotFound):
                end = SetState(state=a_state(S.CANCELLED), force=True)
                await self.world.database.write(set_task_run_state, task, end, self.world.pass_seconds(1))
        left_over = await self.world.select(sa.select(t.concurrency_slot.c.lease_id))
        assert left_over == []
        await self.check()


MOVES = (
    *("create", "create", "claim", "claim", "propose", "propose", "propose", "propose", "renew", "watch"),
    *(
        "wait",
        "subflow",
        "resume",
        "lease",
        "lease",
        "lease",
        "renew_lease",
        "end_lease",
        "change_limit",
        "delete",
    ),
    *("rate", "tagged", "tagged", "tagged", "break_off"),
    *("delete_flow", "restart"),
)


class Sequences(RuleBasedStateMachine):
    """Moves on a file of SQLite, whose server may be stopped between any two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        url = f"sqlite:///{Path(self.folder.name) / 'x.db'}"
        self.game = Play(self.runner.run(open_database(url)), random.Random(0), url)
        self.runner.run(self.game.begin())

    @rule(move=st.sampled_from(MOVES), dice=st.randoms(use_true_random=False))
    def move(self, move: str, dice: random.Random) -> None:
        self.game.dice = dice
        self.runner.run(getattr(self.game, move)())

    @invariant()
    def books_are_right(self) -> None:
        self.runner.run(self.game.check())

    def teardown(self) -> None:
        try:
            self.runner.run(self.game.finish())
        finally:
            self.runner.run(self.game.world.database.close())
            self.runner.close()
            self.folder.cleanup()


TestAnySequenceOnSqlite = Sequences.TestCase
TestAnySequenceOnSqlite.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


async def play(database: Database, seed: int, steps: int) -> None:
    """One play of ``steps`` moves."""
    game = Play(database, random.Random(seed))
    await game.begin()
    for _ in range(steps):
        await game.dice.choice(game.moves())()
        await game.check()
    await game.finish()


@pytest.mark.parametrize("seed", range(8))
def test_any_sequence_on_postgresql(postgres_url: str, seed: int) -> None:
    async def run() -> None:
        database = await open_database(postgres_url)
        try:
            await play(database, seed, 40)
        finally:
            await database.close()

    asyncio.run(run())


@pytest.mark.anyio
async def test_everybody_at_once(world: World) -> None:
    """The same books when claims, proposals, renewals and the watchdog run at the same time."""
    game = Play(world.database, random.Random(7))
    await game.begin()
    for _ in range(12):
        await game.create()

    async def process(run: UUID, token: int) -> None:
        for type_ in (S.RUNNING, game.dice.choice((S.COMPLETED, S.FAILED, S.CRASHED))):
            await world.set(run, type_, token=token)

    for _ in range(6):
        taken = await asyncio.gather(*(world.claim(2, claim_id=new_id()) for _ in range(4)))
        held = {run: token for got in taken for run, token in got.items()}
        assert sum(map(len, taken)) == len(held), "a run was given twice"
        await asyncio.gather(
            *(process(run, token) for run, token in held.items()),
            *(process(run, token) for run, token in held.items()),
            Watchdog().run_once(world.database, world.now),
            game.renew(),
        )
        world.pass_seconds(20)
        await game.check()
