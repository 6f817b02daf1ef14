"""A statement that is built once, compiled once per dialect, and run on the bare driver.

Store operations are generators: they yield bound statements and get rows back. A driver runs the generator,
on a thread for SQLite, on the event loop for PostgreSQL, so no operation is written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.sql.compiler import SQLCompiler

from eparch.store.dialect import Dialect

T = TypeVar("T")

Row = Sequence[Any]
Rows = list[Row]


@dataclass(frozen=True, slots=True)
class Bound:
    """A statement with its values; ``many`` runs it once for each mapping and answers no rows."""

    statement: Statement
    values: Mapping[str, Any]
    many: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something to tell those who wait, once the transaction is on disk."""

    topic: str
    value: Any


Steps = Generator["Bound | Note", Rows, T]
"""A store operation: yields what to run, returns its result."""


def looking(steps: Steps[T]) -> Steps[T]:
    """The same steps, but they lock nothing and nobody is told anything: for those who only look."""
    try:
        request = next(steps)
        while True:
            rows: Rows = []
            if isinstance(request, Bound):
                rows = yield Bound(request.statement.unlocked, request.values, request.many)
            request = steps.send(rows)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


class Prepared:
    """A statement as one dialect's driver runs it."""

    __slots__ = ("_encoders", "_inputs", "_outputs", "_pick", "sql")

    def __init__(
        self,
        sql: str,
        inputs: Sequence[tuple[str, Callable[[Any], Any] | None, Any]],
        outputs: Sequence[tuple[int, Callable[[Any], Any]]],
    ) -> None:
        """``inputs``: name, encoder, default, in the driver's order. ``outputs``: column index, decoder."""
        self.sql = sql
        self._inputs = tuple((name, default) for name, _, default in inputs)
        self._encoders = tuple((index, one[1]) for index, one in enumerate(inputs) if one[1] is not None)
        # With a single name an itemgetter gives no tuple.
        self._pick = itemgetter(*(name for name, _ in self._inputs)) if len(self._inputs) > 1 else None
        self._outputs = tuple(outputs)

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """``values`` as the driver takes them."""
        try:
            given = list(self._pick(values)) if self._pick is not None else None
        except KeyError:
            given = None
        if given is None:
            given = [values.get(name, default) for name, default in self._inputs]
        for index, encode in self._encoders:
            value = given[index]
            if value is not None:
                given[index] = encode(value)
        return given

    def decode(self, rows: Sequence[Any]) -> Rows:
        """``rows`` of the driver as values."""
        outputs = self._outputs
        if not outputs:
            return list(rows)
        decoded: Rows = []
        for row in rows:
            values = list(row)
            for index, convert in outputs:
                value = values[index]
                if value is not None:
                    values[index] = convert(value)
            decoded.append(values)
        return decoded


