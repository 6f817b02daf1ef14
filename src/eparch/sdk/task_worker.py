"""A task worker: takes background tasks from the server and runs them in threads of this process (row B10).

Owns the connection, the room for tasks and how it ends. A task run that it takes is run as any other
(``task_run``, ``engine``); what it tells of it are events. The server hands a task run out again when this
process is gone, so a task may be run more than once, but never by two task workers that live.
"""

from __future__ import annotations

import contextlib
import os
import socket as sockets
import threading
import time
from contextvars import Context
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from eparch.core.errors import Disconnected, EparchError, Forbidden, Unreachable, Usage
from eparch.core.model import new_id
from eparch.core.runs import TaskRun
from eparch.sdk.background import Stored, read_parameters
from eparch.sdk.drive import drive, drive_async, finish
from eparch.sdk.either import is_async
from eparch.sdk.engine import failed
from eparch.sdk.logs import get_logger
from eparch.sdk.session import Session, current
from eparch.sdk.task import Task
from eparch.sdk.task_run import TaskRunContext

if TYPE_CHECKING:
    from eparch.client.socket import Socket

PATH = "/task_runs/subscriptions/scheduled"
LIMIT = 10
"""Tasks at once, unless told otherwise."""
GRACE_SECONDS = 30.0
"""How long tasks may go on when the worker stops; then they are handed back."""
FLUSH_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0


