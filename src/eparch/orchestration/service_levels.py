"""Watching the service levels of deployments: each breach is one event, whoever sees it (row D17)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from eparch.core import service_levels as rules
from eparch.core.change_events import labels_of
from eparch.core.errors import Invalid, NotFound, Unavailable
from eparch.core.model import new_id
from eparch.core.service_levels import LevelsApplied, LevelType, NamedLevel, ServiceLevel, ServiceLevelSpec
from eparch.orchestration import announcing
from eparch.store import deployment_versions, deployments
from eparch.store import service_levels as store
from eparch.store.database import Database
from eparch.store.statement import Steps

logger = logging.getLogger("eparch.server")

BATCH = 200
FIRST = UUID(int=0)


class ServiceLevels:
    """Looks at every service level in turn."""

    name = "service-levels"

    def __init__(self, interval: float = 15.0) -> None:
        """``interval`` in seconds."""
        self.interval = interval

    async def run_once(self, database: Database, now: datetime) -> bool:
        """Tell of every breach that there is at ``now``."""
        last = FIRST
        while page := await database.scan(store.enabled, last, BATCH):
            for level_id in page:
                try:
                    await database.write(look, level_id, now)
                except Unavailable:
                    raise
                except Exception:
                    logger.exception("The service level %s cannot be looked at.", level_id)
            last = page[-1]
        return False


def look(level_id: UUID, now: datetime) -> Steps[int]:
    """Tell of the breaches of one level since the last look; how many are new."""
    level = yield from store.locked(level_id)
    if level is None or not level.enabled or level.checked >= now:
        return 0
    if level.type is LevelType.FREQUENCY:
        last = yield from store.last_completed(level.deployment_id)
        stale = rules.is_stale(level, last, now)
        found = [stale] if stale is not None else []
    else:
        found = rules.breaches(level, (yield from store.runs_between(level, now)), now)
    told = 0
    for breach in found:
        if (yield from store.tell(level.id, breach.subject, now)):
            yield from _announce(level, breach, now)
            told += 1
    yield from store.write_level(level.id, {"checked": now})
    return told


def _announce(level: ServiceLevel, breach: rules.Breach, now: datetime) -> Steps[None]:
    deployment = yield from deployments.deployment_value(level.deployment_id, now)
    if deployment is None:
        return
    flow = yield from deployments.flow_value(deployment.flow_id)
    related = labels_of("flow", deployment.flow_id, flow.name if flow else None, role="flow")
    event = rules.breach_event(level, breach, deployment.name, related, now)
    yield from announcing.emit(event, now)


def apply(deployment_id: UUID, wanted: Sequence[ServiceLevelSpec], now: datetime) -> Steps[LevelsApplied]:
    """Let the deployment have these service levels and no others; one of a known name is changed.

    Raises:
        NotFound: there is no such deployment.
        Invalid: there are too many, two have one name, or one is none of the three kinds.
    """
    if not (yield from deployment_versions.lock([deployment_id])):
        raise NotFound("Deployment not found")
    names = [one.name for one in wanted]
    if len(names) > rules.MOST or len(set(names)) < len(names):
        raise Invalid(f"A deployment has at most {rules.MOST} service levels, each with its own name.")
    left = {one.name: one for one in (yield from store.of_deployment(deployment_id))}
    created, updated = [], []
    for one in wanted:
        type_, seconds = one.settled()
        known = left.pop(one.name, None)
        columns: dict[str, Any] = {
            "type": type_,
            "severity": one.severity,
            "enabled": one.enabled is not False,
            "seconds": seconds,
            "updated": now,
        }
        if known is None:
            level = ServiceLevel(
                id=new_id(), created=now, deployment_id=deployment_id, name=one.name, checked=now, **columns
            )
            yield from store.insert_level(level)
            created.append(NamedLevel(name=one.name))
        elif any(getattr(known, name) != value for name, value in columns.items() if name != "updated"):
            # What it was is over: the new one counts from now.
            yield from store.write_level(known.id, {**columns, "checked": now})
            updated.append(NamedLevel(name=one.name))
    for gone in left.values():
        yield from store.delete_level(gone.id)
    return LevelsApplied(created=created, updated=updated, deleted=[NamedLevel(name=name) for name in left])
