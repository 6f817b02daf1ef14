"""How rows become values: full values for rules, plain mappings for answers.

An answer is only encoded again, so its rows keep JSON as text and ids as they are stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from eparch.core.model import decode, encode
from eparch.core.runs import Author, FlowRunPolicy, TaskRunPolicy
from eparch.core.states import FINAL, State, StateDetails, StateType
from eparch.store import tables as t
from eparch.store.statement import Row

STATE_COLUMNS = (
    "state_id",
    "state_type",
    "state_name",
    "state_timestamp",
    "state_message",
    "state_details",
    "state_data",
)
STATE_TYPES = {"state_details": StateDetails}
FLOW_RUN_TYPES = {**STATE_TYPES, "empirical_policy": FlowRunPolicy, "created_by": Author}
TASK_RUN_TYPES = {**STATE_TYPES, "empirical_policy": TaskRunPolicy}


TASK_PROGRESS = (
    "created",
    *STATE_COLUMNS,
    "run_count",
    "expected_start_time",
    "start_time",
    "end_time",
    "total_run_time",
    "flow_run_id",
)
"""What recording the next state of a task run depends on."""

TASK_RECORDED = tuple(column.name for column in t.task_run.columns if column.name not in ("id", "created"))
"""What recording a state of a task run may change."""


def names(select: sa.Select[Any]) -> tuple[str, ...]:
    """The keys of the columns that ``select`` answers."""
    return tuple(str(column.key) for column in select.selected_columns)


def state_of(row: Mapping[str, Any]) -> State | None:
    """The current state that stands in a run's row, decoded."""
    if row["state_id"] is None:
        return None
    return State(
        id=row["state_id"],
        type=StateType(row["state_type"]),
        name=row["state_name"],
        timestamp=row["state_timestamp"],
        message=row["state_message"],
        state_details=row["state_details"],
        data=row["state_data"],
    )


def state_columns(state: State) -> dict[str, Any]:
    """The columns of a run's row that hold ``state``."""
    return {
        "state_id": state.id,
        "state_type": state.type.value,
        "state_name": state.name,
        "state_timestamp": state.timestamp,
        "state_message": state.message,
        "state_details": state.state_details,
        "state_data": state.data,
    }


def history_columns(state: State, parent: str, run_id: Any) -> dict[str, Any]:
    """The row of ``state`` in the history of a run; ``parent`` is ``flow_run`` or ``task_run``."""
    return {
        "id": state.id,
        f"{parent}_id": run_id,
        "type": state.type.value,
        "name": state.name,
        "timestamp": state.timestamp,
        "message": state.message,
        "state_details": state.state_details,
        "data": state.data,
    }


def wire_run(keys: Sequence[str], row: Row, now: datetime) -> dict[str, Any]:
    """A run's row as the wire answers it, with the times that depend on ``now``."""
    run = dict(zip(keys, row, strict=True))
    state_id = run["state_id"]
    timestamp, message = run.pop("state_timestamp"), run.pop("state_message")
    details, data = run.pop("state_details"), run.pop("state_data")
    run["state"] = state_id and {
        "id": state_id,
        "type": run["state_type"],
        "name": run["state_name"],
        "timestamp": timestamp,
        "message": message,
        "data": data,
        "state_details": details,
    }
    running = run["state_type"] == "RUNNING"
    total, start, expected = run["total_run_time"], run["start_time"], run["expected_start_time"]
    run["estimated_run_time"] = total + (now - timestamp).total_seconds() if running else total
    delta = 0.0
    if start is not None:
        delta = max((start - expected).total_seconds(), 0.0)
    elif now > expected and run["state_type"] not in FINAL:
        delta = (now - expected).total_seconds()
    run["estimated_start_time_delta"] = delta
    return run


def value_of(column: Any) -> Any:
    """A JSON column of a row that was read for an answer, where it is text."""
    return decode(bytes(column)) if isinstance(column, msgspec.Raw) else column


def id_of(column: Any) -> UUID:
    """An id of a row that was read for an answer, where it is as it is stored."""
    return column if isinstance(column, UUID) else UUID(column)


def as_text(value: Any) -> str:
    """``value`` as JSON text, for a column that is compared as text."""
    return encode(value).decode()


_queue, _pool = t.work_queue, t.work_pool

_FLOW_RUN_HIDDEN = {"fencing_token", "schedule_id", "in_process_retry"}

FLOW_RUNS: sa.Select[Any] = sa.select(
    *(c for c in t.flow_run.columns if c.name not in _FLOW_RUN_HIDDEN),
    _queue.c.name.label("work_queue_name"),
    _queue.c.work_pool_id.label("work_pool_id"),
    _pool.c.name.label("work_pool_name"),
).select_from(
    t.flow_run.outerjoin(_queue, _queue.c.id == t.flow_run.c.work_queue_id).outerjoin(
        _pool, _pool.c.id == _queue.c.work_pool_id
    )
)
"""Everything that the wire says of flow runs."""

TASK_RUNS: sa.Select[Any] = sa.select(*t.task_run.columns)
"""Everything that the wire says of task runs."""
