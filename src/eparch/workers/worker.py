"""A worker: claims runs, has them started, keeps its claims, ends in good order. Knows no infrastructure.

Owns the loops (claim, cancel, beat), signals and the exit code. One thread claims, one is told of
cancellations while there is no room, one renews, one beats and adopts, one looks after each run.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import UUID

from eparch.client.http import connect
from eparch.client.retries import Retries
from eparch.core import calls
from eparch.core.errors import EparchError, NotFound
from eparch.core.pools import ClaimedRun, Heartbeat, Work, WorkPool
from eparch.core.runs import SetState, SetStateStatus
from eparch.core.worker_instances import WRITE_EVERY, WorkerOrder
from eparch.settings import Settings
from eparch.workers.decisions import StopReason, hand_back, must_stop_when_lost
from eparch.workers.health import Condition, Health
from eparch.workers.infrastructure import Infrastructure, find_type
from eparch.workers.instance import Instance, Shipping
from eparch.workers.jobs import client_environment
from eparch.workers.options import WorkerOptions
from eparch.workers.preparation import prepare_pool
from eparch.workers.reporting import PASSING, pause_after, proposal_of, retry_after
from eparch.workers.run_log import RunLog
from eparch.workers.signals import stopped_by_signals
from eparch.workers.slots import Slots
from eparch.workers.sources import WAIT, Claims, Polls, Sender, Source, is_ours
from eparch.workers.supervision import Held, Supervisor

__all__ = ["Worker", "WorkerOptions", "run_worker"]

_TICK = 0.5
"""Seconds after which a waiting loop looks whether the worker stops."""

LAST_SECONDS = 5.0
"""Between SIGTERM and SIGKILL for a run that had its time and has not finished."""

SKEW_SECONDS = 5.0
"""Difference of clocks that is told; the server says its time in whole seconds."""

_POOL_AGE = 1.0
"""Seconds for which a pool that was read is taken as it is; its template may be edited while a worker
runs.
"""

T = TypeVar("T")

logger = logging.getLogger("eparch.worker")


class Worker:
    """Serves one pool until it is told to stop.

    ``sender`` is patient and is for what must be told; ``impatient`` fails at once and is for the loops,
    which wait themselves and say why. Both may be the same.
    """

    def __init__(
        self, sender: Sender, options: WorkerOptions, settings: Settings, *,
        impatient: Sender | None = None, infrastructure: Infrastructure[Any] | None = None,
    ) -> None:  # fmt: skip
        self.sender, self.impatient = sender, impatient or sender
        self.options, self.settings = options, settings
        self.stopping = threading.Event()
        self.slots = Slots(options.limit)
        self.log = RunLog(sender)
        self._infrastructure = infrastructure
        self._told = False
        """It was told to stop."""
        self._now = False
        """It was told so twice."""
        self._news = threading.Event()
        """Something happened that the server should hear of at once."""
        self._pool: WorkPool | None = None
        self._pool_read = 0.0
        self._polled = self._answered = time.monotonic()
        self._begun = False
        self._ended = threading.Event()
        self._accepting = threading.Lock()
        self._skewed = False
        """It was said that the clocks differ."""
        self._turn = threading.Lock()
        """Held while runs are taken from a server that is polled."""
        self.name = options.name or ""
        self._instance: Instance | None = None
        self._shipping: Shipping | None = None
        self.source: Source
        self.supervisor: Supervisor
        self.fenced = True

    # Life

    def run(self) -> int:
        """Work until ``stop`` is called or the server wants no more, or once; the exit code (rows W1, W8).

        Raises:
            EparchError: the worker cannot begin: wrong pool, unknown type, not allowed.
        """
        try:
            with self._healthcheck():
                pool = self._wait_out(self._prepare)
                if pool is None:
                    return 0
                self._begin(pool)
                return self._once() if self.options.run_once else self._serve()
        finally:
            self.stopping.set()
            self._say_goodbye()
            self.log.close()
            if self._infrastructure is not None:
                self._infrastructure.close()

    def stop(self) -> None:
        """Take no more runs and end, as ``options.on_stop`` says; called again, end now (row W18)."""
        self._now = self._told
        self._told = True
        self.slots.set_open(False)
        if not self._begun:
            self.stopping.set()
        self._news.set()
        self._ended.set()

    def _prepare(self) -> WorkPool:
        """The pool that it serves, as it begins."""
        kind = type(self._infrastructure) if self._infrastructure is not None else None
        return prepare_pool(self.impatient, self.options, kind)

    def _open_source(self, prefetch: float) -> Source:
        """Where it gets its runs from."""
        kind = Claims if self.fenced else Polls
        name, queues = self.options.pool, self.options.queues
        return kind(self.impatient, name, self.name, queues, self.settings, prefetch)

    def _what(self) -> str:
        """What it serves, for people."""
        assert self._pool is not None
        return f"the pool '{self._pool.name}' ({self._pool.type})"

    def _begin(self, pool: WorkPool) -> None:
        self._pool, self._pool_read = pool, time.monotonic()
        if not self.name:
            self.name = f"{pool.type} {socket.gethostname()} {os.urandom(3).hex()}"
        infrastructure = self._infrastructure or find_type(pool.type)()
        self._infrastructure = infrastructure
        infrastructure.prepare(self.settings)
        prefetch = self.options.prefetch_seconds
        if prefetch is None:
            prefetch = self.settings.prefetch_seconds
        self.fenced = bool(self._wait_out(lambda: is_ours(self.impatient)))
        self.source = self._open_source(prefetch)
        self.supervisor = Supervisor(
            self.sender, infrastructure, self.slots, self.log, worker_name=self.name,
            environment=client_environment(self.settings), pool=self._current_pool, stopping=self.stopping,
            lease_seconds=self.settings.lease_seconds,
        )  # fmt: skip
        self._introduce()
        self._begun = True
        if self._told:
            # A signal that came while it began.
            self.stopping.set()
        self._wait_out(self._beat)
        self._compare_clocks()
        self._try(self.supervisor.adopt)
        limit = "no limit" if self.options.limit is None else f"at most {self.options.limit} runs"
        logger.info("Worker '%s' serves %s, %s", self.name, self._what(), limit)

    def _introduce(self) -> None:
        """Be known as a process of its own by a server of ours, and let it have what is said here."""
        source = self.source
        if not isinstance(source, Claims):
            return
        self._instance = Instance(
            self.impatient, self.options, self.settings, self.name, max(source.wait, WAIT)
        )
        source.instance_id = self._instance.id
        self._shipping = Shipping(self.impatient, self._instance.id, self.settings.worker_log_level)
        self._wait_out(self._beat)
        self._shipping.begin()

    def _serve(self) -> int:
        for loop in (self._claim_runs, self._keep_claims, self._keep_alive, self._watch):
            threading.Thread(target=loop, name=loop.__name__.strip("_"), daemon=True).start()
        while not self._told:
            if self.source.order is not WorkerOrder.EXIT:
                self._ended.wait(_TICK)
            elif self.supervisor.wait_idle(_TICK):
                logger.info("Worker '%s' was drained and ends", self.name)
                return 0
        self._shut_down()
        return 0

    def _once(self) -> int:
        """Take what is due, wait for it and end; 1 if a run could not be started (row W8)."""
        for loop in (self._keep_claims, self._keep_alive):
            threading.Thread(target=loop, name=loop.__name__.strip("_"), daemon=True).start()
        if isinstance(self.source, Claims):
            self.source.wait = 0.0
        work = self._wait_out(lambda: self.source.take(self.slots.free, []))
        if work is not None:
            self._accept(work)
        self.slots.set_open(False)
        self._news.set()
        while not self.supervisor.wait_idle(_TICK):
            if self._told:
                self._shut_down()
                break
        return 1 if self.supervisor.not_started else 0

    def _shut_down(self) -> None:
        """Let the runs finish, hand them back or end them (row W18)."""
        how, grace = self.options.on_stop, self.options.grace_seconds
        count = len(self.supervisor.holding())
        logger.info("Worker '%s' stops with %d runs: %s, %g s", self.name, count, how, grace)
        # The claim that waits at the server must not be given what is handed back here.
        if self._try(self._beat):
            self._try(self._give_back_late)
        if how == "hand-back":
            self._try(self._hand_back_waiting)
        deadline = time.monotonic() + (0 if how == "cancel" else grace)
        while not self._now and time.monotonic() < deadline:
            if self.supervisor.wait_idle(_TICK / 5):
                break
        self.stopping.set()
        if how == "hand-back" and _can_adopt(self.supervisor.infrastructure):
            for held in self.supervisor.holding():
                text = f"Worker '{self.name}' leaves the flow run '{held.run.name}' to the next worker"
                self.log.write(held.run.id, text)
            self.supervisor.infrastructure.close()
        else:
            self._end_runs(grace if how == "cancel" else min(grace, LAST_SECONDS))
        logger.info("Worker '%s' has stopped", self.name)

    def _give_back_late(self) -> None:
        """Give back what a claim brings that was under way when the worker was told to stop (row W18).

        The server has heard that this worker takes no more, so no later claim brings anything.
        """
        with self._accepting:
            mine = {held.run.id for held in self.supervisor.holding()}
        if self.source.pause and self._turn.acquire(timeout=LAST_SECONDS):
            self._turn.release()
        for claimed in self.source.recall():
            if claimed.flow_run.id not in mine:
                self._give_back(claimed)

    def _hand_back_waiting(self) -> None:
        """Give back the runs of which no user code runs yet and stop their jobs; others begin them."""
        for held in self.supervisor.holding():
            if self.supervisor.withhold(held):
                continue
            state = self.impatient.send(calls.read_flow_run(id=held.run.id)).state
            if state is None or not state.is_pending():
                continue
            if not self.fenced:
                self.supervisor.stop(held, StopReason.SHUTDOWN, 0.0)
                continue
            # It may begin this very moment: the server decides which of the two comes first.
            body = SetState(state=proposal_of(hand_back(held.run)), if_state_id=state.id)
            call = calls.set_flow_run_state(id=held.run.id, body=body, headers=held.told.headers)
            if self.impatient.send(call).status is SetStateStatus.ACCEPT:
                self.supervisor.stop(held, StopReason.LOST, 0.0)

    def _end_runs(self, grace: float) -> None:
        """End every run; nothing that was started outlives this."""
        told: dict[Held, bool] = {}
        while True:
            for held in self.supervisor.holding():
                if told.get(held) is not self._now:
                    told[held] = self._now
                    self.supervisor.stop(held, StopReason.SHUTDOWN, 0.0 if self._now else grace)
            if self.supervisor.wait_idle(_TICK / 5):
                return

    @contextmanager
    def _healthcheck(self) -> Iterator[None]:
        if not self.options.with_healthcheck:
            yield
            return
        health = Health(self.settings.worker_health_host, self.settings.worker_health_port, self.look)
        logger.info("Probes are answered on port %d", health.port)
        try:
            yield
        finally:
            health.close()

    def look(self) -> Condition:
        """How the worker is (row W9)."""
        bound = 3 * self.settings.worker_poll_seconds
        if self._begun:
            bound = 3 * max(self.source.pause, self.settings.worker_poll_seconds) + getattr(
                self.source, "wait", 0.0
            )
        now = time.monotonic()
        silent, unanswered = now - self._polled, now - self._answered
        fault = not_ready = ""
        loops = self._begun and not self.options.run_once and not self.stopping.is_set()
        if loops and silent > bound:
            fault = f"The worker has not asked for runs for {silent:.0f} seconds"
        if not self._begun:
            not_ready = "The worker has not begun"
        elif not self.slots.is_open:
            not_ready = "The worker takes no more runs"
        elif unanswered > bound:
            not_ready = f"The server has not answered for {unanswered:.0f} seconds"
        runs = len(self.supervisor.holding()) if self._begun else 0
        return Condition(fault, not_ready, self._begun and not self.slots.is_open, runs)

    # Loops

    def _claim_runs(self) -> None:
        """Ask for runs while there is room."""
        attempt = 0
        while not self.stopping.is_set():
            self._polled = time.monotonic()
            if not self.slots.wait_free(_TICK):
                # While there is no room, ``_watch`` asks.
                continue
            asked = time.monotonic()
            try:
                with self._turn:
                    work = self.source.take(self.slots.free, self._holding())
                    self._accept(work)
            except Exception as error:
                attempt += 1
                self._wait_after(error, attempt)
                continue
            attempt = 0
            self._answered = time.monotonic()
            if self.source.pause:
                self.stopping.wait(self.source.pause)
            elif not (work.runs or work.cancel) and time.monotonic() - asked < _TICK:
                # A server, or what stands before it, that answers at once although there is nothing.
                self.stopping.wait(_TICK)

    def _watch(self) -> None:
        """Be told of cancellations and orders while the worker is full or takes no more runs."""
        attempt = 0
        while not self.stopping.is_set():
            if not self.slots.wait_full(_TICK):
                continue
            try:
                work = self.source.watch(self._holding())
            except Exception as error:
                attempt += 1
                self._wait_after(error, attempt)
                continue
            attempt = 0
            self._answered = time.monotonic()
            self._accept(work)
            # One of the runs may just be over: another soon has its place.
            self.stopping.wait(max(self.source.pause, _TICK))

    def _keep_claims(self) -> None:
        """Renew the claims three times a lease, sooner after a failure; waits for nothing else (row W17)."""
        every = self.settings.lease_seconds / 3
        due = time.monotonic() + every
        while not (self.stopping.is_set() and not self.supervisor.holding()):
            begun = time.monotonic()
            if begun >= due:
                kept = self._try(self._renew)
                due = begun + every if kept else time.monotonic() + retry_after(every)
            time.sleep(min(_TICK, every / 4))

    def _keep_alive(self) -> None:
        """Say that the worker is there, and take over jobs whose worker is not."""
        beat_every = self.settings.worker_heartbeat_seconds
        # A job whose worker is gone has to be found before its claim lapses.
        adopt_every = min(beat_every, self.settings.lease_seconds / 3)
        beaten = adopted = time.monotonic()
        shown: set[UUID] = set()
        while not (self.stopping.is_set() and not self.supervisor.holding()):
            now = time.monotonic()
            held = {one.run.id for one in self.supervisor.holding()}
            changed = held != shown and now - beaten >= WRITE_EVERY.total_seconds()
            if self._news.is_set() or changed or now - beaten >= beat_every:
                self._news.clear()
                beaten, shown = now, held
                self._try(self._beat)
                self._compare_clocks()
            if now - adopted >= adopt_every and self.slots.is_open:
                adopted = now
                self._try(self.supervisor.adopt)
            self._news.wait(_TICK)

    # Steps of the loops

    def _accept(self, work: Work) -> None:
        self._cancel(work.cancel)
        self._obey(work.order)
        late = []
        with self._accepting:
            # Whoever closes the slots and then has this lock knows of everything that was accepted.
            for claimed in work.runs:
                if self.slots.is_open:
                    self.supervisor.accept(claimed, fenced=self.fenced)
                else:
                    late.append(claimed)
        for claimed in late:
            self._give_back(claimed)

    def _give_back(self, claimed: ClaimedRun) -> None:
        """A run that came too late: another worker takes it."""
        held = Held(claimed, self.fenced)
        self._try(lambda: self.supervisor.report(held, hand_back(held.run)))

    def _cancel(self, runs: Sequence[UUID]) -> None:
        wanted = set(runs)
        for held in self.supervisor.holding():
            if held.run.id in wanted and held.reason is None:
                self.log.write(
                    held.run.id, f"The flow run '{held.run.name}' is cancelled, its job is stopped"
                )
                self.supervisor.stop(held, StopReason.CANCEL, self.options.grace_seconds)

    def _renew(self) -> None:
        held = {one.run.id: one for one in self.supervisor.holding()}
        if not held:
            return
        # Whoever holds a job must not think this worker gone because the server is.
        self.supervisor.infrastructure.renewed([one.handle for one in held.values() if one.handle], 0.0)
        asked = time.monotonic()
        answer = self.source.renew([one.ref for one in held.values()])
        kept = [held[run_id].handle for run_id in answer.kept if run_id in held]
        self.supervisor.infrastructure.renewed([handle for handle in kept if handle is not None], asked)
        for run_id in answer.lost:
            one = held.get(run_id)
            if one is None or one.reason is not None:
                continue
            try:
                must = must_stop_when_lost(self.impatient.send(calls.read_flow_run(id=run_id)))
            except NotFound:
                must = True
            if must:
                text = f"Worker '{self.name}' has lost the flow run '{one.run.name}' and ends its job"
                self.log.write(run_id, text, logging.WARNING)
                self.supervisor.stop(one, StopReason.LOST, 0.0)

    def _compare_clocks(self) -> None:
        """Say once that this machine's clock is not the server's: waits do not depend on it, code of users
        may.
        """
        skew = getattr(self.impatient, "skew", None)
        if not self._skewed and skew is not None and abs(skew) > SKEW_SECONDS:
            self._skewed = True
            logger.warning(
                "The clock of this machine is %.0f s %s that of the server: synchronize them with NTP",
                abs(skew), "ahead of" if skew > 0 else "behind",
            )  # fmt: skip

    def _beat(self) -> None:
        if self._instance is not None:
            held = [one.run.id for one in self.supervisor.holding()]
            self._obey(self._instance.report(held, is_draining=lambda: not self.slots.is_open))
            return
        body = Heartbeat(
            name=self.name, heartbeat_interval_seconds=max(round(self.settings.worker_heartbeat_seconds), 1)
        )
        self.impatient.send(calls.heartbeat_worker(work_pool_name=self.options.pool, body=body))

    def _obey(self, order: WorkerOrder) -> None:
        """Do what the server wants from now on (row W18); a signal counts for more."""
        if order is self.source.order:
            return
        self.source.order = order
        if not self._told:
            works = order is WorkerOrder.WORK
            self.slots.set_open(works)
            text = "takes runs again" if works else "takes no more runs and finishes those that it has"
            logger.info("Worker '%s' %s, as the server wants", self.name, text)
        self._news.set()
        if order is WorkerOrder.EXIT:
            self._ended.set()

    def _say_goodbye(self) -> None:
        """The server need not wait to see that this process is gone."""
        if self._instance is not None:
            goodbye = self._instance
            self._try(lambda: goodbye.report([], is_draining=lambda: True, stopped=True))
        if self._shipping is not None:
            self._shipping.end()

    def _current_pool(self) -> WorkPool:
        """The pool as it is now, or as it was last seen."""
        assert self._pool is not None
        if time.monotonic() - self._pool_read > _POOL_AGE:
            try:
                self._pool = self.impatient.send(calls.read_work_pool(name=self.options.pool))
                self._pool_read = time.monotonic()
            except EparchError as error:
                logger.debug("The pool is taken as it was: %s", error)
        return self._pool

    def _holding(self) -> list[UUID]:
        """Runs of which the worker does not know yet that they are to be stopped; of others it is not told
        again.
        """
        return [held.run.id for held in self.supervisor.holding() if held.reason is None]

    # Faults

    def _try(self, act: Callable[[], object]) -> bool:
        """Do it; what goes wrong is said, and done again when its time comes. Whether it went well."""
        try:
            act()
        except EparchError as error:
            logger.warning("%s", _reason(error))
            return False
        except Exception:
            logger.exception("The worker goes on after a fault of its own")
            return False
        return True

    def _wait_after(self, error: Exception, attempt: int) -> None:
        """Say why there are no runs, and wait (row W19)."""
        pause = pause_after(attempt)
        if isinstance(error, EparchError):
            logger.warning("No runs can be taken, next attempt in %.1f s: %s", pause, _reason(error))
        else:
            logger.error("A fault of the worker itself, next attempt in %.1f s", pause, exc_info=error)
        self.stopping.wait(pause)

    def _wait_out(self, ask: Callable[[], T]) -> T | None:
        """What ``ask`` answers, however long the server needs; None if the worker is to stop before."""
        attempt = 0
        while not self.stopping.is_set():
            try:
                return ask()
            except PASSING as error:
                attempt += 1
                self._wait_after(error, attempt)
        return None


def _can_adopt(infrastructure: Infrastructure[Any]) -> bool:
    """Whether its jobs can be left to another worker."""
    return type(infrastructure).adopt is not Infrastructure.adopt


def run_worker(options: WorkerOptions, settings: Settings, make: Callable[..., Worker] = Worker) -> int:
    """Run a worker in this process until a signal ends it; the exit code of ``eparch worker start``.

    The first SIGTERM or SIGINT stops as ``options.on_stop`` says, the second ends the runs at once.

    Raises:
        EparchError: the worker cannot begin.
    """
    _log_to_stderr(settings)
    with connect(settings) as sender, connect(settings, retries=Retries(attempts=0)) as impatient:
        worker = make(sender, options, settings, impatient=impatient)
        with stopped_by_signals(worker):
            return worker.run()


def _log_to_stderr(settings: Settings) -> None:
    """Show what the worker says, unless whoever embeds it has set up logging."""
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s | %(levelname)-7s | %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(settings.log_level)


def _reason(error: EparchError) -> str:
    return f"{error} {error.why}".strip()
