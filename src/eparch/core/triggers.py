"""When triggers fire: which events concern them, what they remember, what comes of an event or of time.

All of it is functions of values. Time is the moment of an event, which is when it occurred but never later
than when it was received, so that an old event counts where it belongs and a wrong clock cannot move a
window into the future. Windows are half open: they have their start and not their end.

Differs from Prefect in what depended there on when a periodic task ran: windows of proactive triggers follow
one another without a gap or an overlap, and an armed one that is satisfied is forgotten at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import translate
from functools import lru_cache
from uuid import UUID

from msgspec.structs import replace

from eparch.core.automations import (
    CompoundTrigger,
    EventTrigger,
    Firing,
    MetricTrigger,
    SequenceTrigger,
    Specification,
    Trigger,
    TriggerState,
)
from eparch.core.events import Event, ReceivedEvent, ResourceLabels
from eparch.core.model import Timestamp, Value

LOOKBACK = timedelta(minutes=15)
"""How much older than the first event of a window another one may be that still counts in it."""

RETAINED = LOOKBACK
"""How long a reactive window is kept after its end: late events find that it has fired."""

GRACE = timedelta(seconds=2)
"""How long after the end of a proactive window an event that occurred in it may still come in."""

Key = tuple[str, ...]
"""The values of the labels of ``for_each``, in the order of the labels' names."""


class Window(Value, frozen=True, kw_only=True, tag="window"):
    """What an event trigger has seen for one key."""

    start: Timestamp
    end: Timestamp
    count: int = 0
    last_event: ReceivedEvent | None = None


Outcome = tuple[Window | None, list[Firing]]
"""What a trigger remembers from now on, and how it fired."""

# Which events


def matches(pattern: str, value: str) -> bool:
    """Whether ``value`` fits ``pattern``: ``*`` is any characters, ``!`` in front is "not" (wire)."""
    if pattern.startswith("!"):
        return _fits(pattern[1:])(value) is None
    return _fits(pattern)(value) is not None


@lru_cache(maxsize=16_384)  # that of fnmatch has 256 entries, fewer than there may be automations
def _fits(pattern: str) -> Callable[[str], object]:
    return re.compile(translate(pattern)).match


def meets(specification: Specification, labels: ResourceLabels) -> bool:
    """Whether a resource with ``labels`` has all that ``specification`` asks for."""
    for label, wanted in specification.items():
        value = labels.get(label)
        if value is None:
            return False
        choices = [wanted] if isinstance(wanted, str) else wanted
        if not any(matches(choice, value) for choice in choices):
            return False
    return True


def concerns(trigger: EventTrigger | MetricTrigger, event: Event) -> bool:
    """Whether ``event`` is about resources that ``trigger`` looks at."""
    if not meets(trigger.match, event.resource):
        return False
    for specification in trigger.related_specifications:
        if specification and not any(meets(specification, labels) for labels in event.related):
            return False
    return True


def expects(trigger: EventTrigger, name: str) -> bool:
    """Whether an event of this name counts for ``trigger``; without ``expect`` every one does."""
    return not trigger.expect or any(matches(pattern, name) for pattern in trigger.expect)


def arms(trigger: EventTrigger, name: str) -> bool:
    """Whether an event of this name begins a window of ``trigger``."""
    return any(matches(pattern, name) for pattern in trigger.after)


def key_of(trigger: EventTrigger, event: Event) -> Key:
    """For which of its windows ``trigger`` counts ``event``; a label that is not there is empty."""
    return tuple(_label(event, label) for label in sorted(trigger.for_each))


def _label(event: Event, label: str) -> str:
    # related:<role>:<label> is that of the first related resource in the role.
    head, _, name = label.rpartition(":")
    directive, _, role = head.partition(":")
    if directive == "related":
        for labels in event.related:
            if labels.get("prefect.resource.role") == role:
                return labels.get(name, "")
    return event.resource.get(label, "")


def moment_of(event: ReceivedEvent) -> datetime:
    """When ``event`` counts."""
    return min(event.occurred, event.received)


def in_order(events: Sequence[ReceivedEvent]) -> list[ReceivedEvent]:
    """``events`` as they happened: by time, and none before the one that it follows."""
    by_id = {event.id: event for event in events}
    done: list[ReceivedEvent] = []
    for event in sorted(events, key=lambda event: event.occurred):
        chain: list[ReceivedEvent] = []
        found = by_id.pop(event.id, None)
        while found is not None:
            chain.append(found)
            found = by_id.pop(found.follows, None) if found.follows is not None else None
        done += reversed(chain)
    return done


# What comes of them


def observe(trigger: EventTrigger, window: Window | None, event: ReceivedEvent) -> Outcome:
    """What comes of ``event``, which concerns ``trigger`` and belongs to the key of ``window``."""
    moment = moment_of(event)
    fired: list[Firing] = []
    if window is not None:
        window, fired = expire(trigger, window, moment)
    if arms(trigger, event.event):
        window = _armed(trigger, window, event, moment)
    elif window is None and not trigger.after:
        window = Window(start=moment - LOOKBACK, end=moment + trigger.window)
    if window is None or not expects(trigger, event.event) or moment < window.start:
        return window, fired
    if trigger.proactive:
        return _expected(trigger, window, event, moment), fired
    return _react(trigger, window, event, moment)


