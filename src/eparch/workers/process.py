"""Runs as processes on the worker's own machine.

Owns how a process is started, held back, watched, streamed and ended with all that it started. A run's
process has a session of its own: a signal to the worker does not reach it, the worker ends it when it stops
cleanly. Works on Linux and macOS.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

import msgspec

from eparch.core.errors import InfrastructureError, Invalid
from eparch.core.infrastructure_types import read_type
from eparch.core.model import Json, Value
from eparch.workers.infrastructure import Exit, Infrastructure
from eparch.workers.jobs import command_of
from eparch.workers.streams import Streams

MARK = "_EPARCH_JOB"
"""Variable in the environment of a job's processes: its labels, by which they are found."""

# The shell waits for a line, then becomes the command: same process, and no user code before the line. Where
# the worker dies first, the line never comes and nothing is run.
_GATE = 'IFS= read -r go || exit 75; exec "$@" </dev/null'

_REST = 2.0
"""Seconds that what a job left running in its process group gets to end after SIGTERM."""

_KILLED = 30.0
"""Seconds after which a killed process that is still there is given up."""

_STEP = 0.02

_REMEMBERED = 100
"""Jobs that are over and whose exit is still known."""


class ProcessJob(Value, frozen=True, kw_only=True):
    """One process that is to run."""

    name: str | None = None
    env: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    command: str | list[str] | None = None
    stream_output: bool | None = True
    working_dir: str | None = None


_TYPE = read_type("process")


class ProcessInfrastructure(Infrastructure[ProcessJob]):
    """Jobs are processes; a handle is ``host:pid:start``, so that a number used again is not taken for the
    job.
    """

    type: ClassVar[str] = "process"
    display_name: ClassVar[str] = _TYPE.display_name
    description: ClassVar[str] = _TYPE.description
    base_job_template: ClassVar[dict[str, Json]] = _TYPE.default_base_job_configuration

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}
        self._host = socket.gethostname().replace(":", "-")

    def render(self, job: Mapping[str, Json]) -> ProcessJob:
        """The process that a job configuration describes; keys that a process has no use for are ignored."""
        try:
            config = msgspec.convert(dict(job), ProcessJob, strict=False)
        except msgspec.ValidationError as error:
            raise Invalid(f"The job does not fit a process: {error}") from error
        command_of(config.command)
        return config

    def start(self, config: ProcessJob, recorded: Callable[[str], None]) -> str:
        """Start a process that waits, record it, and let it go."""
        self._forget_oldest()
        job = _Job(config)
        handle = f"{self._host}:{job.pid}:{_started(job.pid)}"
        self._jobs[handle] = job
        try:
            recorded(handle)
            job.go()
        except BaseException:
            job.end(0.0)
            del self._jobs[handle]
            raise
        return handle

    def watch(self, handle: str) -> Exit:
        """Wait for the end of the process; the code of one that another worker started is not known."""
        job = self._jobs.get(handle)
        if job is not None:
            job.over.wait()
            return job.exit
        pid = self._pid_of(handle)
        while pid is not None and _is(pid, handle):
            time.sleep(_STEP * 10)
        return Exit(code=None)

    def stop(self, handle: str, grace: float) -> None:
        """End the process group, and processes that left the group but still carry the job's mark."""
        job = self._jobs.get(handle)
        if job is not None:
            job.end(grace)
            return
        pid = self._pid_of(handle)
        if pid is not None and _is(pid, handle):
            mark = _environment_of(pid).get(MARK, "")
            _end_group(pid, grace, lambda: not _is(pid, handle))
            _end_marked(mark, grace)

    def find(self, labels: Mapping[str, str]) -> list[str]:
        """Processes of this machine that lead a job with these labels."""
        wanted = set(labels.items())
        found = []
        for pid in _pids():
            mark = _environment_of(pid).get(MARK)
            if mark and wanted <= set(parse_qsl(mark)) and _leads(pid):
                found.append(f"{self._host}:{pid}:{_started(pid)}")
        return found

    def _forget_oldest(self) -> None:
        over = [handle for handle, job in list(self._jobs.items()) if job.over.is_set()]
        for handle in over[:-_REMEMBERED]:
            self._jobs.pop(handle, None)

    def _pid_of(self, handle: str) -> int | None:
        """The process of a handle of this machine; None if the text is not one of ours.

        Raises:
            InfrastructureError: it is on another machine, where nothing can be known from here.
        """
        host, _, rest = handle.partition(":")
        pid, _, _ = rest.partition(":")
        if not pid.isdecimal():
            return None
        if host != self._host:
            raise InfrastructureError(
                f"The process {handle} cannot be reached",
                why=f"it is on the machine '{host}', this is '{self._host}'",
                fix=f"let a worker on '{host}' do it",
            )
        return int(pid)


