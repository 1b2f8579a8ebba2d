import asyncio
import os
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from engine.journal.faults import DamagedRecord
from engine.journal.snapshots import (
    NICENESS,
    ProcessSnapshotMaker,
    SnapshotFailed,
    make_snapshot_file,
    read_snapshot_file,
    write_snapshot_file,
)
from engine.journal.sqlite_store import open_sqlite_store
from engine.ports import Record, Snapshot, StoreFault
from tests.journal.crashes import environment
from tests.journal.stores import entries
from tests.journal.test_sqlite_damage import flip, read

SCRIPT = str(Path(__file__).with_name("snapshot_script.py"))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal.db")


def maker(
    path: str, monkeypatch: pytest.MonkeyPatch, deed: str = "make", time_ms_max: int = 60_000
) -> ProcessSnapshotMaker:
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])

    def argv(out: str, upto: int) -> list[str]:
        return [sys.executable, SCRIPT, path, str(upto), out, deed]

    return ProcessSnapshotMaker(argv, path + ".snapshot", time_ms_max=time_ms_max)


def total(upto: int) -> bytes:
    return b"%d" % sum(len(one.events) for one in entries(1, upto))


async def test_snapshots_beside_a_writing_node(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await open_sqlite_store(path)
    await store.append(entries(1, 2_500))
    one = maker(path, monkeypatch)
    making = asyncio.ensure_future(one.make(2_000))
    while not making.done():
        await store.append(entries(store.tip.index + 1, 5))
    snapshot = await making
    at_2000 = (await store.read(1_999, records_max=1))[0]
    assert snapshot == Snapshot(2_000, 1, at_2000.hash, total(2_000))
    await store.add_snapshot(snapshot)
    await store.trim(2_000)
    later = await one.make(store.tip.index)  # now from the snapshot on
    assert later.state == total(store.tip.index)
    await store.add_snapshot(later)
    again = await one.make(store.tip.index)  # nothing behind it
    assert again == later
    assert not os.path.exists(path + ".snapshot")
    await store.close()


@pytest.mark.parametrize(
    "deed, words",
    [
        ("fail", r"ended with 7: x{50,} the last words$"),
        ("garbage", "is not a snapshot"),
        ("nothing", "No such file"),
        ("lower", "turned out to be one behind 9"),
        ("torn", "is not whole"),
    ],
)
async def test_a_failed_snapshot_says_why_and_harms_nothing(
    path: str, monkeypatch: pytest.MonkeyPatch, deed: str, words: str
) -> None:
    store = await open_sqlite_store(path)
    await store.append(entries(1, 10))
    with pytest.raises(SnapshotFailed, match=words) as caught:
        await maker(path, monkeypatch, deed).make(10)
    assert len(str(caught.value)) < 5_000
    assert not os.path.exists(path + ".snapshot")
    await store.append(entries(11, 1))
    await store.close()


async def test_a_snapshot_that_takes_too_long_is_given_up(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SnapshotFailed, match="took longer than 50 ms"):
        await maker(path, monkeypatch, "hang", time_ms_max=50).make(1)


async def test_a_process_of_low_priority_that_cancelling_ends(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = maker(path, monkeypatch, "hang")
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    spawn = asyncio.create_subprocess_exec

    async def noticing(*arguments: str, **options: int) -> asyncio.subprocess.Process:
        process = await spawn(*arguments, **options)  # type: ignore[arg-type]
        started.set_result(process.pid)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noticing)
    making = asyncio.ensure_future(one.make(1))
    pid = await started
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making  # the leak check sees whether the process is gone


async def test_a_program_that_does_not_exist(path: str) -> None:
    one = ProcessSnapshotMaker(lambda out, upto: [path + ".absent"], path + ".snapshot")
    with pytest.raises(SnapshotFailed, match="No such file"):
        await one.make(1)


# --- the program's half ----------------------------------------------------------------------------------------------


def collect(saved: Snapshot | None, records: Iterable[Record]) -> bytes:
    return b" ".join(b"%d" % record.index for record in records)


async def test_only_what_is_in_the_journal_can_be_made(path: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    with pytest.raises(Exception, match="unable to open"):
        make_snapshot_file(path, 1, out, collect)
    store = await open_sqlite_store(path)
    tip = await store.append(entries(1, 10))
    await store.add_snapshot(Snapshot(10, tip.epoch, tip.hash, b""))
    await store.append(entries(11, 10))
    for upto in (9, 21):
        with pytest.raises(SnapshotFailed, match="the journal has 10 to 20"):
            make_snapshot_file(path, upto, out, collect)
    make_snapshot_file(path, 13, out, collect)
    assert read_snapshot_file(out).state == b"11 12 13"
    make_snapshot_file(path, 10, out, collect)
    assert read_snapshot_file(out) == Snapshot(10, tip.epoch, tip.hash, b"")
    await store.close()


async def test_a_replay_that_stops_early_is_no_snapshot(path: str, tmp_path: Path) -> None:
    store = await open_sqlite_store(path)
    await store.append(entries(1, 10))
    await store.close()
    with pytest.raises(SnapshotFailed, match="stopped behind record 0 instead of 10"):
        make_snapshot_file(path, 10, str(tmp_path / "out"), lambda saved, records: b"%d" % next(iter(records)).index)
    assert not (tmp_path / "out").exists()


async def test_a_damaged_record_ends_the_replay(path: str, tmp_path: Path) -> None:
    store = await open_sqlite_store(path)
    await store.append(entries(1, 50))
    await store.close()
    flip(path, read(path).index(b"events of 33 "))
    with pytest.raises(DamagedRecord, match="record 33"):
        make_snapshot_file(path, 50, str(tmp_path / "out"), collect)


def test_a_snapshot_file_is_whole_or_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "snapshot")
    snapshot = Snapshot(7, 2, b"h" * 16, b"the state " * 100)
    write_snapshot_file(path, snapshot)
    assert read_snapshot_file(path) == snapshot
    content = read(path)
    for keep in range(0, len(content), 50):
        Path(path).write_bytes(content[:keep])
        with pytest.raises(SnapshotFailed):
            read_snapshot_file(path)
    for place in range(0, len(content), 7):
        Path(path).write_bytes(content)
        flip(path, place, place % 8)
        with pytest.raises(SnapshotFailed):
            read_snapshot_file(path)
    Path(path).write_bytes(content + b"more")
    with pytest.raises(SnapshotFailed):
        read_snapshot_file(path)


async def test_a_foreign_file_is_no_journal(tmp_path: Path) -> None:
    path = str(tmp_path / "foreign.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StoreFault, match="not a journal of ours"):
        make_snapshot_file(path, 1, str(tmp_path / "out"), collect)
