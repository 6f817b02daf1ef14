"""Facts of the current run for code that was not handed them: ``runtime.flow_run.name``.

Outside of a run every fact is None, or empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eparch.core.errors import did_you_mean
from eparch.sdk import context

_Facts = dict[str, Callable[[Any], Any]]


class Facts:
    """Attributes that are read from the current run when they are asked for."""

    def __init__(self, find: Callable[[], Any], facts: _Facts, empty: dict[str, Any]) -> None:
        self._find, self._facts, self._empty = find, facts, empty

    def __getattr__(self, name: str) -> Any:
        fact = self.__dict__.get("_facts", {}).get(name)
        if fact is None:
            hint = did_you_mean(name, self.__dict__.get("_facts", {}))
            raise AttributeError(f"There is no {name!r} here. {hint}".strip())
        run = self._find()
        return self._empty.get(name) if run is None else fact(run)

    def __dir__(self) -> list[str]:
        return sorted(self._facts)


_RUN: _Facts = {
    "id": lambda run: str(run.record.id),
    "name": lambda run: run.record.name,
    "parameters": lambda run: dict(run.parameters),
    "run_count": lambda run: run.record.run_count,
    "tags": lambda run: list(run.record.tags),
}
_EMPTY: dict[str, Any] = {"parameters": {}, "run_count": 0, "tags": []}

flow_run = Facts(
    context.flow_run.get,
    {
        **_RUN,
        "flow_name": lambda run: run.flow.name,
        "flow_version": lambda run: run.flow.version,
        "scheduled_start_time": lambda run: run.record.expected_start_time,
        "parent_flow_run_id": lambda run: str(run.parent.record.id) if run.parent is not None else None,
    },
    _EMPTY,
)
task_run = Facts(context.task_run.get, {**_RUN, "task_name": lambda run: run.task.name}, _EMPTY)
deployment = Facts(
    context.flow_run.get,
    {
        "id": lambda run: str(run.record.deployment_id) if run.record.deployment_id else None,
        "version": lambda run: run.record.deployment_version,
        "flow_run_id": lambda run: str(run.record.id),
    },
    {},
)
