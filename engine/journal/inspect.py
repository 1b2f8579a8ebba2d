"""Looking at a journal file from outside: verify, dump, stat. Floor 4.

* Opens read-only, never creates a journal, never changes one, and works beside a running engine. (One exception: beside
  a write-ahead log without its index file, as after copying the two, SQLite makes that index file anew.)
* Decodes with the `msgpack` package, which needs no types, so that journals of unknown versions can be read.
* A file that is no journal of ours raises StoreFault; a damaged one is reported, as far as it can be read.
"""

import os
import sqlite3
import stat as statmod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import msgpack
import msgspec

from engine.journal.faults import FAULTS, fault_of, is_damage
from engine.journal.migrate import stored_version
from engine.journal.record import ChainBroken, check
from engine.journal.refusals import READ_RECORDS_MAX
from engine.journal.sqlite_read import Access, connect_reader, load, read_records, read_snapshot
from engine.journal.wal import refuse_lone_log, scan_wal
from engine.ports import Record, StoreFault, Tip

READ_BYTES_MAX = 4 << 20
DUMP_RECORDS_MAX = 10_000

# What SQLite says when the index beside the write-ahead log has no place that a mere reader could use.
_NO_PLACE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL)

T = TypeVar("T")


class Verdict(msgspec.Struct, frozen=True):
    """What `verify` found: `fault` is None for a sound journal, `damaged` the number of the first damaged record."""

    path: str
    version: int
    first: int
    last: int
    epoch: int
    snapshot: int | None
    records_checked: int
    damaged: int | None = None
    fault: str | None = None


class DumpedRecord(msgspec.Struct, frozen=True):
    """A record decoded without types; `fault` says what is wrong with it, its content is then what could be read."""

    index: int
    epoch: int
    events: Any
    marks: Any
    hash: str
    fault: str | None = None


class EpochRange(msgspec.Struct, frozen=True):
    """The records of one epoch."""

    epoch: int
    first: int
    last: int


class JournalStatistics(msgspec.Struct, frozen=True):
    """The outside of a journal: what it holds and what it takes on disk."""

    path: str
    version: int
    first: int
    last: int
    records: int
    events: int
    content_bytes: int
    file_bytes: int
    wal_bytes: int
    epochs: tuple[EpochRange, ...]
    snapshot: int | None
    snapshot_bytes: int
    cells: tuple[str, ...]


def verify(path: str) -> Verdict:
    """Check every record, the snapshot, the cells and the pages of a journal; stops at the first fault."""
    return _reading(path, _verify)


def dump(path: str, after: int = 0, limit: int = DUMP_RECORDS_MAX) -> list[DumpedRecord]:
    """Return records behind `after`, decoded, damaged ones included; at most 10,000 and some MiB at once."""
    return _reading(path, partial(_dump, after=after, limit=min(limit, DUMP_RECORDS_MAX)))


def stat(path: str) -> JournalStatistics:
    """Count what a journal holds."""
    return _reading(path, _stat)


def _reading(path: str, function: Callable[[str, sqlite3.Connection], T]) -> T:
    # Without anything in a write-ahead log the file is read as it lies there, and nothing is made beside it. If an
    # engine starts at that very moment the file changes under us: then what was read does not count.
    try:
        refuse_lone_log(path)
        before = _shape(path)
        if os.path.exists(path + "-journal"):
            raise StoreFault(f"There is no journal at {path} yet: its program ended while it was making the file.")
        if before.wal_bytes and scan_wal(path + "-wal").frames:
            return _through(path, "shared" if before.has_index else "read-only", function)
        try:
            result: T | Exception = _through(path, "immutable", function)
        except (StoreFault, *FAULTS) as error:
            result = error
        if _shape(path) != before:
            return _through(path, "read-only", function)
        if isinstance(result, Exception):
            raise result
        return result
    except FileNotFoundError:
        raise StoreFault(f"There is no journal at {path}.") from None
    except FAULTS as error:
        raise fault_of(path, error) from error


