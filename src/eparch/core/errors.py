"""Every error that Eparch raises, one tree.

The docstring of a class is its default message. ``STATUS`` maps the tree to HTTP and back,
``EXIT`` to exit codes of the command line; nothing else does.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class EparchError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None, *, why: str = "", fix: str = "") -> None:
        """``message`` says what happened, ``why`` its cause, ``fix`` what to do; each is one line."""
        self.message = message if message is not None else (type(self).__doc__ or "").strip()
        self.why = why
        self.fix = fix
        super().__init__(self.message)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.__dict__.copy()))


def _rebuild(kind: type[EparchError], fields: dict[str, object]) -> EparchError:
    error = kind.__new__(kind)
    Exception.__init__(error, fields.get("message", ""))
    error.__dict__.update(fields)
    return error


# What a request may be answered with.


class Invalid(EparchError):
    """The request is not valid."""


class BadRequest(EparchError):
    """The request cannot be understood."""


class Unauthorized(EparchError):
    """Unauthorized"""


class Forbidden(EparchError):
    """This is not allowed."""


class NotFound(EparchError):
    """It does not exist."""


class Conflict(EparchError):
    """It conflicts with what is there."""


class Gone(EparchError):
    """It is gone."""


class TooLarge(EparchError):
    """The request is too large."""


class Locked(EparchError):
    """No slot is free."""

    def __init__(
        self, message: str | None = None, *, retry_after: float | None = 1.0, why: str = "", fix: str = ""
    ) -> None:
        """``retry_after`` is in seconds; None when waiting does not help."""
        super().__init__(message, why=why, fix=fix)
        self.retry_after = retry_after


class Unavailable(EparchError):
    """The server cannot answer right now."""


class ServerFault(EparchError):
    """The server failed to answer."""


# What a caller meets.


class Unreachable(EparchError):
    """The server cannot be reached."""


class Disconnected(Unreachable):
    """The connection to the server is over."""

    def __init__(
        self, message: str | None = None, *, code: int = 1006, reason: str = "", why: str = "", fix: str = ""
    ) -> None:
        """``code`` and ``reason`` are those of the frame that closed it (RFC 6455); 1006: there was none."""
        super().__init__(message, why=why, fix=fix)
        self.code = code
        self.reason = reason


class VersionMismatch(EparchError):
    """Client and server do not speak the same version."""


class Usage(EparchError):
    """The command was not used as it can be."""


class SettingInvalid(Usage):
    """A setting has a value that it cannot have."""


class DatabaseUnusable(EparchError):
    """The database cannot be used."""


# What a person wrote.


class SourceError(EparchError):
    """There is a mistake in a file."""

    def __init__(
        self, message: str, *, file: str = "", line: int = 0, column: int = 0, why: str = "", fix: str = ""
    ) -> None:
        """``line`` and ``column`` count from 1; 0 is unknown."""
        super().__init__(message, why=why, fix=fix)
        self.file, self.line, self.column = file, line, column

    @property
    def position(self) -> str:
        """``file:line:column``, as much of it as is known."""
        known = [self.file, *(str(n) for n in (self.line, self.column) if n)]
        return ":".join(part for part in known if part)

    def __str__(self) -> str:
        return f"{self.position}: {self.message}" if self.position else self.message


class SourceErrors(EparchError):
    """There are mistakes in a file."""

    def __init__(self, errors: Iterable[SourceError]) -> None:
        """All of a file's mistakes at once."""
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


class TemplateInvalid(SourceError):
    """A template cannot be rendered."""


class ScheduleInvalid(Invalid):
    """The schedule cannot be used."""


class ParametersInvalid(Invalid):
    """The parameters do not fit the flow."""


# What ends a run.


class RunError(EparchError):
    """The run did not complete."""


class FailedRun(RunError):
    """The run failed."""


class CrashedRun(RunError):
    """The run crashed."""


class CancelledRun(RunError):
    """The run was cancelled."""


class PausedRun(RunError):
    """The run is paused."""


class UnfinishedRun(RunError):
    """The run is not finished."""


class MissingResult(RunError):
    """The run has no result here: it was not kept."""


class UpstreamFailed(RunError):
    """An upstream task did not complete."""


class TimedOut(RunError, TimeoutError):
    """The run took longer than its timeout."""


class NoSlots(EparchError):
    """Slots of a concurrency limit could not be taken."""


class NoSlotsInTime(EparchError, TimeoutError):
    """No slot of a concurrency limit got free in time."""


class NoSuchBlock(NotFound, ValueError):
    """There is no such block."""


class BlockExists(Conflict, ValueError):
    """There is a block of this type and name."""


class Aborted(RunError):
    """The server told this process to stop running it."""


class StepFailed(EparchError):
    """A step failed."""


class InfrastructureError(EparchError):
    """The infrastructure could not be used."""


STATUS: dict[type[EparchError], int] = {
    BadRequest: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Gone: 410,
    TooLarge: 413,
    Invalid: 422,
    Locked: 423,
    ServerFault: 500,
    Unavailable: 503,
}
"""HTTP status of an error, by its nearest class in the tree (wire section 1, "Errors")."""

EXIT: dict[type[EparchError], int] = {
    EparchError: 1,
    Usage: 2,
    SourceError: 2,
    SourceErrors: 2,
    BadRequest: 2,
    Invalid: 2,
    NotFound: 3,
    Unauthorized: 4,
    Forbidden: 4,
    Conflict: 5,
    Unreachable: 6,
    Unavailable: 6,
    VersionMismatch: 6,
    RunError: 7,
}
"""Exit code of an error, by its nearest class in the tree; 0 is success, 130 an interrupt."""


def nearest(table: dict[type[EparchError], int], error: EparchError, default: int) -> int:
    """What ``table`` holds for the class of ``error`` or its nearest ancestor."""
    return next((table[kind] for kind in type(error).__mro__ if kind in table), default)


def from_status(status: int, message: str, *, retry_after: float = 1.0) -> EparchError:
    """The error that a server meant by ``status``: ``STATUS`` read the other way."""
    for kind, code in STATUS.items():
        if code == status:
            return Locked(message, retry_after=retry_after) if kind is Locked else kind(message)
    return (ServerFault if status >= 500 else BadRequest)(message, why=f"HTTP status {status}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``Did you mean 'x'?`` for the nearest of ``known``, else an empty text."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean '{found[0]}'?" if found else ""
