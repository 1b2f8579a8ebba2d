"""The stores under test, each behind a site that can be opened again and again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random
from typing import Protocol

from engine.journal.memory import MemoryDisk, MemoryStore
from engine.journal.sqlite_store import open_sqlite_store
from engine.journal.sqlite_thread import SqliteDial, inline_place, thread_place
from engine.ports import Entry, Record, Snapshot, Store, Tip
from engine.simulation.disk import DiskPace
from engine.simulation.sql_disk import SqlDisk
from engine.simulation.sql_vfs import why_not

KINDS = ("memory", "crashable", "sqlite", "sqlite inline", *([] if why_not() else ["sqlite simulated"]))


class OpenStore(Store, Protocol):
    """What all stores of ours offer beside the port."""

    path: str

    def replay(self, after: int) -> AsyncIterator[list[Record]]: ...


class Site:
    """A place where a store is kept between two incarnations."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.path = str(folder / "journal.db")
        self.disk = MemoryDisk()
        self.fsyncs = 0
        self.folder = folder
        self.simulated: SqlDisk | None = None

    async def open(self) -> OpenStore:
        if self.kind == "memory":
            return MemoryStore(self.disk)
        if self.kind == "crashable":
            return MemoryStore(self.disk, self._slow_fsync)
        if self.kind == "sqlite simulated":
            if self.simulated is None:
                self.simulated = SqlDisk(str(self.folder), Random(0), DiskPace(fsync_ms_min=0, fsync_ms_max=0))
            return await self.simulated.open_store("simulated")
        dial: SqliteDial = inline_place if self.kind == "sqlite inline" else thread_place
        return await open_sqlite_store(self.path, dial=dial)

    async def _slow_fsync(self) -> None:
        self.fsyncs += 1
        for _ in range(self.fsyncs % 4):
            await asyncio.sleep(0)


def entries(first: int, count: int, epoch: int = 1, size: int = 20) -> list[Entry]:
    """Entries with contents that tell them apart."""
    return [
        Entry(index, epoch, f"events of {index} ".encode().ljust(size, b"."), b"" if index % 3 else b"marks %d" % index)
        for index in range(first, first + count)
    ]


def contents(records: Sequence[Record | Entry]) -> list[tuple[int, int, bytes, bytes]]:
    """What must come back of what was appended."""
    return [(one.index, one.epoch, one.events, one.marks) for one in records]


def snapshot_at(tip: Tip, state: bytes = b"state") -> Snapshot:
    """A snapshot that belongs to a log with this record."""
    return Snapshot(tip.index, tip.epoch, tip.hash, state)


async def everything(store: OpenStore) -> list[Record]:
    """All records that a store still has."""
    return [record async for batch in store.replay(store.first - 1) for record in batch]
