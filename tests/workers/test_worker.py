import json
import logging
import signal
import socket
import threading
import urllib.error
import urllib.request

import pytest
from msgspec.structs import replace
from tests.workers.scripted import Scripted, once

from eparch.core import calls
from eparch.core.agents import check_served_by
from eparch.core.errors import InfrastructureError, NotFound, Unreachable, Usage
from eparch.core.states import Cancelling, Completed, Running, StateType
from eparch.testing.infrastructure import FakeInfrastructure
from eparch.workers.health import Health
from eparch.workers.signals import stopped_by_signals
from eparch.workers.worker import Worker, WorkerOptions

FINAL = (StateType.CRASHED, StateType.CANCELLED, StateType.COMPLETED, StateType.FAILED)


def outage(call):
    """A fault of every call."""
    raise Unreachable("Cannot reach the server: refused.")


def is_started(infrastructure: FakeInfrastructure, count: int = 1):
    return lambda: len(infrastructure.started) >= count


def test_a_due_run_is_claimed_recorded_and_started(work, scripted, infrastructure):
    run = scripted.add("sleep")
    work()
    scripted.wait(is_started(infrastructure))
    stored = scripted.runs[run.id]
    assert stored.infrastructure_pid == "fake:1"
    job = infrastructure.started[0]
    assert job.env["EPARCH_FLOW_RUN_ID"] == job.env["PREFECT__FLOW_RUN_ID"] == str(run.id)
    assert job.env["EPARCH_CLAIM_TOKEN"] == "1"
    assert job.labels["prefect.io/worker-name"] == "w"


def test_w22_the_handle_is_on_the_run_before_the_job_is_let_go(work, scripted, infrastructure):
    run = scripted.add("sleep")
    scripted.fault = lambda call: None
    order: list[str] = []

    def note(call):
        if call.endpoint is calls.update_flow_run:
            order.append(f"recorded, {len(infrastructure.started)} started")

    scripted.fault = note
    work()
    scripted.wait(is_started(infrastructure))
    assert order == ["recorded, 0 started"]
    assert scripted.runs[run.id].infrastructure_pid


def test_w17_a_job_that_dies_is_reported_with_its_code_and_last_lines(work, scripted, infrastructure):
    run = scripted.add("sleep")
    work()
    scripted.wait(is_started(infrastructure))
    scripted.put(run, Running())
    infrastructure.end("fake:1", -9, "Traceback\nMemoryError")
    state = scripted.wait_state(run, StateType.CRASHED)
    assert state.message == (
        "The run's infrastructure ended while the run was Running: ended by SIGKILL, often because memory ran"
        " out.\nTraceback\nMemoryError"
    )


def test_a_run_that_told_its_end_is_left_as_it_is(work, scripted, infrastructure):
    run = scripted.add("sleep")
    worker = work(limit=1)
    scripted.wait(is_started(infrastructure))
    scripted.put(run, Completed())
    infrastructure.end("fake:1", 0)
    assert worker.supervisor.wait_idle(30)
    assert scripted.state(run).is_completed()
    assert scripted.count(calls.set_flow_run_state) == 0


@pytest.mark.parametrize("path", ["start fails", "bad variable", "cannot record", "dies", "ends", "bug"])
def test_w6_the_slot_is_given_back_on_every_path(work, scripted, infrastructure, path):
    first = scripted.add("exit 3" if path == "dies" else "exit 0")
    if path == "start fails":
        infrastructure.fail = InfrastructureError("No room on the machine")
    if path == "bug":
        infrastructure.fail = ZeroDivisionError("a bug")
    if path == "bad variable":
        scripted.runs[first.id] = replace(first, job_variables={"comand": "x"})
    if path == "cannot record":
        scripted.fault = once(calls.update_flow_run, NotFound("gone"))
    worker = work(limit=1)
    scripted.wait_state(first, *FINAL)
    infrastructure.fail = None
    second = scripted.add("sleep")
    scripted.wait(lambda: bool(scripted.runs[second.id].infrastructure_pid))
    assert worker.slots.taken == 1
    state = scripted.state(first)
    assert state.is_crashed()
    if path == "start fails":
        assert "No room on the machine" in state.message
    if path == "bad variable":
        assert "Did you mean 'command'?" in state.message


