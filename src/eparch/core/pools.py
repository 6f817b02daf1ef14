"""Work pools, queues, workers and claims: records and bodies.

A claim is what makes a start happen once (rows W15, W16): who may start the run, until when, and the
fencing token that every later write of the run's process carries.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from eparch.core.deployments import Deployment, Flow, Limit
from eparch.core.model import UNSET, Body, Json, Name, Patch, Record, Timestamp, UnsetType, Value
from eparch.core.runs import FlowRun
from eparch.core.worker_instances import HEARTBEAT_SECONDS, MISSED, WorkerOrder

DEFAULT_QUEUE = "default"
"""Every pool has a queue of this name from the start (wire 4.4)."""

Priority = Annotated[int, Meta(gt=0, le=2**31 - 1)]


class PoolStatus(StrEnum):
    """Of a pool or queue (wire 4.4)."""

    READY = "READY"
    NOT_READY = "NOT_READY"
    PAUSED = "PAUSED"


class WorkerStatus(StrEnum):
    """Of a worker, computed when read (row W13)."""

    ONLINE = "ONLINE"
    OFFLINE = "OFFLINE"


class StorageConfiguration(Value, frozen=True, kw_only=True):
    """Where a pool keeps bundles (wire: ``WorkPoolStorageConfiguration``)."""

    bundle_upload_step: dict[str, Json] | None = None
    bundle_execution_step: dict[str, Json] | None = None
    default_result_storage_block_id: UUID | None = None


class WorkPool(Record, frozen=True, kw_only=True):
    """A typed pool of work (wire: ``WorkPoolResponse``)."""

    name: str
    description: str | None = None
    type: str
    base_job_template: dict[str, Json] = {}
    is_paused: bool = False
    concurrency_limit: Limit | None = None
    status: PoolStatus | None = None
    default_queue_id: UUID | None = None
    storage_configuration: StorageConfiguration = msgspec.field(default_factory=StorageConfiguration)
    active_slots: int | None = None


class WorkPoolCreate(Body, frozen=True, kw_only=True):
    """``POST /work_pools/``."""

    name: Name
    description: str | None = None
    type: str = "prefect-agent"
    base_job_template: dict[str, Json] = {}
    is_paused: bool = False
    concurrency_limit: Limit | None = None
    storage_configuration: StorageConfiguration = msgspec.field(default_factory=StorageConfiguration)


class WorkPoolUpdate(Patch, frozen=True, kw_only=True):
    """``PATCH /work_pools/{name}``."""

    description: str | UnsetType | None = UNSET
    is_paused: bool | UnsetType | None = UNSET
    base_job_template: dict[str, Json] | UnsetType | None = UNSET
    concurrency_limit: Limit | UnsetType | None = UNSET
    storage_configuration: StorageConfiguration | UnsetType | None = UNSET


class WorkQueue(Record, frozen=True, kw_only=True):
    """A queue of a pool; lower ``priority`` numbers go first (wire: ``WorkQueueResponse``)."""

    name: str
    description: str | None = ""
    is_paused: bool = False
    concurrency_limit: Limit | None = None
    priority: int = 1
    work_pool_id: UUID | None = None
    work_pool_name: str | None = None
    filter: dict[str, Json] | None = None
    last_polled: Timestamp | None = None
    status: PoolStatus | None = None
    active_slots: int | None = None


class WorkQueueCreate(Body, frozen=True, kw_only=True):
    """``POST /work_pools/{name}/queues``."""

    name: Name
    description: str | None = ""
    is_paused: bool = False
    concurrency_limit: Limit | None = None
    priority: Priority | None = None
    filter: dict[str, Json] | None = None


class WorkQueueUpdate(Patch, frozen=True, kw_only=True):
    """``PATCH /work_pools/{name}/queues/{queue}``."""

    name: Name | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    is_paused: bool | UnsetType = UNSET
    concurrency_limit: Limit | UnsetType | None = UNSET
    priority: Priority | UnsetType | None = UNSET
    last_polled: Timestamp | UnsetType | None = UNSET
    filter: dict[str, Json] | UnsetType | None = UNSET


class Worker(Record, frozen=True, kw_only=True):
    """A worker, known by its name in a pool (wire: ``WorkerResponse``)."""

    name: str
    work_pool_id: UUID
    last_heartbeat_time: Timestamp | None = None
    heartbeat_interval_seconds: int | None = None
    status: WorkerStatus = WorkerStatus.OFFLINE


class Heartbeat(Body, frozen=True, kw_only=True):
    """``POST /work_pools/{name}/workers/heartbeat``."""

    name: Name
    heartbeat_interval_seconds: int | None = None


class DueRuns(Body, frozen=True, kw_only=True):
    """``POST /work_pools/{name}/get_scheduled_flow_runs``: what stock workers poll with."""

    work_queue_names: list[str] = []
    scheduled_before: Timestamp | None = None
    scheduled_after: Timestamp | None = None
    limit: int | None = None


class DueRun(Value, frozen=True, kw_only=True):
    """A due run and where it waits (wire: ``WorkerFlowRunResponse``)."""

    work_pool_id: UUID
    work_queue_id: UUID
    flow_run: FlowRun


class Claim(Value, frozen=True, kw_only=True):
    """The right to start one run: held by ``worker_name`` until ``lease_until``."""

    flow_run_id: UUID
    claim_id: UUID
    token: int
    worker_name: str | None = None
    work_pool_id: UUID | None = None
    work_queue_id: UUID | None = None
    claimed_at: Timestamp
    lease_until: Timestamp | None = None
    """None: the claimer renews nothing (a stock worker), so nothing lapses."""

    def lapsed(self, now: datetime) -> bool:
        """Its holder did not renew it in time."""
        return self.lease_until is not None and self.lease_until <= now


class ShownToken(Value, frozen=True, kw_only=True):
    """A fencing token as a process shows it with what it writes, and the run that it is of (W15)."""

    token: int
    flow_run_id: UUID | None = None
    """None: it does not say, so the token is held to be for whichever run is written."""

    @property
    def header(self) -> str:
        """As it is sent: ``<run>:<token>``."""
        return f"{self.flow_run_id}:{self.token}" if self.flow_run_id else str(self.token)

    @staticmethod
    def read(header: str) -> ShownToken | None:
        """What was sent, with or without the run; None: it is neither."""
        run_id, _, token = header.rpartition(":")
        if not (token.isascii() and token.isdigit()) or len(token) > 18:
            return None
        try:
            return ShownToken(token=int(token), flow_run_id=UUID(run_id) if run_id else None)
        except ValueError:
            return None


class ClaimRuns(Body, frozen=True, kw_only=True):
    """``POST /work_pools/{name}/claim``: move due runs to PENDING and hold them (rows W15, W16).

    The same ``claim_id`` again answers the runs that it already claimed, so a lost answer loses no run.
    ``wait_seconds`` > 0 keeps the request open until there is work or somebody to cancel.
    """

    claim_id: UUID
    worker_name: Name
    work_queue_names: list[str] = []
    limit: Annotated[int, Meta(ge=0, le=1000)] = 1
    lease_seconds: Annotated[float, Meta(gt=0, le=3600)] = 24.0
    prefetch_seconds: Annotated[float, Meta(ge=0, le=86400)] = 0.0
    wait_seconds: Annotated[float, Meta(ge=0, le=60)] = 0.0
    holding: list[UUID] = []
    """Runs that this worker runs now: it is told when one of them is to be cancelled."""
    instance_id: UUID | None = None
    """The process that asks, as it reports itself (row W11)."""
    order: WorkerOrder = WorkerOrder.WORK
    """What the worker does now; it is told as soon as it is to do something else."""


class ClaimServed(ClaimRuns, frozen=True, kw_only=True):
    """``POST /deployments/claim``: the same for runs that no pool has, of deployments that a process serves.

    It has no queues, and is no worker of a pool that could be drained (row D23).
    """

    deployment_ids: Annotated[list[UUID], Meta(min_length=1, max_length=1000)]


class ClaimedRun(Value, frozen=True, kw_only=True):
    """A run that the claimer may start, with all that it needs to start it."""

    claim: Claim
    flow_run: FlowRun
    deployment: Deployment | None = None
    flow: Flow | None = None


class Work(Value, frozen=True, kw_only=True):
    """What there is to do for a worker."""

    runs: list[ClaimedRun] = []
    cancel: list[UUID] = []
    order: WorkerOrder = WorkerOrder.WORK


class ClaimRef(Value, frozen=True, kw_only=True):
    """A claim as its holder names it."""

    flow_run_id: UUID
    token: int


class RenewClaims(Body, frozen=True, kw_only=True):
    """``POST /work_pools/{name}/claims/renew``."""

    claims: list[ClaimRef]
    lease_seconds: Annotated[float, Meta(gt=0, le=3600)] = 24.0


class Renewed(Value, frozen=True, kw_only=True):
    """Which of the claims still stand; the holder of a lost one stops its job at once."""

    kept: list[UUID] = []
    lost: list[UUID] = []


POLL_TIMEOUT = timedelta(seconds=60)
"""A queue or deployment that nobody polled for this long is NOT_READY (row W14)."""


def worker_status(
    worker_seen: datetime | None, interval: float | None, now: datetime, missed: float = MISSED
) -> WorkerStatus:
    """ONLINE while the last heartbeat is younger than ``missed`` intervals (row W13)."""
    if worker_seen is None:
        return WorkerStatus.OFFLINE
    bound = timedelta(seconds=missed * (interval or HEARTBEAT_SECONDS))
    return WorkerStatus.ONLINE if now - worker_seen <= bound else WorkerStatus.OFFLINE


def polled_status(is_paused: bool, last_polled: datetime | None, now: datetime) -> PoolStatus:
    """PAUSED, else READY while polled within ``POLL_TIMEOUT`` (row W14)."""
    if is_paused:
        return PoolStatus.PAUSED
    ready = last_polled is not None and now - last_polled <= POLL_TIMEOUT
    return PoolStatus.READY if ready else PoolStatus.NOT_READY
