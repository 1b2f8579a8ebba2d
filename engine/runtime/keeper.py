"""Keeper: snapshots and retention of a node's journal, beside the loop. Floor 5.

* A snapshot is made when enough has been appended since the last one, never above what is acknowledged.
* Records are trimmed up to the snapshot, but not beyond what a reader still needs, within bounds.
* A snapshot that can not be made, or that does not fit the journal any more, is a line in the log and another try
  later; the node goes on.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from engine.base.log import logger
from engine.journal.retention import Bounds, Growth, Hold, Sample, decide_trim
from engine.journal.snapshots import SnapshotFailed
from engine.ports import Clock, Snapshot, SnapshotMaker, Store

SNAPSHOT_EVERY_RECORDS = 100_000

log = logger("keeper")


class Shown(Protocol):
    """The feed, as far as the keeper looks at it."""

    async def wait(self, index: int) -> Any:
        """Return once the index is published."""


class Keeper:
    """Makes snapshots of one store for as long as its node lives."""

    def __init__(
        self,
        *,
        store: Store,
        maker: SnapshotMaker,
        feed: Shown,
        clock: Clock,
        shown: Callable[[], int],
        written_bytes: Callable[[], int],
        holds: Callable[[], Sequence[Hold]],
        every_records: int = SNAPSHOT_EVERY_RECORDS,
        bounds: Bounds | None = None,
        add: Callable[[Snapshot], Awaitable[bool]] | None = None,
    ) -> None:
        """`shown`: the highest index that is acknowledged; `written_bytes`: appended since the start; `holds`: who must
        still read what; `add`: keeps a snapshot, or says False where the journal has changed meanwhile.
        """
        self.snapshots = 0
        self.failures = 0
        self._store = store
        self._maker = maker
        self._feed = feed
        self._clock = clock
        self._shown = shown
        self._written_bytes = written_bytes
        self._holds = holds
        self._every_records = every_records
        self._bounds = bounds or Bounds()
        self._growth = Growth()
        self._add = add or self._add_always

    async def run(self) -> None:
        """Keep on; ends only with its node."""
        latest = await self._store.snapshot()
        index = 0 if latest is None else latest.index
        del latest
        while True:
            await self._feed.wait(index + self._every_records)
            index = self._shown()
            try:
                snapshot = await self._maker.make(index)
            except SnapshotFailed as failure:
                self.failures += 1
                log.warning("no snapshot", index=index, reason=str(failure))
                continue
            if not await self._add(snapshot):
                self.failures += 1
                log.warning("a snapshot is not of this journal any more", index=index)
                continue
            self.snapshots += 1
            await self._trim(snapshot.index)

    async def _add_always(self, snapshot: Snapshot) -> bool:
        await self._store.add_snapshot(snapshot)
        return True

    async def _trim(self, snapshot_index: int) -> None:
        now = Sample(self._shown(), self._clock.now_ms(), self._written_bytes())
        self._growth.note(now)
        decision = decide_trim(
            snapshot_index=snapshot_index,
            acknowledged_index=now.index,
            holds=self._holds(),
            growth=self._growth,
            now=now,
            bounds=self._bounds,
        )
        for name in decision.lost:
            log.warning("a reader keeps back more than it may and must begin anew", reader=name)
        if decision.upto >= self._store.first:
            await self._store.trim(decision.upto)
            self._growth.forget(decision.upto)
