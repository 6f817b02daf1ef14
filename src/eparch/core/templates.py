"""Placeholders in values: ``{{ name }}``.

Owns the grammar (features 1.5: names of letters, digits and ``_ . - [ ] $``; not Jinja), where each
placeholder stands within a value, and what a value becomes. What a name means is the caller's lookup.
Base job templates are in ``job_templates``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from enum import StrEnum
from typing import Any, Literal

from eparch.core.errors import TemplateInvalid
from eparch.core.model import UNSET, Json, Value

Path = tuple[str | int, ...]
"""Where something stands within a value: keys and indexes from the outside in."""

Lookup = Callable[["Placeholder"], Any]
"""What a placeholder stands for, or ``UNSET``."""


class Kind(StrEnum):
    """What a placeholder asks for."""

    OUTPUT = "output"
    """A step's output, or a variable of a base job template: whatever has no prefix."""
    BLOCK = "block"
    VARIABLE = "variable"
    ENV = "env"
    CTX = "ctx"
    EVENT = "event"
    FILTER = "filter"
    """``{{ x | default("y") }}``: not of this grammar, and refused where it would have to be resolved."""


RESOLVABLE: frozenset[Kind] = frozenset({Kind.OUTPUT, Kind.BLOCK, Kind.VARIABLE, Kind.ENV, Kind.FILTER})
"""What ``render`` resolves unless told otherwise; ``ctx`` is the worker's, ``event`` the automation's."""

_PREFIXES = (
    ("prefect.blocks.", Kind.BLOCK),
    ("prefect.variables.", Kind.VARIABLE),
    ("$", Kind.ENV),
    ("ctx.", Kind.CTX),
    ("event.", Kind.EVENT),
)
_TOKEN = re.compile(
    r"\{\{\{\{(?P<escaped>[^{}]*)\}\}\}\}"
    r"|\{\{\s*(?P<name>[\w.\-\[\]$]+)\s*\}\}"
    r"|\{\{(?P<filter>[^{}|]*\|[^{}]*)\}\}"
)
_FOREIGN = re.compile(r"\s*(event|ctx)\b")


class Placeholder(Value, frozen=True, kw_only=True):
    """One ``{{ name }}``: ``text`` is what is written, ``start`` its offset in the text at ``path``."""

    kind: Kind
    name: str
    text: str
    path: Path = ()
    start: int = 0

    @property
    def key(self) -> str:
        """The name without its prefix: ``HOME`` of ``$HOME``, ``region`` of ``prefect.variables.region``."""
        prefix = next((p for p, kind in _PREFIXES if kind is self.kind), "")
        return self.name.removeprefix(prefix)

    @property
    def parts(self) -> list[str]:
        """The keys of ``key``: ``a.b[0].c`` is a, b, 0, c."""
        return split(self.key)


def kind_of(name: str) -> Kind:
    """What the placeholder called ``name`` asks for."""
    return next((kind for prefix, kind in _PREFIXES if name.startswith(prefix)), Kind.OUTPUT)


def split(name: str) -> list[str]:
    """The keys of a dotted name; an index may stand in brackets."""
    return name.replace("[", ".").replace("]", "").split(".")


def placeholders(value: Json) -> list[Placeholder]:
    """Every placeholder in ``value``, in the order of reading; escaped ones are text and not among them."""
    return [found for path, text in _texts(value, ()) for found in _within(text, path)]


def unresolved(
    value: Json, lookup: Lookup, kinds: Collection[Kind] = RESOLVABLE - {Kind.FILTER}
) -> list[Placeholder]:
    """The placeholders of ``kinds`` in ``value`` for which ``lookup`` has nothing (row D9)."""
    return [found for found in placeholders(value) if found.kind in kinds and lookup(found) is UNSET]


def find(values: Mapping[str, Json], name: str) -> Any:
    """What ``name`` leads to in ``values``, or ``UNSET``.

    A name is first a key as it is written, then a dotted path whose first key may itself hold dots;
    the longest such key wins. Steps' ids may hold hyphens and dots.
    """
    if name in values:
        return values[name]
    keys = split(name)
    for taken in range(len(keys) - 1, 0, -1):
        head = ".".join(keys[:taken])
        if head in values:
            return _descend(values[head], keys[taken:])
    return UNSET


def lookup_in(values: Mapping[str, Json]) -> Lookup:
    """A lookup of outputs in ``values``; it has nothing for any other kind."""
    return lambda found: find(values, found.name) if found.kind is Kind.OUTPUT else UNSET


