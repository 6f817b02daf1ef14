"""Claiming due runs: one transaction moves them to PENDING inside every limit (rows W15, W16, P14, P15).

The claim's id makes a repeated request answer the same runs; its token is what the run's process shows
with every later write. Whoever waits for work is woken when there is some, and claims at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

import msgspec

from eparch.core.decisions import Accept, state_to_write
from eparch.core.deployment_versions import asked_version
from eparch.core.deployments import CollisionStrategy, Deployment, Flow
from eparch.core.errors import NotFound, did_you_mean
from eparch.core.pools import Claim, ClaimedRun, ClaimRuns, ClaimServed, RenewClaims, Renewed, Work
from eparch.core.runs import FlowRun
from eparch.core.states import Pending, StateType
from eparch.orchestration.deployment_versions import as_asked
from eparch.orchestration.slots import Queue, deployment_slot, free_slots
from eparch.orchestration.transition import NewClaim, claim_of, propose
from eparch.orchestration.worker_instances import polled
from eparch.store import claims, deployments, pools, runs
from eparch.store.database import Database
from eparch.store.runs import Stored
from eparch.store.statement import Note, Steps


def claim(pool_name: str, request: ClaimRuns, now: datetime) -> Steps[Work]:
    """Take up to ``request.limit`` due runs of the pool, most urgent queue first.

    Raises:
        NotFound: the pool, or a queue that is named, does not exist.
    """
    pool_id, is_paused, limit = yield from _pool(pool_name)
    queues = yield from chosen_queues(pool_id, pool_name, request.work_queue_names)
    yield from claims.lock_pool(pool_id)
    yield from pools.see_worker(pool_id, request.worker_name, now)
    yield from pools.mark_polled([queue[0] for queue in queues], now)
    order, takes = yield from polled(request.instance_id, pool_id, now)
    cancel = (yield from claims.to_cancel(request.holding)) if request.holding else []
    before = yield from claims.by_claim_id(request.claim_id)
    if before:
        again = yield from _claimed_before(before, now + timedelta(seconds=request.lease_seconds))
        return Work(runs=again, cancel=cancel, order=order)
    if is_paused or request.limit == 0 or not takes:
        return Work(cancel=cancel, order=order)
    taking = _Taking(request, now)
    for queue in (yield from _with_due(queues, taking.before)):
        if taking.is_full:
            break
        free = yield from free_slots(pool_id, limit, queue)
        yield from taking.take(partial(_due, queue[0], taking.before), free)
    return Work(runs=taking.taken, cancel=cancel, order=order)


def claim_served(request: ClaimServed, now: datetime) -> Steps[Work]:
    """Take up to ``request.limit`` due runs of deployments in no pool, the oldest first (row D23)."""
    ids = request.deployment_ids
    yield from claims.lock_deployments(ids)
    yield from deployments.mark_polled(ids, now)
    cancel = (yield from claims.to_cancel(request.holding)) if request.holding else []
    before = yield from claims.by_claim_id(request.claim_id)
    if before:
        again = yield from _claimed_before(before, now + timedelta(seconds=request.lease_seconds))
        return Work(runs=again, cancel=cancel)
    taking = _Taking(request, now)
    yield from taking.take(partial(claims.due_served, ids, taking.before), request.limit)
    return Work(runs=taking.taken, cancel=cancel)


def _pool(name: str) -> Steps[tuple[UUID, bool, int | None]]:
    pool = yield from claims.read_pool(name)
    if pool is None:
        raise NotFound(f'Work pool "{name}" not found.')
    return pool


def chosen_queues(pool_id: UUID, pool_name: str, named: Sequence[str]) -> Steps[list[Queue]]:
    """The pool's queues that are ``named``, all when none is, most urgent first; those paused as well.

    Raises:
        NotFound: a named queue does not exist (wire 4.4).
    """
    queues = yield from claims.read_queues(pool_id)
    known = {queue[1] for queue in queues}
    for name in named:
        if name not in known:
            raise NotFound(f"Work pool queue '{pool_name}/{name}' not found.", fix=did_you_mean(name, known))
    return [queue for queue in queues if not named or queue[1] in named]


def _with_due(queues: list[Queue], before: datetime) -> Steps[list[Queue]]:
    """Those of the queues that have a run which is due; one queue alone is looked at right away."""
    if len(queues) < 2:
        return queues
    due = yield from claims.with_due([queue[0] for queue in queues], before)
    return [queue for queue in queues if queue[0] in due]


def _claimed_before(before: Sequence[Claim], lease_until: datetime) -> Steps[list[ClaimedRun]]:
    """The runs that the same request has taken, whose answer was lost, as far as nobody began them."""
    again = []
    complete = _Completion()
    for old in before:
        kept = yield from claims.renew(old.flow_run_id, old.token, lease_until)
        run = (yield from runs.flow_run_value(old.flow_run_id)) if kept else None
        if run is not None and run.state_type is StateType.PENDING:
            again.append((yield from complete(run, msgspec.structs.replace(old, lease_until=lease_until))))
    return again


def _due(queue_id: UUID, before: datetime, limit: int) -> Steps[list[UUID]]:
    found = yield from claims.due(queue_id, before, limit)
    return [run_id for run_id, _ in found]


class _Completion:
    """Adds to claimed runs what is needed to start them; each deployment and flow is read once."""

    def __init__(self) -> None:
        self._deployments: dict[UUID, Deployment | None] = {}
        self._flows: dict[UUID, Flow | None] = {}

    def __call__(self, run: FlowRun, claim_: Claim) -> Steps[ClaimedRun]:
        deployment = None
        if run.deployment_id is not None:
            if run.deployment_id not in self._deployments:
                found = yield from deployments.deployment_value(run.deployment_id, claim_.claimed_at)
                self._deployments[run.deployment_id] = found
            deployment = self._deployments[run.deployment_id]
            if deployment is not None and asked_version(run.labels) is not None:
                with contextlib.suppress(NotFound):  # its process says so, where it is seen
                    deployment = yield from as_asked(deployment, run.labels)
        if run.flow_id not in self._flows:
            self._flows[run.flow_id] = yield from deployments.flow_value(run.flow_id)
        return ClaimedRun(claim=claim_, flow_run=run, deployment=deployment, flow=self._flows[run.flow_id])


class _Taking:
    """One claim while it goes through the queues."""

    def __init__(self, request: ClaimRuns, now: datetime) -> None:
        lease_until = now + timedelta(seconds=request.lease_seconds)
        self._claimer = NewClaim(request.claim_id, request.worker_name, lease_until)
        self.before = now + timedelta(seconds=request.prefetch_seconds)
        self._most, self._now = request.limit, now
        self._complete = _Completion()
        self.taken: list[ClaimedRun] = []

    @property
    def is_full(self) -> bool:
        """Whether as many runs are taken as were asked for."""
        return len(self.taken) >= self._most

    def take(self, due: Callable[[int], Steps[list[UUID]]], free: int) -> Steps[None]:
        """Take at most ``free`` of what ``due`` finds, in its order, inside every limit."""
        want = min(free, self._most - len(self.taken))
        # Each round takes a run or ends one; those behind a full deployment are not found again.
        while want > 0:
            candidates = yield from due(want)
            changed = False
            for run_id in candidates:
                stored = yield from runs.flow_run_for_decision(run_id)
                if stored is None or (yield from self._must_wait(stored)):
                    continue
                decision = yield from propose(
                    stored, Pending(timestamp=self._now), self._now, claimer=self._claimer
                )
                changed = changed or state_to_write(decision) is not None
                if isinstance(decision, Accept):
                    run = yield from runs.flow_run_value(run_id)
                    assert run is not None
                    own = claim_of(stored, self._claimer, self._now)
                    self.taken.append((yield from self._complete(run, own)))
                    want -= 1
            if not changed:
                return

    def _must_wait(self, stored: Stored) -> Steps[bool]:
        """Whether the run stays where it is, as its deployment is full: it is woken by the next free slot."""
        slot = yield from deployment_slot(stored)
        return slot is not None and slot.free <= 0 and slot.strategy is CollisionStrategy.ENQUEUE


def renew(request: RenewClaims, now: datetime) -> Steps[Renewed]:
    """Extend the leases that are still held with the right token; name those that are lost."""
    until = now + timedelta(seconds=request.lease_seconds)
    kept: list[UUID] = []
    lost: list[UUID] = []
    for ref in request.claims:
        stands = yield from claims.renew(ref.flow_run_id, ref.token, until)
        (kept if stands else lost).append(ref.flow_run_id)
    return Renewed(kept=kept, lost=lost)


def due_runs(
    pool_name: str,
    names: Sequence[str],
    before: datetime,
    now: datetime,
    limit: int,
    after: datetime | None = None,
) -> Steps[list[dict[str, object]]]:
    """What a stock worker's poll is answered: due runs inside the limits, not claimed (wire 4.4).

    Its claim is the PENDING transition that follows; that is where the limits hold for it.
    """
    pool_id, is_paused, pool_limit = yield from _pool(pool_name)
    queues = yield from chosen_queues(pool_id, pool_name, names)
    yield from pools.mark_polled([queue[0] for queue in queues], now)
    if is_paused:
        return []
    found: list[tuple[UUID, UUID]] = []
    for queue in (yield from _with_due(queues, before)):
        if len(found) >= limit:
            break
        free = yield from free_slots(pool_id, pool_limit, queue)
        want = min(free, limit - len(found))
        if want <= 0:
            continue
        found += [(run_id, queue[0]) for run_id, _ in (yield from claims.due(queue[0], before, want, after))]
    read = yield from runs.read_flow_runs_of([run_id for run_id, _ in found], now)
    return [
        {"work_pool_id": pool_id, "work_queue_id": queue_id, "flow_run": read[run_id]}
        for run_id, queue_id in found
    ]


def next_due(pool_name: str, names: Sequence[str]) -> Steps[tuple[frozenset[UUID], datetime | None]]:
    """The pool's id, and when the next run of these queues is due; of a paused one never."""
    pool_id, is_paused, _ = yield from _pool(pool_name)
    queues = yield from chosen_queues(pool_id, pool_name, names)
    if is_paused:
        return frozenset({pool_id}), None
    when = yield from claims.next_due([queue[0] for queue in queues if not queue[2]])
    return frozenset({pool_id}), when


