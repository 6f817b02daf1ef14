"""SQLite: one writer thread with group commit, readers of their own.

Owns only what differs on SQLite. Writes go through one thread that commits whatever is queued in one
transaction (``BEGIN IMMEDIATE``, WAL, ``synchronous=FULL``), so there is no lock to wait for and one
fsync serves many requests; a write that fails is rolled back to its own savepoint. Point reads run on
the event loop, where they are faster than a thread switch; lists run in a small thread pool.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import sqlalchemy as sa

from eparch.core.errors import Conflict, DatabaseUnusable, EparchError, Invalid
from eparch.core.model import decode, encode
from eparch.store.dialect import Converter
from eparch.store.statement import Bound, Note, Rows, Steps

T = TypeVar("T")

MOST_AT_ONCE = 256
"""Writes of one transaction."""

READERS = 2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA busy_timeout=30000",
    "PRAGMA cache_size=-16000",
    "PRAGMA temp_store=MEMORY",
)


def _json_text(value: Any) -> str:
    return encode(value).decode()


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


class SqliteDialect:
    """How values travel to and from ``sqlite3``."""

    name = "sqlite"
    encoders: Mapping[str, Converter] = {
        "uuid": str,
        "time": _micros,
        "json": _json_text,
        "list:uuid": _json_text,
        "list:text": _json_text,
    }
    decoders: Mapping[str, Converter] = {"uuid": UUID, "time": _moment, "json": decode, "bool": bool}
    wire_decoders: Mapping[str, Converter] = {"time": _moment, "json": _raw, "bool": bool}

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

    def __init__(self, path: str, *, reads_only: bool = False) -> None:
        """Open the file ``path``.

        Raises:
            DatabaseUnusable: it cannot be opened, or is no database.
        """
        try:
            uri = path.startswith("file:")
            self.raw = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, cached_statements=512, uri=uri
            )
            for pragma in PRAGMAS:
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
        self._memory = path == ":memory:"
        self._writer = Connection(path)
        self._loop_reader = self._writer if self._memory else Connection(path, reads_only=True)
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(READERS, "eparch-read")
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
        return self._guarded(connection, operation, args, kwargs)

    def _guarded(
        self, connection: Connection, operation: Callable[..., Steps[T]], args: Any, kwargs: Any
    ) -> T:
        try:
            return connection.run(operation(*args, **kwargs), [])
        except Exception as error:
            raise _translated(self.path, error) from error

    async def write(self, operation: Callable[..., Steps[T]], *args: Any, **kwargs: Any) -> T:
        """Run a write; when this returns, it is on disk.

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
                loop = batch[0].future.get_loop()
                if not loop.is_closed():
                    loop.call_soon_threadsafe(self._deliver, batch)
            if job is None:
                return

    def _commit(self, batch: list[_Job]) -> None:
        raw = self._writer.raw
        try:
            raw.execute("BEGIN IMMEDIATE")
            for job in batch:
                self._attempt(job, raw)
            raw.execute("COMMIT")
        except Exception as error:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
            failure = _translated(self.path, error)
            for job in batch:
                job.error = job.error or failure

    def _attempt(self, job: _Job, raw: sqlite3.Connection) -> None:
        raw.execute("SAVEPOINT job")
        try:
            job.result = self._writer.run(job.make(), job.notes)
        except Exception as error:
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
            if self._writer.raw.in_transaction:
                self._writer.raw.execute("ROLLBACK")
            raise unusable(self.path, error) from error

    async def close(self) -> None:
        """Finish what is queued and close every connection."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        self._readers.shutdown(wait=True)
        self._loop_reader.raw.close()
        self._writer.raw.close()


def unusable(path: str, error: BaseException) -> DatabaseUnusable:
    """The error that says what is wrong with the file ``path``."""
    text = str(error)
    shown = Path(path).name if path != ":memory:" else path
    fix = "Check EPARCH_DATABASE_URL."
    if "not a database" in text or "malformed" in text:
        what = f"The file {path} is damaged, or is no SQLite database."
        fix = "Nothing was changed in it. Restore a copy, or name another file in EPARCH_DATABASE_URL."
    elif "full" in text:
        what = f"The disk is full: the database {path} cannot grow."
        fix = "Free some space; what was answered before is kept."
    elif "readonly" in text or "read-only" in text:
        what = f"The database {path} cannot be written: it or its folder is read-only."
    elif "unable to open" in text:
        what = f"The database {path} cannot be opened."
        fix = "Its folder must exist and be writable; or name another file in EPARCH_DATABASE_URL."
    elif "locked" in text:
        what = f"Another process holds the database {path}."
        fix = "Run one server per SQLite file, or use PostgreSQL."
    else:
        what = f"The database {shown} failed."
    return DatabaseUnusable(what, why=text, fix=fix)


def _translated(path: str, error: Exception) -> Exception:
    if isinstance(error, EparchError):
        return error
    if isinstance(error, sqlite3.IntegrityError):
        return Conflict("It conflicts with what is there.", why=str(error))
    if isinstance(error, (OverflowError, sqlite3.DataError, UnicodeEncodeError)):
        return Invalid(f"A value does not fit into the database: {error}.")
    if isinstance(error, sqlite3.Error):
        return unusable(path, error)
    return error
