"""Events that were: the rows that a filter may admit, newest or oldest first, and counts of them.

SQL narrows by time, name, id and the ids of resources; what only labels and texts can tell is told by the
filter itself. Where SQL tells all, it counts as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from eparch.core.event_pages import Countable, Counts
from eparch.core.events import AnyResourceFilter, EventFilter, NameFilter, RelatedFilter, ResourceFilter
from eparch.store import tables as t
from eparch.store.dialect import AnyOf, HasPrefix, IntervalOf, JsonText, MomentOf, NamesRelated, NotByIndex
from eparch.store.positions import EVENT_FIELDS
from eparch.store.statement import Statement, Steps, param

_event = t.event

Part = tuple[str, str | int]
"""Kind of a condition, and the name of its list or the number of its texts."""

MOST_PREFIXES = 20
"""Of one condition; more are left to the filter."""

LAST = UUID(int=2**128 - 1)
FIRST = UUID(int=0)


@dataclass(frozen=True)
class Narrowing:
    """What SQL asks of events on behalf of a filter."""

    parts: tuple[Part, ...]
    values: dict[str, Any]
    exact: bool
    """It admits what the filter admits and nothing else."""


class _Collected:
    """Conditions as they are found."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.values: dict[str, Any] = {}
        self.exact = True

    def any_of(self, kind: str, wanted: Sequence[Any] | None) -> None:
        """One of the list; nothing where there is no list."""
        if wanted:
            name = f"list{len(self.parts)}"
            self.parts.append((f"{kind} {name}", name))
            self.values[name] = list(wanted)

    def prefixes(self, kind: str, wanted: Sequence[str] | None) -> None:
        """Begins with one of the texts."""
        if wanted and len(wanted) > MOST_PREFIXES:
            self.exact = False
        elif wanted:
            key = f"{kind} {len(self.parts)}"
            self.parts.append((key, len(wanted)))
            self.values.update({_prefix(key, at): text for at, text in enumerate(wanted)})


def _prefix(key: str, at: int) -> str:
    return f"{key.replace(' ', '_')}_{at}"


def narrow(wanted: EventFilter) -> Narrowing:
    """What SQL can ask on behalf of ``wanted``, its time and order aside."""
    found = _Collected()
    found.any_of("id", wanted.id.id)
    found.exact = wanted.text is None
    if wanted.event is not None:
        _ask_name(found, wanted.event)
    if wanted.resource is not None:
        _by_resource(found, wanted.resource)
    for related in _listed(wanted.related):
        _by_related(found, related)
    for anyone in _listed(wanted.any_resource):
        _by_anyone(found, anyone)
    return Narrowing(tuple(found.parts), found.values, found.exact)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _ask_name(found: _Collected, wanted: NameFilter) -> None:
    found.any_of("name", wanted.name)
    found.any_of("not-name", wanted.exclude_name)
    found.prefixes("prefix", wanted.prefix)
    found.prefixes("not-prefix", wanted.exclude_prefix)


def _by_resource(found: _Collected, wanted: ResourceFilter) -> None:
    found.any_of("resource", wanted.id)
    found.prefixes("resource-prefix", wanted.id_prefix)
    found.exact &= not wanted.labels


def _by_related(found: _Collected, wanted: RelatedFilter) -> None:
    found.any_of("related", wanted.id)
    found.exact &= bool(wanted.id) and not (wanted.role or wanted.resources_in_roles or wanted.labels)


def _by_anyone(found: _Collected, wanted: AnyResourceFilter) -> None:
    # That one and the same resource has the id and the rest is for the filter to tell.
    found.any_of("anyone", wanted.id)
    found.exact &= not (wanted.id_prefix or wanted.labels)


_name = NotByIndex(_event.c.event)


def _condition(part: Part, event: Any = _name) -> Any:
    """``event`` is the column that has the name; rows are found by time, in whose order they are read."""
    key, given = part
    kind = key.partition(" ")[0]
    if isinstance(given, int):
        column = _event.c.resource_id if kind == "resource-prefix" else event
        begins = sa.or_(*(HasPrefix(column, _prefix(key, at)) for at in range(given)))
        return sa.not_(begins) if kind == "not-prefix" else begins
    match kind:
        case "id":
            return AnyOf(_event.c.id, given)
        case "name":
            return AnyOf(event, given)
        case "not-name":
            return sa.not_(AnyOf(event, given))
        case "resource":
            return AnyOf(_event.c.resource_id, given)
        case "related":
            return NamesRelated(_event.c.related, given)
    return sa.or_(AnyOf(_event.c.resource_id, given), NamesRelated(_event.c.related, given))


