"""The journal's own SQL on a simulated disk: what a power cut leaves, how it fails, what a person may put in its place.

What every store does is tested in tests/journal, with this one among them.

Tests: engine/simulation/sql_files.py, engine/simulation/sql_vfs.py
"""

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

import engine.simulation.sql_disk
from engine.journal.faults import DamagedRecord
from engine.journal.sqlite_store import SqliteStore, open_sqlite_store
from engine.ports import Snapshot, StoreFault
from engine.simulation.disk import DiskPace
from engine.simulation.loop import run
from engine.simulation.sql_disk import SqlDisk
from engine.simulation.sql_files import Change, SimFile, SimFiles, apply
from engine.simulation.sql_vfs import why_not
from tests.journal.stores import contents, entries, everything
from tests.simulation.clusters import virtual, virtual_loop

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

SLOW = DiskPace(fsync_ms_min=10, fsync_ms_max=10)


class Place:
    """Makes disks and disposes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disks: list[SqlDisk] = []

    def disk(self, seed: int = 0, pace: DiskPace = SLOW, **told: Any) -> SqlDisk:
        folder = self.folder / str(len(self.disks))
        folder.mkdir()
        self.disks.append(SqlDisk(str(folder), Random(seed), pace, **told))
        return self.disks[-1]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for disk in made.disks:
        disk.dispose()


async def dies(disk: SqlDisk, store: SqliteStore, first: int, count: int) -> None:
    """Begin to append and cut the power before it is done."""
    writing = virtual_loop().create_task(store.append(entries(first, count)))
    await asyncio.sleep(0.005)
    disk.lose_power()
    writing.cancel()


@virtual
async def test_an_append_takes_the_time_of_an_fsync_and_is_told_when_it_is_durable(place: Place) -> None:
    told: list[int] = []
    disk = place.disk(on_durable=lambda records: told.extend(one.index for one in records))
    store = await disk.open_store("test")
    await store.append(entries(1, 1))
    began = virtual_loop().time()
    await store.append(entries(2, 1))
    assert virtual_loop().time() - began == pytest.approx(0.01)
    assert told == [1, 2]
    assert disk.image.records == await store.read(0)
    await store.close()


@virtual
async def test_a_power_cut_loses_nothing_acknowledged_and_any_part_of_the_rest(place: Place) -> None:
    seen = set()
    for seed in range(60):
        disk = place.disk(seed)
        store = await disk.open_store("test")
        await store.append(entries(1, 3), {"cell": b"3"})
        await dies(disk, store, 4, 2)
        tip = disk.image.tip.index
        again = await disk.open_store("again")
        assert (again.tip.index, again.cell("cell")) == (tip, b"3")
        assert contents(await everything(again)) == contents(entries(1, tip))
        await again.append(entries(tip + 1, 1))
        await again.close()
        with pytest.raises(StoreFault, match=r"another incarnation|closed|interrupted"):
            await store.append(entries(6, 1))
        seen.add((tip, disk.counts["lost_writes"], disk.counts["kept_writes"]))
    assert seen == {(3, 1, 0), (5, 0, 1)}, "a transaction is there or not"
    assert any(disk.counts["torn_writes"] for disk in place.disks)


@virtual
async def test_cuts_while_the_file_is_being_made_leave_something_that_can_be_opened(place: Place) -> None:
    for seed in range(40):
        disk = place.disk(seed, DiskPace(fsync_ms_min=2, fsync_ms_max=2))
        opening = virtual_loop().create_task(disk.open_store("test"))
        await asyncio.sleep(seed / 4_000)
        disk.lose_power()
        opening.cancel()
        store = await disk.open_store("again")
        await store.append(entries(1, 1))
        await store.close()
        assert disk.image.tip.index == 1


@virtual
async def test_without_syncs_records_are_lost(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unsafe(*arguments: Any, **options: Any) -> SqliteStore:
        return await open_sqlite_store(*arguments, **options, synchronous="OFF")

    monkeypatch.setattr(engine.simulation.sql_disk, "open_sqlite_store", unsafe)
    lost = 0
    for seed in range(10):
        disk = place.disk(seed)
        store = await disk.open_store("test")
        await store.append(entries(1, 3))
        disk.lose_power()
        lost += disk.image.tip.index < 3
    assert lost


@pytest.mark.parametrize(("number", "says"), [(errno.EIO, "failed"), (errno.ENOSPC, "full")])
@virtual
async def test_an_fsync_fails_when_told_and_that_is_final(place: Place, number: int, says: str) -> None:
    for seed in range(10):
        disk = place.disk(seed)
        store = await disk.open_store("test")
        await store.append(entries(1, 2))
        disk.fails_with = number
        with pytest.raises(StoreFault, match=says):
            await store.append(entries(3, 1))
        with pytest.raises(StoreFault, match=says):
            await store.append(entries(3, 1))
        await store.close()
        again = await disk.open_store("again")  # in the same process: the kernel may call pages clean that never were
        tip = again.tip.index
        assert tip in (2, 3)
        await again.append(entries(tip + 1, 1))
        disk.lose_power()
        assert disk.image.tip.index == tip + 1, "what was left of the failed write was written again"


@virtual
async def test_a_cut_while_the_log_is_carried_over_loses_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.journal.sqlite_store.CHECKPOINT_BYTES", 20_000)
    for seed in range(40):
        disk = place.disk(seed)
        store, told = await disk.open_store("test"), 0
        working = virtual_loop().create_task(_fill(store))
        await asyncio.sleep(seed * 0.007)
        told = disk.image.tip.index
        disk.lose_power()
        working.cancel()
        again = await disk.open_store("again")
        assert again.tip.index == disk.image.tip.index >= told
        assert contents(await everything(again)) == contents(entries(1, again.tip.index))
        await again.close()


async def _fill(store: SqliteStore) -> None:
    while True:
        await store.append(entries(store.tip.index + 1, 1))


@virtual
async def test_the_image_follows_cuts_trims_and_snapshots(place: Place) -> None:
    dropped: list[int] = []
    installed: list[int] = []
    disk = place.disk(on_dropped=dropped.append, on_installed=installed.append, on_durable=lambda _: None)
    store = await disk.open_store("test")
    await store.append(entries(1, 6))
    await store.truncate_after(4)
    await store.append(entries(5, 2, epoch=2))
    assert dropped == [4]
    record = (await store.read(2))[0]
    await store.add_snapshot(Snapshot(3, record.epoch, record.hash, b"state"))
    await store.trim(9)
    assert (disk.image.base.index, disk.image.tip.index) == (3, 6)
    assert disk.image.saved == await store.snapshot()
    assert disk.image.records == await store.read(3)
    await store.install_snapshot(Snapshot(9, 3, b"h" * 16, b"theirs"), {"cell": b"x"})
    assert installed == [9]
    assert (disk.image.tip.index, disk.image.records, disk.image.cells) == (9, [], {"cell": b"x"})
    await store.close()


@virtual
async def test_an_older_copy_an_empty_disk_and_a_flipped_bit(place: Place) -> None:
    disk = place.disk()
    store = await disk.open_store("test")
    await store.append(entries(1, 3), {"id": b"1", "kept": b"1"})
    backup = disk.backup()
    await store.append(entries(4, 3))
    disk.lose_power()
    disk.restore(backup, ("id",))
    assert (disk.image.tip.index, disk.image.cells) == (3, {"kept": b"1"})
    store = await disk.open_store("restored")
    assert (store.tip.index, store.cell("id"), store.cell("kept")) == (3, None, b"1")
    await store.append(entries(4, 1))
    disk.lose_power()
    disk.damage(2)
    assert disk.is_damaged
    with pytest.raises(DamagedRecord, match="record 2"):
        await (await disk.open_store("damaged")).append(entries(5, 1))
    assert disk.image.records[1].events == entries(2, 1)[0].events, "checkers see what was there"
    disk.lose_power()
    disk.replace()
    store = await disk.open_store("new")
    assert (store.tip.index, disk.is_damaged, disk.image.tip.index) == (0, False, 0)
    await store.close()


def test_the_same_seed_gives_the_same_cuts(place: Place) -> None:
    async def main() -> list[Any]:
        disk, seen = place.disk(5), []
        for _ in range(12):
            store = await disk.open_store("test")
            await store.append(entries(store.tip.index + 1, 2))
            await dies(disk, store, store.tip.index + 1, 3)
            seen.append((disk.image.tip, dict(disk.counts)))
        return seen

    play: Any = lambda: run(main(), seed=1)
    assert play() == play()


# --- files ------------------------------------------------------------------------------------------------------------


def test_what_was_synced_survives_and_the_rest_in_any_part() -> None:
    left = set()
    for seed in range(50):
        file = SimFile(b"aaaa")
        file.pending.append(Change(2, b"bb"))
        file.sync()
        file.pending += [Change(4, b"c" * 1_024), Change(1_028, b"d")]
        content, _ = file.after_cut(Random(seed))
        assert content.startswith(b"aabb")
        left.add(content)
    assert {b"aabb", b"aabb" + b"c" * 1_024 + b"d"} < left
    assert any(b"\0" in one for one in left), "a later write may be there without an earlier one"


def test_a_file_may_be_cut_and_grow() -> None:
    content = bytearray(b"abcd")
    apply(content, Change(2, None))
    assert content == b"ab"
    apply(content, Change(4, None))
    assert content == b"ab\0\0"


def test_what_is_recorded_happens_as_far_as_somebody_wants() -> None:
    files = SimFiles({})
    steps = files.record()
    files.wrote("a", 0, b"x")
    files.synced("a")
    files.removed("b")
    assert (files.files, len(steps), files.seen) == ({}, 3, 3)
    for step in steps[:2]:
        step()
    assert files.files["a"].durable == b"x"


def test_a_sync_that_fails_may_take_for_written_what_was_not() -> None:
    files = SimFiles({"a": b""}, lambda what: 5 if what == "sync" else 0)
    files.wrote("a", 0, b"x")
    assert files.synced("a") == 5
    assert files.files["a"].pending
    files.forgets = True
    files.synced("a")
    assert not files.files["a"].pending
