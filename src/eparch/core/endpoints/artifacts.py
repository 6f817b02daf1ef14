"""Artifacts: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.endpoint import Endpoint
from eparch.core.records import Artifact, ArtifactCreate

create_artifact: Endpoint[Artifact] = Endpoint(
    "POST", "/artifacts/", Artifact, body=ArtifactCreate, status=201, tag="Artifacts"
)
read_artifact: Endpoint[Artifact] = Endpoint("GET", "/artifacts/{id}", Artifact, tag="Artifacts")
read_artifacts: Endpoint[list[Artifact]] = Endpoint(
    "POST", "/artifacts/filter", list[Artifact], body=filters.READ_ARTIFACTS, tag="Artifacts", idempotent=True
)
