"""Automations as values: what they wait for, what they do, and what happened when they fired.

Owns the fields of the wire and what makes an automation unusable by itself (openapi: ``Automation``,
``EventTrigger`` ...). When a trigger fires is decided in ``triggers``; actions are in ``automation_actions``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from eparch.core.automation_actions import Action, RunDeployment, seconds_of
from eparch.core.events import ReceivedEvent
from eparch.core.model import UNSET, Body, Patch, Record, Timestamp, UnsetType, Value, new_id

MAX_TRIGGERS = 100
"""Triggers of one automation, those inside of others counted."""

MAX_ACTIONS = 100
"""Actions in one list of an automation."""

SHORTEST_PROACTIVE = 10.0
SHORTEST_METRIC = 300.0
"""Seconds: the smallest `within` of a proactive trigger, `range` and `firing_for` of a metric."""

Specification = dict[str, str | list[str]]
"""Labels that a resource must have: each with a pattern or a list of them, ``*`` for any characters, ``!``
in front for its contrary. Empty admits every resource."""


class TriggerState(StrEnum):
    """What a firing says of its automation."""

    TRIGGERED = "Triggered"
    RESOLVED = "Resolved"


class _Trigger(Value, frozen=True, kw_only=True):
    id: UUID = msgspec.field(default_factory=new_id)


class _ResourceTrigger(_Trigger, frozen=True, kw_only=True):
    match: Specification = {}
    match_related: Specification | list[Specification] = {}

    @property
    def related_specifications(self) -> list[Specification]:
        """Each of them must be met by one of an event's related resources."""
        return self.match_related if isinstance(self.match_related, list) else [self.match_related]


class EventTrigger(_ResourceTrigger, frozen=True, kw_only=True, tag="event"):
    """Fires when events happen (reactive), or when they do not (proactive)."""

    posture: Literal["Reactive", "Proactive"]
    after: list[str] = []
    expect: list[str] = []
    for_each: list[str] = []
    threshold: int = 1
    within: float | str = 0.0
    """Seconds; a duration that was given as text is seconds here."""

    def __post_init__(self) -> None:
        within = seconds_of(self.within, "within")
        if self.proactive:
            if 0 < within < SHORTEST_PROACTIVE:
                raise ValueError(
                    f"a Proactive trigger needs `within` of at least {SHORTEST_PROACTIVE:g} seconds"
                )
            within = within or SHORTEST_PROACTIVE
        msgspec.structs.force_setattr(self, "within", within)
        for name in ("after", "expect", "for_each"):  # they are sets on the wire
            msgspec.structs.force_setattr(self, name, list(dict.fromkeys(getattr(self, name))))

    @property
    def window(self) -> timedelta:
        """``within`` as a duration."""
        return timedelta(seconds=float(self.within))

    @property
    def proactive(self) -> bool:
        """Whether it waits for the absence of events."""
        return self.posture == "Proactive"


class Metric(StrEnum):
    """What can be measured of flow runs."""

    LATENESS = "lateness"
    DURATION = "duration"
    SUCCESSES = "successes"


class MetricQuery(Value, frozen=True, kw_only=True):
    """A number of the flow runs of the last ``range`` seconds, and what is wrong about it."""

    name: Metric
    threshold: float
    operator: Literal["<", "<=", ">", ">="]
    range: float | str = SHORTEST_METRIC
    firing_for: float | str = SHORTEST_METRIC
    """Seconds for which it must hold, or not hold, before the state of the automation changes."""

    def __post_init__(self) -> None:
        for name in ("range", "firing_for"):
            seconds = seconds_of(getattr(self, name), name)
            if seconds < SHORTEST_METRIC:
                raise ValueError(f"`{name}` must be at least {SHORTEST_METRIC:g} seconds")
            msgspec.structs.force_setattr(self, name, seconds)


class MetricTrigger(_ResourceTrigger, frozen=True, kw_only=True, tag="metric"):
    """Fires when a number of flow runs passes a threshold, and when it comes back."""

    metric: MetricQuery
    posture: Literal["Metric"] = "Metric"


class _CompositeTrigger(_Trigger, frozen=True, kw_only=True):
    triggers: list[Trigger]
    within: float | str | None
    """Seconds; a duration that was given as text is seconds here; null is without end."""

    def __post_init__(self) -> None:
        if self.within is not None:
            msgspec.structs.force_setattr(self, "within", seconds_of(self.within, "within"))

    @property
    def window(self) -> timedelta | None:
        """``within`` as a duration."""
        return None if self.within is None else timedelta(seconds=float(self.within))


class CompoundTrigger(_CompositeTrigger, frozen=True, kw_only=True, tag="compound"):
    """Fires when enough of its triggers have."""

    require: int | Literal["any", "all"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.require, int) and not 1 <= self.require <= len(self.triggers):
            raise ValueError(f"`require` must be between 1 and the number of triggers, {len(self.triggers)}")


