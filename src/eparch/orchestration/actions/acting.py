"""Actions on what is in the database: one transaction each, by the operations that requests use too."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from eparch.core import automation_actions as a
from eparch.core.action_context import id_in, involved
from eparch.core.automations import AutomationPatch, TriggeredAction
from eparch.core.deployments import DeploymentUpdate
from eparch.core.errors import NotFound
from eparch.core.events import resource_id
from eparch.core.pools import WorkPoolUpdate, WorkQueueUpdate
from eparch.core.runs import Author, DeploymentFlowRunCreate, SetState, SetStateStatus
from eparch.core.states import StateCreate, StateDetails, StateType
from eparch.orchestration import (
    automation_changes,
    creation,
    deployments,
    inputs,
    pools,
    runs,
    transition,
)
from eparch.orchestration.actions.context import DEPTH, read_made_by
from eparch.orchestration.actions.outcome import ActionFailed, Outcome
from eparch.store import pools as stored_pools
from eparch.store.statement import Steps

MAX_DEPTH = 10
"""Automations in a row that may bring about each other's flow runs."""

SUSPENDED_SECONDS = 3600
"""How long a run that an automation suspended waits, as in Prefect."""

Act = Callable[[TriggeredAction, Outcome, "Rendered", datetime], Steps[str | None]]


class Rendered:
    """What was made of the templates of an action before it is carried out."""

    def __init__(self, parameters: dict[str, Any] | None = None, new_name: str = "") -> None:
        """``parameters`` and ``new_name`` are those of a run that is to be made."""
        self.parameters = parameters or {}
        self.new_name = new_name


def act(triggered: TriggeredAction, outcome: Outcome, rendered: Rendered, now: datetime) -> Steps[str | None]:
    """Carry out the action; why it failed although what it wrote stays, None when it did not.

    Raises:
        ActionFailed: it cannot be, for example because the event is not about what it acts on.
        EparchError: the operation was refused.
    """
    reason = yield from _ACTS[type(triggered.action)](triggered, outcome, rendered, now)
    return reason


def is_external(action: a.Action) -> bool:
    """Whether the action leaves the server."""
    return isinstance(action, (a.CallWebhook, a.SendNotification))


def _inferred(triggered: TriggeredAction, kind: str, selected: UUID | None, source: str) -> UUID:
    if source == "selected" and selected is not None:
        return selected
    if triggered.triggering_event is None:
        raise ActionFailed(f"No event to infer the {kind.replace('-', ' ')}")
    found = id_in(involved(triggered.triggering_event, f"prefect.{kind}"))
    if found is None:
        raise ActionFailed(f"No {kind.replace('-', ' ')} could be inferred")
    return found


def _flow_run(triggered: TriggeredAction, outcome: Outcome) -> UUID:
    """The run that the trigger watched, or that its event is about."""
    labels = triggered.triggering_labels
    found = None
    if resource_id(labels).startswith("prefect.flow-run."):
        found = id_in(labels)
    found = found or id_in(involved(triggered.triggering_event, "prefect.flow-run"))
    if found is None:
        raise ActionFailed("No flow run could be inferred")
    outcome.concerns(f"prefect.flow-run.{found}")
    return found


def _nothing(triggered: TriggeredAction, outcome: Outcome, _: Rendered, now: datetime) -> Steps[str | None]:
    yield from ()
    return None


def _run_deployment(
    triggered: TriggeredAction, outcome: Outcome, rendered: Rendered, now: datetime
) -> Steps[str | None]:
    action = triggered.action
    assert isinstance(action, a.RunDeployment)
    deployment_id = _inferred(triggered, "deployment", action.deployment_id, action.source)
    outcome.concerns(f"prefect.deployment.{deployment_id}")
    depth = 1
    cause = id_in(involved(triggered.triggering_event, "prefect.flow-run"))
    if cause is not None:
        depth += yield from read_made_by(cause, now)
    if depth > MAX_DEPTH:
        raise ActionFailed(
            f"Automations have brought about {MAX_DEPTH} flow runs in a row, each because of the one before. "
            "This is where it ends: narrow `match` or `match_related` of the trigger."
        )
    when = now + timedelta(seconds=float(action.schedule_after))
    body = DeploymentFlowRunCreate(
        state=StateCreate(type=StateType.SCHEDULED, state_details=StateDetails(scheduled_time=when)),
        parameters=rendered.parameters,
        job_variables=action.job_variables,
        labels={DEPTH: depth},
        idempotency_key=(
            f"automation {triggered.automation.id}, action {triggered.action_index}, "
            f"invocation {triggered.id}"
        ),
    )
    automation = triggered.automation
    author = Author(id=automation.id, type="AUTOMATION", display_value=automation.name)
    made = yield from creation.create_deployment_run(
        deployment_id, body, now, new_name=rendered.new_name, author=author
    )
    outcome.answered(201 if made.fresh else 200)
    outcome.concerns(f"prefect.flow-run.{made.run['id']}", "flow-run", str(made.run["name"]))
    return None


