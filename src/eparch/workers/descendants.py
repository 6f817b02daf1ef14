"""What the system says of processes, and how all that a job started is ended.

Owns groups, marks in the environment and parents; Linux by /proc, macOS by ps. Imports little: it is part of
the process that holds a job. Does not own when something is ended.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

MARK = "_EPARCH_JOB"
"""Variable in the environment of a job's processes: its labels, by which they are found."""

_STEP = 0.02

_READINGS = 10
"""Times that a process is asked for its environment which seems to have none."""

_PROC = Path("/proc/self/environ").exists()


def signal_group(pid: int, number: int) -> None:
    """Signal a process group; one that is gone is none."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def group_exists(pid: int) -> bool:
    """Whether somebody is in the process group."""
    try:
        os.killpg(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_group(pid: int, grace: float, gone: Callable[[], bool]) -> None:
    """SIGTERM to a group, SIGKILL after ``grace`` seconds; over when ``gone``, or when killing did not
    help.
    """
    if gone():
        return
    signal_group(pid, signal.SIGTERM)
    if not becomes(gone, grace):
        signal_group(pid, signal.SIGKILL)
        # A zombie that nobody reaps stays in its group for ever: it runs nothing, so it is not waited for.
        becomes(gone, 1.0)


def end_marked(mark: str, grace: float) -> None:
    """End processes that carry ``mark`` wherever they went, such as those with a session of their own."""
    if mark:
        end_all(lambda: [pid for pid in pids() if environment_of(pid).get(MARK) == mark], grace)


def end_all(left: Callable[[], list[int]], grace: float) -> None:
    """End whatever ``left`` names, each time it is asked; a killed one may leave others behind it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        if becomes(lambda: not left(), grace if number == signal.SIGTERM else 1.0):
            return


def becomes(true: Callable[[], bool], seconds: float) -> bool:
    """Whether it becomes true within ``seconds``; there is no signal to wait on for a stranger's child."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() >= end:
            return False
        time.sleep(_STEP)
    return True


def pids() -> Iterator[int]:
    """Every process but this one."""
    names = os.listdir("/proc") if _PROC else _ps("-U", str(os.getuid()), "-o", "pid=").split()
    own = os.getpid()
    return (int(name) for name in names if name.isdecimal() and int(name) != own)


def children_of(pid: int) -> list[int]:
    """Processes whose parent is ``pid`` and that are not over; empty where /proc is not there."""
    return [one for one in pids() if _stat(one)[:2] in ([state, str(pid)] for state in "RSDTtIWP")]


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process began with, as far as it may be read; a zombie has none."""
    if _PROC:
        words = _environ(pid).decode(errors="replace").split("\0")
    else:
        words = _ps("eww", "-o", "command=", "-p", str(pid)).split()
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def leads(pid: int) -> bool:
    """Whether the process leads a session."""
    try:
        return os.getsid(pid) == pid
    except (ProcessLookupError, PermissionError):
        return False


def started(pid: int) -> str:
    """When a process began, in a form that is the same each time it is asked for; empty if it is gone."""
    if _PROC:
        fields = _stat(pid)
        return "" if not fields or fields[0] in "ZX" else fields[19]
    state, _, begun = _ps("-o", "stat=", "-o", "lstart=", "-p", str(pid)).strip().partition(" ")
    return "" if state.startswith("Z") else "".join(filter(str.isalnum, begun))


def _environ(pid: int) -> bytes:
    """The environment as the system keeps it; a process in the middle of execve(2) seems to have none for a
    moment, and is asked again.
    """
    seen: bytes | None = b""
    for _ in range(_READINGS):
        seen = _read(pid, "environ")
        if seen or seen is None or not _has_program(pid):
            break
        if becomes(lambda: _read(pid, "cmdline") != b"", 1.0):
            # The arguments are there first, the environment follows at once.
            time.sleep(0.001)
    return seen or b""


def _has_program(pid: int) -> bool:
    """Whether it runs a program: neither over nor a thread of the kernel (PF_KTHREAD)."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX" and not int(fields[6]) & 0x00200000


def _read(pid: int, name: str) -> bytes | None:
    """A file of a process; None if it is gone or somebody else's."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return None


def _stat(pid: int) -> list[str]:
    """State, parent and so on (proc(5)); empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _ps(*arguments: str) -> str:
    import subprocess

    done = subprocess.run(["ps", *arguments], capture_output=True, text=True, errors="replace", check=False)
    return done.stdout
