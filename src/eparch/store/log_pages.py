"""Far pages of a run's log: lines are counted by ten seconds, so a page begins near its place.

Owns the counts and how a page makes use of them; the lines are in ``records``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from eparch.core.filters import Condition, Group, Query
from eparch.core.records import LogCreate
from eparch.store import tables as t
from eparch.store.statement import Statement, Steps, param
from eparch.store.where import FAR

_tally = t.log_tally

SPAN = timedelta(seconds=10)
"""A log of a thousand lines a second skips 10,000 lines, one of a line a second reads 100,000 counts."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_insert = postgresql.insert(_tally).values(  # SQLite's compiler understands this form too
    {c.name: param(c.name, c) for c in _tally.columns}
)
_COUNT = Statement(
    _insert.on_conflict_do_update(
        index_elements=[_tally.c.flow_run_id, _tally.c.begun, _tally.c.level],
        set_={"lines": _tally.c.lines + _insert.excluded.lines},
    )
)

_OTHER = Condition("", "", None)

_LEVELS = {"ge_": "at_least", "le_": "at_most"}


@lru_cache(maxsize=8)
def _span_of(descending: bool, bounds: frozenset[str]) -> Statement:
    """The span in which the line after ``skipped`` others is, and how many lines come before the span."""
    lines = sa.func.sum(_tally.c.lines)
    order = _tally.c.begun.desc() if descending else _tally.c.begun.asc()
    before = sa.cast(sa.func.sum(lines).over(order_by=order) - lines, sa.BigInteger)
    counted = sa.select(_tally.c.begun, before.label("before")).where(
        _tally.c.flow_run_id == param("flow_run_id", _tally.c.flow_run_id)
    )
    if "ge_" in bounds:
        counted = counted.where(_tally.c.level >= param("at_least", _tally.c.level))
    if "le_" in bounds:
        counted = counted.where(_tally.c.level <= param("at_most", _tally.c.level))
    found = counted.group_by(_tally.c.begun).subquery("counted")
    return Statement(
        sa.select(found.c.begun, found.c.before)
        .where(found.c.before <= sa.bindparam("skipped", type_=sa.BigInteger))
        .order_by(found.c.before.desc())
        .limit(sa.literal_column("1"))
    )


def count_lines(logs: Sequence[LogCreate]) -> Steps[None]:
    """Count these lines, which are added in the same transaction; those of no flow run are not counted."""
    added = Counter(
        (line.flow_run_id, _begin(line.timestamp), line.level)
        for line in logs
        if line.flow_run_id is not None
    )
    if added:
        keys = sorted(added)
        yield _COUNT.each(
            [{"flow_run_id": run, "begun": at, "level": level, "lines": added[run, at, level]}
             for run, at, level in keys]
        )  # fmt: skip


def _begin(moment: datetime) -> datetime:
    return moment - (moment - _EPOCH) % SPAN


def nearer(query: Query) -> Steps[Query]:
    """A query of logs that has the same page and skips the lines of a span at most.

    It is ``query`` itself where its page is not far, or where the counts do not tell.
    """
    known = _of_one_run(query) if query.offset >= FAR and query.after is None else None
    if known is None:
        return query
    run_id, levels = known
    descending = query.sort == "TIMESTAMP_DESC"
    values = {_LEVELS[op]: value for op, value in levels.items()}
    found = yield _span_of(descending, frozenset(levels))(flow_run_id=run_id, skipped=query.offset, **values)
    if not found:
        return query
    begun, before = found[0]
    bound = (
        Condition("timestamp", "before_", begun + SPAN - timedelta(microseconds=1))
        if descending
        else Condition("timestamp", "after_", begun)
    )
    where = Group("and_", (query.where, bound))
    return replace(query, where=where, offset=query.offset - before)


def _of_one_run(query: Query) -> tuple[UUID, dict[str, int]] | None:
    """The run and the bounds of levels that ``query`` asks for; None where it asks for anything else."""
    if query.related:
        return None
    run_id: UUID | None = None
    levels: dict[str, int] = {}
    for part in _parts(query.where):
        value: Any = part.value
        if part.field == "flow_run_id" and part.op == "any_" and run_id is None and len(value) == 1:
            run_id = value[0]
        elif part.field == "level" and part.op in _LEVELS and part.op not in levels:
            levels[part.op] = value
        else:
            return None
    return None if run_id is None else (run_id, levels)


def _parts(group: Group) -> Iterator[Condition]:
    """The conditions that hold all together; ``_OTHER`` where some of them need not hold."""
    if len(group.parts) > 1 and group.operator != "and_":
        yield _OTHER
    for part in group.parts:
        if isinstance(part, Group):
            yield from _parts(part)
        else:
            yield part
