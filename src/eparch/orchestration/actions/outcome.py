"""What came of an action, and the events that tell it (wire: ``prefect.automation.action.*``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from eparch.core.automations import EventTrigger, TriggeredAction
from eparch.core.errors import STATUS, EparchError, nearest
from eparch.core.events import Event, ResourceLabels
from eparch.core.model import new_id
from eparch.core.trigger_index import chain_of

_TIGHT = timedelta(minutes=5)
"""An event that is older is not followed: whoever orders events by their causes would wait for it."""


class ActionFailed(EparchError):
    """The action failed."""


@dataclass
class Outcome:
    """What is told of an action besides that it was carried out."""

    details: dict[str, Any] = field(default_factory=dict)
    related: list[ResourceLabels] = field(default_factory=list)

    def concerns(self, resource: str, role: str = "target", name: str | None = None) -> None:
        """The action is about ``resource``, an id such as ``prefect.flow-run.<id>``."""
        labels = {"prefect.resource.id": resource, "prefect.resource.role": role}
        self.related.append(labels | ({"prefect.resource.name": name} if name else {}))

    def answered(self, status: int) -> None:
        """The operation was answered as a request would be, with this status."""
        self.details["status_code"] = status


def kind_of(triggered: TriggeredAction) -> str:
    """The type of the action, as on the wire."""
    return str(triggered.action.__struct_config__.tag)


def reason_of(error: EparchError, kind: str) -> tuple[int, str]:
    """The status that ``error`` has on the wire, and what to say of it."""
    status = nearest(STATUS, error, 500)
    said = " ".join(part for part in (error.message, error.why) if part)
    if status in (409, 422):
        return status, f"Validation error occurred for '{kind}' - {said}"
    return status, f"Unexpected status from '{kind}' action: {status} - {said}"


def events_of(triggered: TriggeredAction, outcome: Outcome, reason: str | None, now: datetime) -> list[Event]:
    """That the action was triggered, and that it was executed, or failed for ``reason``."""
    automation, cause = triggered.automation, triggered.triggering_event
    resource: ResourceLabels = {
        "prefect.resource.id": f"prefect.automation.{automation.id}",
        "prefect.resource.name": automation.name,
        "prefect.trigger-type": str(automation.trigger.__struct_config__.tag),
    }
    if isinstance(automation.trigger, EventTrigger):
        resource["prefect.posture"] = automation.trigger.posture
    related = list(outcome.related)
    for event_id, role in (
        (triggered.automation_triggered_event_id, "automation-triggered-event"),
        (cause.id if cause is not None else None, "triggering-event"),
    ):
        if event_id is not None:
            label = {"prefect.resource.id": f"prefect.event.{event_id}", "prefect.resource.role": role}
            related.append(label)
    about = {
        "action_index": triggered.action_index,
        "action_type": kind_of(triggered),
        "invocation": str(triggered.id),
        "chain": chain_of(triggered.firing.triggering_event) + 1,
    }
    tight = cause is not None and abs(triggered.triggered - cause.occurred) < _TIGHT
    began = Event(
        id=new_id(),
        occurred=triggered.triggered,
        event="prefect.automation.action.triggered",
        resource=resource,
        related=related,
        payload=about,
        follows=cause.id if cause is not None and tight else None,
    )
    ended = Event(
        id=new_id(),
        occurred=now,
        event=f"prefect.automation.action.{'executed' if reason is None else 'failed'}",
        resource=resource,
        related=related,
        payload={**about, **({} if reason is None else {"reason": reason}), **outcome.details},
        follows=began.id,
    )
    return [began, ended]
