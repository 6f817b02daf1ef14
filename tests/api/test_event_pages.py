"""Events that were, over a real store of each kind: pages and counts (wire 4.6)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from eparch.core import calls

from .application import DATABASES, Client, started

START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=9)


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        yield client


def emit(ask: Client, number: int, *, mark: str = "", event: str = "e.done", role: str = "flow") -> str:
    """``number`` events about one resource, an hour apart; two of them at the same moment."""
    resource = f"r.{mark or uuid4().hex}"
    ask(calls.create_events(body=[
        {
            "id": str(uuid4()), "event": event, "occurred": (START + timedelta(hours=at // 2)).isoformat(),
            "resource": {"prefect.resource.id": resource, "prefect.resource.name": "it", "n": str(at % 3)},
            "related": [{"prefect.resource.id": f"of.{resource}", "prefect.resource.role": role}],
        }
        for at in range(number)
    ]))  # fmt: skip
    return resource


def about(resource: str, **more: Any) -> dict[str, Any]:
    return {"filter": {"resource": {"id": [resource]}, **more}}


def pages(ask: Client, body: dict[str, Any]) -> list[list[Any]]:
    found = [ask(calls.read_events(body=body))]
    while found[-1]["next_page"]:
        place = urlsplit(found[-1]["next_page"])
        response = ask.send("GET", f"{place.path.removeprefix('/api')}?{place.query}", None, None)
        assert response.status == 200
        found.append(response.json())
        assert found[-1]["total"] == found[0]["total"]
    return [page["events"] for page in found]


@pytest.mark.parametrize("order", ["ASC", "DESC"])
def test_pages_cover_every_event_once_in_order(ask: Client, order: str) -> None:
    resource = emit(ask, 11)
    found = pages(ask, {**about(resource, order=order), "limit": 3})
    assert [len(page) for page in found] == [3, 3, 3, 2]
    listed = [event for page in found for event in page]
    assert len({event["id"] for event in listed}) == 11
    times = [event["occurred"] for event in listed]
    assert times == sorted(times, reverse=order == "DESC")


@pytest.mark.parametrize(
    ("more", "number"),
    [
        ({}, 6),
        ({"resource": {"labels": {"n": "0"}}}, 2),
        ({"event": {"name": ["e.done"]}}, 6),
        ({"event": {"prefix": ["e."]}}, 6),
        ({"event": {"name": ["other"]}}, 0),
        ({"related": {"role": ["flow"]}}, 6),
        ({"related": {"role": ["tag"]}}, 0),
        ({"occurred": {"since": (START + timedelta(hours=1)).isoformat()}}, 4),
        ({"occurred": {"until": (START + timedelta(hours=1)).isoformat()}}, 4),
    ],
    ids=str,
)
def test_a_filter_admits_what_it_says(ask: Client, more: dict[str, Any], number: int) -> None:
    resource = emit(ask, 6)
    wanted = {**more, "resource": {"id": [resource], **more.get("resource", {})}}
    found = ask(calls.read_events(body={"filter": wanted}))
    assert (found["total"], len(found["events"])) == (number, number)


def test_no_limit_is_more_than_fifty_and_none_may_be_nothing(ask: Client) -> None:
    assert ask(calls.read_events(body={"limit": 0}))["events"] == []
    ask(calls.read_events(body={"limit": 51}), 422)
    ask(calls.read_events(body={"limit": -1}), 422)


@pytest.mark.parametrize("token", ["", "abc", "e30=", "%00", "é"])
def test_a_token_that_was_not_made_here_is_forbidden(ask: Client, token: str) -> None:
    given: dict[str, Any] = {"page-token": token}
    ask(calls.read_next_events(**given), 403 if token else 422)


def test_counts_by_name_by_resource_and_over_time(ask: Client) -> None:
    resource = emit(ask, 6)
    emit(ask, 2, mark=resource.removeprefix("r."), event="e.begun")
    by_name = ask(calls.count_events(countable="event", body=about(resource)))
    assert [(one["value"], one["count"]) for one in by_name] == [("e.done", 6), ("e.begun", 2)]
    by_resource = ask(calls.count_events(countable="resource", body=about(resource)))
    assert [(one["value"], one["label"], one["count"]) for one in by_resource] == [(resource, "it", 8)]
    times = {"occurred": {"since": START.isoformat(), "until": (START + timedelta(hours=3)).isoformat()}}
    hours = ask(calls.count_events(countable="time", body={**about(resource, **times), "time_unit": "hour"}))
    assert [one["count"] for one in hours] == [4, 2, 2]
    days = ask(
        calls.count_events(countable="day", body=about(resource, occurred={"since": START.isoformat()}))
    )
    assert days[0]["count"] == 8
    assert sum(one["count"] for one in days) == 8


def test_a_count_that_cannot_be_made_is_refused(ask: Client) -> None:
    ask(calls.count_events(countable="nothing", body={"filter": {}}), 422)
    refused = ask(calls.count_events(countable="time", body={"filter": {}, "time_unit": "second"}), 422)
    assert "too many" in refused["detail"]
    ask(calls.count_events(countable="time", body={"filter": {}, "time_interval": 0}), 422)


def test_a_nul_does_not_lose_the_batch(ask: Client) -> None:
    """Nothing of a report is refused for one: it is told once, and read with another sign in its place."""
    resource = emit(ask, 2, event="e.\x00.done")
    assert [event["event"] for page in pages(ask, about(resource)) for event in page] == ["e.\ufffd.done"] * 2
