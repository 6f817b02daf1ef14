"""One filter tree for every entity, read from the wire's JSON by one table (wire 4.6).

Owns which fields of an entity can be filtered, with which operators and types, and how it can be sorted.
``store.where`` turns a ``Query`` into SQL; nothing else reads the tree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from eparch.core.errors import Invalid, did_you_mean
from eparch.core.listing import Bulk, BulkState, Secrets, Span
from eparch.core.model import Timestamp
from eparch.core.pools import WorkerStatus
from eparch.core.states import StateType
from eparch.core.text_search import text_search

MAX_LIMIT = 200
"""Rows of one answer, asked for or not (wire section 1, "Limits")."""

MAX_VALUES = 10_000
"""Values of one list in a filter."""

MAX_OFFSET = 2**63 - 1

MAX_PAGE = 2**48
"""Of pages of any size the offset stays below ``MAX_OFFSET``."""


@dataclass(frozen=True, slots=True)
class Condition:
    """``field op value``; what an operator means is in ``OPERATORS``."""

    field: str
    op: str
    value: Any


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions joined by ``and_`` or ``or_``; no part at all admits everything."""

    operator: str = "and_"
    parts: tuple[Condition | Group, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """Which rows of ``entity``, in which order, from where, how many.

    ``related`` holds groups on other entities that a row must be linked to.
    """

    entity: str
    where: Group = field(default_factory=Group)
    related: tuple[tuple[str, Group], ...] = ()
    sort: str = "ID_DESC"
    limit: int = MAX_LIMIT
    offset: int = 0
    after: tuple[Any, Any] | None = None
    """What the row has that the page comes after: what it is sorted by, and its id. ``offset`` counts on."""
    page: int = 1
    """Which page it is, counted from 1, where pages were asked for."""
    more: Any = None
    """What the body says beside conditions and order; the type is that of ``FilterBody.more``."""

    def shape(self) -> tuple[Any, ...]:
        """All of the query but its values: equal shapes have the same SQL."""
        related = tuple((entity, _shape(group)) for entity, group in self.related)
        return (self.entity, _shape(self.where), related, self.sort)

    def values(self) -> list[Any]:
        """The values, in the order in which ``shape`` names their conditions."""
        found: list[Any] = []
        _collect(self.where, found)
        for _, group in self.related:
            _collect(group, found)
        return found


def _shape(group: Group) -> tuple[Any, ...]:
    parts: list[Any] = []
    for part in group.parts:
        if isinstance(part, Group):
            parts.append(_shape(part))
        elif isinstance(part.value, bool):
            parts.append((part.field, part.op, part.value))
        else:
            parts.append((part.field, part.op))
    return (group.operator, *parts)


def _collect(group: Group, found: list[Any]) -> None:
    for part in group.parts:
        if isinstance(part, Group):
            _collect(part, found)
        elif not isinstance(part.value, bool):
            found.append(part.value)


OPERATORS: dict[str, str] = {
    "any_": "is one of",
    "not_any_": "is none of",
    "all_": "contains all of",
    "overlaps_": "contains one of",
    "is_null_": "is null (for a list: is empty)",
    "exists_": "is there",
    "like_": "contains, whatever the case",
    "startswith_": "starts with one of",
    "before_": "is at or before",
    "after_": "is at or after",
    "ge_": "is at least",
    "le_": "is at most",
    "eq_": "is",
    "query": "contains the words",
    "lacks_": "does not contain the words",
}
"""What each operator of the tree means; ``any_`` on a list of tags is stored as ``overlaps_``."""

_IDS = list[UUID]
_TEXTS = list[str]
_TEXT = msgspec.Meta(max_length=1_000)

_SEARCH: Any = Annotated[str, msgspec.Meta(max_length=200)]

_ID = {"any_": _IDS, "not_any_": _IDS}
_ONE_OF = {"any_": _IDS}
_NULLABLE_ID = {"any_": _IDS, "is_null_": bool}
_NAME: dict[str, Any] = {"any_": _TEXTS, "like_": str}
_WORD: dict[str, Any] = {"any_": _TEXTS}
_TAGS = {"all_": _TEXTS, "any_": _TEXTS, "is_null_": bool}
_TIME: dict[str, Any] = {"before_": Timestamp, "after_": Timestamp}
_NULLABLE_TIME = {**_TIME, "is_null_": bool}
_NUMBER = {"ge_": int, "le_": int}
_STATE: dict[str, Any] = {
    "type": {"any_": list[StateType], "not_any_": list[StateType]},
    "name": {"any_": _TEXTS, "not_any_": _TEXTS},
}

FIELDS: dict[str, dict[str, dict[str, Any]]] = {
    "flows": {"id": _ID, "name": _NAME, "tags": _TAGS, "deployment": {"is_null_": bool}},
    "flow_runs": {
        "id": _ID,
        "name": _NAME,
        "tags": _TAGS,
        "deployment_id": _NULLABLE_ID,
        "work_queue_name": {"any_": _TEXTS, "is_null_": bool},
        "state": _STATE,
        "flow_version": _WORD,
        "start_time": _NULLABLE_TIME,
        "end_time": _NULLABLE_TIME,
        "expected_start_time": _TIME,
        "next_scheduled_start_time": _TIME,
        "parent_flow_run_id": _ONE_OF,
        "parent_task_run_id": _NULLABLE_ID,
        "idempotency_key": {"any_": _TEXTS, "not_any_": _TEXTS},
        "created_by": {"id_": _IDS, "type_": _TEXTS, "is_null_": bool},
    },
    "task_runs": {
        "id": _ONE_OF,
        "name": _NAME,
        "tags": _TAGS,
        "state": _STATE,
        "start_time": _NULLABLE_TIME,
        "end_time": _NULLABLE_TIME,
        "expected_start_time": _TIME,
        "subflow_runs": {"exists_": bool},
        "flow_run_id": _NULLABLE_ID,
    },
    "deployments": {
        "id": _ID,
        "name": _NAME,
        "flow_or_deployment_name": {"like_": str},
        "paused": {"eq_": bool},
        "tags": _TAGS,
        "work_queue_name": _WORD,
        "concurrency_limit": {**_NUMBER, "is_null_": bool},
    },
    "work_pools": {"id": _ONE_OF, "name": _WORD, "type": _WORD},
    "work_queues": {"id": _ONE_OF, "name": {"any_": _TEXTS, "startswith_": _TEXTS}},
    "workers": {
        "last_heartbeat_time": _TIME,
        "status": {"any_": list[WorkerStatus], "not_any_": list[WorkerStatus]},
    },
    "logs": {
        "flow_run_id": _ONE_OF,
        "task_run_id": _NULLABLE_ID,
        "level": _NUMBER,
        "timestamp": _TIME,
        "text": {"query": _SEARCH},
    },
    "artifacts": {
        "id": _ONE_OF,
        "key": {"any_": _TEXTS, "like_": str, "exists_": bool},
        "flow_run_id": _ONE_OF,
        "task_run_id": _ONE_OF,
        "type": {"any_": _TEXTS, "not_any_": _TEXTS},
    },
    "artifact_collections": {
        "latest_id": _ONE_OF,
        "key": {"any_": _TEXTS, "like_": str, "exists_": bool},
        "flow_run_id": _ONE_OF,
        "task_run_id": _ONE_OF,
        "type": {"any_": _TEXTS, "not_any_": _TEXTS},
    },
    "variables": {"id": _ONE_OF, "name": _NAME, "tags": {"all_": _TEXTS, "is_null_": bool}},
    "automations": {"id": _ONE_OF, "name": _WORD, "created": {"before_": Timestamp}, "tags": _TAGS},
    "block_types": {"name": {"like_": str}, "slug": _WORD},
    "block_schemas": {
        "id": _ONE_OF,
        "block_type_id": _ONE_OF,
        "block_capabilities": {"all_": _TEXTS},
        "version": _WORD,
    },
    "block_documents": {
        "id": _ONE_OF,
        "is_anonymous": {"eq_": bool},
        "block_type_id": _ONE_OF,
        "name": _NAME,
    },
}
"""Entity -> field -> operator -> type of its value. A nested table (``state``) is a group of fields."""

_ARTIFACTS = ("CREATED_DESC", "UPDATED_DESC", "ID_DESC", "KEY_DESC", "KEY_ASC")
_BY_AGE = ("CREATED_DESC", "UPDATED_DESC", "NAME_ASC", "NAME_DESC")

SORTS: dict[str, tuple[str, ...]] = {
    "flows": _BY_AGE,
    "flow_runs": (
        "ID_DESC",
        "START_TIME_ASC",
        "START_TIME_DESC",
        "EXPECTED_START_TIME_ASC",
        "EXPECTED_START_TIME_DESC",
        "NAME_ASC",
        "NAME_DESC",
        "NEXT_SCHEDULED_START_TIME_ASC",
        "END_TIME_DESC",
    ),
    "task_runs": (
        "ID_DESC",
        "EXPECTED_START_TIME_ASC",
        "EXPECTED_START_TIME_DESC",
        "NAME_ASC",
        "NAME_DESC",
        "NEXT_SCHEDULED_START_TIME_ASC",
        "END_TIME_DESC",
        "DURATION_DESC",
        "DURATION_ASC",
    ),
    "deployments": _BY_AGE,
    "logs": ("TIMESTAMP_ASC", "TIMESTAMP_DESC"),
    "artifacts": _ARTIFACTS,
    "artifact_collections": _ARTIFACTS,
    "variables": _BY_AGE,
    "automations": _BY_AGE,
    "saved_searches": ("NAME_ASC",),
    "block_types": ("NAME_ASC",),
    "block_schemas": ("CREATED_DESC",),
    "block_documents": ("NAME_DESC", "NAME_ASC", "BLOCK_TYPE_AND_NAME_ASC"),
    "work_pools": ("NAME_ASC",),
    "work_queues": ("PRIORITY_ASC",),
    "workers": ("LAST_HEARTBEAT_TIME_DESC",),
}
"""Orders of an entity; those of pools, queues, workers and block types cannot be chosen on the wire."""

_RUNS = ("flows", "flow_runs", "task_runs", "deployments", "work_pools", "work_pool_queues")

_OF_ARTIFACTS = ("artifacts", "flow_runs", "task_runs", "flows", "deployments")

_OF_BLOCKS = ("block_documents", "block_types", "block_schemas")
_NAMED = Condition("is_anonymous", "eq_", False)

_ALIASES = {"work_pool_queues": "work_queues"}


class Misplaced(Invalid):
    """A body of conditions is wrong at one place."""

    def __init__(self, message: str, place: str) -> None:
        """``place`` is a path from the body, its steps joined by dots."""
        super().__init__(message)
        self.loc = place.split(".")


@dataclass(frozen=True, slots=True)
class FilterBody:
    """The body of a ``/filter`` or ``/count`` endpoint: which keys it takes."""

    entity: str
    takes: tuple[str, ...]
    sort: str = ""
    """The default order; empty where the wire has no ``sort``."""
    counts: bool = False
    """A ``/count`` body has no sort, limit or offset."""
    pages: bool = False
    """A ``/paginate`` body has a page, counted from 1, and no offset."""
    most: int = 0
    """Rows of one answer, where they are not as many as the server says."""
    needs: tuple[str, ...] = ()
    """Keys that must be there."""
    more: Any = None
    """A body of other keys that stand beside the conditions; it has its own limit, if any."""
    also: Any = None
    """A body of other keys that stand beside the conditions, the order and the page."""
    unless: Condition | None = None
    """What holds of every row unless the body speaks of its field."""
    own: str = ""
    """The key of the entity's own conditions, where it is not named after the entity."""

    def entity_of(self, key: str) -> str:
        """The entity that the conditions under ``key`` are on."""
        return self.entity if key == self.own else _ALIASES.get(key, key)

    def keys(self) -> tuple[str, ...]:
        """Every key that the body may have."""
        if self.more is not None:
            return (*self.takes, *self.more.__struct_fields__)
        if self.counts:
            return self.takes
        also = self.also.__struct_fields__ if self.also is not None else ()
        page = ("limit", "page" if self.pages else "offset")
        return (*self.takes, *(("sort",) if self.sort else ()), *page, *also)

    def parse(self, body: Any, *, default_limit: int = MAX_LIMIT) -> Query:
        """The query that ``body`` (decoded JSON, null is an empty one) asks for.

        ``default_limit`` is how many rows it asks for when it does not say.

        Raises:
            Invalid: it has an unknown key, or a value of the wrong type; the message names the place.
        """
        body = {} if body is None else body
        if not isinstance(body, dict):
            raise Invalid("Invalid body: expected an object.")
        for key, value in body.items():
            # Null is "not given", so it does no harm: Prefect's client sends `work_queues` to /flows/filter.
            if key not in self.keys() and value is not None:
                raise _unknown(key, self.keys(), "body")
        for key in self.needs:
            if body.get(key) is None:
                raise Misplaced(f"Invalid body: `{key}` is missing.", f"body.{key}")
        groups = {
            self.entity_of(key): _parse_group(self.entity_of(key), value, f"body.{key}")
            for key in self.takes
            if (value := body.get(key)) is not None
        }
        where = groups.pop(self.entity, Group())
        if self.unless is not None and self.unless.field not in (body.get(self.entity) or {}):
            where = Group("and_", (*([where] if where.parts else []), self.unless))
        related = tuple(sorted((k, g) for k, g in groups.items() if g.parts))
        if self.more is not None:
            more = _more(body, self.more)
            sort = self.sort or SORTS[self.entity][0]
            return Query(self.entity, where, related, sort, getattr(more, "limit", default_limit), more=more)
        most = self.most or default_limit
        limit = _whole(body, "limit", most, self.most or max(default_limit, MAX_LIMIT))
        page = _whole(body, "page", 1, MAX_PAGE) if self.pages else 1
        if page < 1:
            raise Misplaced("Invalid page: must be greater than or equal to 1.", "body.page")
        return Query(
            self.entity,
            where,
            related,
            sort=self._sort(body),
            limit=limit,
            offset=(page - 1) * limit if self.pages else _whole(body, "offset", 0, MAX_OFFSET),
            page=page,
            more=_more(body, self.also) if self.also is not None else None,
        )

    def _sort(self, body: dict[str, Any]) -> str:
        sort = body.get("sort") or self.sort or SORTS[self.entity][0]
        if sort not in SORTS[self.entity]:
            known = ", ".join(SORTS[self.entity])
            raise Misplaced(f"Invalid sort: {sort!r} is not one of {known}.", "body.sort")
        return str(sort)


def _more(body: dict[str, Any], kind: Any) -> Any:
    given = {name: body[name] for name in kind.__struct_fields__ if body.get(name) is not None}
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"Invalid body: {error}.") from error


