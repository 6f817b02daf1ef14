"""Functions whose annotations name what is there for a type checker only can be called, and deployed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from eparch.core.annotations import hints_of, signature_of
from eparch.core.parameters import bind, call_arguments, coerce
from eparch.core.signatures import schema_of

LATE = sys.version_info >= (3, 14)
HEADS = ["from __future__ import annotations\n", *([""] if LATE else [])]
"""Before Python 3.14 only this import lets an annotation name what is not there."""


@pytest.fixture(params=HEADS, ids=["as text", "late"][: len(HEADS)])
def half_known(request: pytest.FixtureRequest) -> Callable[..., Any]:
    source = request.param + "def f(n: int, frame: pandas.DataFrame = None) -> None: ...\n"
    names: dict[str, Any] = {}
    exec(compile(source, "f.py", "exec", dont_inherit=True), names)
    found: Callable[..., Any] = names["f"]
    return found


def test_what_cannot_be_resolved_is_left_out(half_known: Callable[..., Any]) -> None:
    assert hints_of(half_known)["n"] is int
    assert "frame" not in hints_of(half_known)
    assert list(signature_of(half_known).parameters) == ["n", "frame"]


def test_the_rest_goes_on_as_ever(half_known: Callable[..., Any]) -> None:
    properties = schema_of(half_known)["properties"]
    assert properties["n"]["type"] == "integer"
    assert "type" not in properties["frame"]
    assert bind(half_known, ("1",), {}) == {"n": "1", "frame": None}
    assert coerce(half_known, {"n": "1", "frame": 2}) == {"n": 1, "frame": 2}
    assert call_arguments(half_known, {"n": 1})[1] == {"n": 1}
