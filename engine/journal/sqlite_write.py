"""Writing a journal file: the work of one transaction, as plain functions on the one connection that writes. Floor 4.

* `write_group` carries out many callers' work in one transaction, in their order; a refused piece of work changes
  nothing and does not disturb the others.
* All inserts of a group are one `executemany`; nothing is read or decided between them.
* Every change of the log row and of the records is in the same transaction: the file is sound between any two.
* Errors are `sqlite3.Error`; after one of them nobody may write to this file any more.
"""

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from engine.journal.record import link
from engine.journal.refusals import refuse_snapshot, refuse_truncation
from engine.journal.sqlite_read import PIECE_SHIFT, Log, SnapshotHead, cell_digest, read_tip
from engine.ports import Entry, Record, StoreFault, Tip

BUSY_MS_MAX = 5_000  # how long to wait for a foreign program that holds the file
CACHE_KIB = 8 << 10
WAL_KEPT_BYTES_MAX = 16 << 20  # the file is cut back to this after it was reset
TRIM_RECORDS = 1_000  # deleted in one transaction, so that appends need not wait long
PIECES_DROPPED = 8  # of an old snapshot, in one transaction

_tuple = msgspec.structs.astuple


def connect_writer(path: str, synchronous: str = "FULL") -> sqlite3.Connection:
    """Open the one connection that writes; the file is made when it does not exist.

    `synchronous` other than FULL exists only so that a test can show that it loses acknowledged records.
    """
    address = f"file:{quote(path)}?mode=rwc"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=BUSY_MS_MAX / 1_000)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        for pragma in (
            f"synchronous = {synchronous}",
            "wal_autocheckpoint = 0",
            f"journal_size_limit = {WAL_KEPT_BYTES_MAX}",
            f"cache_size = -{CACHE_KIB}",
            "temp_store = MEMORY",
            "secure_delete = OFF",
            "cell_size_check = ON",
            "trusted_schema = OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


class Batch:
    """One transaction under way: the log as it will be, and the rows not yet handed to SQLite."""

    def __init__(self, connection: sqlite3.Connection, log: Log) -> None:
        self.connection = connection
        self.log = log
        self.records: list[Record] = []

    def flush(self) -> None:
        """Insert the rows collected so far; every work that deletes or looks up calls it first."""
        if self.records:
            rows = [_tuple(record) for record in self.records]
            self.connection.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?)", rows)
            self.records = []

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return self.connection.execute(sql, parameters)

    def tip_at(self, index: int) -> Tip | None:
        """Epoch and hash at an index of the log, also at its base; None where they are not known any more."""
        if index == self.log.tip.index:
            return self.log.tip
        if index == self.log.base.index:
            return self.log.base
        self.flush()
        return read_tip(self.connection, index)


class Work:
    """One caller's wish; `apply` raises StoreFault before it changes anything when it must be refused."""

    weight = 0  # bytes, for the bound of the queue
    records = 0
    cells: Mapping[str, bytes] | None = None

    def apply(self, batch: Batch) -> object:
        raise NotImplementedError


class Append(Work):
    """Add entries behind the log's end, and set cells; returns the new tip."""

    def __init__(self, entries: Sequence[Entry], cells: Mapping[str, bytes] | None) -> None:
        self.entries = entries
        self.cells = cells
        self.records = len(entries)
        self.weight = sum([len(entry.events) for entry in entries])

    def apply(self, batch: Batch) -> Tip:
        records = link(batch.log.tip, self.entries)
        if self.cells:
            write_cells(batch, self.cells)
        if records:
            last = records[-1]
            batch.records += records
            batch.log = batch.log._replace(tip=Tip(last.index, last.epoch, last.hash))
        return batch.log.tip


class Truncate(Work):
    """Drop every record above an index, and set cells; returns the new tip."""

    def __init__(self, index: int, cells: Mapping[str, bytes] | None) -> None:
        self.index = index
        self.cells = cells

    def apply(self, batch: Batch) -> Tip:
        log = batch.log
        refuse_truncation(self.index, log.recovery.index)
        tip = log.tip if self.index >= log.tip.index else batch.tip_at(self.index)
        if tip is None:
            raise StoreFault(f"The journal cannot be cut behind record {self.index}: that record is not there.")
        if self.cells:
            write_cells(batch, self.cells)
        if tip != log.tip:
            batch.flush()
            batch.execute("DELETE FROM record WHERE number > ?", self.index)
            batch.execute("UPDATE log SET floor = min(floor, ?) WHERE one = 1", self.index)
            batch.log = log._replace(tip=tip)
        return tip


class StagePiece(Work):
    """Put one piece of a snapshot beside the log, where nobody sees it."""

    def __init__(self, serial: int, place: int, body: bytes) -> None:
        self.key = (serial << PIECE_SHIFT) + place
        self.body = body
        self.weight = len(body)

    def apply(self, batch: Batch) -> None:
        batch.execute("INSERT INTO snapshot_piece VALUES (?, ?)", self.key, self.body)


