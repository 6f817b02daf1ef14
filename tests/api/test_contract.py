"""Our operations against those of Prefect 3.9.1: paths, methods, statuses, names of fields (wire section 3).

``t0_operations.json`` holds facts taken from its OpenAPI document, and the status codes 200 and 201 where a
running server was seen to answer both.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from eparch.api.openapi import document
from eparch.core import calls

FACTS: list[dict[str, Any]] = msgspec.json.decode(Path(__file__).with_name("t0_operations.json").read_bytes())
DOCUMENT = document(calls.ENDPOINTS)

WITHOUT: dict[tuple[str, str], set[str]] = {
    # Our tokens prove themselves and are not stored: no id, no times; clients read none of it.
    ("GET", "/csrf-token"): {"id", "created", "updated"},
}
"""Fields of an answer that we do not give, each with its reason."""

BESIDE: dict[tuple[str, str], set[str]] = {
    # A queue says the same wherever it is told of.
    ("GET", "/deployments/{id}/work_queue_check"): {"active_slots", "status", "work_pool_name"},
}
"""Fields of an answer that we give beside those of Prefect."""

NEEDS_NO_BODY = {
    # Every field has a default, so that no body asks for a run, or an artifact, with the defaults.
    ("POST", "/deployments/{id}/create_flow_run"),
    ("POST", "/artifacts/"),
}


def _fields(schema: dict[str, Any] | None) -> set[str] | None:
    if schema is None:
        return None
    if "$ref" in schema:
        return _fields(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if schema.get("type") == "array":
        return _fields(schema["items"])
    return set(schema["properties"]) if "properties" in schema else None


def _schema(part: dict[str, Any]) -> dict[str, Any] | None:
    content: dict[str, Any] = part.get("content", {})
    return content.get("application/json", {}).get("schema")  # type: ignore[no-any-return]


POLICIES = {
    (method, f"/deployments/{{id}}/schedules{more}"): {"missed_runs", "overlap"}
    for method, more in (("GET", ""), ("POST", ""), ("PATCH", "/{schedule_id}"))
}
"""What a schedule of ours has besides, in bodies and answers (row B1)."""


FOR_ONE_STATE = {("POST", f"/{kind}_runs/{{id}}/set_state"): {"if_state_id"} for kind in ("flow", "task")}
"""A body's field of ours: the proposal counts for one state only (row W18)."""


def test_every_operation_is_there_once() -> None:
    assert len({(fact["method"], fact["path"]) for fact in FACTS}) == len(FACTS) >= 49


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact['method']} {fact['path']}")
def test_operation_is_the_same(fact: dict[str, Any]) -> None:
    key = (fact["method"], fact["path"])
    ours = DOCUMENT["paths"][fact["path"]][fact["method"].lower()]
    successes = {int(status): part for status, part in ours["responses"].items() if status < "300"}
    assert sorted(successes) == fact["statuses"]
    for status, part in successes.items():
        expected = None
        if fact["response"]:
            expected = set(fact["response"]) - WITHOUT.get(key, set()) | BESIDE.get(key, set())
            expected |= POLICIES.get(key, set())
        assert status == 204 or _fields(_schema(part)) == expected
    body = ours.get("requestBody")
    more = POLICIES.get(key, set()) | FOR_ONE_STATE.get(key, set())
    asked = set(fact["request"]) | more if fact["request"] else None
    assert (_fields(_schema(body)) if body else None) == asked
    if body:
        assert body.get("required", False) == (fact["body_required"] and key not in NEEDS_NO_BODY)
    assert [p["name"] for p in ours["parameters"] if p["in"] == "query"] == fact["query"]
