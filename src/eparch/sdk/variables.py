"""``Variable``: named values that are kept on the server (row B11)."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from eparch.core import calls
from eparch.core.errors import Conflict, NotFound
from eparch.core.variables import VariableCreate, VariableUpdate
from eparch.sdk.either import either
from eparch.sdk.session import current

T = TypeVar("T")


@either
def get_variable(name: str, default: Any = None) -> Any:
    """The value of the variable, ``default`` when there is none."""
    try:
        return current().client.send(calls.read_variable_by_name(name=name)).value
    except NotFound:
        return default


@either
def set_variable(name: str, value: Any, tags: list[str] | None = None, overwrite: bool = False) -> Any:
    """Keep ``value`` under ``name``; gives the ``Variable``.

    Raises:
        Conflict: there is one of this name, and ``overwrite`` is false.
        Invalid: it cannot be a name.
    """
    client = current().client
    body = VariableCreate(name=name, value=value, tags=tags or [])
    try:
        client.send(calls.create_variable(body=body))
    except Conflict as error:
        if not overwrite:
            raise Conflict(
                f"There is a variable {name!r} already.", fix="Give overwrite=True to change it."
            ) from error
        patch = VariableUpdate(value=value, tags=tags or [])
        client.send(calls.update_variable_by_name(name=name, body=patch))
    return Variable(name, value, tags)


@either
def unset_variable(name: str) -> bool:
    """Delete the variable; whether there was one."""
    try:
        current().client.send(calls.delete_variable_by_name(name=name))
    except NotFound:
        return False
    return True


class Variable(Generic[T]):
    """A named value; ``Variable.get``, ``set`` and ``unset`` are called, or awaited in async code."""

    get, aget = get_variable, get_variable.aio
    set, aset = set_variable, set_variable.aio
    unset, aunset = unset_variable, unset_variable.aio

    def __init__(self, name: str, value: T, tags: list[str] | None = None) -> None:
        self.name, self.value, self.tags = name, value, tags or []

    def __repr__(self) -> str:
        return f"Variable(name={self.name!r}, value={self.value!r}, tags={self.tags!r})"
