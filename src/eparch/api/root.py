"""Root and admin: is it there, is it ready, which version, which token (wire section 1, "Root/meta")."""

from __future__ import annotations

from uuid import UUID

from eparch.api.policy import API_VERSION
from eparch.api.request import Answer, Request
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.calls import CsrfToken, ServerFacts
from eparch.core.errors import EparchError, Unavailable
from eparch.store import claims, leadership
from eparch.version import __version__


@handles(calls.read_health)
async def read_health(request: Request) -> bool:
    """The process answers."""
    return True


@handles(calls.read_ready)
async def read_ready(request: Request) -> dict[str, str]:
    """The server can do its work, because its database answers and takes writes; 503 when it does not."""
    try:
        if request.services.database.fault:
            # Nobody may have written since, so it is tried.
            await request.write(leadership.acquire, "ready", UUID(int=0), request.now, request.now)
        await request.read(claims.read_pool, "")
    except EparchError as error:
        raise Unavailable("The database is not available.", why=error.message) from error
    return {"message": "OK"}


@handles(calls.read_hello)
async def read_hello(request: Request) -> str:
    """Says hello."""
    return "👋"


@handles(calls.read_version)
async def read_version(request: Request) -> str:
    """The version of the API."""
    return API_VERSION


@handles(calls.read_admin_version)
async def read_admin_version(request: Request) -> str:
    """The version of Prefect whose API this is: clients compare its major number with theirs."""
    return request.services.policy.admin_version


@handles(calls.read_server)
async def read_server(request: Request) -> ServerFacts:
    """What our own clients ask, to know that the server is one of ours."""
    services = request.services
    return ServerFacts(
        version=__version__,
        database=services.policy.database_kind,
        started=services.started,
        idle_seconds=services.policy.idle_seconds,
    )


@handles(calls.read_server_settings)
async def read_server_settings(request: Request) -> dict[str, str]:
    """The settings of the server, by name; secrets are masked."""
    return dict(request.services.policy.shown)


@handles(calls.read_csrf_token)
async def read_csrf_token(request: Request, client: str) -> CsrfToken | Answer:
    """A token for ``client``; refused when none is needed, as clients expect (wire section 1, "CSRF")."""
    if not request.services.policy.csrf_enabled:
        return Answer(422, {"detail": "CSRF protection is disabled."})
    return request.services.gate.issue(client[:500])