def next_served(deployment_ids: Sequence[UUID]) -> Steps[tuple[frozenset[UUID], datetime | None]]:
    """The deployments, and when the next of their runs is due that no pool has."""
    when = yield from claims.next_served(deployment_ids)
    return frozenset(deployment_ids), when


Claiming = TypeVar("Claiming", bound=ClaimRuns)
Next = Callable[[], Steps[tuple[frozenset[UUID], datetime | None]]]


class Waiters:
    """Who waits for work, on one event loop."""

    def __init__(self) -> None:
        self._waiting: set[_Waiter] = set()
        self.stopping = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def asleep(self) -> int:
        """How many have asked, found nothing, and wait to be woken."""
        return sum(waiter.asleep for waiter in self._waiting)

    def tell(self, notes: Sequence[Note]) -> None:
        """Wake those whom one of ``notes`` concerns."""
        places = {note.value for note in notes if note.topic == "work"}
        runs_ = {note.value for note in notes if note.topic in ("cancel", "watched")}
        self._outdate(frozenset(note.value for note in notes if note.topic == "watched"))
        if any(note.topic == "anything" for note in notes):
            self._wake(lambda _: True)
        elif places or runs_:
            self._wake(
                lambda waiter: not (places.isdisjoint(waiter.places) and runs_.isdisjoint(waiter.holding))
            )

    def stop(self) -> None:
        """Answer everybody who waits with what there is: nothing."""
        self.stopping.set()
        self._wake(lambda _: True)

    def _wake(self, concerns: Callable[[_Waiter], bool]) -> None:
        for waiter in self._waiting:
            if concerns(waiter):
                waiter.woken.set()

    def _outdate(self, runs_: frozenset[object]) -> None:
        for waiter in self._waiting:
            waiter.is_stale = waiter.is_stale or not runs_.isdisjoint(waiter.holding)

    async def claim(self, database: Database, pool_name: str, request: ClaimRuns) -> Work:
        """Claim now or, within ``request.wait_seconds``, as soon as there is something to do."""
        next_ = partial(next_due, pool_name, request.work_queue_names)
        return await self._claim(database, request, partial(claim, pool_name), next_)

    async def claim_served(self, database: Database, request: ClaimServed) -> Work:
        """The same of deployments that are in no pool."""
        next_ = partial(next_served, request.deployment_ids)
        return await self._claim(database, request, claim_served, next_)

    async def _claim(
        self,
        database: Database,
        request: Claiming,
        take: Callable[[Claiming, datetime], Steps[Work]],
        next_: Next,
    ) -> Work:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.wait_seconds
        places, _ = await database.read(next_)
        waiter = _Waiter(places, frozenset(request.holding))
        self._waiting.add(waiter)
        try:
            while True:
                waiter.woken.clear()
                work = await database.write(take, request, datetime.now(UTC))
                left = deadline - loop.time()
                told = work.order is not request.order
                if work.runs or work.cancel or told or left <= 0 or self.stopping.is_set():
                    return work
                if waiter.is_stale and not request.limit:
                    # It holds something else by now, of which it has to be told instead.
                    return work
                _, when = await database.read(next_)
                await waiter.sleep(_wait(when, request, left))
        finally:
            self._waiting.discard(waiter)


class _Waiter:
    def __init__(self, places: frozenset[UUID], holding: frozenset[UUID]) -> None:
        self.places = places
        """Pool or deployments whose runs it wants."""
        self.holding = holding
        self.woken = asyncio.Event()
        self.is_stale = False
        """One of the runs that it holds is over."""
        self._sleeps = False

    @property
    def asleep(self) -> bool:
        return self._sleeps and not self.woken.is_set()

    async def sleep(self, seconds: float) -> None:
        self._sleeps = True
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.woken.wait()
        finally:
            self._sleeps = False


BLOCKED_SECONDS = 1.0
"""A run that is due and was not given stands behind a limit; ask again after this long at the latest."""


def _wait(when: datetime | None, request: ClaimRuns, left: float) -> float:
    if when is None or request.limit == 0:
        return left
    ahead = (when - datetime.now(UTC)).total_seconds() - request.prefetch_seconds
    return min(left, ahead if ahead > 0 else BLOCKED_SECONDS)
