"""JSON Schema: what fits one, what is wrong with what does not, within bounds that a hostile schema keeps.

Nothing outside a schema is ever read, no pattern can take for ever, and sizes are limited. The library is
imported when a schema is first checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from eparch.core.errors import Invalid
from eparch.core.model import Value, decode, encode

MAX_STEPS = 10_000_000
"""Steps that matching a pattern may take at worst; a longer text is not judged by it but refused."""

MAX_NODES = 20_000
"""Values in a schema."""

MAX_DEPTH = 64
"""How deep a schema may be nested."""

UNBOUNDED = 100
"""A repetition of more than this often counts as one without an end."""


class Mistake(Value, frozen=True, kw_only=True):
    """Where a value does not fit a schema, by which keyword, and in words."""

    path: tuple[str | int, ...] = ()
    keyword: str
    message: str


def mistakes(schema: dict[str, Any], value: Any, *, masked: bool = False) -> Iterator[Mistake]:
    """What of ``value`` does not fit ``schema`` (2020-12, or draft 7 where it is written so).

    ``masked`` keeps the value itself out of the messages.

    Raises:
        Invalid: the schema is none, or refers outside itself.
    """
    from referencing.exceptions import Unresolvable

    validator = _validator(_text(schema))
    try:
        for error in validator.iter_errors(value):
            message = error.message
            if masked:
                message = message.replace(repr(error.instance), "the value", 1)
            yield Mistake(path=tuple(error.absolute_path), keyword=str(error.validator), message=message)
    except Unresolvable as error:
        raise Invalid("The schema refers to something that is not in it.", why=str(error)[:300]) from error
    except RecursionError as error:
        raise Invalid("The schema refers to itself without an end.") from error


def check_schema(schema: dict[str, Any]) -> None:
    """Refuse what is no JSON schema.

    Raises:
        Invalid: neither 2020-12 nor draft 7, in which older workers wrote theirs, takes it.
    """
    _validator(_text(schema))


def _text(schema: dict[str, Any]) -> bytes:
    try:
        return encode(schema)
    except RecursionError as error:
        raise Invalid("The schema is too large: it is nested too deeply.") from error


def _usable(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy of ``schema`` within the limits, with the tuples of older drafts as this draft writes them.

    Raises:
        Invalid: it is too large or deep, refers outside itself, or refers in a circle to nothing.
    """
    left = MAX_NODES

    def copy(value: Any, depth: int, named: bool = False) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise Invalid(f"The schema is too large: at most {MAX_NODES} values, {MAX_DEPTH} levels deep.")
        if isinstance(value, list):
            return [copy(one, depth + 1) for one in value]
        if not isinstance(value, dict):
            return value
        if named:
            return {key: copy(one, depth + 1) for key, one in value.items()}
        for key in ("$ref", "$dynamicRef", "$recursiveRef"):
            target = value.get(key)
            if isinstance(target, str) and not target.startswith("#"):
                raise Invalid(f"The schema refers outside itself, to {target[:100]!r}.")
            if isinstance(target, str) and target[1:2] == "/" and _resolve(schema, target) is None:
                raise Invalid(f"The schema refers to {target[:100]!r}, which is not in it.")
        for pattern in (value.get("pattern"), *(value.get("patternProperties") or ())):
            if isinstance(pattern, str) and (why := slow(pattern, 0)):
                raise Invalid(f"The schema has a pattern that cannot be used: {why}.")
        copied = {
            key: one if key in ("enum", "const") else copy(one, depth + 1, named=key in _NAMED)
            for key, one in value.items()
            if key not in _IDLE
        }
        if isinstance(copied.get("items"), list) and "prefixItems" not in copied:
            copied["prefixItems"] = copied.pop("items")
        return copied

    usable: dict[str, Any] = copy(schema, 0)
    _check_circles(usable)
    return usable


_NAMED = ("properties", "patternProperties", "definitions", "$defs", "dependentSchemas")
_IDLE = ("$id", "$schema", "default", "examples")
_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "$ref", "dependentSchemas")


def _check_circles(schema: dict[str, Any]) -> None:
    """Refuse references that come back to themselves without going into the value: they never end."""
    done: set[int] = set()
    path: set[int] = set()

    def walk(node: Any) -> None:
        if not isinstance(node, dict | list) or id(node) in done:
            return
        if id(node) in path or len(path) > 500:
            raise Invalid("The schema refers to itself in a circle.")
        path.add(id(node))
        if isinstance(node, list):
            for one in node:
                walk(one)
        else:
            for key in _IN_PLACE:
                if key == "$ref" and isinstance(node.get(key), str):
                    walk(_resolve(schema, node[key]))
                elif key == "dependentSchemas" and isinstance(node.get(key), dict):
                    walk(list(node[key].values()))
                elif key in node:
                    walk(node[key])
        path.discard(id(node))
        done.add(id(node))

    def visit(node: Any) -> None:
        walk(node)
        for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            visit(inner)

    visit(schema)


