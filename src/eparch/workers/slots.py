"""How many runs a worker has room for (row W6)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from eparch.workers.sources import MOST


class Slots:
    """Counts what is taken of ``limit``; None is no limit. Safe for many threads."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._taken = 0
        self._open = True
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        """How many are in use."""
        with self._changed:
            return self._taken

    @property
    def free(self) -> int:
        """How many more runs may be taken now."""
        with self._changed:
            return self._free()

    @property
    def is_open(self) -> bool:
        """Whether more runs are taken at all."""
        with self._changed:
            return self._open

    def set_open(self, value: bool) -> None:
        """Take runs, or no more of them: then there is no room, whatever is taken."""
        with self._changed:
            self._open = value
            self._changed.notify_all()

    def take(self) -> None:
        """Use one; the caller has asked ``free``."""
        with self._changed:
            self._taken += 1
            self._changed.notify_all()

    @contextmanager
    def released_after(self) -> Iterator[None]:
        """Give one back when the block is left, however it is left."""
        try:
            yield
        finally:
            with self._changed:
                self._taken -= 1
                self._changed.notify_all()

    def wait_free(self, seconds: float) -> bool:
        """Wait for room, at most ``seconds``; whether there is some."""
        with self._changed:
            return self._changed.wait_for(lambda: self._free() > 0, seconds)

    def wait_full(self, seconds: float) -> bool:
        """Wait until there is no room, at most ``seconds``; whether there is none."""
        with self._changed:
            return self._changed.wait_for(lambda: self._free() == 0, seconds)

    def _free(self) -> int:
        if not self._open:
            return 0
        return MOST if self.limit is None else max(self.limit - self._taken, 0)