class Odd(FakeInfrastructure):
    """Renders with a fault, or begins only when it is told to."""

    def __init__(self, path):
        super().__init__()
        self.path, self.let_go, self.begun = path, threading.Event(), threading.Event()

    def render(self, job):
        if self.path == "cannot render" and not self.begun.is_set():
            self.begun.set()
            raise ZeroDivisionError("a bug")
        return super().render(job)

    def start(self, config, recorded):
        if self.path == "cancelled while starting":
            self.begun.set()
            assert self.let_go.wait(30)
        return super().start(config, recorded)


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ("cannot render", StateType.CRASHED),
        ("cancelled while starting", StateType.CANCELLED),
        ("no thread", StateType.PENDING),
        ("lost while running", StateType.RUNNING),
    ],
)
def test_w6_the_slot_is_given_back_also_when_a_run_never_begins(work, scripted, monkeypatch, path, end):
    infrastructure = Odd(path)
    first = scripted.add("sleep")
    if path == "no thread":
        begin, left = threading.Thread.start, [1]

        def start(thread):
            if thread.name.startswith("run-run") and left:
                left.pop()
                raise RuntimeError("can't start new thread")
            begin(thread)

        monkeypatch.setattr(threading.Thread, "start", start)
    worker = work(limit=1, infrastructure=infrastructure)
    if path == "cancelled while starting":
        assert infrastructure.begun.wait(30)
        scripted.put(first, Cancelling())
        scripted.wait(lambda: any(held.reason for held in worker.supervisor.holding()))
        infrastructure.let_go.set()
    if path == "lost while running":
        scripted.wait(is_started(infrastructure))
        scripted.put(first, Running())
        scripted.lose(first)
    if path == "no thread":
        # It goes back, and is begun when there are threads again.
        scripted.wait(is_started(infrastructure))
        assert worker.slots.taken == 1
        assert scripted.count(calls.set_flow_run_state) == 1
        return
    scripted.wait_state(first, end)
    assert worker.supervisor.wait_idle(30)
    assert worker.slots.taken == 0
    second = scripted.add("sleep")
    infrastructure.let_go.set()
    scripted.wait(lambda: bool(scripted.runs[second.id].infrastructure_pid))


def test_w6_no_more_runs_than_the_limit(work, scripted, infrastructure):
    runs = [scripted.add("sleep") for _ in range(4)]
    worker = work(limit=2)
    scripted.wait(is_started(infrastructure, 2))
    assert worker.slots.free == 0
    assert sum(scripted.state(run).is_scheduled() for run in runs) == 2
    infrastructure.end("fake:1", 1)
    scripted.wait(is_started(infrastructure, 3))
    assert sum(scripted.state(run).is_scheduled() for run in runs) == 1


def test_w15_a_lost_answer_loses_no_run_and_starts_none_twice(work, scripted, infrastructure):
    scripted.fault_after = once(calls.claim_runs)
    run = scripted.add("sleep")
    worker = work()
    scripted.wait(is_started(infrastructure))
    asked = [call.body.claim_id for call in scripted.seen if call.endpoint is calls.claim_runs]
    assert asked[0] == asked[1]
    worker.stop()
    worker.join()
    assert len(infrastructure.started) == 1
    assert scripted.state(run).is_scheduled()


def test_w15_a_lost_claim_ends_the_job_at_once_and_tells_nothing(work, scripted, infrastructure):
    run = scripted.add("sleep")
    worker = work()
    scripted.wait(is_started(infrastructure))
    scripted.put(run, Running())
    scripted.lose(run)
    assert worker.supervisor.wait_idle(30)
    assert infrastructure.stopped == ["fake:1"]
    assert scripted.state(run).is_running()
    assert scripted.count(calls.set_flow_run_state) == 0


