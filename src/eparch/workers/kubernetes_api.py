"""The few requests that a worker makes of a Kubernetes API, over HTTP.

Owns connections, credentials in requests, and streams of lines. Every request may be sent twice without harm:
the one that creates is known by a label. Does not own what is asked or when (ADR 0011).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from eparch.core.errors import InfrastructureError
from eparch.version import __version__
from eparch.workers.kubernetes_access import Access
from eparch.workers.kubernetes_faults import Asked, ClusterAway, explain_status

TIMEOUT = 30.0
"""Seconds for each wait on the API."""

_IDLE = 8
_MOST_BYTES = 64 * 1024 * 1024
_LINE_BYTES = 16 * 1024 * 1024
"""Longest line of a watch; an object in etcd has at most 1.5 MiB."""

_FAULTS = (OSError, http.client.HTTPException)

GROUPS = {"jobs": "batch/v1", "leases": "coordination.k8s.io/v1"}
"""API group and version of what is no part of the core group."""

MERGE = "application/merge-patch+json"


class Lines:
    """Lines that an API sends one after the other."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection, self._response = connection, response
        self._socket = connection.sock

    def __iter__(self) -> Iterator[bytes]:
        """The lines with their ends; one that is too long, or was cut off, has none.

        Raises:
            ClusterAway: the connection broke.
        """
        try:
            while line := self._response.readline(_LINE_BYTES):
                yield line
        except (*_FAULTS, ValueError, AttributeError) as error:
            # The last two are what http.client makes of a socket that is shut down while it is read.
            raise ClusterAway("The Kubernetes API broke off", why=_reason(error)) from None

    def interrupt(self) -> None:
        """End it from another thread than the one that reads."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()
        self._connection.close()


class Api:
    """One cluster, for any number of threads."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def send(
        self, asked: Asked, *, query: Mapping[str, str] | None = None, body: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        """The answer to a request.

        Raises:
            ClusterAway: the API cannot be reached, or is busy.
            InfrastructureError: it refuses.
        """
        connection, response = self._exchange(asked, query, body, TIMEOUT)
        try:
            data = response.read(_MOST_BYTES + 1)
        except _FAULTS as error:
            connection.close()
            raise self._away(error) from None
        if len(data) > _MOST_BYTES:
            connection.close()
            raise InfrastructureError("The answer of the Kubernetes API is too large", why=asked.resource)
        if response.will_close:
            connection.close()
        else:
            self._give(connection)
        answer = _decode(data)
        if response.status >= 300:
            raise explain_status(response.status, answer, asked, self.access.origin)
        return answer

    def stream(self, asked: Asked, *, query: Mapping[str, str], timeout: float) -> Lines:
        """The lines of an answer as they come; ``timeout`` in seconds for each wait.

        Raises:
            ClusterAway: the API cannot be reached, or is busy.
            InfrastructureError: it refuses.
        """
        connection, response = self._exchange(asked, query, None, timeout)
        if response.status >= 300:
            with contextlib.closing(connection):
                data = b""
                with contextlib.suppress(*_FAULTS):
                    data = response.read(_MOST_BYTES)
            raise explain_status(response.status, _decode(data), asked, self.access.origin)
        return Lines(connection, response)

    def close(self) -> None:
        """Close what waits to be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _exchange(
        self, asked: Asked, query: Mapping[str, str] | None, body: Any, timeout: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """A response whose body is not read; with new credentials if the old ones were refused."""
        for attempt in (1, 2):
            connection, response = self._speak(asked, query, body, timeout)
            if response.status != 401 or attempt == 2:
                return connection, response
            connection.close()
            self.access.forget()
        raise AssertionError

    def _speak(
        self, asked: Asked, query: Mapping[str, str] | None, body: Any, timeout: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        method, path = _METHODS[asked.verb], self.access.prefix + path_of(asked)
        if query:
            path = f"{path}?{urlencode(query)}"
        headers = {"Accept": "application/json, */*", "User-Agent": f"eparch/{__version__}"}
        headers |= self.access.headers()
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = MERGE if method == "PATCH" else "application/json"
        while True:
            connection, is_new = self._take(timeout)
            try:
                connection.request(method, path, data, headers)
                return connection, connection.getresponse()
            except _FAULTS as error:
                connection.close()
                # One that was kept may have been closed by the other side while nobody looked.
                if is_new or isinstance(error, TimeoutError):
                    raise self._away(error) from None

    def _take(self, timeout: float) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        if kept is not None and kept.sock is not None:
            kept.sock.settimeout(timeout)
            return kept, False
        connection = self._connection(timeout)
        try:
            connection.connect()
        except _FAULTS as error:
            connection.close()
            raise self._away(error) from None
        return connection, True

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        host, port = self.access.address
        context = self.access.context()
        proxy = urlsplit(self.access.place.proxy or _proxy_of(self.access.place.server, host))
        near = (proxy.hostname, proxy.port or 3128) if proxy.hostname else (host, port)
        name = self.access.place.server_name
        connection: http.client.HTTPConnection
        if context is None:
            connection = http.client.HTTPConnection(*near, timeout=timeout)
        elif name:
            connection = _Named(*near, timeout=timeout, context=context, name=name)
        else:
            connection = http.client.HTTPSConnection(*near, timeout=timeout, context=context)
        if proxy.hostname:
            connection.set_tunnel(host, port)
        return connection

    def _give(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _away(self, error: Exception) -> InfrastructureError:
        trusted = isinstance(error, ssl.SSLCertVerificationError)
        return ClusterAway(
            f"The Kubernetes API at {self.access.url} cannot be reached",
            why=_reason(error),
            fix=f"correct 'certificate-authority' in {self.access.origin}" if trusted
            else f"check that the cluster runs and that {self.access.origin} names it",
        )  # fmt: skip


class _Named(http.client.HTTPSConnection):
    """TLS to a server whose certificate has another name than its address (``tls-server-name``)."""

    def __init__(
        self, host: str | None, port: int, *, timeout: float, context: ssl.SSLContext, name: str
    ) -> None:
        super().__init__(host or "", port, timeout=timeout)
        self._trusted, self._name = context, name

    def connect(self) -> None:
        """Connect, and ask for the certificate of ``name``."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._trusted.wrap_socket(self.sock, server_hostname=self._name)


_METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "patch": "PATCH",
    "delete": "DELETE",
}


def path_of(asked: Asked) -> str:
    """Where an object, or a collection of them, is in the API."""
    resource, _, sub = asked.resource.partition("/")
    parts = ["apis", GROUPS[resource]] if resource in GROUPS else ["api", "v1"]
    if asked.namespace is not None:
        parts += ["namespaces", quote(asked.namespace, safe="")]
    parts.append(resource)
    if asked.name:
        parts.append(quote(asked.name, safe=""))
    return "/" + "/".join([*parts, sub] if sub else parts)


def asked_for(verb: str, resource: str, namespace: str | None = None, name: str = "") -> Asked:
    """A request, with the API group of its resource."""
    group = GROUPS.get(resource.partition("/")[0], "/v1").partition("/")[0]
    return Asked(verb, resource, group, namespace, name)


def _proxy_of(url: str, host: str) -> str:
    """The proxy of the environment, as every other program takes it."""
    from urllib.request import getproxies, proxy_bypass

    if not any(name.lower().endswith("_proxy") for name in os.environ) or proxy_bypass(host):
        return ""
    return getproxies().get(urlsplit(url).scheme, "") if url.startswith("https") else ""


def _decode(data: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(data)
    except ValueError:
        return {"message": data[:1000].decode(errors="replace")}
    return answer if isinstance(answer, dict) else {}


def _reason(error: Exception) -> str:
    """One short line about a connection that failed."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return "the host is not known"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    return getattr(error, "strerror", None) or str(error) or "the connection was lost"
