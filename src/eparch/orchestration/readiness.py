"""Tells when a pool, a queue or a deployment becomes ready, and when it ceases to be (wire 4.2, row W14).

That somebody polls, or a worker lives, is written seldom and by whoever asks; what follows from it is told
here, once for each change, with a note of it in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from eparch.core.pools import POLL_TIMEOUT
from eparch.orchestration import announcing
from eparch.store import readiness
from eparch.store.database import Database
from eparch.store.readiness import KINDS, Kind
from eparch.store.statement import Steps

BATCH = 50
"""Events of one transaction."""

SILENCE: dict[Kind, timedelta] = {
    "work-pool": timedelta(0),
    "work-queue": POLL_TIMEOUT,
    "deployment": POLL_TIMEOUT,
}
"""For how long one may not be polled; a pool's workers say themselves how often they are heard of (W13)."""


class Readiness:
    """Looks at all of them, without a write while nothing changes."""

    name = "readiness"

    def __init__(self, interval: float = 5.0) -> None:
        """In seconds."""
        self.interval = interval

    async def run_once(self, database: Database, now: datetime) -> bool:
        """Tell what has changed by ``now``."""
        again = False
        for kind in KINDS:
            since = now - SILENCE[kind]
            for ready in (True, False):
                found = await database.scan(readiness.changed, kind, ready, since, BATCH)
                if found:
                    await database.write(tell, kind, found, ready, now)
                again = again or len(found) == BATCH
            deleted = await database.scan(readiness.orphans, kind, BATCH)
            if deleted:
                await database.write(readiness.forget, deleted)
        return again


def tell(kind: Kind, ids: Sequence[UUID], ready: bool, now: datetime) -> Steps[None]:
    """Tell that these are ready now, or that they no longer are; what was told already is not told again."""
    for id_ in ids:
        if (yield from readiness.remember(kind, id_, ready)):
            yield from announcing.status_changed(kind, id_, "ready" if ready else "not-ready", now)
