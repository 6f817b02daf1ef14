"""Clocks that differ or leap: waits end by the server's time, and a worker says that its clock is wrong."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime, timedelta

import pytest
from tests.workers.test_end_to_end import Place

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


SHIFT = """
import ctypes, gc, os, time
from datetime import datetime, timedelta

by = float(os.environ["CLOCK_SHIFT"])
real, real_time, real_ns = datetime.now, time.time, time.time_ns
# The class itself is changed, so that every module and every decoder has the same one.
own = gc.get_referents(datetime.__dict__)[0]
own["now"] = staticmethod(lambda tz=None: real(tz) + timedelta(seconds=by))
ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime))
time.time = lambda: real_time() + by
time.time_ns = lambda: real_ns() + int(by * 10**9)
"""

FLOW = """

@flow
def clocks():
    from datetime import UTC, datetime
    say(f"{time.time()} {datetime.now(UTC).timestamp()}\\n")
"""


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="only there a class can be changed")
def test_issue_4_a_machine_whose_clock_is_an_hour_off_runs_what_is_due_and_nothing_early(server, tmp_path):
    places, workers, runs = {}, {}, {}
    for by in (3600, -3600):
        folder = tmp_path / str(by)
        (folder / "site").mkdir(parents=True)
        (folder / "site" / "sitecustomize.py").write_text(SHIFT)
        place = places[by] = Place(server, folder)
        place.pipe.unlink()
        with (folder / "flows.py").open("a") as flows:
            flows.write(FLOW)
        place.env |= {"PYTHONPATH": str(folder / "site"), "CLOCK_SHIFT": str(by)}
        when = datetime.now(UTC) + timedelta(seconds=8)
        runs[by] = (place.run("clocks"), place.run("clocks", when), when)
        workers[by] = place.worker("--run-once", "--prefetch-seconds", "60")
    for by, place in places.items():
        due, later, when = runs[by]
        assert workers[by].wait(180) == 0, place.log()
        assert place.state(due).is_completed(), place.log()
        assert place.state(later).is_completed(), place.log()
        begun = place.client.send(calls.read_flow_run(id=later.id)).start_time
        assert when <= begun < when + timedelta(minutes=10)
        shown = place.pipe.read_text().split()
        assert len(shown) == 4
        for seen in shown:
            assert abs(float(seen) - datetime.now(UTC).timestamp() - by) < 600
        assert ("ahead of that of the server" if by > 0 else "behind that of the server") in place.log()
        place.client.close()
