"""Schedules as they are given, as they are kept, and whether the one has become the other (wire 4.4)."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from eparch.core.deployments import IntervalSchedule, is_settled_from, schedule_of, settled_schedule

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GIVEN: list[dict[str, Any]] = [
    {"cron": "0 0 * * *"},
    {"cron": "0 0 * * *", "timezone": "Europe/Athens", "day_or": False},
    {"interval": 60},
    {"interval": 0.5, "timezone": "Europe/Athens"},
    {"interval": 3600, "anchor_date": "2026-01-01T00:00:00Z"},
    {"rrule": "FREQ=DAILY"},
    {"rrule": "FREQ=DAILY", "timezone": "Europe/Athens"},
]


@pytest.mark.parametrize("given", GIVEN)
def test_what_is_kept_says_all_and_stays(given: dict[str, Any]) -> None:
    kept = settled_schedule(given, NOW)
    assert schedule_of(kept) == schedule_of(settled_schedule(kept, NOW.replace(year=2030)))
    assert {name: kept[name] for name in given} == given
    assert is_settled_from(kept, given)
    assert [other for other in GIVEN if is_settled_from(kept, other)] == [given]


def test_interval_is_anchored_at_the_moment_in_utc() -> None:
    assert settled_schedule({"interval": 60}, NOW) == {
        "interval": 60.0,
        "anchor_date": "2026-03-01T12:00:00Z",
        "timezone": "UTC",
    }


def test_rrule_as_prefect_keeps_it_is_the_one_that_was_given() -> None:
    stored = {"rrule": "DTSTART:20200101T000000\nFREQ=DAILY", "timezone": "UTC"}
    assert is_settled_from(stored, {"rrule": "FREQ=DAILY"})
    assert not is_settled_from(stored, {"rrule": "FREQ=WEEKLY"})


@pytest.mark.parametrize(("text", "seconds"), [("PT1H", 3600), ("P1DT0.5S", 86400.5), ("90", 90)])
def test_interval_may_be_text(text: str, seconds: float) -> None:
    schedule = schedule_of({"interval": text})
    assert isinstance(schedule, IntervalSchedule)
    assert schedule.interval == seconds


@pytest.mark.parametrize(
    "given", [{}, {"interval": "soon"}, {"interval": "-PT1H"}, {"interval": 0}, {"cron": "a", "rrule": "b"}]
)
def test_what_is_no_schedule_is_kept_from_none(given: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        settled_schedule(given, NOW)
    assert is_settled_from(given, given)
    assert not is_settled_from(given, {"cron": "0 0 * * *"})
