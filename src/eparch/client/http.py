"""Sends calls to a server over HTTP: one blocking client, and the same one for async code.

Owns connections, authentication, retries of faults that pass and the CSRF token. When to retry is decided
in ``retries``, what an answer means in ``answers``, what can be asked in ``core.calls``.
"""

from __future__ import annotations

import base64
import http.client
import os
import random
import select
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4
from weakref import WeakSet

from eparch.client.answers import Answer, check_admin_version, error_of, is_csrf, value_of
from eparch.client.retries import BUSY, Fault, Retries, retry_after_of
from eparch.core import calls
from eparch.core.calls import Call
from eparch.core.errors import EparchError, Forbidden, SettingInvalid, TooLarge, Unreachable
from eparch.core.model import encode
from eparch.settings import Settings
from eparch.version import __version__

T = TypeVar("T")

API_VERSION = "0.8.4"
"""Of the wire (section 1, "Version header")."""

DEFAULT_URL = "http://127.0.0.1:4200/api"
MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_IDLE_CONNECTIONS = 8

_clients: WeakSet[Client] = WeakSet()


class Client:
    """A server's API, for any number of threads; connections are kept and reused.

    ``auth`` is the value of the ``Authorization`` header. ``timeout`` is in seconds, for connecting and for
    each wait on the server. A process that forks may go on using it on both sides.
    """

    def __init__(
        self,
        api_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: str | None = None,
        timeout: float = 60.0,
        retries: Retries | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(api_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unreachable(
                f"{api_url!r} is not the URL of an API.", fix=f"It has to look like {DEFAULT_URL}."
            )
        self.api_url = api_url.rstrip("/")
        self.timeout = timeout
        self.retries = Retries() if retries is None else retries
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._id = str(uuid4())
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": f"eparch/{__version__}",
            "X-PREFECT-API-VERSION": API_VERSION,
            **({"Authorization": auth} if auth else {}),
            **(headers or {}),
        }
        for name, value in self._headers.items():
            _check_header(name, value)
        self._heard: tuple[str | None, float] = None, 0.0
        self._begin()
        _clients.add(self)

    def _begin(self) -> None:
        """Begin without a connection; also what a forked child does, whose sockets are the parent's."""
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def send(self, call: Call[T], *, timeout: float | None = None) -> T:
        """Send ``call`` and return its answer; ``timeout`` (seconds) for this call instead of the client's.

        Faults that pass are retried as ``retries`` says.

        Raises:
            Unreachable: there is no server, or no API of ours, at the URL.
            EparchError: the server refused, by the class that ``core.errors.STATUS`` has for the status.
        """
        body = None if call.body is None else encode(call.body)
        return self._with_token(lambda: self._value(call, body, timeout))

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        """Any request as it is, for ``eparch api``: ``path`` starts with a slash and follows the API's URL.

        Raises:
            EparchError: as ``send``; only an answer with a status below 300 is returned.
        """
        endpoint: calls.Endpoint[Any] = calls.Endpoint(method, path, Any)
        call = Call(endpoint, path, body)
        encoded = None if body is None else encode(body)

        def exchange() -> Answer:
            answer = self._exchange(call, encoded, None)
            if answer.status >= 300:
                raise error_of(answer, method, path, self.api_url)
            return answer

        return self._with_token(exchange)

    def check_version(self) -> str:
        """The version of the API that the server says it speaks.

        Raises:
            VersionMismatch: it is of another major version, or no server that we know (row B24).
        """
        version = self.send(calls.read_admin_version())
        check_admin_version(version, self.api_url)
        return version

    @property
    def skew(self) -> float | None:
        """Seconds by which this clock was ahead of the server's at the last answer, to about one; None if the
        server did not say.
        """
        from email.utils import parsedate_to_datetime

        said, here = self._heard
        try:
            return here - parsedate_to_datetime(said).timestamp() if said else None
        except ValueError:
            return None

    def close(self) -> None:
        """Close the connections; the client can still be used and opens new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self.close()
        return False

    # One call

    def _value(self, call: Call[T], body: bytes | None, timeout: float | None) -> T:
        answer = self._exchange(call, body, timeout)
        value: T = value_of(answer, call, self.api_url)
        return value

    def _exchange(self, call: Call[Any], body: bytes | None, timeout: float | None) -> Answer:
        """Send it, again where that may help; the last answer, or the last fault as an error."""
        begun, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            answer, fault, failure = self._attempt(call, body, timeout)
            if answer is not None and fault is None:
                return answer
            assert fault is not None
            pause = self.retries.delay(
                fault,
                idempotent=call.idempotent,
                attempt=attempt,
                elapsed=time.monotonic() - begun,
                roll=random.random(),  # noqa: S311 - spreads load, keeps no secret
            )
            if pause is None:
                if answer is not None:
                    return answer
                raise self._unreachable(failure, timeout) from failure
            time.sleep(pause)

    def _attempt(
        self, call: Call[Any], body: bytes | None, timeout: float | None
    ) -> tuple[Answer | None, Fault | None, Exception | None]:
        """An answer, or what went wrong; both when the answer says that the server is busy."""
        connection = None
        try:
            connection = self._take(timeout)
            answer, keep = self._speak(connection, call, body)
        except (OSError, http.client.HTTPException) as failure:
            if connection is not None:
                connection.close()
            reached = connection is not None
            return None, Fault(connected=reached, sent=reached), failure
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        if keep:
            self._give(connection)
        else:
            connection.close()
        if answer.status not in BUSY:
            return answer, None, None
        asked = retry_after_of(answer.headers.get("retry-after"), datetime.now(UTC))
        return answer, Fault(sent=answer.status == 504, retry_after=asked), None

    def _speak(
        self, connection: http.client.HTTPConnection, call: Call[Any], body: bytes | None
    ) -> tuple[Answer, bool]:
        headers = {**self._headers, **call.headers}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(call.method, self._prefix + call.path, body, headers)
        response = connection.getresponse()
        named = {name.lower(): value for name, value in response.getheaders()}
        self._heard = named.get("date"), time.time()
        data = _read(response, named.get("content-encoding") == "gzip")
        return Answer(response.status, named, data), not response.will_close

    def _unreachable(self, failure: Exception | None, timeout: float | None) -> Unreachable:
        reason = _reason(failure, self.timeout if timeout is None else timeout)
        return Unreachable(
            f"Cannot reach the server at {self.api_url}: {reason}.",
            fix="Start one with `eparch server start` or set EPARCH_API_URL.",
        )

    # Connections

    def _take(self, timeout: float | None) -> http.client.HTTPConnection:
        seconds = self.timeout if timeout is None else timeout
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect(seconds)
            if connection.sock is not None and not _is_stale(connection.sock):
                connection.sock.settimeout(seconds)
                return connection
            connection.close()

    def _give(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < MAX_IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=seconds, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=seconds)
        connection.connect()
        return connection

    # CSRF (wire section 1): asked for only when the server says that it wants a token

    def _with_token(self, exchange: Callable[[], T]) -> T:
        """``exchange``, once more with a new token where the server asks for one."""
        try:
            return exchange()
        except Forbidden as error:
            if not is_csrf(error):
                raise
            self._fetch_csrf_token()
            return exchange()

    def _fetch_csrf_token(self) -> None:
        token = self._value(calls.read_csrf_token(client=self._id), None, None)
        self._headers = {
            **self._headers,
            "Prefect-Csrf-Token": token.token,
            "Prefect-Csrf-Client": self._id,
        }


class AsyncClient:
    """The same client for async code: each call is sent from a thread, so nothing is written twice."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def send(self, call: Call[T], *, timeout: float | None = None) -> T:
        """As ``Client.send``, without blocking the event loop."""
        import asyncio

        return await asyncio.to_thread(self.client.send, call, timeout=timeout)

    def close(self) -> None:
        """As ``Client.close``."""
        self.client.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self.close()
        return False


def connect(settings: Settings, *, api_url: str | None = None, retries: Retries | None = None) -> Client:
    """A client as ``settings`` say, for ``api_url`` or else the one that they name."""
    return Client(
        api_url or settings.api_url or DEFAULT_URL,
        headers=settings.custom_headers,
        auth=authorization_of(settings),
        timeout=settings.request_timeout,
        retries=retries or Retries(attempts=settings.max_retries),
        tls=tls_of(settings),
    )


def authorization_of(settings: Settings) -> str | None:
    """The ``Authorization`` header: Basic for a user and password, Bearer for a key (wire section 1)."""
    if settings.auth_string:
        return "Basic " + base64.b64encode(settings.auth_string.encode()).decode()
    return f"Bearer {settings.api_key}" if settings.api_key else None


def serves_us(client: Client) -> calls.ServerFacts | None:
    """Facts of the server when it is one of ours, None when it is a stock one.

    Raises:
        Unreachable: there is no server.
    """
    try:
        return client.send(calls.read_server())
    except Unreachable:
        raise
    except EparchError:
        return None


def tls_of(settings: Settings) -> ssl.SSLContext | None:
    """Whom to trust, as ``settings`` say; None is what everybody trusts."""
    if settings.tls_ca_file is None and not settings.tls_insecure:
        return None
    context = ssl.create_default_context(cafile=settings.tls_ca_file)
    if settings.tls_insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _check_header(name: str, value: str) -> None:
    """A header can hold printable Latin-1 only; its value may be a secret and is not shown."""
    well = name.isascii() and name.isprintable() and value.isprintable() and not set(name) & set(" :")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        well = False
    if not well:
        raise SettingInvalid(
            f"The header {name!r} cannot be sent.",
            why="Its name or value has a character that a header cannot hold.",
            fix="Check EPARCH_CUSTOM_HEADERS, EPARCH_API_KEY and EPARCH_AUTH_STRING.",
        )


def _is_stale(sock: socket.socket) -> bool:
    """The server closed it, or said something unasked: a quiet connection has nothing to read."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _read(response: http.client.HTTPResponse, gzipped: bool) -> bytes:
    """The body, at most ``MAX_ANSWER_BYTES`` long.

    Raises:
        TooLarge: it is longer.
        HTTPException: it is broken off or not what it says.
    """
    data = response.read(MAX_ANSWER_BYTES + 1)
    if response.length:  # fewer bytes came than were announced
        raise http.client.IncompleteRead(data, response.length)
    if gzipped and data:
        inflate = zlib.decompressobj(wbits=31)
        try:
            data = inflate.decompress(data, MAX_ANSWER_BYTES + 1)
        except zlib.error as error:
            raise http.client.HTTPException(f"the answer is not gzip: {error}") from error
    if len(data) > MAX_ANSWER_BYTES:
        raise TooLarge("The server's answer is too large.", fix="Ask for less, with a filter or a limit.")
    return data


def _reason(failure: Exception | None, timeout: float) -> str:
    """One short line about a connection that failed."""
    if isinstance(failure, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(failure, ConnectionRefusedError):
        return "connection refused"
    if isinstance(failure, socket.gaierror):
        return "the host is not known"
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({failure.verify_message})"
    if isinstance(failure, http.client.RemoteDisconnected | ConnectionError | http.client.IncompleteRead):
        return "the connection was lost"
    if isinstance(failure, http.client.HTTPException):
        return "it does not speak HTTP" if not str(failure) else f"it does not speak HTTP ({failure})"
    return getattr(failure, "strerror", None) or str(failure)


def _forget_connections() -> None:
    for client in list(_clients):
        idle = client._idle
        client._begin()
        for connection in idle:
            connection.close()  # the child's end only: nothing is sent, the parent's stays open


os.register_at_fork(after_in_child=_forget_connections)
