"""The document and the page that shows it."""

import re
from typing import Any

from eparch import settings
from eparch.api.app import create_app
from eparch.api.openapi import document
from eparch.core import calls
from eparch.core.filters import FIELDS

from .calling import call, make_app

DOCUMENT = document(calls.ENDPOINTS)


def _refs(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(_refs, value.values()))
    return set().union(*map(_refs, value)) if isinstance(value, list) else set()


def test_every_endpoint_is_in_it() -> None:
    listed = {(m.upper(), path) for path, item in DOCUMENT["paths"].items() for m in item}
    assert listed == {(e.method, e.path) for e in calls.ENDPOINTS}


def test_every_reference_has_an_end() -> None:
    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert _refs(DOCUMENT) <= known


def test_names_of_operations_are_unique() -> None:
    names = [op["operationId"] for item in DOCUMENT["paths"].values() for op in item.values()]
    assert len(names) == len(set(names))


def test_every_operation_of_the_server_says_what_it_does() -> None:
    served = create_app(settings.load({})).router.routes
    operations = [
        op for item in document(r.endpoint for r in served)["paths"].values() for op in item.values()
    ]
    assert len(operations) == len(calls.ENDPOINTS)
    assert [op["operationId"] for op in operations if not re.match(r"[A-Z].{5,}[^.]$", op["summary"])] == []
    assert not any(re.search(r"wire|row", op["summary"]) for op in operations)


def test_filters_have_the_fields_of_the_table() -> None:
    schema = DOCUMENT["components"]["schemas"]["FlowRunsFilter"]
    assert set(schema["properties"]) == {"operator", *FIELDS["flow_runs"]}
    state = schema["properties"]["state"]["anyOf"][0]["properties"]["type"]["anyOf"][0]
    assert "RUNNING" in state["properties"]["any_"]["anyOf"][0]["items"]["enum"]


def test_document_lists_what_the_server_answers() -> None:
    app = make_app()
    for path in ("/api/openapi.json", "/openapi.json"):
        answer = call(app, "GET", path)
        assert answer.status == 200
        assert set(answer.json()["paths"]) == {r.endpoint.path for r in app.router.routes}


def test_page_needs_nothing_from_elsewhere() -> None:
    for path in ("/docs", "/api/docs"):
        answer = call(make_app(), "GET", path)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert not re.search(rb"https?://|//[a-z]+\.", answer.body)