def _armed(trigger: EventTrigger, window: Window | None, event: ReceivedEvent, moment: datetime) -> Window:
    if window is not None and moment < window.end:
        return replace(window, last_event=event)
    # What begins a window does not count in it, also when it is expected.
    count = -1 if expects(trigger, event.event) else 0
    return Window(start=moment, end=moment + trigger.window, count=count, last_event=event)


def _expected(trigger: EventTrigger, window: Window, event: ReceivedEvent, moment: datetime) -> Window | None:
    window = replace(window, count=window.count + 1, last_event=event)
    if not trigger.after or window.count < trigger.threshold:
        return window
    if not arms(trigger, event.event):
        return None
    # A heartbeat: each one asks for the next.
    return Window(start=moment, end=moment + trigger.window, last_event=event)


def _react(trigger: EventTrigger, window: Window, event: ReceivedEvent, moment: datetime) -> Outcome:
    immediate = not trigger.window
    if not immediate and moment >= window.end:
        window = Window(start=moment, end=moment + trigger.window)
    window = replace(window, count=window.count + 1, last_event=event)
    if window.count >= max(trigger.threshold, 1):
        after = None
        if not immediate and not trigger.after:
            # It has fired for this window: the next one begins after it.
            after = Window(start=window.end, end=window.end + trigger.window)
        return after, [_firing(trigger, event, moment)]
    return (None if immediate and trigger.after else window), []


def expire(trigger: EventTrigger, window: Window, now: datetime) -> Outcome:
    """What comes of ``window`` when it is ``now``."""
    if not trigger.proactive:
        over = window.end if trigger.after and trigger.window else window.end + RETAINED
        return (None if now >= over else window), []
    if now < window.end:
        return window, []
    fired = []
    if window.count < trigger.threshold:
        fired = [_firing(trigger, window.last_event, window.end)]
    if trigger.after:
        return None, fired
    # Windows that went by unseen, as the server was down, are passed over.
    start = window.end + (now - window.end) // trigger.window * trigger.window
    return Window(start=start, end=start + trigger.window, last_event=window.last_event), fired


def first_window(trigger: EventTrigger, now: datetime) -> Window | None:
    """What ``trigger`` remembers before any event: only one that waits for an absence has something."""
    if not trigger.proactive or trigger.after or trigger.for_each:
        return None
    return Window(start=now, end=now + trigger.window)


def due(trigger: EventTrigger, window: Window) -> datetime:
    """When ``expire`` has something to do."""
    return window.end if trigger.proactive else window.end + RETAINED


def _firing(trigger: EventTrigger, event: ReceivedEvent | None, moment: datetime) -> Firing:
    key = key_of(trigger, event) if event is not None else ()
    return Firing(
        trigger=trigger,
        trigger_states=[TriggerState.TRIGGERED],
        triggered=moment,
        triggering_labels=dict(zip(sorted(trigger.for_each), key, strict=False)),
        triggering_event=event,
    )


# Triggers of triggers

Composite = CompoundTrigger | SequenceTrigger


def rise(
    parents: Sequence[Composite], firing: Firing, kept: Mapping[UUID, Firing]
) -> tuple[Firing | None, dict[UUID, Firing]]:
    """What a firing means to the triggers around its own, the nearest first.

    ``kept`` are firings of triggers whose parent has not fired, by the trigger's id. Answers the firing of
    the outermost, if it fires, and what is kept from now on.
    """
    keeping = dict(kept)
    for parent in parents:
        needed = _needed(parent)
        children = [firing]
        if needed != 1:
            _keep(parent, firing, keeping)
            children = _children(parent, keeping)
            if not _ready(parent, needed, children):
                return None, keeping
            for child in parent.triggers:
                keeping.pop(child.id, None)
        firing = Firing(
            trigger=parent,
            trigger_states=[TriggerState.TRIGGERED],
            triggered=max(child.triggered for child in children),
            triggering_firings=children,
            triggering_event=firing.triggering_event,
        )
    return firing, keeping


def _needed(parent: Composite) -> int:
    if isinstance(parent, SequenceTrigger) or parent.require == "all":
        return len(parent.triggers)
    return 1 if parent.require == "any" else int(parent.require)


def _keep(parent: Composite, firing: Firing, keeping: dict[UUID, Firing]) -> None:
    key = firing.trigger.id
    known = keeping.get(key)
    if known is None or known.triggered <= firing.triggered:
        keeping[key] = firing
    if parent.window is None:
        return
    oldest = max(child.triggered for child in _children(parent, keeping)) - parent.window
    for child in parent.triggers:
        found = keeping.get(child.id)
        if found is not None and found.triggered < oldest:
            del keeping[child.id]


def _children(parent: Composite, keeping: Mapping[UUID, Firing]) -> list[Firing]:
    """The firings inside of ``parent`` that are kept, the oldest first."""
    found = [keeping[child.id] for child in parent.triggers if child.id in keeping]
    return sorted(found, key=lambda firing: firing.triggered)


def _ready(parent: Composite, needed: int, children: list[Firing]) -> bool:
    if isinstance(parent, SequenceTrigger):
        return [child.trigger.id for child in children] == [child.id for child in parent.triggers]
    return len(children) >= needed


def parents_of(trigger: Trigger) -> Iterable[tuple[EventTrigger | MetricTrigger, tuple[Composite, ...]]]:
    """Each trigger within ``trigger`` that events concern, and those around it, the nearest first."""
    if not isinstance(trigger, CompoundTrigger | SequenceTrigger):
        yield trigger, ()
        return
    for child in trigger.triggers:
        for leaf, around in parents_of(child):
            yield leaf, (*around, trigger)
