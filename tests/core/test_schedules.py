"""Row B1: schedules as streams of moments."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from dateutil.rrule import rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eparch.core.deployments import CronSchedule, IntervalSchedule, RRuleSchedule, Schedule
from eparch.core.errors import ScheduleInvalid
from eparch.core.recurrences import MAX_RRULE
from eparch.core.schedules import check, occurrences, upcoming

DAY = timedelta(days=1)
ZONES = ["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Cairo"]


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def first(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    return list(islice(occurrences(schedule, after), count))


def local(schedule: Schedule, after: str, count: int) -> list[str]:
    """The first moments as the clock of the zone shows them, with the offset."""
    zone = ZoneInfo(schedule.timezone or "UTC")
    found = first(schedule, datetime.fromisoformat(after).replace(tzinfo=zone), count)
    return [moment.astimezone(zone).strftime("%m-%d %H:%M%z") for moment in found]


# Random schedules.


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    # croniter reads a range of one day of the week, 3-3, as the whole week; to us it is that day
    span = (
        st.tuples(number, number)
        .filter(lambda pair: pair[0] != pair[1])
        .map(lambda pair: f"{min(pair)}-{max(pair)}")
    )
    step = st.one_of(st.just("*"), span).flatmap(lambda head: st.integers(1, 9).map(lambda n: f"{head}/{n}"))
    item = st.one_of(number.map(str), span, step)
    return st.one_of(st.just("*"), st.lists(item, min_size=1, max_size=3).map(",".join))


crons = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)).map(" ".join)
moments = st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
zones = st.sampled_from(ZONES)
rules = st.tuples(
    st.sampled_from(["HOURLY", "DAILY", "WEEKLY", "MONTHLY"]),
    st.integers(1, 40),
    st.sampled_from(["", ";BYDAY=MO,SA", ";BYHOUR=1,2,3,4;BYMINUTE=0,30", ";COUNT=200"]),
).map(lambda parts: f"FREQ={parts[0]};INTERVAL={parts[1]}{parts[2]}")
schedules = st.one_of(
    st.builds(CronSchedule, cron=crons, timezone=zones, day_or=st.booleans()),
    st.builds(
        IntervalSchedule,
        interval=st.integers(600, 2_000_000),
        timezone=zones,
        anchor_date=st.none() | moments,
    ),
    st.builds(RRuleSchedule, rrule=rules, timezone=zones),
)


@settings(max_examples=120, deadline=None)
@given(schedules, moments)
def test_b1_moments_rise_in_utc_and_include_the_start(schedule: Schedule, after: datetime) -> None:
    found = first(schedule, after, 20)
    assert all(moment.tzinfo is UTC and moment >= after for moment in found)
    assert all(one < two for one, two in pairwise(found))
    if len(found) > 6:
        assert first(schedule, found[5], len(found) - 5)[: len(found) - 5] == found[5:]
        assert first(schedule, found[5] + timedelta(microseconds=1), 1) == [found[6]]


@settings(max_examples=100, deadline=None)
@given(crons, moments, st.booleans())
def test_b1_cron_agrees_with_croniter_in_utc(cron: str, after: datetime, day_or: bool) -> None:
    oracle = croniter(cron, after - timedelta(microseconds=1), day_or=day_or)
    found = first(CronSchedule(cron=cron, day_or=day_or), after, 8)
    assume(found)
    assert found == [oracle.get_next(datetime) for _ in found]


@settings(max_examples=80, deadline=None)
@given(field(0, 59), field(0, 23), field(1, 28), zones, moments)
def test_b1_cron_matches_its_fields_on_the_wall_clock(
    minute: str, hour: str, day: str, zone: str, after: datetime
) -> None:
    wanted = croniter(f"{minute} {hour} {day} * *").expanded
    for moment in first(CronSchedule(cron=f"{minute} {hour} {day} * *", timezone=zone), after, 20):
        wall = moment.astimezone(ZoneInfo(zone))
        before = (moment - timedelta(seconds=1)).astimezone(ZoneInfo(zone))
        if before.utcoffset() < wall.utcoffset():
            continue  # the moment of a jump stands for the times that it skips
        shown = (wall.minute, wall.hour, wall.day)
        assert all(ok == ["*"] or value in ok for value, ok in zip(shown, wanted, strict=False))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 86_399), moments, moments, zones)
def test_b1_short_interval_keeps_utc_spacing(
    seconds: int, anchor: datetime, after: datetime, zone: str
) -> None:
    schedule = IntervalSchedule(interval=seconds, anchor_date=anchor, timezone=zone)
    found = first(schedule, after, 10)
    assert found[0] - after < timedelta(seconds=seconds)
    assert all((moment - anchor) % timedelta(seconds=seconds) == timedelta() for moment in found)
    assert all(two - one == timedelta(seconds=seconds) for one, two in pairwise(found))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), moments, moments, zones)
def test_b1_long_interval_keeps_the_clock_hour(
    days: int, anchor: datetime, after: datetime, zone: str
) -> None:
    place = ZoneInfo(zone)
    schedule = IntervalSchedule(interval=days * 86_400, anchor_date=anchor, timezone=zone)
    wall = anchor.astimezone(place).replace(tzinfo=None, fold=0)
    for moment in first(schedule, after, 10):
        shown = moment.astimezone(place).replace(tzinfo=None, fold=0)
        late = (shown - wall) % timedelta(days=days)
        assert late in (timedelta(), timedelta(minutes=30), timedelta(hours=1))
        if late:  # only where the clock skips the hour
            skipped = (shown - late).replace(tzinfo=place)
            assert skipped.astimezone(UTC).astimezone(place).replace(tzinfo=None) == shown
    assert first(schedule, after, 1)[0] - after <= timedelta(days=days, hours=2)


# Cron and the clock.


@pytest.mark.parametrize(
    ("zone", "cron", "after", "expected"),
    [
        # spring, 02:00 -> 03:00
        ("America/New_York", "30 2 * * *", "2024-03-09 12:00", ["03-10 03:00-0400", "03-11 02:30-0400"]),
        ("America/New_York", "0,30 2,3 * * *", "2024-03-10 00:00", ["03-10 03:00-0400", "03-10 03:30-0400"]),
        ("America/New_York", "0 9 * * *", "2024-03-09 00:00", ["03-09 09:00-0500", "03-10 09:00-0400"]),
        ("America/New_York", "15 * * * *", "2024-03-10 01:00", ["03-10 01:15-0500", "03-10 03:15-0400"]),
        ("America/New_York", "* 2 * * *", "2024-03-10 01:00", ["03-11 02:00-0400", "03-11 02:01-0400"]),
        ("Europe/Berlin", "30 2 * * *", "2024-03-31 00:00", ["03-31 03:00+0200", "04-01 02:30+0200"]),
        # autumn, 02:00 -> 01:00, in Berlin 03:00 -> 02:00
        ("America/New_York", "30 1 * * *", "2024-11-03 00:00", ["11-03 01:30-0400", "11-04 01:30-0500"]),
        ("Europe/Berlin", "30 2 * * *", "2024-10-27 00:00", ["10-27 02:30+0200", "10-28 02:30+0100"]),
        (
            "America/New_York",
            "*/30 * * * *",
            "2024-11-03 01:00",
            [
                "11-03 01:00-0400",
                "11-03 01:30-0400",
                "11-03 01:00-0500",
                "11-03 01:30-0500",
                "11-03 02:00-0500",
            ],
        ),
        (
            "America/New_York",
            "*/30 1 3 11 *",
            "2024-11-03 01:30",
            ["11-03 01:30-0400", "11-03 01:00-0500", "11-03 01:30-0500", "11-03 01:00-0500"],
        ),
        # Lord Howe moves by half an hour: 02:00 -> 02:30, 02:00 -> 01:30
        ("Australia/Lord_Howe", "15 2 * * *", "2024-10-06 00:00", ["10-06 02:30+1100", "10-07 02:15+1100"]),
        ("Australia/Lord_Howe", "* 2 * * *", "2024-10-06 00:00", ["10-06 02:30+1100", "10-06 02:31+1100"]),
        ("Australia/Lord_Howe", "* 2 * * *", "2024-04-07 01:00", ["04-07 02:00+1030", "04-07 02:01+1030"]),
        (
            "Australia/Lord_Howe",
            "*/15 * * * *",
            "2024-04-07 01:30",
            [
                "04-07 01:30+1100",
                "04-07 01:45+1100",
                "04-07 01:30+1030",
                "04-07 01:45+1030",
                "04-07 02:00+1030",
            ],
        ),
        # no clock changes, a quarter of an hour off
        ("Asia/Kathmandu", "0 9 * * *", "2024-03-31 00:00", ["03-31 09:00+0545", "04-01 09:00+0545"]),
        # midnight itself is skipped in Cairo
        ("Africa/Cairo", "0 0 * * *", "2024-04-25 00:00", ["04-25 00:00+0200", "04-26 01:00+0300"]),
    ],
)
def test_b1_cron_keeps_wall_clock(zone: str, cron: str, after: str, expected: list[str]) -> None:
    assert local(CronSchedule(cron=cron, timezone=zone), after, len(expected)) == expected


def test_b1_cron_starts_inside_the_second_of_two_equal_hours() -> None:
    new_york = ZoneInfo("America/New_York")
    start = datetime(2024, 11, 3, 1, 30, tzinfo=new_york, fold=1)
    assert first(CronSchedule(cron="45 1 * * *", timezone="America/New_York"), start, 1) == [
        at("2024-11-04 06:45")
    ]
    assert first(CronSchedule(cron="*/15 * * * *", timezone="America/New_York"), start, 2) == [
        at("2024-11-03 06:30"),
        at("2024-11-03 06:45"),
    ]


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"])
def test_10678_no_day_is_skipped_near_a_clock_change(zone: str) -> None:
    """Whatever moment the question is asked at, a daily cron runs once on each day of the year."""
    for cron in ("0 2 * * *", "30 2 * * *", "0 17 * * *"):
        schedule = CronSchedule(cron=cron, timezone=zone)
        year = first(schedule, at("2024-01-01 00:00", zone), 366)
        days = [moment.astimezone(ZoneInfo(zone)).date() for moment in year]
        assert days == [datetime(2024, 1, 1).date() + n * DAY for n in range(366)]
        for month, day in ((3, 8), (3, 29), (4, 5), (10, 4), (10, 25), (11, 1)):
            for hours in range(0, 96, 5):
                start = at(f"2024-{month:02}-{day:02} 00:00") + timedelta(hours=hours)
                assert first(schedule, start, 1) == [next(moment for moment in year if moment >= start)]


# Cron, how it is written.


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("@daily", "0 0 * * *"),
        ("@Midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("0 0 ? * ?", "0 0 * * *"),
        ("0 0 * jan,Feb sun-TUE", "0 0 * 1,2 0,1,2"),
        ("0 0 * * fri-mon", "0 0 * * 5,6,0,1"),
        ("0 0 * * 5-7", "0 0 * * 5,6,0"),
        ("0 22-2 * * *", "0 22,23,0,1,2 * * *"),
        ("5/20 * * * *", "5,25,45 * * * *"),
        ("*/90 * * * *", "0 * * * *"),
        ("  0  0 * * 7 ", "0 0 * * 0"),
        ("0 0 * * 5L", "0 0 * * L5"),
        ("0 0 1-31 * 2", "0 0 * * *"),  # only a star is "not given"
        ("0 0 5 * 0-6", "0 0 * * *"),
    ],
)
def test_b1_cron_can_be_written_so(written: str, plain: str) -> None:
    oracle = croniter(plain, datetime(2024, 1, 1, 0, 1, tzinfo=UTC))
    found = first(CronSchedule(cron=written), at("2024-01-01 00:01:01"), 12)
    assert found == [oracle.get_next(datetime) for _ in found]


def test_b1_cron_with_six_fields_has_the_seconds_last() -> None:
    assert first(CronSchedule(cron="0 9 * * * 15,30"), at("2024-01-01 00:00"), 2) == [
        at("2024-01-01 09:00:15"),
        at("2024-01-01 09:00:30"),
    ]


def test_b1_cron_day_or() -> None:
    either = first(CronSchedule(cron="0 0 13 * FRI"), at("2024-01-01 00:00"), 3)
    assert [moment.day for moment in either] == [5, 12, 13]
    both = first(CronSchedule(cron="0 0 13 * FRI", day_or=False), at("2024-01-01 00:00"), 2)
    assert both == [at("2024-09-13 00:00"), at("2024-12-13 00:00")]
    stepped = first(CronSchedule(cron="0 0 */10 * FRI"), at("2024-01-01 00:00"), 4)
    assert [moment.day for moment in stepped] == [1, 5, 11, 12]


def test_b1_cron_knows_leap_years_and_last_days() -> None:
    assert [moment.year for moment in first(CronSchedule(cron="0 0 29 2 *"), at("2024-03-01 00:00"), 2)] == [
        2028,
        2032,
    ]
    assert [moment.day for moment in first(CronSchedule(cron="0 0 L * *"), at("2024-01-01 00:00"), 4)] == [
        31,
        29,
        31,
        30,
    ]
    assert [
        moment.day for moment in first(CronSchedule(cron="0 0 * * MON#2"), at("2024-01-01 00:00"), 2)
    ] == [
        8,
        12,
    ]
    century = first(CronSchedule(cron="0 0 29 2 *"), at("2096-03-01 00:00"), 1)
    assert century == [at("2104-02-29 00:00")]


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("60 * * * *", "60 is not between 0 and 59"),
        ("0 24 * * *", "24 is not between 0 and 23"),
        ("0 0 0 * *", "0 is not between 1 and 31"),
        ("0 0 * 13 *", "13 is not between 1 and 12"),
        ("0 0 * * 8", "8 is not between 0 and 7"),
        ("0 0 * FBE *", "Did you mean 'FEB'?"),
        ("0 0 * * MONDAY", "'MONDAY' cannot be read"),
        ("* * * *", "has 4 fields"),
        ("0 0 1 1 * 0 2030", "has 7 fields"),
        ("", "has 0 fields"),
        ("H * * * *", "hashed"),
        ("0 R * * *", "Random"),
        ("h(0-29)/10 * * * *", "hashed"),
        ("@dayly", "Did you mean '@daily'?"),
        ("@reboot", "is not known"),
        ("*/0 * * * *", "step cannot be 0"),
        ("1, * * * *", "empty"),
        ("? * * * *", "day only"),
        ("0 0 30 2 *", "never runs"),
        ("0 0 31 4,6 *", "never runs"),
        ("1 " * 600, "longer than"),
        ("٣ * * * *", "cannot be read"),
    ],
)
def test_b1_bad_cron_is_refused(cron: str, says: str) -> None:
    with pytest.raises(ScheduleInvalid) as refusal:
        check(CronSchedule(cron=cron))
    assert says in f"{refusal.value.message} {refusal.value.why} {refusal.value.fix}"


# Intervals.


def test_b1_interval_and_the_clock() -> None:
    zone = "America/New_York"
    daily = IntervalSchedule(interval=86400, anchor_date=at("2024-03-01 02:30", zone), timezone=zone)
    assert local(daily, "2024-03-09 00:00", 3) == ["03-09 02:30-0500", "03-10 03:30-0400", "03-11 02:30-0400"]
    hourly = IntervalSchedule(interval=3600, anchor_date=at("2024-03-01 00:00", zone), timezone=zone)
    assert local(hourly, "2024-11-03 01:00", 3) == [
        "11-03 01:00-0400",
        "11-03 01:00-0500",
        "11-03 02:00-0500",
    ]


def test_b1_interval_without_anchor_counts_from_2020() -> None:
    schedule = IntervalSchedule(interval=7 * 86400, timezone="Europe/Berlin")
    assert local(schedule, "2020-01-01 00:00", 2) == ["01-01 00:00+0100", "01-08 00:00+0100"]


def test_b1_interval_looks_back_before_its_anchor() -> None:
    schedule = IntervalSchedule(interval=3600, anchor_date=at("2030-01-01 00:30"))
    assert first(schedule, at("2024-01-01 00:00"), 1) == [at("2024-01-01 00:30")]


@pytest.mark.parametrize(
    "schedule",
    [
        IntervalSchedule(interval=0),
        IntervalSchedule(interval=-5),
        IntervalSchedule(interval=1e-9),
        IntervalSchedule(interval=1e30),
        IntervalSchedule(interval=float("nan")),
        IntervalSchedule(interval=float("inf")),
        IntervalSchedule(interval=60, anchor_date=datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_b1_bad_interval_is_refused(schedule: IntervalSchedule) -> None:
    with pytest.raises(ScheduleInvalid):
        check(schedule)


# Rrules.


def test_b1_rrule_starts_in_2020_without_dtstart() -> None:
    schedule = RRuleSchedule(rrule="FREQ=WEEKLY;INTERVAL=2", timezone="Europe/Berlin")
    assert local(schedule, "2020-01-01 00:00", 2) == ["01-01 00:00+0100", "01-15 00:00+0100"]
    assert local(schedule, "2020-07-01 00:00", 1) == ["07-01 00:00+0200"]


@pytest.mark.parametrize(
    "rrule", ["FREQ=DAILY;BYHOUR=9", "RRULE:FREQ=DAILY;BYHOUR=9", "rrule:freq=daily;byhour=9;"]
)
def test_b1_rrule_prefix_and_case(rrule: str) -> None:
    assert first(RRuleSchedule(rrule=rrule), at("2024-01-01 00:00"), 1) == [at("2024-01-01 09:00")]


def test_b1_rrule_keeps_wall_clock() -> None:
    zone = "America/New_York"
    nine = RRuleSchedule(rrule="DTSTART:20240101T090000\nRRULE:FREQ=DAILY", timezone=zone)
    assert local(nine, "2024-03-09 12:00", 2) == ["03-10 09:00-0400", "03-11 09:00-0400"]
    skipped = RRuleSchedule(
        rrule="DTSTART:20240101T000000\nRRULE:FREQ=DAILY;BYHOUR=2,3;BYMINUTE=0,30", timezone=zone
    )
    assert local(skipped, "2024-03-10 00:00", 3) == [
        "03-10 03:00-0400",
        "03-10 03:30-0400",
        "03-11 02:00-0400",
    ]
    late = RRuleSchedule(rrule="FREQ=DAILY;BYHOUR=2;BYMINUTE=30", timezone=zone)
    assert local(late, "2024-03-10 03:15", 1) == ["03-10 03:30-0400"]


def test_b1_rrule_with_a_long_interval_of_short_units() -> None:
    schedule = RRuleSchedule(rrule="FREQ=SECONDLY;INTERVAL=10000000")
    start = at("2020-01-01 00:00")
    assert first(schedule, start, 3) == [start + timedelta(seconds=10_000_000 * n) for n in range(3)]


def test_b1_rruleset() -> None:
    schedule = RRuleSchedule(
        rrule="DTSTART:20240101T090000Z\nRRULE:FREQ=DAILY;UNTIL=20240106T090000Z\nRRULE:FREQ=DAILY;BYHOUR=12;COUNT=1\n"
        "EXRULE:FREQ=DAILY;INTERVAL=3\nRDATE:20240110T100000\nEXDATE:20240102T090000Z,20240105T090000Z"
    )
    assert [f"{moment:%d %H}" for moment in first(schedule, at("2024-01-01 00:00"), 9)] == [
        "01 12",
        "03 09",
        "06 09",
        "10 10",
    ]


def test_b1_rrule_count_counts_from_its_start() -> None:
    schedule = RRuleSchedule(rrule="DTSTART:20240101T000000\nRRULE:FREQ=DAILY;COUNT=5")
    assert len(first(schedule, at("2024-01-01 00:00"), 99)) == 5
    assert len(first(schedule, at("2024-01-03 00:00"), 99)) == 3
    assert first(schedule, at("2025-01-01 00:00"), 99) == []
    check(schedule)


def test_b1_rrule_names_its_zone() -> None:
    inside = RRuleSchedule(rrule="DTSTART;TZID=America/New_York:20240101T090000\nRRULE:FREQ=DAILY")
    assert first(inside, at("2024-01-01 00:00"), 1) == [at("2024-01-01 14:00")]
    with pytest.raises(ScheduleInvalid, match=r"America/New_York.*Europe/Berlin"):
        check(RRuleSchedule(rrule=inside.rrule, timezone="Europe/Berlin"))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["DAILY", "HOURLY", "MINUTELY"]),
    st.integers(1, 30),
    st.sampled_from(
        ["", ";BYDAY=MO,WE", ";BYMONTHDAY=1,-1", ";BYMONTH=1,3", ";BYHOUR=3,4;BYMINUTE=0,7,20", ";BYMINUTE=5"]
    ),
    st.datetimes(datetime(2024, 1, 1), datetime(2024, 3, 1)).map(
        lambda moment: moment.replace(microsecond=0)
    ),
)
def test_b1_rrule_agrees_with_dateutil(freq: str, interval: int, more: str, start: datetime) -> None:
    text = f"FREQ={freq};INTERVAL={interval}{more}"
    try:
        oracle = rrulestr(text, dtstart=start)
        expected = list(islice(oracle.xafter(start + 3 * DAY, inc=True), 5))
    except ValueError:
        return
    found = first(
        RRuleSchedule(rrule=f"DTSTART:{start:%Y%m%dT%H%M%S}\nRRULE:{text}"),
        (start + 3 * DAY).replace(tzinfo=UTC),
        5,
    )
    assert [moment.replace(tzinfo=None) for moment in found] == expected


def test_21362_a_frequent_rule_does_not_walk_from_its_start() -> None:
    """From 2020 to 2090 are two thousand million seconds: walked one by one this would not end."""
    for rrule in ("FREQ=SECONDLY;INTERVAL=7", "FREQ=MINUTELY;INTERVAL=7;BYHOUR=3"):
        found = first(RRuleSchedule(rrule=rrule), at("2090-01-01 00:00"), 2)
        assert (found[0] - at("2020-01-01 00:00")).total_seconds() % 7 == 0
        assert found[0] - at("2090-01-01 00:00") < timedelta(hours=4)


@pytest.mark.parametrize(
    ("rrule", "says"),
    [
        ("", "neither"),
        ("FREQ=SOMETIMES", "FREQ must be one of"),
        ("BYDAY=MO", "FREQ must be one of"),
        ("FREQ=DAILY;BYDAYS=MO", "Did you mean 'BYDAY'?"),
        ("FREQ=DAILY;BYDAY=XX", "XX"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL"),
        ("FREQ=DAILY;INTERVAL=-1", "INTERVAL"),
        ("FREQ=DAILY;INTERVAL=" + "9" * 5000, "INTERVAL"),
        ("FREQ=DAILY;COUNT=0", "COUNT"),
        ("FREQ=SECONDLY;COUNT=999999999", "COUNT"),
        ("FREQ=DAILY;FREQ=DAILY", "twice"),
        ("FREQ=DAILY;UNTIL=tomorrow", "is not a date"),
        ("DTSTART:20241301T000000\nRRULE:FREQ=DAILY", "is not a date"),
        ("DTSTART:00010101T000000\nRRULE:FREQ=SECONDLY", "before 1900"),
        ("DTSTART:20240101T000000\nDTSTART:20250101T000000\nRRULE:FREQ=DAILY", "more than one DTSTART"),
        ("DTSTART:20240101T000000", "neither"),
        ("SUMMARY:hello\nRRULE:FREQ=DAILY", "FREQ must be one of"),
        ("FREQ=DAILY;" * 700, "characters"),
        ("FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30", "never runs"),
        ("FREQ=SECONDLY;INTERVAL=1;COUNT=3;BYMONTH=2;BYMONTHDAY=30", "never runs"),
        ("RRULE:FREQ=DAILY\nEXRULE:FREQ=DAILY", "never runs"),
        ("FREQ=SECONDLY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=30;BYHOUR=1;BYSECOND=3", "never runs"),
        ("FREQ=HOURLY;INTERVAL=4;BYHOUR=1", "never runs"),
        ("\n".join(["RRULE:FREQ=SECONDLY"] * 11), "more than 10 rules"),
        ("FREQ=DAILY;BYHOUR=25", "hour must be in"),
        ("FREQ=DAILY;BYHOUR=x", "BYHOUR"),
        ("FREQ=DAILY;UNTIL=20190101", "never runs"),
        ("DTSTART:20240101T000000\nRRULE:FREQ=DAILY;UNTIL=20230101", "never runs"),
    ],
)
def test_b1_bad_rrule_is_refused(rrule: str, says: str) -> None:
    with pytest.raises(ScheduleInvalid) as refusal:
        check(RRuleSchedule(rrule=rrule))
    assert says in f"{refusal.value.message} {refusal.value.why} {refusal.value.fix}"


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(list("FREQDAILY=;:,0123*/-@LRH#\n")), max_size=30).map("".join)
)
def test_b1_any_text_is_a_schedule_or_refused(text: str) -> None:
    for schedule in (
        CronSchedule(cron=text),
        RRuleSchedule(rrule=text),
        CronSchedule(cron="@daily", timezone=text),
    ):
        with suppress(ScheduleInvalid):
            check(schedule)


def test_b1_a_long_rrule_is_accepted_up_to_the_limit() -> None:
    dates = ",".join(f"20240101T{n // 60:02}{n % 60:02}00" for n in range(400))
    schedule = RRuleSchedule(rrule=f"RDATE:{dates}"[:MAX_RRULE].rpartition(",")[0])
    check(schedule)
    assert len(first(schedule, at("2024-01-01 00:00"), 999)) == 400 - 1


# Zones and planning.


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("America/NewYork", "America/New_York"),
        ("Europe/Berln", "Europe/Berlin"),
        ("/etc/passwd", "IANA"),
        ("x" * 9999, "IANA"),
    ],
)
def test_b1_unknown_zone_is_refused_with_the_nearest(zone: str, hint: str) -> None:
    with pytest.raises(ScheduleInvalid) as refusal:
        check(CronSchedule(cron="@daily", timezone=zone))
    assert hint in refusal.value.fix


def test_b1_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        occurrences(CronSchedule(cron="@daily"), datetime(2024, 1, 1))


def test_b1_upcoming_has_enough_runs_and_time() -> None:
    now = at("2024-01-01 00:00")
    hourly = upcoming(CronSchedule(cron="@hourly"), now)
    assert [moment.hour for moment in hourly] == [0, 1, 2]
    quarters = upcoming(CronSchedule(cron="*/15 * * * *"), now)
    assert quarters == [now + timedelta(minutes=15 * n) for n in range(5)]
    assert len(upcoming(IntervalSchedule(interval=10), now)) == 100
    assert upcoming(CronSchedule(cron="0 0 1 * *"), now) == [
        at("2024-01-01 00:00"),
        at("2024-02-01 00:00"),
        at("2024-03-01 00:00"),
    ]
    assert upcoming(CronSchedule(cron="@yearly"), now + DAY) == []
    assert upcoming(IntervalSchedule(interval=10), now, max_runs=2) == [now, now + timedelta(seconds=10)]


def test_b1_the_end_of_the_calendar_ends_a_schedule() -> None:
    late = at("9999-12-30 12:00")
    assert len(first(CronSchedule(cron="@daily"), late, 9)) == 1
    assert len(first(IntervalSchedule(interval=86400), late, 9)) <= 2
    assert len(first(RRuleSchedule(rrule="FREQ=DAILY"), late, 9)) == 1


def test_importing_schedules_is_cheap() -> None:
    code = (
        "import sys, eparch.core.schedules;"
        "print([m for m in ('cronsim', 'dateutil', 'zoneinfo') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