class SequenceTrigger(_CompositeTrigger, frozen=True, kw_only=True, tag="sequence"):
    """Fires when all of its triggers have, one after the other."""


Trigger = EventTrigger | MetricTrigger | CompoundTrigger | SequenceTrigger
"""Any of them; the field ``type`` says which."""


def triggers_within(trigger: Trigger) -> Iterator[Trigger]:
    """``trigger`` and those inside of it."""
    yield trigger
    if isinstance(trigger, CompoundTrigger | SequenceTrigger):
        for child in trigger.triggers:
            yield from triggers_within(child)


def with_new_ids(trigger: Trigger) -> Trigger:
    """``trigger`` with ids of its own: those of a client may be taken."""
    if isinstance(trigger, CompoundTrigger | SequenceTrigger):
        children = [with_new_ids(child) for child in trigger.triggers]
        return msgspec.structs.replace(trigger, id=new_id(), triggers=children)
    return msgspec.structs.replace(trigger, id=new_id())


_Actions = Annotated[list[Action], Meta(max_length=MAX_ACTIONS)]


class AutomationUpdate(Body, frozen=True, kw_only=True):
    """``PUT /automations/{id}``: the whole automation anew."""

    name: str
    trigger: Trigger
    actions: _Actions
    description: str = ""
    enabled: bool = True
    tags: list[str] = []
    actions_on_trigger: _Actions = []
    actions_on_resolve: _Actions = []

    def __post_init__(self) -> None:
        if sum(1 for _ in triggers_within(self.trigger)) > MAX_TRIGGERS:
            raise ValueError(f"an automation has at most {MAX_TRIGGERS} triggers")
        if self.enabled and (problem := endless(self.trigger, self.actions)):
            raise ValueError(problem)


class AutomationCreate(AutomationUpdate, frozen=True, kw_only=True):
    """``POST /automations/``."""

    owner_resource: str | None = None
    """The resource that the automation goes with, ``prefect.deployment.<id>``."""


class AutomationPatch(Patch, frozen=True, kw_only=True):
    """``PATCH /automations/{id}``; without ``enabled`` nothing changes."""

    enabled: bool | UnsetType = UNSET


class Automation(Record, frozen=True, kw_only=True):
    """What happens when a trigger fires."""

    name: str
    trigger: Trigger
    actions: list[Action]
    description: str = ""
    enabled: bool = True
    tags: list[str] = []
    actions_on_trigger: list[Action] = []
    actions_on_resolve: list[Action] = []


class Firing(Value, frozen=True, kw_only=True):
    """One time that a trigger fired."""

    trigger: Trigger
    trigger_states: list[TriggerState]
    triggered: Timestamp
    """The moment that it belongs to, which is not later than the one at which it was noticed."""
    triggering_labels: dict[str, str] = {}
    """The values of ``for_each``."""
    triggering_firings: list[Firing] = []
    """Those of the triggers inside of it."""
    triggering_event: ReceivedEvent | None = None
    triggering_value: Any = None
    """What a metric was."""
    id: UUID = msgspec.field(default_factory=new_id)


class TriggeredAction(Value, frozen=True, kw_only=True):
    """An action that is to be carried out because its automation fired."""

    id: UUID
    automation: Automation
    """As it was when it fired."""
    firing: Firing
    triggered: Timestamp
    triggering_labels: dict[str, str]
    triggering_event: ReceivedEvent | None
    """That of the firing; for ``actions_on_trigger`` and ``actions_on_resolve`` the automation's own."""
    action: Action
    action_index: int
    automation_triggered_event_id: UUID | None
    """The event ``prefect.automation.triggered`` or ``resolved`` that says so."""


_OF_EVERY_RUN = frozenset(f"prefect.flow-run.{name}" for name in ("Scheduled", "Pending", "Running", "*"))
"""Events that each flow run of a deployment has."""


def endless(trigger: Trigger, actions: list[Action]) -> str:
    """Why running a deployment whenever a flow run begins would never end; empty when it would."""
    if not isinstance(trigger, EventTrigger) or trigger.proactive:
        return ""
    if not _OF_EVERY_RUN.intersection(trigger.expect):
        return ""
    for action in actions:
        if not isinstance(action, RunDeployment):
            continue
        if action.source == "inferred":
            return (
                "the deployment of each flow run that begins would be run again without end; select a"
                " deployment, and narrow `match` or `match_related` so that its own runs do not trigger it"
            )
        wide = any(_every_flow_run(related) for related in trigger.related_specifications)
        if _every_flow_run(trigger.match) and wide:
            return (
                "the runs of the selected deployment would trigger it again without end; narrow `match` or"
                " `match_related` so that they do not"
            )
    return ""


def _every_flow_run(specification: Specification) -> bool:
    if not specification:
        return True
    wanted = specification.get("prefect.resource.id", [])
    choices = [wanted] if isinstance(wanted, str) else wanted
    return len(specification) == 1 and "prefect.flow-run.*" in choices
