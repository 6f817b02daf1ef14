"""The shared local server: found, started once, reused, stopped; stale records do no harm."""

import contextlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eparch import settings
from eparch.client import local
from eparch.core.errors import Unreachable

TINY = (sys.executable, str(Path(__file__).with_name("tiny_server.py")))


@pytest.fixture
def here(tmp_path):
    found = settings.load({"EPARCH_HOME": str(tmp_path)})
    yield found
    for pid in starts(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def starts(home):
    path = home / "starts"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def test_started_once_and_reused(here):
    assert local.find(here) is None
    url = local.find_or_start(here, command=TINY)
    assert local.find_or_start(here, command=TINY) == url
    assert local.url_of(here) == url
    assert len(starts(here.home)) == 1
    assert (here.home / "starts").read_text().split()[1] == "300"


def test_configured_url_is_taken_as_it_is(tmp_path):
    found = settings.load({"EPARCH_HOME": str(tmp_path), "EPARCH_API_URL": "http://h/api"})
    assert local.url_of(found) == "http://h/api"


def test_many_processes_at_once_start_one(here):
    script = (
        "import sys; from eparch import settings; from eparch.client import local;"
        "print(local.find_or_start(settings.load(), command=sys.argv[1:]))"
    )
    environ = {**os.environ, "EPARCH_HOME": str(here.home)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, *TINY], env=environ, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    urls = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(urls) == 1
    assert urls != {""}
    assert len(starts(here.home)) == 1


def test_many_threads_at_once_start_one(here):
    with ThreadPoolExecutor(6) as pool:
        urls = set(pool.map(lambda _: local.find_or_start(here, command=TINY), range(6)))
    assert len(urls) == 1
    assert len(starts(here.home)) == 1


def test_server_outlives_the_process_that_started_it_and_is_not_its_session(here):
    local.find_or_start(here, command=TINY)
    (pid,) = starts(here.home)
    assert os.getsid(pid) == pid


def test_dead_server_is_replaced(here):
    first = local.find_or_start(here, command=TINY)
    (pid,) = starts(here.home)
    os.kill(pid, signal.SIGKILL)
    assert local._wait_gone(pid, 10)
    assert local.find(here) is None
    assert local.find_or_start(here, command=TINY) != ""
    assert len(starts(here.home)) == 2
    assert first


def test_pid_of_another_program_is_not_taken_for_a_server_and_not_stopped(here):
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        stale = local.ServerState(
            pid=stranger.pid, url="http://127.0.0.1:9/api", started="2030-01-01T00:00:00Z", version="0"
        )
        local.write_state(here.home, stale)
        assert local.find(here) is None
        assert local.stop(stale, here.home)
        assert stranger.poll() is None
        assert local.read_state(here.home) is None
    finally:
        stranger.kill()
        stranger.communicate()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}'])
def test_broken_record_is_no_server(here, text):
    here.home.mkdir(exist_ok=True)
    local.state_path(here.home).write_text(text)
    assert local.find(here) is None
    assert local.find_or_start(here, command=TINY)


def test_server_that_does_not_start_says_why(here):
    (here.home / "broken").touch()
    with pytest.raises(Unreachable) as caught:
        local.find_or_start(here, command=TINY)
    assert caught.value.why == "The database cannot be used. It is of a newer version."
    assert str(here.home / "server.log") in caught.value.fix


@pytest.mark.parametrize("deaf", [False, True])
def test_stop_ends_the_process_and_the_record(here, deaf):
    if deaf:
        (here.home / "deaf").touch()
    local.find_or_start(here, command=TINY)
    state = local.find(here)
    assert state is not None
    assert local.stop(state, here.home, timeout=0.1 if deaf else 15) is not deaf
    assert not local.is_alive(state.pid)
    assert local.find(here) is None
    assert not local.state_path(here.home).exists()


def test_record_of_a_later_server_is_not_removed_by_an_earlier_one(here):
    state = local.ServerState(pid=1, url="http://h/api", started="2030-01-01T00:00:00Z", version="0")
    local.write_state(here.home, state)
    local.clear_state(here.home, 2)
    assert local.read_state(here.home) is not None
    local.clear_state(here.home, 1)
    assert local.read_state(here.home) is None
