"""A dry run of an automation: reads past events for the replay, a page at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from eparch.core.automation_replay import MOST_EVENTS, DryRun, DryRunAnswer, Replay
from eparch.core.automations import Automation
from eparch.core.errors import Invalid, NotFound
from eparch.core.events import EventFilter, NameFilter, OccurredFilter
from eparch.core.metrics import run_of
from eparch.core.model import new_id
from eparch.orchestration.automations import event_of
from eparch.store import automations as store
from eparch.store import event_pages
from eparch.store.database import Database

DAY = timedelta(days=1)
PAGE = 1000


async def dry_run(database: Database, body: DryRun, now: datetime) -> DryRunAnswer:
    """When the automation would have fired.

    Raises:
        NotFound: there is no such automation.
        Invalid: it would begin after its end.
    """
    until = min(body.until or now, now)
    since = body.since or until - DAY
    if since > until:
        raise Invalid("`since` is after `until`, or in the future.")
    replay = Replay(await _automation(database, body, now), since)
    names = replay.names()
    wanted = EventFilter(
        occurred=OccurredFilter(since=since, until=until),
        event=NameFilter(name=names) if names else None,
        order="ASC",
    )
    after: tuple[datetime, UUID] | None = None
    while not replay.full() and replay.seen < MOST_EVENTS:
        rows = await database.scan(event_pages.candidates, wanted, after, PAGE)
        events = [event_of(row) for row in rows]
        times = {}
        if replay.measures():
            runs = {run for event in events if (run := run_of(event)) is not None}
            times = await database.scan(store.times_of, runs)
        for event in events:
            run = run_of(event) if times else None
            replay.see(event, times.get(run) if run is not None else None)
            after = (event.occurred, event.id)
            if replay.full():
                break
        if len(rows) < PAGE:
            replay.pass_until(until)
            break
    else:
        return _answer(replay, since, after[0] if after else until, cut=True)
    return _answer(replay, since, until, cut=replay.full())


def _answer(replay: Replay, since: datetime, until: datetime, *, cut: bool) -> DryRunAnswer:
    return DryRunAnswer(since=since, until=until, events=replay.seen, firings=replay.firings, cut=cut)


async def _automation(database: Database, body: DryRun, now: datetime) -> Automation:
    if body.automation is None:
        assert body.id is not None
        known = await database.read(store.automation_value, body.id)
        if known is None:
            raise NotFound("Automation not found")
        return known
    given = body.automation
    fields = {name: getattr(given, name) for name in given.__struct_fields__ if name != "owner_resource"}
    return Automation(id=new_id(), created=now, updated=now, **fields)
