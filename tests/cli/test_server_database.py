"""``eparch server database`` as Helm's job and operators use it: up, down, away, and shown before."""

import sqlite3

import pytest

from eparch.store.database import HEAD


@pytest.fixture
def tables(tmp_path):
    """The tables of the home's database and the revision that it says it is at."""

    def look():
        with sqlite3.connect(tmp_path / "home" / "eparch.db") as connection:
            found = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
            version = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return found, version[0]

    return look


def test_up_down_and_up_again(run, tables):
    assert "it was empty" in run("server", "database", "upgrade", "-y", code=0).err
    assert tables()[1] == HEAD
    again = run("server", "database", "upgrade", "-y", "-o", "json", code=0)
    assert "already" in again.err
    assert again.json()["before"] == again.json()["after"] == HEAD
    run("server", "database", "downgrade", "--revision", "0001", "-y", code=0)
    found, version = tables()
    assert version == "0001"
    assert "flow_run" in found
    assert "variable" not in found
    run("server", "database", "upgrade", "-r", "+1", "-y", code=0)
    assert "variable" in tables()[0]
    run("server", "database", "upgrade", "-y", code=0)
    assert tables()[1] == HEAD


def test_dry_run_prints_the_script_and_changes_nothing(run, tables, tmp_path):
    done = run("server", "database", "upgrade", "--dry-run", code=0)
    with sqlite3.connect(":memory:") as connection:
        connection.executescript(done.out)
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,)
    with sqlite3.connect(tmp_path / "home" / "eparch.db") as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    run("server", "database", "upgrade", "-y", code=0)
    assert "-- Nothing to do." in run("server", "database", "upgrade", "--dry-run", code=0).out
    assert "DROP TABLE" in run("server", "database", "downgrade", "-r", "base", "--dry-run", code=0).out
    assert tables()[1] == HEAD


def test_reset_leaves_an_empty_database(run, tables, tmp_path):
    run("server", "database", "upgrade", "-y", code=0)
    with sqlite3.connect(tmp_path / "home" / "eparch.db") as connection:
        connection.execute(
            "INSERT INTO flow (id, created, updated, name, tags, labels) VALUES ('a', 1, 1, 'a', '[]', '{}')"
        )
    done = run("server", "database", "reset")
    assert done.code != 0
    assert "--yes" in done.err
    run("server", "database", "reset", "-y", code=0)
    with sqlite3.connect(tmp_path / "home" / "eparch.db") as connection:
        assert connection.execute("SELECT count(*) FROM flow").fetchone() == (0,)
    assert tables()[1] == HEAD


def test_revision_that_is_not_there(run):
    done = run("server", "database", "downgrade", "-r", "9999", "-y", code=3)
    assert "There is no revision '9999'" in done.err
    assert "0001" in done.err


def test_password_of_the_url_is_not_shown(run, environ):
    environ.setenv("EPARCH_DATABASE_URL", "postgresql://ada:hunter2@127.0.0.1:1/none")
    done = run("server", "database", "upgrade", "-y")
    assert done.code != 0
    assert "hunter2" not in done.out + done.err
