"""What the Terraform provider, the Prometheus exporter and the MCP server ask, and what they accept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from eparch.core.model import encode

from .application import DATABASES, TEMPLATE, Client, seed, started


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        yield client


class Terraform:
    """Sends as the provider does; ``slash`` ends every path, as its releases differ in that."""

    def __init__(self, ask: Client, slash: str) -> None:
        self.ask = ask
        self.slash = slash

    def __call__(self, method: str, path: str, statuses: str, body: Any = None) -> Any:
        target, mark, query = path.partition("?")
        data = encode(body) if body is not None else None
        answer = self.ask.send(method, target + self.slash + mark + query, data)
        assert str(answer.status) in statuses.split("/"), (method, path, answer.body)
        return msgspec.json.decode(answer.body) if answer.body else None


@pytest.fixture(params=["", "/"], ids=["plain", "slash"])
def terraform(ask: Client, request: pytest.FixtureRequest) -> Terraform:
    return Terraform(ask, request.param)


def test_terraform_pools_and_queues(terraform: Terraform) -> None:
    name = f"pool-{uuid4().hex}"
    body = {"name": name, "description": None, "type": "process", "base_job_template": TEMPLATE}
    made = terraform("POST", "/work_pools", "201", body)
    # What was sent comes back: null is null, and keys keep their order.
    assert made["description"] is None
    assert list(made["base_job_template"]) == list(TEMPLATE)
    assert name in [pool["name"] for pool in terraform("POST", "/work_pools/filter", "200", {"limit": 200})]
    terraform("PATCH", f"/work_pools/{name}", "200/204", {"description": "", "concurrency_limit": 2})
    read = terraform("GET", f"/work_pools/{name}", "200")
    assert (read["description"], read["concurrency_limit"]) == ("", 2)
    queues = f"/work_pools/{name}/queues"
    terraform("POST", queues, "201", {"name": "q", "priority": 1})
    assert len(terraform("POST", f"{queues}/filter", "200", {})) == 2
    terraform("PATCH", f"{queues}/q", "200/204", {"is_paused": True})
    assert terraform("GET", f"{queues}/q", "200")["is_paused"] is True
    terraform("DELETE", f"{queues}/q", "200/204")
    terraform("DELETE", f"/work_pools/{name}", "200/204")
    terraform("GET", f"/work_pools/{name}", "404")
    terraform("GET", "/collections/views/aggregate-worker-metadata", "200")


def test_terraform_flows_and_deployments(terraform: Terraform) -> None:
    flow = terraform("POST", "/flows", "200/201", {"name": f"flow-{uuid4().hex}", "tags": ["b", "a"]})
    assert flow["tags"] == ["b", "a"]
    terraform("POST", "/flows/filter", "200", {})
    terraform("PATCH", f"/flows/{flow['id']}", "200/204", {"tags": []})
    assert terraform("GET", f"/flows/{flow['id']}", "200")["tags"] == []
    parameters = {"z": 1, "a": {"y": None, "b": []}}
    body = {"name": "d", "flow_id": flow["id"], "parameters": parameters, "enforce_parameter_schema": False}
    made = terraform("POST", "/deployments", "200/201", body)
    assert encode(made["parameters"]) == encode(parameters)
    assert made["version"] is None
    place = f"/deployments/{made['id']}"
    given = [{"active": False, "schedule": {"cron": "0 4 * * *", "timezone": "UTC", "day_or": True}}]
    (schedule,) = terraform("POST", f"{place}/schedules", "201", given)
    change = {"active": True, "schedule": {"interval": 3600}}
    terraform("PATCH", f"{place}/schedules/{schedule['id']}", "204", change)
    (changed,) = terraform("GET", f"{place}/schedules", "200")
    assert (changed["id"], changed["active"]) == (schedule["id"], True)
    terraform("PATCH", place, "204", {"description": "x"})
    (kept,) = terraform("GET", place, "200")["schedules"]
    assert kept["id"] == schedule["id"]
    assert terraform("GET", f"/deployments/name/{flow['name']}/d", "200")["id"] == made["id"]
    terraform("DELETE", f"{place}/schedules/{schedule['id']}", "204")
    terraform("DELETE", place, "204")
    terraform("DELETE", f"/flows/{flow['id']}", "200/204")


def test_terraform_limits_and_variables(terraform: Terraform) -> None:
    name = f"limit-{uuid4().hex}"
    limit = terraform("POST", "/v2/concurrency_limits", "201", {"name": name, "limit": 2})
    place = f"/v2/concurrency_limits/{limit['id']}"
    terraform("PATCH", place, "204", {"limit": 3})
    assert terraform("GET", place, "200")["limit"] == 3
    terraform("DELETE", place, "204")
    tag = terraform("POST", "/concurrency_limits", "200/201", {"tag": name, "concurrency_limit": 1})
    assert terraform("GET", f"/concurrency_limits/{tag['id']}", "200")["tag"] == name
    terraform("DELETE", f"/concurrency_limits/{tag['id']}", "200")
    value = {"z": None, "a": [1, "2"]}
    made = terraform("POST", "/variables", "201", {"name": name, "value": value, "tags": ["t"]})
    assert encode(made["value"]) == encode(value)
    terraform("PATCH", f"/variables/{made['id']}", "200/204", {"value": "text"})
    assert terraform("GET", f"/variables/name/{name}", "200")["value"] == "text"
    assert terraform("GET", f"/variables/{made['id']}", "200")["tags"] == ["t"]
    terraform("DELETE", f"/variables/{made['id']}", "200/204")


def test_terraform_blocks(terraform: Terraform) -> None:
    slug = f"type-{uuid4().hex}"
    type_ = terraform("POST", "/block_types", "201", {"name": slug, "slug": slug})
    assert terraform("GET", f"/block_types/slug/{slug}", "200")["id"] == type_["id"]
    terraform("PATCH", f"/block_types/{type_['id']}", "204", {"description": "d"})
    assert terraform("GET", f"/block_types/{type_['id']}", "200")["description"] == "d"
    fields = {"type": "object", "properties": {"key": {"type": "string"}}, "secret_fields": ["key"]}
    body = {"block_type_id": type_["id"], "fields": {"title": slug, **fields}}
    schema = terraform("POST", "/block_schemas", "201", body)
    terraform("GET", f"/block_schemas/{schema['id']}", "200")
    terraform("POST", "/block_schemas/filter", "200", {})
    ids = {"block_type_id": type_["id"], "block_schema_id": schema["id"]}
    document = terraform("POST", "/block_documents", "201", {"name": "one", "data": {"key": "k"}, **ids})
    place = f"/block_documents/{document['id']}"
    assert terraform("GET", f"{place}?include_secrets=true", "200")["data"] == {"key": "k"}
    terraform("PATCH", place, "204", {"data": {"key": "l"}, "merge_existing_data": False})
    assert terraform("GET", f"{place}?include_secrets=true", "200")["data"] == {"key": "l"}
    terraform("DELETE", place, "204")
    terraform("DELETE", f"/block_schemas/{schema['id']}", "204")
    terraform("DELETE", f"/block_types/{type_['id']}", "204")


def test_terraform_automations(terraform: Terraform) -> None:
    trigger = {"type": "event", "posture": "Reactive", "expect": ["a.b"], "threshold": 1, "within": 0}
    body = {"name": "a", "description": "", "trigger": trigger, "actions": [{"type": "do-nothing"}]}
    made = terraform("POST", "/automations", "201", body)
    place = f"/automations/{made['id']}"
    terraform("PUT", place, "204", {**body, "name": "b"})
    assert terraform("GET", place, "200")["name"] == "b"
    terraform("DELETE", place, "204")


@pytest.mark.parametrize("path", ["/accounts/x", "/bots", "/teams", "/users", "/webhooks", "/slas"])
def test_terraform_is_told_what_only_their_cloud_has(terraform: Terraform, path: str) -> None:
    terraform("GET", path, "404")


def test_prometheus_exporter_reads_pages_until_one_is_empty(ask: Client) -> None:
    ids = seed(ask)
    said = Terraform(ask, "")
    for entity in ("flows", "deployments", "flow_runs", "work_pools", "work_queues"):
        offset, found = 0, []
        while page := said("POST", f"/{entity}/filter", "200", {"limit": 3, "offset": offset}):
            assert len(page) <= 3
            found += [row["id"] for row in page]
            offset += 3
        assert len(found) == len(set(found)) > 0
        assert said("POST", f"/{entity}/filter", "200", {"limit": 200, "offset": 1_000_000}) == []
    conditions = {
        "operator": "or_",
        "start_time": {"after_": "2020-01-01T00:00:00.000000Z"},
        "end_time": {"after_": "2020-01-01T00:00:00.000000Z", "is_null_": True},
        "state": {"type": {"any_": ["RUNNING"]}},
        "deployment_id": {"is_null_": False},
    }
    asked = {"limit": 200, "offset": 0, "sort": "START_TIME_DESC", "flow_runs": conditions}
    (run, *_) = said("POST", "/flow_runs/filter", "200", asked)
    assert {
        "total_run_time",
        "start_time",
        "end_time",
        "state_name",
        "state_id",
        "work_queue_name",
    } <= run.keys()
    (deployment,) = said("POST", "/deployments/filter", "200", {})[:1]
    assert {
        "path",
        "paused",
        "work_pool_name",
        "work_queue_name",
        "status",
        "tags",
        "flow_id",
    } <= deployment.keys()
    status = said("GET", f"/work_queues/{ids['work_queue'][0]}/status", "200")
    assert {"healthy", "late_runs_count", "last_polled", "health_check_policy"} <= status.keys()
    limits = {"maximum_late_runs", "maximum_seconds_since_last_polled"}
    assert limits <= status["health_check_policy"].keys()
    assert said("GET", "/health", "200") is True


def test_mcp_server_asks_for_events_by_prefix(ask: Client) -> None:
    seed(ask)
    said = Terraform(ask, "")
    occurred = {"since": "2026-01-01T00:00:00Z", "until": "2027-01-01T00:00:00Z"}
    body = {"filter": {"event": {"prefix": ["test."]}, "occurred": occurred}, "limit": 2}
    page = said("POST", "/events/filter", "200", body)
    assert page.keys() >= {"events", "total", "next_page"}
    assert len(page["events"]) == 2 < page["total"]
    assert {event["event"] for event in page["events"]} == {"test.happened"}
    said("GET", "/version", "200")
    for entity in ("task_runs", "logs", "automations", "concurrency_limits", "v2/concurrency_limits"):
        said("POST", f"/{entity}/filter", "200", {"limit": 10})
