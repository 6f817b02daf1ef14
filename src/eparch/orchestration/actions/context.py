"""Reads the objects of the server that the templates of an action name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from eparch.core.action_context import KINDS, Object, context_of, id_in, involved, plain
from eparch.core.action_templates import names_in
from eparch.core.automations import TriggeredAction
from eparch.core.concurrency import ConcurrencyLimit
from eparch.core.deployments import Deployment, Flow
from eparch.core.events import ResourceLabels
from eparch.core.filters import Group, Query
from eparch.core.model import decode, encode
from eparch.core.pools import WorkPool, WorkQueue
from eparch.core.runs import FlowRun, TaskRun
from eparch.store import concurrency, deployments, pools, rows, runs, variables
from eparch.store.statement import Steps

MAX_VARIABLES = 1000

_READERS: dict[str, tuple[Any, Any]] = {
    "deployment": (deployments.read_deployment, Deployment),
    "flow_run": (runs.read_flow_run, FlowRun),
    "task_run": (runs.read_task_run, TaskRun),
    "work_pool": (pools.read_pool_by_id, WorkPool),
    "work_queue": (pools.read_queue, WorkQueue),
    "concurrency_limit": (concurrency.read_limit, ConcurrencyLimit),
}
_STATE = {"type": "type", "name": "name", "message": "message", "timestamp": "timestamp"}


def read_context(
    triggered: TriggeredAction, templates: Sequence[str], ui_url: str, now: datetime
) -> Steps[dict[str, Any]]:
    """What ``templates`` see; only what they name is read."""
    context = context_of(triggered, ui_url)
    wanted = names_in(templates)
    for kind in KINDS:
        if kind in wanted:
            context[kind] = yield from _object(triggered, kind, now)
    if "variables" in wanted:
        context["variables"] = yield from _all_variables()
    return context


def _object(triggered: TriggeredAction, kind: str, now: datetime) -> Steps[Object | None]:
    resource_kind = f"prefect.{kind.replace('_', '-')}"
    labels = involved(triggered.triggering_event, resource_kind)
    id_ = id_in(labels)
    if id_ is None:
        return None
    if kind == "flow":
        row = yield from deployments.read_flow(id_)
        type_: Any = Flow
    else:
        reader, type_ = _READERS[kind]
        row = yield from reader(id_, now)
    if row is None:
        return None
    fields = plain(decode(encode(row), type_))
    if kind in ("flow_run", "task_run") and labels is not None:
        _remember_state(fields, labels)
    return Object(resource_kind, fields)


def _remember_state(fields: dict[str, Any], labels: ResourceLabels) -> None:
    """The run has moved on since the event: what a message tells is the state that it is about."""
    told = {name: labels.get(f"prefect.state-{name}") for name in _STATE}
    if None in told.values():
        return
    try:
        timestamp = datetime.fromisoformat(str(told["timestamp"]))
    except ValueError:
        return
    fields["state"] = {**(fields.get("state") or {}), **told, "timestamp": timestamp}
    fields["state_name"], fields["state_type"] = told["name"], told["type"]


def _all_variables() -> Steps[dict[str, Any]]:
    query = Query("variables", Group("and_", ()), sort="NAME_ASC", limit=MAX_VARIABLES)
    found = yield from variables.read_variables(query)
    return {str(row["name"]): rows.value_of(row["value"]) for row in found}


def read_variables(names: Iterable[str]) -> Steps[dict[str, Any]]:
    """The values of these variables; one that is not there is left out."""
    values = {}
    for name in dict.fromkeys(names):
        row = yield from variables.read_variable(name)
        if row is not None:
            values[name] = rows.value_of(row["value"])
    return values


def read_made_by(run_id: UUID, now: datetime) -> Steps[int]:
    """How many automations in a row brought about the flow run; 0: it was made otherwise."""
    row = yield from runs.read_flow_run(run_id, now)
    labels = rows.value_of(row["labels"]) if row is not None else {}
    depth = (labels or {}).get(DEPTH, 0)
    return depth if isinstance(depth, int) else 0


DEPTH = "eparch.automation.depth"
"""A label of a flow run that an automation made: how many automations in a row brought it about."""
