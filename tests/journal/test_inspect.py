import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgpack
import pytest

from engine.journal.inspect import EpochRange, dump, stat, verify
from engine.journal.sqlite_store import open_sqlite_store
from engine.ports import Entry, Snapshot, StoreFault
from tests.journal.stores import entries
from tests.journal.test_sqlite_damage import flip, read


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal.db")


def packed(first: int, count: int, epoch: int = 1) -> list[Entry]:
    """Entries whose events are arrays, as real ones are: record n has n % 20 events."""
    return [
        Entry(
            index,
            epoch,
            msgpack.packb([["OrderAdded", f"order-{index}", number] for number in range(index % 20)]),
            msgpack.packb({"stream": index}) if index % 2 else b"",
        )
        for index in range(first, first + count)
    ]


async def fill(path: str) -> None:
    store = await open_sqlite_store(path)
    await store.append(packed(1, 30, epoch=1), {"incarnation": b"1", "store id": b"x"})
    tip = await store.append(packed(31, 30, epoch=3))
    await store.add_snapshot(Snapshot(tip.index, tip.epoch, tip.hash, b"s" * 1_234))
    await store.append(packed(61, 40, epoch=4))
    await store.trim(10)
    await store.close()


def state_of(path: str) -> dict[str, tuple[int, int]]:
    found = {one.name: one.stat() for one in Path(path).parent.iterdir()}
    return {name: (one.st_size, one.st_mtime_ns) for name, one in found.items()}


async def test_stat_counts(path: str) -> None:
    await fill(path)
    found = stat(path)
    assert (found.first, found.last, found.records) == (11, 100, 90)
    assert found.events == sum(index % 20 for index in range(11, 101))
    assert found.content_bytes == sum(len(one.events) + len(one.marks) for one in packed(11, 90))
    assert found.epochs == (EpochRange(1, 11, 30), EpochRange(3, 31, 60), EpochRange(4, 61, 100))
    assert (found.snapshot, found.snapshot_bytes) == (60, 1_234)
    assert found.cells == ("incarnation", "store id")
    assert found.file_bytes == os.path.getsize(path)
    assert (found.wal_bytes, found.version) == (0, 1)


async def test_dump_decodes_without_types(path: str) -> None:
    await fill(path)
    records = dump(path, after=10, limit=3)
    assert [one.index for one in records] == [11, 12, 13]
    assert records[0].events == tuple(("OrderAdded", "order-11", number) for number in range(11))
    assert records[0].marks == {"stream": 11}
    assert records[1].marks == {}
    assert {one.fault for one in dump(path)} == {None}
    assert len(dump(path)) == 90
    assert dump(path, after=100) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x91",
        b"\xdf\xff\xff\xff\xff",
        b"\x81" * 5_000,
        b"\x91\xa2\xff\xfe",
        b"\x82\x91\x01\x02\x80\x03",
        b"\xc7\x08\x05abcdefgh",
        b"\xd6\xff\x00\x00\x00\x01",
    ],
)
async def test_dump_is_tolerant(path: str, raw: bytes) -> None:
    store = await open_sqlite_store(path)
    await store.append([Entry(1, 1, raw, raw), *packed(2, 1)])
    await store.close()
    records = dump(path)
    assert [one.index for one in records] == [1, 2]
    assert records[1].fault is None


async def test_dump_shows_damaged_records_as_such(path: str) -> None:
    await fill(path)
    flip(path, read(path).index(b"order-77") + 6)  # of one of its events
    records = dump(path, after=70, limit=10)
    assert {one.index: one.fault for one in records if one.fault} == {77: "does not match its hash"}
    assert records[6].events[0] == ("OrderAdded", "order-67", 0)  # what stands there is shown all the same
    assert verify(path).damaged == 77


async def test_looking_changes_nothing(path: str) -> None:
    await fill(path)
    before = state_of(path)
    for look in (verify, dump, stat):
        look(path)
        assert state_of(path) == before


async def test_looking_beside_a_running_engine(path: str) -> None:
    store = await open_sqlite_store(path)
    for first in range(1, 101, 10):
        await store.append(packed(first, 10))
        before = state_of(path)
        assert verify(path).last == first + 9
        assert stat(path).records == first + 9
        assert len(dump(path)) == first + 9
        assert state_of(path) == before
    await store.close()


KILLED = """
import asyncio, os, sys
from engine.journal.sqlite_store import open_sqlite_store
from engine.ports import Entry
async def main():
    store = await open_sqlite_store(sys.argv[1])
    for index in range(1, 31):
        await store.append([Entry(index, 1, b"\\x90")])
    os._exit(0)
asyncio.run(main())
"""


def test_looking_at_what_a_killed_engine_left(path: str) -> None:
    subprocess.run([sys.executable, "-c", KILLED, path], check=True, timeout=60)
    assert os.path.getsize(path + "-wal") > 0
    before = state_of(path)
    assert verify(path).records_checked == 30
    assert stat(path).wal_bytes == os.path.getsize(path + "-wal")
    assert state_of(path) == before
    os.unlink(path + "-shm")  # as after copying only the two files that matter
    assert verify(path).records_checked == 30


def test_what_is_no_journal(path: str, tmp_path: Path) -> None:
    for look in (verify, dump, stat):
        with pytest.raises(StoreFault, match=r"There is no journal at .*journal\.db\."):
            look(path)
    assert list(tmp_path.iterdir()) == []
    Path(path).write_bytes(b"")
    with pytest.raises(StoreFault, match="the file is empty"):
        stat(path)
    Path(path).write_bytes(b"some text " * 100)
    with pytest.raises(StoreFault):
        verify(path)
    Path(path).unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StoreFault, match="not a journal of ours"):
        verify(path)


def test_a_pipe_is_refused_and_not_waited_for(path: str) -> None:
    os.mkfifo(path)
    for look in (verify, dump, stat):
        with pytest.raises(StoreFault, match="no regular file"):
            look(path)


async def test_a_newer_journal_is_refused_by_a_sentence(path: str) -> None:
    await fill(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 12")
    for look in (verify, dump, stat):
        with pytest.raises(StoreFault, match=r"has version 12, this program knows versions up to 1"):
            look(path)


async def test_verify_finds_a_snapshot_of_another_log(path: str) -> None:
    await fill(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE snapshot SET hash = ?", (b"w" * 16,))
        connection.commit()
    assert verify(path).damaged == 60


async def test_a_journal_without_a_record_is_sound(path: str) -> None:
    await (await open_sqlite_store(path)).close()
    verdict = verify(path)
    assert (verdict.first, verdict.last, verdict.fault) == (1, 0, None)
    assert stat(path).records == 0
    store = await open_sqlite_store(path)
    await store.append(entries(1, 1))
    await store.close()
