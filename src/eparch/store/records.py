"""Logs, artifacts and events: rows that are added and read; of an artifact what it shows can change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from eparch.core.events import Event, resource_id
from eparch.core.filters import Query
from eparch.core.model import new_id
from eparch.core.records import Artifact, LogCreate
from eparch.store import log_pages
from eparch.store import tables as t
from eparch.store.dialect import AnyOf, NextPosition
from eparch.store.positions import LOG_FIELDS
from eparch.store.rows import names
from eparch.store.statement import Note, Statement, Steps, delete, insert, param, update
from eparch.store.where import bind, bind_all

_log, _event, _artifact = t.log, t.event, t.artifact

LOGS: sa.Select[Any] = sa.select(
    *(c for c in _log.columns if c.name != "position"), _log.c.created.label("updated")
)
_LOG_KEYS = names(LOGS)
ARTIFACTS: sa.Select[Any] = sa.select(*_artifact.columns)
_ARTIFACT_KEYS = names(ARTIFACTS)
LATEST: sa.Select[Any] = sa.select(*_artifact.columns, _artifact.c.id.label("latest_id"))
_LATEST_KEYS = names(LATEST)

_ARTIFACT = Statement(ARTIFACTS.where(_artifact.c.id == param("id", _artifact.c.id)), wire=True)
_LATEST = Statement(
    ARTIFACTS.where(_artifact.c.key == param("key", _artifact.c.key))
    .order_by(_artifact.c.id.desc())
    .limit(1),
    wire=True,
)
_LOG_PAGE = (
    sa.select(*(_log.c[name] for name in LOG_FIELDS))
    .where(
        _log.c.timestamp >= param("after_time", _log.c.timestamp),
        sa.or_(
            _log.c.timestamp > param("after_time", _log.c.timestamp), _log.c.id > param("after_id", _log.c.id)
        ),
    )
    .order_by(_log.c.timestamp, _log.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_RUN_LOG = Statement(
    sa.select(
        _log.c.id, _log.c.timestamp, _log.c.level, _log.c.flow_run_id, _log.c.task_run_id, _log.c.message
    )
    .where(
        _log.c.flow_run_id == param("flow_run_id", _log.c.flow_run_id),
        _log.c.timestamp >= param("after_time", _log.c.timestamp),
        sa.or_(
            _log.c.timestamp > param("after_time", _log.c.timestamp), _log.c.id > param("after_id", _log.c.id)
        ),
    )
    .order_by(_log.c.timestamp, _log.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)


def _adding(table: sa.Table) -> Statement:
    values: dict[str, Any] = {c.name: param(c.name, c) for c in table.columns}
    return Statement(table.insert().values({**values, "position": NextPosition(table)}))


_ADD_LOG = _adding(_log)
_ADD_EVENT = _adding(_event)
_KNOWN = Statement(sa.select(_event.c.id).where(AnyOf(_event.c.id, "ids")))

_PAYLOADS = Statement(sa.select(_event.c.id, _event.c.payload).where(AnyOf(_event.c.id, "ids")))


def insert_logs(logs: Sequence[LogCreate], now: datetime) -> Steps[None]:
    """Add lines of log, and count them; those of one time stay in the order in which they come."""
    ids = sorted(new_id() for _ in logs)
    clock = time.time_ns() // 1000
    yield _ADD_LOG.each(
        [
            {
                "id": id_,
                "created": now,
                "name": line.name,
                "level": line.level,
                "message": line.message,
                "timestamp": line.timestamp,
                "flow_run_id": line.flow_run_id,
                "task_run_id": line.task_run_id,
                "clock": clock,
            }
            for id_, line in zip(ids, logs, strict=True)
        ]
    )
    # Last, so that others who add to the same run wait for the commit alone; sorted, so that nobody waits
    # for whoever waits for him.
    yield from log_pages.count_lines(logs)
    yield Note("logs", None)


def read_logs(query: Query) -> Steps[list[dict[str, Any]]]:
    """A page of lines as the wire answers them."""
    found = yield bind(LOGS, (yield from log_pages.nearer(query)))
    return [dict(zip(_LOG_KEYS, row, strict=True)) for row in found]


def log_page(query: Query, after: tuple[datetime, UUID], limit: int) -> Steps[list[dict[str, Any]]]:
    """The lines that ``query`` has, its page aside, after that time and id, with their ``position``."""
    found = yield bind_all(_LOG_PAGE, query, after_time=after[0], after_id=after[1], limit=limit)
    return [dict(zip(LOG_FIELDS, row, strict=True)) for row in found]


def run_log(flow_run_id: UUID, after: tuple[datetime, UUID], limit: int) -> Steps[Sequence[Sequence[Any]]]:
    """``(id, timestamp, level, flow run, task run, message)`` of the run's lines after that time and id."""
    found = yield _RUN_LOG(flow_run_id=flow_run_id, after_time=after[0], after_id=after[1], limit=limit)
    return found


