"""The event that tells the server of a task's state: ``prefect.task-run.<State>`` (wire 4.2).

Owns the shape of the event, as a stock client sends it. What never changes for a task or a flow run is
encoded once and reused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.model import Timestamp, encode
from eparch.core.runs import FlowRun, TaskRun
from eparch.core.states import State, StateDetails

MAX_MESSAGE = 100_000
"""Characters of a state's message that are sent."""


class ShownState(msgspec.Struct, omit_defaults=True):
    """A state inside of an event; the run's ids are in the event already."""

    type: str
    name: str
    message: str
    state_details: Any
    data: Any = msgspec.UNSET


class ShownRun(msgspec.Struct, omit_defaults=True):
    """A task run inside of an event, without what the event or the state says."""

    name: str
    task_key: str
    dynamic_key: str
    empirical_policy: msgspec.Raw
    tags: list[str]
    labels: dict[str, Any]
    task_inputs: dict[str, list[dict[str, Any]]]
    run_count: int
    flow_run_run_count: int
    expected_start_time: Any
    total_run_time: float
    task_version: Any = msgspec.UNSET
    start_time: Any = msgspec.UNSET
    end_time: Any = msgspec.UNSET
    cache_key: Any = msgspec.UNSET


class Payload(msgspec.Struct):
    """From where to where, and the run as it is then."""

    intended: dict[str, str | None]
    initial_state: ShownState | None
    validated_state: ShownState
    task_run: ShownRun


class TaskEvent(msgspec.Struct):
    """``core.events.Event`` with parts that are encoded already."""

    id: UUID
    occurred: Timestamp
    event: str
    resource: dict[str, str]
    related: msgspec.Raw
    payload: Payload
    follows: UUID | None


_PLAIN_DETAILS: dict[str, Any] = {}


def related_of(
    flow_run: FlowRun | None, flow_name: str, tags: Iterable[str], flow_run_id: UUID | None = None
) -> msgspec.Raw:
    """Who else the events of a task run are about: its tags, its flow run, its flow.

    Of a flow run in another process only the id is known.
    """
    related = [
        {"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in sorted(tags)
    ]
    if flow_run is not None:
        for kind, id_, name in (
            ("flow-run", flow_run.id, flow_run.name),
            ("flow", flow_run.flow_id, flow_name),
        ):
            related.append(
                {
                    "prefect.resource.id": f"prefect.{kind}.{id_}",
                    "prefect.resource.role": kind,
                    "prefect.resource.name": name,
                }
            )
    elif flow_run_id is not None:
        related.append(
            {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.role": "flow-run"}
        )
    return msgspec.Raw(encode(related))


def task_event(
    run: TaskRun, before: State | None, related: msgspec.Raw, policy: msgspec.Raw, follows: UUID | None
) -> TaskEvent:
    """The event that says that ``run`` went from ``before`` to the state it has."""
    state = run.state
    assert state is not None
    type_ = str(state.type)
    shown = _shown(state)
    shown.data = state.data.wire if hasattr(state.data, "wire") else None
    return TaskEvent(
        id=state.id,
        occurred=state.timestamp,
        event=f"prefect.task-run.{state.name}",
        resource={
            "prefect.resource.id": f"prefect.task-run.{run.id}",
            "prefect.resource.name": run.name,
            "prefect.run-count": str(run.run_count),
            "prefect.state-message": shown.message,
            "prefect.state-name": state.name,
            "prefect.state-timestamp": state.timestamp.isoformat(),
            "prefect.state-type": type_,
            "prefect.orchestration": "client",
        },
        related=related,
        payload=Payload(
            intended={"from": str(before.type) if before is not None else None, "to": type_},
            initial_state=_shown(before) if before is not None else None,
            validated_state=shown,
            task_run=_shown_run(run, policy),
        ),
        follows=follows,
    )


def _shown(state: State) -> ShownState:
    return ShownState(
        type=str(state.type),
        name=state.name,
        message=(state.message or "")[:MAX_MESSAGE],
        state_details=_details(state.state_details),
    )


def _details(details: StateDetails) -> dict[str, Any]:
    plain = (
        details.scheduled_time is None
        and details.retriable is None
        and details.cache_key is None
        and details.child_flow_run_id is None
        and not details.untrackable_result
    )
    if plain:
        return _PLAIN_DETAILS
    given = {
        "scheduled_time": details.scheduled_time,
        "retriable": details.retriable,
        "cache_key": details.cache_key,
        "cache_expiration": details.cache_expiration,
        "child_flow_run_id": details.child_flow_run_id,
        "untrackable_result": details.untrackable_result or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _shown_run(run: TaskRun, policy: msgspec.Raw) -> ShownRun:
    shown = ShownRun(
        name=run.name,
        task_key=run.task_key,
        dynamic_key=run.dynamic_key,
        empirical_policy=policy,
        tags=run.tags,
        labels=run.labels or {},
        task_inputs=run.task_inputs,
        run_count=run.run_count,
        flow_run_run_count=run.flow_run_run_count,
        expected_start_time=run.expected_start_time,
        total_run_time=run.total_run_time,
    )
    if run.task_version is not None:
        shown.task_version = run.task_version
    if run.start_time is not None:
        shown.start_time = run.start_time
    if run.end_time is not None:
        shown.end_time = run.end_time
    if run.cache_key is not None:
        shown.cache_key = run.cache_key
    return shown
