"""The socket of a worker, ``work_pools/{name}/workers/connect`` (wire 4.3).

Owns the order of its frames, and which end has which reason. Who may connect and what is to be torn down is
in ``orchestration.worker_channels``; the shapes of the frames are in ``core.worker_channel``.
"""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote
from uuid import UUID

from eparch.api.request import Services
from eparch.api.router import too_deep, without_nul
from eparch.api.sockets import HANDSHAKE_SECONDS, SERVICE_RESTART, Feeds, Socket, WorkerFeed
from eparch.core.errors import EparchError
from eparch.core.model import decode, new_id
from eparch.core.worker_channel import (
    BeatFrame,
    CleanupFrame,
    Ending,
    Hello,
    HelloFrame,
    Ready,
    ServerPayload,
    Snapshot,
    WorkerFrame,
    frame_type,
)
from eparch.orchestration import worker_channels
from eparch.orchestration.broadcast import Subscription
from eparch.orchestration.worker_channels import ChannelRefused, Connected, unauthorized
from eparch.store import pools

logger = logging.getLogger("eparch.api.sockets")

_PATH = re.compile(r"work_pools/([^/]+)/workers/connect")

_TOLD = (
    "name",
    "description",
    "base_job_template",
    "is_paused",
    "concurrency_limit",
    "storage_configuration",
    "default_queue_id",
)
"""Fields of a pool whose change a worker is told."""


def pool_of(name: str) -> str | None:
    """The pool whose workers connect at the path ``name``; None when it is another socket."""
    found = _PATH.fullmatch(name)
    return unquote(found[1]) if found else None


async def serve_worker(socket: Socket, feeds: Feeds, pool_name: str) -> None:
    """One worker, after the handshake, until one side ends it."""
    feed = feeds.workers
    assert feed is not None
    try:
        hello = await _hear_hello(socket)
        connected = await feed.connect(pool_name, hello)
        await _Channel(socket, feed, hello, connected).run()
    except _Ended as ended:
        await end(socket, ended.ending)
    except ChannelRefused as error:
        logger.info("A worker was refused: %s", error.message)
        await end(socket, error.ending)
    except EparchError as error:
        logger.warning("The channel of a worker was closed: %s", error.message)
        await end(socket, Ending.TRANSIENT_SERVER_ERROR)


async def end(socket: Socket, ending: Ending) -> None:
    """Close with the code and the reason that workers know."""
    await socket.close(ending.code, ending.value)


