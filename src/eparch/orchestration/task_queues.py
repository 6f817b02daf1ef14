"""Handing background tasks to task workers: each to one at a time, none lost (row B10, wire 4.3).

The queue is in the database. A connection holds what it was handed with a lease that this server renews while
the connection stands. What it had not begun when it broke off is handed to another soon, what it had begun
when the lease is over: until then it may come back. Whoever waits is woken by a note, or by a timer when
something becomes due; nobody polls.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.model import new_id
from eparch.core.runs import TaskRun
from eparch.core.states import FINAL, Crashed, Scheduled, StateDetails, StateType
from eparch.core.task_workers import LEASE, MOST_LOST, RECONNECT, is_queued
from eparch.orchestration.transition import propose_for_task
from eparch.store import runs, task_queue
from eparch.store.database import Database
from eparch.store.statement import Note, Steps
from eparch.store.task_queue import TOPIC, Held, topic_id

logger = logging.getLogger("eparch.server")

RENEW_SECONDS = LEASE.total_seconds() / 3
BATCH = 200
BUSY_SECONDS = 0.05
"""What is due and could not be taken is just being looked at by somebody else."""


class Handed(msgspec.Struct, frozen=True):
    """A task run that was handed out, as the wire has it."""

    id: UUID
    task_key: str
    run: dict[str, Any]


# Operations


def take(task_keys: Sequence[str], holder: UUID, now: datetime) -> Steps[Handed | None]:
    """Hand the first key's oldest due task run to ``holder``, or the next key's; None when none is due."""
    for key in task_keys:
        while (waiting := (yield from task_queue.first_waiting(key, now))) is not None:
            run = yield from runs.task_run_for_decision(waiting.task_run_id)
            if run is None or run.state_type in FINAL:
                yield from task_queue.forget([waiting.task_run_id])
                continue
            yield from _schedule(run, waiting, now)
            if (yield from task_queue.take(run.id, holder, now + LEASE)):
                found = yield from runs.read_task_run(run.id, now)
                assert found is not None
                return Handed(run.id, key, found)
    return None


def _schedule(run: TaskRun, held: Held, now: datetime) -> Steps[None]:
    """Let the run be scheduled with its parameters: that is how a task worker must find it."""
    state = run.state
    if state is not None and is_queued(state):
        return
    details = StateDetails(deferred=True, task_parameters_id=held.parameters_id)
    message = "Its task worker was lost; it is handed to another one."
    proposed = Scheduled(now, message=message, timestamp=now, state_details=details)
    # Forced: whatever the worker last told of it, nobody runs it now.
    yield from propose_for_task(run, proposed, now, force=True)


def _is_begun(held: Held) -> bool:
    return held.state_type != StateType.SCHEDULED


def hand_back(run_id: UUID, holder: UUID, now: datetime) -> Steps[None]:
    """The task run is no longer with ``holder``: it waits again, unless it ended or took too many with it."""
    run = yield from runs.task_run_for_decision(run_id)
    held = yield from task_queue.one(run_id)
    if run is None or held is None or held.holder != holder:
        return
    lost = held.lost + _is_begun(held)
    if not (yield from task_queue.keep_waiting(held, lost)):
        return
    if run.state_type in FINAL:
        yield from task_queue.forget([run_id])
    elif lost >= MOST_LOST:
        message = f"{lost} task workers were lost while they ran this task; it is not tried again."
        yield from propose_for_task(run, Crashed(message=message, timestamp=now), now, force=True)
    else:
        yield from _schedule(run, held, now)
        yield Note(TOPIC, topic_id(held.task_key))


def acknowledge(run_id: UUID, holder: UUID, now: datetime) -> Steps[None]:
    """The task run has arrived."""
    yield from task_queue.hold(run_id, holder, holder, now + LEASE)


def renew(connection: UUID, client_id: str, task_keys: Sequence[str], now: datetime) -> Steps[None]:
    """The connection stands: so does its hold on what it was handed."""
    yield from task_queue.see_worker(connection, client_id, task_keys, now)
    yield from task_queue.renew(connection, now + LEASE)


def leave(holder: UUID, now: datetime, *, has_quit: bool) -> Steps[None]:
    """The connection is over; ``has_quit``: its task worker said that it runs nothing any more."""
    for held in (yield from task_queue.held_by([holder])):
        begun = _is_begun(held)
        if has_quit or not (held.acknowledged or begun):
            yield from hand_back(held.task_run_id, holder, now)
        else:
            until = now + (LEASE if begun else RECONNECT)
            yield from task_queue.hold(held.task_run_id, holder, holder, until)
    yield from task_queue.drop_worker(holder)


def join(
    connection: UUID,
    client_id: str,
    task_keys: Sequence[str],
    holding: Sequence[UUID] | None,
    elsewhere: Sequence[UUID],
    now: datetime,
) -> Steps[None]:
    """A task worker is connected, with what it has from a connection that was lost.

    Without ``holding``, that is what its client acknowledged on a server that is gone. ``elsewhere`` are
    connections that are known to stand.
    """
    before = yield from task_queue.connections_of(client_id)
    lost = [one for one in before if one not in elsewhere]
    yield from task_queue.see_worker(connection, client_id, task_keys, now)
    kept = set(holding or ())
    for held in (yield from task_queue.held_by(lost)) if lost else []:
        assert held.holder is not None
        if held.task_run_id in kept if holding is not None else held.acknowledged:
            yield from task_queue.hold(held.task_run_id, held.holder, connection, now + LEASE)
        else:
            yield from hand_back(held.task_run_id, held.holder, now)
        kept.discard(held.task_run_id)
    for id_ in lost:
        yield from task_queue.drop_worker(id_)
    for run_id in sorted(kept):
        yield from _take_again(run_id, connection, now)


def _take_again(run_id: UUID, connection: UUID, now: datetime) -> Steps[None]:
    """Let the connection keep the task run, unless another one has it by now."""
    held = yield from task_queue.one(run_id)
    if held is None:
        return
    if held.holder is None:
        yield from task_queue.take(run_id, connection, now + LEASE, acknowledged=True)
    elif not (yield from task_queue.is_connected(held.holder)):
        yield from task_queue.hold(run_id, held.holder, connection, now + LEASE)


def lapse(run_id: UUID, now: datetime) -> Steps[bool]:
    """Hand the task run back if its lease is over; whether it was."""
    held = yield from task_queue.one(run_id)
    if held is None or held.holder is None or held.lease_until is None or held.lease_until > now:
        return False
    yield from hand_back(run_id, held.holder, now)
    return True


class TaskLeases:
    """Hands back what a task worker or a server took with it."""

    name = "task leases"

    def __init__(self, interval: float = 2.0) -> None:
        """In seconds."""
        self.interval = interval

    async def run_once(self, database: Database, now: datetime) -> bool:
        """Hand back every task run whose lease is over at ``now``."""
        lapsed = await database.scan(task_queue.lapsed, now, BATCH)
        for run_id in lapsed:
            try:
                await database.write(lapse, run_id, now)
            except Exception:
                logger.exception("The task run %s has lost its task worker and could not be moved.", run_id)
        await database.write(task_queue.drop_unseen, now - LEASE)
        return False


# Connections


class TaskWorkers:
    """The task workers that are connected to this server, on one event loop."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.stopping = asyncio.Event()
        self._connected: set[Connected] = set()

    def __len__(self) -> int:
        return len(self._connected)

    def tell(self, notes: Sequence[Note]) -> None:
        """Wake those whom one of ``notes`` concerns."""
        topics = {note.value for note in notes if note.topic == TOPIC}
        anything = any(note.topic == "anything" for note in notes)
        if topics or anything:
            for connected in self._connected:
                if anything or not topics.isdisjoint(connected.topics):
                    connected.woken.set()

    def stop(self) -> None:
        """Hand out nothing more: the server stops."""
        self.stopping.set()
        for connected in self._connected:
            connected.woken.set()

    @contextlib.asynccontextmanager
    async def connect(
        self, client_id: str, task_keys: Sequence[str], holding: Sequence[UUID] | None = None
    ) -> AsyncIterator[Connected]:
        """A task worker is connected for as long as the block runs."""
        connected = Connected(self, client_id, tuple(dict.fromkeys(task_keys)))
        same = [one.id for one in self._connected if one.client_id == client_id]
        arguments = (connected.id, client_id, connected.task_keys, holding, same, datetime.now(UTC))
        await self.database.write(join, *arguments)
        self._connected.add(connected)
        renewing = asyncio.create_task(connected.keep_leases())
        try:
            yield connected
        finally:
            renewing.cancel()
            self._connected.discard(connected)
            # A server that stops leaves everything as it is: its clients come back to it, or to another one.
            if not self.stopping.is_set() or connected.has_quit:
                await asyncio.shield(self._end(connected))

    async def _end(self, connected: Connected) -> None:
        await self.database.write(leave, connected.id, datetime.now(UTC), has_quit=connected.has_quit)


