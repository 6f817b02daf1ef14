"""Claims are renewed whatever else goes wrong, and a renewal that was lost is tried again in time (W17)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.workers.scripted import once

from eparch.core import calls
from eparch.core.states import Cancelled, Completed, Crashed, Failed, Paused, Pending, Running, Scheduled
from eparch.settings import load
from eparch.workers import reporting
from eparch.workers.decisions import is_left_behind
from eparch.workers.sources import ANSWER
from eparch.workers.supervision import RUN, TOKEN


def test_w17_claims_are_renewed_while_a_heartbeat_hangs(work, scripted, infrastructure, settings):
    scripted.add("sleep")
    hung: list[int] = []
    over: list[bool] = []

    def hang(call):
        if call.endpoint is calls.report_worker and infrastructure.started and not over:
            hung.append(scripted.count(calls.renew_claims))
            scripted.changed.wait_for(lambda: bool(over), 60)

    scripted.fault = hang
    work(settings=replace(settings, worker_heartbeat_seconds=0.1))
    scripted.wait(lambda: bool(hung))
    scripted.wait(lambda: scripted.count(calls.renew_claims) >= hung[0] + 3)
    over.append(True)
    with scripted.changed:
        scripted.changed.notify_all()


def test_w17_claims_are_renewed_while_jobs_cannot_be_looked_for(work, scripted, infrastructure, settings):
    scripted.add("sleep")
    looked: list[int] = []
    over: list[bool] = []

    def hang(labels):
        with scripted.changed:
            looked.append(scripted.count(calls.renew_claims))
            scripted.changed.notify_all()
            scripted.changed.wait_for(lambda: bool(over) or not infrastructure.started, 60)
        return []

    infrastructure.find = hang
    work(settings=replace(settings, worker_heartbeat_seconds=0.1))
    scripted.wait(lambda: bool(infrastructure.started) and len(looked) > 1)
    renewed = scripted.count(calls.renew_claims)
    scripted.wait(lambda: scripted.count(calls.renew_claims) >= renewed + 3)
    over.append(True)
    with scripted.changed:
        scripted.changed.notify_all()


def test_w17_a_renewal_that_was_lost_is_tried_again(work, scripted, infrastructure, settings):
    scripted.fault = once(calls.renew_claims)
    scripted.add("sleep")
    worker = work(settings=settings)
    scripted.wait(lambda: bool(infrastructure.started))
    scripted.wait(lambda: scripted.count(calls.renew_claims) >= 3)
    assert infrastructure.stopped == []
    worker.stop()


@pytest.mark.parametrize("lease", [None, 10.0, 3600.0])
def test_w17_there_is_time_for_three_renewals_before_a_lease_is_over(tmp_path, monkeypatch, lease):
    lease = lease or load({}, tmp_path).lease_seconds
    monkeypatch.setattr(reporting.random, "random", lambda: 1.0)
    at, tries = lease / 3, 0
    while at + lease * ANSWER <= lease:
        tries += 1
        at += lease * ANSWER + reporting.retry_after(lease / 3)
    assert tries >= 3


@pytest.mark.parametrize(
    ("state", "stored", "left"),
    [
        (Crashed(), "docker://e:abc", True),
        (Cancelled(), "docker://e:abc", True),
        (Scheduled(), "docker://e:abc", True),
        (Running(), "docker://e:abc", False),
        (Running(), "docker://renamed:abc", False),
        (Running(), "docker://e:other", True),
        (Pending(), None, False),
        (Completed(), "docker://e:abc", False),
        (Failed(), "docker://e:abc", False),
        (Paused(), "docker://e:abc", False),
    ],
)
def test_w17_which_jobs_are_left_behind(scripted, state, stored, left):
    run = replace(scripted.add(), state=state, infrastructure_pid=stored)
    assert is_left_behind(run, "docker://e:abc") is left


@pytest.mark.parametrize(("token", "ended"), [("1", True), (None, False)])
def test_w17_a_job_that_a_lost_machine_left_behind_is_ended_at_the_second_sight(
    work, scripted, infrastructure, settings, token, ended
):
    run = scripted.add("sleep")
    scripted.put(run, Crashed())
    labels = {RUN: str(run.id)} | ({TOKEN: token} if token else {})
    looked: list[list[str]] = []

    def find(_):
        with scripted.changed:
            looked.append(list(infrastructure.stopped))
            scripted.changed.notify_all()
        return [] if infrastructure.stopped else ["fake:99"]

    infrastructure.find, infrastructure.labels_of = find, lambda handle: labels
    infrastructure.adopt = lambda handle: False
    work(settings=replace(settings, worker_heartbeat_seconds=0.1))
    scripted.wait(lambda: len(looked) >= 4)
    assert infrastructure.stopped == (["fake:99"] if ended else [])
    assert looked[:2] == [[], []]
