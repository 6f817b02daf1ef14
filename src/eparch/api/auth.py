"""Who may ask: the secret, the token against cross-site requests, the origin and the version of the API.

Owns the checks that come before any handler (wire section 1, "Auth", "CSRF", "Version header").
Secrets are compared in constant time and never logged.
"""

from __future__ import annotations

import hashlib
import hmac
import os
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

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Gate:
    """Lets a request in or raises why not."""

    def __init__(self, policy: Policy) -> None:
        """``policy`` says what is asked for."""
        self._secret = policy.auth_string.encode() if policy.auth_string else None
        self._csrf = policy.csrf_enabled
        self._csrf_seconds = policy.csrf_seconds
        self._origins = frozenset(policy.origins)
        self._versions: set[bytes] = set()
        # Every replica that shares the secret must know the tokens of the others.
        self._key = hashlib.sha256(b"csrf" + self._secret).digest() if self._secret else os.urandom(32)

    def admit(self, method: str, headers: dict[bytes, bytes], *, open_to_all: bool = False) -> None:
        """Let a request with these headers in; ``open_to_all`` asks for no secret (health, ready).

        Raises:
            Unauthorized: the secret is missing or wrong.
            Forbidden: it comes from another site, or its token is missing or wrong.
            BadRequest: its version of the API is malformed or too old.
        """
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
                f"Pages of {site[:200]} may not call this server.", fix="Allow that origin in the settings."
            )

    def allows(self, site: str) -> bool:
        """Whether pages of ``site`` (scheme and host) may call the API."""
        return bool(self._origins) and ("*" in self._origins or site in self._origins)

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
        fresh = until.isdigit() and len(until) < 15 and int(until) >= _now().timestamp()
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
