"""Events and logs in the order of their commits, for whoever follows them without a gap.

A place is the (position, id) of a row. Whoever reads after a place, again and again, gets each row once:
on PostgreSQL a row is held back until no transaction can commit before it any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from eparch.store import tables as t
from eparch.store.dialect import AnyOf, IsSettled, NotByIndex
from eparch.store.statement import Statement, Steps, param

EVENT_FIELDS = tuple(c.name for c in t.event.columns if c.name != "resource_id")
LOG_FIELDS = tuple(c.name for c in t.log.columns)


class Place(NamedTuple):
    """Where a reader is: the last row that it has."""

    position: int
    id: UUID


BEGINNING = Place(-1, UUID(int=0))


class Following(NamedTuple):
    """The rows that come next, and whether there are more that may not be read yet."""

    rows: list[dict[str, Any]]
    unsettled: bool


def _after(table: sa.Table, fields: Sequence[str], *where: Any) -> Statement:
    place = sa.tuple_(table.c.position, table.c.id)
    start = sa.tuple_(param("position", table.c.position), param("id", table.c.id))
    return Statement(
        sa.select(*(table.c[name] for name in fields), IsSettled(table.c.position).label("settled"))
        .where(place > start, *where)
        .order_by(table.c.position, table.c.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
    )


def _newest(table: sa.Table) -> Statement:
    return Statement(
        sa.select(table.c.position, table.c.id)
        .where(IsSettled(table.c.position))
        .order_by(table.c.position.desc(), table.c.id.desc())
        .limit(1)
    )


_EVENTS = _after(t.event, EVENT_FIELDS)
_LOGS = {
    False: _after(t.log, LOG_FIELDS),
    True: _after(t.log, LOG_FIELDS, AnyOf(NotByIndex(t.log.c.flow_run_id), "flow_run_ids")),
}
_NEWEST = {"event": _newest(t.event), "log": _newest(t.log)}


def _of_snapshot(end: str) -> sa.ColumnElement[int]:
    number = getattr(sa.func, f"pg_snapshot_{end}")(sa.func.pg_current_snapshot())
    return sa.cast(sa.cast(number, sa.Text), sa.BigInteger)


_PLACES = (
    t.event.c.position,
    t.log.c.position,
    t.automation_cursor.c.position,
    t.automation.c.after_position,
)
_newest_of_all = sa.func.greatest(*(sa.select(sa.func.max(c)).scalar_subquery() for c in _PLACES))
_MEND = Statement(
    sa.update(t.position_shift)
    .where(_newest_of_all >= _of_snapshot("xmax") + t.position_shift.c.shift)
    .values(shift=_newest_of_all + 1 - _of_snapshot("xmin"))
    .returning(t.position_shift.c.shift)
)


def mend() -> Steps[bool]:
    """On PostgreSQL, let new positions come after all that are there; True where they would not have.

    Positions are numbers of transactions. A cluster into which a dump was restored counts anew, so its
    next transaction may have a number that old rows and cursors are far beyond.
    """
    return bool((yield _MEND()))


def events_after(position: int, last: UUID, limit: int) -> Steps[Following]:
    """The next events after that place, with their ``position``, at most ``limit``."""
    found = yield _EVENTS(position=position, id=last, limit=limit)
    return _following(EVENT_FIELDS, found)


def logs_after(
    position: int, last: UUID, limit: int, flow_run_ids: Sequence[UUID] | None = None
) -> Steps[Following]:
    """The next lines of log after that place, of those flow runs or of all, at most ``limit``."""
    more = {} if flow_run_ids is None else {"flow_run_ids": list(flow_run_ids)}
    found = yield _LOGS[flow_run_ids is not None](position=position, id=last, limit=limit, **more)
    return _following(LOG_FIELDS, found)


def newest_event() -> Steps[Place]:
    """The place of the last event that may be read; what is committed from now on comes after it."""
    place = yield from _newest_place("event")
    return place


def newest_log() -> Steps[Place]:
    """The place of the last line of log that may be read."""
    place = yield from _newest_place("log")
    return place


def _newest_place(table: str) -> Steps[Place]:
    found = yield _NEWEST[table]()
    return Place(*found[0]) if found else BEGINNING


def _following(fields: Sequence[str], found: Sequence[Sequence[Any]]) -> Following:
    rows = [dict(zip(fields, row, strict=False)) for row in found if row[-1]]
    return Following(rows, len(rows) < len(found))