class _Shape(msgspec.Struct, frozen=True):
    size: int
    changed_ns: int
    wal_bytes: int
    has_index: bool


def _shape(path: str) -> _Shape:
    found = os.stat(path)
    if not statmod.S_ISREG(found.st_mode):
        raise StoreFault(f"{path} is not a journal: it is no regular file.")
    try:
        wal_bytes = os.stat(path + "-wal").st_size
    except FileNotFoundError:
        wal_bytes = 0
    return _Shape(found.st_size, found.st_mtime_ns, wal_bytes, os.path.exists(path + "-shm"))


def _through(path: str, access: Access, function: Callable[[str, sqlite3.Connection], T]) -> T:
    try:
        with _connected(path, access) as connection:
            return function(path, connection)
    except sqlite3.OperationalError as error:
        if access != "shared" or getattr(error, "sqlite_errorcode", 0) & 0xFF not in _NO_PLACE:
            raise
    with _connected(path, "read-only") as connection:
        return function(path, connection)


@contextmanager
def _connected(path: str, access: Access) -> Iterator[sqlite3.Connection]:
    connection = connect_reader(path, access)
    try:
        yield connection
    finally:
        connection.close()


def _verify(path: str, connection: sqlite3.Connection) -> Verdict:
    version = _version(path, connection)
    verdict = Verdict(path, version, 0, 0, 0, None, 0)
    checked = 0
    try:
        log = load(connection, path).log
        snapshot = log.snapshot.number if log.snapshot else None
        verdict = Verdict(path, version, log.base.index + 1, log.tip.index, log.tip.epoch, snapshot, 0)
        end = log.base
        while end.index < log.tip.index:
            records, end = read_records(connection, end, records_max=READ_RECORDS_MAX, bytes_max=READ_BYTES_MAX)
            if not records:
                raise ChainBroken(end.index + 1, "is missing")
            checked += len(records)
            if log.snapshot and records[0].index <= log.snapshot.number <= end.index:
                at = records[log.snapshot.number - records[0].index]
                if (at.epoch, at.hash) != (log.snapshot.epoch, log.snapshot.hash):
                    raise ChainBroken(at.index, "is not the one that the snapshot stands behind")
        read_snapshot(connection, path)
        fault = scan_wal(path + "-wal").fault
        if fault:
            raise ChainBroken(log.tip.index + 1, f"is not in the file and the write-ahead log {fault}")
        (pages,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        problem = None if pages == "ok" else f"The journal {path} is damaged outside its records ({pages})."
    except ChainBroken as broken:
        return msgspec.structs.replace(verdict, records_checked=checked, damaged=broken.index, fault=f"{broken}")
    except StoreFault as fault:
        return msgspec.structs.replace(verdict, records_checked=checked, fault=str(fault))
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if isinstance(error, sqlite3.DatabaseError) and not is_damage(error):
            raise
        return msgspec.structs.replace(verdict, records_checked=checked, fault=str(fault_of(path, error)))
    return msgspec.structs.replace(verdict, records_checked=checked, fault=problem)


def _dump(path: str, connection: sqlite3.Connection, after: int, limit: int) -> list[DumpedRecord]:
    _version(path, connection)
    dumped: list[DumpedRecord] = []
    before = _known_tip(connection, after)
    size = 0
    query = "SELECT number, epoch, events, marks, hash FROM record WHERE number > ? ORDER BY number LIMIT ?"
    for row in connection.execute(query, (after, limit)):
        record = Record(*row)
        fault = None
        if before is not None:
            try:
                check(before, (record,))
            except ChainBroken as broken:
                fault = broken.reason
        before = Tip(record.index, 0, record.hash) if isinstance(record.hash, bytes) else None
        events, undecoded = _decoded(record.events)
        marks, _ = _decoded(record.marks) if record.marks else ({}, None)
        digest = record.hash.hex() if isinstance(record.hash, bytes) else str(record.hash)
        dumped.append(DumpedRecord(record.index, record.epoch, events, marks, digest, fault or undecoded))
        size += len(record.events) if isinstance(record.events, bytes) else 0
        if size >= READ_BYTES_MAX:
            break
    if not dumped:
        dumped.extend(_lost_with_the_log(path, connection, after))
    return dumped


def _lost_with_the_log(path: str, connection: sqlite3.Connection, after: int) -> Iterator[DumpedRecord]:
    """Yield what stands for the records behind the last one that a damaged write-ahead log has swallowed."""
    fault = scan_wal(path + "-wal").fault
    (last,) = connection.execute("SELECT max(number) FROM record").fetchone()
    if fault and after <= (last or 0):
        reason = f"is not in the file and the write-ahead log {fault}"
        yield DumpedRecord((last or 0) + 1, 0, (), {}, "", reason)


def _known_tip(connection: sqlite3.Connection, after: int) -> Tip | None:
    row = connection.execute("SELECT number, hash FROM record WHERE number = ?", (after,)).fetchone()
    if row is None:
        query = "SELECT base_number, base_hash FROM log WHERE one = 1 AND base_number = ?"
        row = connection.execute(query, (after,)).fetchone()
    return None if row is None else Tip(row[0], 0, row[1])


def _decoded(packed: object) -> tuple[Any, str | None]:
    if not isinstance(packed, bytes):
        return packed, "this is no longer a sequence of bytes"
    bound = len(packed)
    try:
        value = msgpack.unpackb(
            packed,
            use_list=False,  # so that an array can be a key
            strict_map_key=False,
            unicode_errors="replace",
            max_str_len=bound,
            max_bin_len=bound,
            max_array_len=bound,
            max_map_len=bound,
            max_ext_len=bound,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        return packed, f"cannot be decoded: {error}"
    return value, None


def _stat(path: str, connection: sqlite3.Connection) -> JournalStatistics:
    version = _version(path, connection)
    log = connection.execute("SELECT base_number, snapshot FROM log WHERE one = 1").fetchone() or (0, 0)
    head = connection.execute("SELECT number, bytes FROM snapshot WHERE serial = ?", (log[1],)).fetchone()
    epochs: dict[int, EpochRange] = {}
    records = events = size = last = 0
    for index, epoch, start, length in connection.execute(
        "SELECT number, epoch, substr(events, 1, 5), length(events) + length(marks) FROM record ORDER BY number"
    ):
        known = epochs.get(epoch)
        epochs[epoch] = EpochRange(epoch, known.first if known else index, index)
        records += 1
        events += _array_length(start)
        size += length
        last = index
    last = last or max(log[0], head[0] if head else 0)
    shape = _shape(path)
    cells = tuple(name for (name,) in connection.execute("SELECT name FROM cell ORDER BY name"))
    return JournalStatistics(
        path=path,
        version=version,
        first=log[0] + 1,
        last=last,
        records=records,
        events=events,
        content_bytes=size,
        file_bytes=shape.size,
        wal_bytes=shape.wal_bytes,
        epochs=tuple(epochs.values()),
        snapshot=head[0] if head else None,
        snapshot_bytes=head[1] if head else 0,
        cells=cells,
    )


def _array_length(start: object) -> int:
    # The head of a packed array: 0x90 | n, 0xdc and 16 bits, or 0xdd and 32 bits.
    if not isinstance(start, bytes) or not start:
        return 0
    if start[0] & 0xF0 == 0x90:
        return start[0] & 0x0F
    width = {0xDC: 2, 0xDD: 4}.get(start[0], 0)
    return int.from_bytes(start[1 : 1 + width], "big")


def _version(path: str, connection: sqlite3.Connection) -> int:
    version = stored_version(connection, path)
    if version == 0:
        raise StoreFault(f"There is no journal at {path}: the file is empty.")
    return version
