"""Claiming due runs: one transaction moves them to PENDING inside every limit (rows W15, W16, P14, P15).

The claim's id makes a repeated request answer the same runs; its token is what the run's process shows
with every later write. Whoever waits for work is woken when there is some, and claims at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from eparch.core.decisions import Accept
from eparch.core.errors import NotFound, did_you_mean
from eparch.core.pools import Claim, ClaimedRun, ClaimRuns, RenewClaims, Renewed, Work
from eparch.core.states import Pending
from eparch.orchestration.transition import NewClaim, propose
from eparch.store import claims, deployments, pools, runs
from eparch.store.database import Database
from eparch.store.statement import Note, Steps

Queue = tuple[UUID, str, bool, int | None, int]


def claim(pool_name: str, request: ClaimRuns, now: datetime) -> Steps[Work]:
    """Take up to ``request.limit`` due runs of the pool, most urgent queue first.

    Raises:
        NotFound: the pool, or a queue that is named, does not exist.
    """
    pool_id, is_paused, limit = yield from _pool(pool_name)
    lease_until = now + timedelta(seconds=request.lease_seconds)
    yield from pools.heartbeat(pool_id, request.worker_name, None, now)
    cancel = (yield from claims.to_cancel(request.holding)) if request.holding else []
    again = yield from _claimed_before(request, lease_until)
    if again:
        return Work(runs=again, cancel=cancel)
    queues = yield from chosen_queues(pool_id, pool_name, request.work_queue_names)
    yield from pools.mark_polled([queue[0] for queue in queues], now)
    if is_paused or request.limit == 0:
        return Work(cancel=cancel)
    yield from claims.lock_pool(pool_id)
    claimer = NewClaim(request.claim_id, request.worker_name, lease_until)
    before = now + timedelta(seconds=request.prefetch_seconds)
    taken: list[ClaimedRun] = []
    for queue in queues:
        free = yield from _free_slots(pool_id, limit, queue)
        want = min(free, request.limit - len(taken))
        if want > 0:
            taken += yield from _take(queue[0], before, want, claimer, now)
    return Work(runs=taken, cancel=cancel)


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
            raise NotFound(
                f"Work queue '{name}' not found in work pool '{pool_name}'.", fix=did_you_mean(name, known)
            )
    return [queue for queue in queues if not named or queue[1] in named]


def _claimed_before(request: ClaimRuns, lease_until: datetime) -> Steps[list[ClaimedRun]]:
    again = []
    for old in (yield from claims.by_claim_id(request.claim_id)):
        kept = yield from claims.renew(old.flow_run_id, old.token, lease_until)
        complete = (yield from _complete(old.flow_run_id, old)) if kept else None
        if complete is not None:
            again.append(complete)
    return again


def _free_slots(pool_id: UUID, pool_limit: int | None, queue: Queue) -> Steps[int]:
    queue_id, _, is_paused, queue_limit, _ = queue
    if is_paused:
        return 0
    held = yield from claims.held(pool_id)
    free = 1_000_000
    if pool_limit is not None:
        free = min(free, pool_limit - sum(held.values()))
    if queue_limit is not None:
        free = min(free, queue_limit - held.get(queue_id, 0))
    return max(free, 0)


def _take(
    queue_id: UUID, before: datetime, want: int, claimer: NewClaim, now: datetime
) -> Steps[list[ClaimedRun]]:
    taken: list[ClaimedRun] = []
    # A run that its deployment's limit sends back is due again later, or cancelled: so this ends.
    while len(taken) < want:
        candidates = yield from claims.due(queue_id, before, want - len(taken))
        if not candidates:
            break
        progress = False
        for run_id, _ in candidates:
            stored = yield from runs.flow_run_for_decision(run_id)
            if stored is None:
                continue
            decision = yield from propose(stored, Pending(timestamp=now), now, claimer=claimer)
            progress = progress or isinstance(decision, Accept) or bool(getattr(decision, "state", None))
            if isinstance(decision, Accept):
                complete = yield from _complete(run_id, None, claimer)
                if complete is not None:
                    taken.append(complete)
        if not progress:
            break
    return taken


def _complete(
    run_id: UUID, claim_: Claim | None, claimer: NewClaim | None = None
) -> Steps[ClaimedRun | None]:
    if claim_ is None and claimer is not None:
        mine = yield from claims.by_claim_id(claimer.claim_id)
        claim_ = next((c for c in mine if c.flow_run_id == run_id), None)
    run = yield from runs.flow_run_value(run_id)
    if run is None or claim_ is None:
        return None
    deployment = None
    if run.deployment_id is not None:
        deployment = yield from deployments.deployment_value(run.deployment_id, claim_.claimed_at)
    flow = yield from deployments.flow_value(run.flow_id)
    return ClaimedRun(claim=claim_, flow_run=run, deployment=deployment, flow=flow)


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
    found: list[dict[str, object]] = []
    if is_paused:
        return found
    for queue in queues:
        free = yield from _free_slots(pool_id, pool_limit, queue)
        want = min(free, limit - len(found))
        if want <= 0:
            continue
        for run_id, _ in (yield from claims.due(queue[0], before, want, after)):
            run = yield from runs.read_flow_run(run_id, now)
            found.append({"work_pool_id": pool_id, "work_queue_id": queue[0], "flow_run": run})
    return found


def next_due(pool_name: str, names: Sequence[str]) -> Steps[tuple[UUID, datetime | None]]:
    """The pool's id, and when the next run of these queues is due."""
    pool_id, _, _ = yield from _pool(pool_name)
    queues = yield from chosen_queues(pool_id, pool_name, names)
    when = yield from claims.next_due([queue[0] for queue in queues if not queue[2]])
    return pool_id, when


