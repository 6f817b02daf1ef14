"""How a queue and a pool stand: health, slots that are taken and by whom (wire: ``WorkQueueStatusDetail``,
``*ConcurrencyStatus``)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from eparch.core.model import Body, Timestamp, Value
from eparch.core.pools import POLL_TIMEOUT
from eparch.core.states import StateType

DEFAULT_POOL = "default-agent-pool"
"""The pool of the queues that are made without one, as agents had them."""

MAX_PAGE = 2**31


class HealthPolicy(Value, frozen=True, kw_only=True):
    """When a queue is healthy."""

    maximum_late_runs: int | None = 0
    maximum_seconds_since_last_polled: int | None = int(POLL_TIMEOUT.total_seconds())

    def admits(self, late_runs: int, last_polled: datetime | None, now: datetime) -> bool:
        """Whether a queue with so many late runs, polled at that time, is healthy at ``now``."""
        most, seconds = self.maximum_late_runs, self.maximum_seconds_since_last_polled
        if most is not None and late_runs > most:
            return False
        if seconds is None:
            return True
        return last_polled is not None and now - last_polled <= timedelta(seconds=seconds)


class QueueHealth(Value, frozen=True, kw_only=True):
    """Whether a queue is served as it should be."""

    healthy: bool
    late_runs_count: int = 0
    last_polled: Timestamp | None = None
    health_check_policy: HealthPolicy = msgspec.field(default_factory=HealthPolicy)


class SlotHolder(Value, frozen=True, kw_only=True):
    """A run that holds a slot; the time in its state in seconds (wire: ``FlowRunSlotSummary``)."""

    id: UUID
    name: str
    state_type: StateType | None = None
    state_name: str | None = None
    start_time: Timestamp | None = None
    state_timestamp: Timestamp | None = None
    time_in_current_state: float | None = None


class SlotsPage(Body, frozen=True, kw_only=True):
    """Which page of those who hold slots."""

    page: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 1
    limit: int | None = None


class PoolSlotsPage(SlotsPage, frozen=True, kw_only=True):
    """Which page of a pool's queues, and how many runs of each."""

    flow_run_limit: Annotated[int, Meta(ge=0, le=200)] = 10


class QueueSlots(Value, frozen=True, kw_only=True):
    """The slots of a queue and a page of the runs that hold them."""

    active_slots: int
    concurrency_limit: int | None = None
    flow_runs: list[SlotHolder] = []
    count: int
    limit: int
    pages: int
    page: int


class QueueSlotsOfPool(Value, frozen=True, kw_only=True):
    """The slots of one of a pool's queues."""

    queue_id: UUID
    queue_name: str
    active_slots: int
    concurrency_limit: int | None = None
    flow_runs: list[SlotHolder] = []
    flow_run_count: int | None = None


class PoolSlots(Value, frozen=True, kw_only=True):
    """The slots of a pool and a page of its queues."""

    active_slots: int
    concurrency_limit: int | None = None
    queues: list[QueueSlotsOfPool] = []
    count: int
    limit: int
    pages: int
    page: int


class QueueRuns(Body, frozen=True, kw_only=True):
    """``POST /work_queues/{id}/get_runs``."""

    limit: int | None = None
    scheduled_before: Timestamp | None = None
