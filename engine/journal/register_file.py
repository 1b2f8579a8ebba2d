"""The file of a register: opening and proving it, and the statements that read and change it. Floor 4.

* Plain functions on one connection, run in its thread. Each change is one statement, conditional by itself, so that a
  row of PostgreSQL can take this file's place.
* Before anybody is answered, what an earlier incarnation left in the write-ahead log is written again, into the file
  itself, and fsynced: it may have been seen without being on the disk (a kill before the fsync, an fsync that failed).
* A file that exists is proved through a connection that cannot write: whose it is, its version, its pages, every row.
* Every fault is a StoreFault with one sentence.
"""

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator

import msgspec

from engine.base.codec import DecodeError, encode
from engine.base.pair import Member, Ownership
from engine.base.problem import Refused, problem
from engine.base.register import OwnershipUnfit, may_be_named, ownership_fault
from engine.journal.faults import disk_fault
from engine.journal.record import digest
from engine.journal.sqlite_read import connect_reader
from engine.journal.sqlite_write import connect_writer
from engine.journal.wal import scan_wal
from engine.ports import StoreFault

FILE_NAME = "register.db"
APPLICATION_ID = 0x554E4452  # "UNDR"
CLUSTERS_MAX = 10_000  # rows; beyond it a new cluster is refused
HEADER_BYTES = 512
FAULTS = (sqlite3.Error, OSError, UnicodeDecodeError)

# The n-th script leads to version n. They are never edited once released: a change of the format is a further one.
SCRIPTS = (
    """CREATE TABLE register (
      cluster TEXT PRIMARY KEY,
      epoch INTEGER NOT NULL,
      owner TEXT NOT NULL,
      insync TEXT NOT NULL,
      nonce INTEGER NOT NULL,
      digest BLOB NOT NULL
    ) WITHOUT ROWID""",
)

_READ = "SELECT cluster, epoch, owner, insync, nonce, digest FROM register"
_INSERT = "INSERT INTO register (cluster, epoch, owner, insync, nonce, digest) VALUES (?, ?, ?, ?, ?, ?)"
_CREATE = f"{_INSERT} ON CONFLICT (cluster) DO NOTHING"
_SEED = (
    f"{_INSERT} ON CONFLICT (cluster) DO UPDATE SET epoch = excluded.epoch, owner = excluded.owner,"
    " insync = excluded.insync, nonce = excluded.nonce, digest = excluded.digest WHERE excluded.epoch > register.epoch"
)
_CAS = (
    "UPDATE register SET epoch = ?, owner = ?, insync = ?, nonce = ?, digest = ?"
    " WHERE cluster = ? AND epoch = ? AND owner = ? AND insync = ? AND nonce = ? AND digest = ?"
)

RegisterFull = problem(
    "RegisterFull", "The register holds {count} clusters, which is its limit; {cluster} has no place."
)

_decode_members = msgspec.json.Decoder(tuple[Member, ...]).decode


# --- opening ----------------------------------------------------------------------------------------------------------


def connect_register(path: str) -> sqlite3.Connection:
    """Prove a register's file, creating it when there is none, and return the one connection; raises StoreFault."""
    try:
        version = 0 if _is_new(path) else _prove(path)
        connection = connect_writer(path)
        try:
            for number, script in enumerate(SCRIPTS[version:], version + 1):
                _migrate(connection, number, script)
            _write_again(connection, path)
        except BaseException:
            connection.close()
            raise
    except FAULTS as error:
        raise fault_of(path, error) from error
    return connection


def checkpoint(connection: sqlite3.Connection, mode: str = "PASSIVE") -> bool:
    """Carry the write-ahead log over into the file; False when another program's reading kept some of it."""
    busy, frames, copied = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
    return not busy and frames == copied


def _is_new(path: str) -> bool:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        found = None
    # SQLite would take a file shorter than its header for an empty one, and write over it.
    if found is not None and (not stat.S_ISREG(found.st_mode) or 0 < found.st_size < HEADER_BYTES):
        raise StoreFault(f"{path} is not a register of ours; choose another folder for the register.")
    log = scan_wal(path + "-wal")
    if found is None or found.st_size == 0:
        # SQLite deletes the log of an empty file at the first look; the file is on the disk before its log is begun.
        if log.frames or log.fault:
            raise StoreFault(_damaged(path, "it is empty or gone, and the write-ahead log beside it holds values"))
        return True
    if log.fault:
        raise StoreFault(_damaged(path, f"its write-ahead log {log.fault}"))
    # A rollback journal is there only while the file is being made; then nobody was told of anything yet.
    return os.path.exists(path + "-journal")


def _prove(path: str) -> int:
    """Look at everything in a file without being able to write; returns its version."""
    connection = connect_reader(path)
    try:
        version = _version(connection, path)
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreFault(_damaged(path, str(verdict).replace("\n", " ")))
        if version:
            for row in connection.execute(_READ):
                _value(row, path)
        return version
    finally:
        connection.close()


