"""The small process that holds one job: its parent, which outlives the worker (rows W17, W20).

``python -m eparch.workers.holder`` is started by ``workers.process`` with a socket as its standard input; on
it both say JSON lines. It owns the start of the job behind a gate, its output, its end with everything that
it started, and that another worker can take it over. While no worker is there ``unattended`` renews the claim
and tells the end. Imports nothing that is not needed for a start: a start waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from eparch.workers import descendants
from eparch.workers.streams import CHUNK, Lines

REST = 2.0
"""Seconds that what a job left running gets to end after SIGTERM."""

GRACE = 20.0
"""Seconds that a job gets when nobody says how long."""

TELLING = 3600.0
"""Seconds for which it is tried to tell the end of a run while no worker and no server is there."""

WAITING = 4 * 1024 * 1024
"""Bytes of output kept while nobody reads them; older output is dropped and that is said."""

UNBORN = ".new"
"""Ends the name of a socket at which nobody listens yet."""

FENCE = 0.8
"""Part of a lease without a renewal after which a job ends, if another attempt may begin then."""

_LAST_ROUNDS = 64
"""Reads after the end: more than a pipe can hold, but an end even if somebody goes on writing."""


class Link:
    """JSON lines over a socket; never blocks whoever sends."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.is_open = True
        self.heard = time.monotonic()
        self._read = b""
        self._unsent = b""

    @property
    def wants_to_send(self) -> bool:
        """Whether something waits."""
        return self.is_open and bool(self._unsent)

    def send(self, **message: Any) -> None:
        """Say it as soon as the other side reads."""
        if self.is_open:
            self._unsent += json.dumps(message).encode() + b"\n"
            self.flush()

    def flush(self) -> None:
        """Send what the other side takes now."""
        try:
            while self._unsent and self.is_open:
                self._unsent = self._unsent[self.connection.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def receive(self) -> list[dict[str, Any]]:
        """What was said since; closes itself at the end."""
        try:
            data = self.connection.recv(CHUNK)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.close()
        self.heard = time.monotonic()
        *lines, self._read = (self._read + data).split(b"\n")
        return [json.loads(line) for line in lines if line]

    def wait(self) -> dict[str, Any] | None:
        """The next thing that is said; None at the end. Only where one message is expected."""
        while self.is_open:
            select.select([self.connection], [], [])
            for message in self.receive():
                return message
        return None

    def drain(self, seconds: float) -> None:
        """Send all that waits, for at most ``seconds``."""
        end = time.monotonic() + seconds
        while self.wants_to_send and time.monotonic() < end:
            select.select([], [self.connection], [], 0.1)
            self.flush()

    def close(self) -> None:
        """No more."""
        self.is_open = False
        with contextlib.suppress(OSError):
            self.connection.close()


class Output:
    """Lines of the job that no worker has confirmed yet; the oldest go when nobody is there to read them."""

    def __init__(self) -> None:
        self._unseen: deque[dict[str, Any]] = deque()
        self._size = 0
        self._number = 0

    @property
    def is_full(self) -> bool:
        """Whether no more can be kept."""
        return self._size > WAITING

    def add(self, stream: int, text: str) -> dict[str, Any]:
        """Keep it; the message that says it."""
        self._number += 1
        message = {"number": self._number, "stream": stream, "text": text}
        self._unseen.append(message)
        self._size += len(text)
        return message

    def drop_oldest(self) -> None:
        """Make room."""
        while self.is_full:
            self._size -= len(self._unseen.popleft()["text"])

    def seen(self, number: int) -> None:
        """A worker has shown everything up to this."""
        while self._unseen and self._unseen[0]["number"] <= number:
            self._size -= len(self._unseen.popleft()["text"])

    def again(self) -> list[dict[str, Any]]:
        """What another worker has to be told."""
        return list(self._unseen)


class NotStarted(Exception):
    """The command could not be run; with the number of the system's error."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


class Job:
    """The process itself: first a gate, then the command. ``pid`` is 0 in that process."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.out, self._out = os.pipe()
        self.err, self._err = os.pipe()
        self._failure, self.fails = os.pipe()
        self._waits, self._gate = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._gate)
            return
        for descriptor in (self._out, self._err, self.fails, self._waits):
            os.close(descriptor)

    def go(self) -> None:
        """Open the gate.

        Raises:
            NotStarted: it is not there, or may not be run.
        """
        with contextlib.suppress(BrokenPipeError):
            os.write(self._gate, b"g")
        os.close(self._gate)
        with os.fdopen(self._failure, "rb") as failure:
            text = failure.read().decode(errors="replace")
        if text:
            number, _, why = text.partition(" ")
            raise NotStarted(int(number), why)

    def become(self, run: Callable[[Job], None]) -> None:
        """In the new process: wait at the gate, then let ``run`` make it the job. The holder hears on
        ``fails`` why it is none, and that it is one when that is closed.
        """
        try:
            os.setsid()
            _die_with_parent()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            if os.read(self._waits, 1) != b"g":
                os._exit(75)
            os.chdir(self.spec["directory"])
            nothing = os.open(os.devnull, os.O_RDONLY)
            for there, here in ((nothing, 0), (self._out, 1), (self._err, 2)):
                os.dup2(there, here)
            run(self)
            os.close(self.fails)
        except BaseException as error:
            known = error.errno if isinstance(error, OSError) else 0
            with contextlib.suppress(OSError):
                os.write(self.fails, f"{known or 0} {error}".encode(errors="replace"))
            os._exit(127)