class Connected:
    """One connection of a task worker."""

    def __init__(self, workers: TaskWorkers, client_id: str, task_keys: tuple[str, ...]) -> None:
        """Made by ``TaskWorkers.connect``."""
        self.id = new_id()
        self.client_id = client_id
        self.task_keys = task_keys
        self.topics = frozenset(topic_id(key) for key in task_keys)
        self.woken = asyncio.Event()
        self.has_quit = False
        """The task worker said that it runs nothing any more."""
        self._workers = workers
        self._turn = 0
        """Where the next search begins, so that a busy key does not keep the others waiting."""

    @property
    def stopping(self) -> asyncio.Event:
        """Set when the server stops."""
        return self._workers.stopping

    async def next(self) -> Handed | None:
        """The next task run for this task worker, as soon as there is one; None when the server stops."""
        database = self._workers.database
        while not self.stopping.is_set():
            self.woken.clear()
            due = await database.read(task_queue.next_due, self.task_keys)
            now = datetime.now(UTC)
            if due is not None and due <= now:
                order = self.task_keys[self._turn :] + self.task_keys[: self._turn]
                handed = await database.write(take, order, self.id, now)
                if handed is not None:
                    self._turn = (self.task_keys.index(handed.task_key) + 1) % len(self.task_keys)
                    return handed
                await self._sleep(BUSY_SECONDS)
            else:
                await self._sleep((due - now).total_seconds() if due is not None else None)
        return None

    async def acknowledge(self, handed: Handed) -> None:
        """The task run has arrived at the task worker."""
        await self._workers.database.write(acknowledge, handed.id, self.id, datetime.now(UTC))

    async def keep_leases(self) -> None:
        """Renew the leases of what this connection holds, until it is cancelled."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            arguments = (self.id, self.client_id, self.task_keys, datetime.now(UTC))
            try:
                await self._workers.database.write(renew, *arguments)
            except Exception as error:
                logger.warning("The leases of a task worker could not be renewed: %s", error)

    async def _sleep(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.woken.wait()
