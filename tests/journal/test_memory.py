"""The simulated disk: what a crash leaves, what a failing fsync does, who may still write."""

import asyncio
import errno
import os

import pytest

from engine.journal.faults import DamagedRecord
from engine.journal.memory import MemoryDisk, MemoryStore
from engine.ports import StoreFault
from tests.journal.stores import contents, entries, everything, snapshot_at


class HeldFsync:
    """An fsync that ends when the test says so."""

    def __init__(self) -> None:
        self.begun = 0
        self.gate = asyncio.Event()
        self.error: OSError | None = None

    async def __call__(self) -> None:
        self.begun += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_nothing_is_seen_before_its_fsync_has_ended() -> None:
    fsync = HeldFsync()
    store = MemoryStore(MemoryDisk(), fsync)
    call = asyncio.ensure_future(store.append(entries(1, 3), {"a": b"1"}))
    await settle()
    assert not call.done()
    assert store.tip.index == 0
    assert await store.read(0) == []
    assert store.cell("a") is None
    fsync.gate.set()
    assert (await call).index == 3
    assert store.cell("a") == b"1"
    await store.close()


async def test_one_fsync_serves_what_was_written_before_it_began() -> None:
    fsync = HeldFsync()
    store = MemoryStore(MemoryDisk(), fsync)
    first = asyncio.ensure_future(store.append(entries(1, 1)))
    await settle()
    others = [asyncio.ensure_future(store.append(entries(index, 1))) for index in range(2, 10)]
    await settle()
    assert fsync.begun == 1
    fsync.gate.set()
    await asyncio.gather(first, *others)
    assert fsync.begun == 2  # the second began after all the others had been written
    assert store.statistics()["commits"] == 2
    await store.close()


@pytest.mark.parametrize("keep", [0, 1, 2, 3])
async def test_a_power_cut_keeps_a_beginning_of_what_was_not_fsynced(keep: int) -> None:
    disk, fsync = MemoryDisk(), HeldFsync()
    store = MemoryStore(disk)
    await store.append(entries(1, 2), {"a": b"old"})
    held = MemoryStore(disk, fsync)
    calls = [asyncio.ensure_future(held.append(entries(3 + 2 * n, 2), {"a": b"%d" % n})) for n in range(3)]
    await settle()
    assert disk.volatile == 3
    disk.crash(keep)
    fsync.gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(one, StoreFault) for one in results)  # nobody is told that it is durable
    again = MemoryStore(disk)
    assert contents(await everything(again)) == contents(entries(1, 2 + 2 * keep))
    assert again.cell("a") == (b"%d" % (keep - 1) if keep else b"old")
    for one in (store, held, again):
        await one.close()


async def test_a_torn_append_leaves_its_first_records_and_no_cells() -> None:
    disk, fsync = MemoryDisk(), HeldFsync()
    store = MemoryStore(disk, fsync)
    calls = [asyncio.ensure_future(store.append(entries(1, 2)))]
    calls.append(asyncio.ensure_future(store.append(entries(3, 5))))
    await settle()
    disk.crash(1, torn=3)
    again = MemoryStore(disk)
    assert contents(await everything(again)) == contents(entries(1, 5))
    await again.close()
    fsync.gate.set()
    await asyncio.gather(*calls, return_exceptions=True)
    await store.close()


async def test_what_came_with_cells_is_never_torn() -> None:
    disk, fsync = MemoryDisk(), HeldFsync()
    store = MemoryStore(disk, fsync)
    call = asyncio.ensure_future(store.append(entries(1, 5), {"a": b"1"}))
    await settle()
    disk.crash(0, torn=3)
    again = MemoryStore(disk)
    assert again.tip.index == 0
    await again.close()
    fsync.gate.set()
    await asyncio.gather(call, return_exceptions=True)
    await store.close()


async def test_a_process_that_dies_without_a_power_cut_leaves_its_writes() -> None:
    disk, fsync = MemoryDisk(), HeldFsync()
    store = MemoryStore(disk, fsync)
    call = asyncio.ensure_future(store.append(entries(1, 5)))
    await settle()
    again = MemoryStore(disk)  # the kernel still had the pages
    assert again.tip.index == 5
    with pytest.raises(StoreFault, match="another incarnation"):
        await store.append(entries(6, 1))
    fsync.gate.set()
    with pytest.raises(StoreFault, match="another incarnation"):
        await call
    assert again.tip.index == 5
    await again.close()
    await store.close()


@pytest.mark.parametrize("code, words", [(errno.EIO, "failed"), (errno.ENOSPC, "is full")])
async def test_a_failed_fsync_is_final(code: int, words: str) -> None:
    fsync = HeldFsync()
    store = MemoryStore(MemoryDisk(), fsync)
    calls = [asyncio.ensure_future(store.append(entries(index, 1))) for index in range(1, 4)]
    await settle()
    fsync.error = OSError(code, os.strerror(code))
    fsync.gate.set()
    for call in calls:
        with pytest.raises(StoreFault, match=words):
            await call
    fsync.error = None
    with pytest.raises(StoreFault, match=words):
        await store.append(entries(1, 1))
    assert store.tip.index == 0
    await store.close()


async def test_a_flipped_bit_is_found_and_named() -> None:
    disk = MemoryDisk()
    store = MemoryStore(disk)
    tip = await store.append(entries(1, 9))
    await store.add_snapshot(snapshot_at(tip))
    disk.damage(7)
    with pytest.raises(DamagedRecord, match="record 7 does not match its hash") as caught:
        await everything(store)
    assert caught.value.index == 7
    with pytest.raises(StoreFault):
        await store.append(entries(10, 1))
    await store.close()
