"""What we need of aiosqlite beyond its public calls, and the same inline."""

import asyncio
import sqlite3
import threading
from functools import partial
from pathlib import Path

import pytest

from engine.journal.sqlite_thread import SqliteDial, inline_place, thread_place

DIALS = pytest.mark.parametrize("dial", [thread_place, inline_place])


def connector(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path / "a.db", isolation_level=None)


def insert(number: int, connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO t VALUES (?)", (number,))


@DIALS
async def test_functions_run_in_order_on_one_connection(dial: SqliteDial, tmp_path: Path) -> None:
    place = await dial(partial(connector, tmp_path))
    await place.run(lambda connection: connection.execute("CREATE TABLE t (a)"))
    await asyncio.gather(*(place.run(partial(insert, number)) for number in range(20)))
    rows = await place.run(lambda connection: connection.execute("SELECT a FROM t ORDER BY rowid").fetchall())
    assert rows == [(n,) for n in range(20)]
    await place.close()
    await place.close()


@DIALS
async def test_errors_reach_the_caller(dial: SqliteDial, tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        await dial(partial(sqlite3.connect, tmp_path / "no" / "where.db"))
    place = await dial(partial(connector, tmp_path))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await place.run(lambda connection: connection.execute("SELECT * FROM t"))
    await place.close()


async def test_it_is_another_thread_and_only_one(tmp_path: Path) -> None:
    place = await thread_place(partial(connector, tmp_path))
    names = {await place.run(lambda _: threading.get_ident()) for _ in range(5)}
    assert len(names) == 1
    assert threading.get_ident() not in names
    await place.close()


async def test_a_cancelled_call_still_runs_to_its_end(tmp_path: Path) -> None:
    place = await thread_place(partial(connector, tmp_path))
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE t (a)")
        begun.set()
        go_on.wait(10)
        connection.execute("INSERT INTO t VALUES (1)")
        ended.set()

    call = asyncio.ensure_future(place.run(work))
    await asyncio.to_thread(begun.wait, 10)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    go_on.set()
    rows = await place.run(lambda connection: connection.execute("SELECT a FROM t").fetchall())
    assert ended.is_set()
    assert rows == [(1,)]
    await place.close()


@DIALS
async def test_an_abandoned_place_ends_by_itself(dial: SqliteDial, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    place = await dial(partial(connector, tmp_path))
    threads = set(threading.enumerate()) - before
    place.abandon()
    place.abandon()
    for thread in threads:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()
    assert not list(tmp_path.glob("*-wal"))
