"""PostgreSQL through asyncpg: a pool, one transaction an operation, retried where the server asks for it.

Owns only what differs on PostgreSQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from eparch.core.errors import Conflict, DatabaseUnusable, EparchError, Invalid, Unavailable
from eparch.core.model import decode
from eparch.store.dialect import Converter, json_text, plain_text, raw_json, unstorable
from eparch.store.relay import Relay
from eparch.store.statement import Bound, Note, Rows, Steps

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")

ATTEMPTS = 8
"""How often an operation is tried that the server ended because of another one."""

MOST_CONNECTIONS = 10


def _texts(values: Sequence[Any]) -> list[str]:
    return [plain_text(str(value)) for value in values]


class PostgresDialect:
    """How values travel to and from asyncpg: ids and times are native, JSON is text."""

    name = "postgresql"
    encoders: Mapping[str, Converter] = {"json": json_text, "text": plain_text, "list:text": _texts}
    decoders: Mapping[str, Converter] = {"json": decode}
    wire_decoders: Mapping[str, Converter] = {"json": raw_json}

    def sqlalchemy(self) -> sa.engine.Dialect:
        """The compiler for asyncpg."""
        from sqlalchemy.dialects.postgresql import asyncpg

        compiler: sa.engine.Dialect = asyncpg.dialect()  # type: ignore[no-untyped-call]
        return compiler


DIALECT = PostgresDialect()


class PostgresDatabase:
    """A database on a PostgreSQL server."""

    dialect = DIALECT

    def __init__(self, pool: asyncpg.Pool, url: str) -> None:
        """Use ``pool``; see ``open_postgres``."""
        self._pool = pool
        self.url = url
        self.on_notes: Callable[[Sequence[Note]], None] = lambda _: None
        self.fault = ""
        self.relay = Relay(url, lambda notes: self.on_notes(notes))

    async def read(self, operation: Callable[..., Steps[T]], *args: Any, **kwargs: Any) -> T:
        """Run a read."""
        try:
            async with self._pool.acquire() as connection:
                return await _drive(connection, operation(*args, **kwargs), [])
        except EparchError:
            raise
        except Exception as error:
            raise _translated(self.url, error) from error

    scan = read

    async def write(self, operation: Callable[..., Steps[T]], *args: Any, **kwargs: Any) -> T:
        """Run a write in a transaction; when this returns, it is on disk.

        Raises:
            Conflict: it breaks a constraint.
            Invalid: a value does not fit into the database.
            Unavailable: the server does not answer, or the operation lost against others too often.
        """
        import asyncpg

        collided = False
        for attempt in range(ATTEMPTS):
            notes: list[Note] = []
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    result = await _drive(connection, operation(*args, **kwargs), notes)
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                await asyncio.sleep(0.002 * 2**attempt)
                continue
            except asyncpg.UniqueViolationError as error:
                # Somebody made it after the operation had looked for it: now it will be found.
                if collided:
                    raise _translated(self.url, error) from error
                collided = True
                continue
            except EparchError:
                raise
            except Exception as error:
                translated = _translated(self.url, error)
                self.fault = str(translated) if isinstance(translated, DatabaseUnusable) else ""
                raise translated from error
            self.fault = ""
            if notes:
                self.on_notes(notes)
                self.relay.tell(notes)
            return result
        raise Unavailable("The database is too busy.", why=f"{ATTEMPTS} attempts lost against others.")

    async def run_script(self, script: str) -> None:
        """Run the SQL statements of ``script`` in one transaction."""
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(script)
        except Exception as error:
            raise _translated(self.url, error) from error

    async def close(self) -> None:
        """Close every connection."""
        await self.relay.close()
        await self._pool.close()


async def _drive(connection: Any, steps: Steps[T], notes: list[Note]) -> T:
    try:
        request = next(steps)
        while True:
            if isinstance(request, Note):
                notes.append(request)
                request = steps.send([])
            else:
                request = steps.send(await _run(connection, request))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def _run(connection: Any, bound: Bound) -> Rows:
    prepared = bound.statement.prepare(DIALECT)
    if bound.many is not None:
        await connection.executemany(prepared.sql, [prepared.arguments(v) for v in bound.many])
        return []
    return prepared.decode(await connection.fetch(prepared.sql, *prepared.arguments(bound.values)))


async def open_postgres(url: str) -> PostgresDatabase:
    """Connect to the server that ``url`` names.

    Raises:
        DatabaseUnusable: it cannot be reached, or refuses the login, or its driver is not installed.
    """
    try:
        import asyncpg
    except ImportError as error:
        raise DatabaseUnusable(
            "The driver for PostgreSQL is not installed.",
            why=f"The database URL names a PostgreSQL server, and asyncpg cannot be imported: {error}.",
            fix="Install it: pip install 'eparch[postgres]'",
        ) from error

    try:
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=MOST_CONNECTIONS,
            statement_cache_size=1000,
            command_timeout=60,
            init=_prepare_connection,
            reset=_leave_connection,
            server_settings={"timezone": "UTC", "application_name": "eparch"},
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise unusable(url, error) from error
    return PostgresDatabase(pool, url)


async def _prepare_connection(connection: Any) -> None:
    """Compiling a statement takes longer than any of ours runs.

    It is no setting of the login, which some poolers refuse.
    """
    await connection.execute("SET jit = off")


async def _leave_connection(connection: Any) -> None:
    """Nothing is left behind on a connection, so a trip to the server after each operation is spared."""


def unusable(url: str, error: BaseException) -> DatabaseUnusable:
    """The error that says that the server cannot be used; the password is not in it."""
    place = sa.make_url(url).render_as_string(hide_password=True)
    return DatabaseUnusable(
        f"The database {place} cannot be used.",
        why=str(error) or type(error).__name__,
        fix="Check that the server runs and that EPARCH_DATABASE_URL is right.",
    )


def _translated(url: str, error: Exception) -> BaseException:
    import asyncpg

    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # A rollback that does not end in time swallows the cancellation that began it.
        return asyncio.CancelledError()
    if isinstance(error, EparchError):
        return error
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return Conflict("It conflicts with what is there.", why=str(error))
    if isinstance(error, (asyncpg.DataError, asyncpg.StatementTooComplexError)):
        return Invalid(f"A value does not fit into the database: {error}.")
    if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
        # What asyncpg says when it cannot encode a value.
        return Invalid(f"A value does not fit into the database: {error}.")
    gone = (
        OSError,
        asyncpg.InterfaceError,
        # What asyncpg says of a connection that the server ends at this very moment.
        asyncpg.InternalClientError,
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
    )
    if isinstance(error, gone):
        return Unavailable("The database does not answer.", why=str(error) or type(error).__name__)
    if isinstance(error, asyncpg.PostgresError):
        return unusable(url, error)
    return unstorable(error) or error
