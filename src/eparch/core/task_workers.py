"""Task workers and the queue of background tasks: who serves which tasks, and which task runs wait for them.

Owns the values and the rules of the queue. Rows are in ``store.task_queue``, leases are kept by
``orchestration.task_queues``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from msgspec import Meta

from eparch.core.model import Body, Timestamp, Value
from eparch.core.states import State, StateType

LEASE = timedelta(seconds=60)
"""How long a task run stays with a task worker that was not heard of."""

RECONNECT = timedelta(seconds=2)
"""How long a task run that was acknowledged and has not begun waits for its task worker to come back."""

MOST_LOST = 5
"""Task workers that one task run may take down with it; then it is not tried again."""

MOST_KEYS = 1000
"""Task keys of one task worker."""


class TaskWorker(Value, frozen=True, kw_only=True):
    """A connected task worker (wire: ``TaskWorkerResponse``)."""

    identifier: str
    task_keys: list[str]
    timestamp: Timestamp


class TaskWorkerFilter(Value, frozen=True, kw_only=True):
    """Which task workers to list: those that serve one of the keys; all when there is none."""

    task_keys: list[str]


class ReadTaskWorkers(Body, frozen=True, kw_only=True):
    """``POST /task_workers/filter``."""

    task_worker_filter: TaskWorkerFilter | None = None


class Subscribe(Value, frozen=True, kw_only=True):
    """The first message of a task worker (wire 4.3).

    ``holding`` and ``more`` are ours: the task runs that the worker has from a connection that was lost, null
    when it does not say, as Prefect's does not; and whether it has room for another one.
    """

    keys: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=1000)]], Meta(min_length=1, max_length=MOST_KEYS)
    ]
    client_id: Annotated[str, Meta(min_length=1, max_length=1000)]
    holding: Annotated[list[str], Meta(max_length=10_000)] | None = None
    more: bool = True


def is_queued(state: State) -> bool:
    """Whether a task run in ``state`` waits for a task worker (wire 4.3)."""
    return state.type is StateType.SCHEDULED and bool(state.state_details.deferred)
