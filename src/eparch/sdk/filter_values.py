"""Filters and sorts by the names that Prefect's client has for them: thin values, checked by the server.

``FlowRunFilter(tags=FlowRunFilterTags(all_=["a"]))`` is the JSON of the filter. There is one type for all of
them; which fields each has is known to ``core.filters`` alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from eparch.core.filters import SORTS

_PARTS = {
    "Flow": ("Deployment", "Id", "Name", "Tags"),
    "FlowRun": (
        *("DeploymentId", "EndTime", "ExpectedStartTime", "FlowVersion", "Id", "IdempotencyKey", "Name"),
        *("NextScheduledStartTime", "ParentFlowRunId", "ParentTaskRunId", "StartTime", "State", "StateName"),
        *("StateType", "Tags", "WorkQueueName"),
    ),
    "TaskRun": (
        "FlowRunId",
        "Id",
        "Name",
        "StartTime",
        "State",
        "StateName",
        "StateType",
        "SubFlowRuns",
        "Tags",
    ),
    "Deployment": ("ConcurrencyLimit", "Id", "Name", "Paused", "Tags", "WorkQueueName"),
    "Log": ("FlowRunId", "Level", "TaskRunId", "Timestamp"),
    "WorkPool": ("Id", "Name", "Type"),
    "WorkQueue": ("Id", "Name"),
    "Artifact": ("FlowRunId", "Id", "Key", "TaskRunId", "Type"),
    "Variable": ("Id", "Name", "Tags"),
    "BlockDocument": ("BlockTypeId", "Id", "IsAnonymous", "Name"),
}
_SORTED = {
    "flows": "FlowSort",
    "flow_runs": "FlowRunSort",
    "task_runs": "TaskRunSort",
    "deployments": "DeploymentSort",
    "logs": "LogSort",
    "artifacts": "ArtifactSort",
    "variables": "VariableSort",
    "block_documents": "BlockDocumentSort",
}


class Filter(dict[str, Any]):
    """A filter, or a part of one."""

    def __init__(self, **fields: Any) -> None:
        """What is None is left out."""
        super().__init__({name: value for name, value in fields.items() if value is not None})


FILTER_NAMES = tuple(f"{kind}Filter{part}" for kind, parts in _PARTS.items() for part in ("", *parts))
SORT_NAMES = tuple(_SORTED.values())


def __getattr__(name: str) -> Any:
    if name in FILTER_NAMES:
        return Filter
    for family, sort in _SORTED.items():
        if name == sort:
            found = globals()[name] = StrEnum(sort, {one: one for one in SORTS[family]})
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
