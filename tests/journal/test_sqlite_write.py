"""Groups of work in one transaction, without a store around them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.journal.migrate import migrate
from engine.journal.record import EMPTY_TIP
from engine.journal.sqlite_read import SnapshotHead, load
from engine.journal.sqlite_write import (
    Adopt,
    Append,
    Install,
    StagePiece,
    Trim,
    Truncate,
    Work,
    connect_writer,
    write_group,
)
from engine.ports import StoreFault, Tip
from tests.journal.stores import entries


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect_writer(str(tmp_path / "j.db"))) as opened:
        migrate(opened, "j.db")
        yield opened


def group(connection: sqlite3.Connection, *works: Work) -> list[object]:
    """Write a group, and look whether what is told of the log is what the file says."""
    log, results = write_group(connection, load(connection, "j.db").log, works)
    assert load(connection, "j.db").log == log
    return results


def indexes(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT number FROM record ORDER BY number")]


def test_records_of_the_same_group_go_with_the_log_that_is_replaced(connection: sqlite3.Connection) -> None:
    head = SnapshotHead(1, 50, 7, b"h" * 16, 0, b"")
    results = group(connection, Append(entries(1, 3), None), Install(head, None), Append(entries(51, 2, epoch=7), None))
    assert results[1] == Tip(50, 7, b"h" * 16)
    assert indexes(connection) == [51, 52]


def test_cuts_and_trims_see_the_records_of_the_same_group(connection: sqlite3.Connection) -> None:
    written = group(connection, Append(entries(1, 9), None), Truncate(6, None), Append(entries(7, 1, epoch=2), None))
    assert isinstance(written[1], Tip)
    assert written[1].index == 6
    head = SnapshotHead(1, 6, 1, written[1].hash, 0, b"")
    results = group(
        connection, Append(entries(8, 2, epoch=2), None), StagePiece(1, 0, b"s"), Adopt(head), Trim(5), Trim(9), Trim(9)
    )
    assert results[3:] == [False, False, False]
    assert indexes(connection) == [7, 8, 9]


def test_a_refused_work_disturbs_nobody(connection: sqlite3.Connection) -> None:
    results = group(
        connection,
        Append(entries(1, 2), {"a": b"1"}),
        Append(entries(9, 1), {"a": b"2", "b": b"2"}),
        Adopt(SnapshotHead(1, 2, 1, b"w" * 16, 0, b"")),
        Append(entries(3, 1), {"c": b"3"}),
    )
    assert [isinstance(one, StoreFault) for one in results] == [False, True, True, False]
    assert load(connection, "j.db").cells == {"a": b"1", "c": b"3"}
    assert indexes(connection) == [1, 2, 3]


def test_an_error_takes_the_whole_group_back(connection: sqlite3.Connection) -> None:
    log = load(connection, "j.db").log
    with pytest.raises(sqlite3.IntegrityError):
        write_group(connection, log, [Append(entries(1, 2), {"a": b"1"}), StagePiece(1, 0, b""), StagePiece(1, 0, b"")])
    assert load(connection, "j.db").log == log
    assert load(connection, "j.db").cells == {}
    assert not connection.in_transaction


def test_the_connection_is_as_durable_as_it_should_be(connection: sqlite3.Connection) -> None:
    settings = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert settings == {"journal_mode": "wal", "synchronous": 2}
    assert load(connection, "j.db").log.tip == EMPTY_TIP
