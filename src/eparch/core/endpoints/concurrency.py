"""Limits of concurrency, and their leases: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core.endpoint import Endpoint
from eparch.core.model import Body


class RenewLease(Body, frozen=True, kw_only=True):
    """How long a concurrency lease is to hold, in seconds."""

    lease_duration: float = 300.0


renew_concurrency_lease: Endpoint[None] = Endpoint(
    "POST",
    "/v2/concurrency_limits/leases/{lease_id}/renew",
    None,
    body=RenewLease,
    status=204,
    tag="Concurrency Limits V2",
    idempotent=True,
)