class TaskWorker:
    """Serves tasks until it is stopped. ``run`` blocks; ``stop`` may be called from any thread."""

    def __init__(
        self,
        *tasks: Task[..., Any],
        limit: int | None = LIMIT,
        session: Session | None = None,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        """``limit`` tasks at once, as many as come when it is None.

        Raises:
            Usage: there is no task, something else than a task, or no room.
        """
        wrong = [one for one in tasks if not isinstance(one, Task)]
        if wrong or not tasks:
            what = f"{wrong[0]!r} is no task." if wrong else "There is no task to serve."
            raise Usage(what, fix="Name functions with @task.")
        if limit is not None and limit < 1:
            raise Usage(f"A limit of {limit} tasks at once lets none run.", fix="Give 1 or more, or None.")
        self.tasks = {one.task_key: one.with_options(persist_result=True) for one in tasks}
        self.limit = limit
        self.client_id = f"{sockets.gethostname()}-{os.getpid()}-{str(new_id())[-6:]}"
        self.started_at: datetime | None = None
        self.finished = dict.fromkeys(self.tasks, 0)
        self._session = session or current()
        self._grace = grace_seconds
        self._logger = get_logger("task_worker")
        self._lock = threading.Lock()
        self._running: dict[UUID, _Job] = {}
        self._full = False
        """Whether the server waits to be told that there is room."""
        self._socket: Socket | None = None
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._hung_up = threading.Event()
        self._idle = threading.Condition(self._lock)

    def stop(self) -> None:
        """Take nothing more and end when the tasks have, or after the grace; the second time at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()
        with self._lock:
            self._idle.notify_all()

    def run(self, timeout: float | None = None) -> None:
        """Serve until ``stop``, or for ``timeout`` seconds.

        Raises:
            EparchError: the server refuses this task worker.
        """
        self.started_at = datetime.now(UTC)
        errors: list[EparchError] = []

        def keep_connected() -> None:
            try:
                self._keep_connected()
            except EparchError as error:
                errors.append(error)
                self.stop()

        thread = threading.Thread(target=keep_connected, name="eparch-task-socket", daemon=True)
        thread.start()
        self._stopping.wait(timeout)
        self._stopping.set()
        self._end()
        if errors:
            raise errors[0]

    def status(self) -> dict[str, Any]:
        """What ``/status`` answers, with the fields of Prefect's."""
        with self._lock:
            current_ = len(self._running)
            in_flight: dict[str, dict[str, str]] = {key: {} for key in self.tasks}
            for id_, job in self._running.items():
                in_flight[job.record.task_key][str(id_)] = job.since.isoformat()
            return {
                "client_id": self.client_id,
                "started_at": self.started_at.isoformat() if self.started_at else None,
                "stopping": self._stopping.is_set(),
                "limit": self.limit,
                "current": current_,
                "available": self.limit - current_ if self.limit is not None else None,
                "tasks": sorted(self.tasks),
                "finished": dict(self.finished),
                "in_flight": in_flight,
            }

    # The connection

    def _keep_connected(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._serve()
            except Forbidden:
                raise
            except (Disconnected, Unreachable, EparchError) as error:
                if self._stopping.is_set():
                    return
                self._logger.warning("%s The task worker connects again.", error)
                if isinstance(error, Disconnected) and time.monotonic() - began > LONGEST_PAUSE:
                    pause = FIRST_PAUSE
            self._stopping.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _serve(self) -> None:
        from eparch.client.socket import connect

        api_url = getattr(self._session.client, "api_url", None) or self._session.settings.api_url
        with connect(self._session.settings, PATH, api_url=api_url) as socket:
            with self._lock:
                self._full = self._has_no_room()
                socket.send(
                    {
                        "type": "subscribe",
                        "keys": list(self.tasks),
                        "client_id": self.client_id,
                        "holding": [str(id_) for id_ in self._running],
                        "more": not self._full,
                    }
                )
                self._socket = socket
                self._hung_up.clear()
            self._logger.info("Serving %s.", ", ".join(sorted(one.name for one in self.tasks.values())))
            try:
                while (message := socket.receive()) is not None:
                    if not self._stopping.is_set():  # what is not acknowledged goes to another one
                        self._take(socket, message)
            finally:
                self._hung_up.set()
                with self._lock:
                    self._socket = None

    def _take(self, socket: Socket, message: dict[str, Any]) -> None:
        try:
            record = msgspec.convert(message, TaskRun, strict=False)
        except msgspec.ValidationError as error:
            raise Disconnected(f"The server sent what is no task run: {error}.", code=1002) from error
        with self._lock:
            if record.id not in self._running and record.task_key in self.tasks:
                job = self._running[record.id] = _Job(self, record)
                threading.Thread(target=job.run, name=f"eparch-task-{record.name}", daemon=True).start()
            self._full = self._has_no_room()
            socket.send({"type": "ack", "more": not self._full})

    def _has_no_room(self) -> bool:
        return self.limit is not None and len(self._running) >= self.limit

    def ended(self, job: _Job) -> None:
        """The job is over: there is room for another."""
        with self._lock:
            self._running.pop(job.record.id, None)
            self.finished[job.record.task_key] += 1
            self._idle.notify_all()
            if self._full and self._socket is not None and not self._stopping.is_set():
                self._full = False
                with contextlib.suppress(EparchError):  # it is told when it is connected again
                    self._socket.send({"type": "more"})

    def _end(self) -> None:
        """Let the tasks end; hand back the rest."""
        deadline = time.monotonic() + self._grace
        with self._lock:
            if self._running:
                self._logger.info("Stopping: %d tasks may go on for %g s.", len(self._running), self._grace)
            while self._running and not self._hurry.is_set() and (left := deadline - time.monotonic()) > 0:
                self._idle.wait(left)
            for job in self._running.values():
                job.disown()
            socket = self._socket
        # What has ended must be recorded before the server hands out the rest.
        try:
            recorded = self._session.reporter.flush(FLUSH_SECONDS)
        except EparchError as error:
            self._logger.error("%s", error)
            recorded = False
        if socket is not None and recorded:
            with contextlib.suppress(EparchError):
                socket.send({"type": "quit"})
                self._hung_up.wait(FLUSH_SECONDS)

    # What a job needs

    @property
    def session(self) -> Session:
        """The session of this process."""
        return self._session

    def task_of(self, record: TaskRun) -> Task[..., Any]:
        """The task that ``record`` is a run of."""
        return self.tasks[record.task_key]


class _Job:
    """One task run while this process has it."""

    def __init__(self, worker: TaskWorker, record: TaskRun) -> None:
        self.record = record
        self.since = datetime.now(UTC)
        self._worker = worker
        self._run: TaskRunContext | None = None
        self._disowned = False

    def run(self) -> None:
        """Run it, in a context of its own."""
        try:
            Context().run(self._execute)
        except BaseException as error:
            if self._run is not None:
                self._run.abandon(error)
        finally:
            self._worker.ended(self)

    def _execute(self) -> None:
        task = self._worker.task_of(self.record)
        try:
            stored, problem = read_parameters(self._worker.session, self.record), None
        except EparchError as error:
            stored, problem = Stored({}, []), error
        if self._disowned:
            return
        run = self._run = TaskRunContext(task, stored.parameters, stored.wait_for or None, given=self.record)
        if problem is not None:
            run.enter(failed(problem, "Its parameters could not be read."))
            return
        engine = task._engine(run)
        if task.isasync:
            finish(drive_async(engine, run))
        else:
            drive(engine, run)

    def disown(self) -> None:
        """Leave it to another task worker."""
        self._disowned = True
        if self._run is not None:
            self._run.disown()


def serve(
    *tasks: Task[..., Any],
    limit: int | None = LIMIT,
    status_server_port: int | None = None,
    timeout: float | None = None,
) -> Any:
    """Run background tasks here until SIGTERM, SIGINT, or for ``timeout`` seconds.

    ``limit`` tasks run at once; ``http://127.0.0.1:<status_server_port>/status`` tells how it is. On an event
    loop it gives something to await.

    Raises:
        Usage: there is no task to serve.
        EparchError: the server refuses this task worker.
    """
    if is_async():
        return aserve(*tasks, limit=limit, status_server_port=status_server_port, timeout=timeout)
    _serve(TaskWorker(*tasks, limit=limit), status_server_port, timeout)
    return None


async def aserve(
    *tasks: Task[..., Any],
    limit: int | None = LIMIT,
    status_server_port: int | None = None,
    timeout: float | None = None,
) -> None:
    """As ``serve``; cancelling it stops the task worker."""
    import asyncio

    worker = TaskWorker(*tasks, limit=limit)
    serving = asyncio.create_task(asyncio.to_thread(_serve, worker, status_server_port, timeout))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        worker.stop()
        await serving
        raise


def _serve(worker: TaskWorker, status_port: int | None, timeout: float | None) -> None:
    from eparch.workers.health import Status
    from eparch.workers.signals import stopped_by_signals

    status = Status(status_port, worker.status) if status_port is not None else None
    try:
        with stopped_by_signals(worker):
            worker.run(timeout)
    finally:
        if status is not None:
            status.close()
