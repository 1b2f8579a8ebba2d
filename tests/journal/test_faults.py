import errno
import sqlite3

import pytest

from engine.journal.faults import DamagedRecord, again, damage, disk_fault, is_damage, sqlite_fault
from engine.journal.record import ChainBroken
from engine.ports import StoreFault


def sqlite_error(code: int, name: str = "SQLITE_X") -> sqlite3.Error:
    error = sqlite3.OperationalError("the words of SQLite")
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


@pytest.mark.parametrize(
    "code, words",
    [
        (sqlite3.SQLITE_FULL, "The disk of j.db is full"),
        (sqlite3.SQLITE_IOERR | (4 << 8), r"The disk of j.db failed \(ioerr fsync\)"),
        (sqlite3.SQLITE_BUSY, "held by another program"),
        (sqlite3.SQLITE_LOCKED, "held by another program"),
        (sqlite3.SQLITE_READONLY, "cannot be written"),
        (sqlite3.SQLITE_CANTOPEN, "cannot be opened"),
        (sqlite3.SQLITE_CORRUPT, "is damaged"),
        (sqlite3.SQLITE_NOTADB, "is damaged"),
        (sqlite3.SQLITE_MISUSE, "cannot go on: OperationalError: the words of SQLite"),
    ],
)
def test_each_sqlite_error_has_its_sentence(code: int, words: str) -> None:
    fault = sqlite_fault("j.db", sqlite_error(code, "SQLITE_IOERR_FSYNC"))
    assert isinstance(fault, StoreFault)
    with pytest.raises(StoreFault, match=words):
        raise fault
    assert str(fault).endswith((".", "join anew."))


def test_errors_of_the_system() -> None:
    assert "is full" in str(disk_fault("j.db", OSError(errno.ENOSPC, "No space left on device")))
    assert "is full" in str(disk_fault("j.db", OSError(errno.EDQUOT, "Disk quota exceeded")))
    assert "failed (Input/output error)" in str(disk_fault("j.db", OSError(errno.EIO, "Input/output error")))


def test_a_damaged_record_carries_its_number() -> None:
    fault = damage("j.db", ChainBroken(17, "does not match its hash"))
    assert fault.index == 17
    assert "The journal j.db is damaged: record 17 does not match its hash." in str(fault)
    assert "journal verify j.db" in str(fault)


def test_a_copy_of_a_fault_is_another_object_that_says_the_same() -> None:
    for fault in (StoreFault("a sentence"), DamagedRecord("j.db", 3, "is missing")):
        copied = again(fault)
        assert copied is not fault
        assert (type(copied), str(copied)) == (type(fault), str(fault))


def test_what_counts_as_damage() -> None:
    assert is_damage(sqlite_error(sqlite3.SQLITE_CORRUPT | (2 << 8)))
    assert not is_damage(sqlite_error(sqlite3.SQLITE_IOERR))
    assert not is_damage(sqlite3.ProgrammingError("no code"))
