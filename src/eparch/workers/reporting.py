"""Telling the server what became of a run, until it heard it (row W17).

Owns how long it is tried and what is made of the answer. Does not own what is told: that is in ``decisions``.
"""

from __future__ import annotations

import logging
import random
import threading
from typing import TypeVar
from uuid import UUID

from eparch.client.retries import Fault, Retries
from eparch.core import calls
from eparch.core.calls import Call
from eparch.core.errors import EparchError, NotFound, ServerFault, Unavailable, Unreachable
from eparch.core.model import Value, new_id
from eparch.core.pools import ShownToken
from eparch.core.runs import SetState, SetStateStatus
from eparch.core.states import State, StateCreate, StateDetails
from eparch.workers.run_log import RunLog
from eparch.workers.sources import Sender

T = TypeVar("T")

PASSING = (Unreachable, Unavailable, ServerFault)
"""What a worker waits out (row W19)."""

_PATIENCE = Retries(attempts=10**9, first=0.5, most=30.0, total=float("inf"))

logger = logging.getLogger("eparch.worker")


def pause_after(attempt: int) -> float:
    """Seconds before the next attempt while the server does not answer; jittered, so that workers spread."""
    roll = 0.5 + random.random() / 2  # noqa: S311  spreads load, keeps no secret
    return (
        _PATIENCE.delay(Fault(connected=False), idempotent=True, attempt=attempt, elapsed=0, roll=roll) or 0.0
    )


def retry_after(every: float) -> float:
    """Seconds until what is done ``every`` so many is tried again after it failed: an eighth to a quarter."""
    return every / 8 * (1 + random.random())  # noqa: S311  spreads load, keeps no secret


class Run(Value, frozen=True):
    """A run as whoever holds its claim speaks of it."""

    id: UUID
    name: str
    token: int | None
    """Fencing token; None where the server gave none."""

    @property
    def headers(self) -> dict[str, str]:
        """Show that a write comes from who holds the run."""
        if self.token is None:
            return {}
        return {calls.CLAIM_HEADER: ShownToken(token=self.token, flow_run_id=self.id).header}


def proposal_of(state: State) -> StateCreate:
    """``state`` as it is proposed, with a mark by which a repeated proposal is known."""
    details = StateDetails(transition_id=new_id(), scheduled_time=state.state_details.scheduled_time)
    return StateCreate(type=state.type, name=state.name, message=state.message, state_details=details)


class Reporter:
    """Asks and tells; ``stopping`` is set when there is no time left for it."""

    def __init__(
        self, sender: Sender, log: RunLog, stopping: threading.Event, *, patient: bool = True
    ) -> None:
        self.sender, self.log, self.stopping, self.patient = sender, log, stopping, patient

    def report(self, run: Run, state: State) -> None:
        """Propose ``state``; what the server answers is what counts.

        Raises:
            EparchError: it was not heard; only of one that is not patient.
        """
        body = SetState(state=proposal_of(state))
        answer = self.ask(calls.set_flow_run_state(id=run.id, body=body, headers=run.headers))
        if answer is None:
            return
        if answer.status is SetStateStatus.ACCEPT:
            self.log.write(run.id, f"Reported flow run '{run.name}' as {state.name}")
        else:
            logger.info(
                "The server kept the run %s as it is instead of %s: %s",
                run.name, state.name, answer.details.reason,
            )  # fmt: skip

    def ask(self, call: Call[T]) -> T | None:
        """The answer, waiting out that there is none; None if it is refused or there is no time left."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return self.sender.send(call)
            except PASSING as error:
                if not self.patient:
                    raise
                if self.stopping.is_set() and attempt > 2:
                    logger.warning("Not reported, the worker stops: %s", error)
                    return None
                pause = pause_after(attempt)
                logger.warning("Next attempt in %.1f s: %s", pause, error)
                self.stopping.wait(pause)
            except NotFound:
                return None
            except EparchError as error:
                logger.warning("The server refused %s %s: %s", call.method, call.path, error)
                return None
