"""Metric triggers: a number over the flow runs of the last while, and when it is wrong for too long.

A gauge holds sums of slices of time, never the runs themselves, so its size does not depend on how many
there are. What is measured of a run is given; which events are about runs is said here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from eparch.core.automations import Firing, Metric, MetricQuery, MetricTrigger, TriggerState
from eparch.core.events import Event, ReceivedEvent, resource_id
from eparch.core.model import Timestamp, Value

SLICES = 60
"""Into how many slices the range of a metric is cut. One more is kept: no sample leaves before its time."""

_BREACHES: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_PREFIX = "prefect.flow-run."
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENDS = {"COMPLETED": 1.0, "FAILED": 0.0, "CRASHED": 0.0}
"""What the end of a run says of success; a cancelled one says nothing."""


class Slice(Value, frozen=True, kw_only=True, array_like=True):
    """How many samples there were in one slice of time, and their sum."""

    number: int
    count: int
    sum: float


class Gauge(Value, frozen=True, kw_only=True, tag="gauge"):
    """What a metric trigger has seen."""

    slices: list[Slice] = []
    since: Timestamp | None = None
    """Since when the number has said another state than ``triggered`` does."""
    triggered: bool = False
    last_event: ReceivedEvent | None = None


class Times(NamedTuple):
    """When a flow run should have begun, did begin, and how many seconds it ran."""

    expected: datetime
    began: datetime | None
    seconds: float


Measured = tuple[Gauge, list[Firing]]


def run_of(event: Event) -> UUID | None:
    """The flow run whose state ``event`` tells; None when it tells of something else."""
    about = resource_id(event.resource)
    if not about.startswith(_PREFIX) or "prefect.state-type" not in event.resource:
        return None
    try:
        return UUID(about[len(_PREFIX) :])
    except ValueError:
        return None


def sample(query: MetricQuery, event: Event, times: Times | None) -> float | None:
    """What ``event`` of a flow run adds to the metric; ``times`` are those of the run, if it is there.

    Success is 1 or 0, so that the metric is the share of runs that completed. The others are in seconds.
    """
    state = event.resource.get("prefect.state-type", "")
    if query.name is Metric.SUCCESSES:
        return _ENDS.get(state)
    if times is None or times.began is None:
        return None
    if query.name is Metric.DURATION:
        return times.seconds if state in _ENDS else None
    return max((times.began - times.expected).total_seconds(), 0.0) if state == "RUNNING" else None


def observe(
    trigger: MetricTrigger, gauge: Gauge, value: float, event: ReceivedEvent, moment: datetime
) -> Measured:
    """What comes of a sample that ``event`` brought at ``moment``."""
    gauge, fired = expire(trigger, gauge, moment)
    number = _number(trigger, moment)
    slices = {slice_.number: slice_ for slice_ in gauge.slices}
    known = slices.get(number, Slice(number=number, count=0, sum=0.0))
    slices[number] = Slice(number=number, count=known.count + 1, sum=known.sum + value)
    gauge = replace(gauge, slices=[slices[n] for n in sorted(slices)], last_event=event)
    gauge, more = _judge(trigger, gauge, moment)
    return gauge, fired + more


def expire(trigger: MetricTrigger, gauge: Gauge, now: datetime) -> Measured:
    """What comes of time: samples leave the range, and a number has been wrong for long enough."""
    fired: list[Firing] = []
    while (at := due(trigger, gauge)) is not None and at <= now:
        oldest = _number(trigger, at) - SLICES
        gauge = replace(gauge, slices=[s for s in gauge.slices if s.number >= oldest])
        gauge, more = _judge(trigger, gauge, at)
        fired += more
    return gauge, fired


def due(trigger: MetricTrigger, gauge: Gauge) -> datetime | None:
    """When ``expire`` has something to do; None: never without a sample."""
    at = None
    if gauge.slices:
        at = _EPOCH + (gauge.slices[0].number + SLICES + 1) * _width(trigger)
    if gauge.since is not None:
        firing = gauge.since + timedelta(seconds=float(trigger.metric.firing_for))
        at = firing if at is None else min(at, firing)
    return at


def value_of(gauge: Gauge) -> float | None:
    """The number: the mean of the samples in range; None when there is none."""
    count = sum(slice_.count for slice_ in gauge.slices)
    return sum(slice_.sum for slice_ in gauge.slices) / count if count else None


def _judge(trigger: MetricTrigger, gauge: Gauge, moment: datetime) -> Measured:
    query, value = trigger.metric, value_of(gauge)
    if value is None:
        return replace(gauge, since=None), []
    if _BREACHES[query.operator](value, query.threshold) == gauge.triggered:
        return replace(gauge, since=None), []
    since = gauge.since or moment
    if moment - since < timedelta(seconds=float(query.firing_for)):
        return replace(gauge, since=since), []
    state = TriggerState.RESOLVED if gauge.triggered else TriggerState.TRIGGERED
    firing = Firing(
        trigger=trigger,
        trigger_states=[state],
        triggered=moment,
        triggering_event=gauge.last_event,
        triggering_value=value,
    )
    return replace(gauge, since=None, triggered=not gauge.triggered), [firing]


def _width(trigger: MetricTrigger) -> timedelta:
    return timedelta(seconds=float(trigger.metric.range)) / SLICES


def _number(trigger: MetricTrigger, moment: datetime) -> int:
    return (moment - _EPOCH) // _width(trigger)
