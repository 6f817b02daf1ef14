"""Schedules in a ``prefect.yaml`` (features 1.5; real-files 2.4, 3.2, 3.3)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core.deployments import DeploymentScheduleCreate, schedule_of
from eparch.core.errors import ScheduleInvalid, SourceError, SourceErrors
from eparch.deploy.project import Project, parse_project
from eparch.deploy.schedules import parse_interval

HEAD = "deployments:\n  - name: a\n    entrypoint: f.py:f\n    schedules:\n"


def read(*items: str) -> tuple[list[DeploymentScheduleCreate], Project]:
    project = parse_project(HEAD + "".join(f"      - {item}\n" for item in items))
    schedules = project.deployments[0].schedules
    assert schedules is not None
    return schedules, project


def mistake(*items: str) -> SourceError:
    with pytest.raises(SourceErrors) as caught:
        read(*items)
    (error,) = caught.value.errors
    return error


@pytest.mark.parametrize(
    ("item", "wire"),
    [
        ("cron: '0 6 * * SUN'", {"cron": "0 6 * * SUN", "day_or": True}),
        (
            "{cron: '0 6 1 * 1', timezone: Europe/Berlin, day_or: false}",
            {"cron": "0 6 1 * 1", "timezone": "Europe/Berlin", "day_or": False},
        ),
        ("{cron: '0 6 * * *', timezone: null}", {"cron": "0 6 * * *", "day_or": True}),
        ("interval: 3600", {"interval": 3600.0}),
        ("interval: 3600.0", {"interval": 3600.0}),
        ("interval: '86400'", {"interval": 86400.0}),
        ("interval: PT10M", {"interval": 600.0}),
        ("interval: 1:30:00", {"interval": 5400.0}),
        (
            "{interval: 60, anchor_date: '2024-01-01T00:00:00.123456+00:00'}",
            {"interval": 60.0, "anchor_date": "2024-01-01T00:00:00.123456Z"},
        ),
        (
            "{interval: 60, anchor_date: 2024-01-01T00:00:00-03:00}",
            {"interval": 60.0, "anchor_date": "2024-01-01T00:00:00-03:00"},
        ),
        (
            "{interval: 60, anchor_date: 2024-01-01T00:00:00Z}",
            {"interval": 60.0, "anchor_date": "2024-01-01T00:00:00Z"},
        ),
        (
            "{interval: 60, anchor_date: 2024-07-01, timezone: Europe/Berlin}",
            {"interval": 60.0, "anchor_date": "2024-07-01T00:00:00+02:00", "timezone": "Europe/Berlin"},
        ),
        ("rrule: FREQ=DAILY", {"rrule": "FREQ=DAILY"}),
        ("{rrule: 'RRULE:FREQ=DAILY', timezone: UTC}", {"rrule": "RRULE:FREQ=DAILY", "timezone": "UTC"}),
        (
            """rrule: '{"rrule": "FREQ=DAILY", "timezone": "UTC"}'""",
            {"rrule": "FREQ=DAILY", "timezone": "UTC"},
        ),
        (
            """{rrule: '{"rrule": "FREQ=DAILY", "timezone": "UTC"}', timezone: Europe/Berlin}""",
            {"rrule": "FREQ=DAILY", "timezone": "Europe/Berlin"},
        ),
    ],
)
def test_accepted_silently(item: str, wire: dict[str, Any]) -> None:
    (schedule,), project = read(item)
    assert schedule.schedule == wire
    assert schedule_of(schedule.schedule)
    assert project.notes == []


def test_fields_of_a_schedule() -> None:
    (schedule,), _ = read("{interval: 60, active: no, slug: every-minute, replaces: old, parameters: {a: 1}}")
    assert (schedule.active, schedule.slug, schedule.replaces) == (False, "every-minute", "old")
    assert schedule.parameters == {"a": 1}


@pytest.mark.parametrize(
    ("item", "position", "note"),
    [
        ("{interval: 60, slug: a_b_c}", "5:24", "'_'"),
        ("{cron: '0 0 * * *', timezone: EST}", "5:29", "America/New_York"),
        ("{interval: 60, anchor_date: 2024-01-01T00:00:00}", "5:24", "UTC is taken"),
        ("{interval: 60, catchup: false, max_active_runs: 2}", "5:40", "concurrency_limit: 2"),
    ],
)
def test_accepted_with_a_note(item: str, position: str, note: str) -> None:
    schedules, project = read(item)
    assert len(schedules) == 1
    assert [(str(found.position), note in found.message) for found in project.notes] == [
        (f"prefect.yaml:{position}", True)
    ]


def test_what_the_wizard_of_3_0_wrote_is_silent() -> None:
    schedules, project = read("{interval: 3600.0, catchup: false, max_active_runs: null, active: true}")
    assert (len(schedules), project.notes) == (1, [])


def test_empty_items_are_skipped() -> None:
    schedules, _ = read("", "{}", "interval: 60", "{cron: null, timezone: null}")
    assert len(schedules) == 1


@pytest.mark.parametrize(
    ("item", "position", "message", "help_"),
    [
        ("'*/2 * * * *'", "5:9", "must be a mapping", "cron:"),
        ("{timezone: UTC}", "5:9", "exactly one of", "none of them"),
        ("{cron: '0 0 * * *', interval: 60}", "5:9", "exactly one of", "cron and interval"),
        ("{crn: '0 0 * * *', interval: 60}", "5:10", "no key 'crn'", "'cron'"),
        ("{interval: 60, late_runs: 1}", "5:24", "no key 'late_runs'", "no such field"),
        ("{interval: 60, flow_run_name: x}", "5:24", "no key 'flow_run_name'", "@flow"),
        ("{interval: 60, catchup: true}", "5:24", "not caught up", "remove 'catchup'"),
        ("{interval: 60, day_or: true}", "5:24", "belongs to cron", ""),
        ("{cron: '0 0 * * *', anchor_date: 2024-01-01}", "5:29", "belongs to interval", ""),
        ("interval: '0 5 * * *'", "5:19", "not an interval", 'cron: "0 5 * * *"'),
        ("interval: '86400   executa a cada dia'", "5:19", "not an interval", "PT1H"),
        ("interval: 0", "5:19", "more than zero", ""),
        ("interval: true", "5:19", "not an interval", ""),
        ("{interval: 60, anchor_date: soon}", "5:37", "not a date", "2026-01-31"),
        ("{interval: 60, slug: Über uns}", "5:30", "not a slug", "small letters"),
        ("{interval: 60, parameters: [1]}", "5:36", "must be a mapping", ""),
        ("{interval: 60, active: perhaps}", "5:32", "true or false", ""),
        ("cron: '61 * * * *'", "5:15", "61", ""),
        ("cron: every day", "5:15", "every day", ""),
        ("{cron: '0 0 * * *', timezone: Europe/Berln}", "5:39", "Europe/Berln", ""),
        ("rrule: FREQ=SOMETIMES", "5:16", "SOMETIMES", ""),
    ],
)
def test_refused(item: str, position: str, message: str, help_: str) -> None:
    error = mistake(item)
    assert error.position == f"prefect.yaml:{position}"
    assert message in f"{error.message} {error.why}"
    assert help_ in f"{error.message} {error.why} {error.fix}"


def test_slugs_are_unique_in_a_deployment() -> None:
    error = mistake("{interval: 60, slug: x}", "{interval: 90, slug: x}")
    assert error.position == "prefect.yaml:6:30"
    assert "line 5" in error.message


def test_every_wrong_schedule_is_told() -> None:
    with pytest.raises(SourceErrors) as caught:
        read("interval: 0", "interval: 60", "cron: '61 * * * *'")
    assert [error.line for error in caught.value.errors] == [5, 7]


@given(st.integers(0, 400), st.integers(0, 59), st.integers(0, 59))
def test_interval_forms_agree(hours: int, minutes: int, seconds: int) -> None:
    total = hours * 3600 + minutes * 60 + seconds
    clock, duration = f"{hours}:{minutes:02}:{seconds:02}", f"PT{hours}H{minutes}M{seconds}S"
    forms = [total, float(total), str(total), clock, duration]
    if total:
        assert {parse_interval(form) for form in forms} == {float(total)}
        return
    for form in forms:
        with pytest.raises(ScheduleInvalid):
            parse_interval(form)


@pytest.mark.parametrize(
    ("text", "seconds"), [("P1D", 86400), ("P2W", 1209600), ("p1dt12h", 129600), ("PT1.5S", 1.5)]
)
def test_iso_durations(text: str, seconds: float) -> None:
    assert parse_interval(text) == seconds


@pytest.mark.parametrize("text", ["P", "PT", "P1Y", "1:99", "", "-60", "1h", None, [60]])
def test_what_is_no_interval(text: object) -> None:
    with pytest.raises(ScheduleInvalid):
        parse_interval(text)