def _span(select: sa.Select[Any], parts: tuple[Part, ...]) -> sa.Select[Any]:
    key = _event.c.occurred
    return select.where(
        key >= param("since", key), key <= param("until", key), *(_condition(part) for part in parts)
    )


def _in_order(select: sa.Select[Any], descending: bool) -> sa.Select[Any]:
    key, tie = _event.c.occurred, _event.c.id
    order = (key.desc(), tie.desc()) if descending else (key, tie)
    return select.order_by(*order).limit(sa.bindparam("limit", type_=sa.Integer))


@lru_cache(maxsize=256)
def _page(descending: bool, parts: tuple[Part, ...]) -> Statement:
    key, tie = _event.c.occurred, _event.c.id
    after_time, after_id = param("after_time", key), param("after_id", tie)
    if descending:
        after = sa.and_(key <= after_time, sa.or_(key < after_time, tie < after_id))
    else:
        after = sa.and_(key >= after_time, sa.or_(key > after_time, tie > after_id))
    select = sa.select(*(_event.c[name] for name in EVENT_FIELDS)).where(after)
    return Statement(_in_order(_span(select, parts), descending))


@lru_cache(maxsize=256)
def _total(parts: tuple[Part, ...]) -> Statement:
    some = _span(sa.select(_event.c.occurred), parts).limit(sa.bindparam("limit", type_=sa.Integer))
    return Statement(sa.select(sa.func.count()).select_from(some.subquery("some")))


_COUNTED: dict[bool | Countable, tuple[Any, ...]] = {
    Countable.EVENT: (_event.c.event.label("value"), _event.c.event.label("label")),
    Countable.RESOURCE: (
        _event.c.resource_id.label("value"),
        JsonText(_event.c.resource, "prefect.resource.name").label("label"),
    ),
}


@lru_cache(maxsize=256)
def _counted(by: Countable, descending: bool, parts: tuple[Part, ...]) -> Statement:
    """How many of the first rows there are of each kind, and when the first and the last one was."""
    if by in (Countable.DAY, Countable.TIME):
        number = IntervalOf(_event.c.occurred, "start", "length").label("number")
        rows = _in_order(_span(sa.select(number), parts), descending).subquery("some")
        return Statement(sa.select(rows.c.number, sa.func.count()).group_by(rows.c.number))
    columns = (*_COUNTED[by], _event.c.occurred)
    rows = _in_order(_span(sa.select(*columns), parts), descending).subquery("some")
    first, last = sa.func.min(rows.c.occurred), sa.func.max(rows.c.occurred)
    keys = (rows.c.value, rows.c.label)
    return Statement(sa.select(*keys, sa.func.count(), first, last).group_by(*keys))


MOST_NAMES = 1000
"""Names that are looked up one by one; where there are more, rows are grouped."""

_COVERED = ("name", "not-name", "prefix", "not-prefix")
"""Conditions that the indexes by time and by name can tell."""


def _numbers(last: str) -> sa.CTE:
    """0, 1, 2 and so on up to the value ``last``."""
    first = sa.select(sa.literal_column("0").label("number")).cte("numbers", recursive=True)
    step = first.c.number + sa.literal_column("1")
    most = sa.bindparam(last, type_=sa.BigInteger)
    return first.union_all(sa.select(step).where(first.c.number < most))


@lru_cache(maxsize=256)
def _by_interval(parts: tuple[Part, ...]) -> Statement:
    """How many there are in each interval: each is a piece of the index, so nothing is grouped or sorted."""
    numbers = _numbers("last")
    key, following = _event.c.occurred, numbers.c.number + sa.literal_column("1")
    whole = NotByIndex(key)  # SQLite follows one pair of bounds: that of the interval
    counted = (
        sa.select(sa.func.count())
        .select_from(_event)
        .where(
            key >= MomentOf(numbers.c.number, key, "start", "length"),
            key < MomentOf(following, key, "start", "length"),
            whole >= param("since", key),
            whole <= param("until", key),
            *(_condition(part) for part in parts),
        )
        .correlate(numbers)
        .scalar_subquery()
    )
    return Statement(sa.select(numbers.c.number, counted))


