"""JSON Schema: what fits, what does not, and what a hostile schema cannot do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core.errors import Invalid
from eparch.core.json_schema import check_schema, mistakes, slow


def test_both_drafts_are_read() -> None:
    newer = {"type": "array", "prefixItems": [{"type": "integer"}]}
    older = {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {}, "type": "string"}
    assert [m.path for m in mistakes(newer, ["x"])] == [(0,)]
    assert [m.keyword for m in mistakes(older, 1)] == ["type"]


def test_a_masked_message_does_not_show_the_value() -> None:
    schema = {"type": "object", "properties": {"token": {"type": "integer"}}}
    (mistake,) = mistakes(schema, {"token": "hunter2"}, masked=True)
    assert mistake.path == ("token",)
    assert "hunter2" not in mistake.message


@pytest.mark.parametrize(
    ("format_", "good", "bad"),
    [
        ("date-time", "2026-11-22T10:00:00Z", "yesterday"),
        ("date", "2026-11-22", "22.11.2026"),
        ("duration", "PT1H", "an hour"),
        ("uuid", "01a203b1-b014-705f-9e7e-c0568ec22aef", "x"),
    ],
)
def test_formats_are_checked(format_: str, good: str, bad: str) -> None:
    schema = {"type": "string", "format": format_}
    assert list(mistakes(schema, good)) == []
    assert [m.keyword for m in mistakes(schema, bad)] == ["format"]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "#/definitions/nope"},
        {"properties": {"a": {"pattern": "("}}},
        {"type": "objekt"},
        {"properties": {"a": {"pattern": "(a+)+$"}}},
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        check_schema(schema)


@pytest.mark.parametrize("pattern", ["(a+)+", "(a|a)*b*(c*)*", r"(\w+)\1", "(?:x{2,50}){3,}", "((a{200})*)"])
def test_a_pattern_that_may_take_for_ever_is_refused(pattern: str) -> None:
    assert slow(pattern, 0)


@pytest.mark.parametrize(
    "pattern", [r"^[a-z0-9-]+$", r"^\d{4}-\d{2}-\d{2}$", "a|b", r"^(?:s3|gs)://[^/]+/.*$", "(ab)?c*"]
)
def test_patterns_that_people_write_are_taken(pattern: str) -> None:
    assert slow(pattern, 1_000) == ""


def test_a_text_too_long_for_its_pattern_is_refused() -> None:
    schema = {"type": "string", "pattern": "a*b*c*$"}
    assert list(mistakes(schema, "abc" * 10)) == []
    (mistake,) = mistakes(schema, "x" * 10_000)
    assert "too long" in mistake.message


@given(st.from_regex(re.compile(r"[a-z]{1,4}[0-9]*"), fullmatch=True))
def test_a_pattern_agrees_with_the_language(text: str) -> None:
    assert list(mistakes({"type": "string", "pattern": "^[a-z]{1,4}[0-9]*$"}, text)) == []


def test_pattern_properties_are_checked_by_the_same_rule() -> None:
    schema = {"patternProperties": {"^n_": {"type": "integer"}, "(a+)+": {"type": "integer"}}}
    with pytest.raises(Invalid):
        check_schema({"patternProperties": {"(a+)+$": {"type": "integer"}}})
    with pytest.raises(Invalid):
        list(mistakes(schema, {"n_x": "no"}))
    fine = {"patternProperties": {"^n_": {"type": "integer"}}}
    assert [m.path for m in mistakes(fine, {"n_x": "no", "other": "x"})] == [("n_x",)]
