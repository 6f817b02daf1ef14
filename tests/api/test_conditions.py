"""Every condition of the table of filters once: what the document offers, the store understands."""

from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin
from uuid import UUID, uuid4

import pytest

from eparch.api.router import parameters_of
from eparch.core import calls
from eparch.core.filters import FIELDS, SORTS, FilterBody
from eparch.core.model import Timestamp

from .application import DATABASES, Client, seed, started

NOBODY = uuid4()


def _flat(entity: str, fields: dict[str, Any], *path: str) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    for name, kind in fields.items():
        if isinstance(kind, dict):
            yield from _flat(entity, kind, *path, name)
        else:
            yield entity, (*path, name), kind


CONDITIONS = [found for entity, fields in FIELDS.items() for found in _flat(entity, fields)]
SAMPLES: dict[Any, Any] = {bool: True, int: 1, str: "x", list[UUID]: [str(NOBODY)], list[str]: ["x"]}
ENDPOINTS = {
    e.body.entity: e for e in calls.ENDPOINTS if isinstance(e.body, FilterBody) and e.path.endswith("/filter")
}


def _sample(kind: Any) -> Any:
    if kind is Timestamp:
        return "2026-01-01T00:00:00Z"
    if get_origin(kind) is Annotated:
        return _sample(get_args(kind)[0])
    return SAMPLES[kind] if kind in SAMPLES else [next(iter(get_args(kind)[0])).value]


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        seed(client)
        yield client


def _read(ask: Client, entity: str, **body: Any) -> Any:
    endpoint = ENDPOINTS[entity]
    pool = ask(calls.read_work_pools(body={}))[0]["name"]
    return ask(endpoint(**dict.fromkeys(parameters_of(endpoint.path), pool), body=body))


NAMES = [f"{entity}-{'-'.join(path)}" for entity, path, _ in CONDITIONS]


@pytest.mark.parametrize(("entity", "path", "kind"), CONDITIONS, ids=NAMES)
def test_the_store_understands_every_condition(
    ask: Client, entity: str, path: tuple[str, ...], kind: Any
) -> None:
    everything = _read(ask, entity)
    assert everything
    condition: dict[str, Any] = {path[-1]: _sample(kind)}
    for wrap in ({}, {"operator": "or_"}):
        nested = {**wrap, **condition}
        for name in reversed(path[:-1]):
            nested = {**wrap, name: nested}
        found = _read(ask, entity, **{ENDPOINTS[entity].body.own or entity: nested})
        assert {str(row["id"]) for row in found} <= {str(row["id"]) for row in everything}


@pytest.mark.parametrize(
    ("entity", "sort"), [(e, s) for e in SORTS for s in SORTS[e] if ENDPOINTS[e].body.sort]
)
def test_the_store_understands_every_order(ask: Client, entity: str, sort: str) -> None:
    found = _read(ask, entity, sort=sort)
    assert sorted(row["id"] for row in found) == sorted(row["id"] for row in _read(ask, entity))


@pytest.mark.parametrize(
    ("entity", "other"), [(e, o) for e, f in ENDPOINTS.items() for o in f.body.takes if o != e]
)
def test_the_store_understands_every_link(ask: Client, entity: str, other: str) -> None:
    name = ENDPOINTS[entity].body.entity_of(other)
    nobody = {"id": {"any_": [str(NOBODY)]}} if "id" in FIELDS[name] else {"slug": {"any_": ["nobody"]}}
    if name == entity:
        return
    assert _read(ask, entity, **{other: nobody}) == []
