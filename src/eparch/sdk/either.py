"""Functions that can be called and awaited: one implementation for sync and async code, as Prefect has.

Called from an async flow or task, or on an event loop outside of runs, such a function gives something to
await; else it does its work at once. Its work never blocks the loop.
"""

from __future__ import annotations

import concurrent.futures
import inspect
import sys
import time
from collections.abc import Callable, Generator
from functools import wraps
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

from eparch.sdk import context

P = ParamSpec("P")
T = TypeVar("T")


class Until(NamedTuple):
    """A wait for something that another thread does, at most for so many seconds."""

    done: concurrent.futures.Future[Any]
    seconds: float | None


Waiting = Generator[float | Until, None, T]
"""Work that waits: it yields the seconds to wait before it goes on, or what to wait for."""


class Either(Generic[P]):
    """A function that is called or awaited; ``.aio`` is the one that is always awaited."""

    def __init__(self, fn: Callable[P, Any]) -> None:
        """``fn`` blocks, or is a generator of ``Waiting``."""
        wraps(fn)(self)
        self._fn = fn
        self._waits = inspect.isgeneratorfunction(fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The result, or a coroutine with it; ``_sync`` says which where both would do."""
        sync = kwargs.pop("_sync", None)
        if sync is False or (sync is None and is_async()):
            return self.aio(*args, **kwargs)
        return _finish(self._fn(*args, **kwargs)) if self._waits else self._fn(*args, **kwargs)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The result."""
        import asyncio

        if not self._waits:
            return await asyncio.to_thread(self._fn, *args, **kwargs)
        steps: Waiting[Any] = self._fn(*args, **kwargs)
        while True:
            wait, value = await asyncio.to_thread(_advance, steps)
            if wait is None:
                return value
            if isinstance(wait, Until):
                await asyncio.wait([asyncio.wrap_future(wait.done)], timeout=wait.seconds)
            else:
                await asyncio.sleep(wait)


def either(fn: Callable[P, Any]) -> Either[P]:
    """Make ``fn``, which blocks or is a generator of ``Waiting``, a function that is called or awaited."""
    return Either(fn)


def is_async() -> bool:
    """Whether the code that calls can await: the run that it belongs to decides, or the event loop."""
    if "asyncio" not in sys.modules:
        return False
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    run = context.current_run()
    return run is None or inspect.iscoroutinefunction(run.fn)


def _advance(steps: Waiting[Any]) -> tuple[float | Until | None, Any]:
    try:
        return next(steps), None
    except StopIteration as end:
        return None, end.value


def _finish(steps: Waiting[Any]) -> Any:
    while True:
        wait, value = _advance(steps)
        if wait is None:
            return value
        if isinstance(wait, Until):
            concurrent.futures.wait([wait.done], wait.seconds)
        else:
            time.sleep(wait)
