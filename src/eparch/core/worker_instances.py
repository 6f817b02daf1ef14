"""Instances of workers: each process that serves a pool, how it stands, and what it says (rows W11-W13, W29).

A worker is known by its name; a restart is another instance of the same name. Owns what an instance tells,
what it is told, and how its status follows from what was seen of it. Does not own claims.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta
from msgspec.structs import replace

from eparch.core.model import Body, Name, Record, Timestamp, Value

HEARTBEAT_SECONDS = 30.0
"""Between two heartbeats of a worker that does not say how often it sends them."""

MISSED = 3
"""Heartbeats, or polls, that are missing when a worker does not do so any more (row W13)."""

WRITE_EVERY = timedelta(seconds=5)
"""A worker that asks more often than this is seen, but not written down each time."""

MAX_LINES = 200
"""Of one request."""

KEPT_LINES = 2000
"""Of one instance; older ones are dropped."""

KEPT_INSTANCES = 1000
"""Of one pool; those that were not seen for the longest are forgotten."""

MAX_RUNS = 1000

Word = Annotated[str, Meta(max_length=255)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class InstanceStatus(StrEnum):
    """How an instance stands, computed when it is read."""

    ONLINE = "ONLINE"
    """It sends heartbeats and asks for runs."""
    DRAINING = "DRAINING"
    """It finishes its runs and takes no more."""
    UNHEALTHY = "UNHEALTHY"
    """It does one of the two only (row W12)."""
    OFFLINE = "OFFLINE"
    """It does neither, or said that it ends."""


class WorkerOrder(StrEnum):
    """What the server wants of an instance (row W18)."""

    WORK = "work"
    DRAIN = "drain"
    """Take no more runs."""
    EXIT = "exit"
    """Take no more runs, and end when the last one is over."""


class About(Body, frozen=True, kw_only=True):
    """What a process says of itself."""

    host: Word | None = None
    pid: Count | None = None
    software: Word | None = None
    """``eparch`` or ``prefect``."""
    version: Word | None = None
    python: Word | None = None
    platform: Word | None = None
    types: Annotated[list[Word], Meta(max_length=100)] = []
    """Types of infrastructure that are installed."""
    labels: Annotated[dict[Word, Word], Meta(max_length=100)] = {}
    capacity: Count | None = None
    """Most runs at once; None is no limit."""
    runs: Annotated[list[UUID], Meta(max_length=MAX_RUNS)] = []
    """Runs that it has now."""


def within_bounds(interval: int | None) -> int | None:
    """The interval of heartbeats that a client of Prefect's said, as it can be reckoned with, in seconds."""
    return None if interval is None else min(max(interval, 1), 86_400)


class WorkerReport(Body, frozen=True, kw_only=True):
    """``POST /work_pools/{name}/workers/report``: the heartbeat of a worker of ours."""

    id: UUID
    name: Name
    started_at: Timestamp
    heartbeat_interval_seconds: Seconds
    poll_interval_seconds: Seconds | None = None
    """It asks for runs at least so often while it takes any."""
    draining: bool = False
    stopped: bool = False
    """This is its last word."""
    about: About = About()


class WorkerOrders(Value, frozen=True, kw_only=True):
    """What a report is answered."""

    order: WorkerOrder = WorkerOrder.WORK


class DrainWorker(Body, frozen=True, kw_only=True):
    """``POST /work_pools/{name}/workers/{worker}/drain``."""

    order: WorkerOrder = WorkerOrder.DRAIN


class WorkerInstance(Record, frozen=True, kw_only=True):
    """A process that serves, or served, a pool; ``created`` is when it was first seen."""

    name: str
    work_pool_id: UUID
    work_pool_name: str
    status: InstanceStatus = InstanceStatus.OFFLINE
    reason: str = ""
    """Why it has this status, where that is not plain."""
    order: WorkerOrder = WorkerOrder.WORK
    draining: bool = False
    started_at: Timestamp
    last_polled_at: Timestamp | None = None
    last_heartbeat_at: Timestamp | None = None
    stopped_at: Timestamp | None = None
    heartbeat_interval_seconds: float | None = None
    poll_interval_seconds: float | None = None
    """None: it asks without saying who it is, as Prefect's workers do."""
    about: About = About()


