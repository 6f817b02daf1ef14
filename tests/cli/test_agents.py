"""What started an agent starts the worker of the converted pool (rows W4, W28)."""

import pytest

from eparch.core import calls
from eparch.core.agents import DEFAULT_POOL, ORIGIN
from eparch.core.pools import WorkPoolCreate, WorkQueueCreate
from eparch.workers.infrastructure import default_template


@pytest.fixture(scope="module")
def converted(server):
    """Makes a pool with queues, as a migration does; ``origin`` is what it was made from."""
    from eparch.client.http import Client

    with Client(server.api_url) as client:

        def make(name, *queues, origin="a process block"):
            template = {**default_template("process"), ORIGIN: origin} if origin else {}
            body = WorkPoolCreate(name=name, type="process", base_job_template=template)
            client.send(calls.create_work_pool(body=body))
            for queue in queues:
                client.send(calls.create_work_queue(work_pool_name=name, body=WorkQueueCreate(name=queue)))

        make("plain", origin=None)
        make("mine", "ml", "dev-a", "dev-b", "Agent queue a-b")
        make("two words", "ml", "other")
        client.send(calls.create_work_pool(body=WorkPoolCreate(name="left", type="prefect-agent")))
        yield client


def said(done):
    return next(line for line in done.err.splitlines() if "From now on" in line).partition("From now on: ")[2]


def test_w28_the_worker_of_the_converted_pool_runs(client, converted, eparch):
    done = eparch(
        "agent", "start", "-p", "mine", "-m", "dev-", "--run-once", "--hide-welcome", "-l", "2",
        "--prefetch-seconds", "30",
    )  # fmt: skip
    assert said(done) == (
        "eparch worker start --pool mine -q dev-a -q dev-b --run-once --prefetch-seconds 30 --limit 2"
    )
    assert "serves the pool" in done.err


@pytest.mark.parametrize(
    ("words", "worker"),
    [
        ("--pool mine", "--pool mine"),
        ("--work-queue other", "--pool 'two words' -q other"),
        ("dev-a", "--pool mine -q dev-a"),
        ("-t b -t a", "--pool mine -q 'Agent queue a-b'"),
        ("--match dev-", "--pool mine -q dev-a -q dev-b"),
    ],
)
def test_w28_the_pool_is_found_by_what_the_agent_was_told(client, converted, run, monkeypatch, words, worker):
    options = []
    monkeypatch.setattr(
        "eparch.workers.worker.run_worker", lambda given, settings: options.append(given) or 0
    )
    done = run("agent", "start", *words.split(), code=0)
    assert said(done) == f"eparch worker start {worker}"
    [given] = options
    assert given.install_policy in ("prompt", "never")
    assert (given.pool in worker, all(queue in worker for queue in given.queues)) == (True, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "An agent serves work queues."),
        ("-q ml", "They are mine, two words."),
        ("-q a -m b", "not two of them"),
        ("-q nowhere", "no work pool that was converted"),
        ("-p mine -m x-", "no queue of the pool begins with 'x-'"),
        ("-p mine -t c", "give the deployments tagged c a work queue"),
        ("-p left -q a", "Eparch has workers only"),
        ("-p lost", "There is no work pool 'lost'"),
    ],
)
def test_w28_what_cannot_be_served_is_said(client, converted, run, words, told):
    done = run("agent", "start", *words.split())
    assert done.code in (2, 3, 4)
    assert told in done.err


def test_w4_an_agent_is_refused_by_a_pool_that_workers_have_always_served(client, converted, run):
    done = run("agent", "start", "--pool", "plain")
    assert done.code == 2
    assert "The work pool 'plain' is served by workers, not by agents" in done.err
    assert "eparch worker start --pool plain" in done.err


def test_w28_an_agent_without_a_pool_served_the_default_one(client, converted, run, monkeypatch):
    monkeypatch.setattr("eparch.workers.worker.run_worker", lambda given, settings: 0)
    body = WorkPoolCreate(name=DEFAULT_POOL, type="process")
    converted.send(calls.create_work_pool(body=body))
    try:
        done = run("agent", "start", "-q", "ml", "--api", converted.api_url, code=0)
    finally:
        converted.send(calls.delete_work_pool(name=DEFAULT_POOL))
    assert said(done) == f"eparch worker start --pool {DEFAULT_POOL} -q ml"
