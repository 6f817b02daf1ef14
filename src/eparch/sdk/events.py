"""``emit_event``: tell the server of something that happened (row B12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.errors import Invalid
from eparch.core.events import Event, ResourceLabels, flaw
from eparch.core.model import decode, encode, new_id
from eparch.sdk import context
from eparch.sdk.session import current

MAX_BYTES = 1_500_000
"""Of one event, as in Prefect."""

TIGHT = timedelta(minutes=5)
"""An event follows another one only when they are this close."""


def emit_event(
    event: str,
    resource: Mapping[str, str],
    occurred: datetime | None = None,
    related: Sequence[Mapping[str, str]] | None = None,
    payload: Mapping[str, Any] | None = None,
    id: UUID | None = None,  # noqa: A002 - Prefect's name
    follows: Event | None = None,
) -> Event:
    """Send the event in the background, at the latest when the process ends; gives the event.

    In a flow or a task the run and its flow are related to it.

    Raises:
        Invalid: a resource lacks ``prefect.resource.id`` or a role, or the event is too large.
    """
    when = occurred or datetime.now(UTC)
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    follows_id = follows.id if follows is not None and abs(when - follows.occurred) < TIGHT else None
    raw = {
        "id": id or new_id(),
        "occurred": when,
        "event": event,
        "resource": dict(resource),
        "related": [*(dict(one) for one in related or ()), *_around(related or ())],
        "payload": dict(payload or {}),
        "follows": follows_id,
    }
    try:
        made: Event = decode(encode(raw), Event)
    except (msgspec.MsgspecError, TypeError) as error:
        raise Invalid(f"The event cannot be sent: {error}") from error
    if message := flaw(made):
        raise Invalid(message)
    size = len(encode(made))
    if size > MAX_BYTES:
        raise Invalid(f"The event has {size} bytes; at most {MAX_BYTES} can be sent.")
    current().reporter.report(made)
    return made


def _around(given: Sequence[Mapping[str, str]]) -> list[ResourceLabels]:
    """The run that the code runs in and its flow, unless they are given."""
    run = context.flow_run.get()
    if run is None:
        return []
    known = {one.get("prefect.resource.id") for one in given}
    found: list[ResourceLabels] = decode(encode(run.related(frozenset())), list[ResourceLabels])
    return [one for one in found if one["prefect.resource.id"] not in known]
