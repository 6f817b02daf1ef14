"""Why a run is waiting, by the conditions of the claim itself (pain 4, P14, P15).

The conditions of a run come from the claim's own statement, the room from its own counting, the decision from
the table that decides on claims; here they are only asked in turn. Nothing is written or locked.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from eparch.core import blockers as b
from eparch.core.blockers import Blocker, Explanation, Holding, LimitHolding
from eparch.core.cases import occupies
from eparch.core.claim_order import LONGEST_LINE, Candidate, LimitOf, Place, place_of
from eparch.core.decisions import Accept, Slot
from eparch.core.errors import NotFound
from eparch.core.filters import Query
from eparch.core.pools import POLL_TIMEOUT, PoolStatus, WorkerStatus, polled_status
from eparch.core.rules import WAITS_FOR_SLOT
from eparch.core.states import StateType
from eparch.core.worker_instances import InstanceStatus, WorkerInstance, instance_status
from eparch.orchestration.concurrency import read_limit
from eparch.orchestration.slots import UNLIMITED, Queue, Room, deployment_slot, room
from eparch.orchestration.transition import if_claimed
from eparch.store import claims, deployments, explaining, pools, runs, worker_instances
from eparch.store.runs import Stored
from eparch.store.statement import Steps, looking

MOST_WORKERS = 200

MOST_TEXT = 500
"""Characters that are told of what a state says."""


def explain(run_id: UUID, now: datetime) -> Steps[Explanation]:
    """Why the flow run does not run, the most telling reason first.

    Raises:
        NotFound: there is no such run.
    """
    return (yield from looking(_explain(run_id, now)))


def pool_holders(name: str, limit: int, offset: int) -> Steps[list[Holding]]:
    """A page of those who hold slots of the pool.

    Raises:
        NotFound: there is no such pool.
    """
    pool = yield from claims.read_pool(name)
    if pool is None:
        raise NotFound(f"Work pool '{name}' not found.")
    return (yield from explaining.holders("work_pool", pool[0], limit, offset))


def queue_holders(queue_id: UUID, limit: int, offset: int, now: datetime) -> Steps[list[Holding]]:
    """A page of those who hold slots of the queue.

    Raises:
        NotFound: there is no such queue.
    """
    if (yield from pools.read_queue(queue_id, now)) is None:
        raise NotFound("Work queue not found.")
    return (yield from explaining.holders("work_queue", queue_id, limit, offset))


def deployment_holders(deployment_id: UUID, limit: int, offset: int, now: datetime) -> Steps[list[Holding]]:
    """A page of those who hold slots of the deployment's limit.

    Raises:
        NotFound: there is no such deployment.
    """
    if (yield from deployments.deployment_value(deployment_id, now)) is None:
        raise NotFound("Deployment not found")
    return (yield from explaining.holders("deployment", deployment_id, limit, offset))


def limit_holders(id_or_name: str, limit: int, offset: int, now: datetime) -> Steps[list[LimitHolding]]:
    """A page of those who hold slots of a named limit.

    Raises:
        NotFound: there is no such limit.
    """
    found = yield from read_limit(id_or_name, now)
    return (yield from explaining.limit_holders(found.id, limit, offset, now))


def _explain(run_id: UUID, now: datetime) -> Steps[Explanation]:
    stored = yield from runs.flow_run_for_decision(run_id)
    if stored is None:
        raise NotFound("Flow run not found")
    run, place = stored.run, None
    found = _of_state(stored)
    waits = run.state_type is StateType.SCHEDULED and not found
    if waits and run.work_pool_id is None:
        found = yield from _unpooled(stored, now)
    elif waits:
        found, place = yield from _Waiting(stored, now).look()
    ahead = len(place.ahead) if place else None
    return Explanation(
        flow_run_id=run.id,
        name=run.name,
        state_type=run.state_type,
        state_name=run.state.name if run.state else None,
        waiting=not any(isinstance(one, b.RunRuns | b.RunStops | b.RunEnded) for one in found),
        summary=b.summary_of(found, ahead, now, served=run.work_pool_id is None),
        reasons=b.reasons_of(found, now),
        ahead=ahead,
        ahead_is_least=place is not None and not place.found,
        not_before=b.not_before(found),
        as_of=now,
    )


def _of_state(stored: Stored) -> list[Blocker]:
    """What the state alone says: of runs that somebody has, or that wait for a person, or are over."""
    run, claim = stored.run, stored.claim
    state = run.state
    if state is None:
        return []
    worker = claim.worker_name if claim else None
    lease = claim.lease_until if claim else None
    if state.is_final():
        return [
            b.RunEnded(
                flow_run_id=run.id,
                state_type=state.type,
                state_name=state.name,
                at=state.timestamp,
                reason=(state.message or "")[:MOST_TEXT],
                can_retry=run.deployment_id is not None,
            )
        ]
    if state.type is StateType.RUNNING:
        pid = run.infrastructure_pid
        return [b.RunRuns(since=state.timestamp, worker_name=worker, infrastructure_pid=pid)]
    if state.type is StateType.CANCELLING:
        return [b.RunStops(since=state.timestamp, worker_name=worker)]
    if state.type is StateType.PAUSED:
        details = state.state_details
        suspended = details.pause_reschedule
        return [b.RunPaused(flow_run_id=run.id, suspended=suspended, until=details.pause_timeout)]
    if state.type is StateType.PENDING:
        return [
            b.Claimed(
                flow_run_id=run.id,
                worker_name=worker,
                since=claim.claimed_at if claim else state.timestamp,
                lease_until=lease,
                has_claim=claim is not None,
                state_name=state.name,
                reason=(state.message or "")[:MOST_TEXT],
            )
        ]
    if occupies(state, run.empirical_policy):
        at = run.next_scheduled_start_time or state.timestamp
        return [b.RetryWaits(at=at, worker_name=worker, lease_until=lease)]
    return []


def _scheduled(stored: Stored, meets: dict[str, bool]) -> list[Blocker]:
    when = stored.run.next_scheduled_start_time
    if meets["is_due"] or when is None:
        return []
    return [b.ScheduledLater(at=when)]


def _unpooled(stored: Stored, now: datetime) -> Steps[list[Blocker]]:
    """The reasons of a run that is in no pool: a process that serves its deployment would have to ask."""
    run = stored.run
    meets = yield from explaining.stands(run.id, now)
    found = _scheduled(stored, meets)
    if run.deployment_id is None:
        return [*found, b.NotServed()]
    deployment = yield from deployments.deployment_value(run.deployment_id, now)
    polled = deployment.last_polled if deployment else None
    if polled_status(False, polled, now) is not PoolStatus.READY:
        name = stored.deployment_name
        found.append(b.NotServed(deployment_id=run.deployment_id, deployment_name=name, last_polled=polled))
    if meets["is_due"]:
        found += yield from _decided(stored, now)
    return found


def _decided(stored: Stored, now: datetime) -> Steps[list[Blocker]]:
    """What the table says of a claim of the run."""
    decision = yield from if_claimed(stored, now)
    if isinstance(decision, Accept):
        return []
    if decision.rule not in ("limit_is_full", "limit_is_zero"):
        return [b.Refused(rule=decision.rule, reason=decision.reason)]
    slot = yield from deployment_slot(stored)
    assert slot is not None
    assert stored.run.deployment_id is not None
    return [(yield from _deployment_full(stored.run.deployment_id, stored.deployment_name, slot))]


def _deployment_full(deployment_id: UUID, name: str | None, slot: Slot) -> Steps[b.LimitFull]:
    holders = yield from explaining.holders("deployment", deployment_id, b.SHOWN_HOLDERS)
    return b.LimitFull(
        of="deployment",
        name=name or str(deployment_id),
        limit=slot.limit,
        taken=(yield from runs.slots_taken(deployment_id)),
        holders=holders,
        strategy=slot.strategy,
    )


class _Waiting:
    """A run of a pool's queue that waits for a claim."""

    def __init__(self, stored: Stored, now: datetime) -> None:
        self._stored, self._now = stored, now
        run = stored.run
        assert run.work_pool_id is not None
        assert run.work_pool_name is not None
        self._pool_id: UUID = run.work_pool_id
        self._pool_name: str = run.work_pool_name
        self._found: list[Blocker] = []
        self._is_polled = False

    def look(self) -> Steps[tuple[list[Blocker], Place | None]]:
        """All reasons that hold now, and where the run stands in line once it is due."""
        run, now = self._stored.run, self._now
        pool = yield from claims.read_pool(self._pool_name)
        queues = yield from claims.read_queues(self._pool_id)
        own = next((queue for queue in queues if queue[0] == run.work_queue_id), None)
        meets = yield from explaining.stands(run.id, now)
        if pool is None or own is None or not meets:
            raise NotFound("Flow run not found")
        self._found += _scheduled(self._stored, meets)
        if pool[1]:
            self._found.append(b.WorkPoolPaused(work_pool_name=self._pool_name))
        if own[2]:
            self._found.append(b.WorkQueuePaused(work_pool_name=self._pool_name, work_queue_name=own[1]))
        yield from self._workers(own)
        decided = yield from _decided(self._stored, now)
        if not meets["is_due"]:
            # One that met a full limit is looked at again after a while; what it waits for is the limit.
            waits = run.state is not None and run.state.name == WAITS_FOR_SLOT
            return [*(decided if waits else []), *self._found], None
        full = yield from self._limits(pool[2], own)
        self._found += decided
        place = yield from self._line(pool[2], queues, ignoring=full or bool(decided))
        return self._found, place

    def _limits(self, pool_limit: int | None, own: Queue) -> Steps[bool]:
        """Whether pool or queue are full, for whatever they would give were they not paused."""
        room_ = yield from room(self._pool_id, pool_limit, (*own[:2], False, *own[3:]))
        if room_.pool_limit is not None and room_.pool_free <= 0:
            yield from self._full("work_pool", self._pool_id, self._pool_name, room_)
        if room_.queue_limit is not None and room_.queue_free <= 0:
            yield from self._full("work_queue", own[0], own[1], room_)
        return room_.free <= 0

    def _full(self, of: LimitOf, key: UUID, name: str, room_: Room) -> Steps[None]:
        holders = yield from explaining.holders(of, key, b.SHOWN_HOLDERS)
        is_pool = of == "work_pool"
        limit, taken = (
            (room_.pool_limit, room_.pool_taken) if is_pool else (room_.queue_limit, room_.queue_taken)
        )
        self._found.append(
            b.LimitFull(
                of=of,
                name=name,
                work_pool_name=None if is_pool else self._pool_name,
                limit=limit or 0,
                taken=taken,
                holders=holders,
            )
        )

    def _line(self, pool_limit: int | None, queues: list[Queue], *, ignoring: bool) -> Steps[Place]:
        """Where the run stands; with ``ignoring`` as if there were room for everybody."""
        own_id = self._stored.run.work_queue_id
        line: list[Candidate] = []
        free: dict[UUID, int] = {}
        pool_free = UNLIMITED
        for queue in queues:
            if queue[0] != own_id and not (yield from self._is_served(queue)):
                continue
            room_ = yield from room(self._pool_id, pool_limit, (*queue[:2], False, *queue[3:]))
            if not ignoring:
                pool_free, free[queue[0]] = room_.pool_free, room_.queue_free
            most = LONGEST_LINE - len(line)
            found = yield from explaining.line(queue[0], self._now, most)
            line += self._with_itself(found, most) if queue[0] == own_id else found
            if queue[0] == own_id or len(line) >= LONGEST_LINE:
                break
        place = place_of(self._stored.run.id, line, pool_free, free)
        if place.stopped is not None and not ignoring:
            self._found.append(self._ahead(place, queues, pool_limit, pool_free, free))
        return place

    def _is_served(self, queue: Queue) -> Steps[bool]:
        """Whether runs of another queue can be taken before this one."""
        if queue[2]:
            return False
        found = yield from pools.read_queue(queue[0], self._now)
        return not self._is_polled or (found is not None and found["status"] is PoolStatus.READY)

    def _with_itself(self, found: list[Candidate], most: int) -> list[Candidate]:
        """The line up to the run, which stands in it although its deployment is full."""
        run = self._stored.run
        due = run.next_scheduled_start_time
        assert due is not None
        before = [one for one in found if (one.due, one.id) < (due, run.id)]
        if len(before) == most:
            return before
        itself = next((one for one in found if one.id == run.id), None)
        assert run.work_queue_id is not None
        return [*before, itself or Candidate(run.id, run.work_queue_id, run.name, due)]

    def _ahead(
        self,
        place: Place,
        queues: list[Queue],
        pool_limit: int | None,
        pool_free: int,
        queues_free: dict[UUID, int],
    ) -> b.RunsAhead:
        run, of, ahead = self._stored.run, place.stopped, place.ahead
        assert of is not None
        name: str | None = self._pool_name
        limit, free = pool_limit, pool_free
        if of == "deployment":
            ahead = [one for one in ahead if one.deployment_id == run.deployment_id]
            name, limit = self._stored.deployment_name, self._stored.slot_limit
            free = ahead[0].slots_free or 0
        elif of == "work_queue":
            ahead = [one for one in ahead if one.queue_id == run.work_queue_id]
            name = run.work_queue_name
            limit = next(queue[3] for queue in queues if queue[0] == run.work_queue_id)
            free = queues_free[ahead[0].queue_id]
        return b.RunsAhead(
            of=of,
            name=name or "",
            limit=limit or 0,
            free=free,
            ahead=len(ahead),
            runs=[b.AheadRun(flow_run_id=one.id, name=one.name) for one in ahead[: b.SHOWN_HOLDERS]],
        )

    def _workers(self, own: Queue) -> Steps[None]:
        """Whether somebody asks for runs of the queue, and has hands free."""
        now, stored = self._now, self._stored
        queue = yield from pools.read_queue(own[0], now)
        polled = queue["last_polled"] if queue else None
        self._is_polled = polled_status(False, polled, now) is PoolStatus.READY
        seen = yield from worker_instances.read_many(
            now - POLL_TIMEOUT, MOST_WORKERS, 0, work_pool_id=self._pool_id
        )
        stand = [(one, instance_status(one, now)[0]) for one in seen]
        able = [one for one, status in stand if status is InstanceStatus.ONLINE]
        if self._is_polled and (able or not seen):
            self._found += self._busy(able)
            return
        workers: list[dict[str, Any]] = yield from pools.read_workers(
            Query("workers", limit=MOST_WORKERS), now, self._pool_id
        )
        beats = [one for one in workers if one["last_heartbeat_time"] is not None]
        last = max(beats, key=lambda one: one["last_heartbeat_time"], default=None)
        gone = {one.name for one, _ in stand} - {one.name for one in able}
        online = {one["name"] for one in workers if one["status"] is WorkerStatus.ONLINE} - gone
        draining = {one.name for one, status in stand if status is InstanceStatus.DRAINING}
        if self._is_polled and online:
            return
        self._found.append(
            b.NobodyPolls(
                work_pool_name=self._pool_name,
                work_pool_type=stored.pool_type,
                work_queue_name=own[1],
                last_polled=polled,
                online=sorted(online),
                draining=[] if online else sorted(draining),
                last_worker=last["name"] if last else None,
                last_seen=last["last_heartbeat_time"] if last else None,
            )
        )

    def _busy(self, able: list[WorkerInstance]) -> list[Blocker]:
        """Every worker that is able to takes a number of runs at most, and has as many."""
        loads = [
            b.WorkerLoad(name=one.name, runs=len(one.about.runs), capacity=one.about.capacity)
            for one in able
            if one.about.capacity is not None and len(one.about.runs) >= one.about.capacity
        ]
        full = bool(loads) and len(loads) == len(able)
        return [b.WorkersBusy(work_pool_name=self._pool_name, workers=loads)] if full else []