def test_a_finished_run_may_finish_its_hooks_after_its_claim_went(work, scripted, infrastructure):
    run = scripted.add("sleep")
    worker = work()
    scripted.wait(is_started(infrastructure))
    scripted.put(run, Completed())
    scripted.lose(run)
    renewed = scripted.count(calls.renew_claims)
    scripted.wait(lambda: scripted.count(calls.renew_claims) >= renewed + 2)
    assert infrastructure.stopped == []
    infrastructure.end("fake:1", 0)
    assert worker.supervisor.wait_idle(30)


def test_every_claim_is_renewed_in_one_request(work, scripted, infrastructure):
    for _ in range(3):
        scripted.add("sleep")
    work()
    scripted.wait(is_started(infrastructure, 3))
    renewed = scripted.count(calls.renew_claims)
    scripted.wait(lambda: scripted.count(calls.renew_claims) > renewed)
    last = [call for call in scripted.seen if call.endpoint is calls.renew_claims][-1]
    assert len(last.body.claims) == 3


@pytest.mark.parametrize("limit", [None, 1])
def test_w20_cancelling_ends_the_job_and_then_the_run(work, scripted, infrastructure, limit):
    run = scripted.add("sleep")
    work(limit=limit)
    scripted.wait(is_started(infrastructure))
    scripted.put(run, Cancelling())
    scripted.wait_state(run, StateType.CANCELLED)
    assert infrastructure.stopped == ["fake:1"]


def test_w20_cancelled_only_after_stop_has_returned(work, scripted):
    class Slow(FakeInfrastructure):
        def stop(self, handle, grace):
            super().stop(handle, grace)
            seen.append(scripted.state(run).type)

    seen: list[StateType] = []
    infrastructure = Slow()
    run = scripted.add("sleep")
    work(infrastructure=infrastructure)
    scripted.wait(is_started(infrastructure))
    scripted.put(run, Cancelling())
    scripted.wait_state(run, StateType.CANCELLED)
    assert seen == [StateType.CANCELLING]


def test_w18_stopping_ends_every_run_and_reports_it(work, scripted, infrastructure):
    runs = [scripted.add("sleep") for _ in range(3)]
    worker = work()
    scripted.wait(is_started(infrastructure, 3))
    for run in runs:
        scripted.put(run, Running())
    worker.stop()
    worker.join()
    assert worker.codes == [0]
    assert len(infrastructure.stopped) == 3
    for run in runs:
        assert scripted.state(run).is_crashed()
        assert "The worker 'w' stopped" in scripted.state(run).message


def test_a_claim_that_comes_while_the_worker_stops_is_handed_back(work, scripted, infrastructure):
    run = scripted.add("sleep")
    scheduled = scripted.state(run).state_details.scheduled_time
    workers = []
    scripted.fault_after = lambda call: workers[0].stop() if call.body.limit else None
    with scripted.changed:
        workers.append(work(limit=1))
    scripted.wait(lambda: scripted.count(calls.set_flow_run_state) > 0)
    assert scripted.wait_state(run, StateType.SCHEDULED).state_details.scheduled_time == scheduled
    assert infrastructure.started == []


def test_w19_outages_are_survived_at_the_start_and_later(work, scripted, infrastructure, caplog):
    caplog.set_level(logging.WARNING, "eparch.worker")
    scripted.fault = lambda call: (_ for _ in ()).throw(Unreachable("Cannot reach the scripted: refused."))
    work()
    scripted.wait(lambda: len(scripted.seen) > 3)
    scripted.fault = lambda call: None
    run = scripted.add("sleep")
    scripted.wait(is_started(infrastructure))
    assert "Cannot reach the scripted: refused." in caplog.text
    scripted.fault = lambda call: (_ for _ in ()).throw(Unreachable("Cannot reach the scripted: refused."))
    scripted.put(run, Running())
    infrastructure.end("fake:1", 1)
    seen = len(scripted.seen)
    scripted.wait(lambda: len(scripted.seen) > seen + 3)
    scripted.fault = lambda call: None
    scripted.wait_state(run, StateType.CRASHED)
    assert infrastructure.stopped == []


