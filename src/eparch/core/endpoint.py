"""What an endpoint is, and a call of one. The endpoints themselves are in ``core.endpoints``."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

T = TypeVar("T")

CLAIM_HEADER = "x-eparch-claim"
"""Carries the fencing token of a run's process; a stale one is refused (row W15)."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request that is ready to be sent, and the type of its answer."""

    endpoint: Endpoint[T]
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """``GET``, ``POST`` ..."""
        return self.endpoint.method

    @property
    def answer(self) -> Any:
        """The type that the answer is decoded into."""
        return self.endpoint.answer

    @property
    def idempotent(self) -> bool:
        """Whether sending it again cannot do harm, so that a lost answer may be asked for again."""
        return self.endpoint.idempotent or self.method in ("GET", "PUT", "DELETE", "PATCH")


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[T]):
    """A method and a path with what goes in and what comes out.

    Calling it makes a ``Call``: path and query parameters by name, the body as ``body``.
    """

    method: str
    path: str
    answer: Any
    """Type of the answer; None is no content."""
    body: Any = None
    """Type of the body, a ``FilterBody``, or None."""
    status: int = 200
    also: tuple[int, ...] = ()
    """Other status codes of success."""
    query: tuple[str, ...] = ()
    tag: str = ""
    summary: str = ""
    idempotent: bool = False
    secret: bool = False
    """Its body may hold secrets: what is refused is not sent back to be read in a log."""
    media: str = "application/json"
    """Of the answer; what is not JSON is answered as it is, as a text."""

    def __call__(
        self, *, body: Any = None, headers: Mapping[str, str] | None = None, **given: Any
    ) -> Call[T]:
        """The call with these parameters.

        Raises:
            TypeError: a parameter is unknown or missing.
        """
        names = [name for _, name, _, _ in string.Formatter().parse(self.path) if name]
        asked = {name: given.pop(name) for name in self.query if name in given}
        if set(given) != set(names):
            raise TypeError(f"{self.method} {self.path} takes {names}, not {sorted(given)}")
        path = self.path.format(**{name: quote(str(given[name]), safe="") for name in names})
        if asked:
            path += "?" + urlencode(asked)
        return Call(self, path, body, headers or {})
