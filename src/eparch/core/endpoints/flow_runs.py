"""Flow runs: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.endpoint import Endpoint
from eparch.core.graphs import Dependency, Graph
from eparch.core.listing import BulkAnswers, Deleted, FlowRunIds, HistoryInterval, Page, ShortRun
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
page_flow_runs: Endpoint[Page[FlowRun]] = Endpoint(
    "POST",
    "/flow_runs/paginate",
    Page[FlowRun],
    body=filters.PAGE_FLOW_RUNS,
    tag="Flow Runs",
    idempotent=True,
)
read_flow_run_history: Endpoint[list[HistoryInterval]] = Endpoint(
    "POST",
    "/flow_runs/history",
    list[HistoryInterval],
    body=filters.FLOW_RUN_HISTORY,
    tag="Flow Runs",
    idempotent=True,
)
read_flow_run_lateness: Endpoint[float | None] = Endpoint(
    "POST",
    "/flow_runs/lateness",
    float | None,
    body=filters.COUNT_FLOW_RUNS,
    tag="Flow Runs",
    idempotent=True,
)
delete_flow_runs: Endpoint[Deleted] = Endpoint(
    "POST", "/flow_runs/bulk_delete", Deleted, body=filters.DELETE_FLOW_RUNS, tag="Flow Runs"
)
set_flow_run_states: Endpoint[BulkAnswers] = Endpoint(
    "POST", "/flow_runs/bulk_set_state", BulkAnswers, body=filters.SET_FLOW_RUN_STATES, tag="Flow Runs"
)
download_flow_run_logs: Endpoint[str] = Endpoint(
    "GET", "/flow_runs/{id}/logs/download", str, tag="Flow Runs", media="text/csv"
)
read_flow_run_dependencies: Endpoint[list[Dependency]] = Endpoint(
    "GET", "/flow_runs/{id}/graph", list[Dependency], tag="Flow Runs"
)
read_flow_run_graph: Endpoint[Graph] = Endpoint(
    "GET", "/flow_runs/{id}/graph-v2", Graph, query=("since",), tag="Flow Runs"
)
read_short_flow_runs: Endpoint[list[ShortRun]] = Endpoint(
    "POST",
    "/ui/flow_runs/history",
    list[ShortRun],
    body=filters.SHORT_FLOW_RUNS,
    tag="Flow Runs",
    idempotent=True,
)
count_task_runs_by_flow_run: Endpoint[dict[str, int]] = Endpoint(
    "POST",
    "/ui/flow_runs/count-task-runs",
    dict[str, int],
    body=FlowRunIds,
    tag="Flow Runs",
    idempotent=True,
)
