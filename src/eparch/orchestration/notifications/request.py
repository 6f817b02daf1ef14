"""One HTTP request to an address that a user named.

Owns its bounds: where it may go, how long it takes, how much of the answer is read. No redirect is followed:
an address that was checked must not lead to one that was not.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from eparch.orchestration.notifications.message import Answered, NotSent

SECONDS = 10.0
MOST_SECONDS = 60.0
MAX_ANSWER = 65_536
"""Bytes of an answer that are read."""
SHOWN = 1000
"""Characters of it that are kept."""

METHODS = frozenset({"DELETE", "GET", "PATCH", "POST", "PUT"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HIDDEN = ("authorization", "cookie", "set-cookie", "traceparent", "via")
_HIDDEN_PREFIXES = ("x-forwarded", "x-b3", "x-cloud-trace", "x-envoy", "x-prefect")


def send(
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    *,
    seconds: float = SECONDS,
    private: bool = True,
    verify: bool = True,
) -> Answered:
    """Send it and read the answer, whatever its status.

    ``private``: it may go to an address inside of a private network.

    Raises:
        NotSent: it may not go there, its headers cannot be sent, or there is no answer in time.
    """
    parts, host, port = _place(url)
    if method not in METHODS:
        raise NotSent(f"The method {method!r} cannot be used.")
    target = parts.path or "/"
    if parts.query:
        target += f"?{parts.query}"
    _check_text("The URL", target + host)
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise NotSent("The name of a header cannot be sent.")
        _check_text(f"The header {name}", value)
    seconds = min(max(seconds, 0.1), MOST_SECONDS)
    secure = parts.scheme == "https"
    line = _Line(_connect(host, port or (443 if secure else 80), seconds, private))
    timer = threading.Timer(seconds, line.cut)
    timer.daemon = True
    timer.start()
    try:
        if secure:
            line.secure(_context(verify), host)
        connection = http.client.HTTPConnection(host, port, timeout=seconds)
        connection.sock = line.sock
        given = {"User-Agent": "eparch", "Connection": "close", **headers}
        connection.request(method, _ascii(target), body=body, headers=given)
        return _read(connection, line)
    except ssl.SSLCertVerificationError as error:
        raise NotSent(f"The certificate of the server is not valid: {error.verify_message}") from error
    except (http.client.HTTPException, UnicodeError) as error:
        if line.is_cut:
            raise NotSent(f"The server did not answer within {seconds:g} seconds.", passes=True) from error
        raise NotSent(f"The server answered what is not HTTP: {type(error).__name__}", passes=True) from error
    except OSError as error:
        # Who is cut off while it sends may reset the connection before the cut is read here.
        if not (line.is_cut or isinstance(error, TimeoutError)):
            raise
        raise NotSent(f"The server did not answer within {seconds:g} seconds.", passes=True) from error
    finally:
        timer.cancel()
        line.sock.close()


def _place(url: str) -> tuple[SplitResult, str, int | None]:
    """The parts of ``url``, its host and its port, if it names one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise NotSent("The URL cannot be read.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotSent("Only URLs with http or https can be called.")
    return parts, parts.hostname, port


class _Line:
    """A connection that can be cut from another thread: no server keeps us by answering byte by byte."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.is_cut = False

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Speak TLS from here on."""
        sock = context.wrap_socket(self.sock, server_hostname=host, do_handshake_on_connect=False)
        self.sock = sock
        sock.do_handshake()

    def cut(self) -> None:
        """End it, whatever is going on."""
        self.is_cut = True
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


def _check_text(what: str, text: str) -> None:
    if any(ord(one) < 32 or ord(one) == 127 for one in text) or (" " in text and what == "The URL"):
        raise NotSent(f"{what} has a character that cannot be sent.")


def _ascii(target: str) -> str:
    from urllib.parse import quote

    return quote(target, safe="/?&=%:@!$'()*+,;~-._#[]")


def _connect(host: str, port: int, seconds: float, private: bool) -> socket.socket:
    """A connection to one of the addresses that were checked: the name is not looked up again."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotSent("The name of the server cannot be resolved.", passes=True) from error
    addresses = [info[4] for info in found]
    if not private and any(_is_inside(str(address[0])) for address in addresses):
        raise NotSent("The URL leads to an address that is private, which this block does not allow.")
    failure: OSError | None = None
    for address in addresses[:4]:
        try:
            return socket.create_connection((str(address[0]), port), timeout=seconds)
        except OSError as error:
            failure = error
    raise NotSent(f"The server cannot be reached: {type(failure).__name__}", passes=True) from failure


def _is_inside(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return not (mapped or found).is_global or (mapped or found).is_multicast


def _context(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _read(connection: http.client.HTTPConnection, line: _Line) -> Answered:
    response = connection.getresponse()
    if line.is_cut:  # what looks like the end of the headers is where they were cut
        raise TimeoutError
    parts: list[bytes] = []
    size = 0
    try:
        while size < MAX_ANSWER and (part := response.read1(MAX_ANSWER - size)):
            parts.append(part)
            size += len(part)
    except ConnectionError:
        if not line.is_cut:
            raise
    text = b"".join(parts).decode("utf-8", "replace").replace("\x00", "\ufffd")
    shown = {
        name.lower(): value[:SHOWN]
        for name, value in response.getheaders()[:50]
        if not name.lower().startswith(_HIDDEN_PREFIXES) and name.lower() not in _HIDDEN
    }
    return Answered(response.status, shown, text[:SHOWN])


def refuse_failure(answered: Answered, what: str) -> None:
    """Raise when the answer is none of success.

    Raises:
        NotSent: its status is 300 or more; it passes when the server is busy or broken.
    """
    if answered.status < 300:
        return
    passes = answered.status in (408, 425, 429) or answered.status >= 500
    raise NotSent(f"{what} answered with the status {answered.status}.", passes=passes)
