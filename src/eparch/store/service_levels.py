"""Service levels and their breaches: reading and writing their rows (row D17)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql  # SQLite's compiler understands its upsert too

from eparch.core.service_levels import LevelType, ServiceLevel, Severity, Times
from eparch.store import tables as t
from eparch.store.statement import Row, Statement, Steps, delete, insert, param, update

_level, _breach, _run = t.service_level, t.service_level_breach, t.flow_run
_COLUMNS = tuple(_level.columns)

MOST_RUNS = 1000

_OF_DEPLOYMENT = Statement(
    sa.select(*_COLUMNS)
    .where(_level.c.deployment_id == param("deployment_id", _level.c.deployment_id))
    .order_by(_level.c.name)
)
_LOCKED = Statement(sa.select(*_COLUMNS).where(_level.c.id == param("id", _level.c.id)).with_for_update())
_ENABLED = Statement(
    sa.select(_level.c.id)
    .where(_level.c.enabled.is_(sa.true()), _level.c.id > param("after", _level.c.id))
    .order_by(_level.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_RUNS = Statement(
    sa.select(_run.c.id, _run.c.name, _run.c.expected_start_time, _run.c.start_time, _run.c.end_time)
    .where(
        _run.c.deployment_id == param("deployment_id", _run.c.deployment_id),
        t.began > param("since", _run.c.start_time),
        _run.c.expected_start_time <= param("until", _run.c.expected_start_time),
    )
    .order_by(t.began)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_COMPLETED = Statement(
    sa.select(_run.c.end_time)
    .where(
        _run.c.deployment_id == param("deployment_id", _run.c.deployment_id),
        _run.c.state_type == sa.literal_column("'COMPLETED'"),
    )
    .order_by(t.began.desc())
    .limit(sa.literal_column("1"))
)
_TELL = Statement(
    postgresql.insert(_breach)
    .values({c.name: sa.bindparam(c.name, type_=c.type) for c in _breach.columns})
    .on_conflict_do_nothing(index_elements=[_breach.c.service_level_id, _breach.c.subject])
    .returning(_breach.c.subject)
)


def _value(row: Row) -> ServiceLevel:
    fields: dict[str, Any] = dict(zip((c.name for c in _COLUMNS), row, strict=True))
    fields |= {"type": LevelType(fields["type"]), "severity": Severity(fields["severity"])}
    return ServiceLevel(**fields)


def of_deployment(deployment_id: UUID) -> Steps[list[ServiceLevel]]:
    """The service levels of the deployment, by name."""
    return [_value(row) for row in (yield _OF_DEPLOYMENT(deployment_id=deployment_id))]


def locked(level_id: UUID) -> Steps[ServiceLevel | None]:
    """One service level, which nobody else looks at until the transaction ends."""
    found = yield _LOCKED(id=level_id)
    return _value(found[0]) if found else None


def enabled(after: UUID, limit: int) -> Steps[list[UUID]]:
    """A page of those that are watched."""
    return [row[0] for row in (yield _ENABLED(after=after, limit=limit))]


def insert_level(level: ServiceLevel) -> Steps[None]:
    """Write a new one."""
    yield insert(_level)(**{c.name: _plain(getattr(level, c.name)) for c in _COLUMNS})


def write_level(level_id: UUID, columns: dict[str, Any]) -> Steps[None]:
    """Change columns of one."""
    plain = {name: _plain(value) for name, value in columns.items()}
    yield update(_level, frozenset(plain))(key_id=level_id, **plain)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, LevelType | Severity) else value


def delete_level(level_id: UUID) -> Steps[None]:
    """Delete one; its breaches are forgotten, their events are not."""
    yield delete(_level)(key=level_id)


def runs_between(level: ServiceLevel, now: datetime) -> Steps[list[Times]]:
    """The runs whose time ran out since the level was last looked at, and a few more."""
    since = level.checked - timedelta(seconds=level.seconds)
    found: Sequence[Row] = yield _RUNS(
        deployment_id=level.deployment_id, since=since, until=now, limit=MOST_RUNS
    )
    return [Times(*row) for row in found]


def last_completed(deployment_id: UUID) -> Steps[datetime | None]:
    """When the newest run that is completed ended."""
    found = yield _COMPLETED(deployment_id=deployment_id)
    return found[0][0] if found else None


def tell(level_id: UUID, subject: str, now: datetime) -> Steps[bool]:
    """Whether the breach is told now for the first time."""
    return bool((yield _TELL(service_level_id=level_id, subject=subject, occurred=now)))
