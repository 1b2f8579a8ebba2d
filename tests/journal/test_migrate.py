import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.journal import migrate as module
from engine.journal.migrate import APPLICATION_ID, migrate, migrations, newest_version, statements, stored_version
from engine.journal.sqlite_store import open_sqlite_store
from engine.ports import StoreFault


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "j.db", isolation_level=None)) as opened:
        yield opened


def test_an_empty_file_becomes_the_newest_version(connection: sqlite3.Connection) -> None:
    assert stored_version(connection, "j.db") == 0
    assert migrate(connection, "j.db") == 0
    assert stored_version(connection, "j.db") == newest_version() >= 1
    assert migrate(connection, "j.db") == newest_version()
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("SELECT * FROM log").fetchall() == [(1, 0, 0, bytes(16), 0, 0)]


def test_a_newer_version_is_refused_by_a_sentence_with_both(connection: sqlite3.Connection) -> None:
    migrate(connection, "j.db")
    connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreFault, match=rf"j\.db has version 99, .*up to {newest_version()}"):
        migrate(connection, "j.db")


def test_a_foreign_file_is_refused(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StoreFault, match="not a journal of ours"):
        migrate(connection, "j.db")
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_a_header_without_its_version_is_damage(connection: sqlite3.Connection) -> None:
    migrate(connection, "j.db")
    connection.execute("PRAGMA user_version = 0")
    with pytest.raises(StoreFault, match="is damaged"):
        migrate(connection, "j.db")


def test_an_older_file_gets_only_what_is_new(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(connection, "j.db")
    known = migrations()
    monkeypatch.setattr(
        module, "migrations", lambda: (*known, "CREATE TABLE later (a);\nINSERT INTO later VALUES (1);")
    )
    assert migrate(connection, "j.db") == len(known)
    assert connection.execute("SELECT a FROM later").fetchall() == [(1,)]
    assert stored_version(connection, "j.db") == len(known) + 1


def test_a_migration_that_fails_leaves_nothing(connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(connection, "j.db")
    known = migrations()
    monkeypatch.setattr(
        module, "migrations", lambda: (*known, "CREATE TABLE later (a);\nINSERT INTO nowhere VALUES (1);")
    )
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        migrate(connection, "j.db")
    assert stored_version(connection, "j.db") == len(known)
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'later'").fetchall() == []


async def test_the_store_migrates_an_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "j.db")
    await (await open_sqlite_store(path)).close()
    known = migrations()
    monkeypatch.setattr(module, "migrations", lambda: (*known, "CREATE TABLE later (a);"))
    await (await open_sqlite_store(path)).close()
    with closing(sqlite3.connect(path)) as connection:
        assert stored_version(connection, path) == len(known) + 1


def test_statements_end_where_sqlite_says() -> None:
    script = "-- a comment; with a semicolon\nCREATE TABLE a (b TEXT DEFAULT ';');\n\nINSERT INTO a\nVALUES (1);\n"
    assert [one.splitlines()[-1] for one in statements(script)] == [
        "CREATE TABLE a (b TEXT DEFAULT ';');",
        "VALUES (1);",
    ]
