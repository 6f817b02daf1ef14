"""Task runs: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.endpoint import Endpoint
from eparch.core.listing import ByState, HistoryInterval, Page
from eparch.core.runs import NamedTaskRun, SetState, StateAnswer, TaskRun, TaskRunCreate, TaskRunUpdate

create_task_run: Endpoint[TaskRun] = Endpoint(
    "POST",
    "/task_runs/",
    TaskRun,
    body=TaskRunCreate,
    status=201,
    also=(200,),
    tag="Task Runs",
    idempotent=True,
)
read_task_run: Endpoint[TaskRun] = Endpoint("GET", "/task_runs/{id}", TaskRun, tag="Task Runs")
read_task_runs: Endpoint[list[TaskRun]] = Endpoint(
    "POST", "/task_runs/filter", list[TaskRun], body=filters.READ_TASK_RUNS, tag="Task Runs", idempotent=True
)
set_task_run_state: Endpoint[StateAnswer] = Endpoint(
    "POST",
    "/task_runs/{id}/set_state",
    StateAnswer,
    body=SetState,
    status=201,
    also=(200,),
    tag="Task Runs",
    idempotent=True,
)
update_task_run: Endpoint[None] = Endpoint(
    "PATCH", "/task_runs/{id}", None, body=TaskRunUpdate, status=204, tag="Task Runs"
)
delete_task_run: Endpoint[None] = Endpoint("DELETE", "/task_runs/{id}", None, status=204, tag="Task Runs")
count_task_runs: Endpoint[int] = Endpoint(
    "POST", "/task_runs/count", int, body=filters.COUNT_TASK_RUNS, tag="Task Runs", idempotent=True
)
page_task_runs: Endpoint[Page[TaskRun]] = Endpoint(
    "POST",
    "/task_runs/paginate",
    Page[TaskRun],
    body=filters.PAGE_TASK_RUNS,
    tag="Task Runs",
    idempotent=True,
)
read_task_run_history: Endpoint[list[HistoryInterval]] = Endpoint(
    "POST",
    "/task_runs/history",
    list[HistoryInterval],
    body=filters.TASK_RUN_HISTORY,
    tag="Task Runs",
    idempotent=True,
)
count_task_runs_by_state: Endpoint[ByState] = Endpoint(
    "POST",
    "/ui/task_runs/count",
    ByState,
    body=filters.COUNT_TASK_RUNS,
    tag="Task Runs",
    idempotent=True,
)
read_task_run_outcomes: Endpoint[list[dict[str, int]]] = Endpoint(
    "POST",
    "/ui/task_runs/dashboard/counts",
    list[dict[str, int]],
    body=filters.TASK_RUN_OUTCOMES,
    tag="Task Runs",
    idempotent=True,
)
read_named_task_run: Endpoint[NamedTaskRun] = Endpoint(
    "GET", "/ui/task_runs/{id}", NamedTaskRun, tag="Task Runs"
)
