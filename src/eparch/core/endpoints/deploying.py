"""Applying plans of deployments, and their versions: endpoints of ours (moonshot 1, rows D12 to D14)."""

from __future__ import annotations

from eparch.core.deploy_plans import Applied, DeployPlan, StandingQuery, Standings
from eparch.core.deployment_versions import DeploymentVersion, VersionFacts
from eparch.core.endpoint import Endpoint

read_standing: Endpoint[Standings] = Endpoint(
    "POST", "/deployments/standing", Standings, body=StandingQuery, tag="Deployments", idempotent=True
)
apply_plan: Endpoint[Applied] = Endpoint(
    "POST", "/deployments/apply", Applied, body=DeployPlan, tag="Deployments", idempotent=True
)
read_deployment_versions: Endpoint[list[VersionFacts]] = Endpoint(
    "GET", "/deployments/{id}/versions", list[VersionFacts], tag="Deployments"
)
read_deployment_version: Endpoint[DeploymentVersion] = Endpoint(
    "GET", "/deployments/{id}/versions/{number}", DeploymentVersion, tag="Deployments"
)
