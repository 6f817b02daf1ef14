"""Values at and beyond the edges of what a database holds, in every condition and field: never a 500."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest

from eparch.api.router import parameters_of
from eparch.core import calls
from eparch.core.model import Timestamp

from .application import DATABASES, Client, seed, started
from .test_conditions import CONDITIONS, ENDPOINTS, NAMES

NUMBERS = [2**31, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30, 1.5, -0.0, 1e300]
TIMES = [
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-23:59",
    "10000-01-01T00:00:00Z",
    "-0001-01-01T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-01-01T00:00:00",
    "2026-01-01T00:00:00.123456789Z",
    "1969-12-31T23:59:60Z",
    2**63,
    -1,
    1e300,
]
TEXTS = ["", "\x00", "a\x00b", "%", "_", "\\", "'; --", "\ufeff", "\U0010ffff", "a" * 100_000, "{{ 7*7 }}"]
IDS = [
    "",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
    "{00000000-0000-0000-0000-000000000000}",
    "urn:uuid:00000000-0000-0000-0000-000000000000",
    "00000000-0000-0000-0000-00000000000\x00",
    1,
]


def _hostile(kind: Any) -> list[Any]:
    if kind is int:
        return NUMBERS
    if kind is Timestamp:
        return TIMES
    if kind is bool:
        return [0, 1, "true", 2**64]
    if kind is str:
        return TEXTS
    if kind == list[UUID]:
        return [[], *([one] for one in IDS)]
    return [[], *([one] for one in TEXTS)]


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        seed(client)
        yield client


@pytest.mark.parametrize(("entity", "path", "kind"), CONDITIONS, ids=NAMES)
def test_no_value_of_a_condition_makes_a_500(
    ask: Client, entity: str, path: tuple[str, ...], kind: Any
) -> None:
    if entity not in ENDPOINTS:
        return
    endpoint = ENDPOINTS[entity]
    pool = ask(calls.read_work_pools(body={}))[0]["name"]
    place = endpoint(**dict.fromkeys(parameters_of(endpoint.path), pool), body={}).path
    for value in _hostile(kind):
        nested: Any = {path[-1]: value}
        for name in reversed(path[:-1]):
            nested = {name: nested}
        body = msgspec.json.encode({endpoint.body.own or entity: nested})
        answer = ask.send("POST", place, body)
        assert answer.status in (200, 422), (value, answer.body)


def _made(path: str) -> dict[str, Any]:
    bodies: dict[str, dict[str, Any]] = {
        "/flows/": {"name": "f"},
        "/variables/": {"name": "v", "value": 1},
        "/artifacts/": {"key": "k"},
        "/concurrency_limits/": {"tag": "t", "concurrency_limit": 1},
        "/v2/concurrency_limits/": {"name": "n", "limit": 1},
        "/work_pools/": {"name": "p", "type": "process"},
    }
    return bodies[path]


MADE = [
    "/flows/",
    "/variables/",
    "/artifacts/",
    "/concurrency_limits/",
    "/v2/concurrency_limits/",
    "/work_pools/",
]


@pytest.mark.parametrize("path", MADE)
def test_no_value_of_a_field_makes_a_500(ask: Client, path: str) -> None:
    endpoint = next(e for e in calls.ENDPOINTS if (e.method, e.path) == ("POST", path))
    for field in endpoint.body.__struct_fields__:
        for value in (*NUMBERS, *TIMES, *TEXTS, *IDS, [], {}, None, [[]], {"a": 10**30}):
            body = msgspec.json.encode({**_made(path), field: value})
            answer = ask.send("POST", path, body)
            assert answer.status in (200, 201, 404, 409, 422), (field, value, answer.body)
