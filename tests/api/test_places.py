"""A far page goes on where the page before ended: every row once, in every order, on every database."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from eparch.api import places
from eparch.api.places import KEPT, Places
from eparch.core import calls
from eparch.core.filters import SORTS, Query

from .application import DATABASES, Client, started

NAMED = [{"id": UUID(int=n), "name": f"run-{n}", "end_time": None} for n in range(20)]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _near_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "FAR", 3)


def query(offset: int, sort: str = "NAME_ASC") -> Query:
    return Query("flow_runs", sort=sort, limit=3, offset=offset)


def test_a_far_page_begins_at_the_nearest_end_that_is_not_too_old() -> None:
    clock = Clock()
    known = Places(clock)
    for offset in (0, 3, 6):
        begun, since = known.begin(query(offset))
        known.keep(query(offset), NAMED[offset : offset + 3], since)
    begun, since = known.begin(query(10))
    assert (begun.offset, begun.after, since) == (1, ("run-8", UUID(int=8)), 0.0)
    assert known.begin(query(5))[0].after == ("run-2", UUID(int=2))
    assert known.begin(query(2))[0] == query(2)
    clock.now = KEPT
    assert known.begin(query(10))[0] == query(10)


def test_the_age_of_an_end_is_that_of_the_page_that_was_counted_off() -> None:
    clock = Clock()
    known = Places(clock)
    known.keep(query(3), NAMED[3:6], 0.0)
    clock.now = KEPT - 1
    _, since = known.begin(query(6))
    known.keep(query(6), NAMED[6:9], since)
    clock.now = KEPT
    assert known.begin(query(9))[0] == query(9)


def test_neither_another_list_nor_another_order_nor_a_last_page_is_gone_on_from() -> None:
    known = Places(Clock())
    known.keep(query(3), NAMED[3:6], 0.0)
    assert known.begin(query(6, "NAME_DESC"))[0].after is None
    known.keep(query(9, "END_TIME_DESC"), NAMED[9:12], 0.0)
    assert known.begin(query(12, "END_TIME_DESC"))[0].after is None
    known.keep(query(12), NAMED[12:14], 0.0)
    assert known.begin(query(14))[0].offset == 8


def test_only_so_much_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST", 2)
    monkeypatch.setattr(places, "MOST_ENDS", 2)
    known = Places(Clock())
    for offset in (3, 6, 9):
        known.keep(query(offset), NAMED[offset : offset + 3], 0.0)
    assert known.begin(query(8))[0].after is None
    for sort in ("ID_DESC", "NAME_DESC"):
        known.keep(query(3, sort), NAMED[3:6], 0.0)
    assert known.begin(query(12))[0].after is None
    assert known.begin(query(6, "ID_DESC"))[0].after is not None


@pytest.fixture(scope="module", params=DATABASES)
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Client, dict[str, Any]]]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        flow = client(calls.create_flow(body={"name": uuid4().hex}))
        for number in range(11):
            state = {"type": "RUNNING" if number % 3 else "PENDING"}
            body = {"flow_id": flow["id"], "state": state, "name": f"n-{number % 4}"}
            client(calls.create_flow_run(body=body))
        yield client, {"flows": {"id": {"any_": [flow["id"]]}}}


@pytest.mark.parametrize("sort", SORTS["flow_runs"])
def test_page_after_page_has_every_run_once_in_order(
    filled: tuple[Client, dict[str, Any]], sort: str
) -> None:
    ask, of_flow = filled
    whole = [run["id"] for run in ask(calls.read_flow_runs(body={**of_flow, "sort": sort}))]
    paged = []
    for offset in range(0, 15, 3):
        body = {**of_flow, "sort": sort, "limit": 3, "offset": offset}
        paged += [run["id"] for run in ask(calls.read_flow_runs(body=body))]
    assert len(whole) == 11
    assert paged == whole


def test_a_page_goes_on_though_a_run_before_it_is_gone(filled: tuple[Client, dict[str, Any]]) -> None:
    ask, of_flow = filled
    body = {**of_flow, "sort": "START_TIME_ASC", "limit": 3}
    whole = [run["id"] for run in ask(calls.read_flow_runs(body={**of_flow, "sort": "START_TIME_ASC"}))]
    for offset in (0, 3):
        ask(calls.read_flow_runs(body={**body, "offset": offset}))
    ask(calls.delete_flow_run(id=UUID(whole[0])))
    following = ask(calls.read_flow_runs(body={**body, "offset": 6}))
    assert [run["id"] for run in following] == whole[6:9]
