"""How data is printed: the same records as a table, JSON, JSON lines, YAML or names, on stdout.

JSON is the object of the API. A table is for people, its columns may change.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from eparch.core.spans import ago as ago
from eparch.core.spans import span as span

_COLORS = {
    "COMPLETED": "32", "READY": "32", "ONLINE": "32", "ok": "32",
    "RUNNING": "34", "PENDING": "34", "SCHEDULED": "36", "CANCELLING": "33",
    "FAILED": "31", "CRASHED": "31", "failed": "31", "CANCELLED": "33",
    "PAUSED": "33", "NOT_READY": "33", "OFFLINE": "33", "warning": "33",
}  # fmt: skip

MIN_WIDTH = 8
"""A column is not made narrower than this to fit the terminal."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its title and how its text is made of a record."""

    title: str
    text: Callable[[Any], Any]
    state: Callable[[Any], Any] | None = None
    """What its colour is chosen by."""


def _name(record: Any) -> Any:
    return getattr(record, "name", None) or record


@dataclass(frozen=True, slots=True)
class Output:
    """Prints in one format."""

    format: str = "table"
    colored: bool = False

    @property
    def is_table(self) -> bool:
        """Whether people read it."""
        return self.format == "table"

    def rows(
        self,
        records: Iterable[Any],
        columns: Sequence[Column],
        *,
        name: Callable[[Any], Any] = _name,
        empty: str = "",
    ) -> None:
        """Print many records; ``empty`` is said on stderr when a person reads and there are none."""
        found = list(records)
        if self.format == "table":
            if found:
                write(table(found, columns, colored=self.colored))
            elif empty:
                sys.stderr.write(empty + "\n")
        elif self.format == "jsonl":
            for record in found:
                write(_json(record))
        elif self.format == "name":
            for record in found:
                write(str(name(record)))
        else:
            self._whole(found)

    def one(
        self, record: Any, *, name: Callable[[Any], Any] = _name, shown: dict[str, Any] | None = None
    ) -> None:
        """Print one record; as a table, its fields one a line, or those ``shown``."""
        if self.format == "name":
            write(str(name(record)))
        elif self.format == "jsonl":
            write(_json(record))
        elif self.format == "table":
            import msgspec

            fields = msgspec.to_builtins(record) if shown is None else shown
            fields = fields if isinstance(fields, dict) else {"": fields}
            wide = max((len(key) for key in fields), default=0)
            for key, value in fields.items():
                write(f"{key.ljust(wide)}  {_cell(value)}".rstrip())
        else:
            self._whole(record)

    def made(self, record: Any, *, name: Callable[[Any], Any] = _name) -> None:
        """What a changing command leaves on stdout: nothing for people, the record for programs."""
        if self.format != "table":
            self.one(record, name=name)

    def _whole(self, value: Any) -> None:
        if self.format == "yaml":
            _yaml(value)
        else:
            write(_json(value, indent=2))


def write(text: str) -> None:
    """One or more lines on stdout."""
    sys.stdout.write(text + "\n")


def _json(value: Any, *, indent: int = 0) -> str:
    import msgspec

    data = msgspec.json.encode(value)
    return (msgspec.json.format(data, indent=indent) if indent else data).decode()


def _yaml(value: Any) -> None:
    import msgspec
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(msgspec.to_builtins(value), sys.stdout)


def table(records: Sequence[Any], columns: Sequence[Column], *, colored: bool) -> str:
    """Aligned columns; on a terminal long cells are cut so that a row is a line."""
    cells = [[_cell(column.text(record)) for column in columns] for record in records]
    titles = [column.title for column in columns]
    widths = [max(_width(text) for text in texts) for texts in zip(titles, *cells, strict=True)]
    if sys.stdout.isatty():
        _fit(widths, shutil.get_terminal_size().columns - 2 * (len(widths) - 1))
    lines = [_line([(title, "1" if colored else "") for title in titles], widths)]
    for record, row in zip(records, cells, strict=True):
        styles = [
            _COLORS.get(str(column.state(record)), "") if colored and column.state else ""
            for column in columns
        ]
        lines.append(_line(list(zip(row, styles, strict=True)), widths))
    return "\n".join(lines)


def _line(cells: list[tuple[str, str]], widths: list[int]) -> str:
    padded = []
    for (text, style), width in zip(cells, widths, strict=True):
        cut = fit(text, width)
        cut += " " * (width - _width(cut))
        padded.append(f"\x1b[{style}m{cut}\x1b[0m" if style else cut)
    return "  ".join(padded).rstrip()


def _fit(widths: list[int], room: int) -> None:
    while sum(widths) > room and max(widths) > MIN_WIDTH:
        widths[widths.index(max(widths))] -= 1


def fit(text: str, width: int) -> str:
    """``text``, cut where it takes more than ``width`` columns of a terminal."""
    return text if _width(text) <= width else _cut(text, width)


def _cut(text: str, width: int) -> str:
    while text and _width(text) > width - 3:
        text = text[:-1]
    return text + "..."


def _width(text: str) -> int:
    """Columns of a terminal that ``text`` takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def _cell(value: Any) -> str:
    """A value as one line; control characters are shown, never sent to the terminal."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return ago(value, datetime.now(UTC))
    return printable(_json(value) if isinstance(value, dict | list) else str(value))


def printable(text: str) -> str:
    """``text`` as one line: what would move the cursor or change colours is shown as its escape."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
