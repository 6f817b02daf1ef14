"""One connection, read with bounded patience: who opens it and says nothing, or half of it, is hung up on.

Owns the time and the bytes that a request may take until its headers are complete. How long the body may take
is in ``request``, how long a connection may rest between two requests is uvicorn's own setting.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from eparch.api.auth import MAX_HEADER_BYTES

HEADER_SECONDS = 20.0
"""From the opening of a connection, or the first byte of a request, to the end of the headers.

As long may the rest of a body take that came after its answer.
"""

MAX_HEAD_BYTES = 4 * MAX_HEADER_BYTES
"""Of a request without its body, as it is received; below it a request is refused with words, by ``auth``."""


class Connection(HttpToolsProtocol):
    """Speaks HTTP/1.1 with one client."""

    _patience: asyncio.TimerHandle | None = None
    _in_head = False
    _in_request = False
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Wait for a request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read; what is left incomplete has to be completed soon."""
        super().data_received(data)
        if not self._in_head:
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._hang_up()
        elif self._patience is None:
            self._wait()

    def on_message_begin(self) -> None:
        """The first byte of a request is here."""
        self._in_head = self._in_request = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The request can be answered."""
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of the request is here."""
        self._in_request = False
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It is answered; the rest of a body that nobody reads may still come, but not for ever."""
        super().on_response_complete()
        if self._in_request and self._patience is None:
            self._wait()

    def _wait(self) -> None:
        self._patience = self.loop.call_later(HEADER_SECONDS, self._hang_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _hang_up(self) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.close()
