"""From an endpoint of ``core.calls`` to its handler and back to bytes.

Owns matching of paths, decoding of what comes in and encoding of what goes out; no rule of any entity.
"""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, get_type_hints
from urllib.parse import parse_qsl, unquote_to_bytes
from uuid import UUID

import msgspec

from eparch.api.errors import InvalidParts, missing, nul, refusal, without_input
from eparch.api.request import Answer, Request
from eparch.core.calls import Endpoint
from eparch.core.errors import EparchError, Invalid, NotFound
from eparch.core.filters import FilterBody, Query
from eparch.core.model import encode

Handler = Callable[..., Awaitable[Any]]
H = TypeVar("H", bound=Handler)

NO_BODY = frozenset({204, 304})

MAX_QUERY_FIELDS = 50
MAX_DEPTH = 128
"""Levels of a body; what is stored must be far from the depth at which an encoder gives up."""

_TEXT_PARAMETERS = frozenset({"resource_id", "lease_id"})
"""Path parameters that end in ``_id`` and are text: a malformed lease is a 422 on the wire, not a 404."""

_NUL_ESCAPE = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")

_PLAIN = bytes(set(range(256)) - set(b'[]{}"'))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")

_REPORTS = frozenset({"/logs/", "/events", "/flow_runs/{id}/set_state", "/task_runs/{id}/set_state"})
"""Endpoints that say what happened: a NUL in a message must not lose the message, so it is replaced."""


class MethodNotAllowed(EparchError):
    """Method Not Allowed"""

    def __init__(self, allowed: Iterable[str]) -> None:
        """``allowed`` are the methods that the path knows."""
        super().__init__()
        self.allowed = ", ".join(sorted(allowed))


def is_uuid(parameter: str) -> bool:
    """Whether a path parameter of this name holds a UUID."""
    return (parameter == "id" or parameter.endswith("_id")) and parameter not in _TEXT_PARAMETERS


def argument_of(parameter: str) -> str:
    """What a handler calls the query parameter ``parameter``."""
    return parameter.replace("-", "_")


def parameters_of(path: str) -> list[str]:
    """The names in the braces of ``path``, in order."""
    return [name for _, name, _, _ in string.Formatter().parse(path) if name]


