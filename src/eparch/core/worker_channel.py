"""Frames of the socket between a worker and the server, and how it ends (wire 4.3).

Owns the shapes of what is said and what of a hello is accepted. Does not own connections or storage.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from eparch.core.model import Body, Json, Name, Timestamp, Value

VERSION = "work_pool_worker_channel.v1"

HEARTBEAT = "worker_heartbeat.v1"
SNAPSHOT = "work_pool_snapshot.v1"
CLEANUP = "cleanup_delivery.v1"

REQUIRED = (HEARTBEAT, SNAPSHOT)
"""Capabilities without which there is no channel."""

MAX_ITEMS = 1000
"""Of any list in a frame."""

Text = Annotated[str, Meta(min_length=1, max_length=1000)]
Texts = Annotated[list[Text], Meta(max_length=MAX_ITEMS)]
SomeTexts = Annotated[list[Text], Meta(min_length=1, max_length=MAX_ITEMS)]
Seconds = Annotated[int, Meta(ge=1, le=86_400)]
Count = Annotated[int, Meta(ge=0, le=MAX_ITEMS)]


class CleanupKind(StrEnum):
    """What a worker can be asked to tear down."""

    CANCELLING_TIMEOUT = "cancelling_timeout_teardown.v1"
    PENDING_CLAIM = "pending_claim_teardown.v1"


class Ending(StrEnum):
    """Why the server ends a channel; workers read the reason before the code."""

    AUTHENTICATION_FAILED = "authentication_failed"
    AUTHORIZATION_FAILED = "authorization_failed"
    UNSUPPORTED_VERSION = "unsupported_version"
    PROTOCOL_ERROR = "protocol_error"
    HEARTBEAT_PERSISTENCE_FAILED = "heartbeat_persistence_failed"
    TRANSIENT_SERVER_ERROR = "transient_server_error"

    @property
    def code(self) -> int:
        """The close code (RFC 6455, 7.4) that goes with the reason."""
        if self is Ending.PROTOCOL_ERROR:
            return 1002
        retried = (Ending.HEARTBEAT_PERSISTENCE_FAILED, Ending.TRANSIENT_SERVER_ERROR)
        return 1011 if self in retried else 1008


class Hello(Body, frozen=True, kw_only=True):
    """What a worker says first."""

    consumer_id: UUID
    worker_name: Name
    worker_type: Name
    heartbeat_interval_seconds: Seconds
    supported_channel_versions: SomeTexts
    requested_capabilities: SomeTexts
    work_queue_names: Texts = []
    handled_cleanup_kinds: Annotated[list[CleanupKind], Meta(max_length=10)] = []
    max_cleanup_concurrency: Count | UnsetType = UNSET
    create_pool_if_not_found: bool = False
    default_base_job_template: dict[str, Json] = {}
    worker_metadata: dict[str, Json] | None = None

    def refusal(self) -> Ending | None:
        """Why there is no channel for this worker; None when there can be one."""
        asked = set(self.requested_capabilities)
        unasked = CLEANUP not in asked and (self.handled_cleanup_kinds or self.max_cleanup_concurrency)
        if unasked or not asked.issuperset(REQUIRED):
            return Ending.PROTOCOL_ERROR
        return None if VERSION in self.supported_channel_versions else Ending.UNSUPPORTED_VERSION

    @property
    def cleanups(self) -> int:
        """How many clean-ups the worker does at once; 0 when it takes none."""
        if CLEANUP not in self.requested_capabilities or not self.handled_cleanup_kinds:
            return 0
        return 1 if self.max_cleanup_concurrency is UNSET else self.max_cleanup_concurrency

    @property
    def accepted(self) -> list[str]:
        """The capabilities that both sides have."""
        return [*REQUIRED, CLEANUP] if self.cleanups else list(REQUIRED)


class Beat(Body, frozen=True, kw_only=True):
    """A worker that is alive says so."""

    consumer_id: UUID
    worker_name: Name
    heartbeat_interval_seconds: Seconds


class CleanupAnswer(Body, frozen=True, kw_only=True):
    """What a worker says of a clean-up that it holds: done, or that it needs more time."""

    message_id: UUID
    reservation_token: Text


class CleanupReturn(CleanupAnswer, frozen=True, kw_only=True):
    """A clean-up that a worker gives back."""

    reason: Text


class _Frame(Body, frozen=True, kw_only=True, tag_field="type"):
    id: UUID
    sent_at: Timestamp


class HelloFrame(_Frame, frozen=True, kw_only=True, tag="worker.hello.v1"):
    """Begins a channel."""

    payload: Hello


class BeatFrame(_Frame, frozen=True, kw_only=True, tag="worker.heartbeat.v1"):
    """Keeps the worker ONLINE."""

    payload: Beat


class AckFrame(_Frame, frozen=True, kw_only=True, tag="cleanup.ack.v1"):
    """A clean-up is done."""

    payload: CleanupAnswer


class ReleaseFrame(_Frame, frozen=True, kw_only=True, tag="cleanup.release.v1"):
    """A clean-up failed; somebody else may try."""

    payload: CleanupReturn


class RenewFrame(_Frame, frozen=True, kw_only=True, tag="cleanup.renew.v1"):
    """A clean-up takes longer."""

    payload: CleanupAnswer


CleanupFrame = AckFrame | ReleaseFrame | RenewFrame
WorkerFrame = HelloFrame | BeatFrame | AckFrame | ReleaseFrame | RenewFrame
"""Whatever a worker may say."""


class QueueRef(Value, frozen=True, kw_only=True):
    """A queue that the worker serves."""

    id: UUID
    name: str


class Snapshot(Value, frozen=True, kw_only=True):
    """The pool as it is now; ``snapshot_sequence`` begins at 1 on each connection."""

    snapshot_sequence: int
    reason: Literal["initial", "work_pool_updated", "heartbeat_reconciliation"]
    work_pool: dict[str, Json]


class Ready(Value, frozen=True, kw_only=True):
    """The answer to a hello."""

    consumer_id: UUID
    worker_id: None = None
    """Prefect's own server leaves it empty; a worker that is given one sends its logs to Prefect Cloud."""
    selected_channel_version: str = VERSION
    effective_heartbeat_interval_seconds: int
    accepted_capabilities: list[str]
    rejected_capabilities: list[str]
    effective_max_cleanup_concurrency: int = 0
    resolved_work_queues: list[QueueRef]
    initial_snapshot: Snapshot


