"""Finds or starts the server of this machine that scripts and commands share when no URL is configured.

Owns the state file ``server.json`` in the home, the lock around starting, and stopping by it. The server
itself stops when nobody asked it anything for the seconds that ``--idle-seconds`` names.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from eparch.client.http import connect
from eparch.client.retries import Retries
from eparch.core import calls
from eparch.core.errors import EparchError, Unauthorized, Unreachable
from eparch.core.model import Timestamp, Value, decode, encode
from eparch.settings import Settings
from eparch.settings.profiles import write_whole

START_TIMEOUT = 60.0
"""Seconds that a server may take until it answers, its migrations included."""

CHECK_TIMEOUT = 2.0
"""Seconds that a living server may take to say so."""

_started: list[subprocess.Popen[bytes]] = []


class ServerState(Value, frozen=True, kw_only=True):
    """The server that this home knows of; the process that serves writes and removes it."""

    pid: int
    url: str
    started: Timestamp
    version: str
    shared: bool = False
    """Was started for scripts and stops when idle."""


def state_path(home: Path) -> Path:
    """Where the state is kept."""
    return home / "server.json"


def log_path(home: Path) -> Path:
    """Where a server in the background writes its log."""
    return home / "server.log"


def read_state(home: Path) -> ServerState | None:
    """The recorded state, whether its process lives or not; None when there is none that can be read."""
    try:
        return decode(state_path(home).read_bytes(), ServerState)
    except (OSError, msgspec.MsgspecError):
        return None


def write_state(home: Path, state: ServerState) -> None:
    """Record ``state``: a reader sees the old or the new one, never a part."""
    write_whole(state_path(home), encode(state).decode())


def clear_state(home: Path, pid: int) -> None:
    """Remove the record if it is the one of the process ``pid``."""
    state = read_state(home)
    if state is not None and state.pid == pid:
        state_path(home).unlink(missing_ok=True)


def find(settings: Settings) -> ServerState | None:
    """The server of this home, if its process lives and answers as one of ours."""
    state = read_state(settings.home)
    if state is None or not is_alive(state.pid):
        return None
    return state if _answers(settings, state.url) else None


def url_of(settings: Settings) -> str | None:
    """The API URL to use: the configured one, else that of the server of this home, else None."""
    if settings.api_url:
        return settings.api_url
    state = find(settings)
    return state.url if state else None


def find_or_start(settings: Settings, *, command: Sequence[str] | None = None) -> str:
    """The API URL of the server of this home; starts one, shared and in the background, if none lives.

    Any number of processes may ask at once: one of them starts it. ``command`` is how the command line is
    run, for tests.

    Raises:
        Unreachable: it did not start; the reason is the end of its log.
    """
    state = find(settings)
    if state is None:
        idle = settings.local_server_idle_seconds
        options = ["--host", "127.0.0.1", "--port", "0", "--idle-seconds", f"{idle:g}"]
        state = start_detached(settings, options, command=command)
    return state.url


def start_detached(
    settings: Settings, options: Sequence[str], *, command: Sequence[str] | None = None
) -> ServerState:
    """Start ``eparch server start`` with ``options`` in the background, unless a server of this home lives.

    Returns when it answers. It outlives the caller and keeps nothing of it but the environment.

    Raises:
        Unreachable: it did not start; the reason is the end of its log.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with _lock(settings.home / "server.lock"):
        return find(settings) or _start(settings, options, command or (sys.executable, "-m", "eparch"))


def stop(state: ServerState, home: Path, *, timeout: float = 15.0) -> bool:
    """Ask the process to end and wait up to ``timeout`` seconds; False: it had to be killed.

    A stale record, of a process that is gone or is another program by now, is only removed.
    """
    gentle = True
    if is_alive(state.pid) and is_server(state.pid):
        _signal(state.pid, signal.SIGTERM)
        gentle = _wait_gone(state.pid, timeout)
        if not gentle:
            _signal(state.pid, signal.SIGKILL)
            _wait_gone(state.pid, timeout)
    clear_state(home, state.pid)
    return gentle


def is_alive(pid: int) -> bool:
    """Whether the process exists; a dead child of ours is reaped first."""
    if pid <= 0:
        return False
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_server(pid: int) -> bool:
    """Whether the process is a server: numbers are used again, and another program must not be stopped."""
    shown = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    words = shown.stdout.split()
    return "server" in words and "start" in words


def _answers(settings: Settings, url: str) -> bool:
    quick = msgspec.structs.replace(settings, request_timeout=CHECK_TIMEOUT)
    try:
        with connect(quick, api_url=url, retries=Retries(attempts=0)) as client:
            client.send(calls.read_server())
    except Unauthorized:
        return True
    except EparchError:
        return False
    return True


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one process at a time, and let go by the system when that process dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start(settings: Settings, options: Sequence[str], command: Sequence[str]) -> ServerState:
    reader, writer = os.pipe()
    log = log_path(settings.home)
    try:
        with log.open("ab") as output:
            begin = output.tell()
            process = subprocess.Popen(
                [*command, "server", "start", *options, "--ready-fd", str(writer)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(settings),
                cwd=settings.home,
                pass_fds=(writer,),
                start_new_session=True,
            )
        _started.append(process)
        os.close(writer)
        writer = -1
        said = _read_line(reader, time.monotonic() + START_TIMEOUT)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    try:
        return decode(said, ServerState)
    except msgspec.MsgspecError:
        if process.poll() is None:
            process.terminate()
        raise Unreachable(
            "The local server did not start.",
            why=_last_words(log, begin),
            fix=f"See {log}, or start it by hand: eparch server start",
        ) from None


def _environment(settings: Settings) -> dict[str, str]:
    """The caller's environment, the home as settings have it, and no server or run of its own."""
    drop = {"EPARCH_API_URL", "PREFECT_API_URL", "EPARCH_FLOW_RUN_ID", "EPARCH_CLAIM_TOKEN"}
    kept = {name: value for name, value in os.environ.items() if name not in drop}
    return {
        **kept,
        "EPARCH_HOME": str(settings.home),
        "EPARCH_PROFILES_PATH": str(settings.profiles_path),
        "EPARCH_PROFILE": settings.profile,
        "EPARCH_DATABASE_URL": settings.database_url,
    }


def _read_line(reader: int, deadline: float) -> bytes:
    """What the server says when it is ready: one line; less when it died or took too long."""
    said = b""
    while not said.endswith(b"\n"):
        ready, _, _ = select.select([reader], [], [], max(deadline - time.monotonic(), 0))
        part = os.read(reader, 65536) if ready else b""
        if not part:
            break
        said += part
    return said


def _last_words(log: Path, begin: int) -> str:
    """What a server that ended said last: its error with the reason, else its last line."""
    lines: list[str] = []
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(begin, file.seek(0, os.SEEK_END) - 4096))
        lines = [line.strip() for line in file.read().decode(errors="replace").split("\n") if line.strip()]
    told = [n for n, line in enumerate(lines) if line.startswith("error: ")]
    if told:
        parts = lines[told[-1] : told[-1] + 2]
        return " ".join(part.partition(": ")[2] for part in parts if part.startswith(("error: ", "why: ")))
    return lines[-1] if lines else "It said nothing."


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _wait_gone(pid: int, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


__all__ = [
    "ServerState",
    "clear_state",
    "find",
    "find_or_start",
    "read_state",
    "start_detached",
    "stop",
    "url_of",
    "write_state",
]
