"""SQLite: one writer thread with group commit, readers of their own.

Owns only what differs on SQLite. Writes go through one thread that commits whatever is queued in one
transaction (``BEGIN IMMEDIATE``, WAL, ``synchronous=FULL``), so there is no lock to wait for and one
fsync serves many requests; a write that fails is rolled back to its own savepoint. Point reads run on
the event loop, where they are faster than a thread switch; lists run in a small thread pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import sqlalchemy as sa

from eparch.core.errors import Conflict, DatabaseUnusable, EparchError, Invalid
from eparch.core.model import decode
from eparch.store.dialect import Converter, json_text, plain_text, raw_json, unstorable
from eparch.store.statement import Bound, Note, Rows, Steps

T = TypeVar("T")

MOST_AT_ONCE = 256
"""Writes of one transaction."""

READERS = 2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

PRAGMAS = (
    "PRAGMA busy_timeout=30000",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA journal_size_limit=67108864",
    "PRAGMA foreign_keys=ON",
    "PRAGMA cache_size=-16000",
    "PRAGMA temp_store=MEMORY",
)
# No "PRAGMA optimize": statements are written so that the right index follows from the schema alone. With
# statistics SQLite begins with the small tables that are joined, and sorts a million rows for a page.


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


class SqliteDialect:
    """How values travel to and from ``sqlite3``."""

    name = "sqlite"
    encoders: Mapping[str, Converter] = {
        "uuid": str,
        "text": plain_text,
        "time": _micros,
        "json": json_text,
        "list:uuid": json_text,
        "list:text": json_text,
    }
    decoders: Mapping[str, Converter] = {"uuid": UUID, "time": _moment, "json": decode, "bool": bool}
    wire_decoders: Mapping[str, Converter] = {"time": _moment, "json": raw_json, "bool": bool}

    def sqlalchemy(self) -> sa.engine.Dialect:
        """The compiler for ``sqlite3``."""
        from sqlalchemy.dialects import sqlite

        return sqlite.dialect()


DIALECT = SqliteDialect()


class _Job:
    __slots__ = ("error", "future", "make", "notes", "result")

    def __init__(self, make: Callable[[], Steps[Any]], future: asyncio.Future[Any]) -> None:
        self.make = make
        self.future = future
        self.notes: list[Note] = []
        self.result: Any = None
        self.error: BaseException | None = None


class Connection:
    """A connection that runs operations."""

    def __init__(self, path: str, *, reads_only: bool = False, pragmas: Sequence[str] = PRAGMAS) -> None:
        """Open the file ``path``, or what the URI ``path`` names.

        Raises:
            DatabaseUnusable: it cannot be opened, or is no database.
        """
        self.path = path
        try:
            self.raw = sqlite3.connect(
                path,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=512,
                uri=path.startswith("file:"),
            )
            for pragma in pragmas:
                self.raw.execute(pragma)
            if reads_only:
                self.raw.execute("PRAGMA query_only=ON")
        except sqlite3.Error as error:
            raise unusable(path, error) from error
        self._execute = self.raw.execute

    def run(self, steps: Steps[T], notes: list[Note]) -> T:
        """Drive ``steps`` to their result; what they note is added to ``notes``."""
        try:
            request = next(steps)
            while True:
                if isinstance(request, Note):
                    notes.append(request)
                    request = steps.send([])
                else:
                    request = steps.send(self._run(request))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def look(self, operation: Callable[..., Steps[T]], *args: Any) -> T:
        """Run one read and close the connection.

        Raises:
            DatabaseUnusable: it cannot be read.
        """
        try:
            return self.run(operation(*args), [])
        except sqlite3.Error as error:
            raise unusable(self.path, error) from error
        finally:
            self.raw.close()

    def _run(self, bound: Bound) -> Rows:
        prepared = bound.statement.prepare(DIALECT)
        if bound.many is not None:
            self.raw.executemany(prepared.sql, [prepared.arguments(v) for v in bound.many])
            return []
        return prepared.decode(self._execute(prepared.sql, prepared.arguments(bound.values)).fetchall())


class SqliteDatabase:
    """A database in one file, or in memory."""

    dialect = DIALECT

    def __init__(self, path: str) -> None:
        """``path`` is a file, or ``:memory:``. The folder must exist.

        Raises:
            DatabaseUnusable: it cannot be opened for writing.
        """
        self.path = path
        self.on_notes: Callable[[Sequence[Note]], None] = lambda _: None
        self.fault = ""
        self._memory = path == ":memory:"
        self._writer = Connection(path)
        self._loop_reader = self._writer if self._memory else Connection(path, reads_only=True)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(READERS, "eparch-read")
        self._scanners: list[Connection] = []
        self._thread = threading.Thread(target=self._write_forever, name="eparch-write", daemon=True)
        self._thread.start()
        self._closed = False

    async def read(self, operation: Callable[..., Steps[T]], *args: Any, **kwargs: Any) -> T:
        """Run a read that touches few rows."""
        if self._memory:
            return await self.write(operation, *args, **kwargs)
        return self._guarded(self._loop_reader, operation, args, kwargs)

    async def scan(self, operation: Callable[..., Steps[T]], *args: Any, **kwargs: Any) -> T:
        """Run a read that may touch many rows."""
        if self._memory:
            return await self.write(operation, *args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._scan, operation, args, kwargs)

    def _scan(self, operation: Callable[..., Steps[T]], args: Any, kwargs: Any) -> T:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = Connection(self.path, reads_only=True)
            self._scanners.append(connection)
        return self._guarded(connection, operation, args, kwargs)

    def _guarded(
        self, connection: Connection, operation: Callable[..., Steps[T]], args: Any, kwargs: Any
    ) -> T:
        try:
            return connection.run(operation(*args, **kwargs), [])
        except EparchError:
            raise
        except Exception as error:
            raise _translated(self.path, error) from error

    async def write(self, operation: Callable[..., Steps[T]], *args: Any, **kwargs: Any) -> T:
        """Run a write; when this returns, it is on disk.

        A write whose caller is cancelled is done whole or not at all.

        Raises:
            Conflict: it breaks a constraint.
            Invalid: a value does not fit into the database.
            DatabaseUnusable: the disk is full, or the file cannot be written.
        """
        if self._closed:
            raise DatabaseUnusable("The database is closed.")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(_Job(lambda: operation(*args, **kwargs), future))
        return await future

    def _write_forever(self) -> None:
        while True:
            job = self._queue.get()
            batch: list[_Job] = []
            while job is not None:
                batch.append(job)
                if len(batch) == MOST_AT_ONCE:
                    break
                try:
                    job = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._commit(batch)
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    batch[0].future.get_loop().call_soon_threadsafe(self._deliver, batch)
            if job is None:
                return

    def _commit(self, batch: list[_Job]) -> None:
        raw = self._writer.raw
        try:
            raw.execute("BEGIN IMMEDIATE")
            for job in batch:
                self._attempt(job, raw)
            raw.execute("COMMIT")
            self.fault = ""
        except BaseException as error:
            translated = _translated(self.path, error)
            self.fault = str(translated) if isinstance(translated, DatabaseUnusable) else ""
            with contextlib.suppress(sqlite3.Error):  # it may have been rolled back by itself
                raw.execute("ROLLBACK")
            for job in batch:
                job.error = job.error or translated

    def _attempt(self, job: _Job, raw: sqlite3.Connection) -> None:
        if job.future.cancelled():
            return
        raw.execute("SAVEPOINT job")
        try:
            job.result = self._writer.run(job.make(), job.notes)
        except BaseException as error:
            # A full disk rolls the whole transaction back by itself: then nothing in it may be answered.
            if not raw.in_transaction:
                raise
            raw.execute("ROLLBACK TO job")
            job.error = _translated(self.path, error)
        raw.execute("RELEASE job")

    def _deliver(self, batch: list[_Job]) -> None:
        notes = [note for job in batch if job.error is None for note in job.notes]
        for job in batch:
            if job.future.cancelled():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)
        if notes:
            self.on_notes(notes)

    def run_script(self, script: str) -> None:
        """Run the SQL statements of ``script`` in one transaction, before anything else runs."""
        try:
            self._writer.raw.executescript(f"BEGIN IMMEDIATE;\n{script}\nCOMMIT;")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._writer.raw.execute("ROLLBACK")
            raise unusable(self.path, error) from error

    async def close(self) -> None:
        """Finish what is queued and close every connection."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._readers.shutdown)
        # The writer goes last: whoever closes last moves the write-ahead log into the file.
        for connection in (*self._scanners, self._loop_reader, self._writer):
            connection.raw.close()


