"""Who may ask: the secret, the token against cross-site requests, host and origin, the version of the API.

Owns the checks that come before any handler (wire section 1, "Auth", "CSRF", "CORS", "Version header").
Secrets are compared in constant time and never logged.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from eparch.api.policy import MIN_API_VERSION, Policy
from eparch.core.calls import CsrfToken
from eparch.core.errors import BadRequest, Forbidden, Unauthorized

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 200
MAX_KNOWN_VERSIONS = 64
LEEWAY_SECONDS = 30
"""How much longer a token is taken than it says: it may expire on its way, and clocks differ."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

SIMPLE_HEADERS = frozenset({"accept", "accept-language", "content-language", "content-type"})
"""Headers that every page may send (Fetch standard, "CORS-safelisted request-header")."""

PREFLIGHT_SECONDS = 600

_PRIVATE = re.compile(r"(.*\.)?(localhost|internal|local|test|home\.arpa)|[^.:]+")
"""Names that nobody can register in the public DNS; `host.docker.internal` is one."""

_ADDRESS = re.compile(r"\[[0-9a-f:.%]+\]|[0-9]+(\.[0-9]+){3}")


class Gate:
    """Lets a request in or raises why not."""

    def __init__(self, policy: Policy) -> None:
        """``policy`` says what is asked for."""
        self._secret = policy.auth_string.encode() if policy.auth_string else None
        self._csrf = policy.csrf_enabled
        self._csrf_seconds = policy.csrf_seconds
        self._origins = frozenset(policy.origins)
        self._methods = METHODS if "*" in policy.cors_methods else policy.cors_methods
        self._headers = None if "*" in policy.cors_headers else frozenset(policy.cors_headers)
        self._hosts = None if policy.hosts is None else frozenset(policy.hosts)
        self._versions: set[bytes] = set()
        self._key = policy.csrf_key or os.urandom(32)

    def admit(self, method: str, headers: dict[bytes, bytes], *, open_to_all: bool = False) -> None:
        """Let a request with these headers in; ``open_to_all`` asks for no secret (health, ready).

        Raises:
            Unauthorized: the secret is missing or wrong.
            Forbidden: it comes from another site or to another host, or its token is missing or wrong.
            BadRequest: its version of the API is malformed or too old.
        """
        if self._hosts is not None:
            self.check_host(headers)
        if self._secret is not None and not open_to_all:
            self._check_secret(headers.get(b"authorization", b""))
        version = headers.get(b"x-prefect-api-version")
        if version is not None and version not in self._versions:
            self._check_version(version)
        if method not in SAFE_METHODS:
            origin = headers.get(b"origin")
            if origin is not None:
                self.check_origin(origin, headers)
            if self._csrf:
                self._check_token(headers)

    def _check_secret(self, header: bytes) -> None:
        assert self._secret is not None
        scheme, _, given = header.partition(b" ")
        scheme = scheme.lower()
        if scheme == b"basic":
            try:
                given = b64decode(given.strip(), validate=True)
            except (Base64Error, ValueError):
                given = b""
        elif scheme == b"bearer":
            given = given.strip()
        else:
            given = b""
        if not hmac.compare_digest(given, self._secret):
            raise Unauthorized

    def admit_token(self, token: object) -> bool:
        """Whether ``token`` of a socket's first message is the secret; always when none is asked for."""
        if self._secret is None:
            return True
        given = token.encode("utf-8", "replace") if isinstance(token, str) else b""
        return hmac.compare_digest(given, self._secret)

    @property
    def asks_secret(self) -> bool:
        """Whether there is a secret to know."""
        return self._secret is not None

    def check_host(self, headers: dict[bytes, bytes]) -> None:
        """Refuse a public name that is not this server's: a page may have made it lead here (DNS rebinding).

        Raises:
            Forbidden: ``Host`` is such a name.
        """
        if self._hosts is None:
            return
        given = headers.get(b"host", b"localhost").decode("latin-1").lower()
        host, _, port = given.rpartition(":")
        name = (host if host and port.isdigit() else given).rstrip(".")
        if not (name in self._hosts or _PRIVATE.fullmatch(name) or _ADDRESS.fullmatch(name)):
            raise Forbidden(
                f"This server is not called {name[:200]}.",
                why="It listens on its own machine without a secret, so pages of other sites could use it.",
                fix="Set EPARCH_SERVER_ALLOWED_HOSTS to that name, or EPARCH_SERVER_AUTH_STRING to a secret.",
            )

    def check_origin(self, origin: bytes, headers: dict[bytes, bytes]) -> None:
        """Refuse a page of another site, which a browser would let send simple requests and open sockets.

        Raises:
            Forbidden: ``origin`` is neither this host nor one of the allowed sites.
        """
        site = origin.decode("latin-1")
        if self.allows(site):
            return
        hosts = {headers.get(name) for name in (b"host", b"x-forwarded-host")} - {None}
        try:
            place = urlsplit(site).netloc.lower().encode("latin-1")
        except ValueError:
            place = b""
        if place not in {host.lower() for host in hosts if host}:
            raise Forbidden(
                f"Pages of {site[:200]} may not call this server.",
                fix="Allow that origin: EPARCH_SERVER_CORS_ALLOWED_ORIGINS.",
            )

    def allows(self, site: str) -> bool:
        """Whether pages of ``site`` (scheme and host) may call the API."""
        return bool(self._origins) and ("*" in self._origins or site in self._origins)

    def shared_with(self, origin: bytes) -> bytes | None:
        """What ``Access-Control-Allow-Origin`` says to ``origin``; None is nothing.

        There is never an ``Access-Control-Allow-Credentials``: a page has to know the secret itself.
        """
        if "*" in self._origins:
            return b"*"
        return origin if self.allows(origin.decode("latin-1")) else None

    def preflight(self, headers: dict[bytes, bytes]) -> dict[str, str] | None:
        """The headers that answer a preflight (Fetch standard, "CORS protocol"); None when it is none.

        Raises:
            Forbidden: pages of that origin may not call, or not so.
        """
        origin = headers.get(b"origin")
        method = headers.get(b"access-control-request-method")
        if origin is None or method is None:
            return None
        if not self.allows(origin.decode("latin-1")):
            raise Forbidden("Disallowed CORS origin", fix="Allow it: EPARCH_SERVER_CORS_ALLOWED_ORIGINS.")
        if method.decode("latin-1").upper() not in self._methods:
            raise Forbidden("Disallowed CORS method", fix="Allow it: EPARCH_SERVER_CORS_ALLOWED_METHODS.")
        asked = headers.get(b"access-control-request-headers", b"").decode("latin-1")
        names = {name.strip().lower() for name in asked.split(",")} - {""}
        if self._headers is not None and not names <= self._headers | SIMPLE_HEADERS:
            raise Forbidden("Disallowed CORS headers", fix="Allow them: EPARCH_SERVER_CORS_ALLOWED_HEADERS.")
        answer = {
            "access-control-allow-methods": ", ".join(self._methods),
            "access-control-max-age": str(PREFLIGHT_SECONDS),
        }
        return {**answer, "access-control-allow-headers": asked[:2000]} if names else answer

    def _check_version(self, header: bytes) -> None:
        text = header.decode("latin-1")
        numbers = text.split(".")
        if len(numbers) != 3 or not all(n.isascii() and n.isdigit() and len(n) < 10 for n in numbers):
            raise BadRequest(
                "Invalid X-PREFECT-API-VERSION header format."
                f"Expected header in format 'x.y.z' but received {text[:100]}"
            )
        if tuple(map(int, numbers)) < MIN_API_VERSION:
            least = ".".join(map(str, MIN_API_VERSION))
            raise BadRequest(
                f"The request specified API version {text} "
                f"but this server requires version {least} or higher."
            )
        if len(self._versions) < MAX_KNOWN_VERSIONS:
            self._versions.add(header)

    def _check_token(self, headers: dict[bytes, bytes]) -> None:
        token = headers.get(b"prefect-csrf-token")
        client = headers.get(b"prefect-csrf-client")
        if token is None:
            raise Forbidden("Missing CSRF token.")
        if client is None:
            raise Forbidden("Missing client identifier.")
        until, _, seal = token.partition(b".")
        fresh = until.isdigit() and len(until) < 15 and int(until) + LEEWAY_SECONDS >= _now().timestamp()
        if not hmac.compare_digest(seal, self._seal(client, until)) or not fresh:
            raise Forbidden("Invalid CSRF token or client identifier.")

    def issue(self, client: str) -> CsrfToken:
        """A token for ``client``: it proves itself, so nothing is stored."""
        expiration = _now().replace(microsecond=0) + timedelta(seconds=self._csrf_seconds)
        until = str(int(expiration.timestamp())).encode()
        seal = self._seal(client.encode("utf-8", "replace"), until)
        return CsrfToken(token=(until + b"." + seal).decode(), client=client, expiration=expiration)

    def _seal(self, client: bytes, until: bytes) -> bytes:
        return hmac.new(self._key, until + b"\n" + client, hashlib.sha256).hexdigest().encode()


def basic(auth_string: str) -> str:
    """The value of ``Authorization`` for ``auth_string`` (RFC 7617)."""
    return "Basic " + b64encode(auth_string.encode()).decode()


def oversized(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request has more headers than any honest one."""
    if len(headers) > MAX_HEADERS:
        return True
    return sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES


def _now() -> datetime:
    return datetime.now(UTC)
