"""How an instance of a worker stands (W11-W13, W18)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from eparch.core.model import new_id
from eparch.core.pools import WorkerStatus, worker_status
from eparch.core.worker_instances import Keeping, WorkerInstance, WorkerOrder, instance_status

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def before(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def one(beaten: float | None, polled: float | None, **more: Any) -> WorkerInstance:
    """Beats each 30 s and asks each 25 s; its last of both so many seconds ago."""
    made = WorkerInstance(
        id=new_id(), created=before(10_000), name="w", work_pool_id=new_id(), work_pool_name="p",
        started_at=before(10_000), heartbeat_interval_seconds=30, poll_interval_seconds=25,
        last_heartbeat_at=None if beaten is None else before(beaten),
        last_polled_at=None if polled is None else before(polled),
    )  # fmt: skip
    return replace(made, **more)


@pytest.mark.parametrize(
    ("beaten", "polled", "status"),
    [
        (0, 0, "ONLINE"),
        (90, 75, "ONLINE"),
        (91, 75, "UNHEALTHY"),
        (90, 76, "UNHEALTHY"),
        (91, 76, "OFFLINE"),
        (0, None, "UNHEALTHY"),
        (None, 0, "UNHEALTHY"),
        (None, None, "OFFLINE"),
    ],
)
def test_w12_w13_status_follows_from_what_was_seen(
    beaten: float | None, polled: float | None, status: str
) -> None:
    found, reason = instance_status(one(beaten, polled), NOW)
    assert found.value == status
    assert bool(reason) is (status != "ONLINE")


def test_w12_the_reason_names_which_of_the_two_is_missing() -> None:
    assert instance_status(one(5, 200), NOW)[1] == "It sends heartbeats, but asked for runs 200 s ago."
    assert instance_status(one(200, 5), NOW)[1] == "It asks for runs, but its last heartbeat came 200 s ago."


def test_w12_one_that_has_just_begun_has_time_to_ask() -> None:
    assert instance_status(one(5, None, created=before(5)), NOW)[0] == "ONLINE"


def test_w13_the_threshold_can_be_set() -> None:
    late = one(100, 100)
    assert instance_status(late, NOW)[0] == "OFFLINE"
    assert Keeping(missed=5).shown(late, NOW).status == "ONLINE"
    assert worker_status(before(100), 30, NOW) is WorkerStatus.OFFLINE
    assert worker_status(before(100), 30, NOW, 5) is WorkerStatus.ONLINE


def test_w18_draining_is_shown_while_it_beats_whoever_wanted_it() -> None:
    for drains in ({"draining": True}, {"order": WorkerOrder.DRAIN}, {"order": WorkerOrder.EXIT}):
        assert instance_status(one(5, 1000, **drains), NOW)[0] == "DRAINING"
        assert instance_status(one(100, 5, **drains), NOW)[0] == "OFFLINE"


def test_one_that_said_goodbye_is_offline_at_once() -> None:
    assert instance_status(one(0, 0, stopped_at=NOW), NOW)[0] == "OFFLINE"


def test_w11_a_stock_worker_is_judged_by_its_heartbeats_alone() -> None:
    assert instance_status(one(5, None, poll_interval_seconds=None), NOW)[0] == "ONLINE"
    assert instance_status(one(100, None, poll_interval_seconds=None), NOW)[0] == "OFFLINE"
