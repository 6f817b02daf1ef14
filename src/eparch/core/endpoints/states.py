"""The histories of flow runs and task runs: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core.endpoint import Endpoint
from eparch.core.states import State

read_flow_run_states: Endpoint[list[State]] = Endpoint(
    "GET", "/flow_run_states/", list[State], query=("flow_run_id",), tag="Flow Run States"
)
read_flow_run_state: Endpoint[State] = Endpoint("GET", "/flow_run_states/{id}", State, tag="Flow Run States")
read_task_run_states: Endpoint[list[State]] = Endpoint(
    "GET", "/task_run_states/", list[State], query=("task_run_id",), tag="Task Run States"
)
read_task_run_state: Endpoint[State] = Endpoint("GET", "/task_run_states/{id}", State, tag="Task Run States")
