"""What a dialect must answer, and the expressions that the dialects write differently."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement

from eparch.core.errors import Invalid
from eparch.core.model import encode

Converter = Callable[[Any], Any]

_EMPTY: dict[Any, str] = {dict: "{}", list: "[]"}
"""Most tags, labels and inputs are these."""

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def json_text(value: Any) -> str:
    """``value`` as it is stored in a column of JSON.

    Raises:
        Invalid: it holds a NUL, which PostgreSQL cannot read again, so no database is given one.
    """
    if not value and (empty := _EMPTY.get(type(value))):
        return empty
    text = encode(value).decode()
    if "\\u0000" in text and _NUL.search(text):
        raise _nul()
    return text


def plain_text(value: str) -> str:
    """``value`` as it is stored in a column of text.

    Raises:
        Invalid: it holds a NUL.
    """
    if "\x00" in value:
        raise _nul()
    return value


def raw_json(text: str) -> msgspec.Raw:
    """The JSON ``text`` of a column, to be written into an answer as it is."""
    return msgspec.Raw(text.encode())


def _nul() -> Invalid:
    return Invalid("A text cannot hold the character NUL (\\u0000).")


def unstorable(error: BaseException) -> Invalid | None:
    """What to say when a value could not even be handed to the driver; None when that is not what it was."""
    if isinstance(error, UnicodeEncodeError):
        return Invalid("A text holds half of a character (a lone surrogate), which cannot be stored.")
    if isinstance(error, RecursionError):
        return Invalid("A value is nested too deeply to be stored.")
    if isinstance(error, OverflowError):
        return Invalid("A number is too large to be stored.", why=str(error))
    return None


class Dialect(Protocol):
    """A dialect is its difference: how values travel and what its SQL compiler is."""

    name: str
    encoders: Mapping[str, Converter]
    """Kind of column -> value to what the driver takes."""
    decoders: Mapping[str, Converter]
    """Kind of column -> what the driver gives to a value."""
    wire_decoders: Mapping[str, Converter]
    """The same for rows that are only written into an answer."""

    def sqlalchemy(self) -> sa.engine.Dialect:
        """The SQLAlchemy dialect that compiles for the driver."""


class _OverList(ColumnElement[bool]):
    """A condition on a column and a list that is one value, so that its length is not part of the SQL."""

    inherit_cache = True
    type = sa.Boolean()
    _is_implicitly_boolean = True  # else SQLite is given "... = 1", which no index serves

    def __init__(self, column: ColumnElement[Any], name: str) -> None:
        self.column = column
        kind = getattr(column.type, "kind", "")
        self.type_of_list = _ListOf(kind if kind == "uuid" else "text")
        self.list = sa.bindparam(name, type_=self.type_of_list)

    @property
    def _from_objects(self) -> Any:
        return self.column._from_objects


class _ListOf(sa.types.UserDefinedType[Any]):
    cache_ok = True

    def __init__(self, item: str) -> None:
        self.item = item
        self.kind = f"list:{item}"

    def get_col_spec(self, **_: Any) -> str:
        return "UUID[]" if self.item == "uuid" else "TEXT[]"


class AnyOf(_OverList):
    """``column`` is one of the list."""


class ContainsAll(_OverList):
    """The JSON list in ``column`` has every value of the list."""


class Overlaps(_OverList):
    """The JSON list in ``column`` has a value of the list."""


class _OverText(ColumnElement[bool]):
    """A condition on a column of text and one text."""

    inherit_cache = True
    type = sa.Boolean()
    _is_implicitly_boolean = True

    def __init__(self, column: ColumnElement[Any], name: str) -> None:
        self.column = column
        self.text = sa.bindparam(name, type_=column.type)

    @property
    def _from_objects(self) -> Any:
        return self.column._from_objects


class Contains(_OverText):
    """``column`` contains the text, whatever the case of the letters A to Z."""


class StartsWithAny(_OverList):
    """``column`` starts with a text of the list, whatever the case of the letters A to Z."""


class HasPrefix(_OverText):
    """``column`` begins with the text, letter by letter."""


class NamesRelated(_OverList):
    """A resource in the JSON list in ``column`` has an id of the list (label ``prefect.resource.id``)."""


class IsEmpty(ColumnElement[bool]):
    """The JSON list in ``column`` has no value."""

    inherit_cache = True
    type = sa.Boolean()
    _is_implicitly_boolean = True  # else SQLite is given "... = 1", which no index serves

    def __init__(self, column: ColumnElement[Any]) -> None:
        """``column`` holds a JSON list or null."""
        self.column = column

    @property
    def _from_objects(self) -> Any:
        return self.column._from_objects


class NotByIndex(ColumnElement[Any]):
    """``column``, compared row by row: SQLite has no statistics and would follow the index of a state that
    nearly every run is in, where another index has the few rows, or the order."""

    inherit_cache = True

    def __init__(self, column: sa.Column[Any]) -> None:
        """``column`` has an index."""
        self.column = column
        self.type = column.type

    @property
    def _from_objects(self) -> Any:
        return self.column._from_objects


class JsonText(ColumnElement[str]):
    """The text under ``key`` of the JSON object in ``column``."""

    inherit_cache = True
    type = sa.Text()

    def __init__(self, column: ColumnElement[Any], key: str) -> None:
        """``key`` is a name of ours, never a client's."""
        self.column = column
        self.key_name = key

    @property
    def _from_objects(self) -> Any:
        return self.column._from_objects


