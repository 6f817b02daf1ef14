"""What all triggers remember, and how events and time change it: the same for deciding and for a dry run.

A memory is filled with what is stored, changed by events and time, and says what has changed. It reads
nothing itself and has no clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from eparch.core import metrics, triggers
from eparch.core.automation_actions import Action
from eparch.core.automations import (
    Automation,
    EventTrigger,
    Firing,
    MetricTrigger,
    TriggeredAction,
    TriggerState,
)
from eparch.core.events import Event, ReceivedEvent, ResourceLabels
from eparch.core.metrics import Gauge, Times
from eparch.core.model import Value, new_id
from eparch.core.trigger_index import Watch, chain_of
from eparch.core.triggers import Key, Window

State = Window | Gauge
"""What one trigger remembers for one key."""

Kept = dict[UUID, Firing]
"""Firings of triggers inside of others, by the id of the trigger."""


class Remembered(Value, frozen=True, kw_only=True):
    """A state with whom it belongs to."""

    automation_id: UUID
    trigger_id: UUID
    key: list[str]
    state: State | None

    @property
    def id(self) -> UUID:
        """Of the trigger and the key."""
        return state_id(self.trigger_id, tuple(self.key))


def state_id(trigger_id: UUID, key: Key) -> UUID:
    """The id of what ``trigger_id`` remembers for ``key``."""
    text = "".join(f"{len(part)}:{part}" for part in key)
    return UUID(bytes=hashlib.blake2b(text.encode(), digest_size=16, key=trigger_id.bytes).digest())


def key_of(watch: Watch, event: Event) -> Key:
    """For which key the trigger of ``watch`` remembers ``event``."""
    return triggers.key_of(watch.trigger, event) if isinstance(watch.trigger, EventTrigger) else ()


def due_of(watch: Watch, state: State | None) -> datetime | None:
    """When time changes ``state``."""
    if isinstance(state, Window) and isinstance(watch.trigger, EventTrigger):
        return triggers.due(watch.trigger, state)
    if isinstance(state, Gauge) and isinstance(watch.trigger, MetricTrigger):
        return metrics.due(watch.trigger, state)
    return None


def first_state(watch: Watch, now: datetime) -> State | None:
    """What the trigger of ``watch`` remembers when it begins."""
    return triggers.first_window(watch.trigger, now) if isinstance(watch.trigger, EventTrigger) else None


class Memory:
    """States by their id, and the firings that triggers around them wait with."""

    def __init__(self, states: Mapping[UUID, State], kept: Mapping[UUID, Kept]) -> None:
        """``kept`` is by the automation's id. States and firings that are not given are not there."""
        self._states = dict(states)
        self._kept = dict(kept)
        self.changed: dict[UUID, tuple[Watch, Remembered]] = {}
        """States that are not what they were, by their id; one without a state is to be forgotten."""
        self.changed_kept: dict[UUID, Kept] = {}

    def see(self, watch: Watch, event: ReceivedEvent, times: Times | None = None) -> list[Firing]:
        """How the automation of ``watch`` fires for ``event``, which concerns its trigger."""
        trigger, key = watch.trigger, key_of(watch, event)
        id_ = state_id(trigger.id, key)
        before = self._states.get(id_)
        after: State | None
        if isinstance(trigger, EventTrigger):
            window = before if isinstance(before, Window) else None
            after, fired = triggers.observe(trigger, window, event)
        else:
            value = metrics.sample(trigger.metric, event, times)
            if value is None or metrics.run_of(event) is None:
                return []
            gauge = before if isinstance(before, Gauge) else Gauge()
            moment = triggers.moment_of(event)
            after, fired = metrics.observe(trigger, gauge, value, event, moment)
        self._put(watch, key, id_, before, after)
        return self._rise(watch, fired)

    def expire(self, watch: Watch, key: Key, now: datetime) -> list[Firing]:
        """How the automation of ``watch`` fires because it is ``now``."""
        trigger, id_ = watch.trigger, state_id(watch.trigger.id, key)
        before = self._states.get(id_)
        after: State | None = before
        fired: list[Firing] = []
        if isinstance(before, Window) and isinstance(trigger, EventTrigger):
            after, fired = triggers.expire(trigger, before, now)
        elif isinstance(before, Gauge) and isinstance(trigger, MetricTrigger):
            after, fired = metrics.expire(trigger, before, now)
        self._put(watch, key, id_, before, after)
        return self._rise(watch, fired)

    def _put(self, watch: Watch, key: Key, id_: UUID, before: State | None, after: State | None) -> None:
        if after is before:
            return
        if after is None:
            del self._states[id_]
        else:
            self._states[id_] = after
        automation_id = watch.automation.id
        told = Remembered(
            automation_id=automation_id, trigger_id=watch.trigger.id, key=list(key), state=after
        )
        self.changed[id_] = (watch, told)

    def _rise(self, watch: Watch, fired: list[Firing]) -> list[Firing]:
        if not watch.around:
            return fired
        risen: list[Firing] = []
        for firing in fired:
            if TriggerState.TRIGGERED not in firing.trigger_states:
                continue  # that a number is right again is nothing that a trigger around it waits for
            automation_id = watch.automation.id
            outer, kept = triggers.rise(watch.around, firing, self._kept.get(automation_id, {}))
            self._kept[automation_id] = self.changed_kept[automation_id] = kept
            if outer is not None:
                risen.append(outer)
        return risen