def _whole(body: dict[str, Any], key: str, default: int, most: int) -> int:
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise Misplaced(f"Invalid {key}: must be a whole number.", f"body.{key}")
    if value < 0:
        raise Misplaced(f"Invalid {key}: must be greater than or equal to 0.", f"body.{key}")
    if value > most:
        raise Misplaced(f"Invalid {key}: must be less than or equal to {most}.", f"body.{key}")
    return value


def _unknown(key: str, known: tuple[str, ...] | dict[str, Any], place: str) -> Invalid:
    hint = did_you_mean(key, known)
    text = f"Unknown field {key!r} in {place}. {hint or 'Known: ' + ', '.join(known)}"
    return Misplaced(text.strip(), f"{place}.{key}")


def _parse_group(entity: str, body: Any, place: str) -> Group:
    return _group_of(FIELDS[entity], body, place, "")


def _operator_of(body: dict[str, Any], place: str) -> str:
    operator = body.get("operator", "and_") or "and_"
    if operator not in ("and_", "or_"):
        text = f"Invalid operator in {place}: {operator!r} is neither 'and_' nor 'or_'."
        raise Misplaced(text, f"{place}.operator")
    return str(operator)


def _group_of(fields: dict[str, dict[str, Any]], body: Any, place: str, prefix: str) -> Group:
    if not isinstance(body, dict):
        raise Misplaced(f"Invalid {place}: expected an object.", place)
    parts: list[Condition | Group] = []
    for key, value in body.items():
        if key == "operator" or value is None:
            continue
        operators = fields.get(key)
        if operators is None:
            raise _unknown(key, fields, place)
        here = f"{place}.{key}"
        if any(isinstance(kind, dict) for kind in operators.values()):
            part = _group_of(operators, value, here, f"{key}_")
        else:
            part = _conditions_of(prefix + key, operators, value, here)
        if part.parts:
            parts.append(part.parts[0] if len(part.parts) == 1 else part)
    return Group(_operator_of(body, place), tuple(parts))


