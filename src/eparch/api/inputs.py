"""Inputs of flow runs, going on after a pause, and the histories of runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from eparch.api.request import Answer, Request, found
from eparch.api.router import handles
from eparch.core import calls
from eparch.core.inputs import FlowRunInputCreate, FlowRunInputFilter, ResumeFlowRun
from eparch.orchestration import inputs as changes
from eparch.store import inputs


@handles(calls.create_flow_run_input)
async def create_flow_run_input(request: Request, id: UUID, body: FlowRunInputCreate) -> None:
    """Send something to a run."""
    await request.write(changes.create_input, id, body, request.now)


@handles(calls.read_flow_run_input)
async def read_flow_run_input(request: Request, id: UUID, key: str) -> Answer:
    """What was sent under that key, as the text that it was sent as."""
    value = found(await request.read(inputs.read_input, id, key), "Flow run input not found")
    return Answer(200, value.encode(), media="text/plain; charset=utf-8")


@handles(calls.read_flow_run_inputs)
async def read_flow_run_inputs(request: Request, id: UUID, body: FlowRunInputFilter) -> Any:
    """What was sent under keys that begin so, the oldest first."""
    limit = request.limit(body.limit)
    return await request.scan(inputs.read_inputs, id, body.prefix, limit, body.exclude_keys)


@handles(calls.delete_flow_run_input)
async def delete_flow_run_input(request: Request, id: UUID, key: str) -> None:
    """Delete what was sent under that key."""
    await request.write(changes.delete_input, id, key)


@handles(calls.resume_flow_run)
async def resume_flow_run(request: Request, id: UUID, body: ResumeFlowRun) -> Answer:
    """Let a paused run go on: 201 when it does, else 200 (wire 4.1)."""
    answered = await request.write(changes.resume, id, body.run_input, request.now)
    return Answer(201 if answered.wrote else 200, answered.answer)


@handles(calls.read_flow_run_states)
async def read_flow_run_states(request: Request, flow_run_id: UUID) -> Any:
    """The history of a flow run, the oldest state first."""
    return await request.scan(inputs.read_states, "flow_run", flow_run_id)


@handles(calls.read_flow_run_state)
async def read_flow_run_state(request: Request, id: UUID) -> Any:
    """One state of a flow run."""
    return found(await request.read(inputs.read_state, "flow_run", id), "Flow run state not found")


@handles(calls.read_task_run_states)
async def read_task_run_states(request: Request, task_run_id: UUID) -> Any:
    """The history of a task run, the oldest state first."""
    return await request.scan(inputs.read_states, "task_run", task_run_id)


@handles(calls.read_task_run_state)
async def read_task_run_state(request: Request, id: UUID) -> Any:
    """One state of a task run."""
    return found(await request.read(inputs.read_state, "task_run", id), "Task run state not found")
