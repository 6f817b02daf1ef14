"""Retry on crash: how often a run whose process died is started again (row B2).

A deployment says so with labels, which every server keeps and every run inherits (ADR 10). Owns what they
mean and the rule; whether the run crashed is told by whoever watched its process.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from eparch.core.cases import Case, occupies
from eparch.core.decisions import Decision
from eparch.core.model import Labels, Value
from eparch.core.runs import FlowRun
from eparch.core.states import AwaitingRetry

COUNT = "eparch.retry-on-crash"
"""Label: how often a crashed run is started again."""

DELAY = "eparch.retry-on-crash-delay-seconds"
"""Label: seconds until then."""

DONE = "eparch.crash-retries"
"""Label of a run: how often that was done."""

MOST = 1000
DEFAULT_DELAY = 10.0
LONGEST_DELAY = 86400.0


class CrashRetries(Value, frozen=True, kw_only=True):
    """What the labels of a run say."""

    count: int = 0
    delay_seconds: float = DEFAULT_DELAY
    done: int = 0


def crash_retries(labels: Mapping[str, object] | None) -> CrashRetries:
    """What ``labels`` say; a label that cannot be read counts as not set, within bounds."""
    labels = labels or {}
    return CrashRetries(
        count=int(_number(labels.get(COUNT), 0.0, MOST)),
        delay_seconds=_number(labels.get(DELAY), DEFAULT_DELAY, LONGEST_DELAY),
        done=int(_number(labels.get(DONE), 0.0, MOST)),
    )


def labels_for(retries: CrashRetries) -> Labels:
    """The labels of a deployment that say ``retries``; none when there are none."""
    return {COUNT: retries.count, DELAY: retries.delay_seconds} if retries.count else {}


def has_crash_retries_left(case: Case) -> bool:
    """Its process is gone, and its deployment lets it be started again."""
    run = case.run
    if not isinstance(run, FlowRun) or not case.facts.has_deployment or case.facts.is_subflow:
        return False
    said = crash_retries(run.labels)
    return said.done < said.count and occupies(case.current, case.flow_policy)


def retry_crashed(case: Case) -> Decision:
    """AwaitingRetry instead of Crashed: a worker claims it anew, under a new token."""
    run = case.run
    assert isinstance(run, FlowRun)
    said = crash_retries(run.labels)
    again = AwaitingRetry(
        case.now + timedelta(seconds=said.delay_seconds),
        timestamp=case.now,
        message=f"Retry {said.done + 1} of {said.count} after a crash. {case.new.message or ''}".rstrip(),
    )
    answer = case.instead(again, "The run crashed and is started again.")
    case.set_policy(resuming=False, pause_keys=[], retry_type="reschedule")
    # What the old attempt ran on is gone, so there is nothing to stop while it waits.
    case.changes.update(labels={**run.labels, DONE: said.done + 1}, infrastructure_pid=None)
    return answer


def _number(value: object, default: float, most: float) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return default
    return min(max(number, 0.0), most) if number == number else default
