"""Opening a journal file, and proving it through a connection that cannot write before anybody writes. Floor 4.

* Order: write-ahead log, whose file, version, ends of the log, cells; then the proofs, of the chain and of the pages.
* Only a new, an empty and an older file are written to before the proof (they are created or migrated).
* Every failure is a StoreFault with one sentence; a damaged record is a DamagedRecord that names its number.
"""

import os
import sqlite3
import stat
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import TypeVar

from engine.journal.faults import FAULTS, DamagedRecord, disk_fault, fault_of
from engine.journal.migrate import migrate, newest_version, stored_version
from engine.journal.record import ChainBroken
from engine.journal.refusals import REPLAY_RECORDS_MAX
from engine.journal.sqlite_read import (
    REPLAY_BYTES_MAX,
    Loaded,
    Log,
    connect_reader,
    load,
    read_records,
)
from engine.journal.sqlite_thread import SqliteDial, SqlitePlace
from engine.journal.sqlite_write import connect_writer
from engine.journal.wal import refuse_lone_log, scan_wal
from engine.ports import Record, StoreFault, Tip

PAGES_CHECKED_BYTES_MAX = 2 << 30  # of a larger file only records, cells and snapshot are proved, not every page

HEADER_BYTES = 512

T = TypeVar("T")


async def open_reader(path: str, dial: SqliteDial, synchronous: str = "FULL") -> tuple[SqlitePlace, Loaded]:
    """Open a journal for reading, creating or migrating it first when that is due; raises StoreFault."""
    refuse_lone_log(path)
    if _is_new(path) or await _version(path, dial) < newest_version():
        await _migrate(path, dial, synchronous)
    reader = await guarded(path, dial(partial(_connect_checked, path)))
    try:
        return reader, await guarded(path, reader.run(partial(load, path=path)))
    except BaseException:
        await reader.close()
        raise


async def prove_chain(path: str, reader: SqlitePlace, log: Log) -> None:
    """Check the chain from the snapshot to the end; raises StoreFault."""
    async for _ in replay(path, reader, log.recovery, log):
        pass


async def prove_pages(path: str, reader: SqlitePlace) -> None:
    """Check that the file's pages fit together (0.2 s for a million records); raises StoreFault."""
    fault = await guarded(path, reader.run(_page_fault))
    if fault is not None:
        raise StoreFault(
            f"The journal {path} is damaged outside its records ({fault}). It was left as it is; restore a backup or"
            " let the node join anew."
        )


async def replay(path: str, reader: SqlitePlace, after: Tip | int, log: Log) -> AsyncIterator[list[Record]]:
    """Yield all records behind `after` up to the log's end in checked batches; raises DamagedRecord, LookupError."""
    tip, saved = log.tip, log.snapshot
    index = after if isinstance(after, int) else after.index
    while index < tip.index:
        read = partial(
            read_records,
            after=after,
            records_max=min(REPLAY_RECORDS_MAX, tip.index - index),
            bytes_max=REPLAY_BYTES_MAX,
        )
        records, end = await guarded(path, reader.run(read))
        if not records:
            raise DamagedRecord(path, index + 1, "is missing")
        if saved and index < saved.number <= end.index and records[saved.number - index - 1].hash != saved.hash:
            raise DamagedRecord(path, saved.number, "is not the one that the snapshot stands behind")
        after, index = end, end.index
        yield records
    if isinstance(after, Tip) and after != tip:
        raise DamagedRecord(path, tip.index, "is not the one it was before")


async def guarded(path: str, work: Awaitable[T]) -> T:
    """Await work on a file and turn what went wrong into a StoreFault."""
    try:
        return await work
    except FAULTS as error:
        raise fault_of(path, error) from error


def _is_new(path: str) -> bool:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise disk_fault(path, error) from error
    # SQLite would take a file shorter than its header for an empty one, and write over it.
    if not stat.S_ISREG(found.st_mode) or 0 < found.st_size < HEADER_BYTES:
        raise StoreFault(f"{path} is not a journal of ours; choose another state directory.")
    # A rollback journal is there only while the file is being made; then nobody was told of anything yet.
    return os.path.exists(path + "-journal") or (found.st_size == 0 and not os.path.exists(path + "-wal"))


async def _version(path: str, dial: SqliteDial) -> int:
    place = await guarded(path, dial(partial(_connect_checked, path)))
    try:
        return await guarded(path, place.run(partial(stored_version, path=path)))
    finally:
        await place.close()


async def _migrate(path: str, dial: SqliteDial, synchronous: str) -> None:
    place = await guarded(path, dial(partial(connect_writer, path, synchronous)))
    try:
        await guarded(path, place.run(partial(migrate, path=path)))
    finally:
        await place.close()


def _connect_checked(path: str) -> sqlite3.Connection:
    scan = scan_wal(path + "-wal")
    connection = connect_reader(path)
    try:
        if scan.fault:
            row = connection.execute("SELECT max(number) FROM record").fetchone()
            reason = f"is not in the file and the write-ahead log {scan.fault}"
            raise ChainBroken((row[0] or 0) + 1, reason)
    except BaseException:
        connection.close()
        raise
    return connection


def _page_fault(connection: sqlite3.Connection) -> str | None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    if pages * page_bytes > PAGES_CHECKED_BYTES_MAX:
        return None
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    return None if verdict == "ok" else str(verdict).replace("\n", " ")
