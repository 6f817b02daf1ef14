"""Where submitted tasks run: a pool of threads that is as large as it has to be.

A task whose arguments wait for others holds no thread: it is queued when they are done. A thread that waits
for a future does not count, so that a small pool cannot block itself (row B9).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol

from eparch.core.errors import Usage
from eparch.sdk.futures import Future

EAGER_THREADS = 4
"""So many threads are started at once; more only when all of them have been busy for ``PATIENCE``.

Threads share one interpreter lock: for short tasks more of them are slower, for waiting tasks they are free.
"""
PATIENCE = 0.005
IDLE_SECONDS = 5.0

Job = Callable[[bool], None]
"""Runs a task; with True it is told that it will not run."""


class Pool(Protocol):
    """Runs the tasks of one flow run."""

    def submit(self, job: Job, after: Sequence[Future[Any]] = ()) -> None:
        """Run ``job`` when all of ``after`` are done; soon, in any thread."""

    def waits(self) -> Any:
        """A context for a wait on a future: while in it, a thread of the pool does not count."""

    def settle(self, drop: bool = False, timeout: float | None = None) -> bool:
        """Wait until every submitted job is over, at most ``timeout`` seconds; says whether they are.

        With ``drop`` those that have not begun never do.
        """

    def close(self) -> None:
        """Let the threads go; nothing is submitted after."""


class TaskRunner(Protocol):
    """Makes a pool for each run of a flow: ``@flow(task_runner=...)``."""

    def open(self) -> Pool:
        """A pool of its own."""


class ThreadPoolTaskRunner:
    """Runs tasks in threads of the flow's process; the default.

    ``max_workers`` bounds how many run at the same time; without it there is a thread for each that waits.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is not None and max_workers < 1:
            raise Usage(f"max_workers is {max_workers}.", fix="Give 1 or more, or None for no bound.")
        self.max_workers = max_workers

    def open(self) -> Threads:
        """A pool of its own."""
        return Threads(self.max_workers or 1_000)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ThreadPoolTaskRunner) and self.max_workers == other.max_workers

    def __hash__(self) -> int:
        return hash(self.max_workers)


class Threads:
    """A pool of threads, started when there is work and gone when there is none."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._over = threading.Condition(self._lock)
        self._queue: deque[Job] = deque()
        self._members: set[int] = set()
        self._threads = 0
        self._idle = 0
        self._blocked = 0
        self._unfinished = 0
        self._begun = 0
        self._watched = False
        self._dropping = False
        self._closed = False

    def submit(self, job: Job, after: Sequence[Future[Any]] = ()) -> None:
        """Run ``job`` when all of ``after`` are done."""
        with self._lock:
            self._unfinished += 1
        waiting = [future for future in after if not future.done]
        if not waiting:
            self._enqueue(job)
            return
        left = _Countdown(len(waiting), lambda: self._enqueue(job))
        for future in waiting:
            future.add_done_callback(left)

    def _enqueue(self, job: Job) -> None:
        with self._lock:
            self._queue.append(job)
            if self._idle:
                self._work.notify()
            if len(self._queue) > self._idle:  # those that were told and have not come yet are still idle
                self._grow()

    def _grow(self) -> None:
        if self._threads < min(EAGER_THREADS, self.most) + self._blocked:
            self._start()
        elif not self._watched and self._threads < self.most + self._blocked:
            self._watched = True
            threading.Thread(target=self._watch, name="eparch-pool", daemon=True).start()

    def _start(self) -> None:
        self._threads += 1
        threading.Thread(target=self._serve, name="eparch-task", daemon=True).start()

    def _serve(self) -> None:
        me = threading.get_ident()
        with self._lock:
            self._members.add(me)
        try:
            while (job := self._next()) is not None:
                try:
                    job(self._dropping)
                finally:
                    del job
                    with self._lock:
                        self._unfinished -= 1
                        if not self._unfinished:
                            self._over.notify_all()
        finally:
            with self._lock:
                self._members.discard(me)
                self._threads -= 1

    def _next(self) -> Job | None:
        with self._lock:
            if self._threads > self.most + self._blocked:
                return None
            while not self._queue:
                if self._closed:
                    return None
                self._idle += 1
                came = self._work.wait(IDLE_SECONDS)
                self._idle -= 1
                if not came and not self._queue:
                    return None
            self._begun += 1
            return self._queue.popleft()

    def _watch(self) -> None:
        """Add threads while work is queued and none is begun: what runs is waiting for something."""
        more = 1
        while True:
            before = self._begun
            time.sleep(PATIENCE)
            with self._lock:
                room = self.most + self._blocked - self._threads
                if not self._queue or self._closed:
                    self._watched = False
                    return
                if self._begun != before:
                    more = 1
                    continue
                for _ in range(min(more, room, len(self._queue))):
                    self._start()
                more *= 2

    def waits(self) -> _Waiting:
        """A context for a wait: meanwhile a thread of this pool makes room for another."""
        return _Waiting(self)

    def settle(self, drop: bool = False, timeout: float | None = None) -> bool:
        """Wait until every submitted job is over, at most ``timeout`` seconds; says whether they are."""
        with self._lock:
            self._dropping = self._dropping or drop
            over = self._over.wait_for(lambda: not self._unfinished, timeout)
            if over:
                self._dropping = False
            return over

    def close(self) -> None:
        """Let the threads go."""
        with self._lock:
            self._closed = True
            self._work.notify_all()


class _Countdown:
    """Calls ``then`` when it was called ``left`` times."""

    __slots__ = ("_left", "_lock", "_then")

    def __init__(self, left: int, then: Callable[[], None]) -> None:
        self._left = left
        self._then = then
        self._lock = threading.Lock()

    def __call__(self, _: object) -> None:
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            self._then()


class _Waiting:
    __slots__ = ("_counted", "_pool")

    def __init__(self, pool: Threads) -> None:
        self._pool = pool
        self._counted = False

    def __enter__(self) -> None:
        pool = self._pool
        if threading.get_ident() not in pool._members:
            return
        with pool._lock:
            self._counted = True
            pool._blocked += 1
            if len(pool._queue) > pool._idle:
                pool._grow()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._counted:
            with self._pool._lock:
                self._pool._blocked -= 1
