"""What only the store on a file does: one writing task, proof before the first write, endings, a bounded log."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from engine.journal import sqlite_store as module
from engine.journal import sqlite_write
from engine.journal.faults import DamagedRecord
from engine.journal.inspect import verify
from engine.journal.sqlite_store import SqliteStore, open_sqlite_store
from engine.journal.sqlite_thread import Connector, SqlitePlace, thread_place
from engine.ports import Snapshot, StoreFault
from tests.journal.stores import contents, entries, everything, snapshot_at
from tests.journal.test_sqlite_damage import files, flip, read

T = TypeVar("T")


class Interposed:
    """A place in front of another one, where a test can look at each call and let it fail."""

    def __init__(self, place: SqlitePlace, before: Callable[[str], Awaitable[None]]) -> None:
        self.place = place
        self.before = before

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        await self.before(getattr(getattr(function, "func", function), "__name__", ""))
        return await self.place.run(function)

    async def close(self) -> None:
        await self.place.close()

    def abandon(self) -> None:
        self.place.abandon()


class Dial:
    """Opens places and remembers, by name, what is run on them."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fault: sqlite3.Error | OSError | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, connector: Connector) -> SqlitePlace:
        return Interposed(await thread_place(connector), self.before)

    async def before(self, name: str) -> None:
        self.calls.append(name)
        if name == "write_group":
            await self.gate.wait()
            if self.fault is not None:
                raise self.fault


def sqlite_error(code: int, name: str) -> sqlite3.Error:
    error = sqlite3.OperationalError("as SQLite says")
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "journal.db")


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# --- one task writes -------------------------------------------------------------------------------------------------


async def test_everything_that_waits_becomes_one_transaction(path: str) -> None:
    dial = Dial()
    store = await open_sqlite_store(path, dial=dial)
    await store.append(entries(1, 1))
    dial.gate.clear()
    calls = [asyncio.ensure_future(store.append(entries(2, 1)))]
    await settle()
    calls += [asyncio.ensure_future(store.append(entries(index, 1), {"n": b"%d" % index})) for index in range(3, 60)]
    calls.append(asyncio.ensure_future(store.truncate_after(50)))
    calls.append(asyncio.ensure_future(store.append(entries(51, 2, epoch=2))))
    await settle()
    dial.calls.clear()
    dial.gate.set()
    tips = await asyncio.gather(*calls)
    assert [tip.index for tip in tips] == [*range(2, 60), 50, 52]
    assert dial.calls == ["write_group"]  # all that came during the first was one more
    assert store.statistics()["calls_per_commit_max"] == 59
    await store.close()


async def test_a_group_is_bounded(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP_BYTES_MAX", 1_000)
    dial = Dial()
    store = await open_sqlite_store(path, dial=dial)
    await asyncio.gather(*(store.append(entries(index, 1, size=400)) for index in range(1, 31)))
    assert store.statistics()["calls_per_commit_max"] == 3
    await store.append(entries(31, 1, size=5_000))  # more than a group, but one call
    await store.close()


async def test_too_many_waiting_calls_are_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALLS_WAITING_MAX", 5)
    dial = Dial()
    store = await open_sqlite_store(path, dial=dial)
    await store.append(entries(1, 1))
    dial.gate.clear()
    first = asyncio.ensure_future(store.append(entries(2, 1)))
    await settle()
    waiting = [asyncio.ensure_future(store.append(entries(index, 1))) for index in range(3, 8)]
    await settle()
    with pytest.raises(StoreFault, match="does not keep up: 5 calls"):
        await store.append(entries(8, 1))
    dial.gate.set()
    await asyncio.gather(first, *waiting)
    assert (await store.append(entries(8, 1))).index == 8
    await store.close()


@pytest.mark.parametrize(
    "fault, words",
    [
        (sqlite_error(sqlite3.SQLITE_IOERR | (4 << 8), "SQLITE_IOERR_FSYNC"), r"failed \(ioerr fsync\)"),
        (sqlite_error(sqlite3.SQLITE_FULL, "SQLITE_FULL"), "is full"),
        (OSError(5, "Input/output error"), r"failed \(Input/output error\)"),
    ],
)
async def test_a_failed_write_is_final_for_everybody(path: str, fault: Exception, words: str) -> None:
    dial = Dial()
    store = await open_sqlite_store(path, dial=dial)
    await store.append(entries(1, 3))
    dial.gate.clear()
    assert isinstance(fault, sqlite3.Error | OSError)
    dial.fault = fault
    calls: list[asyncio.Future[Any]] = [asyncio.ensure_future(store.append(entries(4, 1)))]
    await settle()
    calls += [asyncio.ensure_future(store.append(entries(5, 1))), asyncio.ensure_future(store.trim(1))]
    calls[0].cancel()
    await settle()
    dial.gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in results] == [asyncio.CancelledError, StoreFault, StoreFault]
    assert len({id(one) for one in results}) == 3
    dial.fault = None
    dial.calls.clear()
    for call in (store.append(entries(4, 1)), store.read(0), store.snapshot()):
        with pytest.raises(StoreFault, match=words):
            await call
    assert store.fault is not None
    before = files(path)
    assert "-wal" in before
    await store.close()
    assert files(path) == before  # SQLite would carry the log over when the last writer closes
    assert dial.calls == []
    again = await open_sqlite_store(path)
    assert contents(await everything(again)) == contents(entries(1, 3))
    await again.close()


