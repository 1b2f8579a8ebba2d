"""The simulated disk: what is durable, what a crash leaves, how it fails."""

import asyncio
import errno
from random import Random
from typing import Any

import pytest

from engine.base.codec import encode, pack
from engine.journal.memory import MemoryStore
from engine.ports import Entry, Record, Snapshot, StoreFault
from engine.simulation.disk import DiskPace, SimDisk
from tests.simulation.clusters import virtual, virtual_loop


def entry(index: int) -> Entry:
    return Entry(index, 1, pack([encode(index)]))


class Seen:
    def __init__(self) -> None:
        self.indexes: list[int] = []

    def __call__(self, records: list[Record]) -> None:
        self.indexes += [record.index for record in records]


async def half_written(disk: SimDisk, count: int) -> MemoryStore:
    """Begin to append so many records, each by a call of its own, and stop before the fsync is done."""
    store = disk.open("test")
    scope = [virtual_loop().create_task(store.append([entry(index)])) for index in range(1, count + 1)]
    for one in scope:
        one.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return store


@virtual
async def test_an_append_takes_the_time_of_an_fsync_and_is_seen_when_it_is_durable() -> None:
    seen = Seen()
    disk = SimDisk(Random(1), DiskPace(fsync_ms_min=10, fsync_ms_max=10), seen)
    store = disk.open("test")
    await store.append([entry(1)])
    assert virtual_loop().time() == pytest.approx(0.01)
    assert seen.indexes == [1]
    assert disk.image.tip.index == 1
    await store.close()


@virtual
async def test_a_power_cut_loses_a_part_of_what_was_not_fsynced_at_a_records_border() -> None:
    kept: set[int] = set()
    torn = 0
    for seed in range(40):
        seen = Seen()
        disk = SimDisk(Random(seed), DiskPace(fsync_ms_min=10, fsync_ms_max=10), seen)
        store = await half_written(disk, 4)
        assert disk.volatile == 4
        disk.lose_power()
        tip = disk.image.tip.index
        kept.add(tip)
        torn += disk.counts["torn_writes"]
        assert seen.indexes == list(range(1, tip + 1)), "what survives unasked is told too"
        with pytest.raises(StoreFault):
            await store.append([entry(5)])
        again = disk.open("again")
        assert again.tip.index == tip
        await again.append([entry(tip + 1)])
        assert seen.indexes == list(range(1, tip + 2))
        await again.close()
        await store.close()
    assert kept == {0, 1, 2, 3, 4}
    assert torn > 0


@virtual
async def test_a_batch_may_be_torn_inside() -> None:
    tips = set()
    for seed in range(40):
        disk = SimDisk(Random(seed))
        store = disk.open("test")
        writing = virtual_loop().create_task(store.append([entry(index) for index in range(1, 6)]))
        writing.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        await asyncio.sleep(0)
        disk.lose_power()
        tips.add(disk.image.tip.index)
        await store.close()
    assert tips > {0, 5}, "some of its records are there, the others not"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
@virtual
async def test_an_fsync_fails_when_told_and_that_is_final(number: int) -> None:
    disk = SimDisk(Random(1))
    store = disk.open("test")
    disk.fails_with = number
    with pytest.raises(StoreFault):
        await store.append([entry(1)])
    with pytest.raises(StoreFault):
        await store.append([entry(2)])
    await store.close()
    disk.lose_power()
    again = disk.open("again")
    await again.append([entry(again.tip.index + 1)])
    await again.close()
    assert disk.counts["faults"] == 1


@virtual
async def test_rates_make_it_slow_and_faulty() -> None:
    disk = SimDisk(Random(1), DiskPace(fsync_ms_min=1, fsync_ms_max=1, slow_rate=1, slow_ms_max=1_000))
    store = disk.open("test")
    await store.append([entry(1)])
    assert virtual_loop().time() > 0.01
    disk.pace = DiskPace(fault_rate=1)
    with pytest.raises(StoreFault, match="failed"):
        await store.append([entry(2)])
    disk.lose_power()
    other = disk.open("again")
    disk.pace = DiskPace(full_rate=1)
    with pytest.raises(StoreFault, match="full"):
        await other.append([entry(other.tip.index + 1)])
    await store.close()
    await other.close()


@virtual
async def test_a_replaced_disk_is_empty() -> None:
    seen = Seen()
    disk = SimDisk(Random(1), on_durable=seen)
    store = disk.open("test")
    await store.append([entry(1)])
    disk.replace()
    again = disk.open("again")
    assert again.tip.index == 0
    await again.append([entry(1)])
    assert seen.indexes == [1, 1]
    await store.close()
    await again.close()


@virtual
async def test_who_may_not_fsync_is_asked_before() -> None:
    asked: list[str] = []
    store = SimDisk(Random(1)).open("test", asked.append)
    await store.append([entry(1)])
    assert asked == ["fsync"]
    await store.close()


@virtual
async def test_a_dropped_tail_and_a_snapshot_in_place_of_the_log_are_told() -> None:
    told: list[Any] = []
    disk = SimDisk(
        Random(0),
        on_durable=lambda records: told.append([record.index for record in records]),
        on_dropped=lambda index: told.append(f"dropped above {index}"),
        on_installed=lambda index: told.append(f"installed {index}"),
    )
    store = disk.open("a")
    await store.append([Entry(index, 1, b"\x90") for index in (1, 2, 3)])
    await store.truncate_after(1)
    await store.append([Entry(2, 2, b"\x90")])
    assert told == [[1, 2, 3], "dropped above 1", [2]]
    told.clear()
    await store.install_snapshot(Snapshot(7, 2, b"h" * 16, b"state"))
    await store.append([Entry(8, 2, b"\x90")])
    assert told == ["installed 7", [8]]
    told.clear()
    await store.install_snapshot(Snapshot(7, 3, b"i" * 16, b"state"))
    assert told == ["dropped above 0", "installed 7"]
    await store.close()
