"""Service levels of deployments: the endpoint of Prefect Cloud's clients, and one of ours (row D17)."""

from __future__ import annotations

from eparch.core.endpoint import Endpoint
from eparch.core.service_levels import LevelsApplied, ServiceLevel, ServiceLevelSpec

apply_service_levels: Endpoint[LevelsApplied] = Endpoint(
    "POST",
    "/slas/apply-resource-slas/{resource_id}",
    LevelsApplied,
    body=list[ServiceLevelSpec],
    tag="Service levels",
    idempotent=True,
)
read_service_levels: Endpoint[list[ServiceLevel]] = Endpoint(
    "GET", "/deployments/{id}/service_levels", list[ServiceLevel], tag="Service levels"
)
