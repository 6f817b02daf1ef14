"""Service levels of deployments (row D17)."""

from __future__ import annotations

from uuid import UUID

from eparch.api.request import Request, found
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.errors import NotFound
from eparch.core.service_levels import LevelsApplied, ServiceLevel, ServiceLevelSpec
from eparch.orchestration import service_levels as changes
from eparch.store import deployments, service_levels

_PREFIX = "prefect.deployment."


@handles(calls.apply_service_levels)
async def apply_service_levels(
    request: Request, resource_id: str, body: list[ServiceLevelSpec]
) -> LevelsApplied:
    """Let a deployment, ``prefect.deployment.<id>``, have these service levels and no others."""
    try:
        if not resource_id.startswith(_PREFIX):
            raise ValueError
        deployment_id = UUID(resource_id.removeprefix(_PREFIX))
    except ValueError:
        raise NotFound(f"{resource_id[:100]!r} is not a deployment.") from None
    return await request.write(changes.apply, deployment_id, body, request.now)


@handles(calls.read_service_levels)
async def read_service_levels(request: Request, id: UUID) -> list[ServiceLevel]:
    """The service levels of a deployment."""
    found(await request.read(deployments.read_deployment, id, request.now), "Deployment not found")
    return await request.read(service_levels.of_deployment, id)
