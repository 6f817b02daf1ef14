"""Backfills and their times: reading and writing their rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from eparch.core.backfills import Backfill, BackfillQuery, BackfillSpec, BackfillStatus, DateStatus
from eparch.core.states import FINAL
from eparch.store import tables as t
from eparch.store.dialect import AnyOf
from eparch.store.statement import Row, Statement, Steps, insert, param, update

_backfill, _date, _run = t.backfill, t.backfill_date, t.flow_run

PAGE = 1000
"""Times that are written at once."""

_COLUMNS = (
    _backfill.c.id,
    _backfill.c.created,
    _backfill.c.updated,
    _backfill.c.deployment_id,
    _backfill.c.status,
    _backfill.c.spec,
    _backfill.c.total,
)
_TYPES = {"spec": BackfillSpec}
_ONE = Statement(sa.select(*_COLUMNS).where(_backfill.c.id == param("id", _backfill.c.id)), types=_TYPES)
_LOCKED = Statement(
    sa.select(*_COLUMNS).where(_backfill.c.id == param("id", _backfill.c.id)).with_for_update(),
    types=_TYPES,
)
_PAGE = (
    sa.select(*_COLUMNS)
    .where(_backfill.c.id < param("before", _backfill.c.id))
    .order_by(_backfill.c.id.desc())
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_ALL = Statement(_PAGE, types=_TYPES)
_OF_DEPLOYMENT = Statement(
    _PAGE.where(_backfill.c.deployment_id == param("deployment_id", _backfill.c.deployment_id)), types=_TYPES
)
_RUNNING = Statement(
    sa.select(_backfill.c.id)
    .where(_backfill.c.status == sa.literal_column("'RUNNING'"))
    .where(_backfill.c.id > param("after", _backfill.c.id))
    .order_by(_backfill.c.id)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_COUNTS = Statement(
    sa.select(_date.c.backfill_id, _date.c.status, sa.func.count())
    .where(AnyOf(_date.c.backfill_id, "ids"))
    .group_by(_date.c.backfill_id, _date.c.status)
)
_IN_STATUS = Statement(
    sa.select(_date.c.position, _date.c.logical_date, _date.c.flow_run_id)
    .where(
        _date.c.backfill_id == param("backfill_id", _date.c.backfill_id),
        _date.c.status == param("status", _date.c.status),
    )
    .order_by(_date.c.position)
    .limit(sa.bindparam("limit", type_=sa.Integer))
)
_UNFINISHED = Statement(
    sa.select(_run.c.id).where(
        AnyOf(_run.c.id, "ids"),
        _run.c.state_type.not_in([sa.literal_column(f"'{one.value}'") for one in FINAL]),
    )
)
_LAST_OF_SERIES = Statement(
    sa.select(_run.c.id, _run.c.state_type)
    .select_from(_date.join(_run, _run.c.id == _date.c.flow_run_id))
    .where(
        _date.c.series == param("series", _date.c.series),
        _date.c.logical_date == param("logical_date", _date.c.logical_date),
    )
    .order_by(_run.c.id.desc())
    .limit(sa.literal_column("1"))
)
_SETTLE = Statement(
    sa.update(_date)
    .where(
        _date.c.backfill_id == param("key_backfill_id", _date.c.backfill_id),
        _date.c.position == param("key_position", _date.c.position),
    )
    .values(status=param("status", _date.c.status), flow_run_id=param("flow_run_id", _date.c.flow_run_id))
)
LAST = UUID(int=2**128 - 1)


def _value(row: Row, counts: dict[str, int]) -> Backfill:
    names = tuple(str(column.name) for column in _COLUMNS)
    return Backfill(**{**dict(zip(names, row, strict=True)), "status": BackfillStatus(row[4])}, counts=counts)


def _with_counts(found: Sequence[Row]) -> Steps[list[Backfill]]:
    counts: dict[UUID, dict[str, int]] = {row[0]: {} for row in found}
    if found:
        for backfill_id, status, count in (yield _COUNTS(ids=list(counts))):
            counts[backfill_id][status] = count
    return [_value(row, counts[row[0]]) for row in found]


def insert_backfill(backfill: Backfill, series: str, dates: Sequence[datetime]) -> Steps[None]:
    """Write a new backfill with all of its times, a page at a time."""
    columns = {str(column.name): getattr(backfill, column.name) for column in _COLUMNS}
    columns["status"] = backfill.status.value
    yield insert(_backfill)(**columns, series=series)
    waiting = DateStatus.WAITING.value
    for begin in range(0, len(dates), PAGE):
        yield insert(_date).each(
            [
                {
                    "backfill_id": backfill.id,
                    "position": position,
                    "logical_date": when,
                    "series": series,
                    "status": waiting,
                    "flow_run_id": None,
                }
                for position, when in enumerate(dates[begin : begin + PAGE], begin)
            ]
        )


def read_backfill(backfill_id: UUID, *, lock: bool = False) -> Steps[Backfill | None]:
    """One backfill with its counts; with ``lock`` nobody else changes it until the transaction ends."""
    found = yield (_LOCKED if lock else _ONE)(id=backfill_id)
    complete = yield from _with_counts(found)
    return complete[0] if complete else None


def read_backfills(query: BackfillQuery) -> Steps[list[Backfill]]:
    """A page of backfills, the newest first."""
    page = {"before": query.before or LAST, "limit": query.limit}
    if query.deployment_id is None:
        found = yield _ALL(**page)
    else:
        found = yield _OF_DEPLOYMENT(**page, deployment_id=query.deployment_id)
    complete = yield from _with_counts(found)
    return complete


def write_status(backfill_id: UUID, status: BackfillStatus, now: datetime) -> Steps[None]:
    """Change how far it is."""
    yield update(_backfill, frozenset({"status", "updated"}))(
        key_id=backfill_id, status=status.value, updated=now
    )


def running(after: UUID, limit: int) -> Steps[list[UUID]]:
    """A page of the backfills that make runs, by id."""
    return [row[0] for row in (yield _RUNNING(after=after, limit=limit))]


def dates_in(
    backfill_id: UUID, status: DateStatus, limit: int
) -> Steps[list[tuple[int, datetime, UUID | None]]]:
    """The first times in this status: position, time, run."""
    found = yield _IN_STATUS(backfill_id=backfill_id, status=status.value, limit=limit)
    return [(row[0], row[1], row[2]) for row in found]


def unfinished(run_ids: Sequence[UUID]) -> Steps[set[UUID]]:
    """Which of these runs are not over."""
    return {row[0] for row in (yield _UNFINISHED(ids=list(run_ids)))}


def last_run(series: str, when: datetime) -> Steps[tuple[UUID, str] | None]:
    """The last run that a backfill of the same series made for this time, and the type of its state."""
    found: Any = yield _LAST_OF_SERIES(series=series, logical_date=when)
    return (found[0][0], found[0][1]) if found else None


def settle(backfill_id: UUID, dates: Sequence[tuple[int, DateStatus, UUID | None]]) -> Steps[None]:
    """Write what became of times, by their positions."""
    if dates:
        yield _SETTLE.each(
            [
                {
                    "key_backfill_id": backfill_id,
                    "key_position": position,
                    "status": status.value,
                    "flow_run_id": run_id,
                }
                for position, status, run_id in dates
            ]
        )