class Cleanup(Value, frozen=True, kw_only=True):
    """A clean-up that one worker holds until ``lease_expires_at``."""

    message_id: UUID
    kind: CleanupKind
    reservation_token: str
    lease_expires_at: Timestamp
    delivery_count: int
    work_queue_id: UUID | None = None
    target: dict[str, Json]
    data: dict[str, Json] = {}


class CleanupResult(Value, frozen=True, kw_only=True):
    """What became of a ``CleanupFrame``; ``reason`` is there unless it was accepted."""

    request_frame_id: UUID
    message_id: UUID
    operation: Literal["ack", "release", "renew"]
    status: Literal["accepted", "not_current", "not_found", "expired", "invalid_token", "unauthorized"]
    lease_expires_at: Timestamp | None = None
    reason: str | None = None
    detail: None = None


ServerPayload = Ready | Snapshot | Cleanup | CleanupResult

_TYPES: dict[type[msgspec.Struct], str] = {
    Ready: "worker.ready.v1",
    Snapshot: "work_pool.snapshot.v1",
    Cleanup: "cleanup.message.v1",
    CleanupResult: "cleanup.operation_result.v1",
}


def frame_type(payload: ServerPayload) -> str:
    """The ``type`` of the frame that carries ``payload``."""
    return _TYPES[type(payload)]
