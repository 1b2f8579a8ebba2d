"""Reading a journal file: plain functions on a connection that cannot write. Floor 4.

* Everything read is checked: records by their chain, cells and snapshots by their digests. What fails names itself.
* Each function is one short read transaction or several, never a long one: an open reader keeps the write-ahead log
  from being reset.
* Errors: `ChainBroken` for a damaged record, `StoreFault` for other damage, `sqlite3.Error` as it comes.
"""

import sqlite3
from contextlib import closing
from typing import Literal, NamedTuple
from urllib.parse import quote

from engine.journal.faults import is_damage
from engine.journal.record import HASH_BYTES, ChainBroken, check, digest
from engine.ports import Record, Snapshot, StoreFault, Tip

REPLAY_BYTES_MAX = 8 << 20
PIECE_SHIFT = 32  # key of a snapshot's piece = serial << 32 | place

Access = Literal["read-only", "shared", "immutable"]

_RECORDS = "SELECT number, epoch, events, marks, hash FROM record WHERE number >= ? ORDER BY number LIMIT ?"
_LOG = "SELECT base_number, base_epoch, base_hash, floor, snapshot FROM log WHERE one = 1"


class SnapshotHead(NamedTuple):
    """The valid snapshot without its state; `serial` finds its pieces."""

    serial: int
    number: int
    epoch: int
    hash: bytes
    size_bytes: int
    digest: bytes

    @property
    def tip(self) -> Tip:
        return Tip(self.number, self.epoch, self.hash)


class Log(NamedTuple):
    """Where a log begins and ends. `base` is the record before the first readable one."""

    base: Tip
    tip: Tip
    snapshot: SnapshotHead | None

    @property
    def recovery(self) -> Tip:
        """Where a replay begins: at the snapshot, or at the beginning when there is none."""
        return self.snapshot.tip if self.snapshot else self.base


class Loaded(NamedTuple):
    """What is known of a file before its records are read."""

    log: Log
    cells: dict[str, bytes]
    serial: int  # the highest serial in use, waste included


def connect_reader(path: str, access: Access = "read-only") -> sqlite3.Connection:
    """Open a file that exists, for reading only.

    Beyond that, `shared` does not write to the index beside the write-ahead log either (there must be one), and
    `immutable` reads the file alone: for one without a write-ahead log and without anybody who writes to it.
    """
    options = {"read-only": "", "shared": "&readonly_shm=1", "immutable": "&immutable=1"}[access]
    address = f"file:{quote(path)}?mode=ro{options}"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=5.0)
    try:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def load(connection: sqlite3.Connection, path: str) -> Loaded:
    """Read where the log begins and ends, and all cells; raises ChainBroken when its end is missing."""
    row = connection.execute(_LOG).fetchone()
    if row is None or not _fits(row, (int, int, bytes, int, int)):
        raise _unsound(path, "the row that says where the log begins")
    base, floor, serial = Tip(*row[:3]), row[3], row[4]
    snapshot = _head(connection, serial, path) if serial else None
    tip = _last(connection, base, snapshot)
    if tip.index < floor:
        raise ChainBroken(tip.index + 1, "is missing")
    if len(base.hash) != HASH_BYTES or base.index > tip.index or (snapshot and snapshot.number < base.index):
        raise _unsound(path, "the row that says where the log begins")
    (pieces,) = connection.execute("SELECT max(key) >> ? FROM snapshot_piece", (PIECE_SHIFT,)).fetchone()
    (heads,) = connection.execute("SELECT max(serial) FROM snapshot").fetchone()
    return Loaded(Log(base, tip, snapshot), read_cells(connection, path), max(pieces or 0, heads or 0))


def _last(connection: sqlite3.Connection, base: Tip, snapshot: SnapshotHead | None) -> Tip:
    start = max(base, snapshot.tip, key=lambda tip: tip.index) if snapshot else base
    row = connection.execute("SELECT number, epoch, hash FROM record ORDER BY number DESC LIMIT 1").fetchone()
    if row is None:
        return start
    if not _fits(row, (int, int, bytes)) or row[0] < start.index:
        raise ChainBroken(start.index + 1, "is missing")
    return Tip(*row)


def _head(connection: sqlite3.Connection, serial: int, path: str) -> SnapshotHead:
    row = connection.execute(
        "SELECT serial, number, epoch, hash, bytes, digest FROM snapshot WHERE serial = ?", (serial,)
    ).fetchone()
    if row is None or not _fits(row, (int, int, int, bytes, int, bytes)):
        raise _unsound(path, "its snapshot")
    return SnapshotHead(*row)


