"""Making, changing and deleting automations: what they refer to, and from where on they see events."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import to_builtins

from eparch.core.action_templates import check_template, flaws_in
from eparch.core.automation_actions import RunDeployment, templates_of
from eparch.core.automations import (
    Automation,
    AutomationCreate,
    AutomationPatch,
    AutomationUpdate,
    endless,
    with_new_ids,
)
from eparch.core.errors import Conflict, Invalid, NotFound
from eparch.core.events import Event
from eparch.core.model import UNSET, new_id
from eparch.core.trigger_index import Place, watches_of
from eparch.core.trigger_memory import Remembered, due_of, first_state
from eparch.core.triggers import GRACE
from eparch.orchestration.creation import check_job_variables
from eparch.store import automations as store
from eparch.store import deployments, pools, records
from eparch.store.statement import Note, Steps

MISSING = "Automation not found"

_FIELDS = AutomationUpdate.__struct_fields__


def create_automation(body: AutomationCreate, now: datetime) -> Steps[dict[str, Any]]:
    """Make an automation; it sees what happens from now on.

    Raises:
        Invalid: a template or job variables of its actions cannot be used.
    """
    yield from _check(body, now)
    yield from store.note_change()
    automation = _automation(new_id(), body, now, now)
    place = yield from store.place_now()
    yield from store.insert_automation({**_columns(automation), "id": automation.id, **_start(place)})
    if body.owner_resource:
        yield from store.relate(automation.id, [body.owner_resource], owned=True)
    yield from store.relate(automation.id, _acted_on(automation), owned=False)
    yield from _begin(automation, now)
    yield from _announce("created", automation, now)
    made = yield from store.read_automation(automation.id)
    assert made is not None
    return made


def update_automation(automation_id: UUID, body: AutomationUpdate, now: datetime) -> Steps[None]:
    """Replace the automation; its triggers are new ones, which remember nothing.

    Raises:
        NotFound: there is no such automation.
        Invalid: a template or job variables of its actions cannot be used.
    """
    yield from _check(body, now)
    yield from store.note_change()
    known = yield from store.automation_value(automation_id)
    if known is None:
        raise NotFound(MISSING)
    automation = _automation(automation_id, body, known.created or now, now)
    place = yield from store.place_now()
    yield from store.write_automation(automation_id, {**_columns(automation), **_start(place)})
    yield from store.unrelate(automation_id)
    yield from store.relate(automation_id, _acted_on(automation), owned=False)
    yield from store.forget(automation_id)
    yield from _begin(automation, now)
    yield from _announce("updated", automation, now)


def enable_automation(automation_id: UUID, patch: AutomationPatch, now: datetime) -> Steps[None]:
    """Enable or disable the automation; enabled anew it remembers nothing and sees what happens from now on.

    Raises:
        NotFound: there is no such automation.
        Invalid: enabled it would never stop.
    """
    yield from store.note_change()
    known = yield from store.automation_value(automation_id)
    if known is None:
        raise NotFound(MISSING)
    if patch.enabled is UNSET or patch.enabled == known.enabled:
        return
    if patch.enabled and (problem := endless(known.trigger, known.actions)):
        raise Invalid(f"The automation cannot be enabled: {problem}.")
    columns: dict[str, Any] = {"enabled": patch.enabled, "updated": now}
    if patch.enabled:
        columns.update(_start((yield from store.place_now())))
    yield from store.write_automation(automation_id, columns)
    yield from store.forget(automation_id)
    automation = yield from store.automation_value(automation_id)
    assert automation is not None
    yield from _begin(automation, now)
    yield from _announce("updated", automation, now)


def delete_automation(automation_id: UUID, now: datetime) -> Steps[None]:
    """Delete the automation; actions that are in the outbox are still carried out.

    Raises:
        NotFound: there is no such automation.
    """
    yield from store.note_change()
    known = yield from store.automation_value(automation_id)
    if known is None:
        raise NotFound(MISSING)
    yield from store.delete_automation(automation_id)
    yield from _announce("deleted", known, now)


def delete_owned(resource_id: str, now: datetime) -> Steps[int]:
    """Delete the automations that go with the resource; how many there were."""
    owned = yield from store.owned_by(resource_id)
    if not owned:
        return 0
    yield from store.note_change()
    for automation in owned:
        if (yield from store.delete_automation(automation.id)):
            yield from _announce("deleted", automation, now)
    return len(owned)


def _automation(id_: UUID, body: AutomationUpdate, created: datetime, now: datetime) -> Automation:
    given = {name: getattr(body, name) for name in _FIELDS}
    given["trigger"] = with_new_ids(body.trigger)
    return Automation(id=id_, created=created, updated=now, **given)


def _columns(automation: Automation) -> dict[str, Any]:
    return {name: getattr(automation, name) for name in ("created", "updated", *_FIELDS)}


def _start(place: Place) -> dict[str, Any]:
    return {"after_position": place.position, "after_id": place.id}


def _acted_on(automation: Automation) -> list[str]:
    """The deployments that it runs, as resources (wire: ``related-to``)."""
    runs = [action for action in automation.actions if isinstance(action, RunDeployment)]
    return sorted({f"prefect.deployment.{run.deployment_id}" for run in runs if run.deployment_id})


def _begin(automation: Automation, now: datetime) -> Steps[None]:
    """Let triggers that wait for an absence begin to wait."""
    if not automation.enabled:
        return
    remembered = []
    for watch in watches_of(automation, Place(0, automation.id)):
        state = first_state(watch, now)
        if state is not None and (due := due_of(watch, state)) is not None:
            told = Remembered(automation_id=automation.id, trigger_id=watch.trigger.id, key=[], state=state)
            remembered.append((told, due + GRACE))
    yield from store.put_states(remembered)


def _announce(what: str, automation: Automation, now: datetime) -> Steps[None]:
    """Write the event of the change, and wake who decides."""
    event = Event(
        occurred=now,
        event=f"prefect.automation.{what}",
        resource={
            "prefect.resource.id": f"prefect.automation.{automation.id}",
            "prefect.resource.name": automation.name,
        },
        payload=to_builtins(automation),
    )
    yield from records.insert_events([event], now)
    yield Note("events", event)
    yield Note("automations", automation.id)


def _check(body: AutomationUpdate, now: datetime) -> Steps[None]:
    for field in ("actions", "actions_on_trigger", "actions_on_resolve"):
        for at, action in enumerate(getattr(body, field)):
            for name, text in templates_of(action).items():
                if (flaw := check_template(text)) is not None:
                    raise Invalid(f"`{field}.{at}.{name}` is not a valid template: {flaw.message}")
            if isinstance(action, RunDeployment) and (flaws := flaws_in(action.parameters or {})):
                raise Invalid(f"`{field}.{at}.parameters` cannot be used: {' '.join(flaws)}")
    for action in body.actions:
        if isinstance(action, RunDeployment) and action.deployment_id and action.job_variables:
            yield from _check_job(action.deployment_id, action.job_variables, now)


def _check_job(deployment_id: UUID, own: dict[str, Any], now: datetime) -> Steps[None]:
    deployment = yield from deployments.deployment_value(deployment_id, now)
    if deployment is None or deployment.work_queue_id is None:
        return  # it may come later
    queue = yield from pools.read_queue(deployment.work_queue_id, now)
    template = (yield from pools.read_template(queue["work_pool_id"])) if queue else None
    if template is None:
        return
    try:
        check_job_variables(template[0], deployment.job_variables, own, required=False)
    except Conflict as error:
        raise Invalid(f"Error creating automation: {error.message}", fix=error.fix) from error
