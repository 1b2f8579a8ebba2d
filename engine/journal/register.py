"""SqliteRegister: the owners of pairs in one small SQLite file, one row for each cluster, behind `Register`. Floor 4.

* Answered is durable: each change is fsynced before its answer, and what was left by an earlier incarnation is fsynced
  before the first answer of this one.
* The folder belongs to one process (lock with pid and boot id), the file to one connection in a thread of its own:
  the loop never waits for the disk, and calls are carried out one after the other, in the order in which they came.
* A cancelled caller takes nothing back: what was asked is carried out.
* Any failure of the disk is final: from then on every call raises StoreFault, and nothing is answered.
"""

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from engine.base.pair import Ownership
from engine.journal.faults import again
from engine.journal.lock import DirectoryLock, lock_directory
from engine.journal.register_file import (
    FAULTS,
    FILE_NAME,
    cas,
    checkpoint,
    connect_register,
    count,
    create,
    fault_of,
    read,
    seed,
)
from engine.journal.sqlite_thread import SqliteDial, SqlitePlace, thread_place
from engine.ports import StoreFault

CHECKPOINT_CALLS = 256  # changes between two checkpoints: the write-ahead log stays near 1 MiB

T = TypeVar("T")


async def open_sqlite_register(folder: str, *, dial: SqliteDial = thread_place) -> "SqliteRegister":
    """Open the register in a folder of its own, making both when they are not there; raises StoreFault.

    Refused with a sentence: a folder in use, a foreign or damaged file, one of a newer program.
    """
    lock = lock_directory(folder)
    try:
        path = _path_in(folder)
        return SqliteRegister(path, lock, await dial(partial(connect_register, path)))
    except BaseException:
        lock.release()
        raise


class SqliteRegister:
    """An open register; made by `open_sqlite_register`, ended by `close`. Implements ports.Register."""

    def __init__(self, path: str, lock: DirectoryLock, place: SqlitePlace) -> None:
        self.path = path
        self._lock = lock
        self._place = place
        self._fault: StoreFault | None = None
        self._closed = False
        self._changes = 0
        self._counts = dict.fromkeys(("reads", "changes", "checkpoints"), 0)

    # --- the port

    async def create(self, first: Ownership) -> Ownership:
        """Create a cluster's value unless there is one; returns the value there is. Raises Refused, StoreFault."""
        return _there(await self._change(partial(create, path=self.path, first=first)))

    async def read(self, cluster: str) -> Ownership | None:
        """Return a cluster's value, None for an unknown one; raises StoreFault."""
        self._counts["reads"] += 1
        return await self._run(partial(read, path=self.path, cluster=cluster))

    async def cas(self, expected: Ownership, new: Ownership) -> Ownership | None:
        """Replace exactly `expected` by `new`; returns the value there is. Raises Refused, StoreFault."""
        return await self._change(partial(cas, path=self.path, expected=expected, new=new))

    # --- an operator's word, and the rest

    async def seed(self, value: Ownership) -> Ownership:
        """Set a value above the one there is, or where there is none; returns the value there is (R13, R14).

        For an operator, after this register has lost what it knew: above the highest epoch of both nodes.
        """
        return _there(await self._change(partial(seed, path=self.path, value=value)))

    async def clusters(self) -> int:
        """Return how many clusters have a value."""
        return await self._run(count)

    @property
    def fault(self) -> StoreFault | None:
        """Why the register cannot go on, or None."""
        return self._fault

    def statistics(self) -> dict[str, int]:
        """Return counters since opening."""
        return dict(self._counts)

    async def close(self) -> None:
        """Carry out what was asked, close the file, give the folder back; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._place.close()
        except sqlite3.Error:
            pass  # what was answered is on the disk; the next opening reads it from the log
        except BaseException:
            self._place.abandon()
            raise
        finally:
            self._lock.release()

    # --- in the thread

    async def _change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._counts["changes"] += 1
        return await self._run(partial(self._changed, work))

    def _changed(self, work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
        result = work(connection)
        self._changes += 1
        if self._changes % CHECKPOINT_CALLS == 0:
            checkpoint(connection)
            self._counts["checkpoints"] += 1
        return result

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._refuse_when_over()
        return await self._place.run(partial(self._guarded, work))

    def _guarded(self, work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
        # In the thread, so that a failure is final at once, for the calls that wait too, whoever has gone meanwhile.
        self._refuse_when_over(closing=True)
        try:
            return work(connection)
        except FAULTS as error:
            self._fault = fault_of(self.path, error)
            raise again(self._fault) from error
        except StoreFault as fault:
            self._fault = fault
            raise again(fault) from None

    def _refuse_when_over(self, *, closing: bool = False) -> None:
        if self._fault is not None:
            raise again(self._fault)
        if self._closed and not closing:
            raise StoreFault(f"The register {self.path} is closed.")


def _path_in(folder: str) -> str:
    return os.path.join(os.path.abspath(folder), FILE_NAME)


def _there(value: Ownership | None) -> Ownership:
    assert value is not None, "a cluster that was just written has a value"
    return value
