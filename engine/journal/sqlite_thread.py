"""A place where an SQLite connection lives and plain functions are run on it: aiosqlite's thread, or inline. Floor 4.

* A function takes the connection and returns a result; it runs to its end whatever becomes of who called it, so that a
  cancelled caller never leaves half a transaction behind.
* One call is one round trip to the thread, however many statements the function executes.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import aiosqlite

T = TypeVar("T")
Connector = Callable[[], sqlite3.Connection]


class SqlitePlace(Protocol):
    """Where one connection lives."""

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function on the connection; calls are carried out in the order in which they were made."""

    async def close(self) -> None:
        """Close the connection after all calls made so far; safe to call twice."""

    def abandon(self) -> None:
        """Ask for the same without waiting, for those who must not await any more."""


SqliteDial = Callable[[Connector], Awaitable[SqlitePlace]]


class SqliteThread:
    """A connection in a thread of its own."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._closed = False

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        # aiosqlite has no public call that runs a function in its thread; its version is pinned below 0.23 for this
        # one, and tests/journal/test_sqlite_thread.py watches over it.
        connection = self._connection
        result: T = await connection._execute(function, connection._conn)  # type: ignore[no-untyped-call]  # noqa: SLF001
        return result

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._connection.close()

    def abandon(self) -> None:
        if not self._closed:
            self._closed = True
            self._connection.stop()


async def thread_place(connector: Connector) -> SqlitePlace:
    """Open a connection in a new thread; raises whatever the connector raises."""
    failure: list[BaseException] = []

    def attempt() -> sqlite3.Connection:
        # aiosqlite does not wait for its thread when the connector raises, and a thread that outlives the loop
        # complains.
        try:
            return connector()
        except BaseException as error:  # noqa: BLE001 - it is raised below, in the caller's task
            failure.append(error)
            return sqlite3.connect(":memory:")

    place = SqliteThread(await aiosqlite.Connection(attempt, iter_chunk_size=64))
    if failure:
        await place.close()
        raise failure[0]
    return place


class InlineSqlite:
    """A connection whose functions run where they are called: for one thread, as in simulations and tools."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        return function(self._connection)

    async def close(self) -> None:
        self._connection.close()

    def abandon(self) -> None:
        self._connection.close()


async def inline_place(connector: Connector) -> SqlitePlace:
    """Open a connection in the calling thread."""
    return InlineSqlite(connector())
