"""The journal in memory, behind the `Store` port, on a simulated disk that outlives the incarnation. Floor 4.

* Every call is one write: it reaches the disk's volatile tail at once, and is durable when the `fsync` hook that began
  after it has returned. One hook serves everything written before it began (group commit).
* `MemoryDisk.crash` decides what of the volatile tail survives; a store of a dead incarnation is refused afterwards.
* An OSError of the hook is final, as in the real world.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from engine.base.tasks import TaskScope
from engine.journal.faults import again, damage, disk_fault
from engine.journal.record import EMPTY_TIP, ChainBroken, check, link
from engine.journal.refusals import (
    READ_RECORDS_MAX,
    REPLAY_RECORDS_MAX,
    refuse_cells,
    refuse_snapshot,
    refuse_truncation,
)
from engine.ports import Entry, Record, Snapshot, StoreFault, Tip

Fsync = Callable[[], Awaitable[None]]


class Image:
    """The content of a disk: records behind `base`, the snapshot and the cells."""

    def __init__(self) -> None:
        self.base = EMPTY_TIP
        self.records: list[Record] = []
        self.saved: Snapshot | None = None
        self.cells: dict[str, bytes] = {}

    @property
    def tip(self) -> Tip:
        if not self.records:
            return self.base
        last = self.records[-1]
        return Tip(last.index, last.epoch, last.hash)

    @property
    def recovery(self) -> Tip:
        """Where a replay begins."""
        saved = self.saved
        return Tip(saved.index, saved.epoch, saved.hash) if saved else self.base

    def tip_at(self, index: int) -> Tip | None:
        """Epoch and hash at an index, or None when it is not kept."""
        if index in (self.base.index, self.recovery.index):
            return self.base if index == self.base.index else self.recovery
        place = index - self.base.index - 1
        if not 0 <= place < len(self.records):
            return None
        record = self.records[place]
        return Tip(record.index, record.epoch, record.hash)

    def copied(self) -> "Image":
        """A copy that changes by itself; the records, being frozen, are shared."""
        image = copy.copy(self)
        image.records, image.cells = list(self.records), dict(self.cells)
        return image


Change = Callable[[Image], None]


class Write(NamedTuple):
    """One call on its way to the disk. `torn` gives what is left when only its first records arrived."""

    change: Change
    torn: Callable[[int], Change] | None = None


class MemoryDisk:
    """What survives an incarnation: a durable image, and writes that were not yet fsynced."""

    def __init__(self) -> None:
        self._durable = Image()
        self._written = self._durable.copied()
        self._volatile: list[Write] = []
        self._hardened = 0  # writes that became durable since the disk was made
        self._incarnation = 0

    @property
    def volatile(self) -> int:
        """How many writes a crash could lose."""
        return len(self._volatile)

    def crash(self, keep: int = 0, torn: int = 0) -> None:
        """Cut the power: of the volatile writes only the first `keep` survive, and `torn` records of the next one.

        Torn is harder than a journal in SQLite, where a transaction is there or not; a write with cells, a snapshot or
        a cut is never torn. Every store on this disk is refused from now on.
        """
        for write in self._volatile[:keep]:
            write.change(self._durable)
        if torn and keep < len(self._volatile) and (half := self._volatile[keep].torn) is not None:
            half(torn)(self._durable)
        self._volatile.clear()
        self._written = self._durable.copied()
        self._incarnation += 1

    def damage(self, index: int) -> None:
        """Flip a bit in the events of a durable record."""
        place = index - self._durable.base.index - 1
        record = self._durable.records[place]
        events = bytes([record.events[0] ^ 1]) + record.events[1:]
        self._durable.records[place] = Record(record.index, record.epoch, events, record.marks, record.hash)
        self._written = self._durable.copied()

    def attach(self) -> int:
        """Begin an incarnation: what the last one wrote without a power cut is carried over. Returns its number."""
        self.harden(self._hardened + len(self._volatile))
        self._incarnation += 1
        return self._incarnation

    def write(self, incarnation: int, write: Write) -> int:
        """Put a write into the volatile tail and return its number, counted from 1."""
        self._refuse_dead(incarnation)
        write.change(self._written)
        self._volatile.append(write)
        return self._hardened + len(self._volatile)

    def harden(self, upto: int) -> None:
        """Make all writes up to this number durable."""
        count = max(upto - self._hardened, 0)
        for write in self._volatile[:count]:
            write.change(self._durable)
        del self._volatile[:count]
        self._hardened += count

    def durable(self, incarnation: int) -> Image:
        """The image that was fsynced."""
        self._refuse_dead(incarnation)
        return self._durable

    def written(self, incarnation: int) -> Image:
        """The image as it will be once everything is fsynced."""
        self._refuse_dead(incarnation)
        return self._written

    def _refuse_dead(self, incarnation: int) -> None:
        if incarnation != self._incarnation:
            raise StoreFault("The journal in memory belongs to another incarnation now.")


async def no_fsync() -> None:
    """The hook of a disk that is durable at once."""


class _Waiting(NamedTuple):
    number: int
    done: "asyncio.Future[None]"


class MemoryStore:
    """A journal on a MemoryDisk; without arguments one that is durable at once and forgotten with it."""

    def __init__(self, disk: MemoryDisk | None = None, fsync: Fsync = no_fsync, name: str = "in memory") -> None:
        self.path = name
        self._disk = disk if disk is not None else MemoryDisk()
        self._incarnation = self._disk.attach()
        self._fsync = fsync
        self._fault: StoreFault | None = None
        self._waiting: list[_Waiting] = []
        self._flushing: asyncio.Task[None] | None = None
        self._scope = TaskScope(f"journal {name}", self._fail)
        self._counts = dict.fromkeys(("commits", "calls", "records"), 0)

    @property
    def _image(self) -> Image:
        return self._disk.durable(self._incarnation)

    @property
    def tip(self) -> Tip:
        """The durable end of the log."""
        return self._image.tip

    @property
    def first(self) -> int:
        """The lowest index still readable."""
        return self._image.base.index + 1

    @property
    def fault(self) -> StoreFault | None:
        """Why the store cannot go on, or None."""
        return self._fault

    def cell(self, name: str) -> bytes | None:
        """Return a local cell as it is on disk."""
        return self._image.cells.get(name)

    def statistics(self) -> dict[str, int]:
        """Return counters since opening and what is kept and waiting now."""
        saved = self._image.saved
        return self._counts | {
            "first": self.first,
            "tip": self.tip.index,
            "snapshot": saved.index if saved else 0,
            "calls_waiting": len(self._waiting),
        }

    async def read(self, after: int, *, records_max: int = 1_000, bytes_max: int = 4 << 20) -> list[Record]:
        """Read durable records behind `after`, checked, at most 1,000; raises LookupError when already trimmed."""
        self._refuse_when_over()
        image = self._image
        if after >= image.tip.index:
            return []
        if after < image.base.index:
            raise LookupError(f"records up to {image.base.index} were trimmed")
        place = after - image.base.index
        records = image.records[place : place + min(records_max, READ_RECORDS_MAX)]
        size = 0
        for count, record in enumerate(records, 1):
            size += len(record.events) + len(record.marks)
            if size >= bytes_max:
                del records[count:]
                break
        self._check(image, after, records)
        return records

    async def replay(self, after: int) -> AsyncIterator[list[Record]]:
        """Yield every durable record behind `after` in large batches, the whole chain checked on the way."""
        self._refuse_when_over()
        image, end = self._image, self.tip.index
        if after < image.base.index:
            raise LookupError(f"records up to {image.base.index} were trimmed")
        while after < end:
            place = after - image.base.index
            records = image.records[place : place + REPLAY_RECORDS_MAX]
            self._check(image, after, records)
            after = records[-1].index
            yield records

    def _check(self, image: Image, after: int, records: list[Record]) -> None:
        start = image.tip_at(after)
        assert start is not None
        try:
            check(start, records)
        except ChainBroken as broken:
            self._fail(damage(self.path, broken))
            self._refuse_when_over()

    async def snapshot(self) -> Snapshot | None:
        """Return the durable snapshot."""
        self._refuse_when_over()
        return self._image.saved

    async def append(self, entries: Sequence[Entry], cells: Mapping[str, bytes] | None = None) -> Tip:
        """Append entries and set cells, durable on return; raises StoreFault."""
        named = self._checked(cells)
        records = link(self._disk.written(self._incarnation).tip, entries)

        def change(image: Image) -> None:
            image.records += records
            image.cells.update(named)

        def torn(count: int) -> Change:
            return lambda image: image.records.extend(records[:count])

        tip = Tip(records[-1].index, records[-1].epoch, records[-1].hash) if records else None
        self._counts["calls"] += 1
        self._counts["records"] += len(records)
        await self._write(Write(change, None if named else torn))
        return tip or self.tip

    async def set_cells(self, cells: Mapping[str, bytes]) -> None:
        """Set cells, durable on return."""
        await self.append((), cells)

    async def truncate_after(self, index: int, cells: Mapping[str, bytes] | None = None) -> Tip:
        """Drop every record above index and set cells; refused below the snapshot."""
        named = self._checked(cells)
        written = self._disk.written(self._incarnation)
        refuse_truncation(index, written.recovery.index)
        index = min(index, written.tip.index)
        tip = written.tip_at(index)
        if tip is None:
            raise StoreFault(f"The journal cannot be cut behind record {index}: that record is not there.")

        def change(image: Image) -> None:
            del image.records[max(index - image.base.index, 0) :]
            image.cells.update(named)

        await self._write(Write(change))
        return tip

    async def add_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot of our own log in place of the one before."""
        self._refuse_when_over()
        written = self._disk.written(self._incarnation)
        new = Tip(snapshot.index, snapshot.epoch, snapshot.hash)
        refuse_snapshot(new, written.tip_at(snapshot.index), written.tip, written.recovery.index)

        def change(image: Image) -> None:
            image.saved = snapshot

        await self._write(Write(change))

    async def install_snapshot(self, snapshot: Snapshot, cells: Mapping[str, bytes] | None = None) -> Tip:
        """Replace the whole log by a snapshot; cells not named are kept."""
        named = self._checked(cells)
        tip = Tip(snapshot.index, snapshot.epoch, snapshot.hash)

        def change(image: Image) -> None:
            image.base, image.records, image.saved = tip, [], snapshot
            image.cells.update(named)

        await self._write(Write(change))
        return tip

    async def trim(self, upto: int) -> None:
        """Forget records up to `upto` or the snapshot's index, whichever is lower."""
        self._refuse_when_over()
        saved = self._disk.written(self._incarnation).saved
        last = min(upto, saved.index if saved else 0)

        def change(image: Image) -> None:
            base = image.tip_at(last)
            if last > image.base.index and base is not None:
                del image.records[: last - image.base.index]
                image.base = base

        await self._write(Write(change))

    async def close(self) -> None:
        """Let what was written become durable, then refuse everything; safe to call twice."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        self._fail(StoreFault(f"The journal {self.path} is closed."))
        await self._scope.close()

    async def _write(self, write: Write) -> None:
        number = self._disk.write(self._incarnation, write)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(number, done))
        if self._flushing is None:
            self._flushing = self._scope.start(self._flush(), "fsync")
        await done

    async def _flush(self) -> None:
        try:
            while self._waiting and self._fault is None:
                group = self._waiting
                self._waiting = []
                try:
                    await self._fsync()
                    self._disk.durable(self._incarnation)  # refused when the power was cut meanwhile
                except (OSError, StoreFault) as error:
                    self._waiting = group + self._waiting
                    self._fail(disk_fault(self.path, error) if isinstance(error, OSError) else error)
                    return
                self._counts["commits"] += 1
                self._disk.harden(group[-1].number)
                for one in group:
                    if not one.done.done():
                        one.done.set_result(None)
        finally:
            self._flushing = None

    def _fail(self, error: BaseException) -> None:
        if self._fault is not None:
            return
        self._fault = error if isinstance(error, StoreFault) else StoreFault(f"The journal {self.path}: {error!r}.")
        for one in self._waiting:
            if not one.done.done():
                one.done.set_exception(again(self._fault))
        self._waiting = []

    def _refuse_when_over(self) -> None:
        if self._fault is not None:
            raise again(self._fault)

    def _checked(self, cells: Mapping[str, bytes] | None) -> dict[str, bytes]:
        self._refuse_when_over()
        if cells:
            refuse_cells(self.path, cells)
        return dict(cells or {})
