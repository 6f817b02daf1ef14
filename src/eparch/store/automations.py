"""Automations: their rows, what their triggers remember, how far events were decided on, and the outbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from eparch.core.automation_actions import Action
from eparch.core.automations import Automation, Firing, Trigger, TriggeredAction
from eparch.core.filters import Query
from eparch.core.metrics import Times
from eparch.core.trigger_index import Place
from eparch.core.trigger_memory import Kept, Remembered, State
from eparch.store import positions
from eparch.store import tables as t
from eparch.store.dialect import AnyOf
from eparch.store.rows import names
from eparch.store.statement import Statement, Steps, delete, insert, param, update, upsert
from eparch.store.where import bind

_automation, _resource, _bucket = t.automation, t.automation_resource, t.automation_bucket
_firing, _cursor, _action, _run = t.automation_firing, t.automation_cursor, t.automation_action, t.flow_run

CURSOR = "automations"
"""The name of the row that says how far events were decided on."""

PENDING = "pending"

TYPES: dict[str, Any] = {
    "trigger": Trigger,
    "actions": list[Action],
    "actions_on_trigger": list[Action],
    "actions_on_resolve": list[Action],
}
_PLACE = ("after_position", "after_id")

AUTOMATIONS: sa.Select[Any] = sa.select(*(c for c in _automation.columns if c.name not in _PLACE))
_KEYS = names(AUTOMATIONS)

_READ = Statement(AUTOMATIONS.where(_automation.c.id == param("id", _automation.c.id)), wire=True)
_VALUE = Statement(AUTOMATIONS.where(_automation.c.id == param("id", _automation.c.id)), types=TYPES)
_ENABLED = Statement(
    sa.select(*AUTOMATIONS.selected_columns, *(_automation.c[name] for name in _PLACE))
    .where(_automation.c.enabled.is_(sa.true()))
    .order_by(_automation.c.created, _automation.c.id),
    types=TYPES,
)


def _related(owned: bool) -> sa.Select[Any]:
    select = AUTOMATIONS.join_from(_automation, _resource, _resource.c.automation_id == _automation.c.id)
    select = select.where(_resource.c.resource_id == param("resource_id", _resource.c.resource_id))
    if owned:
        select = select.where(_resource.c.owned.is_(sa.true()))
    return select.order_by(_automation.c.name, _automation.c.id)


_RELATED = Statement(_related(False), wire=True)
_OWNED = Statement(_related(True), types=TYPES)
_RELATE = Statement(
    postgresql.insert(_resource)  # SQLite's compiler understands this form too
    .values({c.name: sa.bindparam(c.name, type_=c.type) for c in _resource.columns})
    .on_conflict_do_nothing(index_elements=[_resource.c.automation_id, _resource.c.resource_id])
)
_UNRELATE = Statement(
    sa.delete(_resource).where(
        _resource.c.automation_id == param("automation_id", _resource.c.automation_id),
        _resource.c.owned.is_(sa.false()),
    )
)

# Rows of automations


def read_automation(automation_id: UUID) -> Steps[dict[str, Any] | None]:
    """The automation as the wire answers it; None: there is none."""
    found = yield _READ(id=automation_id)
    return dict(zip(_KEYS, found[0], strict=True)) if found else None


def automation_value(automation_id: UUID) -> Steps[Automation | None]:
    """The automation; None: there is none."""
    found = yield _VALUE(id=automation_id)
    return Automation(**dict(zip(_KEYS, found[0], strict=True))) if found else None


def read_automations(query: Query) -> Steps[list[dict[str, Any]]]:
    """A page of automations."""
    found = yield bind(AUTOMATIONS, query)
    return [dict(zip(_KEYS, row, strict=True)) for row in found]


def related_to(resource_id: str) -> Steps[list[dict[str, Any]]]:
    """The automations that act on the resource or go with it."""
    found = yield _RELATED(resource_id=resource_id)
    return [dict(zip(_KEYS, row, strict=True)) for row in found]


def owned_by(resource_id: str) -> Steps[list[Automation]]:
    """The automations that go with the resource."""
    found = yield _OWNED(resource_id=resource_id)
    return [Automation(**dict(zip(_KEYS, row, strict=True))) for row in found]


def insert_automation(columns: dict[str, Any]) -> Steps[None]:
    """Add an automation."""
    yield insert(_automation)(**columns)


def write_automation(automation_id: UUID, columns: dict[str, Any]) -> Steps[bool]:
    """Change columns of the automation; False: there is none."""
    found = yield update(_automation, frozenset(columns))(key_id=automation_id, **columns)
    return bool(found)


def delete_automation(automation_id: UUID) -> Steps[bool]:
    """Delete the automation with all that its triggers remember; False: there is none."""
    found = yield delete(_automation)(key=automation_id)
    return bool(found)


def relate(automation_id: UUID, resource_ids: Iterable[str], *, owned: bool) -> Steps[None]:
    """Say that the automation acts on the resources, or (``owned``) goes with them."""
    for resource_id in resource_ids:
        yield _RELATE(automation_id=automation_id, resource_id=resource_id, owned=owned)


def unrelate(automation_id: UUID) -> Steps[None]:
    """Forget what the automation acts on; what it goes with stays."""
    yield _UNRELATE(automation_id=automation_id)


# How far events were decided on


class Standing(NamedTuple):
    """Up to where events were decided on, and by which version of the automations."""

    place: Place
    version: int


class Ahead(NamedTuple):
    """What there is to decide."""

    events: list[dict[str, Any]]
    unsettled: bool
    """Whether there are events that may not be read yet."""
    standing: Standing | None
    due: datetime | None
    """When time changes something that a trigger remembers."""


_STANDING = Statement(
    sa.select(_cursor.c.position, _cursor.c.event_id, _cursor.c.version).where(
        _cursor.c.name == param("name", _cursor.c.name)
    )
)
_CHANGED = Statement(
    postgresql.insert(_cursor)
    .values(
        name=param("name", _cursor.c.name),
        position=param("position", _cursor.c.position),
        event_id=param("event_id", _cursor.c.event_id),
        version=1,
    )
    .on_conflict_do_update(index_elements=[_cursor.c.name], set_={"version": _cursor.c.version + 1})
)
_ADVANCE = Statement(
    sa.update(_cursor)
    .where(
        _cursor.c.name == param("key_name", _cursor.c.name),
        _cursor.c.position == param("key_position", _cursor.c.position),
        _cursor.c.event_id == param("key_event_id", _cursor.c.event_id),
        _cursor.c.version == param("key_version", _cursor.c.version),
    )
    .values(position=param("position", _cursor.c.position), event_id=param("event_id", _cursor.c.event_id))
    .returning(_cursor.c.name)
)
_NEXT_DUE = Statement(sa.select(_bucket.c.due).where(_bucket.c.due.is_not(None)).order_by("due").limit(1))


def place_now() -> Steps[Place]:
    """The place after all events that there are."""
    newest = yield from positions.newest_event()
    return Place(newest.position, newest.id)


def note_change() -> Steps[None]:
    """Make a new version of the automations: whoever decides by an older one cannot commit it."""
    place = yield from place_now()
    yield _CHANGED(name=CURSOR, position=place.position, event_id=place.id)


def standing() -> Steps[Standing | None]:
    """How far events were decided on; None: there never was an automation."""
    found = yield _STANDING(name=CURSOR)
    return Standing(Place(found[0][0], found[0][1]), found[0][2]) if found else None


def ahead(place: Place, limit: int) -> Steps[Ahead]:
    """The events after ``place``, and then how it stands: nothing that they need is newer than that."""
    following = yield from positions.events_after(place.position, place.id, limit)
    due = yield _NEXT_DUE()
    stands = yield from standing()
    return Ahead(following.rows, following.unsettled, stands, due[0][0] if due else None)


def advance(stands: Standing, place: Place) -> Steps[bool]:
    """Move on to ``place``; False: another server did, or the automations changed. Locks out both."""
    found = yield _ADVANCE(
        key_name=CURSOR,
        key_position=stands.place.position,
        key_event_id=stands.place.id,
        key_version=stands.version,
        position=place.position,
        event_id=place.id,
    )
    return bool(found)


def enabled() -> Steps[tuple[Standing | None, list[tuple[Automation, Place]]]]:
    """How it stands, and the enabled automations of that version or a newer one."""
    stands = yield from standing()
    found = yield _ENABLED()
    watched = [(Automation(**dict(zip(_KEYS, row, strict=False))), Place(row[-2], row[-1])) for row in found]
    return stands, watched


# What triggers remember

_STATE_TYPES: dict[str, Any] = {"state": State, "key": list[str]}
_STATES = Statement(
    sa.select(_bucket.c.id, _bucket.c.state).where(AnyOf(_bucket.c.id, "ids")), types=_STATE_TYPES
)
_DUE = Statement(
    sa.select(_bucket.c.automation_id, _bucket.c.trigger_id, _bucket.c.key, _bucket.c.state)
    .where(_bucket.c.due <= param("now", _bucket.c.due))
    .order_by(_bucket.c.due, _bucket.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer)),
    types=_STATE_TYPES,
)
_PUT_STATE = upsert(_bucket, ("id",), ("state", "due"))
_DROP_STATES = Statement(sa.delete(_bucket).where(AnyOf(_bucket.c.id, "ids")))
_KEPT = Statement(
    sa.select(_firing.c.automation_id, _firing.c.firing).where(AnyOf(_firing.c.automation_id, "ids")),
    types={"firing": Firing},
)
_DROP_KEPT = Statement(sa.delete(_firing).where(AnyOf(_firing.c.automation_id, "ids")))
_TIMES = Statement(
    sa.select(_run.c.id, _run.c.expected_start_time, _run.c.start_time, _run.c.total_run_time).where(
        AnyOf(_run.c.id, "ids")
    )
)


def states(ids: Iterable[UUID]) -> Steps[dict[UUID, State]]:
    """What is remembered under these ids."""
    found = yield _STATES(ids=list(ids))
    return {row[0]: row[1] for row in found}


def due_states(now: datetime, limit: int) -> Steps[list[Remembered]]:
    """What time changes until ``now``, the earliest first."""
    found = yield _DUE(now=now, limit=limit)
    return [Remembered(automation_id=row[0], trigger_id=row[1], key=row[2], state=row[3]) for row in found]


def put_states(remembered: Sequence[tuple[Remembered, datetime | None]]) -> Steps[None]:
    """Remember states, each with when time changes it; one that is None is forgotten."""
    gone = [told.id for told, _ in remembered if told.state is None]
    if gone:
        yield _DROP_STATES(ids=gone)
    rows = [
        {
            "id": told.id,
            "automation_id": told.automation_id,
            "trigger_id": told.trigger_id,
            "key": told.key,
            "state": told.state,
            "due": due,
        }
        for told, due in remembered
        if told.state is not None
    ]
    if rows:
        yield _PUT_STATE.each(rows)


def kept_firings(automation_ids: Iterable[UUID]) -> Steps[dict[UUID, Kept]]:
    """The firings of triggers inside of others that these automations wait with."""
    found = yield _KEPT(ids=list(automation_ids))
    kept: dict[UUID, Kept] = {}
    for automation_id, firing in found:
        kept.setdefault(automation_id, {})[firing.trigger.id] = firing
    return kept


def put_kept(kept: dict[UUID, Kept]) -> Steps[None]:
    """Keep these firings of the automations, in the place of those that were kept."""
    yield _DROP_KEPT(ids=list(kept))
    rows = [
        {
            "automation_id": automation_id,
            "trigger_id": trigger_id,
            "triggered": firing.triggered,
            "firing": firing,
        }
        for automation_id, firings in kept.items()
        for trigger_id, firing in firings.items()
    ]
    if rows:
        yield insert(_firing).each(rows)


def forget(automation_id: UUID) -> Steps[None]:
    """Forget all that the automation's triggers remember."""
    yield delete(_bucket, "automation_id")(key=automation_id)
    yield delete(_firing, "automation_id")(key=automation_id)


def times_of(run_ids: Iterable[UUID]) -> Steps[dict[UUID, Times]]:
    """When these flow runs should have begun, did, and how long they ran."""
    found = yield _TIMES(ids=list(run_ids))
    return {row[0]: Times(*row[1:]) for row in found}


# What is to be done


def insert_actions(actions: Sequence[TriggeredAction], now: datetime) -> Steps[None]:
    """Put ``actions`` into the outbox."""
    yield insert(_action).each(
        [
            {
                "id": action.id,
                "created": now,
                "automation_id": action.automation.id,
                "automation_name": action.automation.name,
                "automation": action.automation,
                "action_index": action.action_index,
                "action": action.action,
                "firing": action.firing,
                "triggering_event": action.triggering_event,
                "triggered_event_id": action.automation_triggered_event_id,
                "status": PENDING,
                "attempts": 0,
                "next_attempt": now,
                "claimed_by": None,
                "lease_until": None,
                "error": None,
            }
            for action in actions
        ]
    )
