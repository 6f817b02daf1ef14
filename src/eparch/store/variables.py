"""Variables and saved searches: reading and writing their rows."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from eparch.core.filters import Query
from eparch.core.model import new_id
from eparch.core.records import SavedSearchCreate
from eparch.store import tables as t
from eparch.store.rows import names
from eparch.store.statement import Statement, Steps, delete, insert, param, update, upsert
from eparch.store.where import bind

_variable, _search = t.variable, t.saved_search

VARIABLES: sa.Select[Any] = sa.select(*_variable.columns)
_KEYS = names(VARIABLES)
SEARCHES: sa.Select[Any] = sa.select(*_search.columns)
_SEARCH_KEYS = names(SEARCHES)

_BY = {
    key: Statement(VARIABLES.where(_variable.c[key] == param("key", _variable.c[key])), wire=True)
    for key in ("id", "name")
}
_SEARCH_BY = {
    key: Statement(SEARCHES.where(_search.c[key] == param("key", _search.c[key])), wire=True)
    for key in ("id", "name")
}
_SAVE = upsert(_search, ("name",), ("filters", "updated"))


def read_variable(key: UUID | str) -> Steps[dict[str, Any] | None]:
    """The variable with that id (a UUID) or name (a text), as the wire answers it; None: there is none."""
    found = yield _BY[_column(key)](key=key)
    return dict(zip(_KEYS, found[0], strict=True)) if found else None


def read_variables(query: Query) -> Steps[list[dict[str, Any]]]:
    """A page of variables."""
    found = yield bind(VARIABLES, query)
    return [dict(zip(_KEYS, row, strict=True)) for row in found]


def insert_variable(columns: dict[str, Any]) -> Steps[None]:
    """Add a variable."""
    yield insert(_variable)(**columns)


def write_variable(key: UUID | str, columns: dict[str, Any]) -> Steps[bool]:
    """Change columns of the variable with that id or name; False: there is none."""
    column = _column(key)
    found = yield update(_variable, frozenset(columns), (column,))(**{f"key_{column}": key}, **columns)
    return bool(found)


def delete_variable(key: UUID | str) -> Steps[bool]:
    """Delete the variable with that id or name; False: there is none."""
    found = yield delete(_variable, _column(key))(key=key)
    return bool(found)


def _column(key: UUID | str) -> str:
    return "id" if isinstance(key, UUID) else "name"


def save_search(body: SavedSearchCreate, now: datetime) -> Steps[tuple[dict[str, Any], bool]]:
    """Keep the search under its name, in the place of one that is there; ``(search, whether it is new)``."""
    known = yield _SEARCH_BY["name"](key=body.name)
    yield _SAVE(id=new_id(), created=now, updated=now, name=body.name, filters=body.filters)
    found = yield _SEARCH_BY["name"](key=body.name)
    return dict(zip(_SEARCH_KEYS, found[0], strict=True)), not known


def read_search(search_id: UUID) -> Steps[dict[str, Any] | None]:
    """The saved search as the wire answers it; None: there is none."""
    found = yield _SEARCH_BY["id"](key=search_id)
    return dict(zip(_SEARCH_KEYS, found[0], strict=True)) if found else None


def read_searches(query: Query) -> Steps[list[dict[str, Any]]]:
    """A page of saved searches."""
    found = yield bind(SEARCHES, query)
    return [dict(zip(_SEARCH_KEYS, row, strict=True)) for row in found]


def delete_search(search_id: UUID) -> Steps[bool]:
    """Delete the saved search; False: there is none."""
    found = yield delete(_search)(key=search_id)
    return bool(found)
