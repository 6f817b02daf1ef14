"""What SQL says of events is what their filter says of each, on every database: pages, totals and counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eparch.core.event_pages import Countable, CountEvents, Counts
from eparch.core.events import Event, EventFilter, OccurredFilter, ReceivedEvent
from eparch.store import event_pages, records
from eparch.store.database import Database, open_database

from .making import NOW

NAMES = ("a", "a.b", "a.bc", "A.b", "b%", "é.x")
OWNERS = ("r", "r.1", "r.2", "s_1")
ROLES = ("flow", "tag")
SECONDS = 12


def made() -> list[Event]:
    """Events of every name about every resource, with and without related ones, some at the same moment."""
    found = []
    for number in range(96):
        owner = OWNERS[number // 3 % 4]
        labels = {"prefect.resource.id": owner, "n": str(number % 2)}
        if number % 4:
            labels["prefect.resource.name"] = f"name-{number % 5}"
        related = [
            {"prefect.resource.id": OWNERS[at % 4], "prefect.resource.role": ROLES[at % 2]}
            for at in range(number, number + number % 3)
        ]
        found.append(
            Event(
                id=UUID(int=number * 7919 % 97 + 1), occurred=NOW + timedelta(seconds=number * 5 % SECONDS),
                event=NAMES[number % 6], resource=labels, related=related, payload={"n": number},
            )
        )  # fmt: skip
    return found


EVENTS = made()


class Store:
    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.database: Database = self.runner.run(open_database(url))
        self.runner.run(self.database.write(records.insert_events, EVENTS, NOW))

    def ask(self, operation: Any, *args: Any) -> Any:
        return self.runner.run(self.database.scan(operation, *args))

    def close(self) -> None:
        self.runner.run(self.database.close())
        self.runner.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if request.param == "sqlite":
        found = Store(f"sqlite:///{tmp_path_factory.mktemp('events')}/e.db")
        yield found
        found.close()
        return
    server = request.getfixturevalue("postgres_server")
    url = server.create()
    found = Store(url)
    yield found
    found.close()
    server.drop(url)


def some(values: Any, size: int = 3) -> Any:
    return st.none() | st.lists(st.sampled_from(values), max_size=size)


LABELS = st.none() | st.sampled_from([{"n": "1"}, {"prefect.resource.name": "name-*"}])
PREFIXES = ("", "a", "a.", "a.b", "A", "b%", "é", "_", "a.bcd")
RELATED = st.fixed_dictionaries({}, optional={"id": some(OWNERS), "role": some(ROLES), "labels": LABELS})
ANYONE = st.fixed_dictionaries(
    {}, optional={"id": some(OWNERS), "id_prefix": some(("r", "r.", "s")), "labels": LABELS}
)
FILTERS = st.fixed_dictionaries(
    {
        "occurred": st.builds(
            lambda since, until: {
                "since": (NOW + timedelta(seconds=since)).isoformat(),
                "until": (NOW + timedelta(seconds=until)).isoformat(),
            },
            st.integers(0, 4), st.integers(4, SECONDS + 3),
        ),
        "order": st.sampled_from(("ASC", "DESC")),
    },
    optional={
        "event": st.fixed_dictionaries(
            {},
            optional={
                "prefix": some(PREFIXES, 25), "exclude_prefix": some(PREFIXES), "name": some(NAMES),
                "exclude_name": some(NAMES),
            },
        ),
        "resource": st.fixed_dictionaries(
            {}, optional={"id": some(OWNERS), "id_prefix": some(("r", "r.", "s_")), "labels": LABELS}
        ),
        "related": RELATED | st.lists(RELATED, max_size=2),
        "any_resource": ANYONE | st.lists(ANYONE, max_size=2),
        "id": st.fixed_dictionaries(
            {"id": st.none() | st.lists(st.sampled_from([str(e.id) for e in EVENTS]), max_size=40)}
        ),
        "text": st.just({"query": "a.b"}),
    },
)  # fmt: skip


def naive(wanted: EventFilter) -> list[Event]:
    """What passes, in order, one by one."""
    admitted = [e for e in EVENTS if wanted.admits(e) and wanted.admits_time(e.occurred)]
    return sorted(admitted, key=lambda e: (e.occurred, e.id), reverse=wanted.order == "DESC")


def page_by_page(store: Store, wanted: EventFilter) -> list[UUID]:
    found: list[UUID] = []
    after = None
    while rows := store.ask(event_pages.candidates, wanted, after, 7):
        for row in rows:
            row.pop("position")
            if wanted.admits(ReceivedEvent(**row)):
                found.append(row["id"])
        after = rows[-1]["occurred"], rows[-1]["id"]
    return found


MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@MANY
@given(FILTERS)
def test_pages_and_totals_are_what_the_filter_says(store: Store, given: dict[str, Any]) -> None:
    wanted = msgspec.convert(given, EventFilter)
    expected = [event.id for event in naive(wanted)]
    assert page_by_page(store, wanted) == expected
    assert store.ask(event_pages.total, wanted, 1000) in (len(expected), None)


@MANY
@given(FILTERS, st.sampled_from(Countable), st.sampled_from((1.0, 0.3, 5.0)), st.sampled_from((5, 1000)))
def test_counts_are_what_the_filter_says(
    store: Store, given: dict[str, Any], by: Countable, seconds: float, most: int
) -> None:
    wanted = msgspec.convert(given, EventFilter)
    body = msgspec.convert({"filter": given, "time_unit": "second", "time_interval": seconds}, CountEvents)
    expected, found = Counts(body, wanted, by), Counts(body, wanted, by)
    told = event_pages.is_told_by_names(event_pages.narrow(wanted)) and by is not Countable.RESOURCE
    for event in naive(wanted)[: None if told else most]:
        expected.add(ReceivedEvent(**msgspec.structs.asdict(event), received=NOW))
    if store.ask(event_pages.count, wanted, found, most):
        assert found.answer() == expected.answer()
    else:
        assert not event_pages.narrow(wanted).exact


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"event": {"prefix": ["a"], "exclude_prefix": ["b"], "name": ["a"], "exclude_name": ["b"]}},
        {"resource": {"id": ["r"], "id_prefix": ["r"]}},
        {"related": [{"id": ["r"]}, {"id": ["s"]}], "any_resource": {"id": ["r"]}},
        {"id": {"id": [str(EVENTS[0].id)]}},
    ],
)
def test_sql_tells_all_of_names_and_ids(given: dict[str, Any]) -> None:
    assert event_pages.narrow(msgspec.convert(given, EventFilter)).exact


@pytest.mark.parametrize("most", [1, 10, 1000])
def test_a_total_is_counted_as_far_as_asked(store: Store, most: int) -> None:
    occurred = OccurredFilter(since=NOW, until=NOW + timedelta(seconds=SECONDS))
    wanted = EventFilter(occurred=occurred)
    assert store.ask(event_pages.total, wanted, most) == min(most, len(EVENTS))
