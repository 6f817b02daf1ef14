"""Moving keys of a YAML file as text, so that comments, order, quotes and indents stay as people wrote them.

Owns which lines belong to a key and how a key is written elsewhere. Does not decide what moves, nor whether
the result is right: the caller reads it again and compares.
"""

from __future__ import annotations

from collections.abc import Iterable

from eparch.core.model import Json
from eparch.core.templates import Path
from eparch.deploy.source import Document, Span

Edit = tuple[int, int, list[str]]
"""Lines from, to (exclusive), and what stands there instead."""

STEP = 2
"""Columns that what is nested is indented by."""


class Lines:
    """The lines of a document and the keys in them."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.lines = [f"{line}\n" for line in document.text.removesuffix("\n").split("\n")]

    def entry(self, path: Path) -> tuple[int, int] | None:
        """The lines of the key at ``path`` with its value, without the comments that follow it.

        None where it is written within other brackets, or came in by ``<<``.
        """
        span, around = self.document.span(path), self.document.span(path[:-1])
        if span is None or around is None or around.is_flow or around.is_alias:
            return None
        if not around.value[0] <= span.key[0] < around.value[1]:
            return None
        last = span.line + 1
        while last < len(self.lines) and self._belongs(self.lines[last], span):
            last += 1
        while last > span.line + 1 and self._is_trailing(self.lines[last - 1], span.column):
            last -= 1
        return span.line, last

    def remove(self, path: Path) -> list[Edit] | None:
        """The edits that take the key at ``path`` away; the item's dash goes to the key after it."""
        lines, span = self.entry(path), self.document.span(path)
        if lines is None or span is None:
            return None
        first, last = lines
        dash = self.lines[first][: span.column]
        if not dash.strip():
            return [(first - self._lead(path), last, [])]
        after = range(last, len(self.lines))
        follower = next((at for at in after if _indent(self.lines[at]) == span.column), None)
        if follower is None or any(_is_content(line) for line in self.lines[last:follower]):
            return None
        return [(first, last, []), (follower, follower + 1, [dash + self.lines[follower][span.column :]])]

    def renamed(self, path: Path, key: str, column: int, *, lead: bool = False) -> list[str] | None:
        """The lines of the key at ``path``, called ``key`` and moved to ``column``.

        With ``lead`` the comments right above it are among them, as ``remove`` takes them away.
        """
        lines, span = self.entry(path), self.document.span(path)
        if lines is None or span is None:
            return None
        first, *rest = self.lines[lines[0] : lines[1]]
        above = self.lines[lines[0] - self._lead(path) : lines[0]] if lead else []
        after = span.column + span.key[1] - span.key[0]
        by = column - span.column
        return [*_shift(above, by), " " * column + key + first[after:], *_shift(rest, by)]

    def children(self, path: Path, column: int, *, lead: bool = False) -> list[str] | None:
        """The lines of what is below the key at ``path``, a block, moved to ``column``.

        With ``lead`` the comments on the key itself are among them, as ``remove`` takes them away.
        """
        lines, span = self.entry(path), self.document.span(path)
        if lines is None or span is None or span.is_flow or span.is_alias or span.is_scalar:
            return None
        below = self.lines[lines[0] + 1 : lines[1]]
        own = next((_indent(line) for line in below if _is_content(line)), None)
        if own is None:
            return None
        above = self.lines[lines[0] - self._lead(path) : lines[0]] if lead else []
        _, sign, comment = self.lines[lines[0]][span.column + span.key[1] - span.key[0] :].partition("#")
        beside = [f"{' ' * column}#{comment}"] if lead and sign else []
        return [*_shift(above, column - span.column), *beside, *_shift(below, column - own)]

    def append(self, path: Path, added: list[str]) -> list[Edit] | None:
        """The edit that adds the lines ``added`` as the last ones of the block mapping at ``path``."""
        lines = self._body(path)
        return None if lines is None else [(lines[1], lines[1], added)]

    def column(self, path: Path) -> int | None:
        """Where the keys of the block mapping at ``path`` stand."""
        span = self.document.span(path)
        if span is None or span.is_flow or span.is_alias or span.is_scalar:
            return None
        return span.value[0] - (self.document.text.rfind("\n", 0, span.value[0]) + 1)

    def value(self, path: Path) -> str | None:
        """What is written as the value at ``path``, if that is on one line."""
        span = self.document.span(path)
        if span is None:
            return None
        text = self.document.text
        if span.is_alias:
            rest = text[span.key[1] : text.find("\n", span.key[1]) % (len(text) + 1)]
            return rest.lstrip(" :").split(" ")[0].rstrip()
        written = text[span.value[0] : span.value[1]]
        return None if "\n" in written or not (span.is_flow or span.is_scalar) else written

    def around(self, path: Path, written: str) -> tuple[str, str]:
        """What stands before and after ``written``, the value behind the key at ``path``, on its line."""
        span = self.document.span(path)
        line = self.lines[span.line if span else 0]
        start = line.find(written, span.column + span.key[1] - span.key[0] if span else 0)
        return line[:start], line[start + len(written) :]

    def unfold(self, path: Path, name: str) -> list[Edit] | None:
        """The edit that writes the scalar, alias or flow mapping at ``path`` as a block.

        A scalar becomes the key ``name``; an alias is brought in by ``<<``.
        """
        lines, span = self.entry(path), self.document.span(path)
        written = self.value(path)
        if lines is None or span is None or written is None or lines[1] - lines[0] != 1:
            return None
        if span.is_alias:
            inside = [f"<<: {written}"]
        elif span.is_scalar:
            inside = [f"{name}: {written}"]
        else:
            inside = self._pairs(path)
        head, comment = self.around(path, written)
        indent = " " * (span.column + STEP)
        return [(*lines, [head.rstrip() + comment.rstrip() + "\n", *(f"{indent}{one}\n" for one in inside)])]

    def insert_flow(self, path: Path, pair: str) -> list[Edit] | None:
        """The edit that adds ``pair`` to the flow mapping at ``path``, on one line."""
        span = self.document.span(path)
        if span is None or not span.is_flow or span.is_alias:
            return None
        text = self.document.text
        written = text[span.value[0] : span.value[1]]
        if "\n" in written or not written.endswith("}"):
            return None
        number = text.count("\n", 0, span.value[0])
        end = span.value[1] - (text.rfind("\n", 0, span.value[0]) + 1) - 1
        line = self.lines[number]
        comma = "" if written[1:-1].strip() == "" else ", "
        return [(number, number + 1, [line[:end].rstrip() + comma + pair + line[end:]])]

    def _pairs(self, path: Path) -> list[str]:
        value: Json = self.document.data
        for part in path:
            value = value[part]
        return [
            f"{key}: {self.document.text[span.value[0] : span.value[1]]}"
            for key in value
            if (span := self.document.span((*path, key))) is not None
        ]

    def _body(self, path: Path) -> tuple[int, int] | None:
        """The lines of the block mapping at ``path`` itself."""
        column, span = self.column(path), self.document.span(path)
        if column is None or span is None:
            return None
        first = self.document.text.count("\n", 0, span.value[0])
        last = first + 1
        while last < len(self.lines) and self._is_below(self.lines[last], column):
            last += 1
        while last > first + 1 and self._is_trailing(self.lines[last - 1], column - 1):
            last -= 1
        return first, last

    def _lead(self, path: Path) -> int:
        """How many lines right above the key at ``path`` are comments on it."""
        span = self.document.span(path)
        if span is None or self.lines[span.line][: span.column].strip():
            return 0
        first = span.line
        while (
            first
            and self.lines[first - 1].strip().startswith("#")
            and (_indent(self.lines[first - 1]) == span.column)
        ):
            first -= 1
        return span.line - first

    def _belongs(self, line: str, span: Span) -> bool:
        if not _is_content(line) or _indent(line) > span.column:
            return True
        # The items of a list may stand at the column of the key.
        list_below = not span.is_scalar and not span.is_flow
        return list_below and _indent(line) == span.column and line.lstrip().startswith(("- ", "-\n"))

    def _is_below(self, line: str, column: int) -> bool:
        return not _is_content(line) or _indent(line) >= column

    def _is_trailing(self, line: str, column: int) -> bool:
        return not line.strip() or (not _is_content(line) and _indent(line) <= column)


def apply_edits(lines: Iterable[str], edits: Iterable[Edit]) -> str:
    """The text that ``edits``, which do not overlap, make of ``lines``."""
    changed = list(lines)
    for first, last, new in sorted(edits, key=lambda edit: (edit[0], edit[1]), reverse=True):
        changed[first:last] = new
    return "".join(changed)


def wrap(keys: Path, lines: list[str], column: int) -> list[str]:
    """``lines``, written below ``keys`` one in the other; the outermost stands at ``column``.

    ``lines`` have to begin at the column of the innermost; a 0 among the keys is an item of a list.
    """
    head: list[str] = []
    while keys:
        key, keys = keys[0], keys[1:]
        if key == 0:
            first, *rest = lines
            return [*head, first[:column] + "- " + first[column + STEP :], *rest]
        head.append(f"{' ' * column}{key}:\n")
        column += STEP
    return [*head, *lines]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _is_content(line: str) -> bool:
    text = line.strip()
    return bool(text) and not text.startswith("#")


def _shift(lines: list[str], by: int) -> list[str]:
    if by >= 0:
        return [" " * by + line if line.strip() else line for line in lines]
    return [line[min(-by, _indent(line)) :] for line in lines]
