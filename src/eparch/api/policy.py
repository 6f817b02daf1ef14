"""What the server asks of a request, as one value made from the settings.

Owns names and defaults of the limits; ``auth``, ``router`` and ``sockets`` apply them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eparch.core.deployment_versions import KEPT
from eparch.core.errors import SettingInvalid
from eparch.core.filters import MAX_LIMIT
from eparch.core.worker_instances import Keeping

if TYPE_CHECKING:
    from eparch.settings import Settings

API_VERSION = "0.8.4"
"""``GET /version``: the API version that is spoken here (wire section 1)."""

MIN_API_VERSION = (0, 8, 0)
"""A client that names an older one is refused (wire section 1, "Version header")."""

BASE_PATH = "/api"

_PART = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]+")


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits and secrets of one server."""

    auth_string: str | None = field(default=None, repr=False)
    """``user:password`` (or a bare key) that every client has to send; None asks for nothing."""
    csrf_enabled: bool = False
    csrf_seconds: float = 3600.0
    csrf_key: bytes | None = field(default=None, repr=False)
    """Seals the tokens; servers that share it know each other's. None: one is made up at the start."""
    origins: tuple[str, ...] = ()
    """Other sites whose pages may call the API; ``*`` is every site."""
    cors_methods: tuple[str, ...] = ("*",)
    cors_headers: tuple[str, ...] = ("*",)
    hosts: tuple[str, ...] | None = None
    """Public names that the server answers to; None is any."""
    base_path: str = BASE_PATH
    max_body_bytes: int = 10_000_000
    max_event_bytes: int = 1_500_000
    """One frame of a socket."""
    max_connections: int = 5000
    default_limit: int = MAX_LIMIT
    admin_version: str = "3.9.1"
    database_kind: str = "sqlite"
    idle_seconds: float = 0.0
    """Seconds without a request after which the server stops; 0 is never."""
    keeping: Keeping = field(default_factory=Keeping)
    """When a worker is gone, and when it is forgotten."""
    versions_kept: int = KEPT
    """Of each deployment."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """The settings as anybody who may ask may see them, secrets masked."""

    @staticmethod
    def of(settings: Settings, *, idle_seconds: float = 0.0) -> Policy:
        """The policy that ``settings`` ask for."""
        from eparch.settings.table import TABLE

        secret = settings.server_auth_string or None
        return Policy(
            shown={row.name: row.show(getattr(settings, row.name)) for row in TABLE},
            auth_string=secret,
            csrf_enabled=settings.csrf_enabled,
            csrf_seconds=settings.csrf_token_seconds,
            csrf_key=_shared_key(settings),
            origins=tuple(origin.rstrip("/") for origin in _listed(settings.server_cors_allowed_origins)),
            cors_methods=tuple(method.upper() for method in _listed(settings.server_cors_allowed_methods)),
            cors_headers=tuple(name.lower() for name in _listed(settings.server_cors_allowed_headers)),
            hosts=_hosts(settings.server_allowed_hosts, settings.server_host, secret),
            base_path=_base_path(settings.server_api_base_path),
            max_body_bytes=settings.max_body_bytes,
            max_connections=settings.server_max_connections,
            default_limit=settings.server_default_limit,
            admin_version=settings.admin_version,
            database_kind=settings.database_url.partition(":")[0].partition("+")[0],
            idle_seconds=idle_seconds,
            versions_kept=settings.deployment_versions_kept,
            keeping=Keeping(settings.worker_missed_heartbeats, settings.worker_forget_seconds),
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens at ``host``."""
    return host in ("localhost", "::1") or host.startswith("127.")


def exposure(address: str, secret: str | None) -> str | None:
    """What to tell whoever starts a server at ``address`` that anybody may command; None: only who should."""
    if secret or is_loopback(address):
        return None
    where = "every address of this machine" if address in ("0.0.0.0", "::") else address  # noqa: S104
    return (
        f"The server listens on {where} and asks nobody for a secret. Whoever reaches it may read everything"
        " and run code on your workers. Set EPARCH_SERVER_AUTH_STRING=user:password here and"
        " EPARCH_AUTH_STRING to the same for clients, or listen on 127.0.0.1 only (--host 127.0.0.1)."
    )


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part for part in map(str.strip, (text or "").split(",")) if part)


def _hosts(allowed: str | None, listens_at: str, secret: str | None) -> tuple[str, ...] | None:
    # A page whose name was made to lead to 127.0.0.1 is of the same origin as this server for a browser
    # (DNS rebinding). It does not know a secret; without one, the name is all that tells it apart.
    names = tuple(name.lower() for name in _listed(allowed))
    if "*" in names or (not names and (secret is not None or not is_loopback(listens_at))):
        return None
    return names


def _base_path(text: str) -> str:
    path = "/" + text.strip("/")
    if not all(part and _PART.fullmatch(part) for part in path[1:].split("/")):
        raise SettingInvalid(
            f"EPARCH_SERVER_API_BASE_PATH cannot be {text!r}.",
            why="It is a path of plain letters, digits, -, _, . and ~.",
            fix="Set it to a path like /api or /flows/api.",
        )
    return path


def _shared_key(settings: Settings) -> bytes | None:
    """What only the servers of one installation know; a file of SQLite has one server and a public name."""
    known = settings.server_auth_string or ""
    if not settings.database_url.startswith("sqlite"):
        known += "\n" + settings.database_url
    if not known or not settings.csrf_enabled:
        return None
    # Slow on purpose: whoever sees a token must not be able to try passwords against it.
    return hashlib.scrypt(known.encode(), salt=b"eparch-csrf", n=2**14, r=8, p=1, dklen=32)
