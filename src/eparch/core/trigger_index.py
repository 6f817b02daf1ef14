"""Which triggers an event may concern, without asking each of them.

A trigger stands under the names that it waits for (a whole name, a beginning, or any) and, where it names
the resource or a related one, under the resource's id. Most events find nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from eparch.core import triggers
from eparch.core.automations import Automation, EventTrigger, MetricTrigger
from eparch.core.events import Event, resource_id
from eparch.core.triggers import Composite

OWN_EVENTS = "prefect.automation."
"""How events begin that say that an automation fired, and what came of its actions."""

LONGEST_CHAIN = 8
"""Firings that may follow from one another through such events; then the chain is cut."""

LONGEST_UNNAMED = 2
"""The same for a trigger that does not name such events, as one on whatever happens.

A few of those would make thousands of each event, as each is triggered by all of the others.
"""


class Place(NamedTuple):
    """A place in the order of events: position and id of the last one before."""

    position: int
    id: UUID


@dataclass(frozen=True, slots=True)
class Watch:
    """A trigger that waits for events: of which automation, inside of which others, from where on."""

    automation: Automation
    trigger: EventTrigger | MetricTrigger
    around: tuple[Composite, ...]
    after: Place


class _Names:
    """The watches of one name, by the id of a resource where they name one."""

    __slots__ = ("anywhere", "by_resource")

    def __init__(self) -> None:
        self.by_resource: dict[str, list[Watch]] = {}
        self.anywhere: list[Watch] = []

    def add(self, watch: Watch) -> None:
        ids = _resources(watch.trigger)
        if ids is None:
            self.anywhere.append(watch)
        else:
            for id_ in ids:
                self.by_resource.setdefault(id_, []).append(watch)

    def find(self, event: Event) -> Iterator[Watch]:
        yield from self.anywhere
        if self.by_resource:
            for labels in (event.resource, *event.related):
                yield from self.by_resource.get(resource_id(labels), ())


class Index:
    """The triggers of enabled automations."""

    def __init__(self, watches: Iterable[Watch]) -> None:
        """An index of ``watches``; it does not change."""
        self.watches = {watch.trigger.id: watch for watch in watches}
        self._exact: dict[str, _Names] = {}
        self._prefixes: dict[str, _Names] = {}
        self._any = _Names()
        for watch in self.watches.values():
            self._add(watch)
        self._lengths = sorted({len(prefix) for prefix in self._prefixes})

    def _add(self, watch: Watch) -> None:
        for name in _names(watch.trigger):
            plain = name.removesuffix("*")
            if name.startswith("!") or any(letter in plain for letter in "*?["):
                self._any.add(watch)
            elif plain == name:
                self._exact.setdefault(name, _Names()).add(watch)
            else:
                self._prefixes.setdefault(plain, _Names()).add(watch)

    def find(self, event: Event) -> list[Watch]:
        """The watches whose trigger ``event`` concerns, each once."""
        found: dict[UUID, Watch] = {}
        for names in self._named(event.event):
            for watch in names.find(event):
                found[watch.trigger.id] = watch
        return [watch for watch in found.values() if _takes(watch, event)]

    def _named(self, name: str) -> Iterator[_Names]:
        if (exact := self._exact.get(name)) is not None:
            yield exact
        for length in self._lengths:
            if (begun := self._prefixes.get(name[:length])) is not None:
                yield begun
        yield self._any


def _takes(watch: Watch, event: Event) -> bool:
    trigger = watch.trigger
    if isinstance(trigger, EventTrigger):
        name = event.event
        if not triggers.expects(trigger, name) and not triggers.arms(trigger, name):
            return False
    if event.event.startswith(OWN_EVENTS):
        own = resource_id(event.resource) == f"prefect.automation.{watch.automation.id}"
        # An automation that its own firing triggers would never stop.
        if own or chain_of(event) >= (LONGEST_CHAIN if _names_own(trigger) else LONGEST_UNNAMED):
            return False
    return triggers.concerns(trigger, event)


def _names_own(trigger: EventTrigger | MetricTrigger) -> bool:
    return isinstance(trigger, EventTrigger) and any(
        name.startswith(OWN_EVENTS) for name in (*trigger.expect, *trigger.after)
    )


def chain_of(event: Event | None) -> int:
    """How many firings led to ``event``, one by one."""
    if event is None or not event.event.startswith(OWN_EVENTS):
        return 0
    chain = event.payload.get("chain")
    return chain if isinstance(chain, int) else 1


def watches_of(automation: Automation, after: Place) -> Iterator[Watch]:
    """What ``automation`` waits for, from the place on at which it was enabled."""
    for leaf, around in triggers.parents_of(automation.trigger):
        yield Watch(automation, leaf, around, after)


def _names(trigger: EventTrigger | MetricTrigger) -> list[str]:
    if isinstance(trigger, MetricTrigger):
        return ["prefect.flow-run.*"]
    return [*trigger.expect, *trigger.after] if trigger.expect else ["*"]


def _resources(trigger: EventTrigger | MetricTrigger) -> list[str] | None:
    """Ids of which an event's resource or a related one must have one; None: it may be about any."""
    for specification in (trigger.match, *trigger.related_specifications):
        wanted = specification.get("prefect.resource.id")
        choices = [wanted] if isinstance(wanted, str) else wanted
        if choices and not any(c.startswith("!") or any(x in c for x in "*?[") for c in choices):
            return choices
    return None
