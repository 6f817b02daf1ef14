"""What belongs to a flow run and what needed what: the two graphs that pages draw.

Owns how task runs, subflows and their inputs become nodes and edges; reads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from eparch.core.model import Json, Timestamp, Value
from eparch.core.states import State, StateType

MAX_NODES = 10_000
MAX_ARTIFACTS = 10_000


class TaskRunRef(Value, frozen=True, kw_only=True):
    """A task run whose result was an input."""

    input_type: str = "task_run"
    id: UUID


class Dependency(Value, frozen=True, kw_only=True):
    """A task run and what it needed (wire: ``DependencyResult``)."""

    id: UUID
    name: str
    upstream_dependencies: list[TaskRunRef]
    state: State | None
    expected_start_time: Timestamp | None
    start_time: Timestamp | None
    end_time: Timestamp | None
    total_run_time: float | None
    estimated_run_time: float | None
    untrackable_result: bool


class GraphState(Value, frozen=True, kw_only=True):
    """A state that the flow run was in."""

    id: UUID
    timestamp: Timestamp
    type: StateType
    name: str


class GraphArtifact(Value, frozen=True, kw_only=True):
    """Something that was made on the way; its data only where it is progress."""

    id: UUID
    created: Timestamp
    key: str | None
    type: str | None
    is_latest: bool
    data: Json = None


class Edge(Value, frozen=True, kw_only=True):
    """The other end."""

    id: UUID


class Node(Value, frozen=True, kw_only=True):
    """A task run, or the subflow that it stands for."""

    kind: str
    id: UUID
    label: str
    state_type: StateType
    start_time: Timestamp
    end_time: Timestamp | None
    parents: list[Edge] = []
    children: list[Edge] = []
    encapsulating: list[Edge] = []
    artifacts: list[GraphArtifact] = []


class Graph(Value, frozen=True, kw_only=True):
    """A flow run from its start to its end."""

    start_time: Timestamp | None
    end_time: Timestamp | None
    root_node_ids: list[UUID]
    nodes: list[tuple[UUID, Node]]
    artifacts: list[GraphArtifact]
    states: list[GraphState]


class Part(Value, frozen=True, kw_only=True):
    """A row of the graph as it is stored: a task run, with the subflow that it stands for if there is one."""

    task_run_id: UUID
    kind: str
    id: UUID
    label: str
    state_type: StateType
    start_time: Timestamp
    end_time: Timestamp | None
    task_inputs: Mapping[str, Sequence[Mapping[str, Any]]]


def upstream(inputs: Mapping[str, Sequence[Mapping[str, Any]]], *, wraps: bool | None = None) -> list[str]:
    """The ids of the task runs among ``inputs``, each once.

    ``wraps`` chooses: True those under ``__parents__``, which enclose the run; False the others; None all.
    """
    found: dict[str, None] = {}
    for name, values in inputs.items():
        if wraps is None or wraps == (name == "__parents__"):
            for value in values:
                if value.get("input_type") == "task_run" and isinstance(value.get("id"), str):
                    found[value["id"]] = None
    return list(found)


def nodes_of(parts: Iterable[Part], artifacts: Mapping[UUID, list[GraphArtifact]]) -> list[tuple[UUID, Node]]:
    """``parts`` linked with each other, oldest first; ends outside of ``parts`` are left out."""
    listed = sorted(parts, key=lambda part: (part.start_time, part.id))
    by_task = {str(part.task_run_id): part.id for part in listed}
    parents = {part.id: list(_known(upstream(part.task_inputs, wraps=False), by_task)) for part in listed}
    children: dict[UUID, list[UUID]] = {part.id: [] for part in listed}
    for part in listed:
        for parent in parents[part.id]:
            children[parent].append(part.id)
    return [
        (
            part.id,
            Node(
                kind=part.kind,
                id=part.id,
                label=part.label,
                state_type=part.state_type,
                start_time=part.start_time,
                end_time=part.end_time,
                parents=[Edge(id=id_) for id_ in parents[part.id]],
                children=[Edge(id=id_) for id_ in children[part.id]],
                encapsulating=[
                    Edge(id=id_) for id_ in _known(upstream(part.task_inputs, wraps=True), by_task)
                ],
                artifacts=artifacts.get(part.task_run_id, []),
            ),
        )
        for part in listed
    ]


def _known(ids: Iterable[str], by_task: Mapping[str, UUID]) -> Iterator[UUID]:
    return (by_task[id_] for id_ in ids if id_ in by_task)


def graph_of(
    times: tuple[datetime | None, datetime | None],
    nodes: Sequence[tuple[UUID, Node]],
    artifacts: Sequence[GraphArtifact],
    states: Sequence[GraphState],
) -> Graph:
    """The whole graph; a node without parents is a root."""
    return Graph(
        start_time=times[0],
        end_time=times[1],
        root_node_ids=[id_ for id_, node in nodes if not node.parents],
        nodes=list(nodes),
        artifacts=list(artifacts),
        states=list(states),
    )
