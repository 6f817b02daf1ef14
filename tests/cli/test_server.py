"""Acceptance: starting, seeing and stopping the server; the server of the home is found without a URL."""

import pytest

from eparch.core.model import decode


@pytest.fixture
def home(eparch, tmp_path):
    """The home; the server that a test leaves in it is stopped."""
    yield tmp_path / "home"
    eparch("server", "stop", code=None)


def test_background_start_status_stop(eparch, home):
    done = eparch("server", "start", "--background", "--port", "0", "-o", "json")
    state = done.json()
    assert state["url"].startswith("http://127.0.0.1:")
    assert state["shared"] is False
    assert decode((home / "server.json").read_bytes()) == state
    found = eparch("server", "status", "-o", "json").json()
    assert (found["server"], found["process"]) == (state["url"], state["pid"])
    assert eparch("flow", "ls", "-o", "json").json() == []
    error = eparch("server", "start", "-b", "--port", "0", "-o", "json", code=5).error()
    assert state["url"] in error["message"]
    eparch("server", "stop")
    assert not (home / "server.json").exists()
    eparch("server", "status", "--api-url", state["url"], code=6)
    assert "No server of this home runs." in eparch("server", "stop", code=3).err


def test_port_that_is_taken_is_told(eparch, home):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = eparch("server", "start", "--port", port, code=None)
        assert done.code != 0
        assert str(port) in done.err
        assert "Traceback" not in done.err
        behind = eparch("server", "start", "-b", "--port", port, code=6)
        assert "did not start" in behind.err


def test_a_missing_driver_is_told_in_three_lines(eparch, home, tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "asyncpg.py").write_text("raise ModuleNotFoundError(\"No module named 'asyncpg'\")\n")
    env = {"PYTHONPATH": str(folder), "EPARCH_DATABASE_URL": "postgresql://me:geheim@127.0.0.1:1/x"}
    done = eparch("server", "start", "--port", "0", env=env, code=1)
    error, why, fix = done.err.splitlines()
    assert error == "error: The driver for PostgreSQL is not installed."
    assert "asyncpg" in why
    assert "pip install 'eparch[postgres]'" in fix
    assert "geheim" not in done.out + done.err


def test_status_waits_no_longer_than_told(eparch, home):
    options = ("--wait", "--timeout", "0.2", "--api-url", "http://127.0.0.1:1/api")
    assert "Cannot reach" in eparch("server", "status", *options, code=6).err


def test_shared_server_stops_when_idle(eparch, home):
    state = eparch("server", "start", "-b", "--port", "0", "--idle-seconds", "0.5", "-o", "json").json()
    assert state["shared"] is True
    # it ends by itself: its process is gone when the status says so, and its record with it
    from eparch.client import local

    assert local._wait_gone(state["pid"], 30)
    assert not (home / "server.json").exists()
