"""Ends runs whose process has sent heartbeats and fell silent (wire 4.2, row W17).

A run that a stock worker or a script of Prefect's client runs has no claim that lapses; when its process
dies, all that is left is that its heartbeats cease. Nothing is written for a heartbeat but its event.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from uuid import UUID

from eparch.core.decisions import state_to_write
from eparch.core.errors import Unavailable
from eparch.core.heartbeats import silent
from eparch.orchestration.transition import propose
from eparch.store import claims, heartbeats, runs
from eparch.store.database import Database
from eparch.store.statement import Steps

logger = logging.getLogger("eparch.server")

BATCH = 200

NOBODY = UUID(int=0)
"""Comes before every id."""


class Heartbeats:
    """Looks at running runs that nobody holds with a lease."""

    name = "heartbeats"

    def __init__(self, silence_seconds: float = 90.0, interval: float = 15.0) -> None:
        """``silence_seconds`` is the shortest silence that ends a run; 0: nothing is done."""
        self.interval = interval
        self.silence_seconds = silence_seconds
        self._listening: datetime | None = None
        """Since when this server has looked without a break: what it could not hear is no silence."""
        self._last: datetime | None = None

    async def run_once(self, database: Database, now: datetime) -> bool:
        """End the runs that are silent for too long at ``now``."""
        if not self.silence_seconds:
            return False
        breaks = timedelta(seconds=max(self.interval * 3, self.silence_seconds / 2))
        if self._last is None or now - self._last > breaks:
            self._listening = now
        self._last = now
        before, last = now - timedelta(seconds=self.silence_seconds), NOBODY
        while True:
            quiet, further = await database.scan(heartbeats.quiet_since, before, last, BATCH)
            for run_id in quiet:
                await self._end(database, run_id, now)
            if further is None:
                return False
            last = further

    async def _end(self, database: Database, run_id: UUID, now: datetime) -> None:
        assert self._listening is not None
        try:
            await database.write(end_silent, run_id, self._listening, self.silence_seconds, now)
        except Unavailable:
            raise
        except Exception:
            logger.exception("The run %s is silent and could not be moved on.", run_id)


def end_silent(run_id: UUID, listening: datetime, least: float, now: datetime) -> Steps[bool]:
    """Propose Crashed for the run if its process is silent for too long; False when nothing came of it."""
    stored = yield from runs.flow_run_for_decision(run_id)
    if stored is None:
        return False
    if stored.claim is not None:
        stored.claim = yield from claims.locked_claim(run_id)
        if stored.claim is not None and stored.claim.lease_until is not None:
            return False
    heard = yield from heartbeats.heard(run_id)
    line = yield from heartbeats.last_line(run_id)
    state = silent(stored.run, heard, line, listening, now, least)
    if state is None:
        return False
    return state_to_write((yield from propose(stored, state, now, own=True))) is not None
