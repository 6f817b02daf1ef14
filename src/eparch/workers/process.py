"""Runs as processes on the worker's own machine.

Owns how a process is started, watched, stopped and found again. Each job is held by a small process of its
own, ``holder``, which outlives the worker; this is the worker's side of it. Works on Linux and macOS.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode

import msgspec

from eparch.core.errors import InfrastructureError, Invalid
from eparch.core.infrastructure_types import read_type
from eparch.core.model import Json, Value
from eparch.settings import Settings
from eparch.workers.descendants import (
    MARK,
    end_group,
    end_marked,
    environment_of,
    group_exists,
    leads,
    pids,
    started,
)
from eparch.workers.holding import Holding, start_holder
from eparch.workers.infrastructure import Exit, Infrastructure
from eparch.workers.jobs import CLAIM_TOKEN, RUN_ID, command_of
from eparch.workers.places import own_folder, sweep
from eparch.workers.warm_parent import WarmParent, can_fork

logger = logging.getLogger("eparch.worker")

_KILLED = 30.0
"""Seconds after which a killed process that is still there is given up."""

_STEP = 0.2
"""Seconds between two looks at a process that somebody else holds."""

_GRACE = 20.0
"""Seconds that a job has to end which its holder stops while no worker is there."""

_ANSWER = 5.0
"""Seconds that a holder has to answer."""

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

    def __init__(self, *, warm: bool = False) -> None:
        """``warm`` lets runs be forked from a process that is ready, where that is possible (ADR 0013)."""
        self._warm = WarmParent() if warm and can_fork() else None
        self._jobs: dict[str, _Job] = {}
        self._host = socket.gethostname().replace(":", "-")

    def prepare(self, settings: Settings) -> None:
        """Have the process from which runs are forked on its way, if that is wanted."""
        sweep()
        if settings.worker_warm_start and can_fork():
            self._warm = self._warm or WarmParent()
            self._warm.prepare()

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
        gate = _Gate(config, self._warm)
        handle = f"{self._host}:{gate.pid}:{gate.started}"
        try:
            recorded(handle)
            self._jobs[handle] = gate.open()
        except BaseException:
            gate.shut()
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
            time.sleep(_STEP)
        return Exit(code=None)

    def stop(self, handle: str, grace: float) -> None:
        """End the process group, and processes that left the group but still carry the job's mark."""
        job = self._jobs.get(handle)
        if job is not None:
            job.end(grace)
            return
        pid = self._pid_of(handle)
        if pid is not None and _is(pid, handle):
            mark = environment_of(pid).get(MARK, "")
            end_group(pid, grace, lambda: not _is(pid, handle))
            end_marked(mark, grace)

    def find(self, labels: Mapping[str, str]) -> list[str]:
        """Processes of this machine that lead a job with these labels."""
        wanted = set(labels.items())
        found = []
        for pid in pids():
            mark = environment_of(pid).get(MARK)
            if mark and wanted <= set(parse_qsl(mark)) and leads(pid):
                found.append(f"{self._host}:{pid}:{started(pid)}")
        return found

    def labels_of(self, handle: str) -> dict[str, str]:
        """The labels in the process's environment."""
        pid = self._pid_of(handle)
        if pid is None or not _is(pid, handle):
            return {}
        return dict(parse_qsl(environment_of(pid).get(MARK, "")))

    def adopt(self, handle: str) -> bool:
        """Ask its holder; one whose holder was killed has nobody left to ask."""
        pid = self._pid_of(handle)
        if pid is None or handle in self._jobs:
            return False
        job = _ask_for(own_folder() / _place_of(pid, handle.rpartition(":")[2]), pid)
        if job is not None:
            self._jobs[handle] = job
        return job is not None

    def renewed(self, handles: Sequence[str], asked: float) -> None:
        """Tell the holders, whose monotonic clock is the same machine's."""
        for handle in handles:
            job = self._jobs.get(handle)
            if job is not None:
                job.say(renewed=asked)

    def close(self) -> None:
        """Leave the jobs to their holders, as a worker does that dies."""
        for job in self._jobs.values():
            job.leave()
        if self._warm is not None:
            self._warm.close()

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


