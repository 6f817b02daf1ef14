"""What a worker's process tells the server of itself: how it is, and what it says (rows W11, W12, W29).

Owns the report, and the shipping of the worker's own log. When to report is decided by the worker.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from msgspec.structs import replace

from eparch.core import calls
from eparch.core.errors import EparchError
from eparch.core.model import new_id
from eparch.core.worker_instances import (
    MAX_LINES,
    MAX_RUNS,
    About,
    WorkerLineCreate,
    WorkerLines,
    WorkerOrder,
    WorkerReport,
)
from eparch.settings import Settings
from eparch.version import __version__
from eparch.workers.infrastructure import types
from eparch.workers.options import WorkerOptions
from eparch.workers.run_log import NAME
from eparch.workers.sources import Sender

WAITING = 1000
"""Lines that wait while the server does not answer; the oldest ones are dropped."""

SHIP_SECONDS = 1.0
"""How long lines are collected."""

LEAVE_SECONDS = 5.0
"""A worker that leaves waits so long for the server to hear of it."""

MAX_MESSAGE = 10_000


class Instance:
    """This process, as the server knows it; safe for many threads."""

    def __init__(
        self, sender: Sender, options: WorkerOptions, settings: Settings, name: str, poll_seconds: float
    ) -> None:
        """It asks for runs at least every ``poll_seconds`` while it takes any."""
        self.id = new_id()
        self._sender, self._options = sender, options
        self._lock = threading.Lock()
        self._stopped = False
        self._body = WorkerReport(
            id=self.id, name=name, started_at=datetime.now(UTC),
            heartbeat_interval_seconds=settings.worker_heartbeat_seconds, poll_interval_seconds=poll_seconds,
        )  # fmt: skip
        self._about = About(
            host=socket.gethostname()[:255], pid=os.getpid(), software="eparch", version=__version__,
            python=platform.python_version(), platform=platform.platform()[:255], types=list(types())[:100],
            labels=dict(options.labels), capacity=options.limit,
        )  # fmt: skip

    def report(
        self, runs: Sequence[UUID], *, is_draining: Callable[[], bool], stopped: bool = False
    ) -> WorkerOrder:
        """Say how it is; what it is to do. After ``stopped`` nothing more is said.

        It is asked whether it drains when its turn has come, so that no report undoes what a later one said.

        Raises:
            EparchError: the server did not hear it.
        """
        with self._lock:
            if self._stopped:
                return WorkerOrder.WORK
            self._stopped = stopped
            draining = is_draining()
            about = replace(self._about, runs=list(runs)[:MAX_RUNS])
            body = replace(self._body, draining=draining, stopped=stopped, about=about)
            pool = self._options.pool
            call = calls.report_worker(work_pool_name=pool, body=body)
            return self._sender.send(call, timeout=LEAVE_SECONDS if draining or stopped else None).order


class Shipping(logging.Handler):
    """Sends what the worker says to the server, from a thread of its own; nobody waits for it."""

    def __init__(self, sender: Sender, instance_id: UUID, level: str) -> None:
        super().__init__(level)
        self._sender, self._id = sender, instance_id
        self._lines: deque[WorkerLineCreate] = deque(maxlen=WAITING)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ship_all, name="worker-log", daemon=True)

    def begin(self) -> None:
        """Listen to the worker's log."""
        logging.getLogger(NAME).addHandler(self)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line until it is sent."""
        try:
            text = self.format(record)[:MAX_MESSAGE]
        except Exception:
            self.handleError(record)
            return
        when = datetime.fromtimestamp(record.created, UTC)
        self._lines.append(WorkerLineCreate(timestamp=when, level=max(record.levelno, 0), message=text))

    def end(self, seconds: float = 5.0) -> None:
        """Listen no more and send what waits, for at most ``seconds``."""
        logging.getLogger(NAME).removeHandler(self)
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _ship_all(self) -> None:
        last = False
        while not last:
            last = self._over.wait(SHIP_SECONDS)
            while self._lines and self._ship():
                pass

    def _ship(self) -> bool:
        """Send some lines; False if they are to be sent later."""
        batch = [self._lines.popleft() for _ in range(min(len(self._lines), MAX_LINES))]
        try:
            self._sender.send(calls.create_worker_logs(id=self._id, body=WorkerLines(lines=batch)))
        except EparchError:
            # Saying so would be one more line; the loops of the worker say that the server is not there.
            room = WAITING - len(self._lines)
            self._lines.extendleft(reversed(batch[-room:] if room > 0 else []))
            return False
        return True
