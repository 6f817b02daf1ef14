"""Decides when automations fire: reads events in the order of their commits, and time (ADR 8).

What a firing is, is decided in ``core``. A decision is one transaction: how far events were decided on, what
triggers remember, the events that say so, and the actions in the outbox. It is refused when another server
has decided meanwhile or an automation has changed, so each firing is there once, wherever a server dies.
Does not own the carrying out of actions.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from eparch.core.automations import Automation, Firing, MetricTrigger, TriggeredAction
from eparch.core.events import Event, ReceivedEvent
from eparch.core.metrics import run_of
from eparch.core.trigger_index import Index, Place, Watch, watches_of
from eparch.core.trigger_memory import Kept, Memory, actions_of, due_of, key_of, state_events, state_id
from eparch.core.triggers import GRACE, in_order
from eparch.store import automations as store
from eparch.store import records
from eparch.store.automations import Standing
from eparch.store.database import Database
from eparch.store.statement import Note, Steps

logger = logging.getLogger("eparch.server")

BATCH = 500
"""Events that are read, and states that time changes, at once."""

MOST_HITS = 2_000
"""Pairs of an event and a trigger from which on a transaction takes no more events."""

UNWRITTEN = 50
"""Looks without anything of concern after which it is written down how far events were read."""

POLL_SECONDS = 5.0
"""A note can be lost, or come from a server that sends none: so often it is looked anyway."""

UNSETTLED_SECONDS = 0.005
"""How soon it is looked again for events that may not be read yet; each time twice as late."""

Hit = tuple[ReceivedEvent, list[Watch]]
"""An event and the triggers that it concerns."""


class Automations:
    """Fires automations (row B12)."""

    name = "automations"

    def __init__(self) -> None:
        """Nothing is known before ``run_once``."""
        self.interval = POLL_SECONDS
        self.waits = False
        """Whether any automation waits for events."""
        self._stands: Standing | None = None
        self._place = Place(-1, UUID(int=0))
        self._index = Index(())
        self._unwritten = 0
        self._unsettled = UNSETTLED_SECONDS

    async def run_once(self, database: Database, now: datetime) -> bool:
        """Decide on the next events, and on what is due at ``now``."""
        self.interval = POLL_SECONDS
        if (self._stands is None or not self.waits) and not await self._look(database):
            return False
        ahead = await database.scan(store.ahead, self._place, BATCH)
        if self._stands is None or ahead.standing != self._stands:
            self._stands = None
            return True
        hits, place = self._hits(ahead.events)
        if not await self._decide(database, self._stands, hits, place, now):
            return True
        if hits or len(ahead.events) == BATCH:
            return True  # there may be more, and what is due is not what it was
        if ahead.unsettled:
            # Something may have happened before what is due, and be told in a moment.
            self.interval, self._unsettled = self._unsettled, min(self._unsettled * 2, POLL_SECONDS)
            return False
        self._unsettled = UNSETTLED_SECONDS
        return await self._let_pass(database, self._stands, ahead.due, now)

    async def _look(self, database: Database) -> bool:
        """Read the automations if they have changed; False when none waits for anything."""
        stands = await database.read(store.standing)
        if stands is None or (self._stands == stands and not self.waits):
            self._stands = stands
            return False
        stands, enabled = await database.scan(store.enabled)
        self._index = Index(watch for automation, after in enabled for watch in watches_of(automation, after))
        self.waits = bool(self._index.watches)
        self._stands = stands
        if self.waits and stands is not None:
            # Nothing that happened before any of them was enabled is of concern.
            first = min(watch.after for watch in self._index.watches.values())
            self._place = max(stands.place, first)
        return self.waits

    def _hits(self, rows: Sequence[dict[str, Any]]) -> tuple[list[Hit], Place]:
        """Which of the events concern which triggers, and up to which place that is."""
        hits: list[Hit] = []
        number, place = 0, self._place
        for position, together in groupby(rows, key=lambda row: row["position"]):
            if number >= MOST_HITS:
                break
            # What one transaction has written has no order but that in which it says it happened.
            events = [event_of(row) for row in together]
            for event in in_order(events):
                here = Place(position, event.id)
                watches = [watch for watch in self._index.find(event) if here > watch.after]
                if watches:
                    hits.append((event, watches))
                    number += len(watches)
            place = Place(position, events[-1].id)
        return hits, place

    async def _decide(
        self, database: Database, stands: Standing, hits: list[Hit], place: Place, now: datetime
    ) -> bool:
        """Commit what comes of ``hits``; False: it does not stand as it did."""
        if place == self._place:
            return True
        self._unwritten += 1
        if hits or self._unwritten >= UNWRITTEN:
            if not await database.write(decide, stands, hits, place, now):
                self._stands = None
                return False
            self._stands = stands._replace(place=place)
            self._unwritten = 0
        self._place = place
        return True

    async def _let_pass(
        self, database: Database, stands: Standing, due: datetime | None, now: datetime
    ) -> bool:
        """Commit what comes of time; True when there may be more."""
        if due is None:
            return False
        if due > now:
            self.interval = min(POLL_SECONDS, (due - now).total_seconds())
            return False
        passed = await database.write(let_pass, stands, self._index, self._place, now)
        self._stands = stands._replace(place=self._place) if passed else None
        return True


def event_of(row: dict[str, Any]) -> ReceivedEvent:
    """The event of a row."""
    return ReceivedEvent(**{name: row[name] for name in ReceivedEvent.__struct_fields__})


def decide(stands: Standing, hits: Sequence[Hit], place: Place, now: datetime) -> Steps[bool]:
    """Write what comes of ``hits``, which are all up to ``place``; False: it does not stand as given."""
    if not (yield from store.advance(stands, place)):
        return False
    pairs = [(event, watch) for event, watches in hits for watch in watches]
    if not pairs:
        return True
    states = yield from store.states({state_id(w.trigger.id, key_of(w, event)) for event, w in pairs})
    memory = Memory(states, (yield from _kept([watch for _, watch in pairs])))
    runs = {event.id: run_of(event) for event, watch in pairs if isinstance(watch.trigger, MetricTrigger)}
    times = (yield from store.times_of({run for run in runs.values() if run})) if runs else {}
    fired: list[tuple[Automation, Firing]] = []
    for event, watch in pairs:
        run = runs.get(event.id)
        firings = memory.see(watch, event, times.get(run) if run else None)
        fired += [(watch.automation, firing) for firing in firings]
    yield from _write(memory, fired, now)
    return True


def let_pass(stands: Standing, index: Index, place: Place, now: datetime) -> Steps[bool]:
    """Write what comes of time until ``now``, a part at a time; False: it does not stand as given."""
    if not (yield from store.advance(stands, place)):
        return False
    remembered = yield from store.due_states(now, BATCH)
    watched = [(told, index.watches.get(told.trigger_id)) for told in remembered]
    memory = Memory(
        {told.id: told.state for told in remembered if told.state is not None},
        (yield from _kept([watch for _, watch in watched if watch is not None])),
    )
    fired: list[tuple[Automation, Firing]] = []
    orphans = []
    for told, watch in watched:
        if watch is None:
            orphans.append((replace(told, state=None), None))
            continue
        # An event that occurred before the end may come in until the grace is over.
        firings = memory.expire(watch, tuple(told.key), now - GRACE)
        fired += [(watch.automation, firing) for firing in firings]
    yield from store.put_states(orphans)
    yield from _write(memory, fired, now)
    return True


def _kept(watches: Sequence[Watch]) -> Steps[dict[UUID, Kept]]:
    ids = {watch.automation.id for watch in watches if watch.around}
    if not ids:
        return {}
    kept = yield from store.kept_firings(ids)
    return kept


def _write(memory: Memory, fired: Sequence[tuple[Automation, Firing]], now: datetime) -> Steps[None]:
    remembered = []
    for watch, told in memory.changed.values():
        due = due_of(watch, told.state)
        remembered.append((told, due + GRACE if due is not None else None))
    yield from store.put_states(remembered)
    if memory.changed_kept:
        yield from store.put_kept(memory.changed_kept)
    events: list[Event] = []
    actions: list[TriggeredAction] = []
    for automation, firing in fired:
        said = state_events(automation, firing, now)
        events += said.values()
        actions += actions_of(automation, firing, said, now)
        logger.info("The automation %r (%s) fired.", automation.name, automation.id)
    if events:
        yield from records.insert_events(events, now)
    if actions:
        yield from store.insert_actions(actions, now)
    for event in events:
        yield Note("events", event)
    for automation_id in {action.automation.id for action in actions}:
        yield Note("actions", automation_id)
