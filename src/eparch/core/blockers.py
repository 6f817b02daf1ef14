"""Why a run is waiting: every reason as a value, with what it says and what to do (pain 4, P14-P16).

Owns the reasons and their sentences. Which of them hold is found by the conditions of the claim itself, in
``orchestration.explaining``; who is served before whom is in ``claim_order``.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta

from eparch.core.agents import AGENT_TYPE
from eparch.core.causes import Cause, command, counted, since_when, when
from eparch.core.claim_order import LimitOf
from eparch.core.deployments import CollisionStrategy
from eparch.core.model import Body, Timestamp, Value
from eparch.core.spans import ago, span
from eparch.core.states import StateType

SHOWN_HOLDERS = 10
"""Of those who hold slots, or stand ahead, so many are named."""

_LIMITED = {"work_pool": "work pool", "work_queue": "work queue", "deployment": "deployment"}


class Holding(Value, frozen=True, kw_only=True):
    """A run that holds a slot of a pool, a queue or a deployment (row P16)."""

    flow_run_id: UUID
    name: str
    state_type: StateType | None = None
    state_name: str | None = None
    work_queue_name: str | None = None
    worker_name: str | None = None
    since: Timestamp
    lease_until: Timestamp | None = None
    """None: who holds it renews nothing, so nothing lapses."""


class LimitHolding(Value, frozen=True, kw_only=True):
    """A lease that holds slots of a named limit."""

    lease_id: UUID
    holder_type: str | None = None
    holder_id: UUID | None = None
    name: str | None = None
    """Of the run that holds it."""
    slots: int
    since: Timestamp
    lease_until: Timestamp


class HoldersPage(Body, frozen=True, kw_only=True):
    """Which page of those who hold slots, the longest first."""

    limit: Annotated[int, Meta(ge=0)] | None = None
    offset: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class AheadRun(Value, frozen=True, kw_only=True):
    """A run that is served first."""

    flow_run_id: UUID
    name: str


class WorkerLoad(Value, frozen=True, kw_only=True):
    """How many runs a worker has, and how many it takes at most."""

    name: str
    runs: int
    capacity: int


# Runs that wait for a claim


class ScheduledLater(Cause, frozen=True, kw_only=True, tag="scheduled_later"):
    """Its time has not come."""

    at: Timestamp

    def says(self, now: datetime) -> str:
        """The time."""
        return f"It is scheduled for {when(self.at, now)}."

    def ends_at(self) -> datetime | None:
        """Its time."""
        return self.at


class NotServed(Cause, frozen=True, kw_only=True, tag="not_served"):
    """It is in no work pool, and no process serves its deployment."""

    deployment_id: UUID | None = None
    deployment_name: str | None = None
    last_polled: Timestamp | None = None

    def says(self, now: datetime) -> str:
        """Who would have to ask for it."""
        if self.deployment_id is None:
            return "It has neither a deployment nor a work pool: only the process that made it can begin it."
        asked = f"asked last {since_when(self.last_polled, now)}" if self.last_polled else "never asked"
        name = self.deployment_name or self.deployment_id
        return f"Its deployment '{name}' has no work pool, and no process serves it ({asked} for its runs)."

    def todo(self) -> list[str]:
        """Serve it, or give it a pool."""
        if self.deployment_id is None:
            return []
        return [
            "Start the process that calls `serve()`.",
            "Or deploy it to a pool: eparch deploy --pool NAME",
        ]


class WorkPoolPaused(Cause, frozen=True, kw_only=True, tag="work_pool_paused"):
    """Its work pool is paused."""

    work_pool_name: str

    def says(self, now: datetime) -> str:
        """Which pool."""
        return f"The work pool '{self.work_pool_name}' is paused."

    def todo(self) -> list[str]:
        """Resume it."""
        return [command("work-pool", "resume", self.work_pool_name)]


class WorkQueuePaused(Cause, frozen=True, kw_only=True, tag="work_queue_paused"):
    """Its work queue is paused."""

    work_pool_name: str
    work_queue_name: str

    def says(self, now: datetime) -> str:
        """Which queue."""
        return f"The work queue '{self.work_queue_name}' of the pool '{self.work_pool_name}' is paused."

    def todo(self) -> list[str]:
        """Resume it."""
        return [command("work-queue", "resume", self.work_queue_name, "--pool", self.work_pool_name)]


class NobodyPolls(Cause, frozen=True, kw_only=True, tag="nobody_polls"):
    """No worker asks for the runs of its queue."""

    work_pool_name: str
    work_pool_type: str | None = None
    work_queue_name: str
    last_polled: Timestamp | None = None
    online: list[str] = []
    """Workers of the pool that live."""
    draining: list[str] = []
    """Those that finish their runs and take no more, where no other is left."""
    last_worker: str | None = None
    """The one that was seen last."""
    last_seen: Timestamp | None = None

    def says(self, now: datetime) -> str:
        """Who is missing, and since when."""
        polled = f"last {since_when(self.last_polled, now)}" if self.last_polled else "so far nobody has"
        if self.draining:
            names = ", ".join(f"'{name}'" for name in self.draining[:SHOWN_HOLDERS])
            return (
                f"Every worker of the work pool '{self.work_pool_name}' that is left finishes its runs "
                f"and takes no more: {names}."
            )
        if self.online:
            names = ", ".join(f"'{name}'" for name in self.online[:SHOWN_HOLDERS])
            return (
                f"No worker asks for runs of the work queue '{self.work_queue_name}' ({polled}); "
                f"online in the pool '{self.work_pool_name}': {names}."
            )
        if self.last_worker is not None and self.last_seen is not None:
            seen = f"'{self.last_worker}' was seen last, {since_when(self.last_seen, now)}"
        else:
            seen = "there has never been one"
        return f"No worker of the work pool '{self.work_pool_name}' is online: {seen}."

    def todo(self) -> list[str]:
        """Start a worker for the queue."""
        if self.work_pool_type == AGENT_TYPE:
            return [f"Start an agent: {shlex.join(['prefect', 'agent', 'start', '-p', self.work_pool_name])}"]
        start = ("worker", "start", "--pool", self.work_pool_name)
        if self.online and not self.draining:
            return [command(*start, "--work-queue", self.work_queue_name)]
        return [command(*start)]


class WorkersBusy(Cause, frozen=True, kw_only=True, tag="workers_busy"):
    """Every worker that is online has as many runs as it takes."""

    work_pool_name: str
    workers: list[WorkerLoad]

    def says(self, now: datetime) -> str:
        """Who is full."""
        loads = ", ".join(f"'{w.name}' {w.runs} of {w.capacity}" for w in self.workers[:SHOWN_HOLDERS])
        return f"Every worker of the work pool '{self.work_pool_name}' has as many runs as it takes: {loads}."

    def todo(self) -> list[str]:
        """Start another."""
        return [command("worker", "start", "--pool", self.work_pool_name), "Or give one a larger --limit."]


class LimitFull(Cause, frozen=True, kw_only=True, tag="limit_full"):
    """All slots of a limit are taken."""

    of: LimitOf
    name: str
    """Of the pool, the queue or the deployment."""
    work_pool_name: str | None = None
    limit: int
    taken: int
    holders: list[Holding] = []
    """Those who have held a slot for the longest."""
    strategy: CollisionStrategy | None = None
    """What a deployment does with a run that meets the full limit."""

    def says(self, now: datetime) -> str:
        """Which limit, and who holds it."""
        place = f"the {_LIMITED[self.of]} '{self.name}'"
        if self.limit == 0:
            return f"The concurrency limit of {place} is 0, so none of its runs may begin."
        held = _held(self.holders, self.taken, now)
        text = f"All {counted(self.limit, 'slot')} of {place} are taken{held}."
        if self.limit == 1:
            text = f"The only slot of {place} is taken{held}."
        if self.strategy is CollisionStrategy.CANCEL_NEW:
            text += " The deployment cancels new runs: the next worker that asks has this one cancelled."
        elif self.strategy is CollisionStrategy.CANCEL_RUNNING:
            text += " The newest run takes over: the oldest one is asked to stop."
        return text

    def todo(self) -> list[str]:
        """See who holds them, or raise the limit."""
        more = max(self.limit, self.taken) + 1
        if self.of == "work_pool":
            return [
                command("work-pool", "slots", self.name),
                command("work-pool", "set-concurrency-limit", self.name, more),
            ]
        if self.of == "work_queue":
            pool = ("--pool", self.work_pool_name) if self.work_pool_name else ()
            return [
                command("work-queue", "slots", self.name, *pool),
                command("work-queue", "set-concurrency-limit", self.name, more, *pool),
            ]
        stop = [f"Wait, or stop it: {command('flow-run', 'cancel', one.flow_run_id)}" for one in self.holders]
        return [*stop[:1], f"Or deploy with a higher limit: eparch deploy --concurrency-limit {more}"]


def _held(holders: Sequence[Holding], taken: int, now: datetime) -> str:
    """Who holds the slots, in a few words."""
    if not holders:
        return ""
    first = holders[0]
    since = span((now - first.since).total_seconds())
    text = f", by '{first.name}' ({first.state_name}) for {since}"
    return text if taken <= 1 else f"{text} and {counted(taken - 1, 'other run')}"


class RunsAhead(Cause, frozen=True, kw_only=True, tag="runs_ahead"):
    """Runs that are served before it take all the slots that are free."""

    of: LimitOf
    name: str
    limit: int
    free: int
    ahead: int
    runs: list[AheadRun] = []
    """The next of them."""

    def says(self, now: datetime) -> str:
        """How many stand before it."""
        names = ", ".join(f"'{run.name}'" for run in self.runs[:3])
        more = ", ..." if self.ahead > 3 else ""
        return (
            f"{counted(self.ahead, 'run')} of higher priority or earlier time "
            f"{'takes' if self.ahead == 1 else 'take'} what is free of the {_LIMITED[self.of]} "
            f"'{self.name}' ({self.free} of {counted(self.limit, 'slot')}): {names}{more}."
        )

    def todo(self) -> list[str]:
        """Nothing that is right for everybody: a queue of higher priority, or a higher limit."""
        return ["Give it a work queue of higher priority, or raise the limit."]


class Refused(Cause, frozen=True, kw_only=True, tag="refused"):
    """A rule refuses its start."""

    rule: str
    reason: str

    def says(self, now: datetime) -> str:
        """What the rule says."""
        return f"Its start is refused: {self.reason}"


# Runs that somebody has, or that wait for a person


class RetryWaits(Cause, frozen=True, kw_only=True, tag="retry_waits"):
    """Its own process waits, and will try again."""

    at: Timestamp
    worker_name: str | None = None
    lease_until: Timestamp | None = None

    def says(self, now: datetime) -> str:
        """When it is tried again."""
        return f"It failed, and its own process tries again at {when(self.at, now)}."

    def ends_at(self) -> datetime | None:
        """When it is tried again."""
        return self.at


class RunPaused(Cause, frozen=True, kw_only=True, tag="run_paused"):
    """It waits for somebody to resume it."""

    flow_run_id: UUID
    suspended: bool
    until: Timestamp | None = None
    """After this it fails."""

    def says(self, now: datetime) -> str:
        """That it must be resumed."""
        how = "suspended" if self.suspended else "paused"
        text = f"It is {how} until somebody resumes it"
        return f"{text}; it fails at {when(self.until, now)}." if self.until else f"{text}."

    def todo(self) -> list[str]:
        """Resume it."""
        return [command("flow-run", "resume", self.flow_run_id)]


class Claimed(Cause, frozen=True, kw_only=True, tag="claimed"):
    """A worker took it and has not begun it."""

    flow_run_id: UUID
    worker_name: str | None = None
    since: Timestamp
    lease_until: Timestamp | None = None
    has_claim: bool = True
    state_name: str = "Pending"
    reason: str = ""
    """What the worker says of its infrastructure (row W21)."""

    def says(self, now: datetime) -> str:
        """Who has it, how far it has come, and until when."""
        who = f"The worker '{self.worker_name}'" if self.worker_name else "Somebody"
        text = f"{who} took it {since_when(self.since, now)} and has not begun it yet"
        if self.state_name != "Pending" or self.reason:
            text += f": {self.state_name}" + (f", {self.reason}" if self.reason else "")
        text = text.rstrip(".") + "."
        if self.lease_until is not None and self.lease_until <= now:
            return f"{text} Its lease is over: it goes back to its queue."
        if self.lease_until is not None:
            return f"{text} Unless renewed, its claim lapses {ago(self.lease_until, now)} and it waits again."
        return text

    def todo(self) -> list[str]:
        """Nothing while a lease watches over it."""
        if self.lease_until is not None:
            return []
        return ["If nothing of it lives any more: " + command("flow-run", "cancel", self.flow_run_id)]


class RunRuns(Cause, frozen=True, kw_only=True, tag="running"):
    """It runs."""

    since: Timestamp
    worker_name: str | None = None
    infrastructure_pid: str | None = None

    def says(self, now: datetime) -> str:
        """Since when, and where."""
        where = f" on the worker '{self.worker_name}'" if self.worker_name else ""
        place = f" ({self.infrastructure_pid})" if self.infrastructure_pid else ""
        return f"It does not wait: it began {since_when(self.since, now)}{where}{place}."


class RunStops(Cause, frozen=True, kw_only=True, tag="stopping"):
    """It was asked to stop."""

    since: Timestamp
    worker_name: str | None = None

    def says(self, now: datetime) -> str:
        """Since when, and who has to stop it."""
        whom = f"; the worker '{self.worker_name}' stops it" if self.worker_name else ""
        return f"It was asked to stop {since_when(self.since, now)}{whom}."


class RunEnded(Cause, frozen=True, kw_only=True, tag="ended"):
    """It is over."""

    flow_run_id: UUID
    state_type: StateType
    state_name: str
    at: Timestamp
    reason: str = ""
    can_retry: bool = False

    def says(self, now: datetime) -> str:
        """How it ended, and why."""
        why = f": {self.reason}" if self.reason else "."
        return f"It does not wait: it ended as {self.state_name} {since_when(self.at, now)}{why}"

    def todo(self) -> list[str]:
        """Run it again."""
        if not self.can_retry or self.state_type is StateType.COMPLETED:
            return []
        return [command("flow-run", "retry", self.flow_run_id)]


Blocker = (
    ScheduledLater
    | NotServed
    | WorkPoolPaused
    | WorkQueuePaused
    | NobodyPolls
    | WorkersBusy
    | LimitFull
    | RunsAhead
    | Refused
    | RetryWaits
    | RunPaused
    | Claimed
    | RunRuns
    | RunStops
    | RunEnded
)


class Reason(Value, frozen=True, kw_only=True):
    """A blocker with its words."""

    says: str
    todo: list[str] = []
    blocker: Blocker


class Explanation(Value, frozen=True, kw_only=True):
    """Why a flow run is waiting: ``GET /flow_runs/{id}/explain``, the most telling reason first."""

    flow_run_id: UUID
    name: str
    state_type: StateType | None = None
    state_name: str | None = None
    waiting: bool
    """It may run and does not yet; else it runs, is over, or is kept from it by a person."""
    summary: str
    """The answer in one sentence."""
    reasons: list[Reason] = []
    """All of them hold now, and each one alone keeps the run from starting."""
    ahead: int | None = None
    """Runs that a worker would be given before it, as far as they were counted; None: it is not in line."""
    ahead_is_least: bool = False
    not_before: Timestamp | None = None
    """It cannot start before, by what is known; nobody guesses when limits get free."""
    as_of: Timestamp


FREE = "Nothing blocks it: the next worker that asks is given it."
FREE_SERVED = "Nothing blocks it: the process that serves its deployment is given it as soon as it asks."


def reasons_of(blockers: Sequence[Blocker], now: datetime) -> list[Reason]:
    """The blockers with their words."""
    return [Reason(says=one.says(now), todo=one.todo(), blocker=one) for one in blockers]


def summary_of(blockers: Sequence[Blocker], ahead: int | None, now: datetime, *, served: bool = False) -> str:
    """The answer in one sentence."""
    if blockers:
        return blockers[0].says(now)
    text = FREE_SERVED if served else FREE
    return (
        f"{text} {counted(ahead, 'run')} {'stands' if ahead == 1 else 'stand'} before it." if ahead else text
    )


def not_before(blockers: Sequence[Cause]) -> datetime | None:
    """The latest time that a blocker names for its own end."""
    return max((at for one in blockers if (at := one.ends_at()) is not None), default=None)
