"""Flow runs: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.endpoint import Endpoint
from eparch.core.model import Labels
from eparch.core.runs import FlowRun, FlowRunCreate, FlowRunUpdate, SetState, StateAnswer

create_flow_run: Endpoint[FlowRun] = Endpoint(
    "POST", "/flow_runs/", FlowRun, body=FlowRunCreate, status=201, also=(200,), tag="Flow Runs"
)
read_flow_run: Endpoint[FlowRun] = Endpoint("GET", "/flow_runs/{id}", FlowRun, tag="Flow Runs")
update_flow_run: Endpoint[None] = Endpoint(
    "PATCH", "/flow_runs/{id}", None, body=FlowRunUpdate, status=204, tag="Flow Runs"
)
delete_flow_run: Endpoint[None] = Endpoint("DELETE", "/flow_runs/{id}", None, status=204, tag="Flow Runs")
update_flow_run_labels: Endpoint[None] = Endpoint(
    "PATCH", "/flow_runs/{id}/labels", None, body=Labels, status=204, tag="Flow Runs"
)
read_flow_runs: Endpoint[list[FlowRun]] = Endpoint(
    "POST", "/flow_runs/filter", list[FlowRun], body=filters.READ_FLOW_RUNS, tag="Flow Runs", idempotent=True
)
count_flow_runs: Endpoint[int] = Endpoint(
    "POST", "/flow_runs/count", int, body=filters.COUNT_FLOW_RUNS, tag="Flow Runs", idempotent=True
)
set_flow_run_state: Endpoint[StateAnswer] = Endpoint(
    "POST",
    "/flow_runs/{id}/set_state",
    StateAnswer,
    body=SetState,
    status=201,
    also=(200,),
    tag="Flow Runs",
    idempotent=True,  # a proposal carries a transition id, so that the second is told from the first
)
