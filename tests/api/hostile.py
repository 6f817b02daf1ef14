"""Requests that nobody honest sends, made of our own OpenAPI document: each parameter and each field in turn.

They are the same ones each time. What is asked of the answers is in ``test_hostile``.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

T = TypeVar("T")

MARK = "here-it-stands"
_MARK = msgspec.json.encode(MARK)


def _nested(opening: bytes, closing: bytes, depth: int) -> bytes:
    return opening * depth + b"1" + closing * depth


FRAGMENTS: tuple[bytes, ...] = (
    # Numbers that no column, no clock and no limit holds.
    *(b"-1", b"0", b"1", b"0.5", b"-0.0", b"1e-320", b"1e30", b"1e308", b"1e999", b"NaN", b"-Infinity"),
    *(b"%d" % number for number in (2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400)),
    # Texts that are none.
    *(b'""', b'" "', b'"a\\u0000b"', b'"a\x00b"', b'"a\nb"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\x"'),
    *(b'"\xed\xa0\x80"', b'"\xff\xfe"', b'"\xc0\xaf"', b'"', b"'a'"),
    # Texts that mean something to somebody.
    *(b'"../../etc/passwd"', b'"%2e%2e%2f"', b'"a/b"', b'"a%00b"', b'"\'; DROP TABLE flow; --"', b'"%_"'),
    *(b'"{{ 7 * 7 }}"', b'"{% for a in range(10000000) %}x{% endfor %}"', b'"(a+)+$"', b'"\\u202e\\ufeff"'),
    *(b'"* * * * *"', b'"FREQ=SECONDLY"', b'"prefect.x.{{ y }}"', b'"$.a[*]"', b'"<script>"', b'"NO_SUCH"'),
    # Times at and beyond the ends of the calendar.
    *(b'"0000-01-01T00:00:00Z"', b'"0001-01-01T00:00:00+14:00"', b'"0001-01-01T00:00:00Z"', b'"2026-02-30"'),
    *(
        b'"9999-12-31T23:59:59.999999-14:00"',
        b'"9999-12-31T23:59:59Z"',
        b'"2026-01-01T00:00:00"',
        b'"P9999Y"',
    ),
    b'"00000000-0000-0000-0000-000000000000"',
    # Shapes.
    *(b"null", b"true", b"[]", b"{}", b"[null]", b"[[]]", b'{"":""}', b'{"a":1,"a":2}', b'{"\\ud800":1}'),
    *(b'{"\\u0000":1}', b'{"type":"NO_SUCH"}', b'{"$ref":"#/definitions/a"}', b'{"__prefect_kind":"jinja"}'),
    *(b'["a","a"]', b"[1e999]", b'[""]', b"[0]", b'[{"a":{}}]', b"[" + b"0," * 10_000 + b"0]"),
    *(_nested(b"[", b"]", 100), _nested(b'{"a":', b"}", 100), _nested(b"[", b"]", 20_000), b"[", b""),
    b'"' + b"a" * 2**20 + b'"',
)
"""What stands, as JSON or nearly, where a value is expected."""

PARTS: tuple[str, ...] = (
    *("%2e%2e%2f%2e%2e%2fetc", "%2e%2e", "..", "%00", "a%00b", "%ff%fe", "%ed%a0%80", "%c0%af", "%", "%zz"),
    *(
        "%252e%252e",
        "a%2fb",
        "%0d%0aX:%20y",
        "-1",
        "9" * 40,
        "1e999",
        "NaN",
        "null",
        "x" * 5000,
        "%7b%7b7*7%7d%7d",
    ),
    *(
        "%27%3b--",
        "%25",
        "_",
        "%E2%80%AE",
        "0001-01-01T00:00:00%2b14:00",
        "9999-12-31T23:59:59-14:00",
        "true",
    ),
    "00000000-0000-0000-0000-000000000000",
)
"""What stands where a part of the path, or a parameter of the query, is expected."""

BODIES: tuple[bytes, ...] = (
    *(
        b"",
        b" ",
        b"null",
        b"0",
        b'"a"',
        b"[]",
        b"[[]]",
        b"{}",
        b"{",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"{}{}",
    ),
    *('{"a": "b"}'.encode("utf-16"), b"<a/>", b"a=b&c=d", b"NaN", b'{"a":1,"a":2}', b'{"":0}', b"{'a':1}"),
    *(_nested(b"[", b"]", 50_000), _nested(b'{"a":', b"}", 50_000), b"9" * 5000, b'{"\\u0000":"\\u0000"}'),
    *(b'{"no_such_field":' + FRAGMENTS[-1] + b"}", b"[" + b"{}," * 20_000 + b"{}]", bytes(range(256))),
)
"""Whole bodies."""

HEADERS: tuple[dict[str, str], ...] = (
    *(
        {"content-type": media}
        for media in ("", "text/html", "application/xml", "json", "a" * 5000, "\x80/\xff")
    ),
    *(
        {"content-type": "application/json; charset=utf-16"},
        {"content-encoding": "gzip"},
        {"content-encoding": "\xff"},
    ),
    *(
        {"content-length": size}
        for size in ("-1", "x", "1e9", "99999999999999999999", "0", "\xb2", "1" * 4000)
    ),
    *(
        {"transfer-encoding": "chunked, identity"},
        {"authorization": "Basic \xff"},
        {"authorization": "Bearer"},
    ),
    *(
        {"x-prefect-api-version": "x"},
        {"x-prefect-api-version": "9" * 5000},
        {"user-agent": "prefect/9.9e9 (API \xff)"},
    ),
    *(
        {"x-eparch-claim": "9" * 30},
        {"accept-encoding": "gzip;q=nan, *;q=-1"},
        {"if-none-match": "*"},
        {"cookie": "\xff"},
    ),
    *(
        {"origin": "null"},
        {"host": ""},
        {"host": "[::1"},
        {"x-forwarded-for": "\x80" * 100},
        {"prefect-csrf-token": "\xff"},
    ),
)
"""Headers that come with a body that is right."""


JSON = {"content-type": "application/json"}


class Turns:
    """Who takes a few of many each time gets round to them all."""

    def __init__(self, start: int) -> None:
        self._next = start

    def take(self, many: Sequence[T], count: int) -> Iterator[T]:
        """The next ``count`` of ``many``."""
        for _ in range(count):
            yield many[self._next % len(many)]
            self._next += 1


@dataclass(frozen=True, slots=True)
class Sent:
    """One request; its path is below the base path."""

    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    what: str = ""
    """Which part of it is hostile; nothing when none is."""

    def __str__(self) -> str:
        body = self.body if self.body is None or len(self.body) < 500 else self.body[:200] + b"..."
        return f"{self.method} {self.path[:300]} {body!r} {self.headers} ({self.what})"


NAMED = (
    ("/queues/", "name", "fast"),
    ("/work_queues/name", "name", "fast"),
    ("/workers/", "name", "worker"),
    ("/input/", "key", "key"),
    ("", "key", "k"),
    ("", "deployment_name", "deployment"),
    ("", "countable", "event"),
    ("", "view", "aggregate-worker-metadata"),
)
"""What is called so wherever it is: part of the path, parameter, name."""

SAME = {
    "parent_task_run": "task_run",
    "work_pool_queue": "work_queue",
    "default_result_storage_block": "block_document",
}
"""What is spoken of by another name."""


class Known:
    """What is there, so that requests get past the first look-up: names and ids by kind."""

    def __init__(self, ids: dict[str, list[str]]) -> None:
        self.ids = ids

    def place(self, name: str, path: str) -> str:
        """What stands for the parameter ``name`` of ``path``."""
        for part, parameter, there in NAMED:
            if parameter == name and part in path:
                return there
        kind = path.removeprefix("/ui").removeprefix("/v2").split("/")[1].removesuffix("s")
        if name == "id":
            return self.ids[kind][0]
        if name == "name":
            return self.ids.get(f"{kind}_name", self.ids["pool_name"])[0]
        return self.ids[{"work_pool_name": "pool_name", "schedule_id": "schedule"}.get(name, name)][0]

    def id_of(self, key: str) -> str | None:
        """The id of what ``key`` speaks of; None where nothing is known of it."""
        kind = key.removesuffix("_ids").removesuffix("_id").removesuffix("s")
        return self.ids.get(SAME.get(kind, kind), [None])[0]


class Maker:
    """Makes the requests of each operation of a document."""

    def __init__(self, document: dict[str, Any], known: Known, *, each: int) -> None:
        """Each field is given ``each`` of the ``FRAGMENTS``, which take turns."""
        self.document = document
        self.known = known
        self._each = each
        self._schemas: dict[str, Any] = document["components"]["schemas"]

    def requests(self, method: str, path: str, own: Any = None) -> Iterator[Sent]:
        """All requests of an operation, the first of which is right; ``own`` is what its body must have."""
        operation = self.document["paths"][path][method.lower()]
        named = {p["name"]: p["in"] for p in operation["parameters"]}
        places = {name: self.known.place(name, path) for name, where in named.items() if where == "path"}
        asked = {
            p["name"]: self.known.id_of(p["name"]) or "a" for p in operation["parameters"] if p["required"]
        }
        asked = {name: value for name, value in asked.items() if name not in places}
        target, turns = _target(path, places, asked), Turns(zlib.crc32(f"{method} {path}".encode()))
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        value = None
        if content is not None:
            value = self.value(content["schema"], "")
            value = value if own is None else {**value, **own}
        body = msgspec.json.encode(value) if content is not None else None
        yield Sent(method, target, body, JSON)
        for name, where in named.items():
            for part in turns.take(PARTS, 12):
                given = (places, asked | {name: part}) if where == "query" else (places | {name: part}, asked)
                yield Sent(method, _target(path, *given), body, JSON, name)
        for more in turns.take(HEADERS, 6):
            yield Sent(method, target, body, JSON | more, "header")
        if content is None:
            return
        for data in turns.take(BODIES, 12):
            yield Sent(method, target, data, JSON, "body")
        for name, template in self._marked(content["schema"], value):
            for fragment in turns.take(FRAGMENTS, self._each):
                yield Sent(method, target, template.replace(_MARK, fragment), JSON, name)

    def value(self, schema: dict[str, Any], key: str) -> Any:
        """A small value that ``schema`` allows, with what is required."""
        schema = self._plain(schema)
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        kind = schema.get("type")
        if kind == "object":
            named = schema.get("properties", {})
            return {name: self.value(named[name], name) for name in schema.get("required", ())}
        if kind == "array":
            return [self.value(schema["items"], key)] if schema.get("minItems") else []
        if kind == "string":
            return self._text(schema, key)
        return {"integer": schema.get("minimum", 1), "number": 1.0, "boolean": True}.get(str(kind))

    def _text(self, schema: dict[str, Any], key: str) -> str:
        if schema.get("format") == "date-time":
            return "2026-11-22T12:00:00Z"
        if schema.get("format") == "uuid":
            return self.known.id_of(key) or self.known.ids["flow"][0]
        return "a" * max(1, schema.get("minLength", 1))

    def _plain(self, schema: dict[str, Any]) -> dict[str, Any]:
        """``schema`` without references and without alternatives: the first that is not null."""
        while "$ref" in schema or "anyOf" in schema:
            if "$ref" in schema:
                schema = self._schemas[schema["$ref"].rpartition("/")[2]]
            else:
                schema = next((s for s in schema["anyOf"] if s.get("type") != "null"), {})
        return schema

    def _marked(self, schema: dict[str, Any], value: Any) -> Iterator[tuple[str, bytes]]:
        """The bodies like ``value`` with the mark at one place each, and the names of the places."""
        plain = self._plain(schema)
        if plain.get("type") == "array":
            inner = value[0] if value else self.value(plain["items"], "")
            for name, part in self._places(plain["items"], inner, 0):
                yield name, msgspec.json.encode([part])
            return
        for name, part in self._places(schema, value, 0):
            yield name, msgspec.json.encode(part)

    def _places(self, schema: dict[str, Any], value: Any, depth: int) -> Iterator[tuple[str, Any]]:
        plain = self._plain(schema)
        if depth:
            yield "", MARK
        if plain.get("type") == "array" and depth < MOST_DEPTH:
            for name, part in self._places(plain.get("items") or {}, None, depth + 1):
                yield f"[]{name}", [part]
        named = plain.get("properties", {}) if plain.get("type") == "object" else {}
        # Filters are the same wherever they stand: below the first level one field is enough.
        most = len(named) if depth < 2 else MOST_WIDTH
        for key in itertools.islice(named, most if depth < MOST_DEPTH else 0):
            there = value if isinstance(value, dict) else self.value(plain, "")
            for name, part in self._places(named[key], there.get(key), depth + 1):
                yield f".{key}{name}", {**there, key: part}


MOST_DEPTH = 3
MOST_WIDTH = 3


def _target(path: str, places: dict[str, str], asked: dict[str, str]) -> str:
    # What is hostile is quoted already.
    target = path.format(**{name: quote(text, safe="%/*!{}") for name, text in places.items()})
    return target + ("?" + "&".join(f"{name}={value}" for name, value in asked.items()) if asked else "")
