import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from engine.base.ids import START, Cursor
from engine.base.problem import EngineClosed
from engine.journal import feed as module
from engine.journal.feed import Diverged, Feed, FeedReader, TooOld
from engine.journal.memory import MemoryStore
from engine.journal.record import EMPTY_TIP, link
from engine.ports import Record, Snapshot
from tests.journal.stores import entries, snapshot_at


class Site:
    """A store, the feed on it, and the loop's part in between."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.feed = Feed(self.store, START)
        self.unpublished: list[Record] = []

    async def append(self, count: int, epoch: int = 1, *, publish: bool = True, size: int = 20) -> None:
        tip = self.store.tip
        new = entries(tip.index + 1, count, epoch, size)
        await self.store.append(new)
        self.unpublished += link(tip, new)
        if publish:
            self.publish(len(self.unpublished))

    def publish(self, count: int) -> None:
        self.feed.publish(self.unpublished[:count])
        del self.unpublished[:count]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    one = Site()
    yield one
    one.feed.close("the test is over")
    await one.store.close()


@pytest.fixture
def small_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RING_RECORDS_MAX", 20)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def read_to(reader: FeedReader, index: int, **bounds: int) -> list[int]:
    seen: list[int] = []
    while not seen or seen[-1] < index:
        records = await reader.next(**bounds)
        assert records
        assert reader.cursor == Cursor(records[-1].index, records[-1].epoch)
        seen += [record.index for record in records]
    return seen


async def test_history_then_live_without_a_seam(site: Site, small_ring: None) -> None:
    await site.append(100)
    reader = site.feed.reader(START)
    assert await read_to(reader, 100, records_max=7) == list(range(1, 101))
    waiting = asyncio.ensure_future(reader.next())
    await settle()
    assert not waiting.done()
    await site.append(3)
    assert [record.index for record in await waiting] == [101, 102, 103]


async def test_what_is_durable_but_not_published_is_not_shown(site: Site, small_ring: None) -> None:
    await site.append(60)
    await site.append(30, publish=False)
    for start in (START, Cursor(30, 1), Cursor(58, 1)):  # from the store, from the store, from the ring
        reader = site.feed.reader(start)
        assert (await read_to(reader, 60))[-1] == 60
        waiting = asyncio.ensure_future(reader.next())
        await settle()
        assert not waiting.done()
        waiting.cancel()
        await settle()
    site.publish(10)
    assert await read_to(site.feed.reader(Cursor(60, 1)), 70) == list(range(61, 71))


async def test_many_readers_at_their_own_pace_see_everything_once(site: Site, small_ring: None) -> None:
    draw = random.Random(7)
    paces = [draw.randint(1, 40) for _ in range(12)]
    runs = [asyncio.ensure_future(read_to(site.feed.reader(START), 500, records_max=pace)) for pace in paces]
    while site.store.tip.index < 500:
        await site.append(draw.randint(1, 25), publish=draw.random() < 0.7)
        if draw.random() < 0.5:
            site.publish(draw.randint(0, len(site.unpublished)))
    site.publish(len(site.unpublished))
    for seen in await asyncio.gather(*runs):
        assert seen == list(range(1, seen[-1] + 1))
        assert seen[-1] >= 500


async def test_a_slow_reader_costs_no_memory(site: Site, small_ring: None) -> None:
    slow = site.feed.reader(START)
    await slow.confirm()
    for _ in range(20):
        await site.append(50)
        assert site.feed.statistics()["ring_records"] <= 20
    assert await read_to(slow, 1_000) == list(range(1, 1_001))


async def test_the_ring_is_bounded_in_bytes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RING_BYTES_MAX", 10_000)
    reader = site.feed.reader(START)
    for _ in range(10):
        await site.append(9, size=1_000)
        figures = site.feed.statistics()
        assert figures["ring_bytes"] <= 10_000
        assert figures["ring_bytes"] == figures["ring_records"] * 1_000
    await site.append(1, size=50_000)
    assert site.feed.statistics()["ring_bytes"] == 0
    assert await read_to(reader, 91) == list(range(1, 92))


async def test_one_answer_is_bounded_in_bytes(site: Site) -> None:
    await site.append(10, size=1_000)
    reader = site.feed.reader(START)
    assert [record.index for record in await reader.next(bytes_max=2_500)] == [1, 2, 3]
    assert [record.index for record in await reader.next(bytes_max=1)] == [4]


async def test_readers_are_woken_once_per_publication(site: Site) -> None:
    await site.append(1)
    reader = site.feed.reader(Cursor(1, 1))
    waiting = asyncio.ensure_future(reader.next())
    await settle()
    await site.append(50, publish=False)
    site.publish(20)
    site.publish(30)
    assert len(await waiting) == 50  # all that is there when it runs


@pytest.mark.parametrize(
    "cursor, fault",
    [
        (Cursor(11, 1), Diverged),  # behind the published end
        (Cursor(5, 2), Diverged),  # the ring knows another epoch
        (Cursor(10, 2), Diverged),
        (Cursor(0, 1), Diverged),
        (Cursor(10, 1), None),
        (Cursor(5, 1), None),
        (Cursor(0, 0), None),
    ],
)
async def test_a_cursor_is_confirmed_first(site: Site, cursor: Cursor, fault: type[Exception] | None) -> None:
    await site.append(10)
    await site.append(5, publish=False)
    reader = site.feed.reader(cursor)
    if fault is None:
        await reader.confirm()
        return
    for _ in range(2):
        with pytest.raises(fault) as caught:
            await reader.next()
    assert caught.value.first == 1  # type: ignore[attr-defined]
    assert str(cursor.index) in str(caught.value)


async def test_another_epoch_in_the_history_is_found(site: Site, small_ring: None) -> None:
    await site.append(50, epoch=1)
    await site.append(50, epoch=3)
    await site.feed.reader(Cursor(50, 1)).confirm()
    await site.feed.reader(Cursor(51, 3)).confirm()
    for wrong in (Cursor(50, 3), Cursor(51, 1), Cursor(20, 2)):
        with pytest.raises(Diverged):
            await site.feed.reader(wrong).confirm()


async def test_trimmed_readers_are_too_old(site: Site, small_ring: None) -> None:
    await site.append(100, epoch=2)
    reader = site.feed.reader(START)
    await reader.next(records_max=10)
    at_60 = (await site.store.read(59, records_max=1))[0]
    await site.store.add_snapshot(Snapshot(60, 2, at_60.hash, b"state"))
    await site.store.trim(60)
    with pytest.raises(TooOld, match="stands at record 10, and the journal begins at record 61") as caught:
        await reader.next()
    assert caught.value.first == 61
    for old in (START, Cursor(30, 2), Cursor(59, 2)):
        with pytest.raises(TooOld):
            await site.feed.reader(old).confirm()
    at_snapshot = site.feed.reader(Cursor(60, 2))  # its epoch is known from the snapshot
    assert await read_to(at_snapshot, 100) == list(range(61, 101))
    with pytest.raises(Diverged):
        await site.feed.reader(Cursor(60, 1)).confirm()


async def test_a_cursor_before_the_first_record_of_unknown_epoch_is_too_old(site: Site, small_ring: None) -> None:
    await site.append(100)
    await site.store.add_snapshot(snapshot_at(site.store.tip))
    await site.store.trim(60)
    with pytest.raises(TooOld):
        await site.feed.reader(Cursor(60, 1)).confirm()
    assert await read_to(site.feed.reader(Cursor(61, 1)), 100) == list(range(62, 101))


async def test_wait_for_an_index(site: Site) -> None:
    await site.append(5)
    await site.feed.wait(5)
    waits = [asyncio.ensure_future(site.feed.wait(index)) for index in (9, 7, 7, 12)]
    await settle()
    await site.append(2)
    await settle()
    assert [one.done() for one in waits] == [False, True, True, False]
    await site.append(3)
    await settle()
    assert [one.done() for one in waits] == [True, True, True, False]
    waits[3].cancel()
    await asyncio.gather(waits[3], return_exceptions=True)
    assert site.feed.statistics()["waits"] == 0


async def test_close_ends_everybody(site: Site) -> None:
    await site.append(5)
    reader, at_end = site.feed.reader(START), site.feed.reader(Cursor(5, 1))
    calls = [asyncio.ensure_future(at_end.next()), asyncio.ensure_future(site.feed.wait(99))]
    await settle()
    site.feed.close("the disk failed")
    site.feed.close("again")
    for call in (*calls, reader.next(), site.feed.wait(1), reader.confirm()):
        with pytest.raises(EngineClosed, match="the disk failed"):
            await call
    site.feed.publish(link(EMPTY_TIP, entries(1, 1)))  # a late publication is nobody's business any more


async def test_a_cancelled_reader_goes_on_where_it_was(site: Site) -> None:
    await site.append(5)
    reader = site.feed.reader(Cursor(5, 1))
    call = asyncio.ensure_future(reader.next())
    await settle()
    with pytest.raises(RuntimeError, match="already waiting"):
        await reader.next()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert site.feed.statistics()["readers_waiting"] == 0
    await site.append(2)
    assert [record.index for record in await reader.next()] == [6, 7]


async def test_publication_without_continuity_is_a_mistake(site: Site) -> None:
    await site.append(5)
    for wrong in (entries(7, 1), entries(5, 2), entries(6, 1) + entries(8, 1)):
        records = [Record(one.index, one.epoch, one.events, one.marks, b"") for one in wrong]
        with pytest.raises(ValueError, match="behind 5"):
            site.feed.publish(records)
    site.feed.publish([])
    assert site.feed.tip == Cursor(5, 1)


async def test_a_feed_that_begins_in_the_middle(site: Site) -> None:
    await site.append(50)
    feed = Feed(site.store, Cursor(50, 1))  # as after a restart: nothing is in the ring
    assert await read_to(feed.reader(Cursor(20, 1)), 50) == list(range(21, 51))
    await feed.reader(Cursor(50, 1)).confirm()
    with pytest.raises(Diverged):
        await feed.reader(Cursor(50, 2)).confirm()