class SecondsBetween(ColumnElement[float]):
    """How many seconds ``later`` is after ``earlier``."""

    inherit_cache = True
    type = sa.Double()

    def __init__(self, earlier: ColumnElement[Any], later: ColumnElement[Any]) -> None:
        """Both are times: columns or values."""
        self.earlier = earlier
        self.later = later

    @property
    def _from_objects(self) -> Any:
        return [*self.earlier._from_objects, *self.later._from_objects]


class Later(ColumnElement[Any]):
    """The time that is ``seconds`` after ``moment``."""

    inherit_cache = True

    def __init__(self, moment: sa.Column[Any], seconds: ColumnElement[int]) -> None:
        """``seconds`` is a whole number, small enough for a time."""
        self.moment = moment
        self.seconds = seconds
        self.type = moment.type

    @property
    def _from_objects(self) -> Any:
        return [*self.moment._from_objects, *self.seconds._from_objects]


class IntervalOf(ColumnElement[int]):
    """The number of the interval of ``length`` microseconds that ``column`` lies in, from ``start`` on."""

    inherit_cache = True
    type = sa.BigInteger()

    def __init__(self, column: ColumnElement[Any], start: str, length: str) -> None:
        """``start`` and ``length`` are names of values."""
        self.column = column
        self.start = sa.bindparam(start, type_=column.type)
        self.length = sa.bindparam(length, type_=sa.BigInteger)

    @property
    def _from_objects(self) -> Any:
        return self.column._from_objects


class MomentOf(ColumnElement[Any]):
    """When the interval of that ``number`` begins: intervals of ``length`` microseconds from ``start`` on."""

    inherit_cache = True

    def __init__(self, number: ColumnElement[int], column: sa.Column[Any], start: str, length: str) -> None:
        """``column`` is a time; ``start`` and ``length`` are names of values."""
        self.number = number
        self.type = column.type
        self.start = sa.bindparam(start, type_=column.type)
        self.length = sa.bindparam(length, type_=sa.BigInteger)

    @property
    def _from_objects(self) -> Any:
        return self.number._from_objects


class NextPosition(ColumnElement[int]):
    """The position of a row that is added to ``table`` now: the order of commits, as readers see them."""

    inherit_cache = True
    type = sa.BigInteger()

    def __init__(self, table: sa.Table) -> None:
        """``table`` has an index that begins with ``position``; ``clock`` is microseconds since 1970."""
        self.table_name = table.name
        self.clock = sa.bindparam("clock", type_=sa.BigInteger)


class IsSettled(ColumnElement[bool]):
    """Nothing can be committed any more that comes before the row with this ``position``."""

    inherit_cache = True
    type = sa.Boolean()

    def __init__(self, position: sa.Column[Any]) -> None:
        """``position`` is that of a row."""
        self.position = position

    @property
    def _from_objects(self) -> Any:
        return self.position._from_objects


_SHIFT = "(SELECT shift FROM position_shift)"


@compiles(NextPosition, "sqlite")
def _next_position_sqlite(element: NextPosition, compiler: Any, **kw: Any) -> str:
    # One writer at a time holds the file, so the next number is free. The clock keeps a number from being
    # given again when the last rows were deleted.
    clock = compiler.process(element.clock, **kw)
    return f"max(coalesce((SELECT max(position) FROM {element.table_name}), 0) + 1, {clock})"


@compiles(NextPosition, "postgresql")
def _next_position_postgresql(element: NextPosition, compiler: Any, **kw: Any) -> str:
    # Transactions commit in any order; a reader takes what no running one can come before: ``IsSettled``.
    return f"(pg_current_xact_id()::text::bigint + {_SHIFT})"


