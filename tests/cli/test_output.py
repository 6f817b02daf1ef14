"""How records are printed."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.cli.output import Column, Output, _cut, _width, ago, span, table
from eparch.cli.watch import FASTEST, SLOWEST, line_of, pauses
from eparch.core.model import new_id
from eparch.core.records import Log

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
COLUMNS = [Column("NAME", lambda one: one.name), Column("AGE", lambda one: one.age)]


@dataclass
class One:
    name: str
    age: object = None


def printed(capsys, format_, records):
    Output(format_).rows(records, COLUMNS, empty="There are none.")
    return capsys.readouterr()


def test_each_format(capsys):
    records = [One("a", 1), One("bb", None)]
    assert printed(capsys, "table", records).out == "NAME  AGE\na     1\nbb\n"
    assert printed(capsys, "json", records).out == (
        '[\n  {\n    "name": "a",\n    "age": 1\n  },\n  {\n    "name": "bb",\n    "age": null\n  }\n]\n'
    )
    assert printed(capsys, "jsonl", records).out == '{"name":"a","age":1}\n{"name":"bb","age":null}\n'
    assert printed(capsys, "name", records).out == "a\nbb\n"
    assert printed(capsys, "yaml", records).out == "- name: a\n  age: 1\n- name: bb\n  age:\n"


def test_nothing_is_still_data(capsys):
    assert printed(capsys, "table", []) == ("", "There are none.\n")
    assert printed(capsys, "json", []) == ("[]\n", "")
    assert printed(capsys, "jsonl", []) == ("", "")
    assert printed(capsys, "name", []) == ("", "")


def test_cells_never_send_controls_to_the_terminal():
    text = table([One("a\x1b]0;x\x07\nb", {"k": "\x1b"})], COLUMNS, colored=False)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert len(text.splitlines()) == 2
    assert "a\\x1b]0;x\\x07\\nb" in text


def test_wide_characters_take_two_columns():
    lines = table([One("日本", 1), One("abcd", 2), One("e\u0301", 3)], COLUMNS, colored=False).splitlines()
    assert lines[1] == "日本  1"
    assert lines[2] == "abcd  2"
    assert lines[3] == "e\u0301     3"


def test_colour_follows_the_state():
    columns = [Column("STATE", lambda one: one.name, lambda one: one.name)]
    assert "\x1b[31mFAILED\x1b[0m" in table([One("FAILED")], columns, colored=True)
    assert "\x1b" not in table([One("FAILED")], columns, colored=False)


@given(st.text(max_size=40), st.integers(8, 30))
def test_cut_fits(text, width):
    if _width(text) > width:
        assert _width(_cut(text, width)) <= width


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90061, "1 d 1 h"), (86400 * 3 + 60, "3 d")],
)
def test_span(seconds, text):
    assert span(seconds) == text


def test_ago():
    assert ago(NOW, NOW) == "now"
    assert ago(NOW - timedelta(minutes=2), NOW) == "2 min ago"
    assert ago(NOW + timedelta(hours=2), NOW) == "in 2 h"


def test_pace_slows_down_to_a_bound():
    pace = pauses()
    found = [next(pace) for _ in range(20)]
    assert found[0] == FASTEST
    assert found == sorted(found)
    assert found[-1] == SLOWEST


def log(message, level=20):
    return Log(id=new_id(), name="x", level=level, message=message, timestamp=NOW)


def test_log_line_keeps_colours_only_where_there_are_some():
    assert line_of(log("a\x1b[31mb\x1b[0m\x1b]0;t\x07\r"), colored=False).endswith(" INFO     ab]0;t")
    assert line_of(log("a\x1b[31mb"), colored=True).endswith("a\x1b[31mb")
    assert "\x1b[31mERROR" in line_of(log("x", 40), colored=True)
    assert " 25       x" in line_of(log("x", 25), colored=False)
    assert line_of(log("a\n\tb"), colored=False).endswith("a\n\tb")


def test_records_of_the_wire_are_printed_as_they_are(capsys):
    record = log("x")
    Output("json").one(record)
    assert msgspec.json.decode(capsys.readouterr().out, type=Log) == record
    Output("table").one(record)
    assert "message      x\n" in capsys.readouterr().out
