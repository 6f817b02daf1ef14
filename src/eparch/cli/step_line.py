"""The line below everything else that says which steps run, and for how long; on a terminal only.

Owns that line. What steps print stays above it, as it would be without it.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

EVERY = 0.2
"""Seconds between two pictures."""

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_CLEAR = "\r\x1b[2K"


class StepLine:
    """A context: within it, ``note`` writes lines above and ``watch`` says what runs."""

    def __init__(
        self,
        note: Callable[[str], None],
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``note`` writes a line to ``stream``, which is stderr; without a terminal nothing else happens."""
        self._note, self._stream, self._clock = note, stream or sys.stderr, clock
        self._live = self._stream.isatty()
        self._begun: dict[str, float] = {}
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._frame = 0

    def __enter__(self) -> StepLine:
        if self._live:
            threading.Thread(target=self._turn, name="step-line", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.watch(())

    def note(self, line: str) -> None:
        """Write a line above."""
        with self._lock:
            self._wipe()
            self._note(line)
            self._draw()

    def watch(self, running: tuple[str, ...]) -> None:
        """These steps run now."""
        with self._lock:
            now = self._clock()
            self._wipe()
            self._begun = {name: self._begun.get(name, now) for name in running}
            self._draw()

    def _turn(self) -> None:
        while not self._over.wait(EVERY):
            with self._lock:
                self._frame += 1
                self._draw()

    def _wipe(self) -> None:
        if self._live and self._begun:
            self._stream.write(_CLEAR)
            self._stream.flush()

    def _draw(self) -> None:
        if not self._live or not self._begun:
            return
        now = self._clock()
        steps = " · ".join(f"{name} {now - begun:.0f} s" for name, begun in self._begun.items())
        width = shutil.get_terminal_size().columns - 3
        self._stream.write(f"{_CLEAR}{_FRAMES[self._frame % len(_FRAMES)]} {steps[:width]}")
        self._stream.flush()
