"""Events of what is made, changed and deleted, written in the transaction that does it (wire 4.2).

The row is looked at before and after; what it shows is what is told. That of a flow run's transition is in
``transition``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import to_builtins

from eparch.core.change_events import (
    Updates,
    change_event,
    labels_of,
    pool_labels,
    queue_labels,
    updates_of,
)
from eparch.core.deployments import Deployment
from eparch.core.events import Event, ResourceLabels
from eparch.core.pools import PoolStatus
from eparch.store import deployments, pools, readiness, records, rows
from eparch.store.readiness import Kind
from eparch.store.statement import Note, Steps

Row = Mapping[str, Any]

_POOL = (
    "name",
    "description",
    "base_job_template",
    "is_paused",
    "concurrency_limit",
    "storage_configuration",
)
_QUEUE = ("name", "description", "is_paused", "concurrency_limit", "priority", "filter")
_DEPLOYMENT = (
    "name",
    "version",
    "description",
    "paused",
    "concurrency_limit",
    "concurrency_options",
    "job_variables",
    "parameters",
    "parameter_openapi_schema",
    "enforce_parameter_schema",
    "pull_steps",
    "tags",
    "labels",
    "path",
    "entrypoint",
    "work_queue_id",
)


class Changed(NamedTuple):
    """A deployment before and after a change; None: it was not there, or is not any more."""

    before: Deployment | None
    after: Deployment | None
    around: list[ResourceLabels]
    """Its flow, queue and pool."""


def emit(event: Event, now: datetime) -> Steps[None]:
    """Write ``event``, and let it be told once it is on disk."""
    yield from records.insert_events([event], now)
    yield Note("events", event)


def _plain(row: Row, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: rows.value_of(row[name]) for name in names}


def _status(row: Row) -> str:
    return str(row["status"]).lower().replace("_", "-")


def _news(
    kind: Kind, before: Row, after: Row, names: tuple[str, ...]
) -> Steps[list[tuple[str, Updates | None]]]:
    """What is to be told of a change: that it was one, and which status it has led to."""
    told: list[tuple[str, Updates | None]] = []
    updates = updates_of(_plain(before, names), _plain(after, names))
    if updates:
        told.append(("updated", updates))
    if before["status"] != after["status"] and after["status"] is not None:
        ready = after["status"] is PoolStatus.READY
        new = yield from readiness.remember(kind, rows.id_of(after["id"]), ready)
        # That it is ready may have been told a moment ago, when somebody polled.
        if new or PoolStatus.PAUSED in (before["status"], after["status"]):
            told.append((_status(after), None))
    return told


def status_changed(kind: Kind, id_: UUID, status: str, now: datetime) -> Steps[None]:
    """It became ``ready`` or ``not-ready``; one that was deleted meanwhile did not."""
    if kind == "work-pool":
        pool = yield from pools.read_pool_by_id(id_, now)
        if pool is not None:
            yield from emit(change_event(status, pool_labels(pool), now), now)
    elif kind == "work-queue":
        queue = yield from pools.read_queue(id_, now)
        if queue is not None:
            yield from queue_changed(status, queue, now)
    else:
        deployment = yield from deployments.read_deployment(id_, now)
        if deployment is not None:
            yield from deployment_changed(status, deployment, now)


# Work pools


def pool_changed(what: str, pool: Row, now: datetime) -> Steps[None]:
    """The pool was created or deleted."""
    related = []
    if pool["default_queue_id"] is not None:
        related.append(labels_of("work-queue", pool["default_queue_id"], None, role="default-queue"))
    yield from emit(change_event(what, pool_labels(pool), now, related=related), now)


def pool_updated(before: Row, after: Row, now: datetime) -> Steps[None]:
    """The pool was changed, or has another status than before."""
    for what, updates in (yield from _news("work-pool", before, after, _POOL)):
        yield from emit(change_event(what, pool_labels(after), now, updates=updates), now)


# Work queues


def _pool_of(queue: Row, now: datetime) -> Steps[list[ResourceLabels]]:
    name = queue["work_pool_name"]
    pool = (yield from pools.read_pool(name, now)) if name is not None else None
    return [pool_labels(pool)] if pool is not None else []


def queue_changed(what: str, queue: Row, now: datetime) -> Steps[None]:
    """The queue was created or deleted, or has another status."""
    related = yield from _pool_of(queue, now)
    yield from emit(change_event(what, queue_labels(queue), now, related=related), now)


def queue_updated(before: Row, after: Row, now: datetime) -> Steps[None]:
    """The queue was changed, or has another status than before."""
    related = yield from _pool_of(after, now)
    for what, updates in (yield from _news("work-queue", before, after, _QUEUE)):
        event = change_event(what, queue_labels(after), now, related=related, updates=updates)
        yield from emit(event, now)


# Deployments


def _around(deployment: Row, now: datetime) -> Steps[list[ResourceLabels]]:
    """Who else a deployment's events are about: its flow, queue and pool."""
    related = []
    flow = yield from deployments.read_flow(rows.id_of(deployment["flow_id"]))
    if flow is not None:
        related.append(labels_of("flow", flow["id"], flow["name"], role="flow"))
    queue_id = deployment["work_queue_id"]
    queue = (yield from pools.read_queue(rows.id_of(queue_id), now)) if queue_id is not None else None
    if queue is not None:
        related.append(queue_labels(queue))
        related.extend((yield from _pool_of(queue, now)))
    return related


def deployment_changed(what: str, deployment: Row, now: datetime) -> Steps[None]:
    """The deployment was created or deleted, or has another status."""
    resource = labels_of("deployment", deployment["id"], deployment["name"])
    related = yield from _around(deployment, now)
    yield from emit(change_event(what, resource, now, related=related), now)


def deployment_updated(before: Row, deployment_id: UUID, now: datetime) -> Steps[None]:
    """The deployment was changed since ``before``, unless nothing about it is another."""
    after = yield from deployments.read_deployment(deployment_id, now)
    if after is None:
        return
    updates = updates_of(_plain(before, _DEPLOYMENT), _plain(after, _DEPLOYMENT))
    if updates:
        resource = labels_of("deployment", after["id"], after["name"])
        related = yield from _around(after, now)
        yield from emit(change_event("updated", resource, now, related=related, updates=updates), now)


def deployments_changed(changed: Sequence[Changed], now: datetime) -> Steps[None]:
    """The same for many deployments, which are told of at once."""
    events = [event for one in changed if (event := _event_of(one, now)) is not None]
    if events:
        yield from records.insert_events(events, now)
    for event in events:
        yield Note("events", event)


def _event_of(one: Changed, now: datetime) -> Event | None:
    subject = one.after or one.before
    assert subject is not None
    updates, what = None, "created" if one.before is None else "deleted"
    if one.before is not None and one.after is not None:
        updates, what = updates_of(_values(one.before), _values(one.after)), "updated"
        if not updates:
            return None
    resource = labels_of("deployment", subject.id, subject.name)
    return change_event(what, resource, now, related=one.around, updates=updates)


def _values(deployment: Deployment) -> dict[str, Any]:
    return {name: to_builtins(getattr(deployment, name)) for name in _DEPLOYMENT}
