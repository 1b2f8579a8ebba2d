import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.journal.wal import FRAME_HEADER_BYTES, HEADER_BYTES, checksum, scan_wal

PAGE = 4_096
FRAME = FRAME_HEADER_BYTES + PAGE


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    opened.execute("PRAGMA journal_mode = WAL")
    opened.execute("PRAGMA wal_autocheckpoint = 0")
    opened.execute("CREATE TABLE t (a)")
    for number in range(10):
        opened.execute("INSERT INTO t VALUES (?)", (number,))
    yield opened
    opened.close()


def wal(tmp_path: Path) -> Path:
    return tmp_path / "a.db-wal"


def test_sqlite_and_we_count_the_same_frames(connection: sqlite3.Connection, tmp_path: Path) -> None:
    scan = scan_wal(str(wal(tmp_path)))
    _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    assert (scan.frames, scan.fault) == (frames, None)
    assert wal(tmp_path).stat().st_size == HEADER_BYTES + frames * FRAME
    connection.execute("INSERT INTO t VALUES (1)")  # begins at the top again; older frames stand behind
    assert scan_wal(str(wal(tmp_path))).frames == 1
    assert scan_wal(str(wal(tmp_path))).fault is None


def test_no_log_and_an_empty_one_are_no_fault(tmp_path: Path) -> None:
    assert scan_wal(str(tmp_path / "absent")) == scan_wal(os.devnull)
    assert scan_wal(os.devnull).fault is None


@pytest.mark.parametrize("place", [0, 4, 8, 12, 16, 20, 24, 24 + 2_000])
def test_every_part_of_a_frame_counts(connection: sqlite3.Connection, tmp_path: Path, place: int) -> None:
    content = bytearray(wal(tmp_path).read_bytes())
    content[HEADER_BYTES + 4 * FRAME + place] ^= 0x10
    copy = tmp_path / "copy-wal"
    copy.write_bytes(content)
    scan = scan_wal(str(copy))
    assert scan.frames == 4
    assert scan.fault == "has a damaged frame 5 with whole transactions behind it"


@pytest.mark.parametrize("place", range(0, HEADER_BYTES, 4))
def test_every_part_of_the_header_counts(connection: sqlite3.Connection, tmp_path: Path, place: int) -> None:
    content = bytearray(wal(tmp_path).read_bytes())
    content[place] ^= 0x10
    copy = tmp_path / "copy-wal"
    copy.write_bytes(content)
    assert scan_wal(str(copy)).fault == "has a damaged header with whole transactions behind it"


def test_the_last_transactions_may_be_torn(connection: sqlite3.Connection, tmp_path: Path) -> None:
    content = wal(tmp_path).read_bytes()
    frames = (len(content) - HEADER_BYTES) // FRAME
    copy = tmp_path / "copy-wal"
    torn = bytearray(content)
    torn[HEADER_BYTES + (frames - 1) * FRAME + 100] ^= 1
    copy.write_bytes(torn)
    assert (scan_wal(str(copy)).frames, scan_wal(str(copy)).fault) == (frames - 1, None)


def test_the_checksum_of_both_byte_orders() -> None:
    words = (1, 2, 3, 4)
    assert checksum(struct.pack("<4I", *words), "<", (0, 0)) == checksum(struct.pack(">4I", *words), ">", (0, 0))
    # By hand: 1+0=1, 2+1=3; 3+1+3=7, 4+3+7=14.
    assert checksum(struct.pack("<4I", *words), "<", (0, 0)) == (7, 14)
