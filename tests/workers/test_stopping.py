"""How a worker ends: on a signal, on order, with its runs finished, handed back or left (W1, W18, W29)."""

from __future__ import annotations

import logging
import threading
from functools import partial

import pytest
from tests.workers.test_worker import is_started, outage

from eparch.core import calls
from eparch.core.states import Cancelling, Completed, Running, StateType
from eparch.core.worker_instances import WorkerOrder, WorkerOrders
from eparch.workers import instance
from eparch.workers.instance import Shipping
from eparch.workers.options import WorkerOptions


def reported(scripted):
    """The last report of the worker."""
    return scripted.reports[-1]


def finish(scripted, infrastructure, run, handle="fake:1"):
    """Let a run end well."""
    scripted.put(run, Completed())
    infrastructure.end(handle, 0)


def test_w1_a_worker_ends_with_0_and_says_goodbye(work, scripted):
    worker = work()
    scripted.wait(lambda: scripted.count(calls.claim_runs) > 0)
    worker.stop()
    worker.join()
    assert worker.codes == [0]
    assert (reported(scripted).stopped, reported(scripted).draining) == (True, True)
    assert len({report.id for report in scripted.reports}) == 1


def test_w1_a_worker_that_is_stopped_while_the_server_is_away_ends_with_0(work, scripted):
    scripted.fault = outage
    worker = work()
    scripted.wait(lambda: len(scripted.seen) > 2)
    worker.stop()
    worker.join()
    assert worker.codes == [0]


def test_w11_a_worker_tells_what_it_is_and_asks_as_that_process(work, scripted, infrastructure):
    run = scripted.add("sleep")
    work(limit=3, labels={"zone": "a"}, name="w")
    scripted.wait(is_started(infrastructure))
    first = scripted.reports[0]
    about = first.about
    assert (first.name, about.software, about.capacity, about.labels) == ("w", "eparch", 3, {"zone": "a"})
    assert about.host
    assert about.pid
    assert about.version
    assert about.python
    assert "process" in about.types
    asked = [call.body for call in scripted.seen if call.endpoint is calls.claim_runs]
    assert {body.instance_id for body in asked} == {first.id}
    assert run.id not in about.runs


def test_w18_finish_waits_for_the_runs_takes_no_more_and_shows_draining(work, scripted, infrastructure):
    run = scripted.add("sleep")
    worker = work(on_stop="finish", grace_seconds=600)
    scripted.wait(is_started(infrastructure))
    scripted.put(run, Running())
    worker.stop()
    scripted.wait(lambda: reported(scripted).draining)
    later = scripted.add("sleep")
    asked = scripted.count(calls.renew_claims)
    scripted.wait(lambda: scripted.count(calls.renew_claims) > asked)
    assert scripted.state(later).is_scheduled()
    finish(scripted, infrastructure, run)
    worker.join()
    assert worker.codes == [0]
    assert infrastructure.stopped == []
    assert scripted.state(run).is_completed()
    assert reported(scripted).stopped


def test_w18_a_report_whose_turn_comes_late_does_not_undo_that_the_worker_drains(settings):
    sent, go_on, waits = [], threading.Event(), threading.Event()

    class Slow:
        def send(self, call, *, timeout=None):
            sent.append(call.body)
            waits.set()
            assert go_on.wait(60)
            return WorkerOrders()

    own, draining = instance.Instance(Slow(), WorkerOptions(pool="local"), settings, "w", 25.0), []
    threads = []
    for _ in range(2):
        report = partial(own.report, [], is_draining=lambda: bool(draining))
        threads.append(threading.Thread(target=report))
        threads[-1].start()
        assert waits.wait(60)
    # The second waits for the first to be answered; meanwhile the worker is told to stop.
    draining.append(True)
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert [body.draining for body in sent] == [False, True]


def test_w18_finish_ends_what_is_left_after_the_grace(work, scripted, infrastructure):
    run = scripted.add("sleep")
    worker = work(on_stop="finish", grace_seconds=0.05)
    scripted.wait(is_started(infrastructure))
    scripted.put(run, Running())
    worker.stop()
    worker.join()
    assert infrastructure.stopped == ["fake:1"]
    assert "The worker 'w' stopped" in scripted.state(run).message


@pytest.mark.parametrize("how", ["finish", "cancel"])
def test_w18_the_second_signal_is_now(work, scripted, infrastructure, how):
    run = scripted.add("sleep")
    worker = work(on_stop=how, grace_seconds=600)
    scripted.wait(is_started(infrastructure))
    scripted.put(run, Running())
    worker.stop()
    worker.stop()
    worker.join()
    assert worker.codes == [0]
    assert set(infrastructure.stopped) == {"fake:1"}
    assert scripted.state(run).is_crashed()


def test_w18_hand_back_gives_back_what_has_not_begun_and_leaves_the_rest(work, scripted, infrastructure):
    begun, waiting = scripted.add("sleep"), scripted.add("sleep")
    worker = work(on_stop="hand-back", grace_seconds=600)
    scripted.wait(is_started(infrastructure, 2))
    handles = {scripted.runs[run.id].infrastructure_pid: run for run in (begun, waiting)}
    scripted.put(begun, Running())
    worker.stop()
    scripted.wait_state(waiting, StateType.SCHEDULED)
    assert scripted.state(begun).is_running()
    worker.stop()
    worker.join()
    assert worker.codes == [0]
    # It goes on, and the next worker takes it over.
    assert [handles[handle].id for handle in infrastructure.stopped] == [waiting.id]
    (left,) = infrastructure.find({})
    assert handles[left].id == begun.id
    assert infrastructure.adopt(left)


