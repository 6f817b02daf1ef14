"""Whatever our own OpenAPI document allows, and much that it does not: never a 500, and answers as declared.

Cases are made by schemathesis, always the same ones: every operation, values at the edges of each schema and
values beside it. Half of them name things that exist, so that they get past the first look-up.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from schemathesis import openapi
from schemathesis.config import SchemathesisConfig
from schemathesis.core import NOT_SET

from eparch.api.openapi import document
from eparch.api.router import HANDLERS
from eparch.core import calls

from .application import Client, seed, start

DOCUMENT = document(calls.ENDPOINTS)
FEW = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.generate],
}


def _schema(*, coverage: bool) -> Any:
    # Edges of every value on one database, a sample on the other: it takes a minute to ask for them all.
    phases = {"coverage": {"enabled": coverage}, "examples": {"enabled": False}}
    config = SchemathesisConfig.from_dict(
        {"seed": 1, "generation": {"deterministic": True}, "phases": phases}
    )
    return openapi.from_dict(DOCUMENT, config=config)


class Caller:
    """Sends cases and judges the answers."""

    def __init__(self, ask: Client) -> None:
        self.ask = ask
        self.known = seed(ask)
        self.numbers = itertools.count()

    def __call__(self, case: Any) -> None:
        operation = case.operation
        endpoint = HANDLERS[operation.method.upper(), operation.path].endpoint
        number = next(self.numbers)
        places, body = dict(case.path_parameters or {}), case.body
        if number % 2:
            kind = operation.path.strip("/").partition("/")[0].removesuffix("s")
            places = {name: self._place(name, kind, operation.path, value) for name, value in places.items()}
            body = self._named(body, number)
        path = operation.path.format(**{name: quote(str(value), safe="") for name, value in places.items()})
        if case.query:
            path += "?" + "&".join(f"{quote(str(k))}={quote(str(v))}" for k, v in case.query.items())
        data = None if body is NOT_SET else msgspec.json.encode(_at_once(body))
        response = self.ask.send(case.method, path, data, {"content-type": "application/json"})
        said = f"{case.method} {path} {data!r} -> {response.status} {response.body!r}"
        declared = DOCUMENT["paths"][operation.path].get(case.method.lower(), {}).get("responses", {})
        assert response.status < 500, said
        assert str(response.status) in declared or response.status == 405, said
        if response.status == 204 and (case.method == "DELETE" or "/queues/" in path):
            self.known = seed(self.ask)  # what was known is gone, or has another name
        if response.status == 204:
            assert response.body == b"", said
            return
        if response.status == 200 and endpoint.media != "application/json":
            assert response.headers["content-type"].startswith(endpoint.media), said
            return
        assert response.headers["content-type"] == "application/json", said
        value = response.json()
        if response.status < 300:
            msgspec.convert(value, Any if endpoint.answer is None else endpoint.answer)
        else:
            assert value.get("detail") or value.get("exception_message"), said

    def _place(self, name: str, kind: str, path: str, value: Any) -> Any:
        if name == "id":
            return self.known.get(kind, [value])[0]
        if name == "schedule_id":
            return self.known["schedule"][0]
        if name == "name" and "/queues/" in path:
            return "fast"
        if name == "deployment_name":
            return "deployment"
        if name == "flow_name" or path.startswith("/flows/name"):
            return self.known["flow_name"][0]
        if path.startswith("/variables/name"):
            return self.known["variable_name"][0]
        if name == "key":
            return "key" if "/input/" in path else "k"
        return self.known["pool_name"][0] if name in ("name", "work_pool_name") else value

    def _named(self, value: Any, number: int, key: str = "") -> Any:
        """``value`` with ids and names of what exists where it has ids and names."""
        if isinstance(value, dict):
            inner = {"id": key, "any_": key, "not_any_": key}
            return {k: self._named(v, number, inner.get(k, "") or k) for k, v in value.items()}
        if isinstance(value, list):
            return [self._named(part, number, key) for part in value]
        if key in ("work_pool_name", "work_queue_name") and isinstance(value, str):
            return self.known["pool_name"][0] if key == "work_pool_name" else "fast"
        kind = key.removesuffix("_ids").removesuffix("_id").removesuffix("s")
        kind = {"parent_task_run": "task_run", "work_pool_queue": "work_queue"}.get(kind, kind)
        ids = self.known.get(kind)
        if ids is None or not isinstance(value, str) or len(value) != 36:
            return value
        return ids[number // 2 % len(ids)]


def _at_once(body: Any) -> Any:
    """``body`` of a claim that does not wait for work: nobody makes any."""
    if isinstance(body, dict) and isinstance(body.get("wait_seconds"), int | float):
        return {**body, "wait_seconds": min(body["wait_seconds"], 0)}
    return body


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    client = start(tmp_path_factory.mktemp("home"), "sqlite://")
    yield Caller(client)
    client.close()


@pytest.fixture(scope="module")
def on_postgres(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: Any, postgres_template: str
) -> Iterator[Caller]:
    url = postgres_server.create(postgres_template)
    client = start(tmp_path_factory.mktemp("home"), url)
    yield Caller(client)
    client.close()
    postgres_server.drop(url)


@_schema(coverage=True).parametrize()
@settings(max_examples=20, **FEW)
def test_no_request_makes_a_500(case: Any, on_sqlite: Caller) -> None:
    on_sqlite(case)


@_schema(coverage=False).parametrize()
@settings(max_examples=8, **FEW)
def test_no_request_makes_a_500_on_postgres(case: Any, on_postgres: Caller) -> None:
    on_postgres(case)
