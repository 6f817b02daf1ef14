"""The event of a flow run's transition, as clients and automations expect it (wire 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from eparch.core.change_events import labels_of
from eparch.core.events import Event, ResourceLabels
from eparch.core.runs import FlowRun
from eparch.core.states import State, StateType

MAX_MESSAGE = 100_000
"""Characters of a state's message in an event."""

TIGHT = timedelta(minutes=5)
"""An event follows the one before it only when that was recent."""


def _state_payload(state: State | None) -> dict[str, Any] | None:
    if state is None:
        return None
    payload: dict[str, Any] = {"type": state.type.value, "name": state.name}
    if state.message:
        payload["message"] = state.message[:MAX_MESSAGE]
    if state.type is StateType.PAUSED:
        payload["pause_reschedule"] = str(state.state_details.pause_reschedule).lower()
    return payload


def _related(kind: str, id_: object, name: str | None, **more: str) -> ResourceLabels:
    return {**labels_of(kind, id_, name, role=kind), **more}


def related_to(
    run: FlowRun,
    *,
    flow_name: str,
    deployment_name: str | None,
    pool_type: str | None,
    parent_name: str | None = None,
    inherited_tags: Sequence[str] = (),
) -> list[ResourceLabels]:
    """What a flow run's events are also about: flow, deployment, queue, pool, parent's task run, tags.

    ``inherited_tags``: those of the flow, the deployment and the parent's task run.
    """
    related = [_related("flow", run.flow_id, flow_name)]
    if run.deployment_id is not None and deployment_name is not None:
        related.append(_related("deployment", run.deployment_id, deployment_name))
    if run.work_queue_id is not None:
        related.append(_related("work-queue", run.work_queue_id, run.work_queue_name))
    if run.work_pool_id is not None:
        type_ = {"prefect.work-pool.type": pool_type} if pool_type else {}
        related.append(_related("work-pool", run.work_pool_id, run.work_pool_name, **type_))
    if run.parent_task_run_id is not None and parent_name is not None:
        related.append(_related("task-run", run.parent_task_run_id, parent_name))
    related.extend(_related("tag", tag, None) for tag in sorted({*run.tags, *inherited_tags}))
    if run.created_by is not None and run.created_by.type in ("DEPLOYMENT", "AUTOMATION"):
        kind = run.created_by.type.lower()
        creator = _related(kind, run.created_by.id, run.created_by.display_value)
        related.append({**creator, "prefect.resource.role": "creator"})
    return related


def transition_event(
    run: FlowRun, old: State | None, new: State, related: list[ResourceLabels], run_count: int, now: datetime
) -> Event:
    """``prefect.flow-run.<state name>``; its id is the state's, so that one transition is one event."""
    follows = old is not None and -TIGHT < now - old.timestamp < TIGHT
    return Event(
        occurred=now,
        event=f"prefect.flow-run.{new.name}",
        resource={
            "prefect.resource.id": f"prefect.flow-run.{run.id}",
            "prefect.resource.name": run.name,
            "prefect.run-count": str(run_count),
            "prefect.state-message": (new.message or "")[:MAX_MESSAGE],
            "prefect.state-name": new.name,
            "prefect.state-timestamp": new.timestamp.isoformat(),
            "prefect.state-type": new.type.value,
        },
        related=related,
        payload={
            "intended": {"from": old.type.value if old else None, "to": new.type.value},
            "initial_state": _state_payload(old),
            "validated_state": _state_payload(new),
        },
        id=new.id,
        follows=old.id if follows and old is not None else None,
    )
