"""Following a run: its log lines as they come and its states, until it is over.

Owns the questions and the pace of asking; what is printed where is decided by the command.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from eparch.cli.output import write
from eparch.core import calls
from eparch.core.errors import EparchError
from eparch.core.states import State

if TYPE_CHECKING:
    from eparch.cli.session import Session
    from eparch.core.records import Log
    from eparch.core.runs import FlowRun
    from eparch.core.worker_instances import WorkerLine

FASTEST, SLOWEST = 0.05, 1.0
"""Seconds between two questions, right after news and when nothing happens."""

QUIET = 0.3
"""Seconds without a line after which it is asked whether the run is over."""

OVERLAP = timedelta(seconds=5)
"""Lines of several processes arrive out of order; so far back they are asked for again."""

FAILED = 7
"""Exit code of a watch whose run did not complete (``core.errors.EXIT``, ``RunError``)."""

_LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
_LEVEL_COLORS = {10: "2", 30: "33", 40: "31", 50: "31;1"}
_CONTROL = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")


def pauses() -> Iterator[float]:
    """Seconds to wait, from the fastest to the slowest pace."""
    pause = FASTEST
    while True:
        yield pause
        pause = min(SLOWEST, pause * 1.5)


class LogTail:
    """The log lines of one run, each once."""

    def __init__(self, session: Session, run_id: UUID) -> None:
        self._session, self._run_id = session, run_id
        self._seen: dict[UUID, datetime] = {}
        self._latest: datetime | None = None

    def read(self) -> list[Log]:
        """The lines that came since the last call, in order."""
        where: dict[str, Any] = {"flow_run_id": {"any_": [str(self._run_id)]}}
        if self._latest is not None:
            where["timestamp"] = {"after_": (self._latest - OVERLAP).isoformat()}
        body = {"logs": where, "sort": "TIMESTAMP_ASC"}
        fresh = [log for log in self._session.pages(calls.read_logs, body) if log.id not in self._seen]
        for log in fresh:
            self.take(log)
        return fresh

    def take(self, log: Log) -> None:
        """Remember that ``log`` was seen."""
        self._seen[log.id] = log.timestamp
        self._latest = log.timestamp if self._latest is None else max(self._latest, log.timestamp)
        if len(self._seen) > 10_000:
            old = self._latest - 2 * OVERLAP
            self._seen = {id_: when for id_, when in self._seen.items() if when >= old}

    def poll(self) -> Iterator[list[Log]]:
        """As ``stream``, by asking again and again."""
        pace = pauses()
        while True:
            state = self._session.send(calls.read_flow_run(id=self._run_id)).state
            lines = self.read()
            yield lines
            if state is not None and state.is_final():
                return
            pace = pauses() if lines else pace
            time.sleep(next(pace))

    def stream(self) -> Iterator[list[Log]]:
        """The lines that were and then those that come, each once, until the run is over.

        Raises:
            EparchError: the server does not answer, or shows no lines as they come.
        """
        from eparch.client.following import LOGS, follow
        from eparch.core.records import Log

        wanted: dict[str, Any] = {"flow_run_id": {"any_": [str(self._run_id)]}}
        if self._latest is not None:
            wanted["timestamp"] = {"after_": (self._latest - OVERLAP).isoformat()}
        over = False
        for found in follow(self._session.located(), LOGS, wanted, backfill=True, quiet=QUIET):
            if found is not None:
                log = msgspec.convert(found, Log)
                if log.id not in self._seen:
                    self.take(log)
                    yield [log]
            elif over:
                break
            else:
                state = self._session.send(calls.read_flow_run(id=self._run_id)).state
                over = state is not None and state.is_final()
        # What was on its way while the run ended.
        yield self.read()


def follow(
    session: Session,
    run_id: UUID,
    *,
    show_log: Callable[[Log], None],
    show_state: Callable[[FlowRun, State], None],
    timeout: float | None = None,
    interval: float | None = None,
) -> FlowRun:
    """Show what happens to a run until it is over, and return it; ``timeout`` and ``interval`` in seconds.

    Raises:
        EparchError: it was not over in time; the run goes on.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    tail, last, pace = LogTail(session, run_id), None, pauses()
    while True:
        run = session.send(calls.read_flow_run(id=run_id))
        fresh = tail.read()
        for log in fresh:
            show_log(log)
        state = run.state
        if state is not None and state.id != last:
            last, pace = state.id, pauses()
            show_state(run, state)
        elif fresh:
            pace = pauses()
        if state is not None and state.is_final():
            return run
        if deadline is not None and time.monotonic() >= deadline:
            raise EparchError(
                f"The run was not over within {timeout:g} s: it is {run.state_name}.",
                fix=f"It goes on. Watch it again: eparch flow-run watch {run_id}",
            )
        pause = next(pace) if interval is None else interval
        time.sleep(pause if deadline is None else max(0.0, min(pause, deadline - time.monotonic())))


def watch(session: Session, run_id: UUID, *, timeout: float | None, interval: float | None = None) -> int:
    """Follow a run on the terminal; the exit code: 0 when it completed, else 7.

    For people the log lines are the data. For programs the run is, and the lines go to stderr.
    """
    output = session.output
    stream = sys.stdout if output.is_table else sys.stderr

    def show_log(log: Log) -> None:
        stream.write(line_of(log, colored=output.colored) + "\n")
        stream.flush()

    def show_state(run: FlowRun, state: State) -> None:
        session.note(f"Flow run {run.name!r} is {state.name}" + _reason(state))

    run = follow(
        session, run_id, show_log=show_log, show_state=show_state, timeout=timeout, interval=interval
    )
    output.made(run, name=lambda one: one.id)
    return 0 if run.state is not None and run.state.is_completed() else FAILED


def _reason(state: State) -> str:
    return f": {state.message}" if state.message and not state.is_completed() else ""


def read_lines(
    session: Session,
    where: dict[str, Any],
    limit: int | None,
    *,
    last: bool,
    reverse: bool,
    level: int | None,
) -> list[Log]:
    """Log lines of a run, ``limit`` of them from the beginning or, with ``last``, from the end."""
    if level is not None:
        where = {**where, "level": {"ge_": level}}
    body = {"logs": where, "sort": "TIMESTAMP_DESC" if last else "TIMESTAMP_ASC"}
    lines = list(session.pages(calls.read_logs, body, limit))
    return lines[::-1] if last != reverse else lines


def show_lines(session: Session, lines: Sequence[Log | WorkerLine]) -> None:
    """Print log lines: for people as they read them, for programs as records."""
    if session.output.is_table:
        for line in lines:
            write(line_of(line, colored=session.output.colored))
    else:
        session.output.rows(lines, [], name=lambda line: line.id)


def line_of(log: Log | WorkerLine, *, colored: bool) -> str:
    """A log line for people: local time, level, message; colours of the message stay, other controls go."""
    clock = log.timestamp.astimezone().strftime("%H:%M:%S.%f")[:-3]
    level = _LEVELS.get(log.level, str(log.level)).ljust(8)
    message = _CONTROL.sub("", log.message) if colored else plain(log.message)
    if colored and log.level in _LEVEL_COLORS:
        level = f"\x1b[{_LEVEL_COLORS[log.level]}m{level}\x1b[0m"
    return f"{clock} {level} {message}"


def plain(text: str) -> str:
    """``text`` without what a terminal would act on."""
    return re.sub(r"\x1b\[[0-9;]*m", "", _CONTROL.sub("", text))