def insert_artifact(artifact: Artifact) -> Steps[None]:
    """Add an artifact."""
    yield insert(_artifact)(**{c.name: getattr(artifact, c.name) for c in _artifact.columns})


def read_artifact(artifact_id: UUID) -> Steps[dict[str, Any] | None]:
    """The artifact as the wire answers it."""
    found = yield _ARTIFACT(id=artifact_id)
    return dict(zip(_ARTIFACT_KEYS, found[0], strict=True)) if found else None


def read_artifacts(query: Query) -> Steps[list[dict[str, Any]]]:
    """A page of artifacts."""
    found = yield bind(ARTIFACTS, query)
    return [dict(zip(_ARTIFACT_KEYS, row, strict=True)) for row in found]


def read_latest_artifact(key: str) -> Steps[dict[str, Any] | None]:
    """The newest artifact of the key."""
    found = yield _LATEST(key=key)
    return dict(zip(_ARTIFACT_KEYS, found[0], strict=True)) if found else None


def read_latest_artifacts(query: Query) -> Steps[list[dict[str, Any]]]:
    """A page of the newest artifacts of each key."""
    found = yield bind(LATEST, query)
    return [dict(zip(_LATEST_KEYS, row, strict=True)) for row in found]


def write_artifact(artifact_id: UUID, columns: dict[str, Any]) -> Steps[bool]:
    """Change columns of the artifact; False: there is none."""
    found = yield update(_artifact, frozenset(columns))(key_id=artifact_id, **columns)
    return bool(found)


def delete_artifact(artifact_id: UUID) -> Steps[bool]:
    """Delete the artifact; False: there is none."""
    found = yield delete(_artifact)(key=artifact_id)
    return bool(found)


def unknown_events(events: Sequence[Event]) -> Steps[list[Event]]:
    """Those of ``events`` that are not stored yet, each once: clients repeat what was not acknowledged."""
    rows = yield _KNOWN(ids=[event.id for event in events])
    known = {row[0] for row in rows}
    fresh: dict[UUID, Event] = {}
    for event in events:
        if event.id not in known:
            fresh.setdefault(event.id, event)
    return list(fresh.values())


def payloads(event_ids: Sequence[UUID]) -> Steps[dict[UUID, dict[str, Any]]]:
    """What those of the events that are stored carry."""
    found = yield _PAYLOADS(ids=list(event_ids))
    return {row[0]: row[1] for row in found}


def insert_events(events: Sequence[Event], now: datetime) -> Steps[None]:
    """Add events."""
    clock = time.time_ns() // 1000
    yield _ADD_EVENT.each(
        [
            {
                "id": event.id,
                "occurred": event.occurred,
                "received": now,
                "event": event.event,
                "resource_id": resource_id(event.resource),
                "resource": event.resource,
                "related": event.related,
                "payload": event.payload,
                "follows": event.follows,
                "clock": clock,
            }
            for event in events
        ]
    )
