"""Task runs: the endpoints (wire section 3)."""

from __future__ import annotations

from eparch.core import filters
from eparch.core.endpoint import Endpoint
from eparch.core.runs import SetState, StateAnswer, TaskRun, TaskRunCreate

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
