"""When an automation would have fired: past events through the same rules, nothing is done.

Owns the body and the answer of a dry run and the order of events and time in it; events come from outside.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from eparch.core.automations import Automation, AutomationCreate, EventTrigger, Firing, TriggerState
from eparch.core.events import ReceivedEvent
from eparch.core.metrics import Times
from eparch.core.model import Body, Timestamp, Value
from eparch.core.trigger_index import Index, Place, Watch, watches_of
from eparch.core.trigger_memory import Memory, due_of, first_state, state_id
from eparch.core.triggers import Key, moment_of

MOST_EVENTS = 100_000
"""Events that one dry run looks at."""

MOST_FIRINGS = 1_000
"""Firings that one dry run answers."""


class DryRun(Body, frozen=True, kw_only=True):
    """``POST /automations/dry-run``: one that there is, or one that might be; by default of the last day."""

    automation: AutomationCreate | None = None
    id: UUID | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None

    def __post_init__(self) -> None:
        if (self.automation is None) == (self.id is None):
            raise ValueError("give either `automation` or the `id` of one")


class DryFiring(Value, frozen=True, kw_only=True):
    """One time that the automation would have fired."""

    triggered: Timestamp
    states: list[TriggerState]
    event_id: UUID | None
    """The event that it would have been triggered by, if any."""
    event: str | None
    labels: dict[str, str]
    actions: list[str]
    """The types of the actions that would have been carried out, in their order."""


class DryRunAnswer(Value, frozen=True, kw_only=True):
    """What a dry run found."""

    since: Timestamp
    until: Timestamp
    """Where it ended: earlier than asked for when it was cut."""
    events: int
    """How many events it looked at."""
    firings: list[DryFiring]
    cut: bool
    """Whether there were more events or firings than one dry run takes."""


class Replay:
    """One automation from ``since`` on, as if it had been enabled then."""

    def __init__(self, automation: Automation, since: datetime) -> None:
        """Nothing has happened yet."""
        self.firings: list[DryFiring] = []
        self.seen = 0
        self._automation = automation
        self._index = Index(watches_of(automation, Place(-1, UUID(int=0))))
        self._due: list[tuple[datetime, int, Watch, Key]] = []
        self._entries = 0
        states = {}
        for watch in self._index.watches.values():
            state = first_state(watch, since)
            if state is not None:
                states[state_id(watch.trigger.id, ())] = state
                self._plan(watch, (), due_of(watch, state))
        self._memory = Memory(states, {})

    def names(self) -> list[str]:
        """The names of all events that can matter; empty when they cannot be listed."""
        found: set[str] = set()
        for watch in self._index.watches.values():
            trigger = watch.trigger
            names = [*trigger.expect, *trigger.after] if isinstance(trigger, EventTrigger) else []
            if not names or (isinstance(trigger, EventTrigger) and not trigger.expect):
                return []
            if any(letter in name for name in names for letter in "*?[!"):
                return []
            found.update(names)
        return sorted(found)

    def measures(self) -> bool:
        """Whether it needs the times of flow runs."""
        return any(not isinstance(watch.trigger, EventTrigger) for watch in self._index.watches.values())

    def see(self, event: ReceivedEvent, times: Times | None = None) -> None:
        """The next event, and all that time has changed before it."""
        self.seen += 1
        self.pass_until(moment_of(event))
        for watch in self._index.find(event):
            self._note(self._memory.see(watch, event, times))
            self._follow()

    def pass_until(self, moment: datetime) -> None:
        """Time goes by until ``moment``."""
        while self._due and self._due[0][0] <= moment and not self.full():
            due, _, watch, key = heapq.heappop(self._due)
            self._note(self._memory.expire(watch, key, due))
            self._follow()

    def full(self) -> bool:
        """Whether there are as many firings as may be answered."""
        return len(self.firings) >= MOST_FIRINGS

    def _follow(self) -> None:
        for watch, told in self._memory.changed.values():
            self._plan(watch, tuple(told.key), due_of(watch, told.state))
        self._memory.changed.clear()

    def _plan(self, watch: Watch, key: Key, due: datetime | None) -> None:
        # A state that has changed meanwhile has another entry; looking at it once more does nothing.
        if due is not None:
            self._entries += 1
            heapq.heappush(self._due, (due, self._entries, watch, key))

    def _note(self, firings: list[Firing]) -> None:
        for firing in firings[: MOST_FIRINGS - len(self.firings)]:
            event = firing.triggering_event
            self.firings.append(
                DryFiring(
                    triggered=firing.triggered,
                    states=firing.trigger_states,
                    event_id=event.id if event is not None else None,
                    event=event.event if event is not None else None,
                    labels=firing.triggering_labels,
                    actions=list(self._types(firing)),
                )
            )

    def _types(self, firing: Firing) -> Iterator[str]:
        automation = self._automation
        chosen = list(automation.actions)
        if TriggerState.TRIGGERED in firing.trigger_states:
            chosen += automation.actions_on_trigger
        if TriggerState.RESOLVED in firing.trigger_states:
            chosen += automation.actions_on_resolve
        for action in chosen:
            yield str(action.__struct_config__.tag)
