"""Opening a database and bringing its schema up to date.

``Database`` is the seam: the same contract suite runs on a SQLite file, on SQLite in memory and on
PostgreSQL.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

from eparch.core.errors import DatabaseUnusable, EparchError, SettingInvalid
from eparch.store.dialect import Dialect
from eparch.store.statement import Note, Statement, Steps

T = TypeVar("T")

HEAD = "0014"
"""The newest revision in ``migrations``."""


class Database(Protocol):
    """Where everything is kept.

    An operation is a function that returns ``Steps``: it may be run again, when another one got in its
    way, so it does nothing but yield statements and notes.
    """

    dialect: Dialect
    on_notes: Callable[[Sequence[Note]], None]
    """Is told on the event loop what committed operations noted."""
    fault: str
    """Why the last write failed, when the database itself was the reason, such as a full disk; else empty."""

    async def read(self, operation: Callable[..., Steps[T]], *args: Any, **kwargs: Any) -> T:
        """Run a read that touches few rows."""

    async def scan(self, operation: Callable[..., Steps[T]], *args: Any, **kwargs: Any) -> T:
        """Run a read that may touch many rows."""

    async def write(self, operation: Callable[..., Steps[T]], *args: Any, **kwargs: Any) -> T:
        """Run a write, all or nothing; when this returns, it is on disk."""

    async def close(self) -> None:
        """Finish what is queued and let go of the database."""


async def open_database(url: str) -> Database:
    """The database at ``url``, with its schema brought up to ``HEAD``.

    Raises:
        SettingInvalid: ``url`` is of another kind.
        DatabaseUnusable: it cannot be opened, is damaged, or is of a newer version.
    """
    database = await _connect(url)
    try:
        await _upgrade(database)
        if database.dialect.name == "postgresql":
            await _mend_positions(database)
    except BaseException:
        await database.close()
        raise
    return database  # type: ignore[no-any-return]


async def change_schema(url: str, target: str, *, apply: bool = True) -> tuple[str | None, str | None, str]:
    """Bring the schema of the database at ``url`` up or down to the revision ``target``, all or nothing.

    ``target`` is a revision, ``head``, ``base`` (nothing is left) or a number of steps such as ``-1``.
    The answer is the revision before (None: empty), the one after, and the SQL; without ``apply``
    nothing is run.

    Raises:
        SettingInvalid: ``url`` is of another kind.
        DatabaseUnusable: it cannot be opened, or is of a newer version.
        NotFound: there is no such revision.
    """
    from eparch.store import migrations

    database = await _connect(url)
    try:
        dialect = database.dialect.name
        before = await database.read(_read_version, dialect)
        after = migrations.find_revision(before, target)
        if before == after:
            return before, after, ""
        if after is not None and (before is None or before < after):
            script = migrations.upgrade_script(dialect, before, after)
        else:
            script = migrations.downgrade_script(dialect, str(before), after or "base")
        if apply and (result := database.run_script(script)) is not None:
            await result
        return before, after, script
    finally:
        await database.close()


async def _connect(url: str) -> Any:
    """The database at ``url`` with the schema that it has; nothing is written to one that is not ours.

    ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite://`` (in memory) and
    ``postgresql://user:password@host/name``; the ``+driver`` that Prefect writes is accepted.

    Raises:
        SettingInvalid: ``url`` is of another kind.
        DatabaseUnusable: it cannot be opened, is damaged, or is of a newer version.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise SettingInvalid(
            "EPARCH_DATABASE_URL is not a database URL.",
            fix="Write sqlite:////folder/eparch.db or postgresql://user:password@host/name.",
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        from eparch.store.sqlite import SqliteDatabase, read_only

        path = _sqlite_path(parsed)
        # What is not ours to write stays as it is to the byte, so it is looked at before it is opened.
        if (before := read_only(path)) is not None:
            _refuse_unknown(before.look(_read_version, "sqlite"))
        return SqliteDatabase(path)
    if backend == "postgresql":
        from eparch.store.postgres import open_postgres

        plain = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
        return await open_postgres(plain)
    raise SettingInvalid(
        f"Databases of the kind {backend!r} are not supported.", fix="Use SQLite or PostgreSQL."
    )


def _sqlite_path(url: sa.URL) -> str:
    name = url.database
    if not name or name == ":memory:" or "mode=memory" in name:
        return ":memory:"
    path = Path(name).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseUnusable(
            f"The folder {path.parent} of the database cannot be made.",
            why=str(error),
            fix="Name another file in EPARCH_DATABASE_URL.",
        ) from error
    return str(path)


async def _mend_positions(database: Any) -> None:
    from eparch.store import positions

    if await database.write(positions.mend):
        logging.getLogger("eparch.server").warning(
            "The database was restored from the dump of another PostgreSQL cluster. "
            "Its events and logs keep their order; new ones come after them."
        )


_VERSION = Statement(sa.select(sa.column("version_num", sa.Text)).select_from(sa.table("alembic_version")))
_TABLES = {
    "sqlite": sa.select(sa.column("name", sa.Text))
    .select_from(sa.table("sqlite_master"))
    .where(sa.column("name") == "alembic_version"),
    "postgresql": sa.select(sa.column("table_name", sa.Text))
    .select_from(sa.table("tables", schema="information_schema"))
    .where(
        sa.column("table_name") == "alembic_version",
        sa.column("table_schema") == sa.func.current_schema(),
    ),
}


def _read_version(dialect: str) -> Steps[str | None]:
    if not (yield Statement(_TABLES[dialect])()):
        return None
    rows = yield _VERSION()
    return rows[0][0] if rows else None


def _refuse_unknown(revision: str | None) -> None:
    from eparch.store import migrations

    if revision is not None and revision not in migrations.revisions():
        migrations.refuse(revision)


async def _upgrade(database: Any) -> None:
    current = await database.read(_read_version, database.dialect.name)
    if current == HEAD:
        return
    from eparch.store import migrations

    _refuse_unknown(current)
    script = migrations.upgrade_script(database.dialect.name, current)
    try:
        result = database.run_script(script)
        if result is not None:
            await result
    except EparchError:
        # Two servers that start at once both upgrade; the second one finds it done.
        if await database.read(_read_version, database.dialect.name) != HEAD:
            raise