class _Gate:
    """A process that waits to become a job, and the holder that made it."""

    def __init__(self, config: ProcessJob, warm: WarmParent | None) -> None:
        self.config = config
        # A unique last label tells two starts of one run from each other.
        self.mark = urlencode({**config.labels, "eparch.start": os.urandom(8).hex()})
        self.holding, told = (warm and self._start_warm(warm)) or self._start_cold()
        self.pid = int(told.get("pid", 0))
        self.started = started(self.pid)
        if not self.pid:
            self.shut()
            raise InfrastructureError("The process could not be started", why="its holder ended at once")

    def _start_warm(self, warm: WarmParent) -> tuple[Holding, dict[str, Any]] | None:
        spec = _spec_of(self.config, self.mark)
        begun = warm.start_holder(spec)
        if begun is None:
            _remove_directory(spec)
        return begun

    def _start_cold(self) -> tuple[Holding, dict[str, Any]]:
        spec = _spec_of(self.config, self.mark)
        try:
            holding = start_holder()
        except OSError as error:
            _remove_directory(spec)
            raise InfrastructureError("The process could not be started", why=str(error)) from error
        holding.say(**spec)
        return holding, holding.hear()

    def open(self) -> _Job:
        """Let it become the job.

        Raises:
            InfrastructureError: its command cannot be run.
        """
        try:
            folder = own_folder()
        except OSError as error:
            # Nobody can take the job over when this worker is gone, which is no reason not to begin.
            logger.warning("There is no room for a socket of the job %d: %s", self.pid, error)
            folder = Path(os.devnull)
        self.holding.say(go=str(folder / _place_of(self.pid, self.started)))
        told = self.holding.hear()
        if "began" in told:
            return _Job(self.holding, self.pid, self.mark, bool(self.config.stream_output))
        raise _explain(self.config, int(told.get("number", 0)), str(told.get("error", "its holder ended")))

    def shut(self) -> None:
        """There will be no job; nothing of it is left."""
        self.holding.close()
        self.holding.gone()


class _Job:
    """A job that this worker looks after: its holder, seen from here."""

    def __init__(self, holding: Holding, pid: int, mark: str, show: bool) -> None:
        self.pid, self.mark, self.show = pid, mark, show
        self.say = holding.say
        self.exit = Exit(code=None)
        self.over = threading.Event()
        self._holding = holding
        self._left = False
        threading.Thread(target=self._follow, name=f"job-{pid}", daemon=True).start()

    def end(self, grace: float) -> None:
        """Ask all of it to end, kill what is left after ``grace`` seconds, and wait until it is gone."""
        self.say(stop=grace)
        if not self.over.wait(grace + _KILLED):
            raise InfrastructureError(
                f"The process {self.pid} does not end", why="it was killed, and is there still"
            )

    def leave(self) -> None:
        """Hear nothing more of it; it goes on."""
        self._left = True
        self._holding.leave()

    def _follow(self) -> None:
        """Hear what the holder says until it is over."""
        try:
            if not self._hear_exit() and not self._left:
                # The holder was killed, and the job with it where the system does that.
                end_group(self.pid, 0.0, lambda: not group_exists(self.pid))
                end_marked(self.mark, 0.0)
                self.exit = Exit(code=None, stderr="The process that held the job was killed.")
        finally:
            self._holding.close()
            if not self._left:
                self._holding.gone()
            self.over.set()

    def _hear_exit(self) -> bool:
        with suppress(OSError, ValueError):
            for message in self._holding:
                if "taken" in message:
                    self._left, self.exit = True, Exit(code=None, taken=True)
                    return True
                if "exit" in message:
                    self.exit = Exit(code=message["exit"], stderr=message["stderr"])
                    self.say(known=True)
                    return True
                if "text" in message:
                    self._show(message["stream"], message["text"])
                    self.say(seen=message["number"])
        return False

    def _show(self, stream: int, text: str) -> None:
        shown_on = sys.stdout if stream == 1 else sys.stderr
        if not self.show:
            return
        try:
            shown_on.write(text)
            shown_on.flush()
        except (OSError, ValueError):
            # Whoever read the worker's output is gone; the run goes on.
            self.show = False


