"""Root, admin and collections: the endpoints (wire section 3)."""

from __future__ import annotations

from uuid import UUID

from eparch.core.endpoint import Endpoint
from eparch.core.model import Body, Json, Timestamp, Value


class CsrfToken(Value, frozen=True, kw_only=True):
    """A token against cross-site requests."""

    token: str
    client: str
    expiration: Timestamp


class ResultStorage(Value, frozen=True, kw_only=True):
    """Which block keeps results by default."""

    default_result_storage_block_id: UUID | None = None


class ResultStorageUpdate(Body, frozen=True, kw_only=True):
    """``PUT /admin/storage``."""

    default_result_storage_block_id: UUID


class ServerFacts(Value, frozen=True, kw_only=True):
    """``GET /eparch``: what a client of ours asks to know that it speaks with a server of ours."""

    version: str
    database: str
    started: Timestamp
    idle_seconds: float = 0.0


read_health: Endpoint[bool] = Endpoint("GET", "/health", bool, tag="Root")
read_ready: Endpoint[dict[str, str]] = Endpoint("GET", "/ready", dict[str, str], tag="Root")
read_hello: Endpoint[str] = Endpoint("GET", "/hello", str, tag="Root")
read_version: Endpoint[str] = Endpoint("GET", "/version", str, tag="Root")
read_server: Endpoint[ServerFacts] = Endpoint("GET", "/eparch", ServerFacts, tag="Root")
read_admin_version: Endpoint[str] = Endpoint("GET", "/admin/version", str, tag="Admin")
read_result_storage: Endpoint[ResultStorage] = Endpoint("GET", "/admin/storage", ResultStorage, tag="Admin")
update_result_storage: Endpoint[ResultStorage] = Endpoint(
    "PUT", "/admin/storage", ResultStorage, body=ResultStorageUpdate, tag="Admin"
)
clear_result_storage: Endpoint[None] = Endpoint("DELETE", "/admin/storage", None, status=204, tag="Admin")
read_server_settings: Endpoint[dict[str, str]] = Endpoint(
    "GET", "/admin/settings", dict[str, str], tag="Admin"
)
read_csrf_token: Endpoint[CsrfToken] = Endpoint(
    "GET", "/csrf-token", CsrfToken, query=("client",), tag="Root"
)
read_collection_view: Endpoint[dict[str, Json]] = Endpoint(
    "GET", "/collections/views/{view}", dict[str, Json], tag="Collections"
)
