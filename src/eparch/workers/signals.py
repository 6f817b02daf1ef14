"""SIGTERM and SIGINT as a request to stop, heard also while the main thread waits.

Does not own what stopping means.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Stoppable(Protocol):
    """What a signal can stop."""

    def stop(self) -> None:
        """Begin to stop; the second time end at once."""


@contextmanager
def stopped_by_signals(worker: Stoppable) -> Iterator[None]:
    """Let SIGTERM and SIGINT stop the worker; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    # The interpreter runs a handler when the main thread comes to it, and a wait may not notice. What it
    # writes into the socket the moment a signal arrives is read by a thread, which can also wait for a lock.
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def listen() -> None:
        with reader:
            while numbers := reader.recv(64):
                for number in numbers:
                    if number in (signal.SIGTERM, signal.SIGINT):
                        worker.stop()

    threading.Thread(target=listen, name="listen", daemon=True).start()
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    before = {n: signal.signal(n, lambda *_: None) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        writer.close()