class _Job:
    """One process that this worker started, from its gate to the end of its last descendant."""

    def __init__(self, config: ProcessJob) -> None:
        self.temporary: str | None = None
        directory = config.working_dir
        if not directory:
            directory = self.temporary = tempfile.mkdtemp(prefix="eparch-")
        elif not Path(directory).is_dir():
            raise InfrastructureError(
                f"The working directory '{directory}' is not there",
                why=f"on this machine, {socket.gethostname()}",
                fix="correct the job variable 'working_dir', or make the directory",
            )
        # A unique last label tells two starts of one run from each other.
        self.mark = urlencode({**config.labels, "eparch.start": os.urandom(8).hex()})
        self.exit = Exit(code=None)
        self.over = threading.Event()
        try:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "sh", *command_of(config.command)],
                cwd=directory,
                env=_environment(config.env) | {MARK: self.mark},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._clean()
            raise InfrastructureError("The process could not be started", why=str(error)) from error
        self.pid = self.process.pid
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.streams = Streams(self.process.stdout, self.process.stderr, show=bool(config.stream_output))
        threading.Thread(target=self._reap, name=f"job-{self.pid}", daemon=True).start()

    def go(self) -> None:
        """Open the gate."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(b"go\n")
            self.process.stdin.flush()
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def end(self, grace: float) -> None:
        """Ask all of it to end, kill what is left after ``grace`` seconds, and wait until it is gone."""
        if not self.over.is_set():
            self._signal(signal.SIGTERM)
            if not self.over.wait(grace):
                self._signal(signal.SIGKILL)
                if not self.over.wait(_KILLED):
                    raise InfrastructureError(
                        f"The process {self.pid} does not end", why="it was killed, and is there still"
                    )
        _end_marked(self.mark, grace)

    def _signal(self, number: int) -> None:
        # Once it is reaped its number may be somebody else's.
        if self.process.returncode is None:
            _signal_group(self.pid, number)

    def _reap(self) -> None:
        """Wait for the process, end what it left in its group, and read the last of its output."""
        try:
            code = _wait(self.process)
            _end_group(self.pid, _REST, lambda: not _group_exists(self.pid))
            tail = self.streams.finish()
            self.exit = Exit(code=code, stderr=tail)
            if self.process.stdin is not None:
                with suppress(BrokenPipeError):
                    self.process.stdin.close()
        finally:
            self._clean()
            self.over.set()

    def _clean(self) -> None:
        if self.temporary is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)


def _environment(own: Mapping[str, str | None]) -> dict[str, str]:
    """This process's environment with ``own`` over it; None removes (row W24)."""
    merged: dict[str, str | None] = {**os.environ, **own}
    return {name: value for name, value in merged.items() if value is not None}


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for the leader; its number stays taken while its group is signalled for the first time."""
    waitid: Any = getattr(os, "waitid", None)
    if waitid is not None:
        with suppress(ChildProcessError):
            waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        _signal_group(process.pid, signal.SIGTERM)
    return process.wait()


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _group_exists(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _end_group(pid: int, grace: float, gone: Callable[[], bool]) -> None:
    """SIGTERM to a group, SIGKILL after ``grace`` seconds; over when ``gone``, or when killing did not
    help.
    """
    if gone():
        return
    _signal_group(pid, signal.SIGTERM)
    if not _becomes(gone, grace):
        _signal_group(pid, signal.SIGKILL)
        # A zombie that nobody reaps stays in its group for ever: it runs nothing, so it is not waited for.
        _becomes(gone, 1.0)


def _end_marked(mark: str, grace: float) -> None:
    """End processes that carry ``mark`` wherever they went, such as those with a session of their own."""

    def left() -> list[int]:
        return [pid for pid in _pids() if mark and _environment_of(pid).get(MARK) == mark]

    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        if _becomes(lambda: not left(), grace if number == signal.SIGTERM else 1.0):
            return


def _becomes(true: Callable[[], bool], seconds: float) -> bool:
    """Whether it becomes true within ``seconds``; there is no signal to wait on for a stranger's child."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() >= end:
            return False
        time.sleep(_STEP)
    return True


# What the system says of processes: Linux by /proc, macOS by ps.

_PROC = Path("/proc/self/environ").exists()


def _ps(*arguments: str) -> str:
    done = subprocess.run(["ps", *arguments], capture_output=True, text=True, errors="replace", check=False)
    return done.stdout


def _pids() -> Iterator[int]:
    names = os.listdir("/proc") if _PROC else _ps("-U", str(os.getuid()), "-o", "pid=").split()
    own = os.getpid()
    return (int(name) for name in names if name.isdecimal() and int(name) != own)


def _environment_of(pid: int) -> dict[str, str]:
    """The environment that a process began with, as far as it may be read; a zombie has none."""
    if _PROC:
        try:
            words = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            return {}
    else:
        words = _ps("eww", "-o", "command=", "-p", str(pid)).split()
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _leads(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except (ProcessLookupError, PermissionError):
        return False


def _started(pid: int) -> str:
    """When a process began, in a form that is the same each time it is asked for; empty if it is gone."""
    if _PROC:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return ""
        fields = stat.rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    state, _, begun = _ps("-o", "stat=", "-o", "lstart=", "-p", str(pid)).strip().partition(" ")
    return "" if state.startswith("Z") else "".join(filter(str.isalnum, begun))


def _is(pid: int, handle: str) -> bool:
    """Whether process ``pid`` is the one that the handle names, and lives."""
    started = _started(pid)
    return bool(started) and handle.rpartition(":")[2] == started
