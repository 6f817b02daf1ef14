"""What ``task.submit`` and ``task.map`` give back: a future, and a list of them.

Owns waiting. Who runs the task is in ``runners``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from eparch.core.states import State

R = TypeVar("R")

_lock = threading.Lock()
"""One lock for the callbacks of all futures: it is held for an append or a swap only."""


class Future(Generic[R]):
    """A task run that was submitted: its state now, its result later."""

    __slots__ = ("__weakref__", "_callbacks", "_current", "_final", "_watch", "task_run_id")

    def __init__(self, task_run_id: UUID, current: Callable[[], State], watch: Callable[[], Any]) -> None:
        """``current`` reads the state while it is not done, ``watch`` is entered around each wait."""
        self.task_run_id = task_run_id
        self._current = current
        self._watch = watch
        self._final: State | None = None
        self._callbacks: list[Callable[[Future[R]], object]] = []

    @property
    def state(self) -> State:
        """The state of the task run as this process knows it."""
        return self._final or self._current()

    @property
    def done(self) -> bool:
        """Whether the task run is over."""
        return self._final is not None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the task run is over, at most ``timeout`` seconds; it does not say which it was."""
        if self._final is not None:
            return
        event = threading.Event()
        self.add_done_callback(lambda _: event.set())
        if not event.is_set():
            with self._watch():
                event.wait(timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """What the task returned; raises what it raised.

        Raises:
            TimeoutError: it is not over after ``timeout`` seconds.
        """
        self.wait(timeout)
        if self._final is None:
            raise TimeoutError(f"Task run {self.task_run_id} did not complete within {timeout} seconds")
        value: R = self._final.result(raise_on_failure)
        return value

    def add_done_callback(self, fn: Callable[[Future[R]], object]) -> None:
        """Call ``fn`` with this future when it is done, at once if it is."""
        with _lock:
            if self._final is None:
                self._callbacks.append(fn)
                return
        fn(self)

    def finish(self, state: State) -> None:
        """Make it done; for runners."""
        with _lock:
            if self._final is not None:
                return
            self._final = state
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def __repr__(self) -> str:
        return f"Future({self.task_run_id}, {self.state.name})"


class FutureList(list[Future[R]]):
    """Futures in the order in which their tasks were submitted."""

    def wait(self, timeout: float | None = None) -> None:
        """Wait for all of them, at most ``timeout`` seconds altogether."""
        wait(self, timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[R]:
        """All results.

        Raises:
            TimeoutError: they are not all over after ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        return [future.result(_left(deadline), raise_on_failure) for future in self]


class DoneAndNotDone(NamedTuple):
    """What ``wait`` says."""

    done: set[Future[Any]]
    not_done: set[Future[Any]]


def wait(futures: Iterable[Future[Any]], timeout: float | None = None) -> DoneAndNotDone:
    """Wait until all ``futures`` are done, at most ``timeout`` seconds; says which are."""
    all_ = list(futures)
    deadline = None if timeout is None else time.monotonic() + timeout
    for future in all_:
        future.wait(_left(deadline))
    done = {future for future in all_ if future.done}
    return DoneAndNotDone(done, set(all_) - done)


def as_completed(futures: Iterable[Future[Any]], timeout: float | None = None) -> Iterator[Future[Any]]:
    """The ``futures`` in the order in which they are done.

    Raises:
        TimeoutError: they are not all done after ``timeout`` seconds.
    """
    import queue

    all_ = list(dict.fromkeys(futures))
    deadline = None if timeout is None else time.monotonic() + timeout
    ready: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    for future in all_:
        future.add_done_callback(ready.put)
    for number in range(len(all_)):
        try:
            with all_[0]._watch():
                done = ready.get(timeout=_left(deadline))
        except queue.Empty:
            raise TimeoutError(f"{len(all_) - number} (of {len(all_)}) futures unfinished") from None
        yield done


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)


def futures_in(value: Any) -> Sequence[Future[Any]]:
    """Futures that a run returned, at the top of the value."""
    if isinstance(value, Future):
        return (value,)
    if type(value) in (list, tuple, set, frozenset) or isinstance(value, list):
        return [item for item in value if isinstance(item, Future)]
    if type(value) is dict:
        return [item for item in value.values() if isinstance(item, Future)]
    return ()
