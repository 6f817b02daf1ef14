"""Tells when runs are over: one thread for all runs of a kind that somebody of this process waits for.

It follows their events on one socket (wire 4.3). Where there is none to be had, or more runs are waited for
than a filter should name, it looks at them again and again, many at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from eparch.core import calls
from eparch.core.endpoint import Endpoint
from eparch.core.errors import EparchError
from eparch.core.runs import FlowRun, TaskRun
from eparch.core.states import FINAL
from eparch.sdk.logs import get_logger
from eparch.sdk.session import Session, current

R = TypeVar("R", FlowRun, TaskRun)
Told = Callable[[R | None], object]
"""Is given the run once it is over, None when it was deleted."""

FIRST_LOOK, LONGEST_LOOK = 0.05, 1.0
"""Seconds between two looks where no events can be followed; the wait grows by half each time."""
LOOKED_AT_ONCE = 200
QUIET = 0.05
"""Seconds after which it is seen that another run is waited for."""
SAFETY = 30.0
"""Seconds of silence after which it is looked all the same: an event may be lost, an old server tell none."""
BEFORE = timedelta(hours=1)
"""How far events from before are asked for: more than clocks differ."""


class Watch(Generic[R]):
    """Runs of one kind that are waited for."""

    def __init__(self, kind: str, key: str, read: Endpoint[list[R]]) -> None:
        """``kind`` is how events name such runs, ``key`` how filters do."""
        self.kind, self.key = kind, key
        self.read: Endpoint[list[R]] = read
        self._lock = threading.Lock()
        self._waiting: dict[UUID, list[Told[R]]] = {}
        self._longest: dict[UUID, float] = {}
        self._thread: threading.Thread | None = None
        self._woken = threading.Event()

    def add(self, run_id: UUID, told: Told[R], poll: float = LONGEST_LOOK) -> None:
        """Call ``told``, in another thread, when the run is over.

        Where no events can be followed, it is looked at least every ``poll`` seconds.
        """
        with self._lock:
            self._waiting.setdefault(run_id, []).append(told)
            self._longest[run_id] = min(poll, self._longest.get(run_id, poll))
            self._woken.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="eparch-watch", daemon=True)
                self._thread.start()

    def remove(self, run_id: UUID, told: Told[R]) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            left = self._waiting.get(run_id, [])
            if told in left:
                left.remove(told)
                if not left:
                    self._forget(run_id)
                    self._woken.set()

    def _forget(self, run_id: UUID) -> list[Told[R]]:
        self._longest.pop(run_id, None)
        return self._waiting.pop(run_id, [])

    def _left(self) -> list[UUID]:
        """What is waited for; when it is nothing, this thread is over."""
        with self._lock:
            self._woken.clear()
            if not self._waiting:
                self._thread = None
            return list(self._waiting)

    def _work(self) -> None:
        feed = _Feed(self.kind)
        pause = FIRST_LOOK
        try:
            while waiting := self._left():
                for start in range(0, len(waiting), LOOKED_AT_ONCE):
                    self._look(waiting[start : start + LOOKED_AT_ONCE])
                with self._lock:
                    waiting = list(self._waiting)
                    longest = min(self._longest.values(), default=pause)
                if not waiting:
                    continue
                if feed.tells(waiting, self._is_stale):
                    pause = FIRST_LOOK
                else:
                    self._woken.wait(pause)
                    pause = min(pause * 1.5, longest)
        finally:
            feed.close()

    def _is_stale(self, ids: frozenset[UUID]) -> bool:
        """Whether ``ids`` is no longer what is waited for."""
        if not self._woken.is_set():
            return False
        with self._lock:
            return not (self._waiting and self._waiting.keys() <= ids)

    def _look(self, ids: list[UUID]) -> None:
        body = {self.key: {"id": {"any_": [str(id_) for id_ in ids]}}, "limit": LOOKED_AT_ONCE}
        try:
            runs = current().client.send(self.read(body=body))
        except EparchError:
            return  # a server that is started again is asked again
        found = {run.id: run for run in runs}
        for id_ in ids:
            run = found.get(id_)
            if run is not None and (run.state is None or not run.state.is_final()):
                continue
            with self._lock:
                told = self._forget(id_)
            for one in told:
                try:
                    one(run)
                except Exception:
                    # Others wait too: they have to be told whatever this one made of it.
                    get_logger("watching").exception("What waited for a run failed.")


class _Feed:
    """The events of some runs, as long as these are what is waited for."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.ids: frozenset[UUID] = frozenset()
        self.ended: set[UUID] = set()
        """Runs whose end was told, though a look may not show it yet."""
        self.events: Generator[dict[str, Any] | None, None, None] | None = None
        self.is_deaf = False

    def close(self) -> None:
        """Close the socket."""
        if self.events is not None:
            self.events.close()
            self.events = None

    def tells(self, waiting: Iterable[UUID], is_stale: Callable[[frozenset[UUID]], bool]) -> bool:
        """Wait until there is a reason to look again; False when it cannot be waited here for one."""
        wanted = frozenset(waiting)
        if self.is_deaf or len(wanted) > LOOKED_AT_ONCE or wanted & self.ended:
            return False
        until = time.monotonic() + SAFETY
        try:
            if self.events is None or not wanted <= self.ids:
                self.close()
                self.ids = wanted
                self.events = follow_runs(current(), self.kind, wanted)
            for event in self.events:
                if event is None:
                    if is_stale(self.ids) or time.monotonic() > until:
                        return True
                elif event["resource"].get("prefect.state-type") in FINAL:
                    self.ended.add(UUID(event["resource"]["prefect.resource.id"].rpartition(".")[2]))
                    return True
        except (EparchError, KeyError, ValueError):
            self.close()
            self.is_deaf = True
        return False


def follow_runs(
    session: Session, kind: str, ids: Iterable[UUID]
) -> Generator[dict[str, Any] | None, None, None]:
    """The events of runs of a kind; None when none came for a moment.

    Raises:
        EparchError: there is no stream.
    """
    import msgspec

    from eparch.client.following import EVENTS, follow

    # A server that was started for this process only is not in the settings.
    url = getattr(session.client, "api_url", session.settings.api_url)
    settings = msgspec.structs.replace(session.settings, api_url=url)
    wanted = {
        "event": {"prefix": [f"{kind}."]},
        "resource": {"id": [f"{kind}.{id_}" for id_ in ids]},
        "occurred": {"since": (datetime.now(UTC) - BEFORE).isoformat()},
    }
    return follow(settings, EVENTS, wanted, backfill=True, quiet=QUIET)


FLOW_RUNS: Watch[FlowRun] = Watch("prefect.flow-run", "flow_runs", calls.read_flow_runs)
TASK_RUNS: Watch[TaskRun] = Watch("prefect.task-run", "task_runs", calls.read_task_runs)
