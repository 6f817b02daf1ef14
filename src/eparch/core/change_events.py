"""The events of what is made, changed and deleted: deployments, work pools, work queues (wire 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from eparch.core.events import Event, ResourceLabels

Updates = dict[str, dict[str, Any]]
"""Field -> what it was (``from``) and is (``to``)."""


def labels_of(kind: str, id_: object, name: str | None, *, role: str = "") -> ResourceLabels:
    """The labels of a resource: ``kind`` is ``work-pool`` or so, ``role`` is what it is to another one."""
    labels = {"prefect.resource.id": f"prefect.{kind}.{id_}"}
    if name is not None:
        labels["prefect.resource.name"] = name
    if role:
        labels["prefect.resource.role"] = role
    return labels


def pool_labels(pool: Mapping[str, Any]) -> ResourceLabels:
    """The labels of a work pool, as its own resource and as a related one."""
    own = labels_of("work-pool", pool["id"], pool["name"], role="work-pool")
    return {**own, "prefect.work-pool.type": pool["type"]}


def queue_labels(queue: Mapping[str, Any]) -> ResourceLabels:
    """The labels of a work queue."""
    return labels_of("work-queue", queue["id"], queue["name"], role="work-queue")


def updates_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> Updates:
    """What differs between two rows, as far as ``before`` has it."""
    return {
        name: {"from": was, "to": after[name]}
        for name, was in before.items()
        if name in after and after[name] != was
    }


def change_event(
    what: str,
    resource: ResourceLabels,
    now: datetime,
    *,
    related: Sequence[ResourceLabels] = (),
    updates: Updates | None = None,
) -> Event:
    """``prefect.<kind>.<what>`` about ``resource``."""
    kind = resource["prefect.resource.id"].split(".")[1]
    payload: dict[str, Any] = {} if updates is None else {"updated_fields": list(updates), "updates": updates}
    return Event(
        occurred=now,
        event=f"prefect.{kind}.{what}",
        resource=resource,
        related=list(related),
        payload=payload,
    )
