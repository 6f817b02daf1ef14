"""Ships task states and log lines in batches from one background thread.

Task states are events that the server acknowledges (docs/adr, "Task states over POST /events"): ``flush``
returns when all are recorded. Log lines are sent with care, but never at the run's cost. Owns batching,
memory bounds and patience; what an event says is in ``task_events``, single retries are the client's.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from eparch.core import calls
from eparch.core.calls import Call
from eparch.core.errors import (
    BadRequest,
    EparchError,
    Invalid,
    Locked,
    ServerFault,
    TooLarge,
    Unavailable,
    Unreachable,
)
from eparch.core.model import encode

BATCH = 500
BATCH_BYTES = 2_000_000
"""Well below what a server takes in one body."""
INTERVAL = 0.1
MAX_QUEUED = 20_000
MAX_QUEUED_BYTES = 64_000_000
PATIENCE = 300.0
"""Seconds without any success after which states are given up: a day-long outage must not hold the job."""
PASSING = (Unreachable, Unavailable, ServerFault, Locked)
REFUSED = (Invalid, BadRequest, TooLarge)


class Queue:
    """Encoded items that wait to be sent, bounded in number and bytes."""

    __slots__ = ("_items", "added", "bytes", "gone")

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self.bytes = 0
        self.added = 0
        self.gone = 0
        """How many were sent or given up."""

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """Whether nothing more may be added."""
        return len(self._items) >= MAX_QUEUED or self.bytes >= MAX_QUEUED_BYTES

    def add(self, item: bytes) -> None:
        """Add at the end."""
        self._items.append(item)
        self.bytes += len(item)
        self.added += 1

    def drop_oldest(self) -> None:
        """Forget the first."""
        self.bytes -= len(self._items.popleft())
        self.gone += 1

    def batch(self) -> list[bytes]:
        """The first items, as many as go into one request; they stay until ``remove_to``."""
        batch: list[bytes] = []
        size = 0
        for item in self._items:
            size += len(item)
            if batch and (size > BATCH_BYTES or len(batch) >= BATCH):
                break
            batch.append(item)
        return batch

    def remove_to(self, end: int) -> None:
        """Forget all up to the one that was added as number ``end``."""
        while self.gone < end:
            self.drop_oldest()


class Reporter:
    """The background thread and its two queues. Thread-safe."""

    def __init__(
        self, send: Callable[[Call[Any]], Any], *, interval: float = INTERVAL, patience: float = PATIENCE
    ) -> None:
        """``send`` is a client's; ``interval`` is how long (seconds) items may gather."""
        self._send = send
        self._interval = interval
        self._patience = patience
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._moved = threading.Condition(self._lock)
        self._states = Queue()
        self._lines = Queue()
        self._urgent = 0
        self._closing = False
        self._thread: threading.Thread | None = None
        self._given_up: EparchError | None = None
        self._lost_lines = 0
        self._sending = 0
        """Number of the last line that is on its way."""

    @property
    def full(self) -> bool:
        """Whether ``report`` would have to wait."""
        return self._states.full and self._given_up is None

    def report(self, event: Any) -> None:
        """Queue a task state; waits while the queue is full (back-pressure)."""
        item = encode(event)
        with self._lock:
            while self._states.full and self._given_up is None:
                self._urgent += 1
                self._wake.notify()
                self._moved.wait()
                self._urgent -= 1
            self._states.add(item)
            self._stir(len(self._states))

    def log(self, line: Any) -> None:
        """Queue a log line; the oldest is dropped when the queue is full. Never waits."""
        item = encode(line)
        with self._lock:
            while self._lines.full:
                self._lines.drop_oldest()
                self._lost_lines += self._lines.gone > self._sending  # what is on its way is not lost
            self._lines.add(item)
            self._stir(len(self._lines))

    def wait_for_room(self) -> None:
        """Wait until ``report`` would not have to."""
        with self._lock:
            self._wake.notify()
            self._moved.wait_for(lambda: not self.full)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every task state reported so far is recorded, and every line sent or lost.

        Waits at most ``timeout`` seconds and says whether it is so.

        Raises:
            EparchError: states could not be recorded.
        """
        with self._lock:
            states, lines = self._states.added, self._lines.added
            self._urgent += 1
            try:
                if self._states or self._lines:
                    self._stir(BATCH)
                empty = self._moved.wait_for(
                    lambda: self._states.gone >= states and self._lines.gone >= lines, timeout
                )
            finally:
                self._urgent -= 1
            error, self._given_up = self._given_up, None
        if error is not None:
            raise error
        return empty

    def close(self, timeout: float = 10.0) -> None:
        """Send what is queued, at most for ``timeout`` seconds, and end the thread."""
        with self._lock:
            self._closing = True
            thread = self._thread
            self._wake.notify()
        if thread is not None:
            thread.join(timeout)

    def _stir(self, length: int) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="eparch-reporter", daemon=True)
            self._thread.start()
        elif length == 1 or length >= BATCH:
            self._wake.notify()

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._states and not self._lines:
                    if self._closing:
                        self._thread = None
                        return
                    self._wake.wait()
                if not self._hurry():
                    self._wake.wait(self._interval)
                states, lines = self._states.batch(), self._lines.batch()
                self._sending = self._lines.gone + len(lines)
                ends = self._states.gone + len(states), self._sending
            if states:
                self._ship_states(states, ends[0])
            if lines:
                self._ship_lines(lines, ends[1])

    def _hurry(self) -> bool:
        return bool(self._urgent or self._closing or len(self._states) >= BATCH or len(self._lines) >= BATCH)

    def _ship_states(self, batch: list[bytes], end: int) -> None:
        since = time.monotonic()
        pause = 0.1
        while True:
            try:
                self._post_states(batch)
            except PASSING as error:
                if time.monotonic() - since > self._patience or self._closing:
                    self._give_up(error)
                    return
                time.sleep(pause)
                pause = min(pause * 2, 5.0)
            except Exception as error:
                self._give_up(error)
                return
            else:
                self._done(self._states, end)
                return

    def _post_states(self, batch: list[bytes]) -> None:
        """Send ``batch``; what the server refuses is found by halving and left out, the rest is recorded."""
        try:
            self._send(calls.create_events(body=[msgspec.Raw(item) for item in batch]))
        except REFUSED as error:
            if len(batch) == 1:
                _complain(f"The server refused a task state: {error}")
                return
            half = len(batch) // 2
            self._post_states(batch[:half])
            self._post_states(batch[half:])

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            count = len(self._states)
            kind: type[EparchError] = type(error) if isinstance(error, EparchError) else EparchError
            given_up = kind(
                f"{count} task states could not be recorded: {error}", fix=getattr(error, "fix", "")
            )
            given_up.__cause__ = error
            self._given_up = given_up
            self._states.remove_to(self._states.added)
            self._moved.notify_all()

    def _ship_lines(self, batch: list[bytes], end: int) -> None:
        with self._lock:
            lost, self._lost_lines = self._lost_lines, 0
        try:
            self._send(calls.create_logs(body=[msgspec.Raw(item) for item in batch]))
        except Exception as error:
            lost += len(batch)
            _complain(f"{lost} log lines could not be sent: {error}")
        else:
            if lost:
                _complain(f"{lost} log lines were dropped: they came faster than they could be sent")
        self._done(self._lines, end)

    def _done(self, queue: Queue, end: int) -> None:
        with self._lock:
            queue.remove_to(end)
            self._moved.notify_all()


def _complain(text: str) -> None:
    print(f"eparch: {text}", file=sys.stderr)  # noqa: T201 - a logger would come back here