def _execute(job: Job) -> None:
    """Be the command; never returns."""
    command: list[str] = job.spec["command"]
    os.execvpe(command[0], command, job.spec["environment"])  # noqa: S606


def _libc_prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _die_with_parent() -> None:
    """PR_SET_PDEATHSIG (prctl(2)): a job whose holder is killed has nobody who ends it."""
    _libc_prctl(1, signal.SIGKILL)


def _adopt_orphans() -> None:
    """PR_SET_CHILD_SUBREAPER (prctl(2)): whatever the job starts stays below this process."""
    _libc_prctl(36, 1)


class Holder:
    """Holds a job from its gate to the end of the last process that it started."""

    def __init__(self, link: Link, spec: dict[str, Any], job: Job, place: str) -> None:
        self.link, self.spec, self.job, self.place = link, spec, job, place
        self.code: int | None = None
        self.over = threading.Event()
        """The job and all that it started is gone."""
        self.told = threading.Event()
        """Somebody knows how it ended."""
        self.renewed = time.monotonic()
        """When the claim was last renewed, as far as this process knows."""
        self._listener = _listen_at(place)
        self._guests: list[Link] = []
        self._streams = {job.out: (1, Lines()), job.err: (2, Lines())}
        self._open = set(self._streams)
        self._output = Output()
        self._kill_at: float | None = None
        self._wake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._unattended: threading.Thread | None = None

    @property
    def attended(self) -> bool:
        """Whether a worker is there, and was heard of lately."""
        keep = self.spec["keep"]
        patience = keep["lease"] / 2 if keep else float("inf")
        return self.link.is_open and time.monotonic() - self.link.heard < patience

    @property
    def stderr(self) -> str:
        """The last lines of standard error."""
        return self._streams[self.job.err][1].tail()

    def stop(self, grace: float) -> None:
        """Ask the job to end, kill it after ``grace`` seconds; less grace hurries an earlier call."""
        kill_at = time.monotonic() + grace
        if self._kill_at is None and self.code is None:
            descendants.signal_group(self.job.pid, signal.SIGTERM)
        self._kill_at = kill_at if self._kill_at is None else min(kill_at, self._kill_at)
        with contextlib.suppress(OSError):
            self._waker.send(b"s")

    def hold(self) -> None:
        """Until it is over and told."""
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.stop(GRACE))
        try:
            while not self._is_over():
                self._round()
            self._clear()
            self.over.set()
            self._tell()
        finally:
            with contextlib.suppress(OSError):
                os.unlink(self.place)

    def _round(self) -> None:
        """Wait for something and act on it."""
        if not self.attended:
            self._output.drop_oldest()
        # A worker that reads slowly slows the job down, one that does not read at all does not.
        self._listen(self._pause(), set() if self._output.is_full else set(self._open))
        if self._kill_at is not None and time.monotonic() >= self._kill_at and not self._is_over():
            descendants.signal_group(self.job.pid, signal.SIGKILL)
        keep = self.spec["keep"]
        if keep and keep.get("fenced") and time.monotonic() - self.renewed > keep["lease"] * FENCE:
            self.stop(0.0)
        self._attend()

    def _pause(self) -> float:
        if self._kill_at is None:
            return 1.0
        return min(max(self._kill_at - time.monotonic(), 0.05), 1.0)

    def _listen(self, seconds: float, streams: set[int]) -> bool:
        """Wait for something to read; whether there was."""
        links = [link for link in (self.link, *self._guests) if link.is_open]
        reading: list[Any] = [*streams, self._wake, *(link.connection for link in links)]
        reading += [self._listener] if self._listener is not None else []
        writing = [link.connection for link in links if link.wants_to_send]
        ready, able, _ = select.select(reading, writing, [], seconds)
        for descriptor in streams & {one for one in ready if isinstance(one, int)}:
            self._read(descriptor)
        for link in links:
            if link.connection in able:
                link.flush()
            if link.is_open and link.connection in ready:
                self._hear(link)
        if self._wake in ready:
            self._wake.recv(4096)
        if self._listener is not None and self._listener in ready:
            self._guests.append(Link(self._listener.accept()[0]))
        self._guests = [guest for guest in self._guests if guest.is_open and guest is not self.link]
        return bool(ready)

    def _hear(self, link: Link) -> None:
        for message in link.receive():
            if "adopt" in message:
                self._welcome(link)
            elif link is not self.link:
                continue
            elif "stop" in message:
                self.stop(float(message["stop"]))
            elif "renewed" in message:
                # What counts is when it was asked: the lease may have begun as early as that.
                self.renewed = max(self.renewed, float(message["renewed"]))
            elif "seen" in message:
                self._output.seen(message["seen"])
            elif "known" in message:
                self.told.set()

    def _welcome(self, guest: Link) -> None:
        """Another worker wants the job: it has it unless one that lives holds it."""
        if self.attended:
            guest.send(held=True)
            guest.drain(1.0)
            guest.close()
            return
        self.link.send(taken=True)
        self.link.close()
        self.link = guest
        guest.send(adopted=True, mark=self.spec["environment"][descendants.MARK], show=self.spec["show"])
        for message in self._output.again():
            guest.send(**message)
        if self.over.is_set():
            guest.send(exit=self.code, stderr=self.stderr)

    def _read(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, CHUNK)
        except OSError:
            data = b""
        number, lines = self._streams[descriptor]
        if not data:
            self._open.discard(descriptor)
        text = lines.add(data) if data else lines.end()
        if text and self.spec["show"]:
            self.link.send(**self._output.add(number, text))

    def _is_over(self) -> bool:
        """Note the job's end, and let orphans that it left go."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == self.job.pid:
                    self.code = os.waitstatus_to_exitcode(status)
                if pid == 0:
                    break
        return self.code is not None

    def _clear(self) -> None:
        """End what the job left running and read the last of its output."""
        hurried = self._kill_at is not None and self._kill_at <= time.monotonic()
        rest = 0.0 if hurried else REST
        pid = self.job.pid
        descendants.end_group(pid, rest, lambda: self._is_over() and not descendants.group_exists(pid))
        # The children of one that was killed become ours, so look again.
        for _ in range(20):
            if not self._children():
                break
            descendants.end_all(self._children, rest)
        descendants.end_marked(self.spec["environment"][descendants.MARK], rest)
        for _ in range(_LAST_ROUNDS):
            if not self._open or not self._listen(0, set(self._open)):
                break
        for number, lines in self._streams.values():
            text = lines.end()
            if text and self.spec["show"]:
                self.link.send(**self._output.add(number, text))

    def _children(self) -> list[int]:
        self._is_over()
        return descendants.children_of(os.getpid())

    def _attend(self) -> None:
        """Let somebody look after the claim while no worker does."""
        going = self._unattended is not None and self._unattended.is_alive()
        if self.attended or going or self.told.is_set() or self.spec["keep"] is None:
            return
        from eparch.workers.unattended import look_after

        self._unattended = threading.Thread(target=look_after, args=(self,), daemon=True)
        self._unattended.start()

    def _tell(self) -> None:
        """Stay until whoever looks after the run knows its end."""
        self.link.send(exit=self.code, stderr=self.stderr)
        patience = time.monotonic() + (GRACE if self.spec["keep"] is None else TELLING)
        while not self.told.is_set():
            if not self.link.is_open and time.monotonic() > patience:
                return
            self._attend()
            self._listen(0.5, set())


def _listen_at(place: str) -> socket.socket | None:
    """Where another worker asks for the job; without it nobody can, and the job goes on.

    It is there from the moment on at which somebody listens: one at which nobody does is left over.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place + UNBORN)
        listener.bind(place + UNBORN)
        listener.listen(4)
        os.rename(place + UNBORN, place)
    except OSError:
        listener.close()
        return None
    return listener