def _resolve(schema: Any, reference: str) -> Any:
    """What a reference within ``schema`` points to, nothing if it points nowhere."""
    from urllib.parse import unquote

    for part in unquote(reference[1:]).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and key.isdecimal() and int(key) < len(schema):
            schema = schema[int(key)]
        else:
            schema = schema.get(key) if isinstance(schema, dict) else None
    return schema


@lru_cache(maxsize=512)
def _validator(schema_text: bytes) -> Any:
    import jsonschema
    from jsonschema import validators
    from referencing import Registry

    schema: dict[str, Any] = _usable(decode(schema_text))
    problem = ""
    for draft in (jsonschema.Draft202012Validator, jsonschema.Draft7Validator):
        try:
            draft.check_schema(schema)
        except jsonschema.SchemaError as error:
            problem = problem or error.message
            continue
        except RecursionError:
            problem = problem or "it is nested too deeply"
            continue
        own = {"pattern": _pattern, "patternProperties": _pattern_properties}
        bounded = validators.extend(draft, own)  # type: ignore[no-untyped-call]
        # The empty registry is what keeps a reference from being fetched.
        return bounded(schema, registry=Registry(), format_checker=_formats())
    raise Invalid(f"It is not a valid JSON schema: {problem[:300]}")


@lru_cache(maxsize=1)
def _formats() -> Any:
    import jsonschema

    formats = jsonschema.FormatChecker(formats=("date", "uuid", "ipv4", "ipv6"))
    for name, kind in (("date-time", datetime), ("duration", timedelta)):
        formats.checks(name, raises=msgspec.ValidationError)(_converts(kind))
    return formats


def _converts(kind: type) -> Any:
    def fits(value: object) -> bool:
        if isinstance(value, str):
            msgspec.convert(value, kind, strict=False)
        return True

    return fits


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(value, "string"):
        yield from _matched(pattern, value)


def _pattern_properties(validator: Any, patterns: dict[str, Any], value: Any, schema: Any) -> Iterator[Any]:
    if not validator.is_type(value, "object"):
        return
    for pattern, inner in patterns.items():
        for key, item in value.items():
            if not list(_matched(pattern, key)):
                yield from validator.descend(item, inner, path=key, schema_path=pattern)


def _matched(pattern: str, text: str) -> Iterator[Any]:
    import re

    from jsonschema import ValidationError

    why = slow(pattern, len(text))
    if why:
        yield ValidationError(f"{why}: {pattern[:100]!r}")
    elif re.search(pattern, text) is None:
        yield ValidationError(f"{text!r} does not match {pattern!r}")


@lru_cache(maxsize=512)
def _repeats(pattern: str) -> int:
    """How many repetitions without an end stand beside each other in ``pattern``; -1: one in another."""
    from re import _parser  # type: ignore[attr-defined]

    return _count(_parser.parse(pattern), inside=False)


def slow(pattern: str, length: int) -> str:
    """Why matching ``pattern`` on a text of ``length`` characters is refused; empty when it is not.

    A repetition in a repetition can take exponential time; n beside each other take ``length ** n`` steps.
    """
    import re

    try:
        count = _repeats(pattern)
    except (re.error, RecursionError, OverflowError):
        return "the pattern cannot be read"
    if count < 0:
        return "the pattern repeats a repetition, which can take for ever"
    return "the text is too long for its pattern" if length**count > MAX_STEPS else ""


def _count(parsed: Any, *, inside: bool) -> int:
    total = 0
    for name, argument in parsed:
        found = _count_one(str(name), argument, inside=inside)
        if found < 0:
            return -1
        total += found
    return total


def _count_one(name: str, argument: Any, *, inside: bool) -> int:
    if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        _, most, inner = argument
        endless = int(most) > UNBOUNDED
        if inside and (endless or int(most) > 1):
            return -1
        found = _count(inner, inside=inside or int(most) > 1)
        return -1 if found < 0 else found + endless
    if name == "GROUPREF":
        return -1
    total = 0
    for inner in _branches(name, argument):
        found = _count(inner, inside=inside)
        if found < 0:
            return -1
        total += found
    return total


def _branches(name: str, argument: Any) -> list[Any]:
    if name == "SUBPATTERN":
        return [argument[-1]]
    if name == "BRANCH":
        return list(argument[1])
    if name in ("ASSERT", "ASSERT_NOT"):
        return [argument[1]]
    if name == "ATOMIC_GROUP":
        return [argument]
    if name == "GROUPREF_EXISTS":
        return [branch for branch in argument[1:] if branch is not None]
    return []