def _version(connection: sqlite3.Connection, path: str) -> int:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == 0 and version == 0 and tables == 0:
        return 0
    if application != APPLICATION_ID:
        raise StoreFault(f"{path} is an SQLite file, but not a register of ours; choose another folder.")
    if version > len(SCRIPTS):
        raise StoreFault(
            f"The register {path} has version {version}, this program knows versions up to {len(SCRIPTS)};"
            " start it with the newer program, or choose another folder."
        )
    if version <= 0:
        raise StoreFault(_damaged(path, "its header lost the version"))
    return int(version)


def _migrate(connection: sqlite3.Connection, number: int, script: str) -> None:
    with _transaction(connection):
        connection.execute(script)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {number}")


def _write_again(connection: sqlite3.Connection, path: str) -> None:
    if not checkpoint(connection, "TRUNCATE"):
        raise StoreFault(_held(path))
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)  # a file whose name is lost by a power cut is lost
    finally:
        os.close(descriptor)


# --- reading and changing ---------------------------------------------------------------------------------------------


def read(connection: sqlite3.Connection, path: str, cluster: str) -> Ownership | None:
    """Return a cluster's value, checked; raises StoreFault when it is damaged."""
    if not may_be_named(cluster):
        return None
    row = connection.execute(f"{_READ} WHERE cluster = ?", (cluster,)).fetchone()
    return None if row is None else _value(row, path)


def count(connection: sqlite3.Connection) -> int:
    """Return how many clusters there are."""
    (found,) = connection.execute("SELECT count(*) FROM register").fetchone()
    return int(found)


def create(connection: sqlite3.Connection, path: str, first: Ownership) -> Ownership | None:
    """Insert a value unless the cluster has one; returns the value there is, durable. Raises Refused."""
    return _insert(connection, path, _CREATE, first)


def seed(connection: sqlite3.Connection, path: str, value: Ownership) -> Ownership | None:
    """Set a value above the one there is, or where there is none; returns the value there is. Raises Refused."""
    return _insert(connection, path, _SEED, value)


def cas(connection: sqlite3.Connection, path: str, expected: Ownership, new: Ownership) -> Ownership | None:
    """Replace exactly `expected` by `new` of a higher epoch; returns the value there is, durable. Raises Refused."""
    changed = _row(new)
    if new.cluster != expected.cluster or new.epoch <= expected.epoch or ownership_fault(expected) is not None:
        return read(connection, path, expected.cluster)
    with _transaction(connection):
        connection.execute(_CAS, (*changed[1:], *_row(expected)))
        return read(connection, path, expected.cluster)


def _insert(connection: sqlite3.Connection, path: str, statement: str, value: Ownership) -> Ownership | None:
    row = _row(value)
    with _transaction(connection):
        if count(connection) >= CLUSTERS_MAX and read(connection, path, value.cluster) is None:
            raise Refused(RegisterFull(count=CLUSTERS_MAX, cluster=value.cluster))
        connection.execute(statement, row)
        return read(connection, path, value.cluster)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # the first error is the one to tell
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise


def _row(value: Ownership) -> tuple[str, int, str, str, int, bytes]:
    fault = ownership_fault(value)
    if fault is not None:
        raise Refused(OwnershipUnfit(fault=fault))
    insync = msgspec.json.encode(value.insync).decode()
    return (value.cluster, value.epoch, value.owner, insync, value.nonce, digest(encode(value)))


def _value(row: tuple[object, ...], path: str) -> Ownership:
    try:
        value = msgspec.convert((*row[:3], _decode_members(str(row[3])), row[4]), Ownership)
    except (DecodeError, TypeError) as error:
        raise StoreFault(_damaged(path, f"the row of {row[0]!r} is no value: {error}")) from None
    if digest(encode(value)) != row[5]:
        raise StoreFault(_damaged(path, f"the row of {value.cluster!r} is not what was written"))
    return value


# --- faults -----------------------------------------------------------------------------------------------------------


def fault_of(path: str, error: Exception) -> StoreFault:
    """Turn what work on the file raised into a fault with a sentence for a person."""
    if isinstance(error, OSError):
        return disk_fault(path, error)
    if not isinstance(error, sqlite3.Error):
        return StoreFault(_damaged(path, "it holds what is not text"))
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    name = getattr(error, "sqlite_errorname", "").removeprefix("SQLITE_").replace("_", " ").lower()
    if code == sqlite3.SQLITE_FULL:
        return StoreFault(
            f"The disk of {path} is full; the register answers nothing more. Free some space and start again."
        )
    if code == sqlite3.SQLITE_IOERR:
        return StoreFault(
            f"The disk of {path} failed ({name}); the register answers nothing more. See to the disk,"
            " then start again: whatever was answered before is kept."
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreFault(_held(path))
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
        return StoreFault(
            f"The register {path} cannot be written; give this user the right to write it and its folder."
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreFault(_damaged(path, str(error)))
    return StoreFault(f"The register {path} cannot go on: {type(error).__name__}: {error}.")


def _held(path: str) -> str:
    return f"The register {path} is held by another program; end that program and start again."


def _damaged(path: str, reason: str) -> str:
    return (
        f"The register {path} is damaged ({reason}). It was left as it is; move it away, start with an empty folder,"
        " and seed every cluster above the highest epoch of both its nodes."
    )