def _pausing_deployment(paused: bool) -> Act:
    def act_(triggered: TriggeredAction, outcome: Outcome, _: Rendered, now: datetime) -> Steps[str | None]:
        action = triggered.action
        assert isinstance(action, (a.PauseDeployment, a.ResumeDeployment))
        id_ = _inferred(triggered, "deployment", action.deployment_id, action.source)
        outcome.concerns(f"prefect.deployment.{id_}")
        yield from deployments.update_deployment(id_, DeploymentUpdate(paused=paused), now)
        outcome.answered(200)
        return None

    return act_


def _pausing_pool(paused: bool) -> Act:
    def act_(triggered: TriggeredAction, outcome: Outcome, _: Rendered, now: datetime) -> Steps[str | None]:
        action = triggered.action
        assert isinstance(action, (a.PauseWorkPool, a.ResumeWorkPool))
        id_ = _inferred(triggered, "work-pool", action.work_pool_id, action.source)
        pool = yield from stored_pools.read_pool_by_id(id_, now)
        if pool is None:
            raise ActionFailed(f"Work pool {id_} not found")
        outcome.concerns(f"prefect.work-pool.{id_}", name=pool["name"])
        yield from pools.update_pool(pool["name"], WorkPoolUpdate(is_paused=paused), now)
        outcome.answered(204)
        return None

    return act_


def _pausing_queue(paused: bool) -> Act:
    def act_(triggered: TriggeredAction, outcome: Outcome, _: Rendered, now: datetime) -> Steps[str | None]:
        action = triggered.action
        assert isinstance(action, (a.PauseWorkQueue, a.ResumeWorkQueue))
        id_ = _inferred(triggered, "work-queue", action.work_queue_id, action.source)
        outcome.concerns(f"prefect.work-queue.{id_}")
        yield from pools.update_queue_by_id(id_, WorkQueueUpdate(is_paused=paused), now)
        outcome.answered(204)
        return None

    return act_


def _enabling(enabled: bool) -> Act:
    def act_(triggered: TriggeredAction, outcome: Outcome, _: Rendered, now: datetime) -> Steps[str | None]:
        action = triggered.action
        assert isinstance(action, (a.PauseAutomation, a.ResumeAutomation))
        id_ = _inferred(triggered, "automation", action.automation_id, action.source)
        outcome.concerns(f"prefect.automation.{id_}")
        yield from automation_changes.enable_automation(id_, AutomationPatch(enabled=enabled), now)
        outcome.answered(204)
        return None

    return act_


def _change_state(
    triggered: TriggeredAction, outcome: Outcome, _: Rendered, now: datetime
) -> Steps[str | None]:
    run_id = _flow_run(triggered, outcome)
    state, force = _wanted_state(triggered, now)
    answered = yield from transition.set_flow_run_state(run_id, SetState(state=state, force=force), now)
    outcome.answered(201 if answered.wrote else 200)
    if answered.answer.status is not SetStateStatus.ACCEPT:
        return f"Failed to set state: {answered.answer.details.reason or ''}"
    return None


def _wanted_state(triggered: TriggeredAction, now: datetime) -> tuple[StateCreate, bool]:
    action = triggered.action
    by = f"by Automation {triggered.automation.id}"
    if isinstance(action, a.ChangeFlowRunState):
        message = action.message or f"State changed {by}"
        return StateCreate(type=action.state, name=action.name, message=message), action.force
    if isinstance(action, a.CancelFlowRun):
        return StateCreate(type=StateType.CANCELLING, message=f"Cancelled {by}"), False
    until = now + timedelta(seconds=SUSPENDED_SECONDS)
    details = StateDetails(pause_timeout=until, pause_reschedule=True)
    message = f"Suspended {by}"
    paused = StateCreate(type=StateType.PAUSED, name="Suspended", message=message, state_details=details)
    return paused, False


def _resume(triggered: TriggeredAction, outcome: Outcome, _: Rendered, now: datetime) -> Steps[str | None]:
    answered = yield from inputs.resume(_flow_run(triggered, outcome), None, now)
    if answered.answer.status is not SetStateStatus.ACCEPT:
        return f"Failed to resume flow run: {answered.answer.details.reason or ''}"
    return None


def _delete(triggered: TriggeredAction, outcome: Outcome, _: Rendered, now: datetime) -> Steps[str | None]:
    run_id = _flow_run(triggered, outcome)
    try:
        yield from runs.delete_flow_run(run_id)
    except NotFound as error:
        raise NotFound("Flow run not found") from error
    outcome.answered(204)
    return None


_ACTS: dict[type, Act] = {
    a.DoNothing: _nothing,
    a.RunDeployment: _run_deployment,
    a.PauseDeployment: _pausing_deployment(True),
    a.ResumeDeployment: _pausing_deployment(False),
    a.CancelFlowRun: _change_state,
    a.ChangeFlowRunState: _change_state,
    a.SuspendFlowRun: _change_state,
    a.ResumeFlowRun: _resume,
    a.DeleteFlowRun: _delete,
    a.PauseWorkPool: _pausing_pool(True),
    a.ResumeWorkPool: _pausing_pool(False),
    a.PauseWorkQueue: _pausing_queue(True),
    a.ResumeWorkQueue: _pausing_queue(False),
    a.PauseAutomation: _enabling(False),
    a.ResumeAutomation: _enabling(True),
}