# What a firing means


def state_events(automation: Automation, firing: Firing, now: datetime) -> dict[TriggerState, Event]:
    """The events that say that ``automation`` fired: ``prefect.automation.triggered`` and ``resolved``."""
    resource: ResourceLabels = {
        "prefect.resource.id": f"prefect.automation.{automation.id}",
        "prefect.resource.name": automation.name,
    }
    if isinstance(automation.trigger, EventTrigger | MetricTrigger):
        resource["prefect.posture"] = automation.trigger.posture
    cause = firing.triggering_event
    related: list[ResourceLabels] = []
    if cause is not None:
        labels = {"prefect.resource.id": f"prefect.event.{cause.id}"}
        related = [{**labels, "prefect.resource.role": "triggering-event"}]
    payload = {
        "triggering_labels": firing.triggering_labels,
        "triggering_event": without_cause(cause) if cause is not None else None,
        "chain": chain_of(cause) + 1,
    }
    return {
        state: Event(
            occurred=now,
            event=f"prefect.automation.{state.lower()}",
            resource=resource,
            related=related,
            payload=payload,
        )
        for state in TriggerState
        if state in firing.trigger_states
    }


def without_cause(event: ReceivedEvent) -> ReceivedEvent:
    """``event`` without the event that caused it in turn, so that a chain of them does not grow."""
    if not chain_of(event) or "triggering_event" not in event.payload:
        return event
    payload = {**event.payload, "triggering_event": None}
    return replace(event, payload=payload)


def actions_of(
    automation: Automation, firing: Firing, events: Mapping[TriggerState, Event], now: datetime
) -> list[TriggeredAction]:
    """What is to be done as ``automation`` fired; ``events`` are those that say so."""
    first = next(iter(events.values()))
    chosen: list[tuple[Action, ReceivedEvent | None, UUID]] = [
        (action, firing.triggering_event, first.id) for action in automation.actions
    ]
    for state, actions in (
        (TriggerState.TRIGGERED, automation.actions_on_trigger),
        (TriggerState.RESOLVED, automation.actions_on_resolve),
    ):
        if (event := events.get(state)) is not None:
            received = ReceivedEvent(
                **{name: getattr(event, name) for name in event.__struct_fields__}, received=now
            )
            chosen += [(action, received, event.id) for action in actions]
    return [
        TriggeredAction(
            id=new_id(),
            automation=automation,
            firing=firing,
            triggered=firing.triggered,
            triggering_labels=firing.triggering_labels,
            triggering_event=event,
            action=action,
            action_index=index,
            automation_triggered_event_id=event_id,
        )
        for index, (action, event, event_id) in enumerate(chosen)
    ]