class InstanceQuery(Body, frozen=True, kw_only=True):
    """``POST /worker_instances/filter``: newest first."""

    work_pool_name: str | None = None
    name: str | None = None
    limit: Annotated[int, Meta(ge=0)] | None = None
    offset: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0


class WorkerLineCreate(Body, frozen=True, kw_only=True):
    """A line that a worker said."""

    timestamp: Timestamp
    level: Annotated[int, Meta(ge=0, le=1_000_000)]
    message: Annotated[str, Meta(max_length=10_000)]


class WorkerLines(Body, frozen=True, kw_only=True):
    """``POST /worker_instances/{id}/logs``."""

    lines: Annotated[list[WorkerLineCreate], Meta(max_length=MAX_LINES)]


class WorkerLine(Value, frozen=True, kw_only=True):
    """A line that is kept; ids grow."""

    id: UUID
    instance_id: UUID
    timestamp: Timestamp
    level: int
    message: str


class LineQuery(Body, frozen=True, kw_only=True):
    """``POST /work_pools/{name}/workers/{worker}/logs``: the last lines, or those after ``after``."""

    after: UUID | None = None
    least_level: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    limit: Annotated[int, Meta(ge=0)] | None = None


def instance_status(one: WorkerInstance, now: datetime, missed: float = MISSED) -> tuple[InstanceStatus, str]:
    """How the instance stands at ``now``, and why; ``missed`` heartbeats or polls are as good as none."""
    if one.stopped_at is not None:
        return InstanceStatus.OFFLINE, "It has ended."
    beats = _is_fresh(one.last_heartbeat_at, one.heartbeat_interval_seconds or HEARTBEAT_SECONDS, now, missed)
    polling = one.poll_interval_seconds
    # One that has just begun has not asked yet.
    asked = max(filter(None, (one.last_polled_at, one.created)), default=None)
    polls = polling is None or _is_fresh(asked, polling, now, missed)
    if one.draining or one.order is not WorkerOrder.WORK:
        if beats:
            return InstanceStatus.DRAINING, "It finishes its runs and takes no more."
        return InstanceStatus.OFFLINE, f"Its last heartbeat came {_ago(one.last_heartbeat_at, now)}."
    if beats and polls:
        return InstanceStatus.ONLINE, ""
    if beats:
        return InstanceStatus.UNHEALTHY, f"It sends heartbeats, but asked for runs {_ago(asked, now)}."
    if polls and polling is not None:
        seen = _ago(one.last_heartbeat_at, now)
        return InstanceStatus.UNHEALTHY, f"It asks for runs, but its last heartbeat came {seen}."
    return InstanceStatus.OFFLINE, f"Its last heartbeat came {_ago(one.last_heartbeat_at, now)}."


def _is_fresh(seen: datetime | None, interval: float, now: datetime, missed: float) -> bool:
    return seen is not None and now - seen <= timedelta(seconds=interval * missed)


def _ago(seen: datetime | None, now: datetime) -> str:
    return "never" if seen is None else f"{max(round((now - seen).total_seconds()), 0)} s ago"


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long an instance counts, from the settings."""

    missed: float = MISSED
    """Heartbeats or polls that may be missing."""
    forget_seconds: float = 7 * 86_400.0
    """After which an instance that is not seen is forgotten."""

    def since(self, now: datetime) -> datetime:
        """Who was not seen since then is forgotten."""
        return now - timedelta(seconds=self.forget_seconds)

    def shown(self, one: WorkerInstance, now: datetime) -> WorkerInstance:
        """``one`` with its status."""
        status, reason = instance_status(one, now, self.missed)
        return replace(one, status=status, reason=reason)
