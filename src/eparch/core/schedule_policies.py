"""What becomes of the times of a schedule that were missed, or at which a run of it is still on (row B1).

Owns the two policies and the decision which runs are to be made and which are to be skipped. Does not own
when a schedule runs: that is ``core.schedules``. Pure: the past is given as times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from eparch.core.model import Body


class MissedPolicy(StrEnum):
    """Which missed runs are made up for."""

    SKIP = "skip"
    """None: also a run that waits is skipped once it is later than the window."""
    LATEST = "latest"
    """The newest one, whatever their number."""
    ALL = "all"
    """Each one, the oldest first."""


class Overlap(StrEnum):
    """What happens when a run is due while the one before it is not over."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"


DEFAULT_WINDOWS = {MissedPolicy.SKIP: 60.0, MissedPolicy.ALL: 86400.0}
"""Seconds; of ``latest`` there is none."""

MOST_SECONDS = 366 * 86400.0


class MissedRuns(Body, frozen=True, kw_only=True):
    """A policy, and how many seconds late a run may still begin; see ``DEFAULT_WINDOWS``."""

    policy: MissedPolicy
    window: Annotated[float, Meta(gt=0, le=MOST_SECONDS)] | None = None

    @property
    def latest_start(self) -> timedelta | None:
        """How late a run may begin; None: any time."""
        seconds = self.window if self.window is not None else DEFAULT_WINDOWS.get(self.policy)
        return None if seconds is None else timedelta(seconds=seconds)


class Past(NamedTuple):
    """What there is of a schedule up to now."""

    missed: Sequence[datetime]
    """Its times since it was last decided about, see ``missed_times``."""
    waiting: Sequence[datetime]
    """Times at which a run should have begun that still waits."""
    is_busy: bool = False
    """Whether a run of it is not over that was to begin before now."""
    is_planned: bool = False
    """Whether a run is there for later."""


class Decision(NamedTuple):
    """What is to be done."""

    made: list[datetime]
    """Times that get a run, unless they have one."""
    skipped: list[datetime]
    """Times whose run waits in vain."""
    decided_until: datetime
    look_again: datetime | None
    """When to decide again at the latest; None: when the first of the coming times is past."""


SOON = timedelta(seconds=2)
"""How often a schedule is looked at whose next run waits for the one before it."""

MOST = 100
"""Missed runs that are made at once; the others follow."""

_QUEUED = MissedRuns(policy=MissedPolicy.ALL)
_PROMPT = MissedRuns(policy=MissedPolicy.SKIP)


def may_begin(policy: MissedRuns, times: Sequence[datetime], now: datetime) -> list[datetime]:
    """Which of ``times``, all past and in order, may still begin at ``now``."""
    late = policy.latest_start
    kept = [when for when in times if late is None or now - when <= late]
    return kept[-1:] if policy.policy is MissedPolicy.LATEST else kept


def decide(
    past: Past, coming: Sequence[datetime], policy: MissedRuns | None, overlap: Overlap | None, now: datetime
) -> Decision:
    """Which runs are made and which skipped at ``now``; ``coming`` are the times to plan ahead."""
    if overlap in (None, Overlap.ALLOW):
        return _side_by_side(past, coming, policy, now)
    assert overlap is not None
    return _one_at_a_time(past, coming, policy, overlap, now)


def _settled(policy: MissedRuns | None, overlap: Overlap | None) -> MissedRuns | None:
    """The policy that acts: who queues runs wants each, who skips them wants those that are in time."""
    if policy is None and overlap is Overlap.QUEUE:
        return _QUEUED
    return _PROMPT if policy is None and overlap is Overlap.SKIP else policy


def _side_by_side(
    past: Past, coming: Sequence[datetime], policy: MissedRuns | None, now: datetime
) -> Decision:
    if policy is None:
        return Decision(list(coming), [], now, None)
    kept = may_begin(policy, sorted({*past.missed, *past.waiting}), now)
    new = [when for when in kept if when not in past.waiting]
    skipped = [when for when in past.waiting if when not in kept]
    if len(new) > MOST:
        return Decision(new[:MOST], skipped, new[MOST - 1], now)
    return Decision([*new, *coming], skipped, now, _expiry(policy, past.waiting, skipped))


def _one_at_a_time(
    past: Past, coming: Sequence[datetime], policy: MissedRuns | None, overlap: Overlap, now: datetime
) -> Decision:
    """One run is there ahead of its time, and no other one until it is over: so no two are on at once."""
    skipped: list[datetime] = []
    if policy is not None:
        kept = may_begin(policy, sorted({*past.missed, *past.waiting}), now)
        skipped = [when for when in past.waiting if when not in kept]
    waits = overlap is Overlap.QUEUE
    if past.is_busy or skipped:
        # With `queue` the times that pass meanwhile are decided about later.
        since = past.missed[0] - timedelta(microseconds=1) if waits and past.missed else now
        return Decision([], skipped, since, now + SOON)
    settled = _settled(policy, overlap)
    assert settled is not None
    kept = may_begin(settled, sorted(past.missed), now)
    if kept:
        chosen = kept[0] if waits else kept[-1]
        return Decision([chosen], [], chosen if waits else now, now + SOON)
    made = [] if past.is_planned else list(coming[:1])
    return Decision(made, [], now, None)


def _expiry(policy: MissedRuns, waiting: Sequence[datetime], skipped: Sequence[datetime]) -> datetime | None:
    """When the first of the waiting runs is too late."""
    late = policy.latest_start
    left = [when for when in waiting if when not in skipped]
    return min(left) + late + timedelta(microseconds=1) if left and late is not None else None


SPANS = (1.0, 60.0, 3600.0, 86400.0, 31 * 86400.0, MOST_SECONDS, 10 * MOST_SECONDS)
MOST_TIMES = 10_000


TimesAfter = Callable[[datetime], Iterator[datetime]]


def newest(times_after: TimesAfter, since: datetime, now: datetime) -> list[datetime]:
    """The newest time from ``since`` to ``now``, if there is one; ``times_after(moment)`` streams them."""
    for seconds in SPANS:
        begin = max(since, now - timedelta(seconds=seconds))
        found = _until(times_after(begin), begin, now)
        if found:
            return found[-1:]
        if begin == since:
            break
    return []


def missed_times(
    times_after: TimesAfter,
    policy: MissedRuns | None,
    overlap: Overlap | None,
    since: datetime,
    now: datetime,
) -> list[datetime]:
    """The times after ``since`` up to ``now`` that ``decide`` has to know of, in order."""
    settled = _settled(policy, overlap)
    if settled is None:
        return []
    late = settled.latest_start
    begin = since if late is None else max(since, now - late)
    if settled.policy is MissedPolicy.LATEST:
        return newest(times_after, begin, now)
    return _until(times_after(begin), begin, now)


def _until(times: Iterable[datetime], since: datetime, now: datetime) -> list[datetime]:
    found: list[datetime] = []
    for when in islice(times, MOST_TIMES):
        if when > now:
            break
        if when > since:
            found.append(when)
    return found


def read_missed_runs(document: Any) -> MissedRuns | None:
    """The policy that a schedule was stored with."""
    return None if document is None else msgspec.convert(document, MissedRuns)
