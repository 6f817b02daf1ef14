"""What the holder of a job does for its run while no worker is there (rows W17, W20).

Renews the claim, ends the job of a run that was cancelled or lost, and tells how it ended. Owns none of the
rules: they are the worker's own, in ``decisions``. Is imported only when a worker has gone.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from eparch.client.http import connect
from eparch.client.retries import Retries
from eparch.core import calls
from eparch.core.errors import EparchError, NotFound
from eparch.core.pools import ClaimRef, RenewClaims
from eparch.core.states import StateType
from eparch.settings import load
from eparch.workers.decisions import StopReason, decide_after_exit, must_stop_when_lost
from eparch.workers.infrastructure import Exit
from eparch.workers.reporting import Reporter, Run
from eparch.workers.run_log import RunLog

if TYPE_CHECKING:
    from eparch.workers.holder import Holder
    from eparch.workers.sources import Sender

LOOK = 3.0
"""Most seconds until a cancellation is seen."""

NAME = "holder"
"""Who it is in messages."""


def look_after(holder: Holder) -> None:
    """Keep the run while it is not attended; over when its end is told, by this or by a worker."""
    keep = holder.spec["keep"]
    settings = load(holder.spec["environment"])
    with connect(settings, retries=Retries(attempts=0)) as sender:
        log = RunLog(sender)
        try:
            _Care(holder, sender, log, keep).go_on()
        finally:
            log.close()


class _Care:
    def __init__(self, holder: Holder, sender: Sender, log: RunLog, keep: dict[str, Any]) -> None:
        self.holder, self.sender, self.log, self.keep = holder, sender, log, keep
        self.run = Run(UUID(keep["run"]), keep["name"], keep["token"])
        self.reason: StopReason | None = None
        self._unattended = False

    def go_on(self) -> None:
        """Look at the run three times a lease, and at its end."""
        holder = self.holder
        pause = min(self.keep["lease"] / 3, LOOK)
        while not holder.over.wait(0.0 if not self._unattended else pause):
            if not self._is_needed():
                holder.over.wait(min(pause, 1.0))
                continue
            try:
                self._keep()
            except EparchError as error:
                logging.getLogger(__name__).debug("The server was not reached: %s", error)
                holder.over.wait(min(pause, 1.0))
        while not holder.told.is_set():
            if self._is_needed() and self._tell():
                holder.told.set()
            holder.told.wait(1.0)

    def _is_needed(self) -> bool:
        was, self._unattended = self._unattended, not self.holder.attended
        if self._unattended and not was:
            text = f"The worker of the flow run '{self.run.name}' is gone, its job goes on without it"
            self.log.write(self.run.id, text, logging.WARNING)
        return self._unattended

    def _keep(self) -> None:
        lost = False
        if self.run.token is not None:
            ref = ClaimRef(flow_run_id=self.run.id, token=self.run.token)
            body, asked = RenewClaims(claims=[ref], lease_seconds=self.keep["lease"]), time.monotonic()
            lost = bool(self.sender.send(calls.renew_claims(name=self.keep["pool"], body=body)).lost)
            if not lost:
                self.holder.renewed = asked
        if self.reason is not None:
            return
        try:
            run = self.sender.send(calls.read_flow_run(id=self.run.id))
        except NotFound:
            self._stop(StopReason.LOST, 0.0)
            return
        state = run.state.type if run.state is not None else None
        if state in (StateType.CANCELLING, StateType.CANCELLED):
            self.log.write(self.run.id, f"The flow run '{run.name}' is cancelled, its job is stopped")
            self._stop(StopReason.CANCEL, self.keep["grace"])
        elif lost and must_stop_when_lost(run):
            self._stop(StopReason.LOST, 0.0)

    def _stop(self, reason: StopReason, grace: float) -> None:
        self.reason = reason
        self.holder.stop(grace)

    def _tell(self) -> bool:
        """Whether there is nothing left to tell."""
        reporter = Reporter(self.sender, self.log, threading.Event(), patient=False)
        seen = Exit(code=self.holder.code, stderr=self.holder.stderr)
        try:
            run = self.sender.send(calls.read_flow_run(id=self.run.id))
            state = decide_after_exit(run, run, seen, self.reason, NAME)
            if state is not None:
                reporter.report(self.run, state)
        except NotFound:
            return True
        except EparchError:
            return False
        return True
