"""Slots of named limits: ``from eparch.concurrency import concurrency, rate_limit``.

Owns the public names only; what they do is in ``eparch.sdk.concurrency``.
"""

from eparch.core.errors import NoSlots as NoSlots
from eparch.core.errors import NoSlotsInTime as NoSlotsInTime
from eparch.sdk.concurrency import concurrency as concurrency
from eparch.sdk.concurrency import rate_limit as rate_limit
from eparch.sdk.concurrency import rate_limit_async as rate_limit_async

__all__ = ["NoSlots", "NoSlotsInTime", "concurrency", "rate_limit", "rate_limit_async"]
