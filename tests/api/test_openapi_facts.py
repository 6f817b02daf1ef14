"""Our document against that of Prefect 3.9.1: what clients send is taken, what they read is there.

``wire_operations.json`` is what ``scripts/print_operations.py`` prints of Prefect's document, and
``wire_differences.json`` lists what is meant to differ, with reasons. These hold without being listed:

- a body may have more types and fewer required fields here, so that null or nothing is taken as the default;
- an answer has every field, of the same type or one of the types that it has there. Which of them are
  required is not compared: every field of an answer is sent here;
- an operation may answer 200 beside 201, as Prefect's server does where its document says one of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eparch import settings
from eparch.api.app import create_app
from eparch.api.openapi import document

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "scripts"))
from print_operations import facts  # noqa: E402

THEIRS: dict[str, Any] = msgspec.json.decode(HERE.joinpath("wire_operations.json").read_bytes())
MEANT: dict[str, dict[str, str]] = msgspec.json.decode(HERE.joinpath("wire_differences.json").read_bytes())
MISSING: dict[str, str] = msgspec.json.decode(HERE.joinpath("missing_operations.json").read_bytes())
ROUTES = create_app(settings.load({})).router.routes
OURS: dict[str, Any] = facts(document(route.endpoint for route in ROUTES))


def kinds(described: str) -> set[str]:
    return set(described.rstrip("!").split())


def fields(described: Any) -> dict[str, str]:
    """Field -> types; of a list those of its items, of a plain value its own under an empty name."""
    if isinstance(described, dict) and "[]" in described:
        return {"[]": "array"} | {f"[].{name}": one for name, one in fields(described["[]"]).items()}
    return described if isinstance(described, dict) else {"": described}


def differences(theirs: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    """What differs beyond the rules above, in words."""
    if theirs["parameters"] != ours["parameters"]:
        yield "parameters"
    if ("body" in theirs) != ("body" in ours):
        yield "body"
    elif "body" in theirs:
        if ours["body_required"] and not theirs["body_required"]:
            yield "body is required"
        yield from _body(fields(theirs["body"]), fields(ours["body"]))
    made = {200, 201} if {200, 201}.intersection(theirs["statuses"]) else set()
    if not made.union(theirs["statuses"]).issuperset(ours["statuses"]):
        yield f"statuses {ours['statuses']}"
    yield from _answer(theirs["answer"], ours["answer"])


def _body(theirs: dict[str, str], ours: dict[str, str]) -> Iterator[str]:
    for name in sorted(theirs.keys() | ours.keys()):
        if name not in ours or name not in theirs:
            yield f"body {name}"
        elif "any" not in kinds(ours[name]) and not kinds(theirs[name]) <= kinds(ours[name]):
            yield f"body {name} is {ours[name]}"
        elif ours[name].endswith("!") and not theirs[name].endswith("!"):
            yield f"body {name} is required"


def _answer(theirs: Any, ours: Any) -> Iterator[str]:
    if theirs in (None, "any"):
        return
    if isinstance(theirs, dict) and not isinstance(ours, dict):
        yield "answer"
        return
    told, given = fields(theirs), fields(ours)
    for name in sorted(told.keys() | given.keys()):
        if name not in given or name not in told:
            yield f"answer {name}"
            continue
        there, here = kinds(told[name]), kinds(given[name])
        if "any" not in there | here and not here <= there:
            yield f"answer {name} is {given[name]}"


def test_facts_are_of_every_operation() -> None:
    assert len(THEIRS) == 188


@pytest.mark.parametrize("operation", sorted(THEIRS.keys() - MISSING.keys()))
def test_operation_differs_only_as_it_is_meant_to(operation: str) -> None:
    found = set(differences(THEIRS[operation], OURS[operation]))
    assert found == MEANT.get(operation, {}).keys()


def test_every_difference_has_a_reason_and_there_are_few() -> None:
    assert MEANT.keys() <= THEIRS.keys()
    reasons = [reason for those in MEANT.values() for reason in those.values()]
    assert all(len(reason) > 10 for reason in reasons)
    assert len(MEANT) <= 15
