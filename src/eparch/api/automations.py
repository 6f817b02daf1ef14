"""Automations: making, changing, finding them, and asking when one would have fired."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from eparch.api.request import Request, found
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.automation_replay import DryRun, DryRunAnswer
from eparch.core.automations import AutomationCreate, AutomationPatch, AutomationUpdate
from eparch.core.filters import Query
from eparch.orchestration import automation_changes as changes
from eparch.orchestration.automation_replay import dry_run
from eparch.store import automations


@handles(calls.create_automation)
async def create_automation(request: Request, body: AutomationCreate) -> Any:
    """Make an automation."""
    return await request.write(changes.create_automation, body, request.now)


@handles(calls.read_automation)
async def read_automation(request: Request, id: UUID) -> Any:
    """One automation."""
    return found(await request.read(automations.read_automation, id), changes.MISSING)


@handles(calls.read_automations)
async def read_automations(request: Request, body: Query) -> Any:
    """A page of automations."""
    return await request.scan(automations.read_automations, body)


@handles(calls.count_automations)
async def count_automations(request: Request, body: Query) -> int:
    """How many automations there are."""
    count: int = await request.count(body)
    return count


@handles(calls.update_automation)
async def update_automation(request: Request, id: UUID, body: AutomationUpdate) -> None:
    """Replace an automation."""
    await request.write(changes.update_automation, id, body, request.now)


@handles(calls.patch_automation)
async def patch_automation(request: Request, id: UUID, body: AutomationPatch) -> None:
    """Enable or disable an automation."""
    await request.write(changes.enable_automation, id, body, request.now)


@handles(calls.delete_automation)
async def delete_automation(request: Request, id: UUID) -> None:
    """Delete an automation."""
    await request.write(changes.delete_automation, id, request.now)


@handles(calls.read_related_automations)
async def read_related_automations(request: Request, resource_id: str) -> Any:
    """The automations that act on a resource or go with it."""
    return await request.scan(automations.related_to, resource_id)


@handles(calls.delete_owned_automations)
async def delete_owned_automations(request: Request, resource_id: str) -> None:
    """Delete the automations that go with a resource; every deploy asks for this."""
    if await request.read(automations.related_to, resource_id):
        await request.write(changes.delete_owned, resource_id, request.now)


@handles(calls.dry_run_automation)
async def dry_run_automation(request: Request, body: DryRun) -> DryRunAnswer:
    """When an automation would have fired for past events."""
    return await dry_run(request.services.database, body, request.now)
