"""A node's simulated disk: how long an fsync takes, how it fails, and what a power cut leaves. Floor 10.

* It outlives the incarnations of its node; the store on it is the journal's own `MemoryStore`.
* A crash loses a part of what was not fsynced, at a record's border; what survives unasked is no fault, so the rest of
  the tail may be there although nobody was told.
* A person may put another disk in its place: an empty one, or an older copy of it; and a bit of it may flip.
* `on_durable` sees each record once it is durable, also one that survived a crash without an fsync. Who is half of a
  pair may drop a tail, or get a snapshot in place of its log: `on_dropped` and `on_installed` are told before.
"""

import asyncio
import errno
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from engine.journal.memory import Image, MemoryDisk, MemoryStore
from engine.ports import Record, Store

TORN_RECORDS_MAX = 20  # of the first write that is lost, so many records may be there all the same


class DiskPace(msgspec.Struct, frozen=True):
    """How a disk behaves by itself. Rates are probabilities per fsync."""

    fsync_ms_min: float = 0.3
    fsync_ms_max: float = 3.0
    slow_rate: float = 0.0  # fsyncs that take up to slow_ms_max longer
    slow_ms_max: float = 500.0
    fault_rate: float = 0.0  # fsyncs that fail with EIO, which ends the node
    full_rate: float = 0.0  # that fail with ENOSPC


QUICK = DiskPace()


class SimDisk(MemoryDisk):
    """The disk of one node."""

    def __init__(
        self,
        random: Random,
        pace: DiskPace = QUICK,
        on_durable: Callable[[list[Record]], None] | None = None,
        *,
        on_dropped: Callable[[int], None] = lambda _: None,
        on_installed: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`on_dropped(index)`: durable records above it are gone. `on_installed(index)`: a snapshot covers up to it."""
        super().__init__()
        self.random = random
        self.pace = pace  # may be replaced at any time
        self.fails_with = 0  # an errno for the next fsync, once
        names = "fsyncs faults crashes lost_writes kept_writes torn_writes replaced restored damaged".split()
        self.counts = dict.fromkeys(names, 0)
        self._sound: Image | None = None  # of a damaged disk: what it held before
        self._on_durable = on_durable
        self.on_dropped = on_dropped
        self.on_installed = on_installed
        self._told: list[bytes] = []  # the hashes of all records that were told, or that a snapshot covered (b"")

    @property
    def image(self) -> Image:
        """What is durable now; of a damaged disk what it held before."""
        return self._durable if self._sound is None else self._sound

    @property
    def is_damaged(self) -> bool:
        """Whether a bit of a durable record has flipped since the disk was put in."""
        return self._sound is not None

    async def open_store(self, name: str, check: Callable[[str], None] = lambda _: None) -> Store:
        """Open the journal for a new incarnation; raises StoreFault."""
        return self.open(name, check)

    def open(self, name: str, check: Callable[[str], None] = lambda _: None) -> MemoryStore:
        """Open the journal for a new incarnation, whose `check` refuses an fsync it must not ask for."""

        async def fsync() -> None:
            check("fsync")
            await self._fsync()

        store = MemoryStore(self, fsync, name)
        self._tell()
        return store

    async def _fsync(self) -> None:
        number = await self.pause()
        if number:
            raise OSError(number, {errno.ENOSPC: "no space left on device"}.get(number, "input/output error"))

    async def pause(self) -> int:
        """Let the time of an fsync pass; returns the errno with which it fails, 0 when it does not."""
        pace, draw = self.pace, self.random.random
        self.counts["fsyncs"] += 1
        span_ms = self.random.uniform(pace.fsync_ms_min, pace.fsync_ms_max)
        if pace.slow_rate and draw() < pace.slow_rate:
            span_ms += self.random.uniform(0, pace.slow_ms_max)
        await asyncio.sleep(span_ms / 1_000)
        number, self.fails_with = self.fails_with, 0
        if not number and pace.fault_rate and draw() < pace.fault_rate:
            number = errno.EIO
        if not number and pace.full_rate and draw() < pace.full_rate:
            number = errno.ENOSPC
        self.counts["faults"] += bool(number)
        return number

    def harden(self, upto: int) -> None:
        super().harden(upto)
        self._tell()

    def _tell(self) -> None:
        if self._on_durable is None:
            return
        image = self.image
        kept = self._still_there(image)
        if kept < len(self._told):
            del self._told[kept:]
            self.on_dropped(kept)
        if kept < image.base.index:
            self._told += [b""] * (image.base.index - kept - 1) + [image.base.hash]
            self.on_installed(image.base.index)
        fresh = image.records[len(self._told) - image.base.index :]
        self._told += [record.hash for record in fresh]
        if fresh:
            self._on_durable(fresh)

    def _still_there(self, image: Image) -> int:
        """Return up to which index the records that were told are those that are durable now."""
        kept, base = min(len(self._told), image.tip.index), image.base.index
        while kept > base and self._told[kept - 1] != image.records[kept - base - 1].hash:
            kept -= 1
        if kept == base > 0 and self._told[kept - 1] not in (image.base.hash, b""):
            return 0
        return kept

    def lose_power(self) -> None:
        """Keep a part of what was not fsynced, as the seed says; every store open on this disk is refused."""
        count = self.volatile
        keep = self.random.randint(0, count)
        torn = self.random.randint(0, TORN_RECORDS_MAX) if keep < count and self.random.random() < 0.5 else 0
        before = self._durable.tip.index
        self.crash(keep, torn)
        self.counts["crashes"] += 1
        self.counts["kept_writes"] += keep
        self.counts["lost_writes"] += count - keep
        self.counts["torn_writes"] += bool(torn and self._durable.tip.index > before)
        self._tell()

    # --- what a person does to it while its node is down

    def replace(self) -> None:
        """Put an empty disk in its place: everything is lost."""
        self._set(Image())
        if self._told:
            self._told = []
            self.on_dropped(0)
        self.counts["replaced"] += 1

    def backup(self) -> Any:
        """Return a copy of what is durable now, for `restore`."""
        return self._durable.copied()

    def restore(self, backup: Any, forget: Sequence[str] = ()) -> None:
        """Put an older copy in its place; the cells named in `forget` are not taken over."""
        self._set(backup.copied())
        for name in forget:
            self._durable.cells.pop(name, None)
            self._written.cells.pop(name, None)
        self.counts["restored"] += 1
        self._tell()

    def damage(self, index: int) -> None:
        """Flip a bit in the events of a durable record."""
        self._sound = self._durable.copied()
        super().damage(index)
        self.counts["damaged"] += 1

    def _set(self, image: Image) -> None:
        self.crash()
        self._durable, self._written = image, image.copied()
        self._hardened, self._sound = 0, None