def render(
    value: Json,
    lookup: Lookup,
    *,
    unset: Literal["remove", "keep"] = "remove",
    kinds: Collection[Kind] = RESOLVABLE,
    unescape: bool = True,
) -> Any:
    """``value`` with its placeholders replaced; ``value`` itself is not changed.

    A placeholder alone keeps the type of what it stands for; within text it becomes text (row P3). One that
    stands for nothing removes its key or list item, and within text leaves nothing; a mapping that lost all
    its keys stays ``{}`` (row P4). ``unset="keep"`` leaves it as written. Kinds not in ``kinds`` are left as
    written. What was put in is not rendered again. ``{{{{ x }}}}`` becomes ``{{ x }}``, unless
    ``unescape`` is false because another pass follows.

    Returns:
        The rendered value, ``UNSET`` if all of it was removed.

    Raises:
        TemplateInvalid: a placeholder has a filter and ``Kind.FILTER`` is in ``kinds``, or a block that is
            no single value stands within text.
    """
    if isinstance(value, str):
        if "{{" not in value:
            return value
        return _Text(lookup, unset, kinds, unescape).render(value)
    if isinstance(value, dict):
        pairs = (
            (key, render(item, lookup, unset=unset, kinds=kinds, unescape=unescape))
            for key, item in value.items()
        )
        return {key: item for key, item in pairs if item is not UNSET}
    if isinstance(value, list):
        items = (render(item, lookup, unset=unset, kinds=kinds, unescape=unescape) for item in value)
        return [item for item in items if item is not UNSET]
    return value


def refuse_filter(found: Placeholder) -> TemplateInvalid:
    """The error for a placeholder with a filter; its position is the caller's to add."""
    name = found.name.partition("|")[0].strip() or "x"
    return TemplateInvalid(
        f"'{found.text}' uses a filter",
        why="a placeholder is a name only: no filters, no expressions",
        fix=f"write '{{{{ {name} }}}}' and give the default where it is set, "
        f"or '{{{{{found.text}}}}}' to keep the braces as text",
    )


class _Text:
    """The rendering of one text."""

    def __init__(self, lookup: Lookup, unset: str, kinds: Collection[Kind], unescape: bool) -> None:
        self.lookup, self.unset, self.kinds, self.unescape = lookup, unset, kinds, unescape

    def render(self, text: str) -> Any:
        alone = _TOKEN.fullmatch(text)
        if alone is not None and alone["escaped"] is None:
            return self.value(alone)
        return _TOKEN.sub(self.piece, text)

    def value(self, match: re.Match[str]) -> Any:
        """What stands for ``match``; ``UNSET`` when nothing does."""
        found = _placeholder(match, ())
        if found.kind not in self.kinds:
            return found.text
        if found.kind is Kind.FILTER:
            raise refuse_filter(found)
        value = self.lookup(found)
        return found.text if value is UNSET and self.unset == "keep" else value

    def piece(self, match: re.Match[str]) -> str:
        """The same as text."""
        if match["escaped"] is not None:
            return f"{{{{{match['escaped']}}}}}" if self.unescape else match[0]
        value = self.value(match)
        if value is UNSET or value is None:
            return ""
        if isinstance(value, dict | list) and match["name"] and kind_of(match["name"]) is Kind.BLOCK:
            raise TemplateInvalid(
                f"'{match[0]}' within text is no single value",
                why="a mapping or list has no one form as text",
                fix="name one of its fields, as in {{ prefect.blocks.<type>.<name>.<field> }}",
            )
        return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _texts(value: Json, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        if "{{" in value:
            yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))


def _within(text: str, path: Path) -> Iterator[Placeholder]:
    for match in _TOKEN.finditer(text):
        if match["escaped"] is None:
            yield _placeholder(match, path)


def _placeholder(match: re.Match[str], path: Path) -> Placeholder:
    name, start = match["name"], match.start()
    if name is not None:
        return Placeholder(kind=kind_of(name), name=name, text=match[0], path=path, start=start)
    # Triggers are rendered by the server with Jinja, where a filter is legal (real-files 2.7).
    foreign = _FOREIGN.match(match["filter"])
    kind = Kind(foreign[1]) if foreign else Kind.FILTER
    return Placeholder(kind=kind, name=match["filter"].strip(), text=match[0], path=path, start=start)


def _descend(value: Json, keys: list[str]) -> Any:
    for key in keys:
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return UNSET
    return value
