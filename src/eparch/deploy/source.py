"""A YAML file as plain values that know where they stand.

Owns reading (YAML 1.2, one document), positions, what is refused in any file (duplicate keys, aliases that
multiply, tags), and changing a file without losing its comments. Does not own what the keys mean. What is
said about text that is no YAML is in ``yaml_mistakes``.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path as FilePath
from typing import Any

from eparch.core.errors import SourceError, SourceErrors, did_you_mean
from eparch.core.model import Json, Value
from eparch.core.templates import Path
from eparch.deploy.yaml_mistakes import explain, unquoted_placeholder

MAX_BYTES = 2_000_000
"""Of a file: about seven seconds of parsing; real files have some kilobytes."""

MAX_VALUES = 200_000
"""Of a document with its aliases written out."""

_STANDARD = "tag:yaml.org,2002:"
_SCALARS = {"str", "int", "float", "bool", "null", "timestamp"}
_OLD_BOOLEANS = {"yes", "no", "on", "off"}


class Position(Value, frozen=True, kw_only=True):
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part)


class Span(Value, frozen=True, kw_only=True):
    """Where a value with its key is written: lines and columns count from 0, ends are exclusive.

    ``line`` and ``column`` are those of the key, or of the item of a list; ``value`` and ``end`` are offsets
    in the text. An alias has no value of its own: ``value`` is its anchor's.
    """

    line: int
    column: int
    key: tuple[int, int]
    value: tuple[int, int]
    is_flow: bool = False
    is_alias: bool = False
    is_scalar: bool = False


class Note(Value, frozen=True, kw_only=True):
    """What was accepted although it is written in an old or odd way, and what was made of it."""

    message: str
    position: Position


class Document:
    """The values of one file and the place of each.

    ``data`` is made of dict, list, str, int, float, bool and None; keys are text, dates are text as written.
    Lookups take the path of a value; a path that is not in the file stands where its nearest parent stands.
    """

    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text
        self.data: Json = None
        self.notes: list[Note] = []
        self._places: dict[Path, tuple[Any, Any, str | None]] = {}
        self._moved: dict[Path, Path] = {}

    def at(self, path: Path) -> Position:
        """Where the value at ``path`` starts."""
        return self._position(self._place(path)[0])

    def key(self, path: Path) -> Position:
        """Where the key that leads to ``path`` starts.

        For an item of a list this is the item itself, or the list if the item is an alias.
        """
        node, key, _ = self._place(path)
        return self._position(key if key is not None else node)

    def written(self, path: Path) -> str | None:
        """The plain or quoted text that was written at ``path``; None for a mapping or list."""
        path = self._original(path)
        return self._places[path][2] if path in self._places else None

    def find(self, path: Path, text: str, start: int = 0) -> Position:
        """Where ``text``, at offset ``start`` of the value at ``path``, stands in the file."""
        node = self._place(path)[0]
        offset = -1
        for _ in range((self.written(path) or "").count(text, 0, start + len(text))):
            offset = self.text.find(text, max(offset + 1, node.start_mark.index), node.end_mark.index)
            if offset < 0:
                break
        return self._locate(offset) if offset >= 0 else self._position(node)

    def span(self, path: Path) -> Span | None:
        """Where the value at ``path`` and its key are; None if it is not in the file."""
        if path not in self._places:
            return None
        node, key, text = self._places[path]
        first = node if key is None else key
        start, end = first.start_mark, first.end_mark
        return Span(
            line=start.line,
            column=start.column,
            key=(start.index, end.index),
            value=(node.start_mark.index, node.end_mark.index),
            is_flow=bool(node.flow_style) if text is None else False,
            is_alias=key is not None and node.start_mark.index < key.start_mark.index,
            is_scalar=text is not None,
        )

    def moved(self, now: Path, was: Path) -> None:
        """Say that what is looked up at ``now`` is written at ``was``."""
        self._moved[now] = was

    def error(
        self, path: Path, message: str, *, why: str = "", fix: str = "", key: bool = False
    ) -> SourceError:
        """The error for the value (or ``key``) at ``path``."""
        place = self.key(path) if key else self.at(path)
        return SourceError(message, file=place.file, line=place.line, column=place.column, why=why, fix=fix)

    def _place(self, path: Path) -> tuple[Any, Any, str | None]:
        path = self._original(path)
        while path not in self._places and path:
            path = path[:-1]
        return self._places.get(path, (None, None, None))

    def _original(self, path: Path) -> Path:
        for length in range(len(path), 0, -1):
            was = self._moved.get(path[:length])
            if was is not None:
                return was + path[length:]
        return path

    def _position(self, node: Any) -> Position:
        if node is None:
            return Position(file=self.file)
        mark = node.start_mark
        return Position(file=self.file, line=mark.line + 1, column=mark.column + 1)

    def _locate(self, offset: int) -> Position:
        line = self.text.count("\n", 0, offset) + 1
        return Position(file=self.file, line=line, column=offset - self.text.rfind("\n", 0, offset))


def load(path: FilePath) -> Document:
    """The YAML file at ``path``.

    Raises:
        SourceErrors: it is not there, is too large, or is not one YAML document that can be used.
    """
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        nearby = (item.name for item in path.parent.glob("*.y*ml")) if path.parent.is_dir() else ()
        hint = did_you_mean(path.name, nearby) or "write it, or name another one"
        raise SourceErrors([SourceError("There is no such file", file=file, fix=hint)]) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise SourceErrors([SourceError("The file cannot be read", file=file, why=reason)]) from error
    if len(data) > MAX_BYTES:
        why = f"it has more than {MAX_BYTES:,} bytes"
        raise SourceErrors([SourceError("The file is too large", file=file, why=why)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fix = "save it as UTF-8"
        raise SourceErrors(
            [SourceError("The file is not UTF-8 text", file=file, line=line, fix=fix)]
        ) from error
    return parse(text, file)


def parse(text: str, file: str) -> Document:
    """The YAML document ``text``; ``file`` is the name that positions carry.

    Raises:
        SourceErrors: it is not one YAML document that can be used; every mistake that can be told at once.
    """
    document = Document(file, text)
    root = _compose(text, file)
    if root is not None:
        reader = _Reader(document)
        document.data = reader.read(root, (), None)
        if reader.errors:
            raise SourceErrors(sorted(reader.errors, key=lambda error: (error.line, error.column)))
    return document


def editable(document: Document) -> Any:
    """The document as ruamel's round-trip mapping: change it as a dict, then ``dump`` it; comments stay."""
    return _round_trip().load(document.text)


