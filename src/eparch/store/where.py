"""From a ``core.filters.Query`` to SQL: conditions, joins to other entities, order and page.

Queries of one shape share one compiled statement, however many values their lists have.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql.elements import ColumnElement

from eparch.core.filters import Query
from eparch.store import tables as t
from eparch.store.dialect import (
    AnyOf,
    Contains,
    ContainsAll,
    IsEmpty,
    JsonText,
    NotByIndex,
    Overlaps,
    StartsWithAny,
)
from eparch.store.statement import Bound, Statement

TABLES: dict[str, sa.Table] = {
    "flows": t.flow,
    "flow_runs": t.flow_run,
    "task_runs": t.task_run,
    "deployments": t.deployment,
    "work_pools": t.work_pool,
    "work_queues": t.work_queue,
    "workers": t.worker,
    "logs": t.log,
    "artifacts": t.artifact,
    "artifact_collections": t.artifact,
    "variables": t.variable,
    "automations": t.automation,
    "saved_searches": t.saved_search,
    "block_types": t.block_type,
    "block_schemas": t.block_schema,
    "block_documents": t.block_document,
}

_COUNTS = {entity: sa.select(sa.func.count()).select_from(table) for entity, table in TABLES.items()}

_IDS = {entity: sa.select(table.c.id) for entity, table in TABLES.items()}

_newer = t.artifact.alias("newer")

_ALWAYS: dict[str, ColumnElement[bool]] = {
    # The index on (key, id) tells of each artifact whether there is a newer one of its key.
    "artifact_collections": sa.and_(
        t.artifact.c.key.is_not(None),
        ~sa.exists(
            sa.select(_newer.c.id)
            .where(_newer.c.key == t.artifact.c.key, _newer.c.id > t.artifact.c.id)
            .correlate(t.artifact)
        ),
    )
}
"""What holds of every row of an entity that is less than its table."""

_COLUMNS: dict[tuple[str, str], ColumnElement[Any]] = {
    ("flow_runs", "created_by_id"): JsonText(t.flow_run.c.created_by, "id"),
    ("flow_runs", "created_by_type"): JsonText(t.flow_run.c.created_by, "type"),
    ("logs", "text"): t.log.c.message + " " + t.log.c.name,
    ("artifact_collections", "latest_id"): t.artifact.c.id,
    ("block_schemas", "block_capabilities"): t.block_schema.c.capabilities,
}

_MOMENTS: dict[tuple[str, str], ColumnElement[Any]] = {("flow_run", "start_time"): t.began}
"""``(table, field)``: what it is sorted and compared by. Whether it is null is asked of the column itself."""

_LINKS: dict[tuple[str, str], tuple[ColumnElement[Any], ColumnElement[Any]]] = {
    # (entity of the rows, entity of the condition): column of the row, column that it must be found in
    ("flow_runs", "flows"): (t.flow_run.c.flow_id, t.flow.c.id),
    ("flow_runs", "deployments"): (t.flow_run.c.deployment_id, t.deployment.c.id),
    ("flow_runs", "work_queues"): (t.flow_run.c.work_queue_id, t.work_queue.c.id),
    ("flow_runs", "task_runs"): (t.flow_run.c.id, t.task_run.c.flow_run_id),
    ("task_runs", "flow_runs"): (t.task_run.c.flow_run_id, t.flow_run.c.id),
    ("deployments", "flows"): (t.deployment.c.flow_id, t.flow.c.id),
    ("deployments", "work_queues"): (t.deployment.c.work_queue_id, t.work_queue.c.id),
    ("deployments", "flow_runs"): (t.deployment.c.id, t.flow_run.c.deployment_id),
    ("flows", "deployments"): (t.flow.c.id, t.deployment.c.flow_id),
    ("flows", "flow_runs"): (t.flow.c.id, t.flow_run.c.flow_id),
    ("artifacts", "flow_runs"): (t.artifact.c.flow_run_id, t.flow_run.c.id),
    ("artifacts", "task_runs"): (t.artifact.c.task_run_id, t.task_run.c.id),
    ("artifact_collections", "flow_runs"): (t.artifact.c.flow_run_id, t.flow_run.c.id),
    ("artifact_collections", "task_runs"): (t.artifact.c.task_run_id, t.task_run.c.id),
    ("work_queues", "work_pools"): (t.work_queue.c.work_pool_id, t.work_pool.c.id),
    ("block_types", "block_schemas"): (t.block_type.c.id, t.block_schema.c.block_type_id),
    ("block_documents", "block_types"): (t.block_document.c.block_type_id, t.block_type.c.id),
    ("block_documents", "block_schemas"): (t.block_document.c.block_schema_id, t.block_schema.c.id),
}

_VIA: dict[tuple[str, str], str] = {
    # how to reach an entity that is more than one link away
    ("flow_runs", "work_pools"): "work_queues",
    ("task_runs", "flows"): "flow_runs",
    ("task_runs", "deployments"): "flow_runs",
    ("task_runs", "work_pools"): "flow_runs",
    ("task_runs", "work_queues"): "flow_runs",
    ("deployments", "work_pools"): "work_queues",
    ("deployments", "task_runs"): "flow_runs",
    ("flows", "task_runs"): "flow_runs",
    ("flows", "work_pools"): "deployments",
    ("artifacts", "flows"): "flow_runs",
    ("artifacts", "deployments"): "flow_runs",
    ("artifact_collections", "flows"): "flow_runs",
    ("artifact_collections", "deployments"): "flow_runs",
}


FAR = 1000
"""Rows before a page from which on it is far behind."""

_QUEUED = ("work_pools", "work_queues")
"""Their runs are many, and come from several pieces of an index."""

Names = tuple[str, ...]
"""What each value of a query is called; one that is a list of one has a name of its own, see ``_is_any``."""


def bind(select: sa.Select[Any], query: Query, *extra: str, wire: bool = True) -> Bound:
    """``select`` narrowed, ordered and paged by ``query``; ``extra`` names further equal conditions.

    ``wire``: the rows are only written into an answer.
    """
    names, values = _named(query)
    values["limit"], values["offset"] = query.limit, query.offset
    if query.after is not None:
        values["after_key"], values["after_id"] = query.after
    how = _How(wire, _is_found_first(query), query.after is not None)
    return Bound(_select(select, query.shape(), names, extra, how), values)


class _How(NamedTuple):
    wire: bool
    found_first: bool
    goes_on: bool
    """The page begins after a row that is given."""


def _is_found_first(query: Query) -> bool:
    """Whether the ids of a page are found before its rows are read.

    An index has the ids, so the rows before a far page are not read to be skipped, nor all runs of a flow
    to be sorted: the index that finds them has when they were expected, in another order.
    """
    if query.offset >= FAR:
        return True
    if query.entity != "flow_runs":
        return False
    if any(other in _QUEUED for other, _ in query.related):
        return True
    expected = query.sort.startswith("EXPECTED_START_TIME_")
    return expected and bool(query.where.parts or query.related)


def bind_count(query: Query) -> Bound:
    """How many rows ``query`` has, its page aside."""
    return bind_all(_COUNTS[query.entity], query)


def ids_of(query: Query) -> Bound:
    """The ids of the rows that ``query`` has, in its order, within its limit."""
    return bind(_IDS[query.entity], query, wire=False)


def bind_all(select: sa.Select[Any], query: Query, **values: Any) -> Bound:
    """``select`` over all rows that ``query`` has, without its order and page; ``values`` are its own."""
    names, given = _named(query)
    return Bound(_all(select, query.shape(), names), {**given, **values})


def _named(query: Query) -> tuple[Names, dict[str, Any]]:
    names: list[str] = []
    values: dict[str, Any] = {}
    for number, value in enumerate(query.values()):
        alone = isinstance(value, list) and len(value) == 1
        values[f"v{number}"] = value
        if alone:
            values[f"only{number}"] = value[0]
        names.append(f"only{number}" if alone else f"v{number}")
    return tuple(names), values


@lru_cache(maxsize=1024)
def _select(
    select: sa.Select[Any],
    shape: tuple[Any, ...],
    names: Names,
    extra: tuple[str, ...],
    how: _How,
) -> Statement:
    entity, _, _, sort = shape
    table = TABLES[entity]
    conditions = [table.c[name] == sa.bindparam(name, type_=table.c[name].type) for name in extra]
    conditions += _conditions(shape, names)
    if how.goes_on:
        conditions.append(_after(table, sort))
    limit, offset = sa.bindparam("limit", type_=sa.Integer), sa.bindparam("offset", type_=sa.BigInteger)

    def page(of: sa.Select[Any]) -> sa.Select[Any]:
        return of.where(*conditions).order_by(*order(table, sort)).limit(limit).offset(offset)

    if not how.found_first:
        return Statement(page(select), wire=how.wire)
    found = page(sa.select(table.c.id)).correlate(None)
    return Statement(select.where(table.c.id.in_(found)).order_by(*order(table, sort)), wire=how.wire)


def key_of(query: Query, row: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """What a page must know of ``row``, as the wire answers it, to come after it.

    None where that is not enough: in an order by what may be null.
    """
    table = TABLES[query.entity]
    name, column = _sorted_by(table, query.sort)
    if name not in row or (isinstance(column, sa.Column) and column.nullable):
        return None
    key = row[name]
    if key is None and column is t.began:
        key = row["expected_start_time"]
    return key, row["id"]


def _after(table: sa.Table, sort: str) -> ColumnElement[bool]:
    _, column = _sorted_by(table, sort)
    key = sa.bindparam("after_key", type_=column.type)
    last = sa.bindparam("after_id", type_=table.c.id.type)
    if sort.endswith("_DESC"):
        return sa.and_(column <= key, sa.or_(column < key, table.c.id < last))
    return sa.and_(column >= key, sa.or_(column > key, table.c.id > last))


def _sorted_by(table: sa.Table, sort: str) -> tuple[str, ColumnElement[Any]]:
    name = sort.rpartition("_")[0]
    field = "total_run_time" if name == "DURATION" else name.lower()
    column = _MOMENTS.get((table.name, field))
    return field, column if column is not None else table.c.get(field, sa.null())


@lru_cache(maxsize=256)
def _all(select: sa.Select[Any], shape: tuple[Any, ...], names: Names) -> Statement:
    return Statement(select.where(*_conditions(shape, names)))


def order(table: sa.Table, sort: str) -> tuple[ColumnElement[Any], ...]:
    """The columns that ``sort`` orders by; the id makes the order total, so that pages do not overlap."""
    if sort == "BLOCK_TYPE_AND_NAME_ASC":
        return (table.c.block_type_name.asc(), table.c.name.asc(), table.c.id.asc())
    _, column = _sorted_by(table, sort)
    descending = sort.endswith("_DESC")
    # Null is last either way: SQLite and PostgreSQL would disagree. A column that is never null says so,
    # because the words cost the index.
    key = column.desc() if descending else column.asc()
    if isinstance(column, sa.Column) and column.nullable:
        key = key.nulls_last()
    tie = table.c.id.desc() if descending else table.c.id.asc()
    return (key,) if column is table.c.id else (key, tie)


def _conditions(shape: tuple[Any, ...], names: Names) -> list[ColumnElement[bool]]:
    entity, where, related, sort = shape
    given = _Given(names, sort in _ORDERS_WITHIN_STATE)
    conditions = [_ALWAYS[entity]] if entity in _ALWAYS else []
    if len(where) > 1:
        conditions.append(_group(entity, where, given))
    for other, group in related:
        own = _key_to(entity, other) if group[1:] == (("id", "any_"),) else None
        if own is not None:
            conditions.append(_is_any(own, next(given)))
        else:
            conditions.append(_linked(entity, other, _group(other, group, given)))
    return conditions


def _key_to(entity: str, other: str) -> sa.Column[Any] | None:
    """The foreign key to ``other``: what is linked to given ids is found without looking at them."""
    own, theirs = _LINKS.get((entity, other), (None, None))
    if isinstance(own, sa.Column) and isinstance(theirs, sa.Column) and theirs.name == "id":
        return own if own.foreign_keys else None
    return None


_ORDERS_WITHIN_STATE = ("ID_DESC", "EXPECTED_START_TIME_ASC", "EXPECTED_START_TIME_DESC")
"""Orders that the indexes of flow runs in one state have."""


class _Given:
    """Hands out the names of the values, and knows whether the index of a state has the order."""

    def __init__(self, names: Names, follows_state: bool) -> None:
        self._names = iter(names)
        self.follows_state = follows_state

    def __next__(self) -> str:
        return next(self._names)


def _linked(entity: str, other: str, condition: ColumnElement[bool]) -> Any:
    middle = _VIA.get((entity, other))
    if middle is not None:
        return _linked(entity, middle, _linked(middle, other, condition))
    own, theirs = _LINKS[entity, other]
    return own.in_(sa.select(theirs).where(condition).correlate(None))


def _group(entity: str, shape: tuple[Any, ...], names: _Given) -> Any:
    operator, *parts = shape
    conditions = [
        _group(entity, part, names) if part[0] in ("and_", "or_") else _condition(entity, part, names)
        for part in parts
    ]
    return sa.and_(*conditions) if operator == "and_" else sa.or_(*conditions)


def _condition(entity: str, part: tuple[Any, ...], names: _Given) -> Any:
    field, op = part[0], part[1]
    special = _SPECIAL.get((entity, field))
    if len(part) == 3:
        return special(op, part[2]) if special else _switch(TABLES[entity].c[field], op, part[2])
    name = next(names)
    if special is not None:
        return special(op, name)
    column = _COLUMNS.get((entity, field), _MOMENTS.get((TABLES[entity].name, field)))
    if field == "state_type" and not (names.follows_state and name.startswith("only")):
        column = NotByIndex(TABLES[entity].c[field])
    return _compare(column if column is not None else TABLES[entity].c[field], op, name)


def _switch(column: sa.Column[Any], op: str, value: bool) -> ColumnElement[bool]:
    if op == "eq_":
        return column.is_(sa.true() if value else sa.false())
    if column.name == "tags":
        return IsEmpty(column) if value else sa.not_(IsEmpty(column))
    missing = op == "is_null_" if value else op == "exists_"
    return column.is_(None) if missing else column.is_not(None)


def _compare(column: ColumnElement[Any], op: str, name: str) -> Any:
    match op:
        case "any_":
            return _is_any(column, name)
        case "not_any_":
            return sa.not_(_is_any(column, name))
        case "all_":
            return ContainsAll(column, _list(name))
        case "overlaps_":
            return Overlaps(column, _list(name))
        case "startswith_":
            return StartsWithAny(column, _list(name))
        case "like_" | "query":
            return Contains(column, name)
        case "lacks_":
            return sa.not_(Contains(column, name))
        case "before_" | "le_":
            return column <= sa.bindparam(name, type_=column.type)
        case "after_" | "ge_":
            return column >= sa.bindparam(name, type_=column.type)
    raise AssertionError(f"no SQL for the operator {op}")


def _is_any(column: ColumnElement[Any], name: str) -> Any:
    """``column`` is one of the list; a list of one is an equation, which an index serves in its own order."""
    if name.startswith("only") and isinstance(column, (sa.Column, NotByIndex)):
        return column == sa.bindparam(name, type_=column.type)
    return AnyOf(column, _list(name))


def _list(name: str) -> str:
    return name.replace("only", "v")


def _flow_deployment(op: str, value: Any) -> Any:
    has = t.flow.c.id.in_(sa.select(t.deployment.c.flow_id).correlate(None))
    return sa.not_(has) if value else has


def _run_queue(op: str, value: Any) -> Any:
    if isinstance(value, bool):
        column = t.flow_run.c.work_queue_id
        return column.is_(None) if value else column.is_not(None)
    queues = sa.select(t.work_queue.c.id).where(_is_any(t.work_queue.c.name, value))
    return t.flow_run.c.work_queue_id.in_(queues.correlate(None))


def _deployment_queue(op: str, value: Any) -> Any:
    queues = sa.select(t.work_queue.c.id).where(_is_any(t.work_queue.c.name, value))
    return t.deployment.c.work_queue_id.in_(queues.correlate(None))


def _either_name(op: str, value: Any) -> ColumnElement[bool]:
    flows = sa.select(t.flow.c.id).where(Contains(t.flow.c.name, value))
    return sa.or_(Contains(t.deployment.c.name, value), t.deployment.c.flow_id.in_(flows.correlate(None)))


def _parent_run(op: str, value: Any) -> Any:
    tasks = sa.select(t.task_run.c.id).where(_is_any(t.task_run.c.flow_run_id, value))
    return t.flow_run.c.parent_task_run_id.in_(tasks.correlate(None))


def _subflows(op: str, value: Any) -> Any:
    has = t.task_run.c.id.in_(
        sa.select(t.flow_run.c.parent_task_run_id)
        .where(t.flow_run.c.parent_task_run_id.is_not(None))
        .correlate(None)
    )
    return has if value else sa.not_(has)


_SPECIAL: dict[tuple[str, str], Any] = {
    ("flows", "deployment"): _flow_deployment,
    ("flow_runs", "work_queue_name"): _run_queue,
    ("flow_runs", "parent_flow_run_id"): _parent_run,
    ("deployments", "work_queue_name"): _deployment_queue,
    ("deployments", "flow_or_deployment_name"): _either_name,
    ("task_runs", "subflow_runs"): _subflows,
}
