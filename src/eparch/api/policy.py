"""What the server asks of a request, as one value made from the settings.

Owns names and defaults of the limits; ``auth``, ``router`` and ``sockets`` apply them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eparch.core.filters import MAX_LIMIT

if TYPE_CHECKING:
    from eparch.settings import Settings

API_VERSION = "0.8.4"
"""``GET /version``: the API version that is spoken here (wire section 1)."""

MIN_API_VERSION = (0, 8, 0)
"""A client that names an older one is refused (wire section 1, "Version header")."""

BASE_PATH = "/api"


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits and secrets of one server."""

    auth_string: str | None = None
    """``user:password`` (or a bare key) that every client has to send; None asks for nothing."""
    csrf_enabled: bool = False
    csrf_seconds: float = 3600.0
    origins: tuple[str, ...] = ()
    """Other sites whose pages may call the API; ``*`` is every site."""
    max_body_bytes: int = 10_000_000
    max_event_bytes: int = 1_500_000
    """One frame of a socket."""
    default_limit: int = MAX_LIMIT
    admin_version: str = "3.9.1"
    database_kind: str = "sqlite"
    idle_seconds: float = 0.0
    """Seconds without a request after which the server stops; 0 is never."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """The settings as anybody who may ask may see them, secrets masked."""

    @staticmethod
    def of(settings: Settings, *, idle_seconds: float = 0.0) -> Policy:
        """The policy that ``settings`` ask for."""
        from eparch.settings.table import TABLE

        return Policy(
            shown={row.name: row.show(getattr(settings, row.name)) for row in TABLE},
            auth_string=settings.server_auth_string or None,
            csrf_enabled=settings.csrf_enabled,
            max_body_bytes=settings.max_body_bytes,
            admin_version=settings.admin_version,
            database_kind=settings.database_url.partition(":")[0].partition("+")[0],
            idle_seconds=idle_seconds,
        )
