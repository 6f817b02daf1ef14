"""Which run the current code belongs to, and the tags that new runs are given.

Owns the context variables; what they hold is in ``flow_run`` and ``task_run``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from eparch.core.errors import Usage

if TYPE_CHECKING:
    from eparch.sdk.flow_run import FlowRunContext
    from eparch.sdk.task_run import TaskRunContext

flow_run: ContextVar[FlowRunContext | None] = ContextVar("eparch_flow_run", default=None)
task_run: ContextVar[TaskRunContext | None] = ContextVar("eparch_task_run", default=None)
current_tags: ContextVar[frozenset[str]] = ContextVar("eparch_tags", default=frozenset())


def current_run() -> FlowRunContext | TaskRunContext | None:
    """The innermost run that the code runs in."""
    return task_run.get() or flow_run.get()


def get_run_context() -> FlowRunContext | TaskRunContext:
    """The innermost run that the code runs in.

    Raises:
        Usage: it runs in none.
    """
    found = current_run()
    if found is None:
        raise Usage("There is no run here.", fix="Call this from inside of a flow or a task.")
    return found


@contextmanager
def tags(*new: str) -> Iterator[frozenset[str]]:
    """Give every run that is made in this block these tags too."""
    token = current_tags.set(current_tags.get() | frozenset(new))
    try:
        yield current_tags.get()
    finally:
        current_tags.reset(token)
