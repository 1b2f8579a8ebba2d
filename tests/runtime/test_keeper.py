"""The keeper: snapshots when enough was appended, trimming behind them within what readers need."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from engine.base.problem import EngineClosed
from engine.journal.retention import Bounds, Hold
from engine.journal.snapshots import SnapshotFailed
from engine.ports import Snapshot, StoreFault
from engine.runtime.keeper import Keeper


class Bench:
    """A journal that grows by a word, and a maker that does what the test says."""

    def __init__(self, **options: Any) -> None:
        self.shown = 0
        self.first = 1
        self.made: list[int] = []
        self.trimmed: list[int] = []
        self.holding: list[Hold] = []
        self.saved: Snapshot | None = None
        self.make_one: Callable[[int], Coroutine[Any, Any, None]] = self.at_once
        self._news = asyncio.Condition()
        self.now = 0
        self.written = 0
        self.keeper = Keeper(
            store=self,  # type: ignore[arg-type]
            maker=self,
            feed=self,
            clock=self,
            shown=lambda: self.shown,
            written_bytes=lambda: self.written,
            holds=lambda: self.holding,
            every_records=10,
            **options,
        )
        self.running = asyncio.ensure_future(self.keeper.run())

    async def at_once(self, upto: int) -> None:
        return

    def now_ms(self) -> int:
        return self.now

    def monotonic_ms(self) -> int:
        return self.now

    async def wait(self, index: int) -> None:
        async with self._news:
            await self._news.wait_for(lambda: self.shown >= index)

    async def grow(self, upto: int) -> None:
        async with self._news:
            self.shown = upto
            self._news.notify_all()
        for _ in range(20):
            await asyncio.sleep(0)

    async def make(self, upto: int) -> Snapshot:
        self.made.append(upto)
        await self.make_one(upto)
        return Snapshot(upto, 1, bytes(16), b"")

    async def snapshot(self) -> Snapshot | None:
        return self.saved

    async def add_snapshot(self, snapshot: Snapshot) -> None:
        self.saved = snapshot

    async def trim(self, upto: int) -> None:
        self.trimmed.append(upto)
        self.first = upto + 1

    async def close(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


async def test_a_snapshot_is_made_when_enough_was_appended() -> None:
    bench = Bench()
    await bench.grow(9)
    assert bench.made == []
    await bench.grow(13)
    assert (bench.made, bench.trimmed) == ([13], [13])
    await bench.grow(22)
    assert bench.made == [13]
    await bench.grow(23)
    assert (bench.made, bench.keeper.snapshots, bench.trimmed) == ([13, 23], 2, [13, 23])
    await bench.close()


async def test_the_distance_is_kept_across_a_restart() -> None:
    bench = Bench()
    bench.saved = Snapshot(100, 1, bytes(16), b"")
    await bench.grow(105)
    assert bench.made == []
    await bench.grow(110)
    assert bench.made == [110]
    await bench.close()


async def test_a_failure_is_counted_and_tried_again_later() -> None:
    bench = Bench()

    async def fails(upto: int) -> None:
        raise SnapshotFailed("no")

    bench.make_one = fails
    await bench.grow(10)
    assert (bench.keeper.failures, bench.saved) == (1, None)
    bench.make_one = bench.at_once
    await bench.grow(19)
    assert bench.made == [10]
    await bench.grow(20)
    assert (bench.made, bench.keeper.snapshots) == ([10, 20], 1)
    await bench.close()


async def test_what_is_appended_meanwhile_waits_for_the_next() -> None:
    bench = Bench()
    gate = asyncio.Event()

    async def slow(upto: int) -> None:
        await gate.wait()

    bench.make_one = slow
    await bench.grow(10)
    await bench.grow(50)
    assert (bench.made, bench.trimmed) == ([10], [])
    gate.set()
    await bench.grow(50)
    assert (bench.made, bench.trimmed) == ([10, 50], [10, 50])
    await bench.close()


async def test_a_reader_holds_records_back_until_it_holds_back_too_much() -> None:
    bench = Bench(bounds=Bounds(bytes_max=1_000, age_ms_max=1_000))
    bench.holding = [Hold("controller", 4)]
    await bench.grow(10)
    assert bench.trimmed == [3]
    bench.now, bench.written = 500_000, 10 << 20
    await bench.grow(20)
    bench.now, bench.written = 900_000, 20 << 20
    await bench.grow(30)
    assert bench.trimmed[-1] == 30, "who keeps back too much is told TooOld"
    await bench.close()


@pytest.mark.parametrize("error", [StoreFault("the disk is full"), EngineClosed("it is over")])
async def test_a_fault_of_the_store_is_not_hidden(error: Exception) -> None:
    bench = Bench()

    async def refuses(snapshot: Snapshot) -> None:
        raise error

    bench.add_snapshot = refuses  # type: ignore[method-assign]
    await bench.grow(10)
    with pytest.raises(type(error)):
        await bench.running


async def test_a_snapshot_that_fits_no_more_is_not_kept_and_nothing_is_trimmed() -> None:
    bench = Bench(add=_refuses)
    await bench.grow(10)
    assert (bench.keeper.failures, bench.keeper.snapshots, bench.saved, bench.trimmed) == (1, 0, None, [])
    await bench.grow(20)
    assert (bench.made, bench.keeper.failures) == ([10, 20], 2)
    await bench.close()


async def _refuses(_snapshot: Snapshot) -> bool:
    return False
