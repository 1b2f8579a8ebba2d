"""The feed: published records to any number of readers, history and live without a seam. Floor 4.

* The loop publishes a record when it may be seen; the feed never shows an index above the published one, although the
  store may hold more.
* The newest records stay in a bounded ring; a reader that falls behind it reads from the store, so slow readers cost
  nothing and lose nothing.
* A reader is at one cursor and has one `next` under way at most.
* Publishing wakes each waiting reader once, whatever the number of records.
"""

import asyncio
import heapq
from collections.abc import Sequence

from engine.base.ids import Cursor
from engine.base.problem import EngineClosed
from engine.ports import Record, Store

RING_RECORDS_MAX = 20_000
RING_BYTES_MAX = 32 << 20
NEXT_RECORDS_MAX = 1_000  # of one answer
NEXT_BYTES_MAX = 4 << 20  # beyond it an answer ends, with one record at least


class Diverged(Exception):
    """The reader's cursor is not of this journal: at its index stands another epoch, or the journal is shorter."""

    def __init__(self, cursor: Cursor, tip: Cursor, first: int) -> None:
        super().__init__(cursor, tip, first)
        self.cursor = cursor
        self.tip = tip
        self.first = first

    def __str__(self) -> str:
        return (
            f"the reader holds record {self.cursor.index} of epoch {self.cursor.epoch}, which is not in this journal"
            f" (it ends at {self.tip.index}, epoch {self.tip.epoch}); it must begin anew"
        )


class TooOld(Exception):
    """The records behind the reader's cursor were trimmed; `first` is the first index still readable."""

    def __init__(self, cursor: Cursor, first: int) -> None:
        super().__init__(cursor, first)
        self.cursor = cursor
        self.first = first

    def __str__(self) -> str:
        return (
            f"the reader stands at record {self.cursor.index}, and the journal begins at record {self.first};"
            " it must begin anew"
        )


