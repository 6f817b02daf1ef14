"""A socket of the server: the handshake, JSON frames, and how it ends (wire 4.3).

Owns the connection; what the frames mean is the business of whoever opened it. Connecting again after a
loss is theirs too: only they know from where to go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from eparch.client.http import DEFAULT_URL, tls_of
from eparch.core.errors import Disconnected, Forbidden, Unreachable, from_status
from eparch.core.model import decode, encode
from eparch.settings import Settings

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

SUBPROTOCOL = "prefect"
POLICY_VIOLATION = 1008
MAX_FRAME_BYTES = 64 * 1024 * 1024
PING_SECONDS = 20.0
"""A server that does not answer to a ping for so long is gone."""
CLOSE_SECONDS = 2.0
"""How long a server may take to say goodbye."""


class Socket:
    """One open connection. One thread may receive while others send."""

    def __init__(self, connection: ClientConnection, place: str) -> None:
        """Made by ``connect``; ``place`` is its URL."""
        self._connection = connection
        self._place = place

    def send(self, value: Any) -> None:
        """Send ``value`` as JSON.

        Raises:
            Disconnected: the connection is over.
        """
        from websockets.exceptions import ConnectionClosed

        try:
            self._connection.send(encode(value).decode())
        except ConnectionClosed as closed:
            raise self._over(closed) from closed

    def receive(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next message; None when none came within ``timeout`` seconds.

        Raises:
            Disconnected: the connection is over; ``code`` and ``reason`` are what the server said.
        """
        from websockets.exceptions import ConnectionClosed

        try:
            frame = self._connection.recv(timeout)
        except TimeoutError:
            return None
        except ConnectionClosed as closed:
            raise self._over(closed) from closed
        try:
            message: Any = decode(frame)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise Disconnected(f"{self._place} sent what is no message.", code=1002)
        return message

    def _over(self, closed: Any) -> Disconnected:
        code = closed.rcvd.code if closed.rcvd is not None else 1006
        reason = closed.rcvd.reason if closed.rcvd is not None else ""
        message = f"The connection to {self._place} is over."
        return Disconnected(message, why=reason or f"code {code}", code=code, reason=reason)


@contextlib.contextmanager
def connect(settings: Settings, path: str, *, api_url: str | None = None) -> Iterator[Socket]:
    """The socket ``path`` (``/events/out``) of the API at ``api_url``, or of the one that settings name.

    Raises:
        Unreachable: nobody is there.
        Forbidden: the secret is not the right one, or the server does not offer this socket.
        EparchError: the server refused otherwise, by its HTTP status.
    """
    url = (api_url or settings.api_url or DEFAULT_URL).rstrip("/") + path
    place = "ws" + url.removeprefix("http")
    with contextlib.ExitStack() as stack:
        socket = Socket(_open(stack, place, settings), place)
        _authenticate(socket, settings)
        yield socket


def _open(stack: contextlib.ExitStack, place: str, settings: Settings) -> ClientConnection:
    from websockets.exceptions import InvalidStatus, WebSocketException
    from websockets.sync.client import connect as open_socket
    from websockets.typing import Subprotocol

    try:
        opened = open_socket(
            place,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            additional_headers=dict(settings.custom_headers),
            ssl=tls_of(settings) if place.startswith("wss:") else None,
            open_timeout=settings.request_timeout,
            close_timeout=CLOSE_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            max_size=MAX_FRAME_BYTES,
        )
        connection: ClientConnection = stack.enter_context(opened)
    except InvalidStatus as refused:
        raise from_status(refused.response.status_code, f"The server refused {place}.") from refused
    except (OSError, ValueError, WebSocketException) as failure:
        raise Unreachable(
            f"Cannot reach the server at {place}: {failure}.",
            fix="Start one with `eparch server start` or set EPARCH_API_URL.",
        ) from failure
    return connection


def _authenticate(socket: Socket, settings: Settings) -> None:
    try:
        socket.send({"type": "auth", "token": settings.api_key or settings.auth_string or None})
        answer = socket.receive(settings.request_timeout)
    except Disconnected as closed:
        if closed.code != POLICY_VIOLATION:
            raise
        raise Forbidden(
            "The server refused the secret.", why=closed.reason, fix="Check EPARCH_AUTH_STRING."
        ) from closed
    if answer is None or answer.get("type") != "auth_success":
        raise Unreachable("The server did not answer to the handshake of a socket.")