def begin(spec: dict[str, Any]) -> Job:
    """Fork the job, which waits. Returns in both processes.

    Raises:
        OSError: there can be no further process.
    """
    _adopt_orphans()
    try:
        return Job(spec)
    except OSError:
        _remove_directory(spec)
        raise


def lead(link: Link, job: Job) -> int:
    """Tell of the job, let it go when that is wanted, and hold it to its end; the exit code."""
    try:
        return _lead(link, job)
    finally:
        _remove_directory(job.spec)


def _lead(link: Link, job: Job) -> int:
    link.send(pid=job.pid, holder=os.getpid())
    answer = link.wait()
    if answer is None or "go" not in answer:
        os.kill(job.pid, signal.SIGKILL)
        os.waitpid(job.pid, 0)
        return 75
    try:
        job.go()
    except NotStarted as error:
        os.waitpid(job.pid, 0)
        link.send(error=str(error), number=error.number)
        link.drain(5.0)
        return 75
    held = Holder(link, job.spec, job, answer["go"])
    link.send(began=True)
    held.hold()
    return 0


def _remove_directory(spec: dict[str, Any]) -> None:
    if spec["temporary"]:
        import shutil

        shutil.rmtree(spec["directory"], ignore_errors=True)


def main() -> int:
    """Hold the job that is told on standard input."""
    link = Link(socket.socket(fileno=0))
    spec = link.wait()
    if spec is None:
        return 75
    job = begin(spec)
    if job.pid == 0:
        job.become(_execute)
    return lead(link, job)


if __name__ == "__main__":
    sys.exit(main())
