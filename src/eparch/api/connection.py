"""One connection, read with bounded patience: who opens it and says nothing, or half of it, is hung up on.

Owns how many connections there may be, the time and the bytes that a request may take until its headers are
complete, and the time in which an answer has to be taken. How long the body may take is in ``request``, how
long a connection may rest between two requests is uvicorn's own setting.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from eparch.api.auth import MAX_HEADER_BYTES

HEADER_SECONDS = 20.0
"""From the opening of a connection, or the first byte of a request, to the end of the headers.

As long may the rest of a body take that came after its answer.
"""

MAX_HEAD_BYTES = 4 * MAX_HEADER_BYTES
"""Of a request without its body, as it is received; below it a request is refused with words, by ``auth``."""

ANSWER_SECONDS = 30.0
"""Time in which a client has to take at least ``ANSWER_BYTES`` of what is written for it, or the rest."""

ANSWER_BYTES = 16 * 1024

MAX_UNTAKEN_BYTES = 4 * 1024 * 1024
"""Of answers to one socket that it has not taken; then it is not read either."""

MAX_PARTS = 1024
"""Of one message of a socket; honest clients send one."""

FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: 59\r\n\r\n"
    b'{"exception_message":"Service Unavailable","detail":"full"}'
)


class Impatient:
    """Half of a protocol: a client that does not take what is written for it is hung up on."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _left = 0
    _taking: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """The client takes what is written slower than it is made."""
        super().pause_writing()  # type: ignore[misc]
        self._watch()

    def resume_writing(self) -> None:
        """It has taken nearly all of it."""
        if not self.transport.is_closing():
            self._stop_watching()
        super().resume_writing()  # type: ignore[misc]

    def _watch(self) -> None:
        if self._taking is None:
            self._left = self.transport.get_write_buffer_size()
            self._taking = self.loop.call_later(ANSWER_SECONDS, self._check)

    def _check(self) -> None:
        self._taking = None
        if self.transport.get_write_buffer_size() > self._left - ANSWER_BYTES:
            self.transport.abort()
        else:
            self._watch()

    def _stop_watching(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


class Connection(Impatient, HttpToolsProtocol):
    """Speaks HTTP/1.1 with one client."""

    most = 5000
    """Connections, of sockets too; who comes when there are as many is sent away."""

    _patience: asyncio.TimerHandle | None = None
    _in_head = False
    _in_request = False
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.write(FULL)
            self._hang_up()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)
        self._stop_watching()

    def timeout_keep_alive_handler(self) -> None:
        """It has rested for long enough."""
        super().timeout_keep_alive_handler()
        self._watch()

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
            self._watch()


class SocketConnection(Impatient, WebSocketsSansIOProtocol):
    """Speaks WebSocket with one client; what it does not take, or never ends, is not kept for it."""

    _held = False

    def data_received(self, data: bytes) -> None:
        """Read, unless what was answered piles up: a ping is answered by whoever reads it, at once."""
        super().data_received(data)
        if not self._held and self.transport.get_write_buffer_size() > MAX_UNTAKEN_BYTES:
            self._held = True
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It has taken nearly all of it, so it may go on talking."""
        super().resume_writing()
        if self._held:
            self._held = False
            if not self.read_paused:
                self.transport.resume_reading()

    async def receive(self) -> Any:
        """The next message; taking it makes no way for more while answers pile up."""
        message = await super().receive()
        if self._held:
            self.transport.pause_reading()
        return message

    def handle_cont(self, event: Frame) -> None:
        """Add a part to a message: parts may be empty, so their number is bounded as well as their size."""
        if len(self.frames) >= MAX_PARTS:
            self._refuse(CloseCode.MESSAGE_TOO_BIG, f"A message may have {MAX_PARTS} parts.")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Hand a message over. A text that is none is the client's mistake, and not told to the log."""
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self._refuse(CloseCode.INVALID_DATA, "A text is UTF-8.")
                return
        super().send_receive_event_to_app()

    def _refuse(self, code: CloseCode, reason: str) -> None:
        self.frames = []
        if not self.close_sent:
            self.conn.send_close(code, reason)
            self.handle_parser_exception()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        super().connection_lost(exc)
        self._stop_watching()

    def stop_keepalive(self) -> None:
        """It is being closed, which both sides have to do."""
        super().stop_keepalive()
        self._watch()

    def keepalive_timeout(self) -> None:
        """Nobody is there."""
        super().keepalive_timeout()
        self._watch()