class Statement:
    """SQL of which only the values change.

    With ``wire`` its rows are only written into an answer: JSON stays text and ids stay as stored, which
    saves parsing what is to be encoded again.
    """

    __slots__ = ("_prepared", "_types", "_unlocked", "expression", "wire")

    def __init__(
        self, expression: Any, *, wire: bool = False, types: Mapping[str, Any] | None = None
    ) -> None:
        """``expression`` is any SQLAlchemy Core statement; its ``bindparam``s are the values.

        ``types`` names what a JSON column is decoded into, by the column's key in the result.
        """
        self.expression = expression
        self.wire = wire
        self._types = types or {}
        self._prepared: dict[str, Prepared] = {}
        self._unlocked: Statement | None = None

    @property
    def unlocked(self) -> Statement:
        """The same statement that locks no row: for those who only look."""
        if getattr(self.expression, "_for_update_arg", None) is None:
            return self
        if self._unlocked is None:
            expression = self.expression._generate()
            expression._for_update_arg = None
            self._unlocked = Statement(expression, wire=self.wire, types=self._types)
        return self._unlocked

    def __call__(self, **values: Any) -> Bound:
        """The statement with ``values``."""
        return Bound(self, values)

    def each(self, values: Sequence[Mapping[str, Any]]) -> Bound:
        """The statement run for each of ``values``."""
        return Bound(self, {}, values)

    def prepare(self, dialect: Dialect) -> Prepared:
        """What ``dialect``'s driver runs; compiled the first time."""
        prepared = self._prepared.get(dialect.name)
        if prepared is None:
            prepared = self._prepared[dialect.name] = self._compile(dialect)
        return prepared

    def _compile(self, dialect: Dialect) -> Prepared:
        compiled: SQLCompiler = self.expression.compile(
            dialect=dialect.sqlalchemy(), compile_kwargs={"render_postcompile": True}
        )
        encoders = dialect.encoders
        order = compiled.positiontup if compiled.positiontup is not None else list(compiled.binds)
        binds = compiled.binds
        inputs = [(name, encoders.get(_kind(binds[name].type)), binds[name].value) for name in order]
        decoders = dialect.wire_decoders if self.wire else dialect.decoders
        outputs = []
        for index, column in enumerate(_columns(self.expression)):
            typed = self._types.get(column.key)
            convert = _typed(typed) if typed is not None else decoders.get(_kind(column.type))
            if convert is not None:
                outputs.append((index, convert))
        return Prepared(compiled.string, inputs, outputs)


def _typed(type_: Any) -> Callable[[Any], Any]:
    return msgspec.json.Decoder(type_).decode


def _kind(type_: Any) -> str:
    return getattr(type_, "kind", "")


def _columns(expression: Any) -> Sequence[Any]:
    if isinstance(expression, sa.sql.selectable.SelectBase):
        return list(expression.selected_columns)
    return list(getattr(expression, "_all_selected_columns", ()))


@lru_cache(maxsize=512)
def insert(table: sa.Table, columns: frozenset[str] | None = None) -> Statement:
    """Insert one row of ``table``, all columns or ``columns``."""
    names = [c.name for c in table.columns if columns is None or c.name in columns]
    return Statement(table.insert().values({n: sa.bindparam(n, type_=table.c[n].type) for n in names}))


@lru_cache(maxsize=64)
def upsert(table: sa.Table, key: tuple[str, ...], changed: tuple[str, ...]) -> Statement:
    """Insert a row of ``table``, or set its ``changed`` columns where ``key`` is there already."""
    from sqlalchemy.dialects import postgresql  # SQLite's compiler understands this form too

    statement = postgresql.insert(table).values(
        {c.name: sa.bindparam(c.name, type_=c.type) for c in table.columns}
    )
    return Statement(
        statement.on_conflict_do_update(
            index_elements=[table.c[name] for name in key],
            set_={name: statement.excluded[name] for name in changed},
        )
    )


@lru_cache(maxsize=512)
def update(table: sa.Table, columns: frozenset[str], keys: tuple[str, ...] = ("id",)) -> Statement:
    """Set ``columns`` of the rows whose ``keys`` are given as ``key_<name>``; answers their first key."""
    condition = sa.and_(*(table.c[k] == sa.bindparam(f"key_{k}", type_=table.c[k].type) for k in keys))
    values = {n: sa.bindparam(n, type_=table.c[n].type) for n in sorted(columns)}
    return Statement(table.update().where(condition).values(values).returning(table.c[keys[0]]))


@lru_cache(maxsize=128)
def delete(table: sa.Table, key: str = "id") -> Statement:
    """Delete the rows whose ``key`` is given as ``key``; answers their keys."""
    column = table.c[key]
    return Statement(table.delete().where(column == sa.bindparam("key", type_=column.type)).returning(column))


def param(name: str, column: sa.Column[Any]) -> sa.BindParameter[Any]:
    """A value of the statement, of the type of ``column``."""
    return sa.bindparam(name, type_=column.type)
