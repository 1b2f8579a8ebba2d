"""Flipped bits: found at opening and by verify, named by the record's number, and never overwritten.

Tests: engine/journal/sqlite_open.py, engine/journal/wal.py, engine/journal/inspect.py
"""

import os
import random
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.journal.faults import DamagedRecord
from engine.journal.inspect import dump, stat, verify
from engine.journal.sqlite_store import open_sqlite_store
from engine.journal.sqlite_thread import inline_place
from engine.journal.wal import scan_wal
from engine.ports import Record, Snapshot, StoreFault
from tests.journal.stores import entries, everything

FLIPS = 400
RECORDS = 120


class Content(NamedTuple):
    records: list[Record]
    snapshot: Snapshot | None
    cells: list[bytes | None]


async def content_of(path: str) -> Content:
    store = await open_sqlite_store(path, dial=inline_place)
    try:
        return Content(await everything(store), await store.snapshot(), [store.cell("a"), store.cell("b")])
    finally:
        await store.close()


async def fill(path: str) -> None:
    """A journal with everything in it: a snapshot in the middle, trimmed records, cells, large records, free pages."""
    store = await open_sqlite_store(path, dial=inline_place)
    for first in range(1, RECORDS, 10):
        await store.append(entries(first, 10, epoch=first, size=60), {"a": b"%d" % first, "b": b"constant"})
    records = await store.read(0)
    for index in (40, 60):
        at = records[index - 1]
        await store.add_snapshot(Snapshot(at.index, at.epoch, at.hash, b"state of %d " % index * 1_000))
    await store.trim(20)
    await store.append(entries(RECORDS + 1, 1, epoch=RECORDS, size=30_000))
    await store.close()


@pytest.fixture
async def sound(tmp_path: Path) -> str:
    path = str(tmp_path / "sound.db")
    await fill(path)
    assert verify(path).fault is None
    return path


def copy(path: str, name: str) -> str:
    target = os.path.join(os.path.dirname(path), name)
    for suffix in ("", "-wal"):
        if os.path.exists(path + suffix):
            shutil.copyfile(path + suffix, target + suffix)
    return target


def flip(path: str, place: int, bit: int = 0) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        value = file.read(1)[0]
        file.seek(place)
        file.write(bytes([value ^ (1 << bit)]))


def files(path: str) -> dict[str, bytes]:
    # An empty write-ahead log says nothing: SQLite makes one for whoever looks into a file.
    return {suffix: content for suffix in ("", "-wal") if (content := read(path + suffix))}


def read(path: str) -> bytes:
    return Path(path).read_bytes() if os.path.exists(path) else b""


@pytest.mark.parametrize("number", [21, 59, 60, 61, 77, RECORDS])
async def test_a_flip_in_a_record_is_named_by_its_number(sound: str, number: int) -> None:
    damaged = copy(sound, "damaged.db")
    for match in re.finditer(b"events of %d " % number, read(damaged)):  # older copies lie in unused places
        flip(damaged, match.start() + 3)
    before = files(damaged)
    verdict = verify(damaged)
    assert (verdict.damaged, verdict.fault) == (number, f"record {number} does not match its hash")
    if number <= 60:  # behind the snapshot, needed by readers only
        store = await open_sqlite_store(damaged)
        with pytest.raises(DamagedRecord) as caught:
            await store.read(number - 1)
        await store.close()
    else:
        with pytest.raises(DamagedRecord) as caught:
            await open_sqlite_store(damaged)
    assert caught.value.index == number
    assert f"record {number} does not match its hash" in str(caught.value)
    assert files(damaged) == before


async def test_a_flip_in_a_cell_or_the_snapshot_is_named(sound: str) -> None:
    for content, words in (
        (b"constant", "the cell 'b' does not match"),
        (b"state of 60 ", "its snapshot does not match"),
    ):
        damaged = copy(sound, "damaged.db")
        for match in re.finditer(content, read(damaged)):
            flip(damaged, match.start() + 3)
        before = files(damaged)
        with pytest.raises(StoreFault, match=words):
            await content_of(damaged)
        assert files(damaged) == before
        assert words in (verify(damaged).fault or "")


async def test_a_flip_anywhere_is_found_or_harmless(sound: str) -> None:
    expected = await content_of(sound)
    draw = random.Random(20_240_229)
    size = os.path.getsize(sound)
    refused = 0
    for number in range(FLIPS):
        damaged = copy(sound, "damaged.db")
        place, bit = draw.randrange(100 if number % 10 == 0 else size), draw.randrange(8)
        flip(damaged, place, bit)
        before = files(damaged)
        try:
            found = await content_of(damaged)
        except StoreFault as fault:
            refused += 1
            assert str(fault).endswith("."), fault
            assert files(damaged) == before, f"byte {place} bit {bit}: a damaged file was written to"
        else:
            assert found == expected, f"byte {place} bit {bit}"
        for suffix in ("", "-wal", "-shm"):
            Path(damaged + suffix).unlink(missing_ok=True)
    assert FLIPS // 4 < refused < FLIPS  # some bytes mean nothing: free pages, unused space


