"""What a handler gets and gives: the request, the answer, and what the server offers to both.

Owns no rule: which requests come this far is decided in ``auth`` and ``router``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from eparch.api.auth import Gate
from eparch.api.policy import Policy
from eparch.core.calls import CLAIM_HEADER
from eparch.core.errors import BadRequest, Invalid, NotFound, TooLarge, Unavailable
from eparch.core.filters import MAX_LIMIT
from eparch.core.pools import ShownToken
from eparch.core.stock import Version, stock_version

if TYPE_CHECKING:
    from uuid import UUID

    from eparch.api.counting import SharedCounts
    from eparch.api.places import Places
    from eparch.core.events import ReceivedEvent
    from eparch.core.filters import Query
    from eparch.core.records import Log
    from eparch.orchestration.broadcast import Broadcast
    from eparch.orchestration.claims import Waiters
    from eparch.orchestration.sealing import Keyring
    from eparch.orchestration.tail import Tail
    from eparch.orchestration.task_queues import TaskWorkers
    from eparch.orchestration.worker_channels import Desk
    from eparch.store.database import Database
    from eparch.store.statement import Steps

T = TypeVar("T")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_SECONDS = 60.0
"""A body that takes longer to arrive is given up, so that a slow sender holds nothing for long."""

MAX_UNREAD_BYTES = 256 * 1024 * 1024
"""Of all bodies that arrive in parts at one time: a thousand senders must not fill the memory."""

_CLAIM = CLAIM_HEADER.encode()


class Disconnected(Exception):
    """The client went away; there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with another status, more headers, or a body that is not JSON."""

    status: int
    value: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media: str = "application/json"
    """Of ``value``: when it is not JSON, ``value`` is bytes."""
    chunks: AsyncGenerator[bytes, None] | None = None
    """The body, piece by piece, where it may be longer than memory is; then there is no ``value``."""


def _no_types() -> list[dict[str, Any]]:
    return []


class Services:
    """What the server offers to its handlers, from start to stop."""

    __slots__ = (
        "cleanups",
        "counts",
        "database",
        "events",
        "gate",
        "keys",
        "logs",
        "metrics",
        "new_name",
        "on_stop",
        "places",
        "policy",
        "pools",
        "started",
        "tasks",
        "unread_bytes",
        "waiters",
        "worker_types",
    )

    database: Database
    counts: SharedCounts
    places: Places
    waiters: Waiters
    events: Tail[ReceivedEvent]
    logs: Tail[Log]
    tasks: TaskWorkers
    pools: Broadcast[UUID | None]
    """Ids of pools that changed or have something to tear down; None is any of them."""
    cleanups: Desk
    keys: Keyring
    """Seals and opens what is secret."""
    new_name: Callable[[], str]
    """A name for a run that was given none."""

    def __init__(self, policy: Policy, gate: Gate, started: datetime) -> None:
        """Whoever opens the database sets the rest."""
        self.policy = policy
        self.gate = gate
        self.started = started
        self.on_stop: list[Callable[[], None]] = []
        """What ends the waiting of those who wait, called when the server begins to stop."""
        self.metrics: tuple[float, bytes] | None = None
        """When metrics were last measured (monotonic seconds), and the page of them."""
        self.worker_types: Callable[[], list[dict[str, Any]]] = _no_types
        self.unread_bytes = 0
        """Of bodies that have arrived in part."""


class Request:
    """One HTTP request: cheap to make, decoded only where somebody looks."""

    __slots__ = ("_receive", "headers", "scope", "services")

    def __init__(
        self, scope: Scope, receive: Receive, headers: dict[bytes, bytes], services: Services
    ) -> None:
        """``headers`` are the scope's, by lower-case name."""
        self.scope = scope
        self._receive = receive
        self.headers = headers
        self.services = services

    def header(self, name: str) -> str | None:
        """The header ``name`` (lower case), None when it is not there."""
        value = self.headers.get(name.encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return datetime.now(UTC)

    async def read(self, operation: Callable[..., Steps[T]], *args: Any) -> T:
        """Run a read that touches few rows."""
        return await self.services.database.read(operation, *args)

    async def scan(self, operation: Callable[..., Steps[T]], *args: Any) -> T:
        """Run a read that may touch many rows."""
        return await self.services.database.scan(operation, *args)

    async def count(self, query: Query) -> int:
        """How many rows ``query`` has; a large number may be a moment old."""
        return await self.services.counts.count(query)

    async def page(
        self, read: Callable[..., Steps[list[dict[str, Any]]]], query: Query, *args: Any
    ) -> list[dict[str, Any]]:
        """A page of a list that may be long."""
        places = self.services.places
        begun, since = places.begin(query)
        rows: list[dict[str, Any]] = await self.services.database.scan(read, begun, *args)
        places.keep(query, rows, since)
        return rows

    async def write(self, operation: Callable[..., Steps[T]], *args: Any, **kwargs: Any) -> T:
        """Run a write; when this returns, it is on disk."""
        return await self.services.database.write(operation, *args, **kwargs)

    def limit(self, asked: int | None) -> int:
        """How many rows an answer may have when ``asked`` are wanted.

        Raises:
            Invalid: it is negative or more than the server gives.
        """
        if asked is None:
            return self.services.policy.default_limit
        most = max(self.services.policy.default_limit, MAX_LIMIT)
        if not 0 <= asked <= most:
            bound = f"less than or equal to {most}" if asked > most else "greater than or equal to 0"
            raise Invalid(f"Invalid limit: must be {bound}.")
        return asked

    @property
    def claim_token(self) -> ShownToken | None:
        """The fencing token of the run's process that asks (row W15).

        Raises:
            BadRequest: it is no token.
        """
        value = self.headers.get(_CLAIM)
        if value is None:
            return None
        shown = ShownToken.read(value.decode("latin-1"))
        if shown is None:
            raise BadRequest(
                f"The header {CLAIM_HEADER} must be the id of a run, a colon and a whole number."
            )
        return shown

    @property
    def stock_version(self) -> Version | None:
        """The version of the Prefect client that asks; None when it is none (wire section 1)."""
        return stock_version(self.header("user-agent"))

    async def read_body(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            TooLarge: it has more than ``limit`` bytes.
            Unavailable: it did not arrive within ``BODY_SECONDS``, or too much arrives at once.
            Invalid: it is compressed.
            Disconnected: the client went away.
        """
        length = self.headers.get(b"content-length")
        if length is not None and (not length.isdigit() or int(length[:20]) > limit):
            raise _too_large(limit)
        if length is None and b"transfer-encoding" not in self.headers:
            return b""
        if self.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise Invalid("The body must not be compressed.", fix="Send it without `Content-Encoding`.")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._read(limit)
        except TimeoutError as error:
            raise Unavailable("The body of the request did not arrive in time.") from error

    async def _read(self, limit: int) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False) and len(body) <= limit:
            return body
        parts, size = [body], len(body)
        services = self.services
        services.unread_bytes += size
        try:
            while message.get("more_body", False) and size <= limit:
                if services.unread_bytes > MAX_UNREAD_BYTES:
                    raise Unavailable("Too many large requests arrive at once.")
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                part = message.get("body", b"")
                parts.append(part)
                size += len(part)
                services.unread_bytes += len(part)
        finally:
            services.unread_bytes -= size
        if size > limit:
            raise _too_large(limit)
        return b"".join(parts)

    async def until_disconnect(self) -> None:
        """Wait until the client goes away; for an answer that may take long. Call it after the body."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def found(value: T | None, message: str) -> T:
    """``value``, which must be there.

    Raises:
        NotFound: it is None; ``message`` is what the wire says then.
    """
    if value is None:
        raise NotFound(message)
    return value


def created(value: Any, fresh: bool) -> Answer:
    """201 for what was made now, 200 for what was there (wire 4.1)."""
    return Answer(201 if fresh else 200, value)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The request is larger than {limit} bytes.", fix="Send less in one request, or raise the limit."
    )
