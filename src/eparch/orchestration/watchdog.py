"""Acts when time runs out: runs that are late, claims that lapsed, pauses and cancellations that expired.

What is proposed is decided in ``core.transitions``; it passes the same table as every other proposal.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from eparch.core.states import State, StateType
from eparch.core.transitions import cancel_expired, lapsed, late, pause_expired
from eparch.orchestration.transition import propose
from eparch.store import claims, runs
from eparch.store.database import Database
from eparch.store.runs import Stored
from eparch.store.statement import Steps

BATCH = 200


class Watchdog:
    """Keeps runs from waiting for ever (rows W16, W17, B6, B7)."""

    name = "watchdog"

    def __init__(
        self, interval: float = 2.0, *, late_seconds: float = 15.0, cancelling_seconds: float = 300.0
    ) -> None:
        """All in seconds."""
        self.interval = interval
        self.late_seconds = late_seconds
        self.cancelling_seconds = cancelling_seconds

    async def run_once(self, database: Database, now: datetime) -> bool:
        """Act on everything that is out of time at ``now``."""
        acted = False
        lost = await database.scan(claims.lapsed, now, BATCH)
        acted |= await self._each(database, lost, self._lapsed, now)
        since = now - timedelta(seconds=self.late_seconds)
        acted |= await self._each(database, await database.scan(runs.overdue, since, BATCH), self._late, now)
        paused = await database.scan(runs.in_state_since, StateType.PAUSED, now, BATCH)
        acted |= await self._each(database, paused, self._paused, now)
        since = now - timedelta(seconds=self.cancelling_seconds)
        stuck = await database.scan(runs.in_state_since, StateType.CANCELLING, since, BATCH)
        return acted | await self._each(database, stuck, self._cancelling, now)

    async def _each(
        self,
        database: Database,
        run_ids: list[UUID],
        due: Callable[[Stored, datetime], State | None],
        now: datetime,
    ) -> bool:
        acted = False
        for run_id in run_ids:
            acted |= await database.write(act, run_id, due, now)
        return acted

    def _lapsed(self, stored: Stored, now: datetime) -> State | None:
        return lapsed(stored.run, stored.claim, now) if stored.claim is not None else None

    def _late(self, stored: Stored, now: datetime) -> State | None:
        return late(stored.run, now, self.late_seconds)

    def _paused(self, stored: Stored, now: datetime) -> State | None:
        return pause_expired(stored.run, now)

    def _cancelling(self, stored: Stored, now: datetime) -> State | None:
        return cancel_expired(stored.run, now, self.cancelling_seconds)


def act(run_id: UUID, due: Callable[[Stored, datetime], State | None], now: datetime) -> Steps[bool]:
    """Propose what ``due`` says of the run as it is now; False when there is nothing to do any more."""
    stored = yield from runs.flow_run_for_decision(run_id)
    state = due(stored, now) if stored is not None else None
    if stored is None or state is None:
        return False
    yield from propose(stored, state, now, own=True)
    return True
