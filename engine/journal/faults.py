"""What can go wrong with a store, as one sentence for a person each. Floor 4.

* Each sentence says what happened, to which file, and what to do.
* `DamagedRecord` carries the number of the record, for programs.
"""

import errno
import sqlite3

from engine.journal.record import ChainBroken
from engine.ports import StoreFault


class DamagedRecord(StoreFault):
    """The journal is damaged at record `index`; nothing was written to it since this was seen."""

    def __init__(self, path: str, index: int, reason: str) -> None:
        super().__init__(path, index, reason)
        self.path = path
        self.index = index
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"The journal {self.path} is damaged: record {self.index} {self.reason}. It was left as it is; look at it"
            f" with `python -m engine journal verify {self.path}`, then restore a backup or let the node join anew."
        )


# What work on a file may raise; `fault_of` has a sentence for each. SQLite's own messages quote the file, and where
# that is damaged they are not always text.
FAULTS = (ChainBroken, sqlite3.Error, OSError, UnicodeDecodeError)


def fault_of(path: str, error: Exception) -> StoreFault:
    """Turn what work on a file raised into the fault with its sentence."""
    if isinstance(error, ChainBroken):
        return damage(path, error)
    if isinstance(error, sqlite3.Error):
        return sqlite_fault(path, error)
    if isinstance(error, OSError):
        return disk_fault(path, error)
    return StoreFault(_damaged(path, "it holds what is not text"))


def damage(path: str, broken: ChainBroken) -> DamagedRecord:
    """Turn a broken chain into the fault of a file."""
    return DamagedRecord(path, broken.index, broken.reason)


def again(fault: StoreFault) -> StoreFault:
    """Copy a fault, because an exception raised in many tasks must not be one object."""
    return type(fault)(*fault.args)


def disk_fault(path: str, error: OSError) -> StoreFault:
    """Say that the operating system refused to write or read."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFault(_full(path))
    return StoreFault(_failed(path, error.strerror or str(error)))


def sqlite_fault(path: str, error: sqlite3.Error) -> StoreFault:
    """Say what an SQLite error means to the person who runs the node."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFault(_full(path))
    if code == sqlite3.SQLITE_IOERR:
        name = getattr(error, "sqlite_errorname", "SQLITE_IOERR")
        return StoreFault(_failed(path, name.removeprefix("SQLITE_").replace("_", " ").lower()))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreFault(f"The journal {path} is held by another program; end that program and start again.")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreFault(f"The journal {path} cannot be written; give this user the right to write it and its folder.")
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreFault(f"The journal {path} cannot be opened; see whether its folder exists and may be written.")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreFault(_damaged(path, str(error)))
    return StoreFault(f"The journal {path} cannot go on: {type(error).__name__}: {error}.")


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether SQLite met bytes that it never wrote so."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _damaged(path: str, reason: str) -> str:
    return (
        f"The journal {path} is damaged ({reason}). It was left as it is; look at it with"
        f" `python -m engine journal verify {path}`, then restore a backup or let the node join anew."
    )


def _full(path: str) -> str:
    return f"The disk of {path} is full; nothing more is acknowledged. Free some space and start again."


def _failed(path: str, reason: str) -> str:
    return (
        f"The disk of {path} failed ({reason}); nothing more is acknowledged. See to the disk, then start again:"
        " whatever was acknowledged before is kept."
    )
