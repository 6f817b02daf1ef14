"""What a container writes: shown line by line, the last of it kept, nothing lost when the engine goes away.

Owns following both streams, and reading on after a break where it ended. The engine keeps the output, so a
worker that takes a container over has all of it. Does not own the lines themselves.
"""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from functools import partial

from eparch.core.errors import InfrastructureError
from eparch.workers.docker_engine import Container, Engine
from eparch.workers.docker_faults import EngineAway
from eparch.workers.timed_output import TimedStream
from eparch.workers.waiting_out import patiently

logger = logging.getLogger("eparch.worker")

_LAST = 10.0
"""Seconds for which a stream that does not end with its container is waited for."""

_REST = 45.0
"""Seconds for which an engine that starts again is waited for, to have the last lines."""

_PAUSE = 1.0
"""Seconds before a stream that broke is read on."""


class Output:
    """Follows the output of one container until ``finish``."""

    def __init__(self, engine: Engine, container: Container, *, show: bool) -> None:
        self._engine, self._id, self._tty = engine, container.id, container.tty
        self._over = threading.Event()
        names = (False,) if self._tty else (False, True)
        self._streams = [TimedStream(error, show) for error in names]
        self._threads = [
            threading.Thread(target=self._follow, args=(stream,), name="container-output", daemon=True)
            for stream in self._streams
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> str:
        """Read what is left of one that is over; the last lines of its standard error, or else of its output:
        many programs write their faults there.
        """
        self._over.set()
        for thread in self._threads:
            thread.join(_LAST)
        for stream in self._streams:
            if not self._tty:
                self._read_rest(stream)
            stream.end()
        return self._streams[-1].lines.tail() or self._streams[0].lines.tail()

    def _follow(self, stream: TimedStream) -> None:
        while not self._over.is_set():
            whole = self._read(stream, follow=True)
            if whole or self._tty:
                return
            self._over.wait(_PAUSE)

    def _read_rest(self, stream: TimedStream) -> None:
        """Its last lines, also from an engine that is busy when it is asked first."""
        try:
            patiently(partial(self._take, stream, follow=False), _REST, EngineAway)
        except InfrastructureError as error:
            logger.debug("The last output of the container %s cannot be read: %s", self._id, error)

    def _read(self, stream: TimedStream, *, follow: bool) -> bool:
        """Take what comes; whether it came to its end."""
        try:
            self._take(stream, follow=follow)
        except InfrastructureError as error:
            logger.debug("The output of the container %s cannot be read now: %s", self._id, error)
            return False
        return True

    def _take(self, stream: TimedStream, *, follow: bool) -> None:
        pieces = (
            self._engine.terminal(self._id)
            if self._tty
            else self._engine.logs(self._id, error=stream.error, since=stream.since, follow=follow)
        )
        stream.begin()
        with closing(pieces):
            for piece in pieces:
                stream.take(piece, timed=not self._tty)
