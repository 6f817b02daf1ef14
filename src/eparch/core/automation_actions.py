"""What an automation can do: its actions as values (wire: ``Automation.actions``).

Owns their fields and what makes one unusable by itself. Does not own how an action is carried out, nor
whether what it names exists.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

import msgspec

from eparch.core.model import Value, encode
from eparch.core.states import StateType

LONGEST_SECONDS = 36_525 * 86_400.0
"""A hundred years: no duration of an automation is longer."""

Source = Literal["selected", "inferred"]
"""Whether an action names what it acts on, or finds it in the event that triggered it."""


def seconds_of(given: float | str, name: str) -> float:
    """``given`` (seconds, or a duration of ISO 8601) in seconds; ``name`` is the field.

    Raises:
        ValueError: it is no duration, negative, or longer than ``LONGEST_SECONDS``.
    """
    if isinstance(given, str):
        try:
            given = msgspec.convert(given, timedelta).total_seconds()
        except msgspec.ValidationError as error:
            raise ValueError(
                f"`{name}` is neither a number of seconds nor a duration such as PT5M"
            ) from error
    if not 0 <= given <= LONGEST_SECONDS:
        raise ValueError(f"`{name}` must be between 0 and {LONGEST_SECONDS:.0f} seconds")
    return float(given)


def _check_source(source: Source, given: UUID | None, name: str) -> None:
    if (source == "selected") != (given is not None):
        raise ValueError(f"{name} is {'required' if given is None else 'not allowed'} with source {source}")


class _OnDeployment(Value, frozen=True, kw_only=True):
    source: Source = "selected"
    deployment_id: UUID | None = None

    def __post_init__(self) -> None:
        _check_source(self.source, self.deployment_id, "deployment_id")


class _OnWorkPool(Value, frozen=True, kw_only=True):
    source: Source = "selected"
    work_pool_id: UUID | None = None

    def __post_init__(self) -> None:
        _check_source(self.source, self.work_pool_id, "work_pool_id")


class _OnWorkQueue(Value, frozen=True, kw_only=True):
    source: Source = "selected"
    work_queue_id: UUID | None = None

    def __post_init__(self) -> None:
        _check_source(self.source, self.work_queue_id, "work_queue_id")


class _OnAutomation(Value, frozen=True, kw_only=True):
    source: Source = "selected"
    automation_id: UUID | None = None

    def __post_init__(self) -> None:
        _check_source(self.source, self.automation_id, "automation_id")


class DoNothing(Value, frozen=True, kw_only=True, tag="do-nothing"):
    """Only say that the automation was triggered."""


class RunDeployment(_OnDeployment, frozen=True, kw_only=True, tag="run-deployment"):
    """Make a flow run; null parameters and job variables are the deployment's own."""

    parameters: dict[str, Any] | None = None
    job_variables: dict[str, Any] | None = None
    schedule_after: float | str = 0.0
    """Seconds from the firing to the run; a duration that was given as text is seconds here."""

    def __post_init__(self) -> None:
        super().__post_init__()
        msgspec.structs.force_setattr(
            self, "schedule_after", seconds_of(self.schedule_after, "schedule_after")
        )


class PauseDeployment(_OnDeployment, frozen=True, kw_only=True, tag="pause-deployment"):
    """Pause the deployment."""


class ResumeDeployment(_OnDeployment, frozen=True, kw_only=True, tag="resume-deployment"):
    """Resume the deployment."""


class CancelFlowRun(Value, frozen=True, kw_only=True, tag="cancel-flow-run"):
    """Cancel the flow run of the event."""


class DeleteFlowRun(Value, frozen=True, kw_only=True, tag="delete-flow-run"):
    """Delete the flow run of the event."""


class SuspendFlowRun(Value, frozen=True, kw_only=True, tag="suspend-flow-run"):
    """Suspend the flow run of the event."""


class ResumeFlowRun(Value, frozen=True, kw_only=True, tag="resume-flow-run"):
    """Resume the flow run of the event."""


class ChangeFlowRunState(Value, frozen=True, kw_only=True, tag="change-flow-run-state"):
    """Propose a state for the flow run of the event."""

    state: StateType
    name: str | None = None
    message: str | None = None
    force: bool = False


class PauseWorkQueue(_OnWorkQueue, frozen=True, kw_only=True, tag="pause-work-queue"):
    """Pause the work queue."""


class ResumeWorkQueue(_OnWorkQueue, frozen=True, kw_only=True, tag="resume-work-queue"):
    """Resume the work queue."""


class PauseWorkPool(_OnWorkPool, frozen=True, kw_only=True, tag="pause-work-pool"):
    """Pause the work pool."""


class ResumeWorkPool(_OnWorkPool, frozen=True, kw_only=True, tag="resume-work-pool"):
    """Resume the work pool."""


class PauseAutomation(_OnAutomation, frozen=True, kw_only=True, tag="pause-automation"):
    """Disable the automation."""


class ResumeAutomation(_OnAutomation, frozen=True, kw_only=True, tag="resume-automation"):
    """Enable the automation."""


class SendNotification(Value, frozen=True, kw_only=True, tag="send-notification"):
    """Send a text through a notification block; both texts are templates."""

    block_document_id: UUID
    body: str
    subject: str = "Prefect automated notification"


class CallWebhook(Value, frozen=True, kw_only=True, tag="call-webhook"):
    """Call the webhook of a block; the payload is a template."""

    block_document_id: UUID
    payload: str | dict[str, Any] = ""
    """An object, as older clients send it, is its JSON text here."""

    def __post_init__(self) -> None:
        if not isinstance(self.payload, str):
            text = msgspec.json.format(encode(self.payload), indent=2).decode()
            msgspec.structs.force_setattr(self, "payload", text)


Action = (
    DoNothing
    | RunDeployment
    | PauseDeployment
    | ResumeDeployment
    | CancelFlowRun
    | DeleteFlowRun
    | ChangeFlowRunState
    | PauseWorkQueue
    | ResumeWorkQueue
    | SendNotification
    | CallWebhook
    | PauseAutomation
    | ResumeAutomation
    | SuspendFlowRun
    | ResumeFlowRun
    | PauseWorkPool
    | ResumeWorkPool
)
"""Any of them; the field ``type`` says which."""


def templates_of(action: Action) -> dict[str, str]:
    """The texts of ``action`` that are templates, by the name of their field."""
    if isinstance(action, SendNotification):
        return {"subject": action.subject, "body": action.body}
    if isinstance(action, CallWebhook):
        return {"payload": str(action.payload)}
    return {}