def test_w8_once_takes_what_is_due_waits_and_ends(work, scripted, infrastructure):
    runs = [scripted.add("exit 0") for _ in range(3)]
    worker = work(run_once=True)
    worker.join()
    assert worker.codes == [0]
    assert len(infrastructure.started) == 3
    assert scripted.count(calls.claim_runs) == 1
    assert all(scripted.state(run).is_final() for run in runs)


def test_w8_once_fails_when_a_run_could_not_be_submitted(work, scripted, infrastructure):
    infrastructure.fail = InfrastructureError("no")
    scripted.add()
    worker = work(run_once=True)
    worker.join()
    assert worker.codes == [1]


def test_w2_the_type_is_the_pools_and_another_is_refused(work):
    worker = work(type="process")
    worker.join()
    (error,) = worker.codes
    assert isinstance(error, Usage)
    assert "'fake'" in error.message
    assert "'process'" in error.message


def test_w3_a_pool_is_created_with_its_template_once(work, scripted, settings):
    scripted = Scripted(pool=None)
    worker = work(server=scripted, pool="new", type="process", infrastructure=None)
    scripted.wait(lambda: scripted.count(calls.claim_runs) > 0)
    assert scripted.pools["new"].type == "process"
    assert "command" in scripted.pools["new"].base_job_template["variables"]["properties"]
    scripted.fault = once(calls.read_work_pool, NotFound("not yet"))
    second = work(server=scripted, pool="new", type="process", infrastructure=None)
    scripted.wait(lambda: scripted.count(calls.create_work_pool) == 2)
    claims = scripted.count(calls.claim_runs)
    scripted.wait(lambda: scripted.count(calls.claim_runs) > claims)
    assert worker.codes == second.codes == []


def test_w3_a_pool_begins_with_the_given_template(work, tmp_path):
    scripted = Scripted(pool=None)
    path = tmp_path / "template.json"
    path.write_text(
        json.dumps({"job_configuration": {"command": "{{ own }}"}, "variables": {"properties": {"own": {}}}})
    )
    work(server=scripted, pool="new", type="process", infrastructure=None, base_job_template=path)
    scripted.wait(lambda: "new" in scripted.pools)
    assert "own" in scripted.pools["new"].base_job_template["variables"]["properties"]
    path.write_text(json.dumps({"job_configuration": {"command": "{{ unknown }}"}, "variables": {}}))
    worker = work(server=scripted, pool="other", type="process", infrastructure=None, base_job_template=path)
    worker.join()
    assert "unknown" in worker.codes[0].message
    path.write_text("[1")
    worker = work(server=scripted, pool="other", type="process", infrastructure=None, base_job_template=path)
    worker.join()
    assert "not a JSON object" in worker.codes[0].message


def test_w3_without_a_type_a_missing_pool_is_refused_with_the_nearest(work, scripted):
    worker = work(pool="locl")
    worker.join()
    assert worker.codes[0].fix == "Did you mean 'local'?"
    worker = work(pool="other", type="process", create_pool_if_not_found=False)
    worker.join()
    assert isinstance(worker.codes[0], NotFound)
    assert set(scripted.pools) == {"local"}


def test_w4_a_pool_of_agents_is_refused_with_the_command(work):
    worker = work(server=Scripted(type_="prefect-agent"), infrastructure=None)
    worker.join()
    assert "eparch agent start --pool local" in worker.codes[0].fix
    # Nor is one made.
    empty = Scripted(pool=None)
    worker = work(server=empty, pool="new", type="prefect-agent", infrastructure=None)
    worker.join()
    assert "eparch agent start --pool new" in worker.codes[0].fix
    assert empty.pools == {}


