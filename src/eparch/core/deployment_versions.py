"""Versions of a deployment: what it was, since when, and who made it so.

Owns what belongs to a version and what differs between two. Which versions are kept is decided in
``orchestration.deployment_versions``. Rollback and apply take the same ``Content`` (moonshot 1, row D14).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.deployments import ConcurrencyOptions, Deployment, PositiveLimit
from eparch.core.model import Body, Json, Labels, Timestamp, Value, new_id
from eparch.core.schedule_policies import MissedRuns, Overlap

VERSION_LABEL = "eparch.deployment.version"
"""Label of a run that is to be one of that version of its deployment."""

KEPT = 50
"""Versions of a deployment that a server keeps unless it was told another number."""


class Source(StrEnum):
    """What changed a deployment."""

    DEPLOY = "deploy"
    ROLLBACK = "rollback"
    UI = "ui"
    API = "api"
    UNKNOWN = "unknown"
    """It was so before versions were kept."""


class Origin(Body, frozen=True, kw_only=True):
    """Who changed a deployment, with what, and where its code stood."""

    source: Source = Source.API
    author: str | None = None
    client: str | None = None
    """The ``User-Agent`` of the request."""
    commit: str | None = None
    """The git commit that it was deployed from."""


class Change(Value, frozen=True, kw_only=True):
    """How a change is recorded: where it came from, and how many versions are kept."""

    origin: Origin = Origin()
    kept: int = KEPT


class ContentSchedule(Body, frozen=True, kw_only=True):
    """A schedule of a version."""

    id: UUID = msgspec.field(default_factory=new_id)
    schedule: dict[str, Json]
    active: bool = True
    max_scheduled_runs: PositiveLimit | None = None
    parameters: dict[str, Json] = {}
    slug: str | None = None
    missed_runs: MissedRuns | None = None
    overlap: Overlap | None = None


class Content(Body, frozen=True, kw_only=True):
    """All that somebody can decide about a deployment; its name and flow never change."""

    version: str | None = None
    description: str | None = None
    paused: bool = False
    schedules: list[ContentSchedule] = []
    concurrency_limit: PositiveLimit | None = None
    concurrency_options: ConcurrencyOptions | None = None
    job_variables: dict[str, Json] = {}
    parameters: dict[str, Json] = {}
    parameter_openapi_schema: dict[str, Json] | None = None
    enforce_parameter_schema: bool = True
    pull_steps: list[dict[str, Json]] | None = None
    tags: list[str] = []
    labels: Labels = {}
    work_pool_name: str | None = None
    work_queue_name: str | None = None
    path: str | None = None
    entrypoint: str | None = None


class VersionFacts(Value, frozen=True, kw_only=True):
    """A version without what it holds: for lists."""

    number: int
    created: Timestamp
    origin: Origin


class DeploymentVersion(VersionFacts, frozen=True, kw_only=True):
    """A version; ``number`` counts from 1 in each deployment."""

    content: Content


_OWN = tuple(name for name in Content.__struct_fields__ if name != "schedules")
_OF_SCHEDULE = ContentSchedule.__struct_fields__


def content_of(deployment: Deployment) -> Content:
    """What ``deployment`` is now. A stock server tells its limit in another field (wire 4.4)."""
    fields = {name: getattr(deployment, name) for name in _OWN}
    if deployment.concurrency_limit is None and deployment.global_concurrency_limit is not None:
        fields["concurrency_limit"] = deployment.global_concurrency_limit.limit
    schedules = [
        ContentSchedule(**{name: getattr(schedule, name) for name in _OF_SCHEDULE})
        for schedule in sorted(deployment.schedules, key=lambda one: one.id)
    ]
    return Content(**fields, schedules=schedules)


def asked_version(labels: Mapping[str, Any] | None) -> int | None:
    """The version of its deployment that a run with these labels is of; None: the newest."""
    number = (labels or {}).get(VERSION_LABEL)
    return number if isinstance(number, int) and not isinstance(number, bool) else None


_OF_A_RUN = (
    *("version", "job_variables", "parameters", "parameter_openapi_schema", "enforce_parameter_schema"),
    *("pull_steps", "tags", "path", "entrypoint"),
)


def as_of(deployment: Deployment, content: Content) -> Deployment:
    """``deployment`` as its runs were in the version ``content``; in the work pool where it is now."""
    return msgspec.structs.replace(deployment, **{name: getattr(content, name) for name in _OF_A_RUN})


def differences(before: Content, after: Content) -> dict[str, list[Any]]:
    """Field -> what it was and what it is, in the order of ``Content``; ids of schedules do not count."""
    found = {}
    for name in Content.__struct_fields__:
        was, is_ = getattr(before, name), getattr(after, name)
        if name == "schedules":
            was, is_ = _shown(was), _shown(is_)
        if was != is_:
            found[name] = [was, is_]
    return found


def _shown(schedules: list[ContentSchedule]) -> list[dict[str, Json]]:
    """Schedules as people compare them, in an order that does not depend on their ids."""
    plain = [
        {
            key: value
            for key, value in msgspec.to_builtins(one).items()
            if key != "id" and value not in (None, {})
        }
        for one in schedules
    ]
    return sorted(plain, key=repr)