async def test_a_foreign_writer_is_named(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_write, "BUSY_MS_MAX", 20)
    store = await open_sqlite_store(path)
    await store.append(entries(1, 1))
    with closing(sqlite3.connect(path, isolation_level=None)) as foreigner:
        foreigner.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreFault, match="held by another program"):
            await store.append(entries(2, 1))
    await store.close()


# --- proof -----------------------------------------------------------------------------------------------------------


async def test_nothing_is_written_before_the_proof(path: str) -> None:
    store = await open_sqlite_store(path)
    await store.append(entries(1, 50))
    await store.close()
    place = read(path).index(b"events of 33 ")
    flip(path, place)
    before = files(path)
    store = await open_sqlite_store(path, prove_first=False)
    assert store.tip.index == 50
    with pytest.raises(DamagedRecord, match="record 33 does not match its hash"):
        await store.append(entries(51, 1))
    await store.close()
    store = await open_sqlite_store(path, prove_first=False)
    with pytest.raises(DamagedRecord, match="record 33"):
        await everything(store)
    with pytest.raises(DamagedRecord):
        await store.append(entries(51, 1))
    await store.close()
    assert files(path) == before
    flip(path, place)
    store = await open_sqlite_store(path)
    assert store.tip.index == 50
    await store.close()


async def test_a_replay_to_the_end_is_the_proof(path: str) -> None:
    store = await open_sqlite_store(path)
    tip = await store.append(entries(1, 50))
    await store.add_snapshot(snapshot_at(tip))
    await store.append(entries(51, 10))
    await store.close()
    for replayed in (0, 50, None):
        dial = Dial()
        store = await open_sqlite_store(path, prove_first=False, dial=dial)
        if replayed is not None:
            assert len([one async for batch in store.replay(replayed) for one in batch]) == 60 - replayed
        dial.calls.clear()
        await store.append(entries(store.tip.index + 1, 1))
        assert ("read_records" in dial.calls) == (replayed is None)
        await store.truncate_after(60)
        await store.close()


async def test_damage_that_is_met_later_is_final_too(path: str) -> None:
    store = await open_sqlite_store(path)
    tip = await store.append(entries(1, 50))
    await store.add_snapshot(snapshot_at(tip))
    await store.close()
    for place in [read(path).index(b"events of 33 ")]:
        flip(path, place)
    store = await open_sqlite_store(path)  # in front of the snapshot: not needed for recovery
    await store.append(entries(51, 1))
    assert len(await store.read(40)) == 11
    assert [record.index for record in await store.read(30)] == [31, 32]
    with pytest.raises(DamagedRecord) as caught:
        await store.read(32)
    assert caught.value.index == 33
    with pytest.raises(DamagedRecord):
        await store.append(entries(52, 1))
    await store.close()


# --- the write-ahead log ---------------------------------------------------------------------------------------------


