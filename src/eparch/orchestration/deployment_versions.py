"""Every change of a deployment makes a version of it, in the transaction of the change (moonshot 1).

Also those that stock clients make: nothing about a deployment is decided that has no version. A request that
changes nothing makes none, so a version's number tells whether somebody changed a deployment.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from eparch.core.deployment_versions import (
    Change,
    Content,
    DeploymentVersion,
    Origin,
    Source,
    as_of,
    asked_version,
    content_of,
)
from eparch.core.deployments import Deployment
from eparch.core.errors import NotFound
from eparch.store import deployment_versions as store
from eparch.store import deployments
from eparch.store.deployment_versions import Head
from eparch.store.statement import Steps

DEFAULT = Change()
BEFORE = Origin(source=Source.UNKNOWN)


def record(deployment_id: UUID, before: Deployment | None, change: Change, now: datetime) -> Steps[None]:
    """Write the version that the deployment has now, unless it is as it was ``before``."""
    after = yield from deployments.deployment_value(deployment_id, now)
    if after is None or (before is not None and content_of(before) == content_of(after)):
        return
    number = yield from store.next_number(deployment_id)
    versions = new_versions(before, content_of(after), number - 1, change.origin, now)
    if versions[-1].number != number:
        yield from store.next_number(deployment_id)
    yield from store.put_versions([(deployment_id, version) for version in versions], change.kept)


def new_versions(
    before: Deployment | None, after: Content, number: int, origin: Origin, now: datetime
) -> list[DeploymentVersion]:
    """The versions to write after number ``number``; one that was never recorded is written first."""
    versions = []
    if before is not None and number == 0:
        since = before.updated or now
        versions.append(DeploymentVersion(number=1, created=since, origin=BEFORE, content=content_of(before)))
    next_ = number + len(versions) + 1
    return [*versions, DeploymentVersion(number=next_, created=now, origin=origin, content=after)]


def as_asked(deployment: Deployment, labels: Mapping[str, Any] | None) -> Steps[Deployment]:
    """The deployment as a run with these labels has it: as it was in the version that they name, if any.

    Raises:
        NotFound: that version is not kept.
    """
    number = asked_version(labels)
    if number is None:
        return deployment
    version = yield from store.read_version(deployment.id, number)
    if version is None:
        raise NotFound(f"The deployment has no version {number}.")
    return as_of(deployment, version.content)


def head_after(
    known: Head | None, number: int, project: str | None, applied: dict[str, object] | None
) -> Head:
    """What is known of a deployment once version ``number`` is written; what a plan does not say stays."""
    before = known or Head(number, None, None)
    return Head(number, project or before.project, before.applied if applied is None else applied)