def _conditions_of(name: str, operators: dict[str, Any], body: Any, place: str) -> Group:
    if not isinstance(body, dict):
        raise Misplaced(f"Invalid {place}: expected an object.", place)
    parts: list[Condition | Group] = []
    for op, value in body.items():
        if op == "operator" or value is None:
            continue
        kind = operators.get(op)
        if kind is None:
            raise _unknown(op, operators, place)
        condition = _condition(name, op, kind, value, f"{place}.{op}")
        parts.append(_words(condition) if op == "query" else condition)
    return Group(_operator_of(body, place), tuple(parts))


def _words(condition: Condition) -> Group:
    """A condition for each word of a text search."""
    search = text_search(condition.value)
    some = tuple(Condition(condition.field, "query", word) for word in search.include)
    all_ = [Condition(condition.field, "query", word) for word in search.required]
    none = [Condition(condition.field, "lacks_", word) for word in search.exclude]
    return Group("and_", (*((Group("or_", some),) if some else ()), *all_, *none))


def _condition(name: str, op: str, kind: Any, value: Any, place: str) -> Condition:
    if isinstance(value, list) and len(value) > MAX_VALUES:
        raise Misplaced(f"Invalid {place}: more than {MAX_VALUES} values.", place)
    try:
        converted = msgspec.convert(value, kind, strict=kind is not datetime)
    except msgspec.ValidationError as error:
        raise Misplaced(f"Invalid {place}: {error}.", place) from error
    if isinstance(converted, str) and "\x00" in converted:
        raise Misplaced(f"Invalid {place}: a text cannot hold NUL.", place)
    if name == "tags" and op == "any_":
        op = "overlaps_"
    if op in ("id_", "type_"):
        name, op = f"{name}_{op.rstrip('_')}", "any_"
    return Condition(name, op, converted)