async def test_the_write_ahead_log_stays_bounded(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_BYTES", 200_000)
    store = await open_sqlite_store(path)
    lengths = []
    for first in range(1, 2_001, 20):
        await store.append(entries(first, 20, size=1_000))
        await store.read(first - 1)
        lengths.append(os.path.getsize(path + "-wal"))
    assert store.statistics()["checkpoints"] > 8
    assert max(lengths) < 3 * 200_000
    await store.close()
    assert not os.path.exists(path + "-wal")
    assert verify(path).records_checked == 2_000


async def test_only_we_decide_when_to_checkpoint(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_BYTES", 64 << 20)
    store = await open_sqlite_store(path)
    for first in range(1, 61, 10):
        await store.append(entries(first, 10, size=100_000))
    assert os.path.getsize(path + "-wal") > 6_000_000  # by itself SQLite would have begun anew at 4 MiB
    assert os.path.getsize(path) < 100_000
    await store.close()


async def test_a_foreign_reader_lets_the_log_grow_but_stops_nobody(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_BYTES", 50_000)
    monkeypatch.setattr(module, "WAL_BYTES_MAX", 200_000)
    store = await open_sqlite_store(path)
    await store.append(entries(1, 1))
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as foreigner:
        foreigner.execute("BEGIN")
        foreigner.execute("SELECT count(*) FROM record").fetchone()
        for first in range(2, 1_002, 20):
            await store.append(entries(first, 20, size=1_000))
        assert os.path.getsize(path + "-wal") > 800_000
        assert foreigner.execute("SELECT count(*) FROM record").fetchone() == (1,)
        foreigner.execute("COMMIT")
    for first in range(1_002, 1_302, 20):
        await store.append(entries(first, 20, size=1_000))
    assert os.path.getsize(path + "-wal") < 300_000
    await store.close()


async def test_a_snapshot_is_written_between_appends(path: str) -> None:
    store = await open_sqlite_store(path)
    tip = await store.append(entries(1, 5))
    state = bytes(6 << 20)
    adding = asyncio.ensure_future(store.add_snapshot(Snapshot(tip.index, tip.epoch, tip.hash, state)))
    appended = 0
    while not adding.done():
        await store.append(entries(6 + appended, 1))
        appended += 1
    await adding
    assert appended >= 6  # at least one for each piece
    saved = await store.snapshot()
    assert saved is not None
    assert saved.state == state
    await store.close()


async def test_a_snapshot_given_up_halfway_leaves_no_waste_behind_the_next(path: str) -> None:
    store = await open_sqlite_store(path)
    tip = await store.append(entries(1, 5))
    for _ in range(3):
        adding = asyncio.ensure_future(store.add_snapshot(snapshot_at(tip, bytes(5 << 20))))
        await store.append([])
        await store.append([])
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
    assert await store.snapshot() is None
    await store.add_snapshot(snapshot_at(tip, b"small"))
    await store.add_snapshot(snapshot_at(tip, b"smaller"))
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM snapshot_piece").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM snapshot").fetchone() == (1,)


async def test_reads_and_writes_do_not_wait_for_each_other_forever(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECKPOINT_BYTES", 20_000)
    monkeypatch.setattr(module, "WAL_BYTES_MAX", 40_000)
    store = await open_sqlite_store(path)

    async def write() -> None:
        for first in range(1, 1_001, 10):
            await store.append(entries(first, 10, size=300))

    async def follow() -> int:
        after = 0
        while after < 1_000:
            for record in await store.read(after, records_max=7):
                assert record.index == after + 1
                after = record.index
            await asyncio.sleep(0)
        return after

    _, *ends = await asyncio.gather(write(), follow(), follow(), follow())
    assert ends == [1_000, 1_000, 1_000]
    await store.close()


# --- endings ---------------------------------------------------------------------------------------------------------

FORGETFUL = """
import asyncio, sys
from engine.journal.sqlite_store import open_sqlite_store
from engine.ports import Entry

async def main():
    store = await open_sqlite_store(sys.argv[1])
    await store.append([Entry(1, 1, b"kept")])
    store.append([Entry(2, 1, b"never awaited")]).close()
    return store

kept = asyncio.run(main())
print("over", flush=True)
"""


def test_a_program_that_forgets_to_close_still_ends(path: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FORGETFUL, path], capture_output=True, text=True, timeout=60, check=True
    )
    assert (ended.stdout, ended.stderr) == ("over\n", "")
    assert verify(path).last == 1


async def test_two_incarnations_one_after_the_other(path: str) -> None:
    stores: list[SqliteStore] = []
    for index in range(1, 6):
        store = await open_sqlite_store(path)
        assert store.tip.index == index - 1
        await store.append(entries(index, 1), {"incarnation": b"%d" % index})
        await store.close()
        stores.append(store)
    for store in stores:
        with pytest.raises(StoreFault, match="closed"):
            await store.append(entries(6, 1))


async def test_a_log_cut_below_its_last_checkpoint_is_not_taken_for_damaged(path: str, tmp_path: Path) -> None:
    store = await open_sqlite_store(path)
    await store.append(entries(1, 10))
    await store.close()
    store = await open_sqlite_store(path)
    await store.truncate_after(5)
    killed = str(tmp_path / "killed.db")
    for suffix in ("", "-wal"):
        Path(killed + suffix).write_bytes(read(path + suffix))
    await store.close()
    again = await open_sqlite_store(killed)
    assert again.tip.index == 5
    await again.close()


async def test_what_the_last_incarnation_left_in_the_log_is_written_again_first(path: str, tmp_path: Path) -> None:
    store = await open_sqlite_store(path)
    await store.append(entries(1, 20))
    killed = str(tmp_path / "killed.db")
    for suffix in ("", "-wal"):
        Path(killed + suffix).write_bytes(read(path + suffix))
    await store.close()
    dial = Dial()
    again = await open_sqlite_store(killed, dial=dial)
    dial.calls.clear()
    await again.append(entries(21, 1))
    assert dial.calls == ["checkpoint", "write_group"]
    assert b"events of 20 " in read(killed)
    await again.close()
