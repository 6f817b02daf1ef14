"""What the rules of task runs ask and do, over one ``Case``; the arithmetic of their retry delays.

Does not own their order, nor for which states they are tried: the table in ``transitions`` does.
The docstring of a predicate is printed in docs/states.md, so it reads as a condition.
"""

from __future__ import annotations

import math
from datetime import timedelta

from msgspec.structs import replace

from eparch.core.cases import Case
from eparch.core.decisions import Abort, Decision, Wait, replaced
from eparch.core.model import new_id
from eparch.core.runs import TaskRun, TaskRunPolicy, retries_of
from eparch.core.states import AwaitingRetry, Paused, StateType

MAX_CACHE_KEY_LENGTH = 2000
"""Characters of a cache key (the limit that Prefect's server has by default)."""


# Starting and retrying.


def start_task_over(case: Case) -> None:
    """Count the attempts anew; under a flow that is retried the name says so."""
    case.changes["run_count"] = 0
    enclosing = case.facts.enclosing
    if enclosing is None or case.new.type is not StateType.RUNNING:
        return
    assert isinstance(case.run, TaskRun)
    if case.run.flow_run_run_count < enclosing.run_count:
        case.new = replace(case.new, name="Retrying")


def retry_delay(policy: TaskRunPolicy, run_count: int, jitter: float) -> float:
    """Seconds before the attempt that follows number ``run_count``; ``jitter`` is a fraction in [0, 1).

    A list of delays repeats its last. A jitter factor f spreads the delay d exponentially between
    d * (1 + f) and the lower bound that keeps the mean near d (row B2).
    """
    delay = policy.retry_delay if policy.retry_delay is not None else policy.retry_delay_seconds
    if isinstance(delay, list):
        delay = delay[min(max(run_count - 1, 0), len(delay) - 1)] if delay else 0.0
    factor = policy.retry_jitter_factor or 0.0
    if factor <= 0 or delay <= 0:
        return max(float(delay), 0.0)
    most = 1.0 + factor
    least = -math.log2(1.0 - 2.0**-most) if most < 50 else 0.0
    low, high = 1.0 - math.exp(-least), 1.0 - math.exp(-most)
    return -math.log(max(1.0 - (low + jitter * (high - low)), 1e-10)) * delay


def has_task_retries_left(case: Case) -> bool:
    """`run_count` <= `retries`, and the task did not say that it is not retriable."""
    retries = retries_of(case.run.empirical_policy)
    return case.new.state_details.retriable is not False and 0 < retries >= case.run.run_count


def retry_task(case: Case) -> Decision:
    """AwaitingRetry instead of Failed, after the task's delay."""
    assert isinstance(case.run, TaskRun)
    delay = retry_delay(case.run.empirical_policy, case.run.run_count, case.facts.jitter)
    again = AwaitingRetry(
        case.now + timedelta(seconds=delay), timestamp=case.now, message=case.new.message, data=case.new.data
    )
    return case.instead(again, "Retrying")


# The cache, the flow run and the tags.


def is_cached(case: Case) -> bool:
    """A completed state is stored under its cache key and may be used."""
    details = case.new.state_details
    return case.facts.cached is not None and bool(details.cache_key) and not details.refresh_cache


def use_cached(case: Case) -> Decision:
    """The stored state as a new one."""
    assert case.facts.cached is not None
    hit = replace(case.facts.cached, id=new_id(), timestamp=case.now, name="Cached")
    return case.instead(hit, "The result is cached.")


def flow_is_paused(case: Case) -> bool:
    """Its flow run is paused."""
    flow = case.facts.enclosing
    return flow is not None and flow.state is not None and flow.state.type is StateType.PAUSED


def pause_with_flow(case: Case) -> Decision:
    """Paused for as long as the flow run."""
    flow = case.facts.enclosing
    assert flow is not None
    assert flow.state is not None
    held = Paused("NotReady", timeout=flow.state.state_details.pause_timeout, timestamp=case.now)
    held = replaced(held, pause_reschedule=flow.state.state_details.pause_reschedule)
    return case.instead(
        held, f"The flow run {flow.flow_run_id} is paused; its tasks start when it is resumed."
    )


def flow_is_not_running(case: Case) -> bool:
    """Its flow run is not running."""
    flow = case.facts.enclosing
    return flow is not None and (flow.state is None or flow.state.type is not StateType.RUNNING)


def tag_limit_is_zero(case: Case) -> bool:
    """A tag's limit is 0, and it is not deferred."""
    tags = case.facts.tags
    return tags is not None and tags.zero is not None and not case.new.state_details.deferred


def abort_zero_tag(case: Case) -> Decision:
    """Name the tag that can never be had."""
    assert case.facts.tags is not None
    return Abort(
        reason=f"The concurrency limit on tag {case.facts.tags.zero!r} is 0, so the task could never run."
    )


def tag_limit_is_full(case: Case) -> bool:
    """A tag's slots are all taken, and it is not deferred."""
    tags = case.facts.tags
    return tags is not None and bool(tags.full) and not case.new.state_details.deferred


def wait_for_tags(case: Case) -> Decision:
    """Wait for the tags that are full."""
    tags = case.facts.tags
    assert tags is not None
    named = ", ".join(tags.full)
    return Wait(
        delay_seconds=max(1, round(tags.wait_seconds)),
        reason=f"The concurrency limit is reached for tag: {named}.",
    )


def has_limited_tags(case: Case) -> bool:
    """Its tags have limits, and it is not deferred."""
    return case.facts.tags is not None and not case.new.state_details.deferred


def take_tags(case: Case) -> None:
    """Take a slot of each tag that has a limit."""
    case.tags = "take"


def is_deferred(case: Case) -> bool:
    """It is a background task."""
    return bool(case.new.state_details.deferred)


def copy_task_parameters(case: Case) -> None:
    """Keep the id of the stored parameters, unless it has its own."""
    if case.new.state_details.task_parameters_id is None:
        case.new = replaced(case.new, task_parameters_id=case.current.state_details.task_parameters_id)


def has_run_before(case: Case) -> bool:
    """It has run before."""
    return bool(case.changes.get("run_count", case.run.run_count))


def rename_rerun(case: Case) -> None:
    """Name the attempt."""
    retried = case.current.name == "AwaitingRetry"
    case.new = replace(case.new, name="Retrying" if retried else "Rerunning")


def is_of_a_flow(case: Case) -> bool:
    """It belongs to a flow run."""
    return case.facts.enclosing is not None


def track_flow_attempt(case: Case) -> None:
    """Note the flow run's attempt."""
    assert case.facts.enclosing is not None
    case.changes["flow_run_run_count"] = case.facts.enclosing.run_count


def cache_key_is_too_long(case: Case) -> bool:
    """The cache key is longer than 2000 characters."""
    key = case.new.state_details.cache_key
    return key is not None and len(key) > MAX_CACHE_KEY_LENGTH


def complete_uncached(case: Case) -> Decision:
    """Complete, without the cache."""
    reason = f"The cache key is longer than {MAX_CACHE_KEY_LENGTH} characters; the result is not cached."
    return case.instead(case.new, reason)


def has_cache_key(case: Case) -> bool:
    """It has a cache key."""
    return bool(case.new.state_details.cache_key)


def store_in_cache(case: Case) -> None:
    """Store the state under its key."""
    case.cache_key = case.new.state_details.cache_key
