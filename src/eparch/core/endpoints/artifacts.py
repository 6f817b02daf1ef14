"""Artifacts: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.endpoint import Endpoint
from eparch.core.records import Artifact, ArtifactCollection, ArtifactCreate, ArtifactUpdate

create_artifact: Endpoint[Artifact] = Endpoint(
    "POST", "/artifacts/", Artifact, body=ArtifactCreate, status=201, tag="Artifacts"
)
read_artifact: Endpoint[Artifact] = Endpoint("GET", "/artifacts/{id}", Artifact, tag="Artifacts")
read_latest_artifact: Endpoint[Artifact] = Endpoint(
    "GET", "/artifacts/{key}/latest", Artifact, tag="Artifacts"
)
update_artifact: Endpoint[None] = Endpoint(
    "PATCH", "/artifacts/{id}", None, body=ArtifactUpdate, status=204, tag="Artifacts"
)
delete_artifact: Endpoint[None] = Endpoint("DELETE", "/artifacts/{id}", None, status=204, tag="Artifacts")
read_artifacts: Endpoint[list[Artifact]] = Endpoint(
    "POST", "/artifacts/filter", list[Artifact], body=filters.READ_ARTIFACTS, tag="Artifacts", idempotent=True
)
count_artifacts: Endpoint[int] = Endpoint(
    "POST", "/artifacts/count", int, body=filters.COUNT_ARTIFACTS, tag="Artifacts", idempotent=True
)
read_latest_artifacts: Endpoint[list[ArtifactCollection]] = Endpoint(
    "POST",
    "/artifacts/latest/filter",
    list[ArtifactCollection],
    body=filters.READ_LATEST_ARTIFACTS,
    tag="Artifacts",
    idempotent=True,
)
count_latest_artifacts: Endpoint[int] = Endpoint(
    "POST",
    "/artifacts/latest/count",
    int,
    body=filters.COUNT_LATEST_ARTIFACTS,
    tag="Artifacts",
    idempotent=True,
)
