"""Leases of concurrency slots."""

from __future__ import annotations

from uuid import UUID

import msgspec

from eparch.api.errors import InvalidParts
from eparch.api.request import Request
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.calls import RenewLease
from eparch.orchestration import runs


@handles(calls.renew_concurrency_lease)
async def renew_concurrency_lease(request: Request, lease_id: str, body: RenewLease) -> None:
    """Keep a slot; 410 when it is lost (wire 4.5)."""
    try:
        id_ = msgspec.convert(lease_id, UUID)
    except msgspec.ValidationError as error:
        detail = {"type": "uuid_parsing", "loc": ["path", "lease_id"], "msg": str(error), "input": lease_id}
        raise InvalidParts([detail]) from error
    await request.read(runs.renew_lease, id_)
