"""Missed and overlapping runs of schedules, against plain models (row B1, missed-run pile-up)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core.deployments import CronSchedule, IntervalSchedule, RRuleSchedule
from eparch.core.schedule_policies import (
    MOST,
    MissedPolicy,
    MissedRuns,
    Overlap,
    Past,
    decide,
    may_begin,
    missed_times,
)
from eparch.core.schedules import occurrences, upcoming

HALF_PAST_TWO = datetime(2026, 1, 1, 2, 30, tzinfo=UTC)
SCHEDULES = [
    CronSchedule(cron="30 2 * * *", timezone="Europe/Berlin"),
    CronSchedule(cron="*/20 * * * *", timezone="America/New_York"),
    IntervalSchedule(interval=86400.0, anchor_date=HALF_PAST_TWO, timezone="Europe/Paris"),
    IntervalSchedule(interval=1800.0, anchor_date=HALF_PAST_TWO, timezone="Australia/Lord_Howe"),
    RRuleSchedule(rrule="FREQ=HOURLY;INTERVAL=3", timezone="Europe/London"),
]
CHANGES = [
    datetime(2026, 3, 8, 6, tzinfo=UTC),
    datetime(2026, 3, 28, 20, tzinfo=UTC),
    datetime(2026, 10, 24, 20, tzinfo=UTC),
]
"""The tests begin before these: three changes of clocks."""
minutes = st.integers(0, 4000).map(lambda count: timedelta(minutes=count, seconds=7))
policies = st.builds(
    MissedRuns, policy=st.sampled_from(MissedPolicy), window=st.none() | st.sampled_from([30.0, 3600.0, 2e5])
)


def between(schedule, since, now):
    """All times after ``since`` up to ``now``: the plain model of what was missed."""
    found = []
    for when in occurrences(schedule, since):
        if when > now:
            return found
        if when > since:
            found.append(when)
    return found


def in_time(policy, times, now):
    seconds = policy.window or {"skip": 60.0, "all": 86400.0}.get(policy.policy.value, 1e12)
    kept = [when for when in times if (now - when).total_seconds() <= seconds]
    return kept[-1:] if policy.policy is MissedPolicy.LATEST else kept


@given(st.sampled_from(SCHEDULES), st.sampled_from(CHANGES), minutes, minutes, policies)
def test_b1_after_downtime_runs_are_made_as_the_policy_says(schedule, change, before, down, policy):
    since = change + before / 4
    now = since + down
    missed = missed_times(lambda moment: occurrences(schedule, moment), policy, None, since, now)
    coming = upcoming(schedule, now + timedelta(microseconds=1))
    decision = decide(Past(missed, []), coming, policy, None, now)
    wanted = in_time(policy, between(schedule, since, now), now)
    assert [when for when in decision.made if when <= now] == wanted[:MOST]
    if len(wanted) <= MOST:
        assert decision.made[len(wanted) :] == coming
        assert decision.decided_until == now
    else:
        assert (decision.decided_until, decision.look_again) == (wanted[MOST - 1], now)


@given(st.lists(st.integers(0, 100_000), unique=True, max_size=30), policies)
def test_b1_runs_that_wait_too_long_are_skipped_and_no_others(ages, policy):
    now = datetime(2026, 10, 25, 1, tzinfo=UTC)
    waiting = sorted(now - timedelta(seconds=age) for age in ages)
    decision = decide(Past([], waiting), [], policy, None, now)
    assert set(decision.skipped) == set(waiting) - set(in_time(policy, waiting, now))
    assert not decision.made
    left = [when for when in waiting if when not in decision.skipped]
    if left and decision.look_again is not None:
        assert may_begin(policy, left, decision.look_again - timedelta(microseconds=1)) == left
        assert left[0] not in may_begin(policy, left, decision.look_again)


@given(
    st.sampled_from(SCHEDULES),
    st.sampled_from(CHANGES),
    st.sampled_from([Overlap.SKIP, Overlap.QUEUE]),
    st.none() | policies,
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=20),
)
def test_b1_runs_of_a_schedule_never_overlap(schedule, now, overlap, policy, steps):
    """A worker takes what is due ``start`` minutes later and needs ``length`` minutes."""
    decided, planned, ends, made = now, [], None, []
    for pause, length in steps:
        now += timedelta(minutes=pause)
        if ends is not None and ends <= now:
            ends = None
        missed = missed_times(lambda moment: occurrences(schedule, moment), policy, overlap, decided, now)
        waiting = [when for when in planned if when <= now]
        past = Past(missed, waiting, ends is not None or bool(waiting), len(planned) > len(waiting))
        decision = decide(past, upcoming(schedule, now + timedelta(microseconds=1)), policy, overlap, now)
        planned = [when for when in planned if when not in decision.skipped]
        new = [when for when in decision.made if when not in made]  # a time has one run
        planned += new
        made += new
        decided = decision.decided_until
        assert len(planned) + (ends is not None) <= 1
        if planned and planned[0] <= now:
            planned, ends = planned[1:], now + timedelta(minutes=length)
    assert made == sorted(set(made))
    if overlap is Overlap.QUEUE and policy == MissedRuns(policy=MissedPolicy.ALL, window=2e5):
        assert made == between(schedule, made[0] - timedelta(seconds=1), made[-1]) if made else True


@pytest.mark.parametrize(("overlap", "wanted"), [(Overlap.SKIP, []), (Overlap.QUEUE, [10, 20])])
def test_b1_what_was_missed_while_a_run_was_on(overlap, wanted):
    schedule = IntervalSchedule(interval=600.0, anchor_date=datetime(2026, 1, 1, tzinfo=UTC))
    start = datetime(2026, 3, 1, tzinfo=UTC)

    def look(minute, decided, is_busy):
        now = start + timedelta(minutes=minute)
        missed = missed_times(lambda moment: occurrences(schedule, moment), None, overlap, decided, now)
        return decide(Past(missed, [], is_busy), upcoming(schedule, now), None, overlap, now)

    decided = start
    for minute in (5, 15, 25):
        decision = look(minute, decided, True)
        assert not decision.made
        decided = decision.decided_until
    made = []
    for _ in wanted:
        decision = look(25, decided, False)
        made += decision.made
        decided = decision.decided_until
    assert [when - start for when in made] == [timedelta(minutes=minute) for minute in wanted]
    assert look(25, decided, False).made == [start + timedelta(minutes=30)]


def test_b1_the_newest_of_a_year_of_seconds_is_found_at_once():
    schedule = IntervalSchedule(interval=1.0, anchor_date=datetime(2026, 1, 1, tzinfo=UTC))
    now = datetime(2027, 1, 1, tzinfo=UTC)
    seen = []

    def counted(moment):
        for when in occurrences(schedule, moment):
            seen.append(when)
            yield when

    policy = MissedRuns(policy=MissedPolicy.LATEST)
    assert missed_times(counted, policy, None, now - timedelta(days=365), now) == [now]
    assert len(seen) < 10
