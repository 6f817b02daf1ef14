"""The command line in this process (fast) and in a process of its own (as people run it)."""

import os
import subprocess
import sys
from dataclasses import dataclass

import msgspec
import pytest

from eparch.cli import app


@dataclass
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self):
        """Its data."""
        return msgspec.json.decode(self.out)

    def error(self):
        """Its error, told with ``-o json``."""
        return msgspec.json.decode(self.err.splitlines()[-1])["error"]


@pytest.fixture
def environ(monkeypatch, tmp_path):
    """An environment in which no setting of the caller is left."""
    for name in list(os.environ):
        if name.startswith(("EPARCH", "PREFECT")) or name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EPARCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return monkeypatch


@pytest.fixture
def run(environ, capfd):
    """Runs a command in this process."""

    def runner(*arguments, code=None):
        capfd.readouterr()
        done = Done(app.run([str(word) for word in arguments]), *capfd.readouterr())
        assert code is None or done.code == code, done
        return done

    return runner


@pytest.fixture
def eparch(environ):
    """Runs a command in a process of its own; ``code`` is what it has to end with, None is any."""

    def runner(*arguments, code=0, input=None, env=None, timeout=60):
        done = subprocess.run(
            [sys.executable, "-m", "eparch", *map(str, arguments)],
            capture_output=True,
            text=True,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            env={**os.environ, **(env or {})},
            timeout=timeout,
            check=False,
        )
        found = Done(done.returncode, done.stdout, done.stderr)
        assert code is None or found.code == code, found
        return found

    return runner


@pytest.fixture
def client(server, environ):
    """The environment points at the server, and a client of it."""
    from eparch.client.http import Client

    environ.setenv("EPARCH_API_URL", server.api_url)
    with Client(server.api_url) as found:
        yield found
