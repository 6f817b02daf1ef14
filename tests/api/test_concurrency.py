"""Limits over the wire: statuses, bodies and headers as Prefect's server was seen to answer (wire 4.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from eparch.core import calls
from eparch.core.model import encode

from .application import DATABASES, Client, started

NOBODY = "01a203e0-a17c-77e8-a19b-e31e7436670c"


@pytest.fixture(scope="module", params=DATABASES)
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with started(request, tmp_path_factory.mktemp("home")) as client:
        yield client


@pytest.fixture
def db(ask: Client) -> str:
    """The name of a limit with one slot."""
    name = f"db-{uuid4().hex[:8]}"
    ask(calls.create_concurrency_limit(body={"name": name, "limit": 1}))
    return name


@pytest.fixture
def tag(ask: Client) -> str:
    """A tag with a limit of one slot."""
    name = f"tag-{uuid4().hex[:8]}"
    ask(calls.create_tag_limit(body={"tag": name, "concurrency_limit": 1}))
    return name


def send(ask: Client, call: Any) -> Any:
    return ask.send(call.method, call.path, encode(call.body), {"content-type": "application/json"})


def test_a_limit_is_made_read_changed_and_deleted(ask: Client) -> None:
    name = f"l-{uuid4().hex[:8]}"
    body = {"name": name, "limit": 3, "active_slots": 1, "slot_decay_per_second": 0.001}
    made = ask(calls.create_concurrency_limit(body=body))
    assert (made["denied_slots"], made["avg_slot_occupancy_seconds"], made["active"]) == (0, 2.0, True)
    shown = {key: made[key] for key in made if key not in ("denied_slots", "avg_slot_occupancy_seconds")}
    assert ask(calls.read_concurrency_limit(id_or_name=name)) == shown
    assert ask(calls.read_concurrency_limit(id_or_name=made["id"])) == shown
    assert shown in ask(calls.read_concurrency_limits(body={}))
    ask(calls.update_concurrency_limit(id_or_name=name, body={"limit": 5, "active": False}))
    changed = ask(calls.read_concurrency_limit(id_or_name=name))
    assert (changed["limit"], changed["active"], changed["active_slots"]) == (5, False, 1)
    assert ask(calls.create_concurrency_limit(body=body), 409)["fix"]
    ask(calls.delete_concurrency_limit(id_or_name=made["id"]))
    assert ask(calls.read_concurrency_limit(id_or_name=name), 404) == {
        "detail": "Concurrency Limit not found"
    }


def test_pages_are_in_the_order_of_names(ask: Client) -> None:
    for name in ("page-b", "page-a", "page-c"):
        ask(calls.create_concurrency_limit(body={"name": name, "limit": 1}))
    everything = [one["name"] for one in ask(calls.read_concurrency_limits(body={}))]
    assert everything == sorted(everything)
    page = ask(calls.read_concurrency_limits(body={"limit": 2, "offset": 1}))
    assert [one["name"] for one in page] == everything[1:3]
    ask(calls.read_concurrency_limits(body={"limit": 201}), 422)
    for name in ("page-b", "page-a", "page-c"):
        ask(calls.delete_concurrency_limit(id_or_name=name))


def test_who_finds_no_slot_is_told_when_to_ask_again(ask: Client, db: str) -> None:
    wanted = {"names": [db, "nowhere"], "slots": 1}
    (told,) = ask(calls.take_slots(body=wanted))
    assert (told["name"], told["limit"]) == (db, 1)
    for call in (calls.take_slots(body=wanted), calls.lease_slots(body=wanted)):
        denied = send(ask, call)
        assert (denied.status, denied.json()) == (423, {"detail": "Locked"})
        assert 0 < float(denied.headers["retry-after"]) < 40
    ask(calls.return_slots(body={**wanted, "occupancy_seconds": 2.0}))
    assert ask(calls.take_slots(body=wanted)) == [told]


def test_a_lease_is_renewed_and_ended(ask: Client, db: str) -> None:
    holder = {"type": "task_run", "id": NOBODY}
    lease = ask(calls.lease_slots(body={"names": [db], "slots": 1, "holder": holder}))
    assert [one["name"] for one in lease["limits"]] == [db]
    ask(calls.renew_concurrency_lease(lease_id=lease["lease_id"], body={"lease_duration": 60}))
    ask.send("POST", f"/v2/concurrency_limits/leases/{lease['lease_id']}/renew")
    for _ in range(2):
        ask(calls.end_concurrency_lease(body={"lease_id": lease["lease_id"]}))
    gone = ask(calls.renew_concurrency_lease(lease_id=lease["lease_id"], body={}), 410)
    assert gone == {"detail": "Lease not found - it may have expired or been revoked"}


def test_limits_that_are_not_there_hold_nobody_up(ask: Client) -> None:
    assert ask(calls.lease_slots(body={"names": ["nowhere"], "slots": 9}))["limits"] == []
    assert ask(calls.take_slots(body={"names": [], "slots": 1})) == []
    assert ask(calls.return_slots(body={"names": ["nowhere"], "slots": 1})) == []


@pytest.mark.parametrize(
    "call",
    [
        calls.create_concurrency_limit(body={"name": "a/b", "limit": 1}),
        calls.create_concurrency_limit(body={"name": "a", "limit": -1}),
        calls.create_concurrency_limit(body={"name": "a", "limit": 10**30}),
        calls.create_tag_limit(body={"tag": "a/b", "concurrency_limit": 1}),
        calls.create_tag_limit(body={"tag": "a", "concurrency_limit": -1}),
        calls.take_slots(body={"names": ["x"], "slots": 0}),
        calls.take_slots(body={"names": ["x"], "slots": 1, "mode": "rate"}),
        calls.lease_slots(body={"names": ["x"], "slots": 1, "lease_duration": 59}),
        calls.lease_slots(body={"names": ["x"], "slots": 1, "holder": {"type": "person", "id": NOBODY}}),
        calls.renew_concurrency_lease(lease_id=NOBODY, body={"lease_duration": 86_401}),
        calls.renew_concurrency_lease(lease_id="x", body={}),
    ],
    ids=lambda call: f"{call.path}-{call.body}",
)
def test_what_cannot_be_is_refused(ask: Client, call: Any) -> None:
    assert ask(call, 422)["exception_detail"]


def test_more_than_the_limit_or_a_rate_without_decay_is_refused(ask: Client, db: str) -> None:
    said = ask(calls.take_slots(body={"names": [db], "slots": 2}), 422)
    assert said["detail"] == "Slots requested is greater than the limit"
    said = ask(calls.take_slots(body={"names": [db], "slots": 1, "mode": "rate_limit"}), 422)
    assert said["detail"].endswith(f"do not have a decay configured: '{db}'")


@pytest.mark.parametrize(
    "call",
    [
        calls.update_concurrency_limit(id_or_name="nope", body={"limit": 1}),
        calls.delete_concurrency_limit(id_or_name="nope"),
        calls.read_concurrency_limit(id_or_name=NOBODY),
        calls.read_tag_limit(tag="nope"),
        calls.read_tag_limit_by_id(id=NOBODY),
        calls.delete_tag_limit(tag="nope"),
        calls.delete_tag_limit_by_id(id=NOBODY),
        calls.reset_tag_limit(tag="nope", body={}),
    ],
    ids=lambda call: f"{call.method} {call.path}",
)
def test_what_is_not_there(ask: Client, call: Any) -> None:
    assert ask(call, 404)["detail"].lower() == "concurrency limit not found"


def test_a_tag_has_a_limit_by_another_name(ask: Client, tag: str) -> None:
    changed = ask(calls.create_tag_limit(body={"tag": tag, "concurrency_limit": 2}), 200)
    assert changed["concurrency_limit"] == 2
    assert ask(calls.read_tag_limit(tag=tag)) == changed
    assert ask(calls.read_tag_limit_by_id(id=changed["id"])) == changed
    listed = ask(calls.read_tag_limits(body={}))
    assert changed in listed
    assert len({one["tag"] for one in listed}) == len(listed)
    assert ask(calls.read_concurrency_limit(id_or_name=f"tag:{tag}"))["id"] == changed["id"]
    ask(calls.delete_tag_limit_by_id(id=changed["id"]))
    ask(calls.read_concurrency_limit(id_or_name=f"tag:{tag}"), 404)


def test_a_limit_that_is_on_no_tag_is_none_of_these(ask: Client, db: str) -> None:
    id_ = ask(calls.read_concurrency_limit(id_or_name=db))["id"]
    ask(calls.read_tag_limit_by_id(id=id_), 404)
    ask(calls.delete_tag_limit_by_id(id=id_), 404)
    assert db not in [one["tag"] for one in ask(calls.read_tag_limits(body={}))]


def test_a_task_run_holds_slots_of_tags(ask: Client, tag: str) -> None:
    mine = {"names": [tag, "nowhere"], "task_run_id": str(uuid4())}
    (told,) = ask(calls.take_tag_slots(body=mine))
    assert told["name"] == tag
    assert ask(calls.take_tag_slots(body=mine)) == [told]
    denied = send(ask, calls.take_tag_slots(body={**mine, "task_run_id": NOBODY}))
    assert (denied.status, denied.headers["retry-after"]) == (423, "10")
    assert denied.json() == {"detail": f"Concurrency limit for the {tag} tag has been reached"}
    assert ask(calls.read_tag_limit(tag=tag))["active_slots"] == [mine["task_run_id"]]
    (given,) = ask(calls.return_tag_slots(body=mine))
    assert given["name"] == f"tag:{tag}"
    ask(calls.reset_tag_limit(tag=tag, body={"slot_override": [NOBODY]}))
    assert ask(calls.read_tag_limit(tag=tag))["active_slots"] == [NOBODY]
    ask(calls.reset_tag_limit(tag=tag, body={}))
    assert ask(calls.read_tag_limit(tag=tag))["active_slots"] == []


def test_a_tag_whose_limit_is_0_is_not_to_be_waited_for(ask: Client, tag: str) -> None:
    ask(calls.create_tag_limit(body={"tag": tag, "concurrency_limit": 0}), 200)
    denied = send(ask, calls.take_tag_slots(body={"names": [tag], "task_run_id": NOBODY}))
    assert denied.status == 423
    assert "retry-after" not in denied.headers
    assert "is 0 and will deadlock" in denied.json()["detail"]