def dump(data: Any) -> str:
    """The YAML text of what ``editable`` gave."""
    stream = io.StringIO()
    _round_trip().dump(data, stream)
    return stream.getvalue()


def _round_trip() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _compose(text: str, file: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML(typ="safe", pure=True).compose(text)
    except RecursionError:
        error = SourceError("The file is nested too deeply", file=file)
    except MarkedYAMLError as caught:
        error = explain(text, file, caught)
    except YAMLError as caught:
        line = text.count("\n", 0, getattr(caught, "position", 0) or 0) + 1
        why = str(caught).partition("\n")[0]
        error = SourceError("The file is not valid YAML", file=file, line=line, why=why)
    raise SourceErrors([error]) from None


def _is_inside(item: Any, node: Any) -> bool:
    """Whether an item is written in its list; an alias has the marks of its anchor."""
    start = item.start_mark.index
    return bool(node.start_mark.index <= start <= node.end_mark.index)


class _Reader:
    """The walk from YAML nodes to values."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.errors: list[SourceError] = []
        self.open: set[int] = set()

    def read(self, node: Any, path: Path, key: Any) -> Json:
        """The value of ``node``, which stands at ``path`` behind ``key``."""
        places = self.document._places
        if len(places) >= MAX_VALUES:
            why = f"with its aliases written out it has more than {MAX_VALUES:,} values"
            raise SourceErrors([self.error(key or node, "The file is too large", why=why)])
        kind = str(node.tag).removeprefix(_STANDARD)
        scalar = isinstance(node.value, str)
        places[path] = (node, key, node.value if scalar else None)
        if scalar:
            return self.scalar(node, kind, path)
        if id(node) in self.open:
            self.errors.append(self.error(key or node, "An alias leads back to itself"))
            return None
        self.open.add(id(node))
        try:
            if kind == "seq":
                return [
                    self.read(item, (*path, index), None if _is_inside(item, node) else node)
                    for index, item in enumerate(node.value)
                ]
            if kind == "map":
                return self.mapping(node, path)
            return self.tagged(node, kind)
        finally:
            self.open.discard(id(node))

    def error(self, node: Any, message: str, *, why: str = "", fix: str = "") -> SourceError:
        place = self.document._position(node)
        return SourceError(message, file=place.file, line=place.line, column=place.column, why=why, fix=fix)

    def tagged(self, node: Any, kind: str) -> None:
        fix = "remove the tag; write the value itself"
        self.errors.append(self.error(node, f"The YAML tag '{kind}' is not supported", fix=fix))

    def mapping(self, node: Any, path: Path) -> Json:
        placeholder = unquoted_placeholder(node, self.document.text)
        if placeholder:
            message = "A placeholder must be quoted"
            why = "without quotes YAML reads '{' as the start of a mapping"
            self.errors.append(self.error(node, message, why=why, fix=f'write "{placeholder}"'))
            return {}
        read: dict[str, Json] = {}
        seen: dict[str, Any] = {}
        for key, value in self.pairs(node, merged=False):
            if not isinstance(key.value, str) or key.tag == _STANDARD + "null":
                fix = "write a text before the ':'"
                self.errors.append(self.error(key, "A key must be a plain text", fix=fix))
            elif key.value in seen:
                self.errors.append(self.duplicate(seen[key.value], key))
            else:
                seen[key.value] = key
                read[key.value] = self.read(value, (*path, key.value), key)
        for key, value in self.pairs(node, merged=True):
            if isinstance(key.value, str) and key.value not in read:
                read[key.value] = self.read(value, (*path, key.value), key)
        return read

    def pairs(self, node: Any, *, merged: bool) -> Iterable[tuple[Any, Any]]:
        """The pairs of a mapping: its own, or those that ``<<`` brings in."""
        for key, value in node.value:
            if key.tag != _STANDARD + "merge":
                if not merged:
                    yield key, value
            elif merged:
                for source in value.value if value.tag == _STANDARD + "seq" else [value]:
                    if source.tag == _STANDARD + "map" and id(source) not in self.open:
                        yield from self.pairs(source, merged=False)
                        yield from self.pairs(source, merged=True)
                    else:
                        self.errors.append(self.error(key, "'<<' takes a mapping or a list of mappings"))

    def duplicate(self, first: Any, again: Any) -> SourceError:
        lines = f"lines {first.start_mark.line + 1} and {again.start_mark.line + 1}"
        return self.error(
            again,
            f"The key '{again.value}' is written twice, on {lines}",
            why="only one of them can count",
            fix="keep one",
        )

    def scalar(self, node: Any, kind: str, path: Path) -> Json:
        text: str = node.value
        if kind not in _SCALARS:
            self.tagged(node, kind)
            return None
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind in ("int", "float"):
            return self.number(node, kind, text.replace("_", ""))
        if node.style is None and text.lower() in _OLD_BOOLEANS:
            message = f"'{text}' is read as text (YAML 1.2); write true or false, or quote it"
            self.document.notes.append(Note(message=message, position=self.document._position(node)))
        return text

    def number(self, node: Any, kind: str, digits: str) -> int | float | None:
        try:
            if kind == "int":
                based = digits.lstrip("+-")[:2].lower() in ("0x", "0o", "0b")
                return int(digits, 0 if based else 10)
            value = float(digits)
        except ValueError:
            value = float("nan")
        if value != value or value in (float("inf"), float("-inf")):
            self.errors.append(self.error(node, f"'{node.value}' is not a number that can be stored"))
            return None
        return value
