"""Applying plans of deployments, and versions of deployments: endpoints of ours (ADR 12)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from eparch.api.request import Request, found
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.deploy_plans import Applied, DeployPlan, StandingQuery, Standings
from eparch.core.deployment_versions import Change, Origin, Source
from eparch.core.errors import NotFound
from eparch.orchestration import applying
from eparch.store import deployment_versions as versions
from eparch.store import deployments

MOST_VERSIONS = 1000
"""In one answer."""

_BROWSER = "Mozilla/"


def change_of(request: Request) -> Change:
    """How a change that ``request`` makes is recorded; a browser is where the UI runs."""
    client = _client(request)
    source = Source.UI if client and client.startswith(_BROWSER) else Source.API
    return Change(origin=Origin(source=source, client=client), kept=request.services.policy.versions_kept)


def _client(request: Request) -> str | None:
    agent = request.header("user-agent")
    return agent[:200] if agent else None


@handles(calls.read_standing)
async def read_standing(request: Request, body: StandingQuery) -> Standings:
    """Deployments with all that a plan has to know of them."""
    return await request.scan(applying.read_standing, body, request.now)


@handles(calls.apply_plan)
async def apply_plan(request: Request, body: DeployPlan) -> Applied:
    """Apply a plan, all of it or nothing."""
    origin = msgspec.structs.replace(body.origin, client=_client(request))
    plan = msgspec.structs.replace(body, origin=origin)
    kept = request.services.policy.versions_kept
    return await request.write(applying.apply_plan, plan, kept, request.now)


@handles(calls.read_deployment_versions)
async def read_deployment_versions(request: Request, id: UUID) -> Any:
    """The versions of a deployment that are kept, the newest first."""
    found(await request.read(deployments.read_deployment, id, request.now), "Deployment not found")
    return await request.read(versions.read_versions, id, MOST_VERSIONS)


@handles(calls.read_deployment_version)
async def read_deployment_version(request: Request, id: UUID, number: str) -> Any:
    """One version, with all that it holds."""
    if not (number.isascii() and number.isdecimal() and len(number) < 19):
        raise NotFound("The number of a version is a whole number.")
    value = await request.read(versions.read_version, id, int(number))
    return found(value, f"The deployment has no version {number}")