def read_only(path: str) -> Connection | None:
    """A connection that cannot change the file ``path`` in any way.

    None where opening it as usual changes nothing either: there is no file, or it has a write-ahead log.

    Raises:
        DatabaseUnusable: it cannot be opened, or is no database.
    """
    if path == ":memory:" or not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        header = file.read(20)
    if header and not header.startswith(b"SQLite format 3\0"):
        # SQLite would take a file shorter than a page for an empty database, and write over it.
        raise unusable(path, _not_a_database())
    if len(header) < 20 or header[18] == 2:
        return None
    connection = Connection(f"{Path(path).absolute().as_uri()}?mode=ro", pragmas=PRAGMAS[:1])
    connection.path = path
    return connection


def _not_a_database() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("file is not a database")
    error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
    return error


def unusable(path: str, error: BaseException) -> DatabaseUnusable:
    """The error that says what is wrong with the file ``path``."""
    text = str(error)
    fix = "Check EPARCH_DATABASE_URL."
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            what = f"The file {path} is damaged, or is no SQLite database."
            fix = "Nothing was changed in it. Restore a copy, or name another file in EPARCH_DATABASE_URL."
        case sqlite3.SQLITE_FULL:
            what = f"The disk is full: the database {path} cannot grow."
            fix = "Free some space; what was answered before is kept."
        case sqlite3.SQLITE_READONLY:
            what = f"The database {path} cannot be written: it or its folder is read-only."
            fix = "Let the server's user write there, or name another file in EPARCH_DATABASE_URL."
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            what = f"The database {path} cannot be opened."
            fix = "Its folder must exist and be writable; or name another file in EPARCH_DATABASE_URL."
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            what = f"Another process holds the database {path}."
            fix = "Run one server per SQLite file, or use PostgreSQL."
        case _:
            what = f"The database {path} failed."
    return DatabaseUnusable(what, why=text, fix=fix)


def _translated(path: str, error: BaseException) -> BaseException:
    if isinstance(error, EparchError):
        return error
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict("It conflicts with what is there.", why=str(error))
    if isinstance(error, sqlite3.DataError):
        return Invalid(f"A value does not fit into the database: {error}.")
    if isinstance(error, sqlite3.ProgrammingError):
        return DatabaseUnusable("The database is closed.") if "closed" in str(error) else error
    if isinstance(error, sqlite3.Error):
        return unusable(path, error)
    if not isinstance(error, Exception):
        # SystemExit and its like would end the loop of whoever waits for the write.
        return EparchError("The write was interrupted.", why=repr(error))
    return unstorable(error) or error
