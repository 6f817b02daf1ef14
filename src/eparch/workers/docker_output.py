"""What a container writes: shown line by line, the last of it kept, nothing lost when the engine goes away.

Owns following both streams, and reading on after a break where it ended. The engine keeps the output, so a
worker that takes a container over has all of it. Does not own the lines themselves.
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime

from eparch.core.errors import InfrastructureError
from eparch.workers.docker_engine import Container, Engine
from eparch.workers.streams import Lines

logger = logging.getLogger("eparch.worker")

_LAST = 10.0
"""Seconds for which a stream that does not end with its container is waited for."""

_PAUSE = 1.0
"""Seconds before a stream that broke is read on."""


class Output:
    """Follows the output of one container until ``finish``."""

    def __init__(self, engine: Engine, container: Container, *, show: bool) -> None:
        self._engine, self._id, self._tty = engine, container.id, container.tty
        self._over = threading.Event()
        names = (False,) if self._tty else (False, True)
        self._streams = [_Stream(error, show) for error in names]
        self._threads = [
            threading.Thread(target=self._follow, args=(stream,), name="container-output", daemon=True)
            for stream in self._streams
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> str:
        """Read what is left of one that is over; the last lines of its standard error."""
        self._over.set()
        for thread in self._threads:
            thread.join(_LAST)
        for stream in self._streams:
            if not self._tty:
                self._read(stream, follow=False)
            stream.end()
        return self._streams[-1].lines.tail()

    def _follow(self, stream: _Stream) -> None:
        while not self._over.is_set():
            whole = self._read(stream, follow=True)
            if whole or self._tty:
                return
            self._over.wait(_PAUSE)

    def _read(self, stream: _Stream, *, follow: bool) -> bool:
        """Take what comes; whether it came to its end."""
        pieces = (
            self._engine.terminal(self._id)
            if self._tty
            else self._engine.logs(self._id, error=stream.error, since=stream.since, follow=follow)
        )
        stream.begin()
        try:
            with closing(pieces):
                for piece in pieces:
                    stream.take(piece, timed=not self._tty)
        except InfrastructureError as error:
            logger.debug("The output of the container %s cannot be read now: %s", self._id, error)
            return False
        return True


class _Stream:
    """Standard output or error of a container, and how far it was read."""

    def __init__(self, error: bool, show: bool) -> None:
        self.error = error
        self.lines = Lines()
        self._shown_on = (sys.stderr if error else sys.stdout) if show else None
        self._lock = threading.Lock()
        self._last, self._at_last = b"", 0
        self._skip = 0
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
        self._skip = self._at_last

    def take(self, piece: bytes, *, timed: bool) -> None:
        """One piece of output; with its time before it, one that was taken already is known by that."""
        with self._lock:
            if self._ended:
                return
            if timed:
                when, _, piece = piece.partition(b" ")
                if when < self._last:
                    return
                if when == self._last and self._skip:
                    self._skip -= 1
                    return
                if when == self._last:
                    self._at_last += 1
                else:
                    self._last, self._at_last, self._skip = when, 1, 0
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
