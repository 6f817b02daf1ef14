"""Inputs of flow runs, and going on after a pause: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core.endpoint import Endpoint
from eparch.core.inputs import FlowRunInput, FlowRunInputCreate, FlowRunInputFilter, ResumeFlowRun
from eparch.core.runs import StateAnswer

create_flow_run_input: Endpoint[None] = Endpoint(
    "POST", "/flow_runs/{id}/input", None, body=FlowRunInputCreate, status=201, tag="Flow Runs"
)
read_flow_run_input: Endpoint[str] = Endpoint(
    "GET", "/flow_runs/{id}/input/{key}", str, tag="Flow Runs", media="text/plain"
)
delete_flow_run_input: Endpoint[None] = Endpoint(
    "DELETE", "/flow_runs/{id}/input/{key}", None, status=204, tag="Flow Runs"
)
read_flow_run_inputs: Endpoint[list[FlowRunInput]] = Endpoint(
    "POST",
    "/flow_runs/{id}/input/filter",
    list[FlowRunInput],
    body=FlowRunInputFilter,
    tag="Flow Runs",
    idempotent=True,
)
resume_flow_run: Endpoint[StateAnswer] = Endpoint(
    "POST", "/flow_runs/{id}/resume", StateAnswer, body=ResumeFlowRun, also=(201,), tag="Flow Runs"
)
