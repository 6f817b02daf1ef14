"""One run from its claim to its end: started, watched, reported.

Owns the thread of a run, and that its slot is given back and its end told on every path. Knows no
infrastructure and decides nothing: that is in ``decisions``.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from eparch.core import calls
from eparch.core.crash_retries import crash_retries
from eparch.core.errors import EparchError, InfrastructureError, NotFound
from eparch.core.model import new_id
from eparch.core.pools import Claim, ClaimedRun, ClaimRef, WorkPool
from eparch.core.runs import FlowRun, FlowRunUpdate
from eparch.core.states import State, StateType
from eparch.steps.references import ServerReferences
from eparch.workers.decisions import (
    StopReason,
    decide_after_exit,
    decide_after_failed_start,
    is_left_behind,
)
from eparch.workers.infrastructure import Exit, Infrastructure
from eparch.workers.jobs import Assignment, make_job
from eparch.workers.reporting import PASSING, Reporter, Run
from eparch.workers.run_log import RunLog
from eparch.workers.slots import Slots
from eparch.workers.sources import Sender

RUN, POOL_ID = "prefect.io/flow-run-id", "prefect.io/work-pool-id"
TOKEN, LEASE = "eparch.io/claim-token", "eparch.io/lease-seconds"
"""Labels of a job by which its run and its claim are known."""

FENCED = "eparch.io/fenced"
"""Label of a job that must be gone when its claim lapses, as another attempt may begin then (row B2)."""

logger = logging.getLogger("eparch.worker")


class Stopped(Exception):
    """The run was to be stopped before it began."""


@dataclass(eq=False)
class Held:
    """A run that this worker holds, as its threads share it."""

    claimed: ClaimedRun
    fenced: bool
    """Whether the server gave a fencing token."""
    handle: str | None = None
    reason: StopReason | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopper: threading.Thread | None = None
    hide: Callable[[str], str] = str
    """Takes the secrets that its job was given out of a text."""

    @property
    def run(self) -> FlowRun:
        """The run as it was claimed."""
        return self.claimed.flow_run

    @property
    def token(self) -> int | None:
        """The fencing token."""
        return self.claimed.claim.token if self.fenced else None

    @property
    def ref(self) -> ClaimRef:
        """The claim as it is renewed."""
        return ClaimRef(flow_run_id=self.run.id, token=self.claimed.claim.token)

    @property
    def told(self) -> Run:
        """The run as the server is told of it."""
        return Run(self.run.id, self.run.name, self.token)


class Supervisor:
    """Takes care of runs, each in a thread of its own."""

    def __init__(
        self, sender: Sender, infrastructure: Infrastructure[Any], slots: Slots, log: RunLog, *,
        worker_name: str, environment: Mapping[str, str], pool: Callable[[], WorkPool],
        stopping: threading.Event, lease_seconds: float = 30.0,
    ) -> None:  # fmt: skip
        self.sender, self.infrastructure, self.slots, self.log = sender, infrastructure, slots, log
        self.worker_name, self.environment, self.pool = worker_name, environment, pool
        self.stopping, self.lease_seconds = stopping, lease_seconds
        self.reporter = Reporter(sender, log, stopping)
        infrastructure.on_waiting = self._waits
        self.not_started = 0
        """Runs whose job could not be started."""
        self._held: set[Held] = set()
        self._left: set[str] = set()
        """Jobs that were seen to be left behind when it was last looked for some."""
        self._changed = threading.Condition()

    def holding(self) -> list[Held]:
        """What is held now."""
        with self._changed:
            return list(self._held)

    def wait_idle(self, seconds: float | None = None) -> bool:
        """Wait until nothing is held; whether it came to that."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._held, seconds)

    def accept(self, claimed: ClaimedRun, *, fenced: bool) -> None:
        """Take a slot and begin; a run that is held already is a repeated answer."""
        held = Held(claimed, fenced)
        with self._changed:
            if held.claimed.claim.claim_id in {one.claimed.claim.claim_id for one in self._of(held.run.id)}:
                return
        self._hold(held, self._start_and_watch)

    def _hold(self, held: Held, live: Callable[[Held], Exit | Exception]) -> None:
        with self._changed:
            self._held.add(held)
        self.slots.take()
        thread = threading.Thread(
            target=self._care, args=(held, live), name=f"run-{held.run.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            with self.slots.released_after():
                self.report(held, decide_after_failed_start(held.run, None, StopReason.SHUTDOWN))
                logger.warning("No thread could be started for the run %s: %s", held.run.name, error)
            self._drop(held)

    def adopt(self) -> None:
        """Take over the jobs of this pool that no worker looks after (row W17): live ones of one that died.

        Raises:
            EparchError: the infrastructure or the server cannot be asked now.
        """
        mine, left = {held.handle for held in self.holding()}, set[str]()
        for handle in self.infrastructure.find({POOL_ID: str(self.pool().id)}):
            if handle in mine or self.stopping.is_set():
                continue
            claimed = self._claim_of(self.infrastructure.labels_of(handle))
            if claimed is None:
                continue
            if claimed.claim.token > 0 and is_left_behind(claimed.flow_run, handle):
                left.add(handle)
                self._end_left(handle, claimed.flow_run)
                continue
            if not self.infrastructure.adopt(handle):
                continue
            fenced = claimed.claim.token > 0
            held = Held(claimed, fenced, handle=handle)
            self._hold(held, self._adopted)
        self._left = left

    def _end_left(self, handle: str, run: FlowRun) -> None:
        """End a job whose claim lapsed, at the second sight: one that just told its end may have hooks."""
        if handle not in self._left:
            return
        text = f"Worker '{self.worker_name}' ends {handle}, which the flow run '{run.name}' left behind"
        self.log.write(run.id, text, logging.WARNING)
        self.infrastructure.stop(handle, 0.0)

    def _claim_of(self, labels: Mapping[str, str]) -> ClaimedRun | None:
        """The run of a job as it was claimed; None if the server does not know it."""
        try:
            run_id, token = UUID(labels[RUN]), int(labels.get(TOKEN, "0"))
            run = self.sender.send(calls.read_flow_run(id=run_id))
        except (KeyError, ValueError, NotFound):
            return None
        claim = Claim(
            flow_run_id=run.id, claim_id=new_id(), token=token, worker_name=self.worker_name,
            claimed_at=datetime.now(UTC),
        )  # fmt: skip
        return ClaimedRun(claim=claim, flow_run=run)

    def _adopted(self, held: Held) -> Exit | Exception:
        text = f"Worker '{self.worker_name}' goes on with the flow run '{held.run.name}', {held.handle}"
        self.log.write(held.run.id, text)
        assert held.handle is not None
        return self._watch(held, held.handle)

    def _of(self, run_id: UUID) -> list[Held]:
        return [one for one in self._held if one.run.id == run_id]

    def withhold(self, held: Held) -> bool:
        """Let a run not begin whose job is not there yet; False when it is too late for that."""
        with held.lock:
            if held.handle is None:
                held.reason = held.reason or StopReason.SHUTDOWN
            return held.handle is None

    def stop(self, held: Held, reason: StopReason, grace: float) -> None:
        """End the job of a run, once; a second call with less grace hurries the first."""
        with held.lock:
            held.reason = held.reason or reason
            if held.handle is None:
                return
            thread = threading.Thread(target=self._stop, args=(held, grace), name="stop", daemon=True)
            held.stopper = held.stopper or thread
            thread.start()

    def _stop(self, held: Held, grace: float) -> None:
        assert held.handle is not None
        try:
            self.infrastructure.stop(held.handle, grace)
        except EparchError as error:
            self.log.write(held.run.id, f"The job {held.handle} was not stopped: {error}", logging.ERROR)

    def _care(self, held: Held, live: Callable[[Held], Exit | Exception]) -> None:
        """The life of one run; whatever happens here ends only this run."""
        try:
            with self.slots.released_after():
                outcome = live(held)
            self._finish(held, outcome)
        except Exception:
            logger.exception("The run %s could not be taken care of to its end", held.run.name)
        finally:
            self._drop(held)

    def _drop(self, held: Held) -> None:
        with self._changed:
            self._held.discard(held)
            self._changed.notify_all()

    def _start_and_watch(self, held: Held) -> Exit | Exception:
        """How its job ended, or why there is none."""
        self.log.write(
            held.run.id, f"Worker '{self.worker_name}' is submitting the flow run '{held.run.name}'"
        )
        try:
            config = self.infrastructure.render(self._job(held))
            handle = self.infrastructure.start(config, lambda handle: self._record(held, handle))
        except Stopped as stopped:
            return stopped
        except Exception as error:
            if not isinstance(error, EparchError):
                trace = held.hide("".join(traceback.format_exception(error)))
                logger.error("The job of the run %s could not be started\n%s", held.run.name, trace)
            return _hidden(error, held.hide)
        self.log.write(held.run.id, f"The job of the flow run '{held.run.name}' was started as {handle}")
        return self._watch(held, handle)

    def _watch(self, held: Held, handle: str) -> Exit:
        """How the job ended, once nobody stops it any more."""
        try:
            seen = self.infrastructure.watch(handle)
        except InfrastructureError as error:
            self.log.write(held.run.id, f"The job {handle} cannot be watched: {error}", logging.ERROR)
            seen = Exit(code=None, stderr=str(error))
        with held.lock:
            stopper = held.stopper
        if stopper is not None:
            stopper.join()
        return msgspec.structs.replace(seen, stderr=held.hide(seen.stderr))

    def _waits(self, handle: str, reason: str) -> None:
        """Show on the run why its job does not begin (row W21); a run that has begun meanwhile stays so."""
        for held in self.holding():
            if held.handle == handle and held.reason is None:
                text = held.hide(reason)
                self.log.write(held.run.id, f"The job {handle} does not begin yet: {text}", logging.WARNING)
                state = State(type=StateType.PENDING, name="InfrastructurePending", message=text)
                self.report(held, state)

    def _job(self, held: Held) -> dict[str, Any]:
        pool, references = self.pool(), ServerReferences(self.sender)
        held.hide = references.hide
        assignment = Assignment(
            flow_run=held.run,
            pool=pool,
            worker_name=self.worker_name,
            deployment=held.claimed.deployment,
            flow=held.claimed.flow,
            token=held.token,
        )
        template = pool.base_job_template or self.infrastructure.base_job_template
        job = make_job(assignment, self.environment, template, references)
        # By these another worker, or the holder of the job, can go on with the run.
        job["labels"][LEASE] = f"{self.lease_seconds:g}"
        if held.token is not None:
            job["labels"][TOKEN] = str(held.token)
        if crash_retries(held.run.labels).count:
            job["labels"][FENCED] = "true"
        return job

    def _record(self, held: Held, handle: str) -> None:
        """Store the handle on the run, before user code can begin (row W22)."""
        with held.lock:
            if held.reason is not None:
                raise Stopped
            held.handle = handle
        update = FlowRunUpdate(infrastructure_pid=handle)
        self.sender.send(calls.update_flow_run(id=held.run.id, body=update, headers=held.told.headers))

    def _finish(self, held: Held, outcome: Exit | Exception) -> None:
        """Tell what became of the run."""
        if isinstance(outcome, Exit) and outcome.taken:
            text = f"Another worker has taken over {held.handle}, as '{self.worker_name}' was not heard of"
            self.log.write(held.run.id, text, logging.WARNING)
        elif isinstance(outcome, Exit):
            self.log.write(
                held.run.id,
                f"The job of the flow run '{held.run.name}' is over: {outcome.cause}",
                logging.INFO if outcome.code == 0 else logging.WARNING,
            )
            run = self.reporter.ask(calls.read_flow_run(id=held.run.id))
            if run is not None:
                self.report(held, decide_after_exit(held.run, run, outcome, held.reason, self.worker_name))
        else:
            self._finish_unstarted(held, outcome)

    def _finish_unstarted(self, held: Held, outcome: Exception) -> None:
        error = None if isinstance(outcome, (Stopped, *PASSING)) else outcome
        if not isinstance(outcome, Stopped):
            self.not_started += 1
            text = f"The flow run '{held.run.name}' could not be started: {outcome}"
            self.log.write(held.run.id, text, logging.ERROR)
        self.report(held, decide_after_failed_start(held.run, error, held.reason))

    def report(self, held: Held, state: State | None) -> None:
        """Propose ``state`` until the server heard it; None is nothing to say."""
        if state is not None:
            self.reporter.report(held.told, state)


def _hidden(error: Exception, hide: Callable[[str], str]) -> Exception:
    """``error`` without secrets: it becomes a line of the run's log and its state."""
    if isinstance(error, EparchError):
        error.message, error.why, error.fix = hide(error.message), hide(error.why), hide(error.fix)
        error.args = (error.message,)
        return error
    return error if hide(repr(error)) == repr(error) else InfrastructureError(hide(repr(error)))
