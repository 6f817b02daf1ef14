"""One automation that is driven by hand: events come, time goes by, nothing is stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.automations import Automation, Firing, Trigger
from eparch.core.events import ReceivedEvent
from eparch.core.metrics import Times
from eparch.core.model import decode, encode, new_id
from eparch.core.trigger_index import Index, Place, Watch, watches_of
from eparch.core.trigger_memory import Memory, State, due_of, first_state, state_id

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def at(seconds: float) -> datetime:
    return START + seconds * SECOND


def event(seconds: float, name: str = "e", *, received: float | None = None, **more: Any) -> ReceivedEvent:
    resource = {"prefect.resource.id": more.pop("id_", "thing.1"), **more.pop("labels", {})}
    return ReceivedEvent(
        occurred=at(seconds),
        received=at(seconds if received is None else received),
        event=name,
        resource=resource,
        **more,
    )


def a_trigger(**fields: Any) -> Trigger:
    made: Trigger = msgspec.convert({"type": "event", "posture": "Reactive", **fields}, Trigger)
    return made


def an_automation(trigger: Trigger | dict[str, Any], **fields: Any) -> Automation:
    if isinstance(trigger, dict):
        trigger = msgspec.convert({"type": "event", "posture": "Reactive", **trigger}, Trigger)
    return Automation(**{"id": new_id(), "name": "a", "trigger": trigger, "actions": [], **fields})


class Play:
    """One automation, driven by hand; states go through JSON at each step, as they do in a database."""

    def __init__(self, **trigger: Any) -> None:
        self.automation = an_automation({"id": str(new_id()), **trigger})
        self.watches = list(watches_of(self.automation, Place(-1, UUID(int=0))))
        self.index = Index(self.watches)
        self.states: dict[UUID, tuple[Watch, tuple[str, ...], State]] = {}
        self.kept: dict[UUID, Any] = {}
        self.fired: list[Firing] = []
        for watch in self.watches:
            if (state := first_state(watch, START)) is not None:
                self.states[state_id(watch.trigger.id, ())] = watch, (), state

    def _memory(self) -> Memory:
        return Memory(
            {id_: decode(encode(state), State) for id_, (_, _, state) in self.states.items()}, self.kept
        )

    def _keep(self, memory: Memory) -> None:
        for id_, (watch, told) in memory.changed.items():
            if told.state is None:
                self.states.pop(id_, None)
            else:
                self.states[id_] = watch, tuple(told.key), told.state
        self.kept.update(memory.changed_kept)

    def see(self, *events: ReceivedEvent, times: Times | None = None) -> list[Firing]:
        """The firings of these events."""
        found: list[Firing] = []
        for one in events:
            memory = self._memory()
            for watch in self.index.find(one):
                found += memory.see(watch, one, times)
            self._keep(memory)
        self.fired += found
        return found

    def wait(self, seconds: float) -> list[Firing]:
        """The firings of time until then; only what is due is looked at."""
        found: list[Firing] = []
        while True:
            due = [
                (moment, watch, key)
                for watch, key, state in self.states.values()
                if (moment := due_of(watch, state)) is not None and moment <= at(seconds)
            ]
            if not due:
                break
            _, watch, key = min(due, key=lambda entry: entry[0])
            memory = self._memory()
            found += memory.expire(watch, key, at(seconds))
            self._keep(memory)
        self.fired += found
        return found


def metric(**fields: Any) -> dict[str, Any]:
    return {"type": "metric", "posture": "Metric", "metric": {"range": 600, "firing_for": 300, **fields}}
