"""Outbox: what a node without a journal has to tell, kept until the reader has it durable. Floor 5.

* Numbered anew for each session: a new reader gets everything not yet acknowledged as records 1, 2, …
* Reports that wait for the same turn of the reader go out as one record, within bounds of number and size.
* A report is encoded when it is put, so that what can not be encoded is the putter's problem and no reader's.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import msgspec

from engine.base.codec import encode, pack
from engine.base.ids import Cursor

REPORTS_PER_RECORD_MAX = 500
RECORD_BYTES_AIM = 1 << 20  # with the report that passes it a record is full


class OutboxRecord(msgspec.Struct, frozen=True):
    """Reports on their way, packed as an array."""

    index: int
    epoch: int
    events: bytes


class _Report:
    __slots__ = ("body", "ends", "key")

    def __init__(self, key: str, body: bytes, *, ends: bool) -> None:
        self.key = key
        self.body = body
        self.ends = ends


class Outbox:
    """A record source (runtime.session.RecordSource) for one reader at a time."""

    def __init__(self) -> None:
        self._waiting: deque[_Report] = deque()  # not yet in a record of this session
        self._sent: dict[int, list[_Report]] = {}  # record index → its reports, not yet acknowledged
        self._index = 0
        self._news = asyncio.Event()
        self._reader: OutboxReader | None = None

    @property
    def tip(self) -> Cursor:
        """How many records a new reader gets at once."""
        everything = deque(self._unacknowledged())
        count = 0
        while everything:
            _next_part(everything)
            count += 1
        return Cursor(count, 1)

    def __len__(self) -> int:
        return len(self._waiting) + sum(map(len, self._sent.values()))

    def put(self, key: str, body: Any, *, ends: bool) -> None:
        """Add a report about an attempt; `ends`: the last one. Raises what the encoder raises."""
        self._waiting.append(_Report(key, encode(body), ends=ends))
        self._news.set()

    def reader(self, cursor: Cursor) -> "OutboxReader":
        """Begin a session: everything not acknowledged is told again, from record 1."""
        self._waiting = deque(self._unacknowledged())
        self._sent.clear()
        self._index = 0
        if self._waiting:
            self._news.set()
        self._reader = OutboxReader(self)
        return self._reader

    def acknowledged(self, index: int) -> list[str]:
        """Drop the records up to an index; return the keys of attempts whose last report was among them."""
        ended: list[str] = []
        for number in [one for one in self._sent if one <= index]:
            ended.extend(report.key for report in self._sent.pop(number) if report.ends)
        return ended

    async def next(self, reader: "OutboxReader", records_max: int) -> Sequence[OutboxRecord]:
        """Return the next records for the present reader; an older one waits for ever."""
        while reader is not self._reader or not self._waiting:
            self._news.clear()
            await self._news.wait()
        records: list[OutboxRecord] = []
        size_bytes = 0
        while self._waiting and len(records) < records_max and size_bytes < RECORD_BYTES_AIM:
            part = _next_part(self._waiting)
            self._index += 1
            self._sent[self._index] = part
            records.append(OutboxRecord(self._index, 1, pack([report.body for report in part])))
            size_bytes += len(records[-1].events)
        return records

    def _unacknowledged(self) -> Iterable[_Report]:
        return chain(*self._sent.values(), self._waiting)


def _next_part(waiting: deque[_Report]) -> list[_Report]:
    """Take the reports of one record; how the same reports are parted depends on nothing but their order."""
    part: list[_Report] = []
    size_bytes = 0
    while waiting and len(part) < REPORTS_PER_RECORD_MAX and size_bytes < RECORD_BYTES_AIM:
        report = waiting.popleft()
        size_bytes += len(report.body)
        part.append(report)
    return part


class OutboxReader:
    """One session's place in an outbox."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def next(self, records_max: int) -> Sequence[OutboxRecord]:
        """Return the next records, at least one; waits for them."""
        return await self._outbox.next(self, records_max)
