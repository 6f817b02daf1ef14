"""When a request is sent again, and after how many seconds: written once, decided purely.

Owns the rules: exponential delays with full jitter, the server's ``Retry-After``, one bound on the whole.
Does not own sending, waiting or the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

BUSY = frozenset({429, 502, 503, 504})
"""Status codes that pass; 504 only where the request may be repeated."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What went wrong with one attempt."""

    connected: bool = True
    """Whether there was a connection."""
    sent: bool = False
    """Whether the server may have acted on it."""
    retry_after: float | None = None
    """Seconds that the server asked to wait."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient a client is; all in seconds but ``attempts``, which counts the further ones."""

    attempts: int = 5
    first: float = 0.1
    most: float = 5.0
    total: float = 60.0
    connect: bool = True
    """Whether to try again when there is no connection; a person at a terminal rather knows at once."""

    def delay(
        self, fault: Fault, *, idempotent: bool, attempt: int, elapsed: float, roll: float
    ) -> float | None:
        """Seconds to wait before the next attempt; None: give up.

        ``attempt`` counts from 1, ``elapsed`` is seconds since the first was begun, ``roll`` is random in
        [0, 1). What the server may have acted on is repeated only when that can do no harm.
        """
        if attempt > self.attempts or (fault.sent and not idempotent):
            return None
        if not (fault.connected or self.connect):
            return None
        if fault.retry_after is not None:
            pause = fault.retry_after
        else:
            pause = min(self.most, self.first * 2.0 ** min(attempt - 1, 30)) * roll
        return pause if elapsed + pause <= self.total else None


def retry_after_of(header: str | None, now: datetime) -> float | None:
    """Seconds that a ``Retry-After`` header asks for: a number or a date (RFC 9110, 10.2.3)."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
    return max(seconds, 0.0) if seconds == seconds and seconds != float("inf") else None
