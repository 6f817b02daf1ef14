"""Acts when time runs out: runs that are late, claims that lapsed, pauses and cancellations that expired.

What is proposed is decided in ``core.transitions``; it passes the same table as every other proposal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from eparch.core.decisions import state_to_write
from eparch.core.errors import Unavailable
from eparch.core.states import State, StateType
from eparch.core.transitions import cancel_expired, lapsed, late, pause_expired
from eparch.orchestration import slots
from eparch.orchestration.transition import propose
from eparch.orchestration.worker_channels import Teardown
from eparch.store import claims, concurrency, runs
from eparch.store.database import Database
from eparch.store.runs import Stored
from eparch.store.statement import Note, Steps

logger = logging.getLogger("eparch.server")

BATCH = 200

NOBODY = UUID(int=0)
"""Comes before every id."""

Due = Callable[[Stored, datetime], State | None]


class Watchdog:
    """Keeps runs from waiting for ever (rows W16, W17, B6, B7)."""

    name = "watchdog"

    def __init__(
        self, interval: float = 2.0, *, late_seconds: float = 15.0, cancelling_seconds: float = 300.0,
        absence_seconds: float = 0.0,
    ) -> None:  # fmt: skip
        """All in seconds. ``absence_seconds`` is what holders get to renew what they hold after nobody
        answered them: no server was there, its database was not, it stalled, or its clock made a leap.
        """
        self.interval = interval
        self.absence_seconds = absence_seconds
        self._seen: datetime | None = None
        self._back = datetime.min.replace(tzinfo=UTC)
        self.late_seconds = late_seconds
        self.cancelling_seconds = cancelling_seconds

    async def run_once(self, database: Database, now: datetime) -> bool:
        """Act on everything that is out of time at ``now``."""
        acted = False
        leap = self._leap_back(now)
        if leap:
            await database.write(claims.shift_back, now + leap, leap)
        if not self._was_away(now):
            acted = await self._take_back(database, now)
        since = now - timedelta(seconds=self.late_seconds)
        overdue = await database.scan(runs.overdue, since, BATCH)
        acted = await self._each(database, overdue, self._late, now) or acted
        await self._sweep(database, StateType.PAUSED, now, self._paused, now)
        since = now - timedelta(seconds=self.cancelling_seconds)
        await self._sweep(database, StateType.CANCELLING, since, self._cancelling, now)
        # Only a round that came to its end shows that the database answers.
        self._seen = now
        return acted

    async def _take_back(self, database: Database, now: datetime) -> bool:
        """Act on every lease that was not renewed; whether there may be more."""
        lost = await database.scan(claims.lapsed, now, BATCH)
        acted = await self._each(database, lost, self._lapsed, now)
        if await database.scan(concurrency.any_lapsed, now):
            await database.write(concurrency.drop_lapsed, now)
        if await database.scan(claims.any_lapsed_slot, now):
            await database.write(slots.free_lapsed, now)
        return acted

    def _was_away(self, now: datetime) -> bool:
        """Whether it is too early to say who has not renewed a lease (row W17).

        A holder renews three times a lease: it misses none while the rounds are a quarter of one apart.
        """
        absence = timedelta(seconds=self.absence_seconds)
        longest = max(absence / 4, timedelta(seconds=3 * self.interval))
        if self._seen is None or not timedelta(0) <= now - self._seen <= longest:
            self._back = now
        return timedelta(0) <= now - self._back < absence

    def _leap_back(self, now: datetime) -> timedelta:
        """By how much the clock was set back since the last round; leases by the old time last too long."""
        return max(self._seen - now, timedelta(0)) if self._seen is not None else timedelta(0)

    async def _sweep(
        self, database: Database, type_: StateType, before: datetime, due: Due, now: datetime
    ) -> None:
        """Look at every run that is in a state of this type since ``before``, a page at a time."""
        last = NOBODY
        while page := await database.scan(runs.in_state_since, type_, before, last, BATCH):
            await self._each(database, page, due, now)
            last = page[-1]

    async def _each(self, database: Database, run_ids: list[UUID], due: Due, now: datetime) -> bool:
        """Act on each run; one that fails does not keep the others waiting. Whether there may be more."""
        acted = 0
        for run_id in run_ids:
            try:
                acted += await database.write(act, run_id, due, now)
            except Unavailable:
                raise
            except Exception:
                logger.exception("The run %s is out of time and could not be moved on.", run_id)
        return acted > 0 and len(run_ids) == BATCH

    def _lapsed(self, stored: Stored, now: datetime) -> State | None:
        return lapsed(stored.run, stored.claim, now) if stored.claim is not None else None

    def _late(self, stored: Stored, now: datetime) -> State | None:
        return late(stored.run, now, self.late_seconds)

    def _paused(self, stored: Stored, now: datetime) -> State | None:
        return pause_expired(stored.run, now)

    def _cancelling(self, stored: Stored, now: datetime) -> State | None:
        return cancel_expired(stored.run, now, self.cancelling_seconds)


def act(run_id: UUID, due: Due, now: datetime) -> Steps[bool]:
    """Propose what ``due`` says of the run as it is now; False when nothing came of it."""
    stored = yield from runs.flow_run_for_decision(run_id)
    if stored is None:
        return False
    if stored.claim is not None:
        # It may have been renewed since; from here on it cannot be.
        stored.claim = yield from claims.locked_claim(run_id)
    state = due(stored, now)
    if state is None:
        return False
    run = stored.run
    decision = yield from propose(stored, state, now, own=True)
    if state_to_write(decision) is None:
        return False
    if run.state_type is StateType.CANCELLING and run.work_pool_id and run.work_queue_id:
        # Nobody said that its infrastructure is gone, so a worker of the pool is asked to look after it.
        yield Note("teardown", Teardown(run.id, run.work_pool_id, run.work_queue_id, run.infrastructure_pid))
    return True
