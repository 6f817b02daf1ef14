"""The process from which a worker's runs are forked, and what a forked one does to be as if fresh (ADR 0013).

``main`` runs in the warm parent, in each holder and in each run's process: a fork returns from where the
parent waits. The parent imports Eparch and nothing of anybody else's, has one thread and no connection.
Owns what has to be undone after a fork. Does not own when a run is forked: ``workers.warm_parent``.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import logging
import os
import random
import select
import signal
import socket
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from eparch.sdk import execute
from eparch.workers import holder
from eparch.workers.descendants import MARK
from eparch.workers.jobs import COMMAND

NEEDED = (
    "asyncio",
    "encodings.idna",
    "eparch.client.http",
    "eparch.sdk.logs",
    "eparch.steps.builtin",
    "eparch.steps.references",
    "eparch.steps.runner",
)
"""What a run imports on its way to the flow; anything more would shadow modules of the user's."""

HOLDER_COMMAND = (COMMAND[0], "-P", "-m", "eparch.workers.holder")
"""What a holder is called when it is started cold; it is found by this name."""

_CLOCK = 20_000_000
"""Nanoseconds by which the time of a file may be behind the clock."""

_REAP = 1.0
"""Most seconds for which a holder that ended stays a zombie."""


def main(control: int) -> int:
    """Be the parent; in a run's process the exit code of the run. The worker is at the other end of the
    descriptor ``control``; when it closes that, the parent ends and what it forked goes on.
    """
    parent = Parent(socket.socket(fileno=control))
    link = parent.serve()
    if link is not None:
        job = _hold(link, parent.memory)
        link.connection.detach()
        job.become(lambda job: start_over(job, parent.memory))
    return execute.main()


def _hold(link: holder.Link, memory: Memory) -> holder.Job:
    """Hold a job to its end. Returns in the job's process only: what a run leaves to the end of its
    interpreter has to happen there, and a holder has nothing of that kind.
    """
    code = 75
    try:
        memory.write(HOLDER_COMMAND)
        spec = link.wait()
        if spec is not None:
            job = holder.begin(spec)
            if job.pid == 0:
                return job
            code = holder.lead(link, job)
    except BaseException:
        code = 70
    os._exit(code)


class Parent:
    """Waits for the worker's word and forks."""

    def __init__(self, control: socket.socket) -> None:
        begun = time.time_ns() - _CLOCK
        gc.disable()
        os.environ.pop("_EPARCH_ROOM", None)
        for name in NEEDED:
            importlib.import_module(name)
        self.control = control
        self.memory = Memory()
        self.code = look_at_code()
        now = time.time_ns()
        self._is_certain = not any(begun <= modified <= now for modified, *_ in self.code.values())
        gc.collect()
        gc.freeze()
        gc.enable()

    def serve(self) -> holder.Link | None:
        """Fork for every socket that comes; a link in the child, None in the parent at its end."""
        while True:
            has_children = _reap()
            if not select.select([self.control], [], [], _REAP if has_children else None)[0]:
                continue
            word, received, _, _ = socket.recv_fds(self.control, 16, 1)
            if not word:
                os._exit(0)
            for descriptor in received:
                cold = self._unfit()
                if cold is None:
                    try:
                        pid = os.fork()
                    except OSError as error:
                        cold = {"cold": f"no process can be forked, {error}"}
                    else:
                        if pid == 0:
                            return self._cut_off(descriptor)
                connection = socket.socket(fileno=descriptor)
                if cold is not None:
                    holder.Link(connection).send(**cold)
                connection.close()

    def _unfit(self) -> dict[str, Any] | None:
        """Why nothing may be forked from this process; None if it may."""
        if not self._is_certain or look_at_code() != self.code:
            return {"cold": "the installed code has changed", "renew": True}
        if len(os.listdir("/proc/self/task")) > 1:
            return {"cold": "something that is installed starts a thread in every interpreter"}
        return None

    def _cut_off(self, descriptor: int) -> holder.Link:
        """In the child: a session of its own, and nothing open but the way to the worker."""
        os.setsid()
        self.control.detach()
        os.dup2(descriptor, 0)
        _close_all_but(0, 1, 2)
        return holder.Link(socket.socket(fileno=0))