def read_cells(connection: sqlite3.Connection, path: str) -> dict[str, bytes]:
    """Read all local cells, in the order of their names."""
    cells: dict[str, bytes] = {}
    for name, value, checksum in connection.execute("SELECT name, value, digest FROM cell ORDER BY name").fetchall():
        if not _fits((name, value), (str, bytes)) or cell_digest(name, value) != checksum:
            raise _unsound(path, f"the cell {name!r}")
        cells[name] = value
    return cells


def read_records(
    connection: sqlite3.Connection, after: Tip | int, *, records_max: int, bytes_max: int
) -> tuple[list[Record], Tip]:
    """Read records behind `after` and check them; return them and the new end, at least one record if there is one.

    With a Tip for `after` the chain goes on from its hash; with an index, from the hash of the record kept there.
    Raises ChainBroken, or LookupError when the log begins behind `after`.
    """
    index = after if isinstance(after, int) else after.index
    records, torn = _rows(connection, index, records_max, bytes_max)
    start: Tip | None = None
    if records and records[0].index == index:
        kept = records.pop(0)
        start = Tip(kept.index, kept.epoch, kept.hash)
    else:  # read after the records, so that a trim in between is seen
        base = Tip(*connection.execute(_LOG).fetchone()[:3])
        if base.index > index:
            raise LookupError(index)
        if base.index == index:
            start = base
        elif records or torn or isinstance(after, Tip):
            raise ChainBroken(index, torn or "is missing")
        else:  # behind the end
            return [], Tip(index, 0, b"")
    if isinstance(after, Tip):
        if start.hash != after.hash:
            raise ChainBroken(index, "is not the one it was before")
        start = after
    if torn and not records:
        raise ChainBroken(index + 1, torn)
    try:
        return records, check(start, records)
    except ChainBroken as broken:
        whole = records[: broken.index - start.index - 1]
        if not whole:
            raise
        return whole, Tip(whole[-1].index, whole[-1].epoch, whole[-1].hash)  # the next call meets the fault first


def _rows(
    connection: sqlite3.Connection, index: int, records_max: int, bytes_max: int
) -> tuple[list[Record], str | None]:
    # Row by row instead of fetchall, so that large records stop at bytes_max; the cursor is closed, not left to the
    # garbage collector, because an unfinished SELECT is an open read transaction.
    records: list[Record] = []
    size = 0
    try:
        with closing(connection.execute(_RECORDS, (index, records_max + 1))) as rows:
            for row in rows:
                record = Record(*row)
                records.append(record)
                if record.index > index:
                    size += len(record.events) + len(record.marks)
                    if size >= bytes_max or record.index >= index + records_max:
                        break
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return records, f"cannot be read ({error})"
    except TypeError:  # a length was asked of what is no longer a blob
        return records[:-1], "holds something that is not a record"
    return records, None


def read_tip(connection: sqlite3.Connection, index: int) -> Tip | None:
    """Read epoch and hash of one record, or None when it is not there."""
    row = connection.execute("SELECT number, epoch, hash FROM record WHERE number = ?", (index,)).fetchone()
    return None if row is None else Tip(*row)


def read_snapshot(connection: sqlite3.Connection, path: str) -> Snapshot | None:
    """Read the valid snapshot with its state, and check its digest."""
    connection.execute("BEGIN")  # head and pieces of one moment
    try:
        (serial,) = connection.execute("SELECT snapshot FROM log WHERE one = 1").fetchone()
        if not serial:
            return None
        head = _head(connection, serial, path)
        rows = connection.execute(
            "SELECT body FROM snapshot_piece WHERE key >= ? AND key < ? ORDER BY key",
            (serial << PIECE_SHIFT, (serial + 1) << PIECE_SHIFT),
        ).fetchall()
    finally:
        connection.execute("COMMIT")
    if not all(isinstance(body, bytes) for (body,) in rows):
        raise _unsound(path, "its snapshot")
    snapshot = Snapshot(head.number, head.epoch, head.hash, b"".join(body for (body,) in rows))
    if len(snapshot.state) != head.size_bytes or snapshot_digest(snapshot) != head.digest:
        raise _unsound(path, "its snapshot")
    return snapshot


def cell_digest(name: str, value: bytes) -> bytes:
    """Compute the checksum kept beside a cell."""
    return digest(name.encode("utf-8", "surrogatepass"), value)


def snapshot_digest(snapshot: Snapshot) -> bytes:
    """Compute the checksum kept beside a snapshot."""
    head = f"{snapshot.index} {snapshot.epoch}".encode()
    return digest(head, snapshot.hash, snapshot.state)


def _fits(row: tuple[object, ...], kinds: tuple[type, ...]) -> bool:
    return all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=True))


def _unsound(path: str, what: str) -> StoreFault:
    return StoreFault(
        f"The journal {path} is damaged: {what} does not match its checksum. It was left as it is; restore a backup or"
        " let the node join anew."
    )