def test_w4_agents_and_workers_are_told_the_same_way():
    told = {}
    for who, type_, other in (("worker", "prefect-agent", "agent"), ("agent", "docker", "worker")):
        check_served_by(other, "a pool", type_)
        with pytest.raises(Usage) as caught:
            check_served_by(who, "a pool", type_)
        assert caught.value.message == f"The work pool 'a pool' is served by {other}s, not by {who}s"
        assert caught.value.why == f"its type is '{type_}'"
        told[who] = caught.value.fix
    assert told["worker"].startswith("eparch agent start --pool 'a pool'; or create a pool with: ")
    assert told["agent"] == "eparch worker start --pool 'a pool'"


def test_a_type_that_is_not_installed_is_refused_with_the_nearest(work):
    worker = work(server=Scripted(type_="proces"), infrastructure=None)
    worker.join()
    assert worker.codes[0].fix == "Did you mean 'process'?"


def test_a_pool_without_a_template_gets_the_default_one(work):
    scripted = Scripted(type_="process")
    scripted.pools["local"] = type(scripted.pools["local"])(
        id=scripted.pools["local"].id, name="local", type="process"
    )
    work(server=scripted, infrastructure=None)
    scripted.wait(lambda: bool(scripted.pools["local"].base_job_template))


def test_w5_unknown_queues_are_created_and_asked_for(work, scripted):
    work(queues=("default", "urgent"))
    scripted.wait(lambda: scripted.count(calls.claim_runs) > 0)
    assert scripted.queues == {"default", "urgent"}
    claim = next(call for call in scripted.seen if call.endpoint is calls.claim_runs)
    assert claim.body.work_queue_names == ["default", "urgent"]


def test_w7_runs_are_taken_before_their_time(work, scripted, settings):
    work(prefetch_seconds=3.0)
    scripted.wait(lambda: scripted.count(calls.claim_runs) > 0)
    claim = next(call for call in scripted.seen if call.endpoint is calls.claim_runs)
    assert claim.body.prefetch_seconds == 3.0
    assert claim.body.lease_seconds == settings.lease_seconds