def _reap() -> bool:
    """Let holders go that ended; whether there are others."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False


def look_at_code() -> dict[str, tuple[int, int, int]]:
    """When each file that this process was made of was changed, its size and its number; folders of packages
    too, whose time changes with each that is installed, upgraded or removed.
    """
    places = {sys.executable, os.path.join(sys.prefix, "pyvenv.cfg")}
    places |= {folder for folder in sys.path if folder.endswith(("site-packages", "dist-packages"))}
    places |= {file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    seen = {}
    for place in places:
        with suppress(OSError):
            told = os.stat(place)
            seen[place] = (told.st_mtime_ns, told.st_size, told.st_ino)
    return seen


class Memory:
    """Where the system looks for the command line and the environment of this process (proc(5)): memory of
    its own, so that what a fork has become can be written into it. Whoever looks for the job's mark sees it.

    Raises:
        OSError: the system does not say where it is, or says what is not true.
    """

    def __init__(self) -> None:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        # arg_start to env_end, fields 48 to 51 of proc(5); the first two stand before the bracket.
        begin, self._arguments_end, self._begin, self._end = (int(field) for field in fields[45:49])
        self._arguments = begin
        for name, start, end in (
            ("cmdline", begin, self._arguments_end),
            ("environ", self._begin, self._end),
        ):
            shown = Path(f"/proc/self/{name}").read_bytes()
            if not 0 < start < end or ctypes.string_at(start, end - start) != shown:
                raise OSError(f"/proc/self/{name} is not where the system says")

    def write(self, command: tuple[str, ...], environment: dict[str, str] | None = None) -> None:
        """Show this command and environment, the mark of the job first; what finds no room is not shown."""
        _fill(self._arguments, self._arguments_end, [os.fsencode(word) for word in command])
        if environment is not None:
            first = sorted(environment, key=lambda name: name != MARK)
            pairs = [os.fsencode(f"{name}={environment[name]}") for name in first]
            _fill(self._begin, self._end, pairs)


def _fill(start: int, end: int, words: list[bytes]) -> None:
    room, text = end - start, b""
    for word in words:
        if len(text) + len(word) < room:
            text += word + b"\0"
    ctypes.memset(start, 0, room)
    ctypes.memmove(start, text, len(text))


def _close_all_but(*kept: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with suppress(OSError):
                os.close(int(name))


def start_over(job: holder.Job, memory: Memory) -> None:
    """Make this forked process what a new interpreter would be that runs the job's command. What it inherits
    from the parent on purpose: the imported modules, the seed of ``hash`` and the layout of memory.
    """
    _close_all_but(0, 1, 2, job.fails)
    _forget_signals()
    _take_environment(job.spec["environment"])
    memory.write(COMMAND, job.spec["environment"])
    _take_place()
    _forget_chance()


def _forget_signals() -> None:
    """As the interpreter finds and sets them at its start."""
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    own: dict[int, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGPIPE: signal.SIG_IGN,
        signal.SIGXFSZ: signal.SIG_IGN,
    }
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):
            signal.signal(number, own.get(number, signal.SIG_DFL))


def _take_environment(environment: dict[str, str]) -> None:
    """Nothing may point into the old one afterwards: it is written over."""
    os.environ.clear()
    ctypes.CDLL(None).clearenv()
    os.environ.update(environment)
    time.tzset()
    tempfile.tempdir = None


def _take_place() -> None:
    """``python -m eparch.sdk.execute`` in this directory."""
    main_module = sys.modules["__main__"]
    main_module.__spec__, main_module.__package__ = execute.__spec__, execute.__package__
    main_module.__file__ = execute.__file__
    sys.argv = [str(execute.__file__)]
    sys.orig_argv = list(COMMAND)
    if not sys.flags.safe_path:
        sys.path.insert(0, os.getcwd())
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()


def _forget_chance() -> None:
    """No two runs draw the same numbers or have the same beginning."""
    random.seed()
    numbers = sys.modules.get("numpy.random")
    if numbers is not None:
        numbers.seed()
    uuid._last_timestamp = None  # type: ignore[attr-defined]
    tempfile._name_sequence = None  # type: ignore[attr-defined]
    clock = time.time_ns if isinstance(logging._startTime, int) else time.time  # type: ignore[attr-defined]
    logging._startTime = clock()  # type: ignore[attr-defined]
