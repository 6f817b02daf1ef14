"""Logs of runs: loggers, the handlers that show and ship their lines, and prints that become lines.

Owns what a line says and whose it is. Shipping is in ``reporter``; an upload that fails never fails a run.
"""

from __future__ import annotations

import builtins
import importlib
import logging
import sys
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from eparch.core.errors import EparchError, Usage
from eparch.core.records import MAX_MESSAGE, LogCreate
from eparch.sdk import context
from eparch.sdk.text import printable

if TYPE_CHECKING:
    from eparch.sdk.flow_run import FlowRunContext
    from eparch.sdk.session import Session
    from eparch.sdk.task_run import TaskRunContext

ROOT = "eparch"
FLOW_RUNS = "eparch.flow_runs"
TASK_RUNS = "eparch.task_runs"
OWN_FILES = (__file__.removesuffix("sdk/logs.py"), "<frozen importlib", importlib.__file__)

_print = builtins.print


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose lines belong to one run."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add whose line it is."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


def run_logger(run: FlowRunContext | TaskRunContext) -> RunLogger:
    """The logger of ``run``."""
    task = run.noun == "Task run"
    flow = run.flow_context if task else run
    extra: dict[str, Any] = {
        "flow_run_id": str(flow.record.id) if flow is not None else None,
        "task_run_id": str(run.record.id) if task else None,
        "run": run,
    }
    return RunLogger(logging.getLogger(TASK_RUNS if task else FLOW_RUNS), extra)


def get_run_logger() -> RunLogger:
    """The logger of the run that calls it: its lines are shown, and kept with the run.

    Raises:
        Usage: it is not called from a run.
    """
    run = context.current_run()
    if run is None:
        raise Usage(
            "There is no run to log for.", fix="Call get_run_logger() from inside of a flow or a task."
        )
    return run.logger


def get_logger(name: str | None = None) -> logging.Logger:
    """A logger that is shown as those of runs are, but belongs to none."""
    return logging.getLogger(ROOT if not name else name if name.startswith(ROOT) else f"{ROOT}.{name}")


class Shipping(logging.Handler):
    """Hands the lines of runs to the session's reporter."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line; a line of no run stays here."""
        try:
            flow_run_id, task_run_id = _owner_of(record)
            if flow_run_id is None and task_run_id is None:
                return
            self._session.reporter.log(
                LogCreate(
                    name=printable(record.name, 255),
                    level=record.levelno,
                    message=printable(_message_of(record), MAX_MESSAGE),
                    timestamp=datetime.fromtimestamp(record.created, UTC),
                    flow_run_id=flow_run_id,
                    task_run_id=task_run_id,
                )
            )
        except Exception:
            self.handleError(record)


class Console(logging.Handler):
    """Shows lines on standard error: ``12:38:39.964 | INFO    | Flow run 'x' - text``."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line."""
        try:
            run = getattr(record, "run", None)
            whose = f"{run.noun} {run.record.name!r}" if run is not None else record.name
            when = datetime.fromtimestamp(record.created).astimezone()
            clock = f"{when:%H:%M:%S}.{when.microsecond // 1000:03d}"
            line = f"{clock} | {record.levelname:<7} | {whose} - {_message_of(record)}\n"
            stream = sys.stderr
            try:
                stream.write(line)
            except UnicodeEncodeError:
                stream.write(line.encode("ascii", "backslashreplace").decode())
            stream.flush()
        except Exception:
            self.handleError(record)


def _owner_of(record: logging.LogRecord) -> tuple[UUID | None, UUID | None]:
    given = getattr(record, "flow_run_id", None), getattr(record, "task_run_id", None)
    if given == (None, None):
        run = context.current_run()
        if run is None:
            return None, None
        given = run.logger.extra["flow_run_id"], run.logger.extra["task_run_id"]  # type: ignore[index]
    flow_run_id, task_run_id = given
    return UUID(flow_run_id) if flow_run_id else None, UUID(task_run_id) if task_run_id else None


def _message_of(record: logging.LogRecord) -> str:
    message = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return message
    return f"{message}\n{told(error)}".rstrip()


def told(error: BaseException) -> str:
    """What a person reads of ``error``: its traceback, or what it says when no line of theirs is in it."""
    if isinstance(error, EparchError) and _first_foreign(error) is None:
        return "\n".join(part for part in (str(error), error.why, error.fix) if part)
    return trimmed_traceback(error)


def _first_foreign(error: BaseException) -> TracebackType | None:
    """The first frame that is not ours, nor the import machinery that we called."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(OWN_FILES):
        frame = frame.tb_next
    return frame


def trimmed_traceback(error: BaseException) -> str:
    """The traceback of ``error`` from the user's first line on: the frames that called it are ours."""
    first = _first_foreign(error) or error.__traceback__
    return "".join(traceback.format_exception(type(error), error, first))


def configure(session: Session) -> None:
    """Show the lines of our loggers at the level that the settings ask for, and ship those of runs."""
    level = getattr(logging, session.settings.log_level)
    root = logging.getLogger(ROOT)
    root.setLevel(level)
    root.propagate = False
    if not any(isinstance(handler, Console) for handler in root.handlers):
        root.addHandler(Console())
    for name in (FLOW_RUNS, TASK_RUNS):
        logger = logging.getLogger(name)
        for old in [handler for handler in logger.handlers if isinstance(handler, Shipping)]:
            logger.removeHandler(old)
        logger.addHandler(Shipping(session))


def catch_prints() -> None:
    """From now on what is printed inside of a run with ``log_prints`` is a line of its log."""
    if builtins.print is not _log_print:
        global _print
        _print = builtins.print
        builtins.print = _log_print


def _log_print(
    *args: Any, sep: str | None = None, end: str | None = None, file: Any = None, **more: Any
) -> None:
    run = context.current_run()
    if run is None or not run.log_prints or file not in (None, sys.stdout, sys.stderr):
        _print(*args, sep=sep, end=end, file=file, **more)
        return
    text = (" " if sep is None else sep).join(str(arg) for arg in args)
    run.logger.info("%s", text)


def should_log_prints(own: bool | None) -> bool:
    """Whether a new run logs what is printed: as it says, or else as the flow around it does."""
    if own is None:
        outer = context.current_run()
        own = outer.log_prints if outer is not None else False
    if own:
        catch_prints()
    return own
