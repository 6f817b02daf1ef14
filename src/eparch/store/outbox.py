"""The outbox of actions: claiming what is to be carried out, and saying what came of it.

Every change is guarded by who holds the row, so that two servers do not carry out one action.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from eparch.core.automation_actions import Action
from eparch.core.automations import Automation, Firing, TriggeredAction
from eparch.core.events import ReceivedEvent
from eparch.store import tables as t
from eparch.store.automations import PENDING
from eparch.store.statement import Statement, Steps, param

_action = t.automation_action

RUNNING, DONE, FAILED = "running", "done", "failed"

_FREE = sa.or_(
    sa.and_(_action.c.status == PENDING, _action.c.next_attempt <= param("now", _action.c.next_attempt)),
    sa.and_(_action.c.status == RUNNING, _action.c.lease_until < param("now", _action.c.lease_until)),
)
_TAKE = Statement(
    sa.update(_action)
    .where(
        _action.c.id.in_(
            sa.select(_action.c.id)
            .where(_FREE)
            .order_by(_action.c.next_attempt, _action.c.id)
            .limit(sa.bindparam("limit", type_=sa.Integer))
            .scalar_subquery()
        ),
        _FREE,
    )
    .values(
        status=RUNNING,
        attempts=_action.c.attempts + 1,
        claimed_by=param("holder", _action.c.claimed_by),
        lease_until=param("lease_until", _action.c.lease_until),
    )
    .returning(
        *(
            _action.c[name]
            for name in (
                "id",
                "automation",
                "firing",
                "triggering_event",
                "action",
                "action_index",
                "triggered_event_id",
                "attempts",
            )
        )
    ),
    types={"automation": Automation, "firing": Firing, "triggering_event": ReceivedEvent, "action": Action},
)
_HELD = sa.and_(
    _action.c.id == param("key_id", _action.c.id),
    _action.c.status == RUNNING,
    _action.c.claimed_by == param("holder", _action.c.claimed_by),
)
_FINISH = Statement(
    sa.update(_action)
    .where(_HELD)
    .values(
        status=param("status", _action.c.status),
        error=param("error", _action.c.error),
        next_attempt=param("now", _action.c.next_attempt),
        claimed_by=sa.null(),
        lease_until=sa.null(),
    )
    .returning(_action.c.id)
)
_FAIL = Statement(
    sa.update(_action)
    .where(_action.c.id == param("key_id", _action.c.id))
    .values(status=FAILED, error=param("error", _action.c.error))
)
_POSTPONE = Statement(
    sa.update(_action)
    .where(_HELD)
    .values(
        status=PENDING,
        error=param("error", _action.c.error),
        attempts=_action.c.attempts - sa.bindparam("uncounted", type_=sa.Integer),
        next_attempt=param("until", _action.c.next_attempt),
        claimed_by=sa.null(),
        lease_until=sa.null(),
    )
    .returning(_action.c.id)
)
_FORGET = Statement(
    sa.delete(_action).where(
        _action.c.id.in_(
            sa.select(_action.c.id)
            .where(
                sa.or_(_action.c.status == DONE, _action.c.status == FAILED),
                _action.c.next_attempt < param("before", _action.c.next_attempt),
            )
            .limit(sa.bindparam("limit", type_=sa.Integer))
            .scalar_subquery()
        )
    )
)


class Claimed(NamedTuple):
    """An action that this server carries out, and the number of its attempt, from 1."""

    triggered: TriggeredAction
    attempt: int


def take(holder: UUID, now: datetime, lease_until: datetime, limit: int) -> Steps[list[Claimed]]:
    """Claim at most ``limit`` actions that are due, or that whoever claimed them has given up."""
    rows = yield _TAKE(holder=holder, now=now, lease_until=lease_until, limit=limit)
    return sorted((_claimed(row) for row in rows), key=lambda one: one.triggered.id)


def _claimed(row: Sequence[Any]) -> Claimed:
    id_, automation, firing, event, action, index, event_id, attempts = row
    triggered = TriggeredAction(
        id=id_,
        automation=automation,
        firing=firing,
        triggered=firing.triggered,
        triggering_labels=firing.triggering_labels,
        triggering_event=event,
        action=action,
        action_index=index,
        automation_triggered_event_id=event_id,
    )
    return Claimed(triggered, attempts)


def finish(action_id: UUID, holder: UUID, error: str | None, now: datetime) -> Steps[bool]:
    """The action is done, or failed with ``error``; False: ``holder`` does not hold it any more."""
    status = DONE if error is None else FAILED
    found = yield _FINISH(key_id=action_id, holder=holder, status=status, error=error, now=now)
    return bool(found)


def fail(action_id: UUID, error: str) -> Steps[None]:
    """The action that was finished in this transaction failed after all."""
    yield _FAIL(key_id=action_id, error=error)


def postpone(
    action_id: UUID, holder: UUID, until: datetime, error: str | None, *, counted: bool = True
) -> Steps[bool]:
    """Let the action be tried again after ``until``; without ``counted`` this was no attempt."""
    uncounted = 0 if counted else 1
    found = yield _POSTPONE(key_id=action_id, holder=holder, until=until, error=error, uncounted=uncounted)
    return bool(found)


def forget(before: datetime, limit: int) -> Steps[None]:
    """Delete actions that ended before that time."""
    yield _FORGET(before=before, limit=limit)