def probe(url: str) -> tuple[int, str]:
    """The status and the message of a probe."""
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, json.load(answer)["message"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["message"]


@pytest.fixture
def probed(settings, monkeypatch):
    """The base URL of the probes of the next worker, once it is begun."""
    ports: list[int] = []

    class Noted(Health):
        def __init__(self, host, port, look):
            super().__init__("127.0.0.1", 0, look)
            ports.append(self.port)

    monkeypatch.setattr("eparch.workers.worker.Health", Noted)
    return lambda: f"http://127.0.0.1:{ports[-1]}"


def test_w9_probes_go_red_when_the_loop_is_dead_while_heartbeats_go_on(
    work, scripted, infrastructure, settings, probed
):
    blocked, let_go = threading.Event(), threading.Event()

    def hang(call):
        if call.endpoint is calls.claim_runs and blocked.is_set():
            # The loop's thread hangs here, as in a call that never comes back.
            scripted.changed.release()
            try:
                let_go.wait(30)
            finally:
                scripted.changed.acquire()

    scripted.fault = hang
    beating = replace(settings, worker_heartbeat_seconds=0.1)
    worker = work(with_healthcheck=True, settings=beating)
    try:
        scripted.wait(lambda: scripted.count(calls.claim_runs) > 0)
        assert probe(f"{probed()}/health") == (200, "OK")
        assert probe(f"{probed()}/live") == (200, "OK")
        assert probe(f"{probed()}/ready") == (200, "OK")
        assert probe(f"{probed()}/draining") == (503, "The worker takes runs")
        blocked.set()
        asked = scripted.count(calls.claim_runs)
        scripted.wait(lambda: scripted.count(calls.claim_runs) > asked)
        worker.source.wait = 0.0
        beats = len(scripted.reports)
        scripted.wait(lambda: probe(f"{probed()}/health")[0] == 503)
        assert "has not asked for runs" in probe(f"{probed()}/live")[1]
        assert probe(f"{probed()}/ready")[0] == 503
        scripted.wait(lambda: len(scripted.reports) > beats)
    finally:
        let_go.set()


def test_w9_probes_tell_draining_and_not_ready_apart(work, scripted, infrastructure, probed):
    scripted.add("sleep")
    scripted.fault = outage
    worker = work(with_healthcheck=True, on_stop="finish", grace_seconds=600)
    scripted.wait(lambda: len(scripted.seen) > 3)
    assert probe(f"{probed()}/live") == (200, "OK")
    assert probe(f"{probed()}/ready") == (503, "The worker has not begun")
    scripted.fault = lambda call: None
    scripted.wait(is_started(infrastructure))
    assert probe(f"{probed()}/ready")[0] == 200
    worker.stop()
    assert probe(f"{probed()}/ready") == (503, "The worker takes no more runs")
    assert probe(f"{probed()}/draining") == (200, "OK")
    assert probe(f"{probed()}/live") == (200, "OK")
    infrastructure.end("fake:1", 0)
    worker.join()
    assert worker.codes == [0]


def test_w9_a_port_that_is_taken_is_told_without_a_traceback(work, settings, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        busy = replace(settings, worker_health_host="127.0.0.1", worker_health_port=port)
        worker = work(with_healthcheck=True, settings=busy)
        worker.join()
    (error,) = worker.codes
    assert isinstance(error, Usage)
    assert str(port) in error.message
    assert "EPARCH_WORKER_HEALTH_PORT" in error.fix


def test_the_worker_tells_the_runs_log(work, scripted, infrastructure):
    scripted.add("exit 3")
    worker = work()
    scripted.wait(lambda: any("is over: exit code 3" in line for line in scripted.logs))
    assert any("Worker 'w' is submitting" in line for line in scripted.logs)
    assert any("was started as fake:1" in line for line in scripted.logs)
    assert worker.supervisor.wait_idle(30)


@pytest.fixture
def stock():
    return Scripted(ours=False)


def test_stock_a_due_run_is_moved_to_pending_and_started(work, stock, infrastructure):
    run = stock.add("sleep")
    work(server=stock)
    stock.wait(is_started(infrastructure))
    assert stock.state(run).is_pending()
    assert "EPARCH_CLAIM_TOKEN" not in infrastructure.started[0].env
    assert stock.count(calls.claim_runs) == stock.count(calls.renew_claims) == 0


def test_stock_two_workers_start_a_run_once(work, stock):
    one, two = FakeInfrastructure(), FakeInfrastructure()
    runs = [stock.add("sleep") for _ in range(20)]
    work(server=stock, infrastructure=one, name="one")
    work(server=stock, infrastructure=two, name="two")
    stock.wait(lambda: len(one.started) + len(two.started) >= 20)
    started = [job.env["EPARCH_FLOW_RUN_ID"] for job in [*one.started, *two.started]]
    assert sorted(started) == sorted(str(run.id) for run in runs)


def test_stock_a_lost_answer_to_the_claim_loses_no_run(work, stock, infrastructure):
    lost: list[bool] = []
    original = stock._set_flow_run_state

    def answer(call, path):
        result = original(call, path)
        if not lost:
            lost.append(True)
            raise Unreachable("the answer was lost")
        return result

    stock._set_flow_run_state = answer
    stock.add("sleep")
    work(server=stock)
    stock.wait(is_started(infrastructure))
    assert lost


@pytest.mark.parametrize("limit", [None, 1])
def test_stock_cancelling_is_seen_by_polling(work, stock, infrastructure, limit):
    run = stock.add("sleep")
    work(server=stock, limit=limit)
    stock.wait(is_started(infrastructure))
    stock.put(run, Cancelling())
    stock.wait_state(run, StateType.CANCELLED)


def test_w18_a_signal_may_come_while_the_worker_holds_a_lock(scripted, settings):
    worker = Worker(scripted, WorkerOptions(pool="p"), settings)
    with stopped_by_signals(worker):
        # So it is when the wait for the first signal is just over and the second one comes.
        with worker._ended._cond:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        assert worker._ended.wait(30)
