"""Events that were: the rows that a filter may admit, newest or oldest first, and counts of them.

SQL narrows by time, name, resource and id; what only labels can tell is told by the filter itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from eparch.core.events import EventFilter
from eparch.store import tables as t
from eparch.store.dialect import AnyOf
from eparch.store.positions import EVENT_FIELDS
from eparch.store.statement import Statement, Steps, param

_event = t.event


def _page(descending: bool, names: bool, resources: bool) -> Statement:
    key, tie = _event.c.occurred, _event.c.id
    after_time, after_id = param("after_time", key), param("after_id", tie)
    if descending:
        after = sa.and_(key <= after_time, sa.or_(key < after_time, tie < after_id))
    else:
        after = sa.and_(key >= after_time, sa.or_(key > after_time, tie > after_id))
    select = sa.select(*(_event.c[name] for name in EVENT_FIELDS)).where(
        key >= param("since", key), key <= param("until", key), after
    )
    if names:
        select = select.where(AnyOf(_event.c.event, "names"))
    if resources:
        select = select.where(AnyOf(_event.c.resource_id, "resources"))
    order = (key.desc(), tie.desc()) if descending else (key, tie)
    return Statement(select.order_by(*order).limit(sa.bindparam("limit", type_=sa.Integer)))


_PAGES = {
    (descending, names, resources): _page(descending, names, resources)
    for descending in (True, False)
    for names in (True, False)
    for resources in (True, False)
}

LAST = UUID(int=2**128 - 1)
FIRST = UUID(int=0)


def candidates(
    wanted: EventFilter, after: tuple[datetime, UUID] | None, limit: int
) -> Steps[list[dict[str, Any]]]:
    """The next rows that ``wanted`` may admit, in its order, after the event of that time and id.

    ``wanted`` has both ends of its time.
    """
    since, until = wanted.occurred.since, wanted.occurred.until
    assert since is not None
    assert until is not None
    descending = wanted.order != "ASC"
    names = wanted.event.name if wanted.event is not None else None
    resources = wanted.resource.id if wanted.resource is not None else None
    start = after or ((until, LAST) if descending else (since, FIRST))
    found = yield _PAGES[descending, bool(names), bool(resources)](
        since=since,
        until=until,
        after_time=start[0],
        after_id=start[1],
        limit=limit,
        **({"names": names} if names else {}),
        **({"resources": resources} if resources else {}),
    )
    return [dict(zip(EVENT_FIELDS, row, strict=True)) for row in found]
