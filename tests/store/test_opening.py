"""Opening a database that cannot be used says so, and leaves it as it is."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from eparch.core.errors import DatabaseUnusable, EparchError, SettingInvalid
from eparch.store import deployments, sqlite
from eparch.store.database import HEAD, change_schema, open_database
from eparch.store.migrations import revisions

from . import making

pytestmark = pytest.mark.anyio


async def refused(url: str, kind: type[EparchError] = DatabaseUnusable) -> EparchError:
    with pytest.raises(kind) as caught:
        await open_database(url)
    assert caught.value.fix
    return caught.value


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def with_revision(path: Path, revision: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
    connection.close()


@pytest.mark.parametrize("journal", ["wal", "delete"])
@pytest.mark.parametrize(
    ("revision", "says"), [("9999", "newer version"), ("a1b2c3d4e5f6", "not one of Eparch")]
)
async def test_a_schema_that_is_not_known_is_left_alone(
    sqlite_url: str, journal: str, revision: str, says: str
) -> None:
    path = file_of(sqlite_url)
    with_revision(path, revision)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.close()
    before = path.read_bytes()
    error = await refused(sqlite_url)
    assert says in error.message
    assert revision in error.why
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


async def test_a_newer_schema_on_postgresql(postgres_url: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(postgres_url)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "newer version" in (await refused(postgres_url)).message
    assert await connection.fetchval("SELECT version_num FROM alembic_version") == "9999"
    await connection.close()


@pytest.mark.parametrize("content", [b"not a database, but a letter\n" * 100, b"\x00" * 8192, b"x"])
async def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter.db"
    path.write_bytes(content)
    assert "no SQLite database" in (await refused(f"sqlite:///{path}")).message
    assert path.read_bytes() == content


@pytest.mark.parametrize("keep", [600, 5000, 0.5])
async def test_a_file_of_which_the_end_is_missing(sqlite_url: str, keep: float) -> None:
    path = file_of(sqlite_url)
    content = path.read_bytes()
    content = content[: int(keep if keep > 1 else len(content) * keep)]
    path.write_bytes(content)
    assert "damaged" in (await refused(sqlite_url)).message
    assert path.read_bytes() == content


async def test_a_file_whose_pages_are_damaged(sqlite_url: str) -> None:
    path = file_of(sqlite_url)
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)
    assert "damaged" in (await refused(sqlite_url)).message
    assert path.read_bytes() == content


async def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    error = await refused(f"sqlite:///{tmp_path}")
    assert "cannot be opened" in error.message
    assert str(tmp_path) in error.message


async def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "folder" in (await refused(f"sqlite:///{tmp_path / 'file' / 'x' / 'eparch.db'}")).message


async def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    database = await open_database(f"sqlite:///{tmp_path / 'a' / 'b' / 'eparch.db'}")
    await database.write(making.insert, making.flow())
    await database.close()


async def test_a_file_that_may_not_be_written(sqlite_url: str) -> None:
    """A write to a file that is open for reading only: what SQLite says of a read-only folder too."""
    path = file_of(sqlite_url)
    database = sqlite.SqliteDatabase(f"file:{path}?mode=ro")
    with pytest.raises(DatabaseUnusable, match="read-only"):
        await database.write(making.insert, making.flow())
    assert await database.read(deployments.read_flow_by_name, "x") is None
    await database.close()


async def test_a_full_disk(sqlite_url: str) -> None:
    """``max_page_count`` makes SQLite report the same as a device without space does."""
    database: Any = await open_database(sqlite_url)
    kept = [making.flow() for _ in range(5)]
    for flow in kept:
        await database.write(making.insert, flow)
    (pages,) = database._writer.raw.execute("PRAGMA page_count").fetchone()
    database._writer.raw.execute(f"PRAGMA max_page_count={pages}")
    large = [making.flow(labels={"x": "y" * 50_000}) for _ in range(20)]
    found = await asyncio.gather(*(database.write(making.insert, f) for f in large), return_exceptions=True)
    failed = [error for error in found if error is not None]
    assert failed
    assert {type(error) for error in failed} == {DatabaseUnusable}
    assert "full" in failed[0].message
    stored = [await database.read(deployments.read_flow, flow.id) is not None for flow in large]
    assert stored == [answer is None for answer in found], "an answer and the file say the same"
    database._writer.raw.execute("PRAGMA max_page_count=1000000")
    await database.write(making.insert, large_again := making.flow(labels={"x": "y" * 50_000}))
    for flow in (*kept, large_again):
        assert await database.read(deployments.flow_value, flow.id) == flow
    await database.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [("mysql://u:p@h/d", "mysql"), ("nonsense", "URL"), ("sqlite:/x y", "URL"), ("", "URL")],
)
async def test_a_url_that_names_no_database(url: str, says: str) -> None:
    assert says in (await refused(url, SettingInvalid)).message


async def test_a_server_that_is_not_there_and_the_password_is_not_told() -> None:
    error = await refused("postgresql://me:geheim@127.0.0.1:1/x")
    assert "127.0.0.1" in error.message
    assert "geheim" not in error.message + error.why + error.fix


async def test_a_postgresql_database_that_does_not_exist(postgres_server: Any) -> None:
    assert "missing_one" in (await refused(postgres_server.named("missing_one"))).why


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("empty_postgres_url"))
    return f"sqlite:///{tmp_path / 'x.db'}"


async def test_a_schema_is_made_whole_or_not_at_all(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from eparch.store import migrations

    url, kind = empty_url, empty_url.partition(":")[0]
    script = migrations.upgrade_script(kind, None)
    monkeypatch.setattr(migrations, "upgrade_script", lambda *_: script + "\nINSERT INTO nowhere VALUES (1);")
    await refused(url)
    monkeypatch.undo()
    database = await open_database(url)
    await database.write(making.insert, making.flow())
    await database.close()


async def test_two_servers_that_start_at_once(empty_postgres_url: str) -> None:
    opened = await asyncio.gather(*(open_database(empty_postgres_url) for _ in range(3)))
    for database in opened:
        await database.write(making.insert, making.flow())
        await database.close()


def test_the_newest_revision_is_the_head() -> None:
    assert max(revisions()) == HEAD


async def test_a_database_is_moved_by_copying_its_file(sqlite_url: str, tmp_path: Path) -> None:
    database = await open_database(sqlite_url)
    await database.write(making.insert, flow := making.flow())
    await database.close()
    shutil.copyfile(file_of(sqlite_url), tmp_path / "copy.db")
    copy = await open_database(f"sqlite:///{tmp_path / 'copy.db'}")
    assert await copy.read(deployments.flow_value, flow.id) == flow
    await copy.close()


async def test_schema_goes_down_and_up(sqlite_url: str, postgres_url: str) -> None:
    for url in (sqlite_url, postgres_url):
        assert (await change_schema(url, "0001"))[:2] == (HEAD, "0001")
        assert (await change_schema(url, "head"))[:2] == ("0001", HEAD)
        before, after, script = await change_schema(url, "-1", apply=False)
        assert (before, after) == (HEAD, max(revisions() - {HEAD}))
        assert f"version_num='{after}'" in script
        assert (await change_schema(url, "base"))[:2] == (HEAD, None)
        assert (await change_schema(url, "+1"))[:2] == (None, "0001")
        assert (await change_schema(url, "head"))[:2] == ("0001", HEAD)
        await (await open_database(url)).close()