_OF_FLOWS = ("flows", "flow_runs", "task_runs", "deployments", "work_pools")
_OF_TASKS = ("flows", "flow_runs", "task_runs", "deployments")
_WITH_QUEUES = (*_OF_FLOWS, "work_queues")

READ_FLOWS = FilterBody("flows", _OF_FLOWS, "NAME_ASC")
COUNT_FLOWS = FilterBody("flows", _OF_FLOWS, counts=True)
PAGE_FLOWS = FilterBody("flows", _OF_FLOWS, "NAME_ASC", pages=True)
DELETE_FLOWS = FilterBody("flows", ("flows",), more=Bulk)
READ_FLOW_RUNS = FilterBody("flow_runs", _RUNS, "ID_DESC")
COUNT_FLOW_RUNS = FilterBody("flow_runs", _RUNS, counts=True)
PAGE_FLOW_RUNS = FilterBody("flow_runs", _RUNS, "ID_DESC", pages=True)
FLOW_RUN_HISTORY = FilterBody("flow_runs", _WITH_QUEUES, more=Span)
SHORT_FLOW_RUNS = FilterBody("flow_runs", _OF_FLOWS, "EXPECTED_START_TIME_DESC", most=1000)
DELETE_FLOW_RUNS = FilterBody("flow_runs", ("flow_runs",), more=Bulk)
SET_FLOW_RUN_STATES = FilterBody("flow_runs", ("flow_runs",), more=BulkState)
READ_TASK_RUNS = FilterBody("task_runs", _OF_TASKS, "ID_DESC")
COUNT_TASK_RUNS = FilterBody("task_runs", _OF_TASKS, counts=True)
PAGE_TASK_RUNS = FilterBody("task_runs", _OF_TASKS, "ID_DESC", pages=True)
TASK_RUN_HISTORY = FilterBody("task_runs", _OF_TASKS, more=Span)
TASK_RUN_OUTCOMES = FilterBody("task_runs", _WITH_QUEUES, counts=True, needs=("task_runs",))
READ_DEPLOYMENTS = FilterBody("deployments", _RUNS, "NAME_ASC")
COUNT_DEPLOYMENTS = FilterBody("deployments", _RUNS, counts=True)
PAGE_DEPLOYMENTS = FilterBody("deployments", _RUNS, "NAME_ASC", pages=True)
DELETE_DEPLOYMENTS = FilterBody("deployments", ("deployments",), more=Bulk)
READ_LOGS = FilterBody("logs", ("logs",), "TIMESTAMP_ASC")
READ_WORK_POOLS = FilterBody("work_pools", ("work_pools",))
COUNT_WORK_POOLS = FilterBody("work_pools", ("work_pools",), counts=True)
READ_WORK_QUEUES = FilterBody("work_queues", ("work_queues",))
READ_WORKERS = FilterBody("workers", ("workers",))
READ_ARTIFACTS = FilterBody("artifacts", _OF_ARTIFACTS, "ID_DESC")
COUNT_ARTIFACTS = FilterBody("artifacts", _OF_ARTIFACTS, counts=True)
READ_LATEST_ARTIFACTS = FilterBody("artifact_collections", _OF_ARTIFACTS, "ID_DESC", own="artifacts")
COUNT_LATEST_ARTIFACTS = FilterBody("artifact_collections", _OF_ARTIFACTS, counts=True, own="artifacts")
READ_VARIABLES = FilterBody("variables", ("variables",), "NAME_ASC")
COUNT_VARIABLES = FilterBody("variables", ("variables",), counts=True)
READ_AUTOMATIONS = FilterBody("automations", ("automations",), "NAME_ASC")
COUNT_AUTOMATIONS = FilterBody("automations", ("automations",), counts=True)
READ_SAVED_SEARCHES = FilterBody("saved_searches", ())
READ_BLOCK_TYPES = FilterBody("block_types", ("block_types", "block_schemas"))
READ_BLOCK_SCHEMAS = FilterBody("block_schemas", ("block_schemas",))
READ_BLOCK_DOCUMENTS = FilterBody("block_documents", _OF_BLOCKS, "NAME_ASC", also=Secrets, unless=_NAMED)
COUNT_BLOCK_DOCUMENTS = FilterBody("block_documents", _OF_BLOCKS, counts=True, unless=_NAMED)