class Waiters:
    """Who waits for work, on one event loop."""

    def __init__(self) -> None:
        self._waiting: set[_Waiter] = set()
        self.stopping = asyncio.Event()

    def tell(self, notes: Sequence[Note]) -> None:
        """Wake those whom one of ``notes`` concerns."""
        pools_ = {note.value for note in notes if note.topic == "work"}
        runs_ = {note.value for note in notes if note.topic == "cancel"}
        if pools_ or runs_:
            self._wake(lambda waiter: waiter.pool_id in pools_ or not runs_.isdisjoint(waiter.holding))

    def stop(self) -> None:
        """Answer everybody who waits with what there is: nothing."""
        self.stopping.set()
        self._wake(lambda _: True)

    def _wake(self, concerns: Callable[[_Waiter], bool]) -> None:
        for waiter in self._waiting:
            if concerns(waiter):
                waiter.woken.set()

    async def claim(self, database: Database, pool_name: str, request: ClaimRuns) -> Work:
        """Claim now or, within ``request.wait_seconds``, as soon as there is something to do."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.wait_seconds
        pool_id, _ = await database.read(next_due, pool_name, request.work_queue_names)
        waiter = _Waiter(pool_id, frozenset(request.holding))
        self._waiting.add(waiter)
        try:
            while True:
                waiter.woken.clear()
                work = await database.write(claim, pool_name, request, datetime.now(UTC))
                left = deadline - loop.time()
                if work.runs or work.cancel or left <= 0 or self.stopping.is_set():
                    return work
                _, when = await database.read(next_due, pool_name, request.work_queue_names)
                await waiter.sleep(_wait(when, request, left))
        finally:
            self._waiting.discard(waiter)


class _Waiter:
    def __init__(self, pool_id: UUID, holding: frozenset[UUID]) -> None:
        self.pool_id = pool_id
        self.holding = holding
        self.woken = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.woken.wait()


BLOCKED_SECONDS = 1.0
"""A run that is due and was not given stands behind a limit; ask again after this long at the latest."""


def _wait(when: datetime | None, request: ClaimRuns, left: float) -> float:
    if when is None or request.limit == 0:
        return left
    ahead = (when - datetime.now(UTC)).total_seconds() - request.prefetch_seconds
    return min(left, ahead if ahead > 0 else BLOCKED_SECONDS)
