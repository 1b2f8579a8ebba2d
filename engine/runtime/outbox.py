"""Outbox: what a node without a journal has to tell, kept until the reader has it durable. Floor 5.

* Numbered anew for each session: a new reader gets everything not yet acknowledged as records 1, 2, …
* Reports that wait for the same turn of the reader go out as one record.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.base.codec import encode
from engine.base.ids import Cursor

REPORTS_PER_RECORD_MAX = 500


class OutboxRecord(msgspec.Struct, frozen=True):
    """Reports on their way, packed as an array."""

    index: int
    epoch: int
    events: bytes


class _Report:
    __slots__ = ("body", "ends", "key")

    def __init__(self, key: str, body: Any, *, ends: bool) -> None:
        self.key = key
        self.body = body
        self.ends = ends


class Outbox:
    """A record source (runtime.session.RecordSource) for one reader at a time."""

    def __init__(self) -> None:
        self._waiting: list[_Report] = []  # not yet in a record of this session
        self._sent: dict[int, list[_Report]] = {}  # record index → its reports, not yet acknowledged
        self._index = 0
        self._news = asyncio.Event()
        self._reader: OutboxReader | None = None

    @property
    def tip(self) -> Cursor:
        """How many records a new reader gets at once."""
        count = len(self._waiting) + sum(map(len, self._sent.values()))
        return Cursor(-(-count // REPORTS_PER_RECORD_MAX), 1)

    def __len__(self) -> int:
        return len(self._waiting) + sum(map(len, self._sent.values()))

    def put(self, key: str, body: Any, *, ends: bool) -> None:
        """Add a report about an attempt; `ends`: the last one."""
        self._waiting.append(_Report(key, body, ends=ends))
        self._news.set()

    def reader(self, cursor: Cursor) -> "OutboxReader":
        """Begin a session: everything not acknowledged is told again, from record 1."""
        again = [report for reports in self._sent.values() for report in reports]
        self._waiting[:0] = again
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
        while self._waiting and len(records) < records_max:
            part = self._waiting[:REPORTS_PER_RECORD_MAX]
            del self._waiting[:REPORTS_PER_RECORD_MAX]
            self._index += 1
            self._sent[self._index] = part
            records.append(OutboxRecord(self._index, 1, encode([report.body for report in part])))
        return records


class OutboxReader:
    """One session's place in an outbox."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def next(self, records_max: int) -> Sequence[OutboxRecord]:
        """Return the next records, at least one; waits for them."""
        return await self._outbox.next(self, records_max)
