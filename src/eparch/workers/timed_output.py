"""The output of a container whose engine tells the time of each piece: read on after a break, nothing twice.

Owns how far a stream was read, and showing it. Does not own asking for it.
"""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime

from eparch.workers.streams import Lines


class TimedStream:
    """Standard output or error of a container, and how far it was read."""

    def __init__(self, error: bool, show: bool) -> None:
        """``error`` is whether it is standard error, ``show`` whether it is repeated on our own."""
        self.error = error
        self.lines = Lines()
        self._shown_on = (sys.stderr if error else sys.stdout) if show else None
        self._lock = threading.Lock()
        self._last, self._at_last = b"", 0
        self._until, self._skip = b"", 0
        self._ended = False

    @property
    def since(self) -> int:
        """Epoch seconds from which on pieces may be new."""
        try:
            seen = datetime.fromisoformat(self._last[:19].decode()).replace(tzinfo=UTC)
        except ValueError:
            return 0
        return int(seen.timestamp())

    def begin(self) -> None:
        """Reading starts again: what was taken already will come once more."""
        with self._lock:
            self._until, self._skip = self._last, self._at_last

    def take(self, piece: bytes, *, timed: bool) -> None:
        """One piece of output; with its time before it, one that was taken already is known by that."""
        with self._lock:
            if self._ended:
                return
            if timed:
                when, _, piece = piece.partition(b" ")
                if when < self._until:
                    return
                if when == self._until and self._skip:
                    self._skip -= 1
                    return
                # Two streams in one may come a little out of order.
                if when == self._last:
                    self._at_last += 1
                elif when > self._last:
                    self._last, self._at_last = when, 1
            self._show(self.lines.add(piece))

    def end(self) -> None:
        """Nothing more is taken."""
        with self._lock:
            self._ended = True
            self._show(self.lines.end())

    def _show(self, text: str) -> None:
        if not text or self._shown_on is None:
            return
        try:
            self._shown_on.write(text)
            self._shown_on.flush()
        except (OSError, ValueError):
            # Whoever read the worker's output is gone; the run goes on.
            self._shown_on = None
