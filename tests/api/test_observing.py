"""States that were seen, values of forms, and metrics (wire: ``ObservedState``, ``/ui/schemas/validate``)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from eparch.core import calls
from eparch.core.exposition import Family, expose

from .application import DATABASES, Client, seed, started


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        seed(client)
        yield client


# States


def test_states_that_runs_had_are_found_by_the_start_of_name_or_type(ask: Client) -> None:
    found = ask(calls.read_observed_states())
    assert {"COMPLETED", "RUNNING", "CANCELLED"} <= {state["state_type"] for state in found}
    assert len(found) == len({(state["state_type"], state["state_name"]) for state in found})
    times = [state["last_seen"] for state in found]
    assert times == sorted(times, reverse=True)
    assert all(state["first_seen"] <= state["last_seen"] for state in found)
    names = [s["state_name"] for s in ask(calls.read_observed_states(query="cAnCeL", order_by="NAME_ASC"))]
    assert names == ["Cancelled", "Cancelling"]
    assert len(ask(calls.read_observed_states(limit=2))) == 2


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 201}, {"order_by": "NOPE"}, {"query": "x" * 101}])
def test_what_cannot_be_asked_of_states(ask: Client, wrong: dict[str, Any]) -> None:
    ask(calls.read_observed_states(**wrong), 422)


# Forms

SCHEMA = {
    "type": "object",
    "required": ["count"],
    "properties": {
        "count": {"type": "integer"},
        "inner": {"type": "object", "properties": {"names": {"type": "array", "items": {"type": "string"}}}},
    },
}


def check(ask: Client, **values: Any) -> Any:
    return ask(calls.check_form_values(body={"schema": SCHEMA, "values": values}))


def test_mistakes_of_a_form_are_nested_as_its_fields_are(ask: Client) -> None:
    assert check(ask, count=1) == {"errors": [], "valid": True}
    found = check(ask, inner={"names": ["a", 1, 2]})
    assert found["valid"] is False
    missing, inner = sorted(found["errors"], key=lambda error: error["property"])
    assert (missing["property"], missing["errors"]) == ("count", ["'count' is a required property"])
    (names,) = inner["errors"]
    assert (inner["property"], names["property"]) == ("inner", "names")
    assert [(error["index"], len(error["errors"])) for error in names["errors"]] == [(1, 1), (2, 1)]


def test_values_that_stand_for_others(ask: Client) -> None:
    name = f"variable-{uuid4().hex}"
    ask(calls.create_variable(body={"name": name, "value": 7}))

    def of(kind: str, **more: Any) -> Any:
        return check(ask, count={"__prefect_kind": kind, **more})["errors"]

    assert of("json", value="5") == of("none", value=5) == of("jinja", value="{{ x }}") == []
    assert of("workspace_variable", variable_name=name) == []
    assert of("json", value="{") == [{"property": "count", "errors": ["Invalid JSON"]}]
    assert of("json", value='"x"')[0]["property"] == "count"
    assert "not found" in of("workspace_variable", variable_name="nope")[0]["errors"][0]
    assert "Unknown kind" in of("odd")[0]["errors"][0]


def test_empty_fields_and_blocks_of_a_form(ask: Client) -> None:
    assert check(ask, count=1, inner=None)["valid"]
    assert not check(ask, count=None)["valid"]
    assert check(ask, count=1, inner={"$ref": {"block_document_id": str(uuid4())}})["valid"]


def test_forms_that_cannot_be_checked(ask: Client) -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    for body in (
        {"schema": {"type": "odd"}, "values": {}},
        {"schema": SCHEMA, "values": {"x": deep}},
        {"schema": {"$ref": "http://other/"}, "values": {}},
        {"schema": SCHEMA},
    ):
        ask(calls.check_form_values(body=body), 422)


# Metrics

LINE = re.compile(r'(\w+)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)')
EXPORTED = {
    "prefect_deployments_total": set(),
    "prefect_info_deployment": {
        "created",
        "flow_id",
        "flow_name",
        "deployment_id",
        "is_schedule_active",
        "deployment_name",
        "path",
        "work_pool_name",
        "work_queue_name",
        "status",
    },
    "prefect_flows_total": set(),
    "prefect_info_flows": {"created", "flow_id", "flow_name"},
    "prefect_flow_runs_total": set(),
    "prefect_flow_runs_total_run_time_total": {"flow_id", "flow_name", "flow_run_name"},
    "prefect_info_flow_runs": {
        "created",
        "deployment_id",
        "deployment_name",
        "end_time",
        "flow_id",
        "flow_name",
        "flow_run_id",
        "flow_run_name",
        "run_count",
        "start_time",
        "state_id",
        "state_name",
        "total_run_time",
        "work_queue_name",
    },
    "prefect_work_pools_total": set(),
    "prefect_info_work_pools": {
        "created",
        "work_queue_id",
        "work_pool_id",
        "is_paused",
        "work_pool_name",
        "type",
        "status",
    },
    "prefect_work_queues_total": set(),
    "prefect_info_work_queues": {
        "created",
        "work_queue_id",
        "is_paused",
        "work_queue_name",
        "priority",
        "type",
        "work_pool_id",
        "work_pool_name",
        "status",
        "healthy",
        "late_runs_count",
        "last_polled",
        "health_check_policy_maximum_late_runs",
        "health_check_policy_maximum_seconds_since_last_polled",
    },
}
"""Names and labels of prometheus-prefect-exporter, of which dashboards ask."""


def scrape(ask: Client) -> tuple[str, dict[str, list[tuple[dict[str, str], float]]]]:
    answer = ask.send("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.body.decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match, line
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
            found.setdefault(match[1], []).append((labels, float(match[3])))
    return text, found


def test_metrics_have_the_names_and_labels_of_the_exporter(ask: Client) -> None:
    text, found = scrape(ask)
    assert {name: set(samples[0][0]) for name, samples in found.items()} == EXPORTED
    assert found["prefect_flow_runs_total"][0][1] == ask(calls.count_flow_runs(body={}))
    running = [
        value for labels, value in found["prefect_info_flow_runs"] if labels["state_name"] == "Running"
    ]
    assert running
    assert set(running) == {1.0}
    (deployment,) = [labels for labels, _ in found["prefect_info_deployment"]]
    assert deployment["flow_name"].startswith("flow-")
    assert deployment["is_schedule_active"] == "True"
    ask(calls.create_flow(body={"name": f"flow-{uuid4().hex}"}))
    assert scrape(ask)[0] == text  # measured a moment ago


def test_labels_hold_any_text() -> None:
    page = expose([Family("m", "text", ("a", "b"), ((('q"\\\n', None), 1.5),))])
    assert page == '# HELP m text\n# TYPE m gauge\nm{a="q\\"\\\\\\n",b="null"} 1.5\n'
