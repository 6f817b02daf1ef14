"""Limits of concurrency, and who holds their slots; below ``/concurrency_limits``, limits on tags."""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

import msgspec

from eparch.api.errors import InvalidParts
from eparch.api.request import Request, created
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.concurrency import (
    ConcurrencyLimitCreate,
    ConcurrencyLimitUpdate,
    EndLease,
    LeaseSlots,
    LimitPage,
    RenewLease,
    ResetTag,
    ReturnSlots,
    TagLimitCreate,
    TagSlotsOf,
    TakeSlots,
)
from eparch.core.errors import Locked
from eparch.orchestration import concurrency
from eparch.orchestration.concurrency import Denied

T = TypeVar("T")


def _granted(outcome: T | Denied) -> T:
    """What was taken; 423 when there was no slot (wire 4.5)."""
    if isinstance(outcome, Denied):
        raise Locked(outcome.message, retry_after=outcome.retry_after)
    return outcome


@handles(calls.create_concurrency_limit)
async def create_concurrency_limit(request: Request, body: ConcurrencyLimitCreate) -> Any:
    """Make a limit."""
    return await request.write(concurrency.create_limit, body, request.now)


@handles(calls.read_concurrency_limit)
async def read_concurrency_limit(request: Request, id_or_name: str) -> Any:
    """One limit, with the slots that are taken now."""
    return await request.read(concurrency.read_limit, id_or_name, request.now)


@handles(calls.update_concurrency_limit)
async def update_concurrency_limit(request: Request, id_or_name: str, body: ConcurrencyLimitUpdate) -> None:
    """Change what the body names."""
    await request.write(concurrency.update_limit, id_or_name, body, request.now)


@handles(calls.delete_concurrency_limit)
async def delete_concurrency_limit(request: Request, id_or_name: str) -> None:
    """Delete a limit; who holds its slots goes on."""
    await request.write(concurrency.delete_limit, id_or_name, request.now)


@handles(calls.read_concurrency_limits)
async def read_concurrency_limits(request: Request, body: LimitPage) -> Any:
    """A page of limits in the order of their names."""
    return await request.scan(concurrency.read_limits, request.limit(body.limit), body.offset, request.now)


@handles(calls.take_slots)
async def take_slots(request: Request, body: TakeSlots) -> Any:
    """Take slots until they are given back, or decay (wire 4.5)."""
    return _granted(
        await request.write(concurrency.take_slots, body.names, body.slots, body.mode, request.now)
    )


@handles(calls.lease_slots)
async def lease_slots(request: Request, body: LeaseSlots) -> Any:
    """Take slots for as long as a lease is renewed (wire 4.5)."""
    wanted = (body.names, body.slots, body.mode, body.lease_duration, body.holder)
    return _granted(await request.write(concurrency.lease_slots, *wanted, request.now))


@handles(calls.return_slots)
async def return_slots(request: Request, body: ReturnSlots) -> Any:
    """Give back slots that no lease holds."""
    return await request.write(
        concurrency.return_slots, body.names, body.slots, body.occupancy_seconds, request.now
    )


@handles(calls.end_concurrency_lease)
async def end_concurrency_lease(request: Request, body: EndLease) -> None:
    """Give back what a lease holds."""
    await request.write(concurrency.end_lease, body.lease_id, request.now)


@handles(calls.renew_concurrency_lease)
async def renew_concurrency_lease(request: Request, lease_id: str, body: RenewLease) -> None:
    """Keep a slot; 410 when it is lost (wire 4.5)."""
    try:
        id_ = msgspec.convert(lease_id, UUID)
    except msgspec.ValidationError as error:
        detail = {"type": "uuid_parsing", "loc": ["path", "lease_id"], "msg": str(error), "input": lease_id}
        raise InvalidParts([detail]) from error
    await request.write(concurrency.renew_lease, id_, body.lease_duration, request.now)


@handles(calls.create_tag_limit)
async def create_tag_limit(request: Request, body: TagLimitCreate) -> Any:
    """Make the limit on a tag, or change it."""
    return created(*await request.write(concurrency.set_tag_limit, body, request.now))


@handles(calls.read_tag_limit_by_id)
async def read_tag_limit_by_id(request: Request, id: UUID) -> Any:
    """One limit on a tag, with the task runs that hold its slots."""
    return await request.read(concurrency.read_tag_limit, id, request.now)


@handles(calls.read_tag_limit)
async def read_tag_limit(request: Request, tag: str) -> Any:
    """The limit on a tag, with the task runs that hold its slots."""
    return await request.read(concurrency.read_tag_limit, tag, request.now)


@handles(calls.read_tag_limits)
async def read_tag_limits(request: Request, body: LimitPage) -> Any:
    """A page of limits on tags."""
    return await request.scan(
        concurrency.read_tag_limits, request.limit(body.limit), body.offset, request.now
    )


@handles(calls.reset_tag_limit)
async def reset_tag_limit(request: Request, tag: str, body: ResetTag) -> None:
    """Free all slots of a tag, or say who holds them."""
    await request.write(concurrency.reset_tag_limit, tag, body.slot_override or [], request.now)


@handles(calls.delete_tag_limit_by_id)
async def delete_tag_limit_by_id(request: Request, id: UUID) -> None:
    """Delete a limit on a tag."""
    await request.write(concurrency.delete_tag_limit, id, request.now)


@handles(calls.delete_tag_limit)
async def delete_tag_limit(request: Request, tag: str) -> None:
    """Delete the limit on a tag."""
    await request.write(concurrency.delete_tag_limit, tag, request.now)


@handles(calls.take_tag_slots)
async def take_tag_slots(request: Request, body: TagSlotsOf) -> Any:
    """Take a slot of each tag for a task run, until it ends."""
    return _granted(await request.write(concurrency.take_tags, body.names, body.task_run_id, request.now))


@handles(calls.return_tag_slots)
async def return_tag_slots(request: Request, body: TagSlotsOf) -> Any:
    """Give back the slots of tags that a task run holds."""
    return await request.write(concurrency.return_tags, body.names, body.task_run_id, request.now)
