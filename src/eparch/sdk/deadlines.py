"""Ends a function that takes too long, from outside, by raising ``TimedOut`` in its thread.

In the main thread an alarm signal interrupts even a blocking call. In other threads the interpreter raises it
between two steps of Python, so a long call into C ends first.
"""

from __future__ import annotations

import ctypes
import heapq
import itertools
import signal
import threading
import time
from types import TracebackType
from typing import Any

from eparch.core.errors import TimedOut

_count = itertools.count()


class Deadline:
    """``with Deadline(seconds):`` raises ``TimedOut`` in the block when it takes longer."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.expired = False
        self.running = False
        self._kind = type("TimedOut", (TimedOut,), {"scope": self, "__module__": TimedOut.__module__})
        """Its own kind of error, from which one can tell whose it is."""
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._over = False
        self._handler: Any = None
        self._alarm = (
            threading.current_thread() is threading.main_thread()
            and hasattr(signal, "setitimer")
            and signal.getitimer(signal.ITIMER_REAL)[0] == 0.0
        )

    def __enter__(self) -> Deadline:
        self.running = True
        if self._alarm:
            self._handler = signal.signal(signal.SIGALRM, self._ring)
            signal.setitimer(signal.ITIMER_REAL, max(self.seconds, 1e-6))
        else:
            _watcher.add(time.monotonic() + self.seconds, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.running = False
        if self._alarm:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._handler)
            return
        with self._lock:
            self._over = True
        if self.expired and kind is None:  # it was over in the moment in which it was too late
            _raise_in(self._thread, None)
            raise self._kind

    def _ring(self, *_: object) -> None:
        self.expired = True
        raise self._kind

    def fire(self) -> None:
        """Raise ``TimedOut`` in the block's thread unless the block is over; for the watcher."""
        with self._lock:
            if not self._over:
                self.expired = True
                _raise_in(self._thread, self._kind)


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    error = ctypes.py_object(kind) if kind is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)


class _Watcher:
    """One thread that fires deadlines in the order in which they are due; it runs while there are any."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Deadline]] = []
        self._running = False

    def add(self, when: float, deadline: Deadline) -> None:
        """Fire ``deadline`` at ``when``, on the monotonic clock."""
        with self._changed:
            heapq.heappush(self._due, (when, next(_count), deadline))
            if not self._running:
                self._running = True
                threading.Thread(target=self._watch, name="eparch-deadlines", daemon=True).start()
            elif self._due[0][2] is deadline:
                self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                if not self._due:
                    self._running = False
                    return
                when, _, deadline = self._due[0]
                left = when - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                heapq.heappop(self._due)
            deadline.fire()


_watcher = _Watcher()