async def test_a_flip_in_the_write_ahead_log_is_found_unless_it_is_its_torn_end(tmp_path: Path) -> None:
    path = str(tmp_path / "live.db")
    store = await open_sqlite_store(path)
    for index in range(1, 31):
        await store.append(entries(index, 1, size=500))
    killed = copy(path, "killed.db")  # what kill -9 would leave now
    await store.close()
    expected = await content_of(copy(killed, "reference.db"))
    assert len(expected.records) == 30
    draw = random.Random(4)
    lost = named = 0
    for _ in range(60):
        damaged = copy(killed, "damaged.db")
        flip(damaged + "-wal", draw.randrange(os.path.getsize(killed + "-wal")), draw.randrange(8))
        before = files(damaged)
        try:
            found = await content_of(damaged)
        except DamagedRecord as fault:
            assert "the write-ahead log has a damaged" in str(fault)
            assert 1 <= fault.index <= 30
            assert files(damaged) == before
            assert verify(damaged).fault is not None
            named += 1
        else:
            assert found.records == expected.records[: len(found.records)]
            assert len(found.records) >= 28  # the last transactions look like torn ones
            lost += len(found.records) < 30
        for suffix in ("", "-wal", "-shm"):
            Path(damaged + suffix).unlink(missing_ok=True)
    assert named > 40
    assert lost < 10


async def test_a_dump_does_not_end_in_silence_where_the_log_is_damaged(tmp_path: Path) -> None:
    path = str(tmp_path / "live.db")
    store = await open_sqlite_store(path)
    for index in range(1, 11):
        await store.append(entries(index, 1, size=500))
    killed = copy(path, "killed.db")
    await store.close()
    flip(killed + "-wal", os.path.getsize(killed + "-wal") // 2)
    shown = dump(killed)
    after = shown[-1].index
    assert 0 < after < 10
    (missing,) = dump(killed, after=after)
    assert (missing.index, missing.events) == (after + 1, ())
    assert missing.fault is not None
    assert missing.fault.startswith("is not in the file and the write-ahead log")
    assert dump(killed, after=missing.index) == []


async def test_a_torn_end_of_the_write_ahead_log_is_no_damage(tmp_path: Path) -> None:
    path = str(tmp_path / "live.db")
    store = await open_sqlite_store(path)
    for index in range(1, 11):
        await store.append(entries(index, 1, size=500))
    killed = copy(path, "killed.db")
    await store.close()
    size = os.path.getsize(killed + "-wal")
    for keep in (size - 1, size - 4_000, size - 4_121, size // 2, 40, 32, 10, 0):
        torn = copy(killed, "torn.db")
        os.truncate(torn + "-wal", keep)
        assert scan_wal(torn + "-wal").fault is None
        found = await content_of(torn)
        assert [record.index for record in found.records] == list(range(1, len(found.records) + 1))


async def test_a_shortened_file_is_found(sound: str) -> None:
    size = os.path.getsize(sound)
    for keep in (size - 4_096, size // 2, 4_096, 4_095, 512, 50):
        damaged = copy(sound, "damaged.db")
        os.truncate(damaged, keep)
        with pytest.raises(StoreFault):
            await content_of(damaged)
        assert os.path.getsize(damaged) == keep


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_log_whose_file_was_emptied_is_left(tmp_path: Path, is_gone: bool) -> None:
    path = str(tmp_path / "live.db")
    store = await open_sqlite_store(path)
    await store.append(entries(1, 30, size=500))
    killed = copy(path, "killed.db")
    await store.close()
    if is_gone:
        os.unlink(killed)
    else:
        os.truncate(killed, 0)
    log = Path(killed + "-wal").read_bytes()
    for look in (verify, dump, stat):  # SQLite deletes the log of an empty file even for a mere reader
        with pytest.raises(StoreFault, match="write-ahead log beside it holds records"):
            look(killed)
    with pytest.raises(StoreFault, match="write-ahead log beside it holds records"):
        await open_sqlite_store(killed)
    assert Path(killed + "-wal").read_bytes() == log
    assert os.path.exists(killed) is not is_gone


async def test_lost_records_at_the_end_are_missed(sound: str) -> None:
    damaged = copy(sound, "damaged.db")
    with closing(sqlite3.connect(damaged, isolation_level=None)) as connection:
        connection.execute("DELETE FROM record WHERE number > 100")
    with pytest.raises(DamagedRecord, match="record 101 is missing"):
        await open_sqlite_store(damaged)
    assert verify(damaged).damaged == 101


async def test_a_hole_is_found(sound: str) -> None:
    damaged = copy(sound, "damaged.db")
    with closing(sqlite3.connect(damaged, isolation_level=None)) as connection:
        connection.execute("DELETE FROM record WHERE number = 90")
    with pytest.raises(DamagedRecord, match="record 90 is missing"):
        await open_sqlite_store(damaged)


@pytest.mark.parametrize("content", [b"not a database at all, only some text of a person\n" * 20, b"\0" * 8192, b"x"])
async def test_a_file_that_is_no_journal_is_refused_and_left(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.db"
    path.write_bytes(content)
    with pytest.raises(StoreFault):
        await open_sqlite_store(str(path))
    assert path.read_bytes() == content


async def test_a_place_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreFault, match="cannot be opened"):
        await open_sqlite_store(str(tmp_path / "no" / "folder.db"))
    with pytest.raises(StoreFault, match="is not a journal"):
        await open_sqlite_store(str(tmp_path))
