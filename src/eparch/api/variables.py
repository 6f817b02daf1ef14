"""Variables and saved searches."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from eparch.api.request import Answer, Request, created, found
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.errors import NotFound
from eparch.core.filters import Query
from eparch.core.records import SavedSearchCreate
from eparch.core.variables import VariableCreate, VariableUpdate
from eparch.orchestration import variables as changes
from eparch.store import variables


@handles(calls.create_variable)
async def create_variable(request: Request, body: VariableCreate) -> Any:
    """Make a variable."""
    return await request.write(changes.create_variable, body, request.now)


@handles(calls.read_variable)
async def read_variable(request: Request, id: UUID) -> Any:
    """One variable."""
    return found(await request.read(variables.read_variable, id), changes.MISSING)


@handles(calls.read_variable_by_name)
async def read_variable_by_name(request: Request, name: str) -> Any:
    """The variable of that name."""
    return found(await request.read(variables.read_variable, name), changes.MISSING)


@handles(calls.read_variables)
async def read_variables(request: Request, body: Query) -> Any:
    """A page of variables."""
    return await request.scan(variables.read_variables, body)


@handles(calls.count_variables)
async def count_variables(request: Request, body: Query) -> int:
    """How many variables there are."""
    count: int = await request.count(body)
    return count


@handles(calls.update_variable)
async def update_variable(request: Request, id: UUID, body: VariableUpdate) -> None:
    """Change what the body names."""
    await request.write(changes.update_variable, id, body, request.now)


@handles(calls.update_variable_by_name)
async def update_variable_by_name(request: Request, name: str, body: VariableUpdate) -> None:
    """Change what the body names of the variable of that name."""
    await request.write(changes.update_variable, name, body, request.now)


@handles(calls.delete_variable)
async def delete_variable(request: Request, id: UUID) -> None:
    """Delete a variable."""
    await request.write(changes.delete_variable, id)


@handles(calls.delete_variable_by_name)
async def delete_variable_by_name(request: Request, name: str) -> None:
    """Delete the variable of that name."""
    await request.write(changes.delete_variable, name)


@handles(calls.save_search)
async def save_search(request: Request, body: SavedSearchCreate) -> Answer:
    """Keep a search under its name; one that is there is replaced and answered with 200."""
    search, fresh = await request.write(variables.save_search, body, request.now)
    return created(search, fresh)


@handles(calls.read_saved_search)
async def read_saved_search(request: Request, id: UUID) -> Any:
    """One saved search."""
    return found(await request.read(variables.read_search, id), "Saved search not found")


@handles(calls.read_saved_searches)
async def read_saved_searches(request: Request, body: Query) -> Any:
    """A page of saved searches."""
    return await request.scan(variables.read_searches, body)


@handles(calls.delete_saved_search)
async def delete_saved_search(request: Request, id: UUID) -> None:
    """Delete a saved search."""
    if not await request.write(variables.delete_search, id):
        raise NotFound("Saved search not found")