def _names() -> sa.CTE:
    """Every name of an event, each found in the index from the one before, then null."""
    other = _event.alias("other")
    first = sa.select(sa.func.min(_event.c.event).label("event")).cte("names", recursive=True)
    following = (
        sa.select(sa.func.min(other.c.event))
        .where(other.c.event > first.c.event)
        .correlate(first)
        .scalar_subquery()
    )
    return first.union_all(sa.select(following).where(first.c.event.is_not(None)))


_SOME_NAMES = Statement(
    sa.select(sa.func.count()).select_from(
        sa.select(_names()).limit(sa.literal_column(str(MOST_NAMES + 2))).subquery("some")
    )
)


@lru_cache(maxsize=256)
def _by_name(parts: tuple[Part, ...]) -> Statement:
    """How many there are of each name: each is a piece of the index, so nothing is grouped or sorted."""
    names = _names()
    admitted = [_condition(part, names.c.event) for part in parts]

    def of(value: Any) -> Any:
        found = _span(sa.select(value).select_from(_event), ()).where(_event.c.event == names.c.event)
        return found.correlate(names).scalar_subquery()

    occurred = _event.c.occurred
    return Statement(
        sa.select(
            names.c.event, of(sa.func.count()), of(sa.func.min(occurred)), of(sa.func.max(occurred))
        ).where(names.c.event.is_not(None), *admitted)
    )


def candidates(
    wanted: EventFilter, after: tuple[datetime, UUID] | None, limit: int
) -> Steps[list[dict[str, Any]]]:
    """The next rows that ``wanted`` may admit, in its order, after the event of that time and id.

    ``wanted`` has both ends of its time.
    """
    narrowed = narrow(wanted)
    descending = wanted.order != "ASC"
    since, until = wanted.occurred.since, wanted.occurred.until
    start = after or ((until, LAST) if descending else (since, FIRST))
    found = yield _page(descending, narrowed.parts)(
        since=since, until=until, after_time=start[0], after_id=start[1], limit=limit, **narrowed.values
    )
    return [dict(zip(EVENT_FIELDS, row, strict=True)) for row in found]


def total(wanted: EventFilter, most: int) -> Steps[int | None]:
    """How many events ``wanted`` admits, counted as far as ``most``; None where SQL cannot tell."""
    narrowed = narrow(wanted)
    if not narrowed.exact:
        return None
    span = {"since": wanted.occurred.since, "until": wanted.occurred.until}
    found = yield _total(narrowed.parts)(limit=most, **span, **narrowed.values)
    return int(found[0][0])


def count(wanted: EventFilter, counts: Counts, most: int) -> Steps[bool]:
    """Add the events that ``wanted`` admits to ``counts``; False where SQL cannot tell.

    All of them where an index alone tells, else the first ``most``.
    """
    narrowed = narrow(wanted)
    if not narrowed.exact:
        return False
    span: dict[str, Any] = {"since": wanted.occurred.since, "until": wanted.occurred.until}
    if is_told_by_names(narrowed):
        if counts.interval:
            cut = {"start": counts.since, "length": counts.length}
            cut["last"] = (counts.until - counts.since) // counts.interval
            for row in (yield _by_interval(narrowed.parts)(**cut, **span, **narrowed.values)):
                if row[1]:
                    counts.add_interval(row[0], row[1])
            return True
        if counts.by is Countable.EVENT and (yield from _has_few_names()):
            for row in (yield _by_name(narrowed.parts)(**span, **narrowed.values)):
                if row[1]:
                    counts.add_group(row[0], None, row[1], row[2], row[3])
            return True
    if counts.interval:
        span |= {"start": counts.since, "length": counts.length}
    statement = _counted(counts.by, wanted.order != "ASC", narrowed.parts)
    found = yield statement(limit=most, **span, **narrowed.values)
    for row in found:
        if counts.interval:
            counts.add_interval(row[0], row[1])
        else:
            counts.add_group(row[0], row[1], row[2], row[3], row[4])
    return True


def is_told_by_names(narrowed: Narrowing) -> bool:
    """Whether names and times alone tell which events are admitted: an index has both."""
    return narrowed.exact and all(key.partition(" ")[0] in _COVERED for key, _ in narrowed.parts)


def _has_few_names() -> Steps[bool]:
    found = yield _SOME_NAMES()
    return int(found[0][0]) <= MOST_NAMES + 1
