"""The way from a worker to the holder of a job: a socket on which both say JSON lines.

Owns saying, hearing, and the start of a holder as a process of its own. Does not own what is said.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

_HOLDER = (sys.executable, "-P", "-m", "eparch.workers.holder")


class Holding:
    """One holder, seen from the worker; ``gone`` waits until its process has ended. Many say, one hears."""

    def __init__(self, connection: socket.socket, gone: Callable[[], object] = lambda: None) -> None:
        self.gone = gone
        self._connection = connection
        self._reader = connection.makefile("rb")
        self._saying = threading.Lock()

    def say(self, **message: Any) -> None:
        """Tell the holder; one that is gone needs nothing."""
        with self._saying, suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def hear(self, seconds: float | None = None) -> dict[str, Any]:
        """The next thing that it says; empty at the end, and after ``seconds``, which is an end as well."""
        line = b""
        with suppress(OSError):
            self._connection.settimeout(seconds)
            line = self._reader.readline()
            self._connection.settimeout(None)
        return dict(json.loads(line)) if line.endswith(b"\n") else {}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All that it says, to the end."""
        while message := self.hear():
            yield message

    def leave(self) -> None:
        """Say and hear no more; it goes on."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back."""
        with self._saying:
            self._reader.close()
            self._connection.close()


def start_holder() -> Holding:
    """A holder in a new interpreter.

    Raises:
        OSError: there can be no further process.
    """
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(
                _HOLDER,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
    except OSError:
        ours.close()
        raise
    return Holding(ours, process.wait)
