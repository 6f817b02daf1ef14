"""Clocks that differ or leap: waits end by the server's time, and a worker says that its clock is wrong."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.runs import SetStateStatus, StateAnswer, StateAnswerDetails
from eparch.core.states import Running, Scheduled, StateCreate, StateType
from eparch.sdk import drive, effects
from eparch.sdk.engine import ServerAuthority

HOURS = [timedelta(hours=1), timedelta(hours=-1), timedelta(days=2), timedelta(days=-2)]


@pytest.fixture
def clock(monkeypatch):
    """This process's wall clock, set by this much."""

    def shift(by):
        class Shifted(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + by

        monkeypatch.setattr(drive, "datetime", Shifted)

    return shift


@pytest.mark.parametrize("by", HOURS)
def test_a_run_that_came_early_waits_as_long_as_the_server_says(clock, by):
    clock(by)
    due = datetime.now(UTC) + timedelta(seconds=8)
    wait = StateAnswer(
        state=Scheduled(due), status=SetStateStatus.WAIT,
        details=StateAnswerDetails(type="wait_details", delay_seconds=8),
    )  # fmt: skip
    proposing = ServerAuthority().propose(StateCreate(type=StateType.RUNNING))
    assert isinstance(next(proposing), effects.Propose)
    slept = drive._seconds(proposing.send(wait))
    assert 0 <= slept <= 9
    # With a clock that is ahead it asks too early, is told so, and waits by the server's figures.
    assert isinstance(proposing.send(None), effects.Propose)
    again = drive._seconds(proposing.send(wait))
    assert again == 8
    assert isinstance(proposing.send(None), effects.Propose)
    begun = StateAnswer(
        state=Running(), status=SetStateStatus.ACCEPT, details=StateAnswerDetails(type="accept_details")
    )
    with pytest.raises(StopIteration):
        proposing.send(begun)


@pytest.mark.parametrize("by", HOURS)
def test_a_sleep_that_is_bounded_is_never_longer(clock, by):
    clock(by)
    until = datetime.now(UTC) + timedelta(seconds=30)
    assert 0 <= drive._seconds(effects.Sleep(until=until, most=30.0)) <= 30
    assert drive._seconds(effects.Sleep(until=until, most=-5.0)) == 0


@pytest.mark.parametrize(
    ("skew", "told"), [(3600.0, "3600 s ahead of"), (-7200.4, "7200 s behind"), (2.0, "")]
)
def test_a_worker_says_once_that_its_clock_is_wrong(work, scripted, caplog, skew, told, settings):
    from msgspec.structs import replace

    scripted.skew = skew
    caplog.set_level(logging.WARNING, "eparch.worker")
    work(settings=replace(settings, worker_heartbeat_seconds=0.1))
    scripted.wait(lambda: scripted.count(calls.report_worker) >= 5)
    lines = [line.getMessage() for line in caplog.records if "clock" in line.getMessage()]
    assert len(lines) == (1 if told else 0)
    assert all(told in line and "NTP" in line for line in lines)


def test_a_client_knows_by_how_much_its_clock_is_off(server):
    with Client(server.api_url) as client:
        assert client.skew is None
        client.send(calls.read_health())
        assert abs(client.skew) < 60
        said, here = client._heard
        client._heard = said, here + 3600
        assert 3540 < client.skew < 3660
        client._heard = "yesterday", here
        assert client.skew is None
