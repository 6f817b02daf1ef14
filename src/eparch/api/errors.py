"""Errors as answers: status and body of everything that can go wrong (wire section 1, "Errors").

Owns the shape of the bodies. Which error has which status is ``core.errors.STATUS``.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import msgspec

from eparch.api.request import Answer
from eparch.core.errors import (
    STATUS,
    BadRequest,
    DatabaseUnusable,
    EparchError,
    Invalid,
    Locked,
    ServerFault,
    Unauthorized,
    Unavailable,
    did_you_mean,
    nearest,
)
from eparch.core.filters import Misplaced
from eparch.core.model import new_id

logger = logging.getLogger("eparch.api")

INVALID = "Invalid request received."
"""The ``exception_message`` of a 422; the reasons are in ``exception_detail`` (wire section 1)."""

MAX_ECHO = 64 * 1024
"""Bytes of a refused body up to which it is sent back."""

RETRY_SECONDS = 1.0

_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?P<key>key in )?(?P<path>\$[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_MISSING = re.compile(r"^Object missing required field `(.+)`$")
_NAME_MISMATCH = "Expected `str` matching regex '^[^/%&><"
_UNKNOWN = re.compile(r"^Object contains unknown field `(.+)`$")


class InvalidParts(Invalid):
    """A request of the wrong shape, with the places that are wrong."""

    def __init__(self, detail: list[dict[str, Any]], body: Any = None) -> None:
        """``detail`` has one entry a place: ``type``, ``loc``, ``msg`` and, where it is known, ``input``."""
        super().__init__("; ".join(f"{'.'.join(map(str, d['loc']))}: {d['msg']}" for d in detail))
        self.detail = detail
        self.body = body


def missing(*loc: str | int) -> InvalidParts:
    """What is said when the part at ``loc`` is not there."""
    return InvalidParts([{"type": "missing", "loc": list(loc), "msg": "Field required", "input": None}])


def answer_to(error: Exception) -> Answer:
    """The answer that tells the client of ``error``; never a traceback.

    What nobody foresaw is logged with an id that the answer carries.
    """
    if isinstance(error, OverflowError):
        error = Invalid("A number or a date of the request is out of range.")
    if isinstance(error, DatabaseUnusable):
        # A full disk, say: somebody has to do something, and then it goes on.
        error = Unavailable(error.message, why=error.why, fix=error.fix)
    if not isinstance(error, EparchError):
        return _fault(error)
    status = nearest(STATUS, error, 500)
    if status == 500:
        return _fault(error)
    return Answer(status, _body(error), _headers(error))


def _fault(error: Exception) -> Answer:
    id_ = str(new_id())
    logger.error("Error %s: a request failed.", id_, exc_info=error)
    return Answer(500, {"exception_message": "Internal Server Error", "error_id": id_})


def _body(error: EparchError) -> dict[str, Any]:
    if isinstance(error, InvalidParts):
        return {"exception_message": INVALID, "exception_detail": error.detail, "request_body": error.body}
    if isinstance(error, Unauthorized):
        return {"exception_message": "Unauthorized"}
    body: dict[str, Any] = {"detail": error.message}
    if isinstance(error, Invalid):
        # Clients look for the one or the other: Prefect says some of its refusals in `detail` alone.
        loc = error.loc if isinstance(error, Misplaced) else ["body"]
        entry = _entry("value_error", [*loc], error.message)
        body = {"exception_message": INVALID, "exception_detail": [entry], "request_body": None, **body}
    elif isinstance(error, Unavailable | ServerFault):
        body = {"exception_message": "Service Unavailable", **body}
    if error.why:
        body["why"] = error.why
    if error.fix:
        body["fix"] = error.fix
    return body


def _headers(error: EparchError) -> dict[str, str]:
    if isinstance(error, Locked) and error.retry_after is not None:
        return {"retry-after": f"{error.retry_after:g}"}
    if isinstance(error, Unavailable):
        return {"retry-after": f"{RETRY_SECONDS:g}"}
    if isinstance(error, Unauthorized):
        return {"www-authenticate": 'Basic realm="Eparch"'}
    return {}


def refusal(error: Exception, data: bytes | None, kind: Any = None) -> EparchError:
    """What is wrong with the body ``data``, which could not be decoded as a ``kind``.

    ``error`` is what the decoder raised: not JSON, another shape, not UTF-8, or nested too deeply.
    """
    if isinstance(error, msgspec.ValidationError):
        body = _echo(data)
        return InvalidParts([_place(str(error), body, kind)], body)
    if isinstance(error, RecursionError):
        return InvalidParts([_entry("recursion_loop", ["body"], "The body is nested too deeply")])
    if isinstance(error, UnicodeDecodeError):
        return BadRequest("The body is not UTF-8.")
    detail = _entry("json_invalid", ["body"], f"JSON decode error: {error}")
    return InvalidParts([detail], _echo(data))


def nul(data: bytes) -> InvalidParts:
    """What is said of a text that holds NUL: PostgreSQL cannot store it, so no store does."""
    detail = _entry("string_nul", ["body"], "A text cannot hold the character NUL (\\u0000)")
    return InvalidParts([detail], _echo(data))


def without_input(error: EparchError) -> EparchError:
    """``error`` without what was sent: there may be secrets in it, and answers are kept in logs."""
    if not isinstance(error, InvalidParts):
        return error
    return InvalidParts([{**one, "input": None} if "input" in one else one for one in error.detail])


def _entry(type_: str, loc: list[str | int], msg: str, *given: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": type_, "loc": loc, "msg": msg}
    if given:
        entry["input"] = given[0]
    return entry


def _place(message: str, body: Any, kind: Any) -> dict[str, Any]:
    match = _PATH.match(message)
    what, path = (match["what"], match["path"] or "$") if match else (message, "$")
    loc: list[str | int] = ["body"]
    for name, index in _STEP.findall(path):
        loc.append(name or (int(index) if index.isdigit() else index))
    value = _value_at(body, loc[1:])
    if found := _MISSING.match(what):
        return _entry("missing", [*loc, found[1]], "Field required", value)
    if found := _UNKNOWN.match(what):
        hint = did_you_mean(found[1], _fields_of(kind, loc[1:]))
        given = value.get(found[1]) if isinstance(value, dict) else None
        text = f"Extra inputs are not permitted. {hint}" if hint else "Extra inputs are not permitted"
        return _entry("extra_forbidden", [*loc, found[1]], text, given)
    if what.startswith(_NAME_MISMATCH):
        what = "A name is not empty and has none of the characters / % & > <"
    type_ = "type_error" if what.startswith("Expected `") and ", got `" in what else "value_error"
    return _entry(type_, loc, what, value)


def _fields_of(kind: Any, loc: list[str | int]) -> tuple[str, ...]:
    """The names of the struct at the root of ``kind``; of a deeper one nothing is known here."""
    if len(loc) == 1 and isinstance(loc[0], int):
        kind = next(iter(getattr(kind, "__args__", ())), None)
    elif loc:
        return ()
    return tuple(getattr(kind, "__struct_fields__", ()))


def _value_at(body: Any, loc: list[str | int]) -> Any:
    for step in loc:
        try:
            body = body[step]
        except (LookupError, TypeError):
            return None
    return body


def _echo(data: bytes | None) -> Any:
    if not data or len(data) > MAX_ECHO:
        return None
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "replace")
