"""Flow runs and task runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from eparch.api.log_files import csv_of
from eparch.api.request import Answer, Request, created, found
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.filters import Query
from eparch.core.graphs import Graph
from eparch.core.model import Labels, Timestamp
from eparch.core.runs import FlowRunCreate, FlowRunUpdate, SetState, StateAnswer, TaskRunCreate, TaskRunUpdate
from eparch.orchestration import creation, erasure, graphs, transition
from eparch.orchestration import runs as changes
from eparch.store import runs

BEGINNING = datetime(1, 1, 1, tzinfo=UTC)


@handles(calls.create_flow_run)
async def create_flow_run(request: Request, body: FlowRunCreate) -> Answer:
    """Make a run; the one that was made with the same key is answered with 200."""
    made = await request.write(
        creation.create_flow_run, body, request.now, new_name=request.services.new_name()
    )
    return created(made.run, made.fresh)


@handles(calls.read_flow_run)
async def read_flow_run(request: Request, id: UUID) -> Any:
    """One run."""
    return found(await request.read(runs.read_flow_run, id, request.now), "Flow run not found")


@handles(calls.update_flow_run)
async def update_flow_run(request: Request, id: UUID, body: FlowRunUpdate) -> None:
    """Change what the body names."""
    await request.write(changes.update_flow_run, id, body, request.now)


@handles(calls.delete_flow_run)
async def delete_flow_run(request: Request, id: UUID) -> None:
    """Delete a run with its history."""
    await erasure.empty_run(request.services.database, id)
    await request.write(changes.delete_flow_run, id)


@handles(calls.update_flow_run_labels)
async def update_flow_run_labels(request: Request, id: UUID, body: Labels) -> None:
    """Merge labels into those of the run."""
    await request.write(changes.update_labels, id, body, request.now)


@handles(calls.read_flow_runs)
async def read_flow_runs(request: Request, body: Query) -> Any:
    """A page of runs."""
    return await request.page(runs.read_flow_runs, body, request.now)


@handles(calls.count_flow_runs)
async def count_flow_runs(request: Request, body: Query) -> int:
    """How many runs there are."""
    count: int = await request.count(body)
    return count


@handles(calls.set_flow_run_state)
async def set_flow_run_state(request: Request, id: UUID, body: SetState) -> Answer:
    """Propose a state: 201 when one was written, else 200 (wire 4.1)."""
    answered = await request.write(
        transition.set_flow_run_state,
        id,
        body,
        request.now,
        token=request.claim_token,
        stock=request.stock_version,
    )
    return _answer(answered.answer, answered.wrote)


@handles(calls.create_task_run)
async def create_task_run(request: Request, body: TaskRunCreate) -> Answer:
    """Make a task run; the one that has the same natural key is answered with 200."""
    made = await request.write(creation.create_task_run, body, request.now)
    return created(made.run, made.fresh)


@handles(calls.read_task_run)
async def read_task_run(request: Request, id: UUID) -> Any:
    """One task run."""
    return found(await request.read(runs.read_task_run, id, request.now), "Task not found")


@handles(calls.read_task_runs)
async def read_task_runs(request: Request, body: Query) -> Any:
    """A page of task runs."""
    return await request.page(runs.read_task_runs, body, request.now)


@handles(calls.set_task_run_state)
async def set_task_run_state(request: Request, id: UUID, body: SetState) -> Answer:
    """Propose a state: 201 when one was written, else 200."""
    answered = await request.write(
        transition.set_task_run_state, id, body, request.now, token=request.claim_token
    )
    return _answer(answered.answer, answered.wrote)


def _answer(answer: StateAnswer, wrote: bool) -> Answer:
    return Answer(201 if wrote else 200, answer)


@handles(calls.update_task_run)
async def update_task_run(request: Request, id: UUID, body: TaskRunUpdate) -> None:
    """Change what the body names."""
    await request.write(changes.update_task_run, id, body, request.now)


@handles(calls.delete_task_run)
async def delete_task_run(request: Request, id: UUID) -> None:
    """Delete a task run with its history."""
    await request.write(changes.delete_task_run, id)


@handles(calls.read_flow_run_dependencies)
async def read_flow_run_dependencies(request: Request, id: UUID) -> Any:
    """The task runs of the run, each with those that it needed."""
    return await request.scan(graphs.dependencies, id, request.now)


@handles(calls.read_flow_run_graph)
async def read_flow_run_graph(request: Request, id: UUID, since: Timestamp = BEGINNING) -> Graph:
    """The task runs and subflows of the run that began or ended since then, linked."""
    graph: Graph = await request.scan(graphs.graph, id, since)
    return graph


@handles(calls.download_flow_run_logs)
async def download_flow_run_logs(request: Request, id: UUID) -> Answer:
    """The lines of the run as CSV, oldest first."""
    run = found(await request.read(runs.read_flow_run, id, request.now), "Flow run not found")
    name = quote(f"{run['name']}-logs.csv", safe="")
    return Answer(
        200,
        headers={
            "content-disposition": f"attachment; filename=\"flow-run-logs.csv\"; filename*=UTF-8''{name}"
        },
        media="text/csv; charset=utf-8",
        chunks=csv_of(request.services.database, id),
    )
