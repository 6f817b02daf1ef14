"""What an answer of a server means: the value that was asked for, or an error that says what to do.

Pure functions of status, headers and body. Does not own sending.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from eparch.client.retries import retry_after_of
from eparch.core.calls import Call
from eparch.core.errors import (
    EparchError,
    Forbidden,
    Locked,
    NotFound,
    Unauthorized,
    Unavailable,
    Unreachable,
    VersionMismatch,
    from_status,
)
from eparch.core.model import decode

SPOKEN_MAJOR = 3
"""The major version of Prefect's API that we speak."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; names of headers are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_json(self) -> bool:
        """Whether it says that it is JSON."""
        return "json" in self.headers.get("content-type", "")


def value_of(answer: Answer, call: Call[Any], api_url: str) -> Any:
    """The value that ``call`` asked for.

    Raises:
        EparchError: the answer is an error, or not one of an API that we speak.
    """
    if not 200 <= answer.status < 300:
        raise error_of(answer, call.method, call.path, api_url)
    if call.answer is None:
        return None
    if call.endpoint.media != "application/json":
        if not answer.headers.get("content-type", "").startswith(call.endpoint.media):
            raise foreign(answer, api_url)
        return answer.body.decode(errors="replace")
    if not answer.is_json:
        raise foreign(answer, api_url)
    try:
        return decode(answer.body, call.answer)
    except msgspec.MsgspecError as error:
        raise VersionMismatch(
            f"The server at {api_url} answered {call.method} {call.path} in a way that is not understood.",
            why=str(error),
            fix="Compare the versions of client and server: eparch version",
        ) from error


def foreign(answer: Answer, api_url: str) -> Unreachable:
    """The error for an answer that no API of ours gives: a page, a proxy, a redirect."""
    target = answer.headers.get("location")
    if 300 <= answer.status < 400 and target:
        return Unreachable(
            f"The server at {api_url} redirects to {target}.", fix="Set EPARCH_API_URL to where the API is."
        )
    kind = answer.headers.get("content-type", "").partition(";")[0] or "nothing"
    return Unreachable(
        f"There is no API at {api_url}.",
        why=f"It answered {kind} with status {answer.status}, not JSON.",
        fix="Check EPARCH_API_URL: the URL of an API usually ends in /api.",
    )


def error_of(answer: Answer, method: str, path: str, api_url: str) -> EparchError:
    """The error that a status of 300 and above means."""
    fields = _fields(answer)
    if answer.status < 400 or (fields is None and answer.status in (404, 405)):
        return foreign(answer, api_url)
    message, why = _text(fields) if fields else ("", "")
    if answer.status == 401:
        return Unauthorized(
            f"The server at {api_url} wants to know who asks.",
            why="It refused the credentials, or there were none.",
            fix="Set EPARCH_AUTH_STRING to user:password, or EPARCH_API_KEY.",
        )
    if answer.status == 404 and message in ("", "Not Found"):
        return NotFound(
            f"The server at {api_url} has no {method} {path.partition('?')[0]}.",
            fix="Check EPARCH_API_URL (it usually ends in /api) and the server's version.",
        )
    if answer.status in (429, 502, 503, 504):
        return Unavailable(
            f"The server at {api_url} cannot answer right now (HTTP status {answer.status}).",
            why=_said(fields, "detail") or message,
            fix=_said(fields, "fix") or "Try again later.",
        )
    if answer.status == 423:
        after = retry_after_of(answer.headers.get("retry-after"), datetime.now(UTC))
        return Locked(message or None, retry_after=after)
    error = from_status(answer.status, message or f"The server answered with status {answer.status}.")
    error.why = why or error.why
    error.fix = str(fields.get("fix") or "") if fields else ""
    return error


def is_csrf(error: EparchError) -> bool:
    """Whether the server asks for a token against cross-site requests (wire section 1, "CSRF")."""
    return isinstance(error, Forbidden) and "csrf" in error.message.lower()


def _fields(answer: Answer) -> dict[str, Any] | None:
    """The error's JSON object, or None when the body is something else."""
    try:
        body: Any = decode(answer.body)
    except msgspec.MsgspecError:
        return None
    return body if isinstance(body, dict) else None


def _said(fields: Mapping[str, Any] | None, name: str) -> str:
    value = fields.get(name) if fields else None
    return value if isinstance(value, str) else ""


def _text(fields: dict[str, Any]) -> tuple[str, str]:
    """Message and reason in an error body (wire section 1, "Errors")."""
    message = fields.get("exception_message") or fields.get("message") or fields.get("detail") or ""
    reasons = fields.get("exception_detail") or fields.get("why") or ""
    if isinstance(message, list):
        message, reasons = "The request is not valid.", message
    if isinstance(reasons, list):
        reasons = "; ".join(_reason(reason) for reason in reasons)
    return _line(message), _line(reasons)


def _reason(reason: Any) -> str:
    if not isinstance(reason, dict):
        return str(reason)
    place = ".".join(str(part) for part in reason.get("loc", ()))
    said = str(reason.get("msg", reason))
    return f"{place}: {said}" if place else said


def _line(text: Any) -> str:
    return text if isinstance(text, str) else msgspec.json.encode(text).decode()


def check_admin_version(version: str, api_url: str) -> None:
    """The server speaks our major version.

    Raises:
        VersionMismatch: it does not (row B24).
    """
    major = version.partition(".")[0]
    if major != str(SPOKEN_MAJOR):
        raise VersionMismatch(
            f"The server at {api_url} speaks version {version[:40]!r} of the API.",
            why=f"This client speaks version {SPOKEN_MAJOR}.",
            fix="Use a client and a server of the same major version.",
        )
