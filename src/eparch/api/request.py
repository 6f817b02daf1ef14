"""What a handler gets and gives: the request, the answer, and what the server offers to both.

Owns no rule: which requests come this far is decided in ``auth`` and ``router``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from eparch.api.auth import Gate
from eparch.api.policy import Policy
from eparch.core.calls import CLAIM_HEADER
from eparch.core.errors import BadRequest, TooLarge, Unavailable

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_SECONDS = 60.0
"""A body that takes longer to arrive is given up, so that a slow sender holds nothing for long."""

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


class Services:
    """What the server offers to its handlers, from start to stop."""

    __slots__ = ("database", "gate", "policy", "started", "stopping")

    def __init__(self, policy: Policy, gate: Gate, started: datetime, database: Any = None) -> None:
        """``database`` is None where handlers need none."""
        self.policy = policy
        self.gate = gate
        self.started = started
        self.database = database
        self.stopping = asyncio.Event()


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
    def claim_token(self) -> int | None:
        """The fencing token of the run's process that asks (row W15).

        Raises:
            BadRequest: it is not a whole number.
        """
        value = self.headers.get(_CLAIM)
        if value is None:
            return None
        if not value.isdigit() or len(value) > 18:
            raise BadRequest(f"The header {CLAIM_HEADER} must be a whole number.")
        return int(value)

    async def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            TooLarge: it has more than ``limit`` bytes.
            Unavailable: it did not arrive within ``BODY_SECONDS``.
            Disconnected: the client went away.
        """
        length = self.headers.get(b"content-length")
        if length is not None and (not length.isdigit() or int(length[:20]) > limit):
            raise _too_large(limit)
        if length is None and b"transfer-encoding" not in self.headers:
            return b""
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
        while message.get("more_body", False):
            if size > limit:
                break
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        if size > limit:
            raise _too_large(limit)
        return b"".join(parts)

    async def until_disconnect(self) -> None:
        """Wait until the client goes away; for an answer that may take long. Call it after the body."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The request is larger than {limit} bytes.", fix="Send less in one request, or raise the limit."
    )
