"""A database made by the migrations is the one that ``tables`` describes, on both dialects."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from typing import Any

import pytest
import sqlalchemy as sa

from eparch.store import migrations, postgres, sqlite
from eparch.store import tables as t

DIALECTS = {"sqlite": sqlite.DIALECT, "postgresql": postgres.DIALECT}


def described(name: str) -> str:
    """The script that makes what ``tables`` describes."""
    dialect = DIALECTS[name].sqlalchemy()
    made: list[str] = []
    for table in t.metadata.sorted_tables:
        made.append(str(sa.schema.CreateTable(table).compile(dialect=dialect)))
        meant = [i for i in table.indexes if i._ddl_if is None or i._ddl_if.dialect == name]
        made += [str(sa.schema.CreateIndex(index).compile(dialect=dialect)) for index in meant]
    return ";\n".join(made)


def schema_of_sqlite(script: str) -> dict[str, Any]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(script)
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found: dict[str, Any] = {}
    for name in names:
        if name == "alembic_version":
            continue
        for pragma in ("table_xinfo", "foreign_key_list"):
            rows = connection.execute(f"PRAGMA {pragma}({name})").fetchall()
            # The number of a foreign key is the place where it was written.
            found[f"{name} {pragma}"] = rows if pragma == "table_xinfo" else sorted(row[2:] for row in rows)
        for index in connection.execute(f"PRAGMA index_list({name})").fetchall():
            columns = connection.execute(f"PRAGMA index_xinfo({index[1]})").fetchall()
            found[f"{name} index {index[1] if index[3] == 'c' else columns}"] = (columns, index[2:])
    for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'"):
        if sql:
            found[f"{name} where"] = re.sub(r"\s+", " ", sql.partition("WHERE")[2])
    connection.close()
    return found


def test_on_sqlite() -> None:
    migrated = schema_of_sqlite(migrations.upgrade_script("sqlite", None))
    assert len(migrated) > 80
    assert migrated == schema_of_sqlite(described("sqlite"))


async def schema_of_postgres(url: str, script: str) -> list[tuple[Any, ...]]:
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute(script)
    found = []
    for query in (
        "SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name,"
        " ordinal_position FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace",
    ):
        found += [tuple(row) for row in await connection.fetch(query) if row[0] != "alembic_version"]
    await connection.close()
    return sorted(found, key=str)


def test_on_postgresql(postgres_server: Any) -> None:
    one, two = postgres_server.create(), postgres_server.create()
    migrated = asyncio.run(schema_of_postgres(one, migrations.upgrade_script("postgresql", None)))
    assert len(migrated) > 200
    assert migrated == asyncio.run(schema_of_postgres(two, described("postgresql")))
    postgres_server.drop(one)
    postgres_server.drop(two)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_upgrade_is_one_transaction_of_the_one_who_runs_it(dialect: str) -> None:
    script = migrations.upgrade_script(dialect, None)
    assert not re.search(r"^\s*(BEGIN|COMMIT|VACUUM|PRAGMA)\b|CONCURRENTLY", script, re.MULTILINE)
    assert "INSERT INTO alembic_version" in script


@pytest.mark.parametrize("dialect", DIALECTS)
def test_there_is_nothing_to_do_at_the_head(dialect: str) -> None:
    assert "CREATE TABLE" not in migrations.upgrade_script(dialect, max(migrations.revisions()))
