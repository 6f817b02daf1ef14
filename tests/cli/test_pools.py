"""Acceptance: work pools, queues and workers on the real command line against our server."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from eparch.core import calls
from eparch.core.pools import Heartbeat


@pytest.fixture
def pool(eparch, client):
    """The name of a pool of type process."""
    name = f"pool-{uuid4().hex[:8]}"
    eparch("work-pool", "create", name, "--type", "process")
    return name


def test_p12_pool_begins_with_the_template_of_its_type(eparch, client, pool, tmp_path):
    file = tmp_path / "template.json"
    eparch("work-pool", "get-default-base-job-template", "--type", "process", "--file", file)
    printed = eparch("work-pool", "get-default-base-job-template", "-t", "process").json()
    assert printed["job_configuration"]
    assert client.send(calls.read_work_pool(name=pool)).base_job_template == printed
    printed["variables"]["description"] = "mine"
    import json

    file.write_text(json.dumps(printed))
    eparch("work-pool", "update", pool, "--base-job-template", file)
    assert client.send(calls.read_work_pool(name=pool)).base_job_template == printed
    file.write_text("[]")
    assert "JSON object" in eparch("work-pool", "update", pool, "--base-job-template", file, code=2).err


def test_create_tells_people_on_stderr_and_programs_on_stdout(eparch, client):
    name = f"pool-{uuid4().hex[:8]}"
    done = eparch("work-pool", "create", name, "--type", "process", "--paused", "--description", "d")
    assert done.out == ""
    assert f"Created work pool '{name}'." in done.err
    other = f"pool-{uuid4().hex[:8]}"
    made = eparch("work-pool", "create", other, "--type", "process", "-o", "json").json()
    assert made["name"] == other
    assert eparch("work-pool", "ls", "-o", "name").out.split().count(other) == 1


def test_create_again_is_a_conflict_unless_told_to_overwrite(eparch, client, pool):
    error = eparch("work-pool", "create", pool, "-t", "process", "-o", "json", code=5).error()
    assert error["message"] == f"There is a work pool '{pool}' already."
    eparch("work-pool", "create", pool, "-t", "process", "--overwrite", "--paused")
    assert client.send(calls.read_work_pool(name=pool)).is_paused


def test_two_creators_at_once_make_one_pool(eparch, client):
    name = f"pool-{uuid4().hex[:8]}"
    with ThreadPoolExecutor(2) as threads:
        codes = list(
            threads.map(lambda _: eparch("work-pool", "create", name, "-t", "process", code=None).code, "ab")
        )
    assert sorted(codes) == [0, 5]


def test_unknown_type_lists_the_known_ones(eparch, client):
    done = eparch("work-pool", "create", "x", "--type", "proces", code=3)
    assert "process" in done.err
    assert "Did you mean 'process'?" in done.err
    assert "Known types: " in eparch("work-pool", "create", "x", code=2).err


def test_name_that_is_not_there_suggests_the_nearest(eparch, client, pool):
    for command in ("inspect", "pause", "resume", "delete", "preview", "slots", "clear-concurrency-limit"):
        done = eparch("work-pool", command, pool + "x", code=3)
        assert f"There is no work pool '{pool}x'." in done.err
        assert f"Did you mean '{pool}'?" in done.err
    assert f"Did you mean '{pool}'?" in eparch("work-queue", "ls", "-p", pool + "x", code=3).err


def test_pause_resume_limit(eparch, client, pool):
    def now():
        return client.send(calls.read_work_pool(name=pool))

    eparch("work-pool", "pause", pool)
    assert now().is_paused
    assert eparch("work-pool", "resume", pool, "-o", "json").json()["is_paused"] is False
    eparch("work-pool", "set-concurrency-limit", pool, 3)
    assert now().concurrency_limit == 3
    eparch("work-pool", "clear-concurrency-limit", pool)
    assert now().concurrency_limit is None
    eparch("work-pool", "update", pool, "--description", "mine", "--concurrency-limit", 0)
    assert (now().description, now().concurrency_limit) == ("mine", 0)
    assert "nothing to change" in eparch("work-pool", "update", pool, code=2).err


def test_every_format_of_a_list_and_of_one(eparch, client, pool):
    listed = eparch("work-pool", "ls", "-o", "json").json()
    assert pool in [one["name"] for one in listed]
    lines = eparch("work-pool", "ls", "-o", "jsonl").out.splitlines()
    assert len(lines) == len(listed)
    assert f"name: {pool}" in eparch("work-pool", "ls", "-o", "yaml").out
    table = eparch("work-pool", "ls", "-v").out.splitlines()
    assert table[0].split()[:3] == ["NAME", "TYPE", "STATUS"]
    assert len(table) == len(listed) + 1
    assert eparch("work-pool", "inspect", pool, "-o", "json").json()["type"] == "process"
    assert f"name: {pool}" in eparch("work-pool", "inspect", pool, "-o", "yaml").out


def test_delete_can_be_tried_and_asks(eparch, client, pool):
    assert eparch("work-pool", "delete", pool, "--dry-run").err == f"Would delete work pool '{pool}'.\n"
    assert "Add --yes." in eparch("work-pool", "delete", pool, code=2).err
    eparch("work-pool", "inspect", pool)
    eparch("work-pool", "delete", pool, "-y")
    eparch("work-pool", "inspect", pool, code=3)


def test_p18_default_pool(eparch, client):
    name = f"pool-{uuid4().hex[:8]}"
    eparch("work-pool", "create", name, "-t", "process", "--set-as-default")
    assert eparch("work-pool", "preview", code=0).err == "No run is due within 1 h.\n"
    eparch("work-queue", "create", "urgent")
    assert {one["name"] for one in eparch("work-queue", "ls", "-p", name, "-o", "json").json()} == {
        "default",
        "urgent",
    }


def test_queues(eparch, client, pool):
    made = eparch("work-queue", "create", "urgent", "-p", pool, "-l", 2, "-q", 1, "-o", "json").json()
    assert (made["name"], made["concurrency_limit"], made["priority"]) == ("urgent", 2, 1)
    assert "urgent" in eparch("work-queue", "ls", "-p", pool, "-m", "urg").out
    assert "default" not in eparch("work-queue", "ls", "-p", pool, "-m", "urg").out
    eparch("work-queue", "pause", "urgent", "-p", pool)
    assert eparch("work-queue", "inspect", "urgent", "-p", pool, "-o", "json").json()["is_paused"] is True
    assert eparch("work-queue", "inspect", made["id"], "-o", "json").json()["name"] == "urgent"
    eparch("work-queue", "resume", "urgent", "-p", pool)
    eparch("work-queue", "set-concurrency-limit", "urgent", 5, "-p", pool)
    cleared = eparch("work-queue", "clear-concurrency-limit", "urgent", "-p", pool, "-o", "json").json()
    assert cleared["concurrency_limit"] is None
    done = eparch("work-queue", "inspect", "urgnt", "-p", pool, code=3)
    assert "Did you mean 'urgent'?" in done.err
    eparch("work-queue", "preview", "urgent", "-p", pool)
    eparch("work-queue", "slots", "urgent", "-p", pool)
    eparch("work-queue", "delete", "urgent", "-p", pool, "--dry-run")
    eparch("work-queue", "delete", "urgent", "-p", pool, "-y")
    eparch("work-queue", "inspect", "urgent", "-p", pool, code=3)


def test_queue_name_of_several_pools_asks_which(eparch, client, pool):
    other = f"pool-{uuid4().hex[:8]}"
    eparch("work-pool", "create", other, "-t", "process")
    done = eparch("work-queue", "inspect", "default", code=2)
    assert "Add --pool NAME." in done.err


def test_workers_are_listed(eparch, client, pool):
    beat = Heartbeat(name="w1", heartbeat_interval_seconds=30)
    client.send(calls.heartbeat_worker(work_pool_name=pool, body=beat))
    (found,) = eparch("worker", "ls", "-p", pool, "-o", "json").json()
    assert (found["name"], found["status"]) == ("w1", "ONLINE")
    assert pool in eparch("worker", "ls").out
    checks = {one["name"]: one for one in eparch("doctor", "-o", "json", code=None).json()}
    assert checks[f"work pool {pool}"]["detail"] == "process, 1 online"
    assert checks["server"]["status"] == "ok"


def test_w11_w18_w29_a_worker_is_inspected_drained_and_read(eparch, client, pool, tmp_path):
    command = [sys.executable, "-m", "eparch", "worker", "start", "-p", pool, "-n", "builder", "-l", "3"]
    place = {"work_pool_name": pool, "name": "builder"}
    follower = None
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen([*command, "--label", "zone=a"], stdout=log, stderr=log)
    try:
        assert until(lambda: lines_of(client, place))
        follow = [*command[:4], "logs", "builder", "-p", pool, "-f", "-o", "jsonl"]
        follower = subprocess.Popen(follow, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert f"'builder' serves the pool '{pool}'" in follower.stdout.readline()
        (one,) = eparch("worker", "ls", "-p", pool, "-o", "json").json()
        assert (one["name"], one["status"], one["about"]["software"]) == ("builder", "ONLINE", "eparch")
        assert "0/3" in eparch("worker", "ls", "-p", pool).out
        shown = eparch("worker", "inspect", "builder", "-p", pool).out
        assert f"pid             {worker.pid}" in shown
        assert "zone" in shown
        assert "Did you mean 'builder'?" in eparch("worker", "inspect", "bilder", "-p", pool, code=3).err
        assert "serves the pool" in eparch("worker", "logs", "builder", "-p", pool).out

        done = eparch("worker", "drain", "builder", "-p", pool, "-o", "json")
        assert "finishes its runs" in done.err
        assert done.json()[0]["status"] == "DRAINING"
        assert "takes no more runs" in follower.stdout.readline()
        eparch("worker", "drain", "builder", "-p", pool, "--off")
        assert "takes runs again" in follower.stdout.readline()
        eparch("worker", "drain", "builder", "-p", pool, "--exit")
        assert worker.wait(60) == 0, (tmp_path / "log").read_text()
        assert eparch("worker", "inspect", "builder", "-o", "json").json()["status"] == "OFFLINE"
        assert "offline" in eparch("worker", "drain", "builder", "-p", pool, code=5).err
        assert "cannot be" in eparch("worker", "start", "-p", pool, "--label", "zone", code=2).err
    finally:
        worker.kill()
        worker.wait()
        if follower is not None:
            follower.kill()
            follower.communicate()


def lines_of(client, place):
    """What the server keeps of a worker's log."""
    return client.send(calls.read_worker_logs(**place, body={}))


def until(true, seconds=30):
    """Whether it becomes true; another process tells nobody when."""
    deadline = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def test_w2_worker_of_another_type_is_refused(eparch, client, pool):
    done = eparch("worker", "start", "-p", pool, "-t", "docker", "--run-once", code=None)
    assert done.code not in (0, None)
    assert "docker" in done.err
    assert "process" in done.err


def test_w3_w8_worker_makes_its_pool_and_runs_once(eparch, client):
    name = f"pool-{uuid4().hex[:8]}"
    assert eparch("worker", "start", "-p", name, "--run-once", code=None).code != 0
    refused = ("worker", "start", "-p", name, "-t", "process", "--run-once", "--no-create-pool-if-not-found")
    assert eparch(*refused, code=None).code != 0
    eparch("worker", "start", "-p", name, "-t", "process", "-q", "mine", "--run-once")
    assert client.send(calls.read_work_pool(name=name)).type == "process"
    assert client.send(calls.read_work_queue_by_name(work_pool_name=name, name="mine"))


def test_worker_needs_a_pool(eparch, client):
    assert "Add --pool NAME." in eparch("worker", "start", code=2).err
