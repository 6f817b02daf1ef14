"""What the server does for a worker on its channel: lets it in, hears it, gives it clean-ups (wire 4.3).

Owns who may connect to which pool, and the clean-ups that wait for a worker. Does not own the connection.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.errors import Conflict, EparchError, Forbidden, Invalid
from eparch.core.model import new_id
from eparch.core.pools import WorkPoolCreate, WorkPoolUpdate
from eparch.core.worker_channel import (
    AckFrame,
    Cleanup,
    CleanupFrame,
    CleanupKind,
    CleanupResult,
    Ending,
    Hello,
    QueueRef,
    ReleaseFrame,
    RenewFrame,
)
from eparch.core.worker_instances import About, Keeping
from eparch.orchestration.pools import create_pool, update_pool
from eparch.orchestration.worker_instances import note_stock
from eparch.store import claims, pools
from eparch.store.statement import Steps

CLEANUP_LEASE = timedelta(seconds=30)
"""How long a worker holds a clean-up that it does not renew."""
MAX_DELIVERIES = 3
"""Workers that may try one clean-up."""
MAX_CLEANUPS = 1000
"""Clean-ups that wait; the oldest are forgotten when nobody comes for them."""


_KEEPING = Keeping()


class ChannelRefused(EparchError):
    """The worker cannot be connected."""

    def __init__(self, ending: Ending, message: str) -> None:
        """``ending`` is what the worker is told."""
        super().__init__(message)
        self.ending = ending


@dataclass(frozen=True, slots=True)
class Connected:
    """What a worker that was let in is told."""

    pool_id: UUID
    pool: dict[str, Any]
    """As the wire answers it."""
    queues: list[QueueRef]


def connect(pool_name: str, hello: Hello, now: datetime, keeping: Keeping = _KEEPING) -> Steps[Connected]:
    """Let the worker in: its pool is made if it asks for that, gets a template if it has none, and the worker
    is ONLINE.

    Raises:
        ChannelRefused: the pool or a queue is not there, or cannot be made.
    """
    found = yield from claims.read_pool(pool_name)
    if found is None:
        if not hello.create_pool_if_not_found:
            raise ChannelRefused(Ending.AUTHORIZATION_FAILED, f'Work pool "{pool_name}" not found.')
        yield from _make_pool(pool_name, hello, now)
        found = yield from claims.read_pool(pool_name)
    assert found is not None
    pool_id: UUID = found[0]
    queues = yield from _resolve_queues(pool_id, hello.work_queue_names)
    about = About(software="prefect", types=[hello.worker_type])
    yield from note_stock(
        pool_id, hello.worker_name, hello.heartbeat_interval_seconds, about, now, keeping,
        instance_id=hello.consumer_id,
    )  # fmt: skip
    yield from pools.heartbeat(pool_id, hello.worker_name, hello.heartbeat_interval_seconds, now)
    pool = yield from pools.read_pool_by_id(pool_id, now)
    assert pool is not None
    if not pool["base_job_template"] and hello.default_base_job_template:
        patch = WorkPoolUpdate(base_job_template=hello.default_base_job_template)
        try:
            yield from update_pool(pool_name, patch, now)
        except Invalid as error:
            raise ChannelRefused(Ending.PROTOCOL_ERROR, error.message) from error
        pool = yield from pools.read_pool_by_id(pool_id, now)
        assert pool is not None
    return Connected(pool_id, pool, queues)


def _make_pool(name: str, hello: Hello, now: datetime) -> Steps[None]:
    template = hello.default_base_job_template
    given = {"name": name, "type": hello.worker_type, "base_job_template": template}
    try:
        yield from create_pool(msgspec.convert(given, WorkPoolCreate), now)
    except Forbidden as error:
        raise ChannelRefused(Ending.AUTHORIZATION_FAILED, error.message) from error
    except Conflict as error:
        raise ChannelRefused(Ending.TRANSIENT_SERVER_ERROR, error.message) from error
    except (Invalid, msgspec.ValidationError) as error:
        raise ChannelRefused(Ending.PROTOCOL_ERROR, str(error)) from error


def _resolve_queues(pool_id: UUID, names: list[str]) -> Steps[list[QueueRef]]:
    known = {name: id_ for id_, name, _ in (yield from pools.queue_priorities(pool_id))}
    wanted = list(dict.fromkeys(names)) or list(known)
    for name in wanted:
        if name not in known:
            raise ChannelRefused(Ending.AUTHORIZATION_FAILED, f"Work queue '{name}' not found.")
    return [QueueRef(id=known[name], name=name) for name in wanted]


def beat(
    pool_id: UUID, hello: Hello, interval: int, now: datetime, keeping: Keeping = _KEEPING
) -> Steps[dict[str, Any] | None]:
    """The worker that said ``hello`` is alive; its pool as it is now, None when it was deleted."""
    pool, worker_name = (yield from pools.read_pool_by_id(pool_id, now)), hello.worker_name
    if pool is not None:
        about = About(software="prefect", types=[hello.worker_type])
        yield from note_stock(
            pool_id, worker_name, interval, about, now, keeping, instance_id=hello.consumer_id
        )
        yield from pools.heartbeat(pool_id, worker_name, interval, now)
    return pool


@dataclass(frozen=True, slots=True)
class Teardown:
    """A run was ended without its infrastructure: who can should look after that."""

    flow_run_id: UUID
    work_pool_id: UUID
    work_queue_id: UUID
    infrastructure_pid: str | None
    kind: CleanupKind = CleanupKind.CANCELLING_TIMEOUT


class _Waiting:
    """A clean-up and who holds it."""

    __slots__ = ("deliveries", "id", "teardown", "token", "until")

    def __init__(self, teardown: Teardown) -> None:
        self.id = new_id()
        self.teardown = teardown
        self.deliveries = 0
        self.token = ""
        self.until: datetime | None = None


class Desk:
    """The clean-ups of this process: each is held by one worker at a time, and tried a few times.

    They are kept in memory, as by Prefect's server: they help workers that renew no claim. What is claimed is
    ended by the worker that holds it, whatever happens here.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[UUID, _Waiting] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, teardown: Teardown) -> None:
        """Add one."""
        waiting = _Waiting(teardown)
        self._waiting[waiting.id] = waiting
        if len(self._waiting) > MAX_CLEANUPS:
            self._waiting.popitem(last=False)

    def take(
        self, pool_id: UUID, kinds: Collection[CleanupKind], queue_ids: Collection[UUID], now: datetime
    ) -> Cleanup | None:
        """The next clean-up of the pool, held for who asks; those of its own queues come first."""
        free = [
            waiting
            for waiting in self._waiting.values()
            if waiting.teardown.work_pool_id == pool_id
            and waiting.teardown.kind in kinds
            and (waiting.until is None or waiting.until <= now)
        ]
        free.sort(key=lambda waiting: waiting.teardown.work_queue_id not in queue_ids)
        for waiting in free:
            if waiting.deliveries == MAX_DELIVERIES:
                del self._waiting[waiting.id]
                continue
            waiting.deliveries += 1
            waiting.token = secrets.token_urlsafe(24)
            waiting.until = now + CLEANUP_LEASE
            return _message(waiting, waiting.until)
        return None

    def answer(self, pool_id: UUID, frame: CleanupFrame, now: datetime) -> CleanupResult:
        """Do what the holder of a clean-up asks: end it, give it back, or hold it longer."""
        given = frame.payload
        waiting = self._waiting.get(given.message_id)
        if waiting is None or waiting.teardown.work_pool_id != pool_id:
            return _result(frame, "not_found")
        if not secrets.compare_digest(waiting.token.encode(), given.reservation_token.encode()):
            return _result(frame, "invalid_token")
        if waiting.until is None or waiting.until <= now:
            return _result(frame, "expired")
        if isinstance(frame, AckFrame):
            del self._waiting[waiting.id]
            return _result(frame, "accepted")
        if isinstance(frame, ReleaseFrame):
            waiting.until, waiting.token = None, ""
            return _result(frame, "accepted")
        waiting.until = now + CLEANUP_LEASE
        return _result(frame, "accepted", waiting.until)


_OPERATIONS: dict[type[Any], Any] = {AckFrame: "ack", ReleaseFrame: "release", RenewFrame: "renew"}


def _result(frame: CleanupFrame, status: Any, until: datetime | None = None) -> CleanupResult:
    return CleanupResult(
        request_frame_id=frame.id,
        message_id=frame.payload.message_id,
        operation=_OPERATIONS[type(frame)],
        status=status,
        lease_expires_at=until,
        reason=None if status == "accepted" else status,
    )


def unauthorized(frame: CleanupFrame) -> CleanupResult:
    """The answer to a worker that takes no clean-ups."""
    return _result(frame, "unauthorized")


def _message(waiting: _Waiting, until: datetime) -> Cleanup:
    teardown = waiting.teardown
    return Cleanup(
        message_id=waiting.id,
        kind=teardown.kind,
        reservation_token=waiting.token,
        lease_expires_at=until,
        delivery_count=waiting.deliveries,
        work_queue_id=teardown.work_queue_id,
        target={
            "flow_run_id": str(teardown.flow_run_id),
            "infrastructure_pid": teardown.infrastructure_pid,
        },
    )
