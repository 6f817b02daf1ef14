"""The worker's side of warm starts: the process from which holders and jobs are forked (ADR 0013).

Owns when a job may be forked, and that the parent is there, is renewed and ends with its worker. Starts
``eparch.sdk.warm`` by name. Whatever goes wrong here means a cold start, never a second one.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from eparch.workers.descendants import MARK, becomes, started
from eparch.workers.holding import Holding
from eparch.workers.jobs import COMMAND

logger = logging.getLogger("eparch.worker")

_READ_AT_START = (
    "COVERAGE",
    "COV_CORE_",
    "GLIBC_",
    "LC_",
    "LD_",
    "MALLOC_",
    "OPENSSL_",
    "PYTHON",
    "SETUPTOOLS_",
)
_READ_AT_START_NAMES = frozenset({"GCONV_PATH", "HOME", "LANG", "LANGUAGE", "LOCPATH", "NLSPATH"})
"""Variables that an interpreter, or what it loads before our code, reads once; prefixes and names."""

_ANSWER = 15.0
"""Seconds that a parent has to fork; it may still be importing."""

_AGAIN_AFTER = 30.0
"""Seconds until a parent is started after one that gave no reason for its end."""

_ROOM = ("_EPARCH_ROOM", "-" * 32768)
"""A variable of the parent that makes room for what a job's environment has more."""

_LONGEST_MARK = 16384
"""Letters of the labels that surely find room."""

_ENDING = 60.0
"""Seconds within which a holder that has said its last ends."""

_SCRIPT = (
    "import sys; sys.flags.safe_path or sys.path.pop(0); "
    "from eparch.sdk.warm import main; sys.exit(main(int(sys.argv[1])))"
)


def can_fork() -> bool:
    """Whether this system and interpreter can fork a run's process: CPython with its lock on Linux."""
    return (
        sys.platform == "linux"
        and sys.implementation.name == "cpython"
        and "t" not in getattr(sys, "abiflags", "")
    )


def fits(command: Sequence[str], environment: Mapping[str, str], own: Mapping[str, str]) -> bool:
    """Whether a process with the environment ``own`` can become the job: it runs the flow run with this
    interpreter, and nothing that an interpreter reads at its start is different.
    """
    return (
        tuple(command) == COMMAND
        and read_at_start(environment) == read_at_start(own)
        and len(environment.get(MARK, "")) <= _LONGEST_MARK
    )


def read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that an interpreter reads once, when it starts."""
    return {
        name: value
        for name, value in environment.items()
        if name in _READ_AT_START_NAMES or name.startswith(_READ_AT_START)
    }


class WarmParent:
    """Forks holders; makes its process again when that is gone. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: _Process | None = None
        self._not_before = 0.0
        self._closed = False

    def prepare(self) -> None:
        """Have the process there, or on its way."""
        self._ready()

    def start_holder(self, spec: Mapping[str, Any]) -> tuple[Holding, dict[str, Any]] | None:
        """A forked holder that was told ``spec``, and its first message; None if it has to be started cold.

        A holder of which this returns None has started nothing: its job waits for a word that never comes.
        """
        made = self._ready()
        if made is None or not fits(spec["command"], spec["environment"], made.environment):
            return None
        holding = made.fork()
        if holding is None:
            self._replace(made, {})
            return None
        holding.say(**spec)
        told = holding.hear(_ANSWER)
        if "pid" not in told:
            holding.close()
            self._replace(made, told)
            return None
        made.has_forked = True
        pid = int(told["holder"])
        holding.gone = partial(_wait_gone, pid, started(pid))
        return holding, told

    def close(self) -> None:
        """End the process; what it forked goes on."""
        with self._lock:
            self._closed = True
            made, self._made = self._made, None
        if made is not None:
            made.end()

    def _ready(self) -> _Process | None:
        with self._lock:
            if self._made is None and not self._closed and time.monotonic() >= self._not_before:
                try:
                    self._made = _Process()
                except OSError as error:
                    self._not_before = time.monotonic() + _AGAIN_AFTER
                    logger.warning("Runs start cold, there is no process to fork them from: %s", error)
            return self._made

    def _replace(self, made: _Process, told: Mapping[str, Any]) -> None:
        """Do without this process; one that was of use, or is out of date, has a successor at once."""
        with self._lock:
            if self._made is not made:
                return
            self._made = None
            if not (made.has_forked or told.get("renew")):
                self._not_before = time.monotonic() + _AGAIN_AFTER
        logger.info("A run starts cold: %s", told.get("cold", "the process to fork it from does not answer"))
        made.end()
        self._ready()


class _Process:
    """One parent, from its start to its end."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        self.has_forked = False
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_ANSWER)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _SCRIPT, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**self.environment, _ROOM[0]: _ROOM[1]},
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        except OSError:
            self._control.close()
            raise

    def fork(self) -> Holding | None:
        """The way to what will be a holder; None if nobody is there."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"f"], [theirs.fileno()])
            except OSError:
                ours.close()
                return None
        return Holding(ours)

    def end(self) -> None:
        """Kill it, as it holds nothing but itself."""
        self._control.close()
        with suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()


def _wait_gone(pid: int, begun: str) -> None:
    """Wait for the end of a process that is no child of this one."""
    becomes(lambda: not begun or started(pid) != begun, _ENDING)
