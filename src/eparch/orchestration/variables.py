"""Making and changing variables: a name is there once."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from eparch.core.errors import Conflict, NotFound
from eparch.core.model import changes, new_id
from eparch.core.variables import VariableCreate, VariableUpdate
from eparch.store import variables
from eparch.store.statement import Steps

MISSING = "Variable not found."


def create_variable(body: VariableCreate, now: datetime) -> Steps[dict[str, Any]]:
    """Make the variable.

    Raises:
        Conflict: there is one of this name.
    """
    if (yield from variables.read_variable(body.name)) is not None:
        raise _taken(body.name)
    given = {name: getattr(body, name) for name in body.__struct_fields__}
    yield from variables.insert_variable({"id": new_id(), "created": now, "updated": now, **given})
    made = yield from variables.read_variable(body.name)
    assert made is not None
    return made


def update_variable(key: UUID | str, patch: VariableUpdate, now: datetime) -> Steps[None]:
    """Change what ``patch`` names of the variable with that id or name; null as name or tags is no change.

    Raises:
        NotFound: there is no such variable.
        Conflict: another one has the new name.
    """
    given = {name: value for name, value in changes(patch).items() if value is not None or name == "value"}
    known = yield from variables.read_variable(key)
    if known is None:
        raise NotFound(MISSING)
    new_name = given.get("name", known["name"])
    if new_name != known["name"] and (yield from variables.read_variable(new_name)) is not None:
        raise _taken(new_name)
    yield from variables.write_variable(key, {**given, "updated": now})


def delete_variable(key: UUID | str) -> Steps[None]:
    """Delete the variable with that id or name.

    Raises:
        NotFound: there is no such variable.
    """
    if not (yield from variables.delete_variable(key)):
        raise NotFound(MISSING)


def _taken(name: str) -> Conflict:
    return Conflict(f"A variable with the name {name!r} already exists.")
