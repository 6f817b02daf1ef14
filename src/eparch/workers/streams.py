"""The output of a process as lines: the last of it kept.

Owns cutting bytes into whole lines and bounding what is kept. Does not own reading, or where lines go.
Imports little: it is part of the process that holds a job.
"""

from __future__ import annotations

from collections import deque

TAIL_LINES = 50
TAIL_BYTES = 16 * 1024
"""What is kept of each stream."""

CHUNK = 64 * 1024
"""Bytes read at once; a line that is longer is cut."""


class Lines:
    """One stream of a process."""

    def __init__(self) -> None:
        self._partial = b""
        self._last: deque[bytes] = deque(maxlen=TAIL_LINES)

    def add(self, data: bytes) -> str:
        """Take what was read; the lines that became whole by it, as text that may be shown."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > CHUNK:
            lines.append(self._partial)
            self._partial = b""
        return self._keep(lines)

    def end(self) -> str:
        """The line that has no end."""
        lines = [self._partial] if self._partial else []
        self._partial = b""
        return self._keep(lines)

    def tail(self) -> str:
        """The last lines."""
        return b"\n".join(self._last)[-TAIL_BYTES:].decode(errors="replace").strip()

    def _keep(self, lines: list[bytes]) -> str:
        if not lines:
            return ""
        self._last.extend(line[-TAIL_BYTES:] for line in lines)
        return b"\n".join([*lines, b""]).decode(errors="replace")
