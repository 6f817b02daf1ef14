"""A plan of deployments as a server applies it: all of it or nothing (moonshot 1, rows D12, D13, ADR 12).

Owns the bodies and answers of our endpoints for deploying. How a plan comes about is in ``deploy.plan``.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from eparch.core.automations import Automation, AutomationCreate
from eparch.core.deployment_versions import Content, Origin, VersionFacts
from eparch.core.deployments import Deployment
from eparch.core.model import Body, Json, Name, Timestamp, Value
from eparch.core.pools import WorkPoolCreate

MOST = 5000
"""Deployments that one plan may name."""

ProjectId = Annotated[str, Meta(min_length=1, max_length=1000)]
"""What owns deployments: the name of a project and where its code is kept (row D25)."""


class StandingQuery(Body, frozen=True, kw_only=True):
    """``POST /deployments/standing``: deployments by flow and name, and all that ``project`` owns."""

    deployments: Annotated[list[tuple[str, str]], Meta(max_length=MOST)] = []
    project: ProjectId | None = None


class Standing(Value, frozen=True, kw_only=True):
    """A deployment with all that a plan has to know of it."""

    flow_name: str
    deployment: Deployment
    number: int = 0
    """Its version, which every change makes another; 0: it was not changed since versions are kept."""
    project: str | None = None
    applied: dict[str, Json] | None = None
    """What the file said when it was deployed last."""
    automations: list[Automation] = []
    """Those that go with it."""
    changed: VersionFacts | None = None
    """Who made it what it is."""


class Standings(Value, frozen=True, kw_only=True):
    """The answer: those that were found, asked for or owned."""

    deployments: list[Standing]


class SeenAutomation(Body, frozen=True, kw_only=True):
    """An automation that the plan saw as it was last changed at ``updated``."""

    id: UUID
    updated: Timestamp


class PlannedDeployment(Body, frozen=True, kw_only=True):
    """A deployment to make or to change."""

    id: UUID
    flow_name: Name
    name: Name
    number: int | None = None
    """The version that the plan saw; None: it saw none, so the deployment is made with this id."""
    content: Content
    automations: list[AutomationCreate] | None = None
    """All that go with it from now on; None: they stay as they are."""
    seen_automations: list[SeenAutomation] = []
    """Those that went with it when the plan was made; compared where ``automations`` replaces them."""
    applied: dict[str, Json] | None = None


class SeenDeployment(Body, frozen=True, kw_only=True):
    """A deployment that the plan saw as it is in version ``number``."""

    id: UUID
    number: int


class SeenPool(Body, frozen=True, kw_only=True):
    """A work pool that the plan saw as it was last changed at ``updated``."""

    name: str
    updated: Timestamp


class PlannedQueue(Body, frozen=True, kw_only=True):
    """A queue that a pool is to have."""

    pool: Name
    name: Name


class DeployPlan(Body, frozen=True, kw_only=True):
    """``POST /deployments/apply``: what is to be, and what the plan was made from."""

    request_id: UUID
    """A plan is applied once, however often it is sent."""
    project: ProjectId | None = None
    """Who owns what is made and changed from now on; None: whoever owned it."""
    origin: Origin = Origin()
    pools: Annotated[list[WorkPoolCreate], Meta(max_length=MOST)] = []
    queues: Annotated[list[PlannedQueue], Meta(max_length=MOST)] = []
    deployments: Annotated[list[PlannedDeployment], Meta(max_length=MOST)] = []
    deletions: Annotated[list[SeenDeployment], Meta(max_length=MOST)] = []
    unchanged: Annotated[list[SeenDeployment], Meta(max_length=MOST)] = []
    seen_pools: Annotated[list[SeenPool], Meta(max_length=MOST)] = []


class AppliedDeployment(Value, frozen=True, kw_only=True):
    """A deployment that was made or changed, and its version now."""

    id: UUID
    flow_name: str
    name: str
    number: int
    created: bool


class Applied(Value, frozen=True, kw_only=True):
    """What came of a plan."""

    deployments: list[AppliedDeployment] = []
    deleted: list[UUID] = []
