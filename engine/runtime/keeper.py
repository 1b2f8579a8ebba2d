"""Keeper: snapshots and retention of a node's journal, beside the loop. Floor 5.

* A snapshot is made when enough has been appended since the last one, never above what is acknowledged.
* Records are trimmed up to the snapshot, but not beyond what a reader still needs, within bounds.
* A snapshot that can not be made is a line in the log and another try later; the node goes on.
"""

from collections.abc import Callable
from typing import Any, Protocol

from engine.base.log import logger
from engine.ports import SnapshotMaker, Store, StoreFault

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
        store: Store,
        maker: SnapshotMaker,
        shown: Shown,
        tip: Callable[[], int],
        trim_upto: Callable[[int], int],
        every_records: int = SNAPSHOT_EVERY_RECORDS,
    ) -> None:
        """`tip`: the highest index that is acknowledged. `trim_upto(snapshot index)`: up to where records may go."""
        self.snapshots = 0
        self.failures = 0
        self._store = store
        self._maker = maker
        self._shown = shown
        self._tip = tip
        self._trim_upto = trim_upto
        self._every_records = every_records

    async def run(self) -> None:
        """Keep on; ends only with its node."""
        latest = await self._store.snapshot()
        index = 0 if latest is None else latest.index
        del latest
        while True:
            await self._shown.wait(index + self._every_records)
            index = self._tip()
            try:
                snapshot = await self._maker.make(index)
            except StoreFault as fault:
                self.failures += 1
                log.warning("no snapshot", index=index, reason=str(fault))
                continue
            await self._store.add_snapshot(snapshot)
            self.snapshots += 1
            upto = self._trim_upto(snapshot.index)
            if upto >= self._store.first:
                await self._store.trim(upto)
