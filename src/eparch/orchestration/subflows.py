"""The task run that stands for a subflow in its parent follows the subflow's states (wire 4.2)."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from eparch.core.model import new_id
from eparch.core.runs import after
from eparch.core.states import State
from eparch.store import rows, runs
from eparch.store.statement import Steps


def follow(subflow_id: UUID, task_run_id: UUID | None, state: State, now: datetime) -> Steps[None]:
    """Let the task run ``task_run_id`` be in ``state`` as the flow run ``subflow_id`` is now."""
    if task_run_id is None:
        return
    task_run = yield from runs.task_run_for_decision(task_run_id)
    if task_run is None:
        return
    details = msgspec.structs.replace(
        state.state_details,
        flow_run_id=task_run.flow_run_id,
        task_run_id=task_run_id,
        child_flow_run_id=subflow_id,
    )
    copy = msgspec.structs.replace(state, id=new_id(), state_details=details)
    columns = {**after(task_run, copy), **rows.state_columns(copy), "updated": now}
    yield from runs.write_task_run(task_run_id, columns)
    yield from runs.append_task_run_states([(task_run_id, copy)])