@compiles(IsSettled, "sqlite")
def _is_settled_sqlite(element: IsSettled, compiler: Any, **kw: Any) -> str:
    return "1"


@compiles(IsSettled, "postgresql")
def _is_settled_postgresql(element: IsSettled, compiler: Any, **kw: Any) -> str:
    position = compiler.process(element.position, **kw)
    return f"({position} < pg_snapshot_xmin(pg_current_snapshot())::text::bigint + {_SHIFT})"


@compiles(SecondsBetween, "sqlite")
def _seconds_sqlite(element: SecondsBetween, compiler: Any, **kw: Any) -> str:
    later, earlier = compiler.process(element.later, **kw), compiler.process(element.earlier, **kw)
    return f"(({later} - {earlier}) / 1000000.0)"


@compiles(SecondsBetween, "postgresql")
def _seconds_postgresql(element: SecondsBetween, compiler: Any, **kw: Any) -> str:
    later, earlier = compiler.process(element.later, **kw), compiler.process(element.earlier, **kw)
    return f"date_part('epoch', {later} - {earlier})"


@compiles(Later, "sqlite")
def _later_sqlite(element: Later, compiler: Any, **kw: Any) -> str:
    moment, seconds = compiler.process(element.moment, **kw), compiler.process(element.seconds, **kw)
    return f"({moment} + {seconds} * 1000000)"


@compiles(Later, "postgresql")
def _later_postgresql(element: Later, compiler: Any, **kw: Any) -> str:
    moment, seconds = compiler.process(element.moment, **kw), compiler.process(element.seconds, **kw)
    return f"({moment} + {seconds} * interval '1 second')"


@compiles(IntervalOf, "sqlite")
def _interval_sqlite(element: IntervalOf, compiler: Any, **kw: Any) -> str:
    column, start = compiler.process(element.column, **kw), compiler.process(element.start, **kw)
    return f"(({column} - {start}) / {compiler.process(element.length, **kw)})"


@compiles(IntervalOf, "postgresql")
def _interval_postgresql(element: IntervalOf, compiler: Any, **kw: Any) -> str:
    column, start = compiler.process(element.column, **kw), compiler.process(element.start, **kw)
    length = compiler.process(element.length, **kw)
    # The bin is exact; that its distance is a double is mended by rounding.
    begin = f"date_bin({length} * interval '1 microsecond', {column}, {start})"
    return f"round(date_part('epoch', {begin} - {start}) * 1000000 / {length})::bigint"


@compiles(MomentOf, "sqlite")
def _moment_sqlite(element: MomentOf, compiler: Any, **kw: Any) -> str:
    start, length = compiler.process(element.start, **kw), compiler.process(element.length, **kw)
    return f"({start} + ({compiler.process(element.number, **kw)}) * {length})"


@compiles(MomentOf, "postgresql")
def _moment_postgresql(element: MomentOf, compiler: Any, **kw: Any) -> str:
    start, length = compiler.process(element.start, **kw), compiler.process(element.length, **kw)
    return f"({start} + ({compiler.process(element.number, **kw)}) * {length} * interval '1 microsecond')"


@compiles(NotByIndex, "sqlite")
def _not_by_index_sqlite(element: NotByIndex, compiler: Any, **kw: Any) -> str:
    return f"+{compiler.process(element.column, **kw)}"


@compiles(NotByIndex, "postgresql")
def _not_by_index_postgresql(element: NotByIndex, compiler: Any, **kw: Any) -> str:
    return str(compiler.process(element.column, **kw))


@compiles(JsonText, "sqlite")
def _text_sqlite(element: JsonText, compiler: Any, **kw: Any) -> str:
    return f"json_extract({compiler.process(element.column, **kw)}, '$.\"{element.key_name}\"')"


@compiles(JsonText, "postgresql")
def _text_postgresql(element: JsonText, compiler: Any, **kw: Any) -> str:
    return f"({compiler.process(element.column, **kw)} ->> '{element.key_name}')"


def _both(element: _OverList, compiler: Any, **kw: Any) -> tuple[str, str]:
    return compiler.process(element.column, **kw), compiler.process(element.list, **kw)


@compiles(AnyOf, "sqlite")
def _any_sqlite(element: AnyOf, compiler: Any, **kw: Any) -> str:
    column, values = _both(element, compiler, **kw)
    return f"{column} IN (SELECT value FROM json_each({values}))"


@compiles(AnyOf, "postgresql")
def _any_postgresql(element: AnyOf, compiler: Any, **kw: Any) -> str:
    column, values = _both(element, compiler, **kw)
    return f"{column} = ANY({values}::{element.type_of_list.get_col_spec()})"


