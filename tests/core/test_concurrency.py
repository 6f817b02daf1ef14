"""The rules of slots: decay, who is admitted, how long who is denied waits (wire 4.5, row B4)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core import concurrency as core
from eparch.core.concurrency import (
    Book,
    admits,
    decayed,
    holds_nothing,
    jittered,
    lease_of_nothing,
    occupied,
    retry_after,
)
from eparch.core.errors import Invalid
from eparch.core.model import new_id

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


def book(**fields: Any) -> Book:
    given_ = {
        "id": new_id(),
        "name": "db",
        "limit": 5,
        "active": True,
        "undated": 0,
        "denied": 0,
        "decay": 0.0,
        "occupancy": 2.0,
        "decayed_at": NOW,
    }
    return Book(**{**given_, **fields})


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_b4_slots_of_a_rate_limit_decay_and_others_stay() -> None:
    rate = book(undated=4, decay=2.0)
    assert [decayed(rate, later(s)).undated for s in (0, 0.4, 0.5, 1.0, 1.9, 2.0, 99)] == [
        4,
        4,
        3,
        2,
        1,
        0,
        0,
    ]
    assert decayed(book(undated=4), later(10_000)).undated == 4


def test_a_clock_that_goes_back_decays_nothing() -> None:
    assert decayed(book(undated=3, decay=1.0), later(-50)).undated == 3


rates = st.one_of(st.floats(0.001, 1000), st.sampled_from([5e-324, 1e-300, 1e300]))


@given(
    st.integers(1, 50),
    rates,
    st.lists(st.floats(0, 30, allow_subnormal=False), min_size=1, max_size=8),
)
def test_looking_often_changes_no_decay(undated: int, rate: float, pauses: list[float]) -> None:
    """Prefect forgets a part of a slot at each look, so that a limit that is asked often never decays."""
    often = once = book(limit=50, undated=undated, decay=rate)
    for number in range(len(pauses)):
        often = decayed(often, later(sum(pauses[: number + 1])))
    once = decayed(once, later(sum(pauses)))
    assert 0 <= often.undated <= undated
    assert abs(often.undated - once.undated) <= 1  # times have microseconds


@given(st.integers(0, 10), st.integers(0, 10), st.integers(0, 10), st.integers(1, 10))
def test_who_is_admitted_does_not_exceed_the_limit(limit: int, undated: int, leased: int, slots: int) -> None:
    one = book(limit=limit, undated=undated, leased=leased)
    if slots > limit:
        with pytest.raises(Invalid, match="greater than the limit"):
            admits([one], slots, "concurrency")
    else:
        assert admits([one], slots, "concurrency") == (undated + leased + slots <= limit)
    assert one.free >= 0


def test_all_limits_or_none_and_inactive_ones_do_not_count() -> None:
    full, free = book(limit=1, undated=1), book(limit=1)
    assert not admits([free, full], 1, "concurrency")
    assert admits([free, msgspec.structs.replace(full, active=False)], 1, "concurrency")
    assert admits([msgspec.structs.replace(full, active=False)], 9, "rate_limit")


def test_a_rate_needs_decay() -> None:
    with pytest.raises(Invalid, match="do not have a decay configured: 'db'"):
        admits([book(), book(name="api", decay=1.0)], 1, "rate_limit")
    assert admits([book(decay=1.0)], 1, "rate_limit")


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 86_400))
def test_a_wait_is_near_the_average(roll: float, average: float) -> None:
    assert 0.7 * average <= jittered(average, roll) <= 1.31 * average


@pytest.mark.parametrize(
    ("fields", "average"),
    [
        ({"limit": 1}, 2.0),
        ({"limit": 4}, 0.5),
        ({"limit": 1, "denied": 1000}, 30.0),
        ({"limit": 1, "occupancy": 1e6}, 30.0),
        ({"limit": 1, "occupancy": 1e6, "name": "tag:x"}, 10.0),
        ({"decay": 0.5}, 2.0),
        ({"decay": 0.5, "denied": 9}, 20.0),
        ({"decay": 5e-324}, 86_400.0),
        ({"active": False}, 0.0),
    ],
)
def test_who_is_denied_waits_for_what_is_ahead(fields: dict[str, Any], average: float) -> None:
    assert retry_after([book(**fields)], 1, 0.5) == pytest.approx(jittered(average, 0.5))


def test_denied_slots_are_forgotten() -> None:
    assert decayed(book(denied=5, occupancy=2.0), later(6)).denied == 2
    assert decayed(book(denied=5, decay=1.0), later(6)).denied == 0


@given(st.lists(st.floats(0, 1e9), max_size=20), st.integers(0, 5), st.integers(1, 5))
def test_average_occupancy_is_between_what_was_seen(seen: list[float], limit: int, slots: int) -> None:
    one = book(limit=limit)
    for seconds in seen:
        one = occupied(one, seconds, slots)
    assert core.SHORTEST_OCCUPANCY_SECONDS <= one.occupancy <= max([2.0, *seen])


@given(st.integers(0, 2**80))
def test_a_lease_of_nothing_is_known_by_its_form(number: int) -> None:
    assert holds_nothing(lease_of_nothing(number))
    assert not holds_nothing(new_id())