def test_w18_a_run_that_begins_while_it_is_handed_back_goes_on(work, scripted, infrastructure):
    run = scripted.add("sleep")
    worker = work(on_stop="hand-back", grace_seconds=600)
    scripted.wait(is_started(infrastructure))

    def begin(call):
        # The worker has seen it pending; its own proposal is under way when user code begins.
        if call.endpoint is calls.set_flow_run_state and scripted.state(run).is_pending():
            scripted.put(run, Running())

    scripted.fault = begin
    worker.stop()
    scripted.wait(lambda: scripted.state(run).is_running())
    finish(scripted, infrastructure, run)
    worker.join()
    assert worker.codes == [0]
    assert infrastructure.stopped == []
    assert scripted.state(run).is_completed()


@pytest.mark.parametrize("how", ["finish", "hand-back", "cancel"])
def test_w18_what_a_claim_brings_to_a_worker_that_stops_is_given_back(work, scripted, infrastructure, how):
    told: list[bool] = []

    def hold_answer(call):
        # The server has claimed for this worker; the answer does not come before the worker is gone.
        if call.body.limit and scripted.runs:
            told.append(True)
            worker.stop()
            scripted.changed.wait_for(lambda: bool(worker.codes), 60)

    scripted.fault_after = hold_answer
    worker = work(on_stop=how)
    run = scripted.add("sleep")
    scripted.wait(lambda: bool(told))
    scripted.wait_state(run, StateType.SCHEDULED)
    worker.join()
    assert worker.codes == [0]
    assert infrastructure.started == []


def test_w18_hand_back_lets_running_ones_finish_within_the_grace(work, scripted, infrastructure):
    run = scripted.add("sleep")
    worker = work(on_stop="hand-back", grace_seconds=600)
    scripted.wait(is_started(infrastructure))
    scripted.put(run, Running())
    worker.stop()
    scripted.wait(lambda: reported(scripted).draining)
    finish(scripted, infrastructure, run)
    worker.join()
    assert infrastructure.stopped == []


def test_w18_a_worker_is_drained_on_order_and_works_again(work, scripted, infrastructure):
    first = scripted.add("sleep")
    worker = work()
    scripted.wait(is_started(infrastructure))
    scripted.put(first, Running())
    scripted.give_order(WorkerOrder.DRAIN)
    scripted.wait(lambda: reported(scripted).draining)
    second = scripted.add("sleep")
    # It hears of cancellations while it drains.
    scripted.put(first, Cancelling())
    scripted.wait_state(first, StateType.CANCELLED)
    assert scripted.state(second).is_scheduled()
    assert worker.codes == []
    scripted.give_order(WorkerOrder.WORK)
    scripted.wait(is_started(infrastructure, 2))
    scripted.wait(lambda: not reported(scripted).draining)


def test_w18_a_worker_that_is_ordered_to_exit_ends_when_its_last_run_is_over(work, scripted, infrastructure):
    run = scripted.add("sleep")
    worker = work()
    scripted.wait(is_started(infrastructure))
    scripted.put(run, Running())
    scripted.give_order(WorkerOrder.EXIT)
    scripted.wait(lambda: reported(scripted).draining)
    assert worker.codes == []
    finish(scripted, infrastructure, run)
    worker.join()
    assert worker.codes == [0]
    assert infrastructure.stopped == []
    assert reported(scripted).stopped


def test_w18_a_claim_that_was_on_its_way_is_handed_back_by_a_drained_worker(work, scripted, infrastructure):
    run = scripted.add("sleep")

    def order(call):
        if call.body.limit:
            scripted.order = WorkerOrder.DRAIN

    scripted.fault_after = order
    work(limit=1)
    scripted.wait(lambda: scripted.count(calls.set_flow_run_state) > 0)
    scripted.wait_state(run, StateType.SCHEDULED)
    assert infrastructure.started == []


def test_w29_what_a_worker_says_is_sent_to_the_server(work, scripted, caplog, monkeypatch):
    monkeypatch.setattr(instance, "SHIP_SECONDS", 0.01)
    caplog.set_level(logging.INFO, "eparch.worker")
    worker = work()
    scripted.wait(lambda: any("'w' serves the pool 'local'" in line for line in scripted.said))
    worker.stop()
    worker.join()
    assert any("'w' has stopped" in line for line in scripted.said)


def test_w29_lines_wait_for_the_server_in_order_and_within_a_bound(scripted, caplog, monkeypatch):
    monkeypatch.setattr(instance, "WAITING", 500)
    caplog.set_level(logging.INFO, "eparch.worker")
    scripted.fault = outage
    shipping = Shipping(scripted, scripted.pools["local"].id, "INFO")
    shipping.begin()
    log = logging.getLogger("eparch.worker")
    log.debug("not this")
    for number in range(700):
        log.info("line %d", number)
    scripted.wait(lambda: scripted.count(calls.create_worker_logs) > 0)
    assert scripted.said == []
    scripted.fault = lambda call: None
    shipping.end(30)
    log.info("too late")
    assert scripted.said == [f"line {number}" for number in range(200, 700)]