class Feed:
    """The published part of one journal; `tip` is where it ends."""

    def __init__(self, store: Store, tip: Cursor) -> None:
        self.tip = tip
        self._store = store
        self._ring: list[Record] = []
        self._ring_bytes = 0
        self._sleeping: dict[FeedReader, asyncio.Future[None]] = {}
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap by index; the second breaks ties
        self._waited = 0
        self._closed: str | None = None

    def publish(self, records: Sequence[Record]) -> None:
        """Show records that continue the published ones, and wake who waits for them; O(records + waiting readers).

        Their hashes are not looked at. Raises ValueError for a gap.
        """
        if not records or self._closed is not None:
            return
        if records[0].index != self.tip.index + 1 or records[-1].index != self.tip.index + len(records):
            raise ValueError(f"published {records[0].index} to {records[-1].index} behind {self.tip.index}")
        self._ring += records
        self._ring_bytes += sum([len(record.events) for record in records])
        if len(self._ring) > RING_RECORDS_MAX or self._ring_bytes > RING_BYTES_MAX:
            self._shorten()
        self.tip = Cursor(records[-1].index, records[-1].epoch)
        sleeping, self._sleeping = self._sleeping, {}
        for future in sleeping.values():
            if not future.done():
                future.set_result(None)
        while self._waiting and self._waiting[0][0] <= self.tip.index:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    def reader(self, cursor: Cursor) -> "FeedReader":
        """Return a reader behind `cursor`; its first call says whether the cursor is of this journal."""
        return FeedReader(self, cursor)

    async def wait(self, index: int) -> None:
        """Return once `index` is published; raises EngineClosed."""
        self.refuse_when_closed()
        if index <= self.tip.index:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waited += 1
        heapq.heappush(self._waiting, (index, self._waited, future))
        try:
            await future
        finally:
            if future.cancelled():
                self._waiting = [one for one in self._waiting if one[2] is not future]
                heapq.heapify(self._waiting)

    def close(self, reason: str) -> None:
        """End everybody who reads or waits with EngineClosed; safe to call twice."""
        if self._closed is not None:
            return
        self._closed = reason
        futures = [*self._sleeping.values(), *(one[2] for one in self._waiting)]
        self._sleeping, self._waiting, self._ring = {}, [], []
        for future in futures:
            if not future.done():
                future.set_exception(EngineClosed(reason))

    def statistics(self) -> dict[str, int]:
        """Return what is kept and who waits now."""
        return {
            "tip": self.tip.index,
            "ring_records": len(self._ring),
            "ring_bytes": self._ring_bytes,
            "readers_waiting": len(self._sleeping),
            "waits": len(self._waiting),
        }

    def refuse_when_closed(self) -> None:
        """Raise EngineClosed when the feed is over."""
        if self._closed is not None:
            raise EngineClosed(self._closed)

    def live(self, after: int, records_max: int, bytes_max: int) -> list[Record] | None:
        """Take records behind `after` from the ring; None when they are not in it any more (or none is published)."""
        place = after - self.tip.index + len(self._ring)
        if not 0 <= place < len(self._ring):
            return None
        records = self._ring[place : place + records_max]
        return records if self._ring_bytes <= bytes_max else cut(records, bytes_max)

    async def history(self, after: int, records_max: int, bytes_max: int) -> list[Record]:
        """Read published records behind `after` from the store; raises LookupError when they were trimmed."""
        upto = self.tip.index
        records = await self._store.read(after, records_max=min(records_max, upto - after), bytes_max=bytes_max)
        self.refuse_when_closed()
        return records

    async def epoch_at(self, index: int) -> int | None:
        """Return the epoch of a published record, None where nothing is known of it any more."""
        if index == 0:
            return 0
        if index == self.tip.index:
            return self.tip.epoch
        place = index - 1 - self.tip.index + len(self._ring)
        if 0 <= place < len(self._ring):
            return self._ring[place].epoch
        try:
            return (await self._store.read(index - 1, records_max=1))[0].epoch
        except LookupError:
            saved = await self._store.snapshot() if index == self._store.first - 1 else None
            return saved.epoch if saved is not None and saved.index == index else None

    @property
    def first(self) -> int:
        """The first index still readable."""
        return self._store.first

    def sleep(self, reader: "FeedReader") -> "asyncio.Future[None]":
        """Return what ends with the next publication."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeping[reader] = future
        return future

    def forget(self, reader: "FeedReader") -> None:
        """A reader does not wait any more."""
        self._sleeping.pop(reader, None)

    def _shorten(self) -> None:
        # Down to three quarters, so that the shift of the list is paid once in a while and not with every record.
        ring = self._ring
        count = max(len(ring) - RING_RECORDS_MAX * 3 // 4, 0)
        size = self._ring_bytes - sum([len(record.events) for record in ring[:count]])
        while size > RING_BYTES_MAX * 3 // 4 and count < len(ring):
            size -= len(ring[count].events)
            count += 1
        del ring[:count]
        self._ring_bytes = size


class FeedReader:
    """One reader and its cursor."""

    def __init__(self, feed: Feed, cursor: Cursor) -> None:
        self.cursor = cursor
        self._feed = feed
        self._confirmed = False
        self._busy = False

    async def confirm(self) -> None:
        """Check that the cursor is of this journal; raises Diverged, TooOld, EngineClosed. `next` does it by itself."""
        feed, cursor = self._feed, self.cursor
        feed.refuse_when_closed()
        if self._confirmed:
            return
        if cursor.index > feed.tip.index:
            raise Diverged(cursor, feed.tip, feed.first)
        if cursor.index < feed.first - 1:
            raise TooOld(cursor, feed.first)
        epoch = await feed.epoch_at(cursor.index)
        feed.refuse_when_closed()
        if epoch is None:
            raise TooOld(cursor, feed.first)
        if epoch != cursor.epoch:
            raise Diverged(cursor, feed.tip, feed.first)
        self._confirmed = True

    async def next(self, records_max: int = NEXT_RECORDS_MAX, bytes_max: int = NEXT_BYTES_MAX) -> list[Record]:
        """Return the next published records, at least one, and move the cursor behind them; waits at the end.

        Raises Diverged, TooOld, EngineClosed. Cancelling it moves nothing.
        """
        if self._busy:
            raise RuntimeError("this reader is already waiting for its next records")
        self._busy = True
        try:
            if not self._confirmed:
                await self.confirm()
            records = await self._take(min(records_max, NEXT_RECORDS_MAX), bytes_max)
        finally:
            self._busy = False
            self._feed.forget(self)
        self.cursor = Cursor(records[-1].index, records[-1].epoch)
        return records

    async def _take(self, records_max: int, bytes_max: int) -> list[Record]:
        feed, after = self._feed, self.cursor.index
        while True:
            feed.refuse_when_closed()
            if after >= feed.tip.index:
                await feed.sleep(self)
                continue
            records = feed.live(after, records_max, bytes_max)
            if records is not None:
                return records
            try:
                return await feed.history(after, records_max, bytes_max)
            except LookupError:
                raise TooOld(self.cursor, feed.first) from None


def cut(records: list[Record], bytes_max: int) -> list[Record]:
    """Cut a list behind the record with which it reaches `bytes_max`."""
    size = 0
    for count, record in enumerate(records, 1):
        size += len(record.events)
        if size >= bytes_max:
            return records[:count]
    return records
