"""Values as people write them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.cli.values import (
    read_moment,
    read_object,
    read_object_file,
    read_pairs,
    read_schedule,
    read_span,
)
from eparch.core.errors import EparchError, SourceError, Usage

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)


def test_pairs_are_json_or_text():
    found = read_pairs(["a=1", "b=x y", 'c={"d": [true]}', "e=", "f=a=b", "g=007"], "--param")
    assert found == {"a": 1, "b": "x y", "c": {"d": [True]}, "e": "", "f": "a=b", "g": "007"}
    assert read_pairs(["a=1"], "--x", json=False) == {"a": "1"}


@pytest.mark.parametrize("pair", ["a", "=1", " =1", ""])
def test_pair_without_key_or_value_is_refused(pair):
    with pytest.raises(Usage, match="--param"):
        read_pairs([pair], "--param")


def test_object_from_text_and_file(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('{"a": 1}')
    assert read_object('{"b": 2}', "--params") == {"b": 2}
    assert read_object(f"@{file}", "--params") == {"a": 1}
    assert read_object_file(file) == {"a": 1}
    for text in ("[]", "{", "3"):
        file.write_text(text)
        with pytest.raises(SourceError, match="JSON") as caught:
            read_object_file(file)
        assert caught.value.file == str(file)
    with pytest.raises(SourceError, match="cannot be read"):
        read_object(f"@{tmp_path}", "--params")
    file.write_bytes(b"\xff")
    with pytest.raises(SourceError, match="cannot be read"):
        read_object_file(file)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("5m", 300),
        ("in 5 minutes", 300),
        ("In 2 Hours", 7200),
        ("1 day and 3 hours", 97200),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("2w", 1209600),
        ("0", 0),
    ],
)
def test_span(text, seconds):
    assert read_span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "5 parsecs", "-5m", "1e9d", "99999999d", "5m!", "in"])
def test_span_that_is_none_is_refused(text):
    with pytest.raises(Usage, match="not a length of time"):
        read_span(text)


@given(st.text(max_size=30))
def test_any_text_is_a_span_or_refused(text):
    try:
        span = read_span(text)
    except Usage:
        return
    assert span >= timedelta(0)


def test_moment():
    assert read_moment("2026-08-01T17:30:00+02:00", NOW) == datetime(2026, 8, 1, 15, 30, tzinfo=UTC)
    local = datetime(2026, 8, 1, 17, 30).astimezone()
    assert read_moment("at 2026-08-01 17:30", NOW) == local
    assert read_moment("2026-08-01 17:30:00", NOW) == local
    today = NOW.astimezone()
    later = (today + timedelta(minutes=5)).replace(second=0, microsecond=0)
    for form in ("%H:%M", "%I:%M%p", "at %I:%M %p"):
        found = read_moment(later.strftime(form), NOW)
        assert (found - later) % timedelta(days=1) == timedelta(0)
        assert timedelta(0) < found - NOW <= timedelta(days=1)


def test_time_of_day_that_is_over_is_tomorrows():
    clock = NOW.astimezone().strftime("%H:%M")
    assert read_moment(clock, NOW) == NOW + timedelta(days=1)


@pytest.mark.parametrize("text", ["", "soon", "25:00", "2026-13-01", "at"])
def test_moment_that_is_none_is_refused(text):
    with pytest.raises(Usage, match="not a moment"):
        read_moment(text, NOW)


def schedule(**given):
    fields = dict.fromkeys(("cron", "interval", "rrule", "anchor_date", "timezone"))
    return read_schedule(**{**fields, **given})


def test_schedule_is_what_the_wire_has():
    assert schedule() is None
    assert schedule(cron="0 3 * * *", timezone="Europe/Athens") == {
        "cron": "0 3 * * *",
        "day_or": True,
        "timezone": "Europe/Athens",
    }
    assert schedule(interval="3600", anchor_date="2026-01-01T00:00:00+00:00") == {
        "interval": 3600.0,
        "anchor_date": "2026-01-01T00:00:00+00:00",
    }
    assert schedule(rrule="FREQ=DAILY") == {"rrule": "FREQ=DAILY"}


@pytest.mark.parametrize(
    "given",
    [
        {"cron": "x"},
        {"cron": "* * * * *", "interval": "1"},
        {"interval": "0"},
        {"timezone": "Europe/Athens"},
        {"cron": "0 0 30 2 *"},
        {"cron": "* * * * *", "timezone": "Nowhere/Else"},
        {"rrule": "FREQ=X"},
        {"rrule": "FREQ=DAILY", "anchor_date": "2026-01-01"},
    ],
)
def test_schedule_that_cannot_be_is_refused(given):
    with pytest.raises(EparchError):
        schedule(**given)
