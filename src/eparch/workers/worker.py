"""A worker: claims runs, has them started, keeps its claims, ends in good order. Knows no infrastructure.

Owns the loops (claim, cancel, beat), signals and the exit code. One thread claims, one is told of
cancellations while there is no room, one renews and beats, one looks after each run.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar
from uuid import UUID

from eparch.client.http import connect
from eparch.client.retries import Retries
from eparch.core import calls
from eparch.core.errors import EparchError, NotFound
from eparch.core.pools import ClaimedRun, Heartbeat, Work, WorkPool
from eparch.settings import Settings
from eparch.workers.decisions import StopReason, hand_back, must_stop_when_lost
from eparch.workers.health import Health
from eparch.workers.infrastructure import Infrastructure, find_type
from eparch.workers.jobs import client_environment
from eparch.workers.options import WorkerOptions
from eparch.workers.preparation import prepare_pool
from eparch.workers.reporting import PASSING, pause_after
from eparch.workers.run_log import RunLog
from eparch.workers.slots import Slots
from eparch.workers.sources import Claims, Polls, Sender, Source, is_ours
from eparch.workers.supervision import Held, Supervisor

__all__ = ["Worker", "WorkerOptions", "run_worker"]

_TICK = 0.5
"""Seconds after which a waiting loop looks whether the worker stops."""

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
        self._now = False
        self._pool: WorkPool | None = None
        self._pool_read = 0.0
        self._polled = time.monotonic()
        self._ended = threading.Event()
        self.name = options.name or ""
        self.source: Source
        self.supervisor: Supervisor
        self.fenced = True

    # Life

    def run(self) -> int:
        """Work until ``stop`` is called, or once; the exit code.

        Raises:
            EparchError: the worker cannot begin: wrong pool, unknown type, not allowed.
        """
        try:
            kind = type(self._infrastructure) if self._infrastructure is not None else None
            pool = self._wait_out(lambda: prepare_pool(self.impatient, self.options, kind))
            if pool is None:
                return 0
            self._begin(pool)
            with self._healthcheck():
                return self._once() if self.options.run_once else self._serve()
        finally:
            self.stopping.set()
            self.log.close()

    def stop(self) -> None:
        """Stop claiming and end the runs; called again, end them at once."""
        if self.stopping.is_set():
            self._now = True
        self.stopping.set()
        self._ended.set()

    def _begin(self, pool: WorkPool) -> None:
        self._pool, self._pool_read = pool, time.monotonic()
        if not self.name:
            self.name = f"{pool.type} {socket.gethostname()} {os.urandom(3).hex()}"
        infrastructure = self._infrastructure or find_type(pool.type)()
        self._infrastructure = infrastructure
        prefetch = self.options.prefetch_seconds
        if prefetch is None:
            prefetch = self.settings.prefetch_seconds
        self.fenced = bool(self._wait_out(lambda: is_ours(self.impatient)))
        kind = Claims if self.fenced else Polls
        self.source = kind(self.impatient, pool.name, self.name, self.options.queues, self.settings, prefetch)
        self.supervisor = Supervisor(
            self.sender, infrastructure, self.slots, self.log, worker_name=self.name,
            environment=client_environment(self.settings), pool=self._current_pool, stopping=self.stopping,
            lease_seconds=self.settings.lease_seconds,
        )  # fmt: skip
        self._wait_out(self._beat)
        self._try(self.supervisor.adopt)
        limit = "no limit" if self.options.limit is None else f"at most {self.options.limit} runs"
        logger.info("Worker '%s' serves the pool '%s' (%s, %s)", self.name, pool.name, pool.type, limit)

    def _serve(self) -> int:
        for loop in (self._claim_runs, self._keep_alive, self._watch_cancels):
            threading.Thread(target=loop, name=loop.__name__.strip("_"), daemon=True).start()
        self._ended.wait()
        self._shut_down()
        return 0

    def _once(self) -> int:
        """Take what is due, wait for it and end; 1 if a run could not be started (row W8)."""
        threading.Thread(target=self._keep_alive, name="keep_alive", daemon=True).start()
        if isinstance(self.source, Claims):
            self.source.wait = 0.0
        work = self._wait_out(lambda: self.source.take(self.slots.free, []))
        if work is not None:
            self._accept(work)
        while not self.supervisor.wait_idle(_TICK):
            if self.stopping.is_set():
                self._shut_down()
        return 1 if self.supervisor.not_started else 0

    def _shut_down(self) -> None:
        """End every run; nothing that was started outlives this."""
        logger.info("Worker '%s' stops and ends its %d runs", self.name, len(self.supervisor.holding()))
        told: dict[Held, bool] = {}
        while True:
            for held in self.supervisor.holding():
                if told.get(held) is not self._now:
                    told[held] = self._now
                    grace = 0.0 if self._now else self.options.grace_seconds
                    self.supervisor.stop(held, StopReason.SHUTDOWN, grace)
            if self.supervisor.wait_idle(_TICK / 5):
                break
        logger.info("Worker '%s' has stopped", self.name)

    @contextmanager
    def _healthcheck(self) -> Iterator[None]:
        if not self.options.with_healthcheck:
            yield
            return
        health = Health(self.options.health_port, self.find_fault)
        try:
            yield
        finally:
            health.close()

    def find_fault(self) -> str:
        """What is wrong with the worker; empty if nothing is (row W9)."""
        age = time.monotonic() - self._polled
        bound = 3 * max(self.source.pause, self.settings.worker_poll_seconds) + getattr(
            self.source, "wait", 0.0
        )
        return f"The worker has not asked for runs for {age:.0f} seconds" if age > bound else ""

    # Loops

    def _claim_runs(self) -> None:
        """Ask for runs while there is room."""
        attempt = 0
        while not self.stopping.is_set():
            self._polled = time.monotonic()
            if not self.slots.wait_free(_TICK):
                continue
            asked = time.monotonic()
            try:
                work = self.source.take(self.slots.free, self._holding())
            except Exception as error:
                attempt += 1
                self._wait_after(error, attempt)
                continue
            attempt = 0
            self._accept(work)
            if self.source.pause:
                self.stopping.wait(self.source.pause)
            elif not (work.runs or work.cancel) and time.monotonic() - asked < _TICK:
                # A server, or what stands before it, that answers at once although there is nothing.
                self.stopping.wait(_TICK)

    def _watch_cancels(self) -> None:
        """Be told of cancellations while the worker is full and does not claim."""
        attempt = 0
        while not self.stopping.is_set():
            if not self.slots.wait_full(_TICK):
                continue
            try:
                self._cancel(self.source.watch_cancels(self._holding()))
                attempt = 0
                self.stopping.wait(self.source.pause)
            except Exception as error:
                attempt += 1
                self._wait_after(error, attempt)

    def _keep_alive(self) -> None:
        """Renew the claims three times a lease, say that the worker is there."""
        renew_every, beat_every = self.settings.lease_seconds / 3, self.settings.worker_heartbeat_seconds
        renewed = beaten = time.monotonic()
        while not (self.stopping.is_set() and not self.supervisor.holding()):
            now = time.monotonic()
            if now - renewed >= renew_every:
                renewed = now
                self._try(self._renew)
            if now - beaten >= beat_every:
                beaten = now
                self._try(self._beat)
                self._try(self.supervisor.adopt)
            time.sleep(min(_TICK, renew_every))

    # Steps of the loops

    def _accept(self, work: Work) -> None:
        self._cancel(work.cancel)
        for claimed in work.runs:
            if self.stopping.is_set():
                self._give_back(claimed)
            else:
                self.supervisor.accept(claimed, fenced=self.fenced)

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
        answer = self.source.renew([one.ref for one in held.values()])
        kept = [held[run_id].handle for run_id in answer.kept if run_id in held]
        self.supervisor.infrastructure.renewed([handle for handle in kept if handle is not None])
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

    def _beat(self) -> None:
        body = Heartbeat(
            name=self.name, heartbeat_interval_seconds=max(round(self.settings.worker_heartbeat_seconds), 1)
        )
        self.impatient.send(calls.heartbeat_worker(work_pool_name=self.options.pool, body=body))

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

    def _try(self, act: Callable[[], object]) -> None:
        """Do it; what goes wrong is said, and done again when its time comes."""
        try:
            act()
        except EparchError as error:
            logger.warning("%s", _reason(error))
        except Exception:
            logger.exception("The worker goes on after a fault of its own")

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


def run_worker(options: WorkerOptions, settings: Settings) -> int:
    """Run a worker in this process until a signal ends it; the exit code of ``eparch worker start``.

    The first SIGTERM or SIGINT stops claiming and ends the runs, the second ends them at once.

    Raises:
        EparchError: the worker cannot begin.
    """
    _log_to_stderr(settings)
    with connect(settings) as sender, connect(settings, retries=Retries(attempts=0)) as impatient:
        worker = Worker(sender, options, settings, impatient=impatient)
        with stopped_by_signals(worker):
            return worker.run()


class Stoppable(Protocol):
    """What a signal can stop."""

    def stop(self) -> None:
        """Begin to stop; the second time end at once."""


@contextmanager
def stopped_by_signals(worker: Stoppable) -> Iterator[None]:
    """Let SIGTERM and SIGINT stop the worker; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    # The interpreter runs a handler when the main thread comes to it, and a wait may not notice. What it
    # writes into the socket the moment a signal arrives is read by a thread, which can also wait for a lock.
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def listen() -> None:
        with reader:
            while numbers := reader.recv(64):
                for number in numbers:
                    if number in (signal.SIGTERM, signal.SIGINT):
                        worker.stop()

    threading.Thread(target=listen, name="listen", daemon=True).start()
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    before = {n: signal.signal(n, lambda *_: None) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        writer.close()


def _log_to_stderr(settings: Settings) -> None:
    """Show what the worker says, unless whoever embeds it has set up logging."""
    if logging.getLogger().handlers or logger.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s | %(levelname)-7s | %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(settings.log_level)


def _reason(error: EparchError) -> str:
    return f"{error} {error.why}".strip()