class Route:
    """An endpoint with its handler, taken apart once."""

    __slots__ = ("_decoder", "_filter", "_names", "_needs_body", "_query", "endpoint", "handler")

    def __init__(self, endpoint: Endpoint[Any], handler: Handler) -> None:
        """The handler's parameters are ``request``, those of the path and the query by name, and ``body``.

        Raises:
            TypeError: the signature of ``handler`` does not fit ``endpoint``.
        """
        self.endpoint = endpoint
        self.handler = handler
        self._names = parameters_of(endpoint.path)
        self._query: dict[str, tuple[Any, Any]] = {}
        kind = endpoint.body
        self._filter = kind if isinstance(kind, FilterBody) else None
        self._decoder = None
        self._needs_body = kind is not None and self._filter is None
        if self._needs_body:
            self._decoder = msgspec.json.Decoder(kind)
            self._needs_body = not (endpoint.method == "POST" and _has_defaults(kind))
        self._check()

    def _check(self) -> None:
        hints = get_type_hints(self.handler)
        hints.pop("return", None)
        given = inspect.signature(self.handler).parameters
        place = f"{self.handler.__module__}.{self.handler.__qualname__}"
        wanted = ["request", *self._names, *map(argument_of, self.endpoint.query)]
        if self.endpoint.body is not None:
            wanted.append("body")
        if set(given) != set(wanted):
            raise TypeError(f"{place} takes {sorted(given)}, its endpoint has {sorted(wanted)}")
        for name in self._names:
            if hints[name] is not (UUID if is_uuid(name) else str):
                raise TypeError(f"{place}: {name} is a {'UUID' if is_uuid(name) else 'str'}")
        body = Query if self._filter is not None else self.endpoint.body
        if hints.get("body") != body:
            raise TypeError(f"{place}: body is a {body}")
        for name in self.endpoint.query:
            argument = argument_of(name)
            self._query[name] = (hints[argument], given[argument].default)

    async def call(self, request: Request, values: list[Any]) -> Answer:
        """The answer of the handler; ``values`` are those of the path, in order.

        Raises:
            EparchError: the request is refused, here or by the handler.
        """
        given = dict(zip(self._names, values, strict=True))
        if self._query:
            given.update(self._read_query(request.scope.get("query_string", b"")))
        if self.endpoint.body is not None:
            given["body"] = self._read_body(
                request, await request.read_body(request.services.policy.max_body_bytes)
            )
        value = await self.handler(request, **given)
        return value if type(value) is Answer else Answer(self.endpoint.status, value)

    def _read_query(self, query: bytes) -> dict[str, Any]:
        try:
            pairs = dict(parse_qsl(query.decode("ascii"), errors="strict", max_num_fields=MAX_QUERY_FIELDS))
        except ValueError as error:
            raise Invalid("The query of the URL cannot be read.") from error
        found = {}
        for name, (kind, default) in self._query.items():
            if name not in pairs:
                if default is inspect.Parameter.empty:
                    raise missing("query", name)
                continue
            if "\x00" in pairs[name]:
                raise Invalid(f"The query parameter {name} cannot hold NUL.")
            try:
                found[argument_of(name)] = msgspec.convert(pairs[name], kind, strict=False)
            except msgspec.ValidationError as error:
                detail = {
                    "type": "value_error",
                    "loc": ["query", name],
                    "msg": str(error),
                    "input": pairs[name],
                }
                raise InvalidParts([detail]) from error
        return found

    def _read_body(self, request: Request, data: bytes) -> Any:
        if not data:
            if self._filter is not None:
                return self._filter.parse(None, default_limit=request.services.policy.default_limit)
            if self._needs_body:
                raise missing("body")
            data = b"{}"
        else:
            media = request.headers.get(b"content-type")
            if media is not None and b"json" not in media.lower():
                raise Invalid(
                    "The body must be JSON.",
                    why=f"Its content type is {media[:100].decode('latin-1')}.",
                    fix="Send `Content-Type: application/json`.",
                )
            if b"\\u0000" in data and _NUL_ESCAPE.search(data):
                if self.endpoint.path not in _REPORTS:
                    raise without_input(nul(data)) if self.endpoint.secret else nul(data)
                data = without_nul(data)
        try:
            if data.count(b"[") + data.count(b"{") > MAX_DEPTH and too_deep(data):
                raise RecursionError
            if self._decoder is not None:
                return self._decoder.decode(data)
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            refused = refusal(error, data, self.endpoint.body)
            if self.endpoint.secret:
                raise without_input(refused) from None
            raise refused from error
        assert self._filter is not None
        return self._filter.parse(value, default_limit=request.services.policy.default_limit)


