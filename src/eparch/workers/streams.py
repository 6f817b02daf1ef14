"""The output of a process: shown as it comes, the last of it kept.

Owns reading two pipes without ever blocking the process or leaking a descriptor. Does not own the process.
"""

from __future__ import annotations

import os
import selectors
import sys
import threading
from collections import deque
from typing import IO

TAIL_LINES = 50
TAIL_BYTES = 16 * 1024
"""What is kept of each stream."""

_CHUNK = 64 * 1024
_LAST_ROUNDS = 64
"""Reads after ``finish``: more than a pipe can hold, but an end even if a descendant goes on writing."""


class Streams:
    """Reads standard output and error of one process until ``finish``."""

    def __init__(self, out: IO[bytes], err: IO[bytes], *, show: bool) -> None:
        self._sources = (out, err)
        self._tails = (_Tail(sys.stdout if show else None), _Tail(sys.stderr if show else None))
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._read, name="job-output", daemon=True)
        self._thread.start()

    def finish(self) -> str:
        """Read what is there, stop reading and return the last lines of standard error.

        A descendant that still holds the pipes is not waited for.
        """
        os.write(self._waker, b"x")
        self._thread.join()
        for descriptor in (self._wake, self._waker):
            os.close(descriptor)
        return self._tails[1].text()

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            for source, tail in zip(self._sources, self._tails, strict=True):
                os.set_blocking(source.fileno(), False)
                selector.register(source, selectors.EVENT_READ, tail)
            selector.register(self._wake, selectors.EVENT_READ)
            left, rounds = len(self._sources), 0
            while left and rounds < _LAST_ROUNDS:
                ready = selector.select(0 if rounds else None)
                if not ready:
                    break
                rounds += bool(rounds)
                for key, _ in ready:
                    if key.data is None:
                        selector.unregister(key.fileobj)
                        rounds = 1
                    elif not _take(key.fd, key.data):
                        selector.unregister(key.fileobj)
                        left -= 1
        for source, tail in zip(self._sources, self._tails, strict=True):
            tail.end()
            source.close()


def _take(descriptor: int, tail: _Tail) -> bool:
    """Read once; false at the end of the stream."""
    try:
        data = os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    if data:
        tail.add(data)
    return bool(data)


class _Tail:
    """The last lines of a stream, each shown once it is whole."""

    def __init__(self, shown_on: IO[str] | None) -> None:
        self.shown_on = shown_on
        self.partial = b""
        self.lines: deque[bytes] = deque(maxlen=TAIL_LINES)

    def add(self, data: bytes) -> None:
        *lines, self.partial = (self.partial + data).split(b"\n")
        if len(self.partial) > _CHUNK:
            lines.append(self.partial)
            self.partial = b""
        self._keep(lines)

    def end(self) -> None:
        if self.partial:
            self._keep([self.partial])
            self.partial = b""

    def text(self) -> str:
        whole = b"\n".join(self.lines)[-TAIL_BYTES:]
        return whole.decode(errors="replace").strip()

    def _keep(self, lines: list[bytes]) -> None:
        if not lines:
            return
        self.lines.extend(line[-TAIL_BYTES:] for line in lines)
        if self.shown_on is not None:
            text = b"\n".join([*lines, b""]).decode(errors="replace")
            try:
                self.shown_on.write(text)
                self.shown_on.flush()
            except (OSError, ValueError):
                # Whoever read the worker's output is gone; the run goes on.
                self.shown_on = None
