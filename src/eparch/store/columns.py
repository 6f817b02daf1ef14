"""What tables are made of: the column types of SQLite and PostgreSQL, and the parts that tables share."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)


class Id(TypeDecorator[Any]):
    """A UUID: native on PostgreSQL, 36 characters on SQLite, which has no type for it."""

    impl = sa.Uuid
    cache_ok = True
    kind = "uuid"

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column type of ``dialect``."""
        return sa.Text() if dialect.name == "sqlite" else sa.Uuid()


class Time(TypeDecorator[Any]):
    """A UTC time: ``timestamptz``, or microseconds since 1970 on SQLite, where times sort as they should."""

    impl = sa.DateTime
    cache_ok = True
    kind = "time"

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column type of ``dialect``."""
        return sa.BigInteger() if dialect.name == "sqlite" else sa.DateTime(timezone=True)


class Document(TypeDecorator[Any]):
    """JSON as it was written: key order and number forms survive, so what a client sent is what it reads."""

    impl = sa.JSON
    cache_ok = True
    kind = "json"

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column type of ``dialect``."""
        return sa.Text() if dialect.name == "sqlite" else sa.JSON()


class Flag(TypeDecorator[Any]):
    """A truth value."""

    impl = sa.Boolean
    cache_ok = True
    kind = "bool"


class Text(TypeDecorator[str]):
    """A text, compared and sorted by code point: PostgreSQL's own order depends on where it was installed."""

    impl = sa.Text
    cache_ok = True
    kind = "text"

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column type of ``dialect``."""
        return sa.Text() if dialect.name == "sqlite" else sa.Text(collation="C")


def record(*columns: Any) -> tuple[Any, ...]:
    """An entity: its id, when it was made and changed, and ``columns``."""
    return (
        sa.Column("id", Id, primary_key=True),
        sa.Column("created", Time, nullable=False),
        sa.Column("updated", Time, nullable=False),
        *columns,
    )


def where_known(name: str, *columns: str) -> sa.Index:
    """Index the rows whose first column is not null."""
    text = sa.text(f"{columns[0]} IS NOT NULL")
    return sa.Index(name, *columns, sqlite_where=text, postgresql_where=text)