def too_deep(data: bytes) -> bool:
    """Whether the JSON text ``data`` is nested so deeply that writing it again could fail."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # What is left in quotes are strings that hold brackets; two quotes side by side change nothing.
    brackets = data.translate(_ONE_KIND, _PLAIN).replace(b'""', b"")
    if b'"' in brackets:
        brackets = b"".join(brackets.split(b'"')[::2])
    for _ in range(MAX_DEPTH):
        if not brackets:
            return False
        inner = brackets.replace(b"[]", b"")
        if len(inner) == len(brackets):
            return True
        brackets = inner
    return bool(brackets)


def without_nul(data: bytes) -> bytes:
    """The JSON text ``data`` with U+FFFD for each NUL, which PostgreSQL cannot store."""
    return _NUL_ESCAPE.sub(rb"\1\\ufffd", data) if b"\\u0000" in data else data


def _has_defaults(kind: Any) -> bool:
    """Whether ``{}`` is a ``kind``: then no body at all is one too, as on the wire."""
    try:
        return bool(msgspec.structs.fields(kind)) and not any(
            field.required for field in msgspec.structs.fields(kind)
        )
    except TypeError:
        return False


class Node:
    """One segment of the paths: what may follow it, and what is there."""

    __slots__ = ("children", "routes", "text", "uuid")

    def __init__(self) -> None:
        self.children: dict[str, Node] = {}
        self.uuid: Node | None = None
        self.text: Node | None = None
        self.routes: dict[str, Route] = {}


class Router:
    """Finds the route of a method and a path."""

    def __init__(self, base_path: str, routes: Iterable[Route]) -> None:
        """``base_path`` stands before every path.

        Raises:
            ValueError: two routes have the same method and path.
        """
        self._base = [part for part in base_path.split("/") if part]
        self._root = Node()
        self.routes = tuple(routes)
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        for part in route.endpoint.path.strip("/").split("/"):
            if not part.startswith("{"):
                node = node.children.setdefault(part, Node())
            elif is_uuid(part.strip("{}")):
                node.uuid = node = node.uuid or Node()
            else:
                node.text = node = node.text or Node()
        if route.endpoint.method in node.routes:
            raise ValueError(f"{route.endpoint.method} {route.endpoint.path} is there twice")
        node.routes[route.endpoint.method] = route

    def owns(self, path: str) -> bool:
        """Whether ``path`` is below the base path."""
        return path.lstrip("/").split("/")[: len(self._base)] == self._base

    def find(self, method: str, raw_path: str) -> tuple[Route, list[Any]]:
        """The route and the values of its path parameters; a trailing slash makes no difference.

        Raises:
            NotFound: no route has this path.
            MethodNotAllowed: routes have it, with other methods.
        """
        parts = raw_path.removesuffix("/").split("/")[1:]
        base = len(self._base)
        if parts[:base] != self._base:
            raise NotFound("Not Found")
        if "%" in raw_path:
            parts = _unquoted(parts)
        search = _Search("GET" if method == "HEAD" else method, parts)
        route = search.match(self._root, base)
        if route is None:
            raise search.error()
        return route, search.values


class _Search:
    """One walk through the tree: literal segments before UUIDs before text, with a way back."""

    __slots__ = ("allowed", "method", "parts", "refused", "values")

    def __init__(self, method: str, parts: list[str]) -> None:
        self.method = method
        self.parts = parts
        self.values: list[Any] = []
        self.allowed: set[str] = set()
        self.refused = ""

    def match(self, node: Node, at: int) -> Route | None:
        if at == len(self.parts):
            route = node.routes.get(self.method)
            if route is None:
                self.allowed.update(node.routes)
            return route
        part = self.parts[at]
        child = node.children.get(part)
        if child is not None and (route := self.match(child, at + 1)) is not None:
            return route
        if node.uuid is not None:
            value = _uuid_of(part)
            if value is None:
                self.refused = part
            elif (route := self._follow(node.uuid, at, value)) is not None:
                return route
        if node.text is not None and part:
            return self._follow(node.text, at, part)
        return None

    def _follow(self, node: Node, at: int, value: Any) -> Route | None:
        self.values.append(value)
        route = self.match(node, at + 1)
        if route is None:
            self.values.pop()
        return route

    def error(self) -> EparchError:
        if self.allowed:
            return MethodNotAllowed(self.allowed)
        why = f"{self.refused[:100]!r} is not a UUID." if self.refused else ""
        return NotFound("Not Found", why=why)


def _uuid_of(text: str) -> UUID | None:
    try:
        return msgspec.convert(text, UUID)
    except msgspec.ValidationError:
        return None


def _unquoted(parts: list[str]) -> list[str]:
    found = []
    for part in parts:
        try:
            text = unquote_to_bytes(part).decode()
        except UnicodeDecodeError as error:
            raise NotFound("Not Found", why="The path is not UTF-8.") from error
        if "\x00" in text:
            raise NotFound("Not Found", why="A path cannot hold NUL.")
        found.append(text)
    return found


HANDLERS: dict[tuple[str, str], Route] = {}
"""What ``handles`` registered, by method and path."""


def handles(endpoint: Endpoint[Any]) -> Callable[[H], H]:
    """Register an ``async`` function as the handler of ``endpoint``.

    It returns the value of the answer, or an ``Answer`` where the status depends on what happened.

    Raises:
        TypeError: its signature does not fit.
        ValueError: the endpoint has a handler.
    """

    def register(handler: H) -> H:
        key = (endpoint.method, endpoint.path)
        if key in HANDLERS:
            raise ValueError(f"{endpoint.method} {endpoint.path} has a handler")
        HANDLERS[key] = Route(endpoint, handler)
        return handler

    return register


def body_of(answer: Answer) -> bytes:
    """The body of ``answer`` as bytes; nothing where its status has none."""
    if answer.status in NO_BODY or answer.chunks is not None:
        return b""
    if answer.media != "application/json":
        data: bytes = answer.value
        return data
    return encode(answer.value)
