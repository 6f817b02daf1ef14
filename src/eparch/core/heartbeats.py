"""Heartbeats of the processes of flow runs, and what it means when they cease (wire 4.2).

Prefect's clients send them as events, every 180 seconds unless told otherwise. Ours renew a claim instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from eparch.core.runs import FlowRun
from eparch.core.states import Crashed, State, StateType

EVENT = "prefect.flow-run.heartbeat"

MISSED = 3
"""Heartbeats that may be missing."""

LOOKED_AT = 2
"""The last heartbeats that are looked at: the time between them is what the process keeps to."""


def silent(
    run: FlowRun, heard: Sequence[datetime], last_sign: datetime | None, listening: datetime, now: datetime,
    least: float,
) -> State | None:  # fmt: skip
    """Crashed, when the running process of ``run`` has been silent for too long; None while it may be alive.

    ``heard`` is when heartbeats came, the newest first; without two of this attempt nothing is known of its
    pace. ``last_sign`` is any other sign of life. Time before ``listening`` does not count: nobody would have
    heard it. ``least`` is the shortest silence that means something, in seconds.
    """
    state = run.state
    if state is None or state.type is not StateType.RUNNING:
        return None
    beats = [moment for moment in heard if moment >= state.timestamp]
    if len(beats) < LOOKED_AT:
        return None
    pace = (beats[0] - beats[1]).total_seconds()
    allowed = max(MISSED * pace, least)
    newest = max(moment for moment in (beats[0], last_sign, listening) if moment is not None)
    if now - newest <= timedelta(seconds=allowed):
        return None
    message = (
        "The run's process is silent: its last heartbeat came "
        f"{(now - beats[0]).total_seconds():.0f} seconds ago, the one before {pace:.0f} seconds earlier."
    )
    return Crashed(timestamp=now, message=message)