def _ask_for(place: Path, pid: int) -> _Job | None:
    """The job whose holder listens at ``place``; None if it is held, or nobody listens."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_ANSWER)
    try:
        connection.connect(str(place))
    except OSError:
        connection.close()
        return None
    holding = Holding(connection)
    holding.say(adopt=True)
    told = holding.hear(_ANSWER)
    if "adopted" not in told:
        holding.close()
        return None
    return _Job(holding, pid, told["mark"], told["show"])


def _place_of(pid: int, begun: str) -> str:
    return f"{pid}-{begun}"


def _spec_of(config: ProcessJob, mark: str) -> dict[str, Any]:
    """What its holder has to know of a job; makes its working directory."""
    directory, temporary = _directory_of(config)
    return {
        "command": command_of(config.command),
        "environment": _environment(config.env) | {MARK: mark},
        "directory": directory,
        "temporary": temporary,
        "show": bool(config.stream_output),
        "keep": _keep(config),
    }


def _remove_directory(spec: Mapping[str, Any]) -> None:
    if spec["temporary"]:
        shutil.rmtree(spec["directory"], ignore_errors=True)


def _directory_of(config: ProcessJob) -> tuple[str, bool]:
    """Where the process works, and whether that is made for it."""
    if not config.working_dir:
        try:
            return tempfile.mkdtemp(prefix="eparch-"), True
        except OSError as error:
            raise InfrastructureError(
                "No working directory could be made", why=str(error), fix="free space, or set TMPDIR"
            ) from error
    if not Path(config.working_dir).is_dir():
        raise InfrastructureError(
            f"The working directory '{config.working_dir}' is not there",
            why=f"on this machine, {socket.gethostname()}",
            fix="correct the job variable 'working_dir', or make the directory",
        )
    return config.working_dir, False


def _keep(config: ProcessJob) -> dict[str, Any] | None:
    """What the holder needs to look after the run's claim; None for what is not a run of a worker."""
    labels = config.labels
    run, lease = config.env.get(RUN_ID), labels.get("eparch.io/lease-seconds")
    if not run or not lease:
        return None
    token = config.env.get(CLAIM_TOKEN)
    return {
        "run": run,
        "name": labels.get("prefect.io/flow-run-name", run),
        "pool": labels.get("prefect.io/work-pool-name", ""),
        "token": int(token) if token else None,
        "lease": float(lease),
        "fenced": "eparch.io/fenced" in labels,
        "grace": _GRACE,
    }


def _explain(config: ProcessJob, number: int, why: str) -> InfrastructureError:
    """Why a command could not be run, and what to do."""
    command = command_of(config.command)[0]
    if number == errno.ENOENT:
        return InfrastructureError(
            f"The command '{command}' was not found",
            why=why,
            fix="correct the job variable 'command', or install it on this machine",
        )
    if number in (errno.EACCES, errno.ENOEXEC):
        return InfrastructureError(
            f"The command '{command}' may not be executed",
            why=why,
            fix=f"let this user execute it: chmod +x {command}",
        )
    return InfrastructureError("The process could not be started", why=why)


def _environment(own: Mapping[str, str | None]) -> dict[str, str]:
    """This process's environment with ``own`` over it; None removes (row W24)."""
    merged: dict[str, str | None] = {**os.environ, **own}
    for name, value in merged.items():
        if "\0" in name or "=" in name or (value and "\0" in value):
            raise InfrastructureError(
                "The process could not be started",
                why=f"the environment variable {name!r} cannot be set to this",
                fix="correct the job variable 'env'",
            )
    return {name: value for name, value in merged.items() if value is not None}


def _is(pid: int, handle: str) -> bool:
    """Whether process ``pid`` is the one that the handle names, and lives."""
    begun = started(pid)
    return bool(begun) and handle.rpartition(":")[2] == begun
