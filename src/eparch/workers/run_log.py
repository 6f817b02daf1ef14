"""What a worker says about a run, in the log of that run.

Owns batching and sending; a line that cannot be sent is dropped, the worker's own log has it too.
"""

from __future__ import annotations

import logging
import queue
import threading
from datetime import UTC, datetime
from uuid import UUID

from eparch.core import calls
from eparch.core.errors import EparchError
from eparch.core.records import LogCreate
from eparch.workers.sources import Sender

NAME = "eparch.worker"
_BATCH = 200
_WAITING = 10_000
"""Lines kept while the server does not answer; more are dropped."""

logger = logging.getLogger(NAME)


class RunLog:
    """Sends lines from a thread of its own, so that starting a run never waits for its log."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._lines: queue.Queue[LogCreate | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._send_all, name="run-log", daemon=True)
        self._thread.start()

    def write(self, run_id: UUID, message: str, level: int = logging.INFO) -> None:
        """Say it here and in the run's log."""
        logger.log(level, "%s", message)
        line = LogCreate(
            name=NAME, level=level, message=message, timestamp=datetime.now(UTC), flow_run_id=run_id
        )
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            logger.debug("A line for the run %s was dropped", run_id)

    def close(self, seconds: float = 5.0) -> None:
        """Send what waits, for at most ``seconds``."""
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _send_all(self) -> None:
        last = False
        while not last:
            batch = [self._lines.get()]
            while len(batch) < _BATCH and not self._lines.empty():
                batch.append(self._lines.get())
            last = None in batch
            lines = [line for line in batch if line is not None]
            if not lines:
                continue
            try:
                self._sender.send(calls.create_logs(body=lines))
            except EparchError as error:
                logger.debug("Lines of runs were not sent: %s", error)
