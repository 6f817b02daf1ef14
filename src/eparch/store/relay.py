"""Servers on one PostgreSQL database tell each other what was noted (``LISTEN`` and ``NOTIFY``).

What is told is a hint to look: it is sent after the commit, many notes at a time, and may be lost. Whoever
waits looks again by itself later. Sending it inside the transaction would make all commits queue up for the
lock that ``NOTIFY`` takes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from eparch.core.model import Value, decode, encode, new_id
from eparch.store.statement import Note

if TYPE_CHECKING:
    import asyncpg

CHANNEL = "eparch"

RELAYED = frozenset({"work", "cancel", "watched", "schedules", "tasks", "pool"})
"""Topics whose value is an id."""

HINTS = frozenset({"events", "logs", "automations", "actions"})
"""Topics that are relayed without their value: who follows them reads what is there."""

MOST_AT_ONCE = 100
"""Notes of one message, which may have 8,000 bytes."""

PAUSE_SECONDS = 0.005
"""How long notes are collected."""

RETRY_SECONDS = 1.0

ANYTHING = Note("anything", None)
"""Something may have happened that was not heard: everybody who waits should look."""


class Told(Value, frozen=True, kw_only=True):
    """One message: who tells, and (topic, value) of each note."""

    sender: str
    notes: list[tuple[str, UUID | None]]


class Relay:
    """One server's line to the others. It mends itself, and says ``ANYTHING`` when it was broken."""

    def __init__(self, url: str, heard: Callable[[Sequence[Note]], None]) -> None:
        """``heard`` is called with what other servers tell. Must be made on a running loop."""
        self._url = url
        self._heard = heard
        self._name = str(new_id())
        self._told: dict[tuple[str, str | None], None] = {}
        self._more = asyncio.Event()
        self._broken = False
        self.listening = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="eparch-relay")

    def tell(self, notes: Sequence[Note]) -> None:
        """Tell the other servers, soon."""
        for note in notes:
            if note.topic in HINTS:
                self._told[note.topic, None] = None
            elif note.topic in RELAYED and note.value is not None:
                self._told[note.topic, str(note.value)] = None
        if self._told:
            self._more.set()

    async def close(self) -> None:
        """Hang up."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        import asyncpg

        while True:
            gone = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
            with contextlib.suppress(*gone):
                connection = await asyncpg.connect(self._url, command_timeout=10)
                try:
                    await self._serve(connection)
                finally:
                    self._broken = True
                    self.listening.clear()
                    connection.terminate()
            await asyncio.sleep(RETRY_SECONDS)

    async def _serve(self, connection: asyncpg.Connection[Any]) -> None:
        connection.add_termination_listener(lambda _: self._more.set())
        await connection.add_listener(CHANNEL, self._hear)
        self.listening.set()
        if self._broken:
            self._heard([ANYTHING])
        while not connection.is_closed():
            await self._more.wait()
            self._more.clear()
            await asyncio.sleep(PAUSE_SECONDS)
            while self._told and not connection.is_closed():
                batch = list(self._told)[:MOST_AT_ONCE]
                message = encode({"sender": self._name, "notes": batch}).decode()
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, message)
                for note in batch:
                    self._told.pop(note, None)

    def _hear(self, _connection: Any, _pid: int, _channel: str, message: object) -> None:
        try:
            told: Told = decode(str(message), Told)
        except ValueError:
            return  # not one of ours: anybody with access to the database can write to the channel
        if told.sender != self._name:
            known = [Note(topic, value) for topic, value in told.notes if topic in RELAYED | HINTS]
            self._heard([note for note in known if note.topic in HINTS or note.value is not None])