@compiles(ContainsAll, "sqlite")
def _all_sqlite(element: ContainsAll, compiler: Any, **kw: Any) -> str:
    column, values = _both(element, compiler, **kw)
    return (
        f"NOT EXISTS (SELECT 1 FROM json_each({values}) AS wanted "
        f"WHERE wanted.value NOT IN (SELECT value FROM json_each({column})))"
    )


@compiles(ContainsAll, "postgresql")
def _all_postgresql(element: ContainsAll, compiler: Any, **kw: Any) -> str:
    column, values = _both(element, compiler, **kw)
    return f"{column}::jsonb ?& {values}::TEXT[]"


@compiles(Overlaps, "sqlite")
def _overlaps_sqlite(element: Overlaps, compiler: Any, **kw: Any) -> str:
    # The list may be bound once only, so the column is what is expanded.
    column, values = _both(element, compiler, **kw)
    return (
        f"EXISTS (SELECT 1 FROM json_each({column}) AS had "
        f"WHERE had.value IN (SELECT value FROM json_each({values})))"
    )


@compiles(Overlaps, "postgresql")
def _overlaps_postgresql(element: Overlaps, compiler: Any, **kw: Any) -> str:
    column, values = _both(element, compiler, **kw)
    return f"{column}::jsonb ?| {values}::TEXT[]"


@compiles(IsEmpty, "sqlite")
def _empty_sqlite(element: IsEmpty, compiler: Any, **kw: Any) -> str:
    return f"{compiler.process(element.column, **kw)} IN ('[]', 'null')"


@compiles(IsEmpty, "postgresql")
def _empty_postgresql(element: IsEmpty, compiler: Any, **kw: Any) -> str:
    return f"{compiler.process(element.column, **kw)}::text IN ('[]', 'null')"


@compiles(Contains, "sqlite")
def _contains_sqlite(element: Contains, compiler: Any, **kw: Any) -> str:
    column = compiler.process(element.column, **kw)
    return f"instr(lower({column}), lower({compiler.process(element.text, **kw)})) > 0"


@compiles(Contains, "postgresql")
def _contains_postgresql(element: Contains, compiler: Any, **kw: Any) -> str:
    # The collation "C" folds A to Z only, as SQLite does.
    column, text = compiler.process(element.column, **kw), compiler.process(element.text, **kw)
    return f'strpos(lower({column} COLLATE "C"), lower({text} COLLATE "C")) > 0'


@compiles(HasPrefix, "sqlite")
def _prefix_sqlite(element: HasPrefix, compiler: Any, **kw: Any) -> str:
    column, text = compiler.process(element.column, **kw), compiler.process(element.text, **kw)
    return f"instr({column}, {text}) = 1"


@compiles(HasPrefix, "postgresql")
def _prefix_postgresql(element: HasPrefix, compiler: Any, **kw: Any) -> str:
    column, text = compiler.process(element.column, **kw), compiler.process(element.text, **kw)
    return f"starts_with({column}, {text})"


@compiles(NamesRelated, "sqlite")
def _related_sqlite(element: NamesRelated, compiler: Any, **kw: Any) -> str:
    column, values = _both(element, compiler, **kw)
    return (
        f"EXISTS (SELECT 1 FROM json_each({column}) AS other "
        "WHERE json_extract(other.value, '$.\"prefect.resource.id\"') "
        f"IN (SELECT value FROM json_each({values})))"
    )


@compiles(NamesRelated, "postgresql")
def _related_postgresql(element: NamesRelated, compiler: Any, **kw: Any) -> str:
    column, values = _both(element, compiler, **kw)
    return (
        f"EXISTS (SELECT 1 FROM json_array_elements({column}) AS other "
        f"WHERE other ->> 'prefect.resource.id' = ANY({values}::TEXT[]))"
    )


@compiles(StartsWithAny, "sqlite")
def _starts_sqlite(element: StartsWithAny, compiler: Any, **kw: Any) -> str:
    column, values = _both(element, compiler, **kw)
    return (
        f"EXISTS (SELECT 1 FROM json_each({values}) AS head "
        f"WHERE lower(substr({column}, 1, length(head.value))) = lower(head.value))"
    )


@compiles(StartsWithAny, "postgresql")
def _starts_postgresql(element: StartsWithAny, compiler: Any, **kw: Any) -> str:
    column, values = _both(element, compiler, **kw)
    return (
        f"EXISTS (SELECT 1 FROM unnest({values}::TEXT[]) AS head "
        f'WHERE starts_with(lower({column} COLLATE "C"), lower(head COLLATE "C")))'
    )
