"""The automations that go with a deployment: one for each of its triggers (row D16).

Owns what they are and whether a server has them already. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.action_templates import flaws_in
from eparch.core.automation_actions import RunDeployment
from eparch.core.automation_documents import typed_trigger
from eparch.core.automations import Automation, AutomationCreate
from eparch.core.errors import Invalid
from eparch.core.model import Json

_OF_AUTOMATION = ("name", "description", "enabled")
_OF_ACTION = ("parameters", "job_variables", "schedule_after")


def automation_of(trigger: dict[str, Json], deployment_id: UUID, label: str, number: int) -> AutomationCreate:
    """The automation for the trigger, the ``number``-th of the deployment called ``label``.

    Raises:
        Invalid: the trigger cannot be used.
    """
    own = {name: trigger[name] for name in _OF_AUTOMATION if name in trigger}
    action = {name: trigger[name] for name in _OF_ACTION if name in trigger}
    left = {k: v for k, v in trigger.items() if k not in (*_OF_AUTOMATION, *_OF_ACTION)}
    if isinstance(action.get("parameters"), dict) and (flaws := flaws_in(action["parameters"])):
        raise Invalid("; ".join(flaws))
    given = {
        "name": f"{label} trigger {number}",
        **own,
        "trigger": typed_trigger(left),
        "actions": [{**action, "type": "run-deployment", "deployment_id": str(deployment_id)}],
        "owner_resource": owner_of(deployment_id),
    }
    try:
        return msgspec.convert(given, AutomationCreate)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from error


def owner_of(deployment_id: UUID) -> str:
    """What the deployment is called as the owner of automations."""
    return f"prefect.deployment.{deployment_id}"


def automations_of(
    triggers: Iterable[dict[str, Json]], deployment_id: UUID, label: str
) -> list[AutomationCreate]:
    """One automation for each trigger."""
    return [automation_of(one, deployment_id, label, at) for at, one in enumerate(triggers, 1)]


def is_there(wanted: Sequence[AutomationCreate], related: Iterable[Automation], deployment_id: UUID) -> bool:
    """Whether the automations that run the deployment are those wanted, in any order."""
    found = [_compared(one) for one in related if _runs(one, deployment_id)]
    for one in wanted:
        if _compared(one) not in found:
            return False
        found.remove(_compared(one))
    return not found


def _runs(automation: Automation, deployment_id: UUID) -> bool:
    actions = automation.actions
    return (
        len(actions) == 1
        and isinstance(actions[0], RunDeployment)
        and actions[0].deployment_id == deployment_id
    )


def _compared(automation: Automation | AutomationCreate) -> Any:
    """What two automations must have in common; ids of triggers are made by the server."""
    trigger = _without_ids(msgspec.to_builtins(automation.trigger))
    own = (automation.name, automation.description, automation.enabled)
    return *own, trigger, msgspec.to_builtins(automation.actions)


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_ids(item) for key, item in value.items() if key != "id"}
    return [_without_ids(item) for item in value] if isinstance(value, list) else value
