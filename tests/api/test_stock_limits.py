"""Limits as Prefect 3.8.8's server answers them: what it was asked is asked of ours (wire 4.5).

``stock_limits.json`` holds what it said: the status, whether there was a Retry-After, the keys of what was
answered or the values that were looked at, and what became of a proposed state. ``{name}`` and ``$name``
stand for an id that an earlier answer named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from eparch.core.model import encode

from .application import DATABASES, Client, started

FACTS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "stock_limits.json").read_text())
HEADERS = {"content-type": "application/json", "user-agent": "prefect/3.9.1 (API 0.8.4)"}


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        yield client


def filled(value: Any, ids: dict[str, str]) -> Any:
    if isinstance(value, str):
        return ids[value[1:]] if value.startswith("$") else value
    if isinstance(value, dict):
        return {key: filled(one, ids) for key, one in value.items()}
    return [filled(one, ids) for one in value] if isinstance(value, list) else value


def found(value: Any, path: str) -> Any:
    for part in path.split("."):
        value = value[part]
    return value


def said(step: dict[str, Any], response: Any) -> str:
    """The answer in the words of the facts."""
    words = [str(response.status)]
    if "retry-after" in response.headers:
        assert float(response.headers["retry-after"]) >= 0
        words.append("retry-after")
    if response.status >= 400 or not response.body:
        return " ".join(words)
    value = response.json()
    if step["ask"].endswith("/set_state"):
        state = value["state"]
        words += [value["status"], f"{state['type']}/{state['name']}"]
        over = state["type"] in ("COMPLETED", "FAILED", "CANCELLED")
        words += ["lease"] if state["state_details"]["deployment_concurrency_lease_id"] and not over else []
    elif isinstance(value, list) and value:
        words.append(f"[{' '.join(sorted(value[0]))}]")
    elif isinstance(value, dict) and "lease_id" in value:
        words.append(" ".join(sorted(value)))
    for name in step.get("look", ()):
        look = found(value, name)
        words.append(f"{name}={json.dumps(len(look) if isinstance(look, list) else look)}")
    return " ".join(words)


def test_b4_limits_are_answered_as_by_prefect(ask: Client) -> None:
    ids: dict[str, str] = {}
    wrong = []
    for number, step in enumerate(FACTS):
        if "new" in step:
            ids[step["new"]] = str(uuid4())
            continue
        method, path = step["ask"].split(" ")
        body = encode(filled(step["body"], ids)) if "body" in step else None
        response = ask.send(method, path.format(**ids), body, HEADERS)
        for name, where in step.get("keep", {}).items():
            ids[name] = found(response.json(), where)
        if (answer := said(step, response)) != step["says"]:
            wrong.append((number, step, answer))
    assert wrong == []
    assert len(FACTS) > 150


def test_b4_prefects_clients_read_cancel_running_as_enqueue(ask: Client) -> None:
    """Their enum does not have it: they could not read the deployment at all."""
    json_ = {"content-type": "application/json"}

    def send(method: str, path: str, body: Any = None, headers: dict[str, str] = json_) -> Any:
        response = ask.send(method, path, None if body is None else encode(body), headers)
        assert response.status < 300, response.body
        return response.json() if response.body else None

    def strategy(value: dict[str, Any]) -> str:
        return str(value["concurrency_options"]["collision_strategy"])

    flow = send("POST", "/flows/", {"name": "taken over"})["id"]
    options = {"collision_strategy": "CANCEL_RUNNING", "grace_period_seconds": 120}
    body = {"name": "d", "flow_id": flow, "concurrency_limit": 1, "concurrency_options": options}
    assert strategy(send("POST", "/deployments/", body)) == "CANCEL_RUNNING"
    assert strategy(send("POST", "/deployments/", body, HEADERS)) == "ENQUEUE"
    id_ = send("GET", "/deployments/name/taken%20over/d")["id"]
    mine = {"deployments": {"id": {"any_": [id_]}}}
    reads: list[tuple[str, str, Any]] = [
        ("GET", f"/deployments/{id_}", None),
        ("GET", "/deployments/name/taken%20over/d", None),
        ("POST", "/deployments/filter", mine),
        ("POST", "/deployments/paginate", mine),
    ]
    for method, path, query in reads:
        for headers, expected in ((json_, "CANCEL_RUNNING"), (HEADERS, "ENQUEUE")):
            value = send(method, path, query, headers)
            value = value["results"] if isinstance(value, dict) and "results" in value else value
            one = value[0] if isinstance(value, list) else value
            assert strategy(one) == expected, path
            assert one["concurrency_options"]["grace_period_seconds"] == 120
    path = f"/deployments/{id_}"
    send("PATCH", path, {"concurrency_options": {"collision_strategy": "ENQUEUE"}}, HEADERS)
    assert send("GET", path)["concurrency_options"] == {
        "collision_strategy": "CANCEL_RUNNING",
        "grace_period_seconds": None,
    }
    send("PATCH", path, {"concurrency_options": {"collision_strategy": "CANCEL_NEW"}}, HEADERS)
    assert strategy(send("GET", path)) == "CANCEL_NEW"
    send("PATCH", path, {"concurrency_options": options})
    send("PATCH", path, {"concurrency_options": {"collision_strategy": "ENQUEUE"}})
    assert strategy(send("GET", path)) == "ENQUEUE"
    send("PATCH", path, {"concurrency_options": options})
    deployed = {**body, "concurrency_options": {"collision_strategy": "ENQUEUE"}}
    send("POST", "/deployments/", deployed, HEADERS)
    assert strategy(send("GET", path)) == "ENQUEUE"
