"""One request to an object store by HTTP: files streamed, passing faults tried again, secrets never told.

Owns the exchange. Does not own addresses, signatures or tokens.
"""

from __future__ import annotations

import shutil
import time
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError

from eparch.core.errors import StepFailed

ATTEMPTS = 3
TIMEOUT = 60.0
"""Seconds of silence."""

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer that is not written to a file."""

_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_MOST = 500
_pause = time.sleep


def exchange(
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    what: str,
    source: Path | None = None,
    into: Path | None = None,
) -> bytes:
    """Send a request with the file ``source``, or nothing; its answer.

    With ``into`` the answer is written to that file. ``what`` names the request in errors; the URL may hold
    a signature and is never told.

    Raises:
        StepFailed: it is refused, or could not be done in three attempts.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _once(method, url, headers, source, into)
        except HTTPError as error:
            with error:
                said = " ".join(error.read(_MOST).decode(errors="replace").split())
            why = f"the answer is {error.code} {error.reason}: {said}".rstrip(": ")
            passes = error.code in _PASSING
        except (OSError, HTTPException) as error:
            why, passes = str(getattr(error, "reason", "") or error or type(error).__name__), True
        if attempt == ATTEMPTS or not passes:
            raise StepFailed(f"{what} failed", why=why)
        _pause(attempt**2)
    raise AssertionError


def _once(
    method: str,
    url: str,
    headers: Mapping[str, str],
    source: Path | None,
    into: Path | None,
) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise StepFailed("The address of the store is no URL of http or https")
    if source is None:
        return _answer(_request(method, url, headers, None), into)
    with source.open("rb") as file:
        length = {"Content-Length": str(source.stat().st_size)}
        return _answer(_request(method, url, {**headers, **length}, file), into)


def _request(
    method: str, url: str, headers: Mapping[str, str], data: IO[bytes] | None
) -> urllib.request.Request:
    return urllib.request.Request(url, data=data, headers=dict(headers), method=method)  # noqa: S310  checked


def _answer(request: urllib.request.Request, into: Path | None) -> bytes:
    with _OPENER.open(request, timeout=TIMEOUT) as answer:
        if into is None:
            return bytes(answer.read(MAX_ANSWER))
        part = into.with_name(f".{into.name}.part")
        try:
            with part.open("wb") as file:
                shutil.copyfileobj(answer, file, 1024 * 1024)
            part.replace(into)
        finally:
            part.unlink(missing_ok=True)
    return b""


class _Strict(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a token would go along to wherever it leads."""

    def redirect_request(self, *given: object) -> None:
        """None: the redirect is an error then."""


_OPENER = urllib.request.build_opener(_Strict)