class _Ended(Exception):
    """The server ends the channel."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.value)
        self.ending = ending


async def _hear_hello(socket: Socket) -> Hello:
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            frame = _frame_of(await socket.receive())
    except TimeoutError:
        raise _Ended(Ending.PROTOCOL_ERROR) from None
    if not isinstance(frame, HelloFrame):
        raise _Ended(Ending.PROTOCOL_ERROR)
    if refusal := frame.payload.refusal():
        raise _Ended(refusal)
    return frame.payload


def _frame_of(text: str | bytes) -> WorkerFrame:
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    try:
        if too_deep(data) or without_nul(data) != data:
            raise _Ended(Ending.PROTOCOL_ERROR)
        frame: WorkerFrame = decode(data, WorkerFrame)
    except (ValueError, RecursionError) as error:
        logger.info("A frame of a worker was refused: %s", error)
        raise _Ended(Ending.PROTOCOL_ERROR) from error
    return frame


class _Channel:
    """One connected worker."""

    def __init__(self, socket: Socket, feed: WorkerFeed, hello: Hello, connected: Connected) -> None:
        self._socket = socket
        self._feed = feed
        self._hello = hello
        self._pool_id = connected.pool_id
        self._connected = connected
        self._told: dict[str, Any] = {}
        """The pool as the worker knows it."""
        self._sequence = 0
        self._holding: dict[UUID, datetime] = {}
        """Until when the worker holds which clean-ups, by message id."""
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Say that it is ready, then listen and tell at once."""
        own = self._pool_id
        async with self._feed.changes.subscribe(lambda changed: changed in (None, own)) as changes:
            await self._say_ready()
            await self._look()
            listening = asyncio.create_task(self._listen())
            telling = asyncio.create_task(self._tell(changes))
            try:
                await asyncio.wait((listening, telling), return_when=asyncio.FIRST_COMPLETED)
                if telling.done():
                    telling.result()
                    await self._socket.close(SERVICE_RESTART, "The server stops.")
                else:
                    listening.result()
            finally:
                for task in (listening, telling):
                    task.cancel()
                await asyncio.gather(listening, telling, return_exceptions=True)

    async def _send(self, payload: ServerPayload) -> None:
        frame = {
            "type": frame_type(payload),
            "id": new_id(),
            "sent_at": datetime.now(UTC),
            "payload": payload,
        }
        await self._socket.send(frame)

    async def _say_ready(self) -> None:
        accepted = self._hello.accepted
        await self._send(
            Ready(
                consumer_id=self._hello.consumer_id,
                effective_heartbeat_interval_seconds=self._hello.heartbeat_interval_seconds,
                accepted_capabilities=accepted,
                rejected_capabilities=[
                    asked
                    for asked in dict.fromkeys(self._hello.requested_capabilities)
                    if asked not in accepted
                ],
                effective_max_cleanup_concurrency=self._hello.cleanups,
                resolved_work_queues=self._connected.queues,
                initial_snapshot=self._snapshot("initial", self._connected.pool),
            )
        )

    def _snapshot(self, reason: Any, pool: dict[str, Any]) -> Snapshot:
        self._sequence += 1
        self._told = pool
        return Snapshot(snapshot_sequence=self._sequence, reason=reason, work_pool=pool)

    async def _tell(self, changes: Subscription[UUID | None]) -> None:
        async for _ in changes:
            changes.waiting()
            await self._look()

    async def _look(self) -> None:
        """Tell what is new: the pool, if it changed, and clean-ups that the worker has hands for."""
        await self._show(await self._feed.read_pool(self._pool_id), "work_pool_updated")

    async def _show(self, pool: dict[str, Any] | None, reason: str) -> None:
        if pool is None:
            raise _Ended(Ending.AUTHORIZATION_FAILED)
        async with self._turn:
            if _differs(pool, self._told):
                await self._send(self._snapshot(reason, pool))
            await self._hand_out()

    async def _hand_out(self) -> None:
        now = datetime.now(UTC)
        self._holding = {id_: until for id_, until in self._holding.items() if until > now}
        queues = {queue.id for queue in self._connected.queues}
        kinds = self._hello.handled_cleanup_kinds
        while len(self._holding) < self._hello.cleanups:
            cleanup = self._feed.cleanups.take(self._pool_id, kinds, queues, now)
            if cleanup is None:
                return
            self._holding[cleanup.message_id] = cleanup.lease_expires_at
            await self._send(cleanup)

    async def _listen(self) -> None:
        while True:
            frame = _frame_of(await self._socket.receive())
            if isinstance(frame, HelloFrame):
                raise _Ended(Ending.PROTOCOL_ERROR)
            if isinstance(frame, BeatFrame):
                await self._hear_beat(frame)
            else:
                await self._hear_of_cleanup(frame)

    async def _hear_beat(self, frame: BeatFrame) -> None:
        said = frame.payload
        if (said.consumer_id, said.worker_name) != (self._hello.consumer_id, self._hello.worker_name):
            raise _Ended(Ending.PROTOCOL_ERROR)
        try:
            pool = await self._feed.beat(self._pool_id, self._hello, said.heartbeat_interval_seconds)
        except EparchError as error:
            logger.warning("A heartbeat could not be recorded: %s", error.message)
            raise _Ended(Ending.HEARTBEAT_PERSISTENCE_FAILED) from error
        await self._show(pool, "heartbeat_reconciliation")

    async def _hear_of_cleanup(self, frame: CleanupFrame) -> None:
        now, desk = datetime.now(UTC), self._feed.cleanups
        result = desk.answer(self._pool_id, frame, now) if self._hello.cleanups else unauthorized(frame)
        if result.lease_expires_at is not None:
            self._holding[result.message_id] = result.lease_expires_at
        else:
            self._holding.pop(result.message_id, None)
        await self._send(result)
        async with self._turn:
            await self._hand_out()


def _differs(pool: dict[str, Any], told: dict[str, Any]) -> bool:
    """Whether a worker has to know; slots and heartbeats change all the time and are none of its business."""
    return any(pool[name] != told[name] for name in _TOLD)


class StoredWorkers:
    """The ``WorkerFeed`` of a server: what a channel says is written to its database."""

    def __init__(self, services: Services) -> None:
        """Of these services, which are open."""
        self._database = services.database
        self.changes = services.pools
        self.cleanups = services.cleanups
        self._keeping = services.policy.keeping

    async def connect(self, pool_name: str, hello: Hello) -> Connected:
        """Let a worker in.

        Raises:
            ChannelRefused: it cannot be.
        """
        now = datetime.now(UTC)
        return await self._database.write(worker_channels.connect, pool_name, hello, now, self._keeping)

    async def beat(self, pool_id: UUID, hello: Hello, interval: int) -> dict[str, Any] | None:
        """Record a heartbeat; the pool, None when it is gone."""
        now = datetime.now(UTC)
        return await self._database.write(worker_channels.beat, pool_id, hello, interval, now, self._keeping)

    async def read_pool(self, pool_id: UUID) -> dict[str, Any] | None:
        """The pool as it is now, None when it is gone."""
        return await self._database.read(pools.read_pool_by_id, pool_id, datetime.now(UTC))