class Adopt(Work):
    """Make a staged snapshot of our own log the valid one."""

    def __init__(self, head: SnapshotHead) -> None:
        self.head = head

    def apply(self, batch: Batch) -> None:
        log, head = batch.log, self.head
        known = log.snapshot.tip if log.snapshot and log.snapshot.number == head.number else batch.tip_at(head.number)
        refuse_snapshot(head.tip, known, log.tip, log.recovery.index)
        _name_snapshot(batch, head)


class Install(Work):
    """Replace the whole log by a staged snapshot, and set cells; returns the new tip."""

    def __init__(self, head: SnapshotHead, cells: Mapping[str, bytes] | None) -> None:
        self.head = head
        self.cells = cells

    def apply(self, batch: Batch) -> Tip:
        if self.cells:
            write_cells(batch, self.cells)
        batch.records = []
        batch.execute("DELETE FROM record")
        tip = self.head.tip
        batch.execute(
            "UPDATE log SET base_number = ?, base_epoch = ?, base_hash = ?, floor = ? WHERE one = 1",
            *(tip.index, tip.epoch, tip.hash, tip.index),
        )
        batch.log = Log(tip, tip, None)
        _name_snapshot(batch, self.head)
        return tip


class Trim(Work):
    """Forget the next records up to an index, never above the snapshot's; returns whether some are left to forget."""

    def __init__(self, upto: int) -> None:
        self.upto = upto

    def apply(self, batch: Batch) -> bool:
        log = batch.log
        last = min(self.upto, log.snapshot.number if log.snapshot else 0)
        index = min(last, log.base.index + TRIM_RECORDS)
        if index <= log.base.index:
            return False
        base = batch.tip_at(index)
        if base is None:
            raise StoreFault(f"The journal cannot be trimmed up to record {index}: that record is not there.")
        batch.flush()
        batch.execute("DELETE FROM record WHERE number <= ?", index)
        batch.execute(
            "UPDATE log SET base_number = ?, base_epoch = ?, base_hash = ? WHERE one = 1",
            *(base.index, base.epoch, base.hash),
        )
        batch.log = log._replace(base=base)
        return index < last


class DropWaste(Work):
    """Delete some pieces of snapshots that are not valid; returns whether some are left. Not while one is staged."""

    def apply(self, batch: Batch) -> bool:
        valid = batch.log.snapshot.serial if batch.log.snapshot else 0
        keys = batch.execute(
            "SELECT key FROM snapshot_piece WHERE key < ? OR key >= ? LIMIT ?",
            *(valid << PIECE_SHIFT, (valid + 1) << PIECE_SHIFT, PIECES_DROPPED),
        ).fetchall()
        batch.connection.executemany("DELETE FROM snapshot_piece WHERE key = ?", keys)
        if not keys:
            batch.execute("DELETE FROM snapshot WHERE serial <> ?", valid)
        return bool(keys)


def write_group(connection: sqlite3.Connection, log: Log, works: Sequence[Work]) -> tuple[Log, list[object]]:
    """Carry out all works in one durable transaction; a refused one's result is its StoreFault."""
    batch = Batch(connection, log)
    results: list[object] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for work in works:
            try:
                results.append(work.apply(batch))
            except StoreFault as refusal:
                results.append(refusal)
        batch.flush()
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # the first error is the one to tell
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise
    return batch.log, results


def write_cells(batch: Batch, cells: Mapping[str, bytes]) -> None:
    """Set cells inside the transaction."""
    rows = [(name, value, cell_digest(name, value)) for name, value in cells.items()]
    batch.connection.executemany("INSERT OR REPLACE INTO cell VALUES (?, ?, ?)", rows)


def checkpoint(connection: sqlite3.Connection, log: Log, mode: str) -> tuple[int, int]:
    """Carry the write-ahead log over into the file; returns its frames and how many of them are still needed.

    PASSIVE copies what no reader is in the way of, TRUNCATE also empties the log, if no reader is there; neither waits.
    The floor goes first: once the file itself holds these records, it also says that it must hold them.
    """
    connection.execute("UPDATE log SET floor = ? WHERE one = 1 AND floor <> ?", (log.tip.index, log.tip.index))
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        _, frames, copied = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS_MAX}")
    return frames, max(frames - copied, 0)


def _name_snapshot(batch: Batch, head: SnapshotHead) -> None:
    batch.execute("INSERT INTO snapshot VALUES (?, ?, ?, ?, ?, ?)", *head)
    batch.execute("UPDATE log SET snapshot = ? WHERE one = 1", head.serial)
    batch.log = batch.log._replace(snapshot=head)
