"""The graphs of a flow run: its task runs, its subflows and what needed what."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from eparch.core.errors import BadRequest, NotFound
from eparch.core.graphs import MAX_NODES, Graph, graph_of, nodes_of, upstream
from eparch.store import graphs, rows
from eparch.store.statement import Steps


def graph(flow_run_id: UUID, since: datetime) -> Steps[Graph]:
    """The parts of the run that began or ended at ``since`` or later, linked.

    Raises:
        NotFound: there is no such run.
        BadRequest: there are too many to be drawn.
    """
    times = yield from graphs.times(flow_run_id)
    if times is None:
        raise NotFound("Flow run not found", why=f"There is no flow run {flow_run_id}.")
    parts = yield from graphs.parts(flow_run_id, since)
    _check_size(flow_run_id, len(parts))
    artifacts = yield from graphs.artifacts(flow_run_id)
    own = artifacts.pop(None, [])
    nodes = nodes_of(parts, {task: made for task, made in artifacts.items() if task is not None})
    states = yield from graphs.states(flow_run_id)
    return graph_of(times, nodes, own, states)


def dependencies(flow_run_id: UUID, now: datetime) -> Steps[list[dict[str, Any]]]:
    """The task runs of the run, each with the task runs that it needed.

    Raises:
        NotFound: there is no such run.
        BadRequest: there are too many to be drawn.
    """
    if (yield from graphs.times(flow_run_id)) is None:
        raise NotFound("Flow run not found", why=f"There is no flow run {flow_run_id}.")
    tasks = yield from graphs.task_runs(flow_run_id, now)
    _check_size(flow_run_id, len(tasks))
    return [_dependency(task) for task in tasks]


def _dependency(task: dict[str, Any]) -> dict[str, Any]:
    state = task["state"]
    details = rows.value_of(state["state_details"]) if state else {}
    copied = (
        "id", "name", "state", "expected_start_time", "start_time", "end_time", "total_run_time",
        "estimated_run_time",
    )  # fmt: skip
    return {
        **{name: task[name] for name in copied},
        "untrackable_result": bool((details or {}).get("untrackable_result", False)),
        "upstream_dependencies": [
            {"input_type": "task_run", "id": id_} for id_ in upstream(rows.value_of(task["task_inputs"]))
        ],
    }


def _check_size(flow_run_id: UUID, size: int) -> None:
    if size > MAX_NODES:
        raise BadRequest(f"The graph of flow run {flow_run_id} has more than {MAX_NODES} nodes.")
