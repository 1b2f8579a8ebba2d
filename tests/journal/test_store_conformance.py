"""What every store does, whatever it is made of.

Tests: engine/journal/refusals.py, engine/journal/memory.py, engine/journal/sqlite_store.py
Tests: engine/journal/sqlite_read.py, engine/journal/sqlite_write.py
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.base.limits import EVENTS_BYTES_MAX
from engine.journal.record import EMPTY_TIP, MARKS_BYTES_MAX, check, link
from engine.journal.refusals import CELL_BYTES_MAX, READ_RECORDS_MAX
from engine.ports import Entry, Snapshot, StoreFault
from tests.journal.stores import KINDS, OpenStore, Site, contents, entries, everything, snapshot_at


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    return Site(request.param, tmp_path)


@pytest.fixture
async def store(site: Site) -> AsyncIterator[OpenStore]:
    opened = await site.open()
    yield opened
    await opened.close()


async def reopened(site: Site, store: OpenStore) -> OpenStore:
    await store.close()
    return await site.open()


# --- append and read -------------------------------------------------------------------------------------------------


async def test_a_new_log_is_empty(store: OpenStore) -> None:
    assert store.tip == EMPTY_TIP
    assert store.first == 1
    assert await store.read(0) == []
    assert await store.snapshot() is None
    assert store.cell("incarnation") is None


async def test_appended_entries_come_back_chained(site: Site, store: OpenStore) -> None:
    written = entries(1, 5) + entries(6, 3, epoch=4)
    tip = await store.append(written)
    assert tip == store.tip
    assert (tip.index, tip.epoch) == (8, 4)
    records = await store.read(0)
    assert contents(records) == contents(written)
    assert check(EMPTY_TIP, records) == tip
    assert records == link(EMPTY_TIP, written)
    again = await reopened(site, store)
    assert again.tip == tip
    assert await everything(again) == records
    await again.close()


async def test_an_empty_append_changes_nothing(store: OpenStore) -> None:
    tip = await store.append(entries(1, 2))
    assert await store.append([]) == tip
    assert store.tip == tip


@pytest.mark.parametrize(
    "wrong",
    [
        entries(4, 1),  # a gap
        entries(2, 1),  # the past
        entries(3, 2) + entries(4, 1),  # a repetition inside
        entries(3, 1) + entries(5, 1),  # a gap inside
        entries(3, 1, epoch=0),  # a lower epoch
        entries(3, 1, epoch=2**63),
        entries(3, 1, size=EVENTS_BYTES_MAX + 1),
        [Entry(3, 1, b"", b"m" * (MARKS_BYTES_MAX + 1))],
    ],
)
async def test_what_does_not_continue_the_log_is_refused_and_changes_nothing(
    store: OpenStore, wrong: list[Entry]
) -> None:
    tip = await store.append(entries(1, 2))
    with pytest.raises(StoreFault, match=r"^Record \d+ was refused: "):
        await store.append(wrong, {"cell": b"with it"})
    assert store.tip == tip
    assert store.cell("cell") is None
    assert await store.append(entries(3, 1)) == store.tip
    assert contents(await store.read(0)) == contents(entries(1, 3))


async def test_the_largest_record_is_kept(site: Site, store: OpenStore) -> None:
    largest = Entry(1, 2**63 - 1, b"e" * EVENTS_BYTES_MAX, b"m" * MARKS_BYTES_MAX)
    await store.append([largest])
    again = await reopened(site, store)
    assert contents(await again.read(0)) == contents([largest])
    await again.close()


async def test_read_windows(store: OpenStore) -> None:
    await store.append(entries(1, 50, size=100))
    written = entries(1, 50, size=100)
    assert contents(await store.read(10, records_max=5)) == contents(written[10:15])
    assert contents(await store.read(49)) == contents(written[49:])
    assert await store.read(50) == []
    assert await store.read(70) == []
    assert contents(await store.read(10, bytes_max=1)) == contents(written[10:11])  # at least one
    sizes = sum(len(one.events) + len(one.marks) for one in written[10:14])
    assert contents(await store.read(10, bytes_max=sizes)) == contents(written[10:14])


async def test_one_read_is_bounded(store: OpenStore) -> None:
    await store.append(entries(1, READ_RECORDS_MAX + 10))
    assert len(await store.read(0, records_max=10 * READ_RECORDS_MAX)) == READ_RECORDS_MAX
    assert len(await store.read(READ_RECORDS_MAX)) == 10


async def test_replay_crosses_batches(store: OpenStore) -> None:
    for first in range(1, 10_001, 2_500):
        await store.append(entries(first, 2_500))
    batches = [batch async for batch in store.replay(17)]
    assert len(batches) > 1
    records = [record for batch in batches for record in batch]
    assert contents(records) == contents(entries(18, 10_000 - 17))
    assert records[-1].hash == store.tip.hash
    assert [batch async for batch in store.replay(10_000)] == []


# --- cells -----------------------------------------------------------------------------------------------------------


async def test_cells_are_kept_with_what_they_came_with(site: Site, store: OpenStore) -> None:
    await store.append(entries(1, 1), {"incarnation": b"1", "cfg": b"\x00\xff"})
    await store.set_cells({"incarnation": b"2", "ünï": b""})
    await store.truncate_after(1, {"log_epoch": b"7"})
    for _ in range(2):
        assert store.cell("incarnation") == b"2"
        assert store.cell("cfg") == b"\x00\xff"
        assert store.cell("ünï") == b""
        assert store.cell("log_epoch") == b"7"
        assert store.cell("another") is None
        store = await reopened(site, store)
    await store.close()


@pytest.mark.parametrize("cells", [{"": b""}, {"n" * 201: b""}, {"n": b"v" * (CELL_BYTES_MAX + 1)}, {"n": "text"}])
async def test_cells_beyond_their_bounds_are_refused(store: OpenStore, cells: dict[str, bytes]) -> None:
    with pytest.raises(StoreFault, match="refused to write"):
        await store.append(entries(1, 1), cells)
    assert store.tip.index == 0
    await store.append(entries(1, 1), {"n": b"v"})


# --- truncation ------------------------------------------------------------------------------------------------------


async def test_truncation_drops_what_is_above(site: Site, store: OpenStore) -> None:
    await store.append(entries(1, 5, epoch=1))
    at_3 = (await store.read(2, records_max=1))[0]
    tip = await store.truncate_after(3)
    assert tip == store.tip
    assert (tip.index, tip.epoch, tip.hash) == (3, 1, at_3.hash)
    await store.append(entries(4, 2, epoch=2))
    again = await reopened(site, store)
    assert contents(await everything(again)) == contents(entries(1, 3, epoch=1) + entries(4, 2, epoch=2))
    await again.close()


async def test_truncation_to_nothing_and_behind_the_end(store: OpenStore) -> None:
    tip = await store.append(entries(1, 5))
    assert await store.truncate_after(5) == tip
    assert await store.truncate_after(99) == tip
    assert await store.truncate_after(0) == EMPTY_TIP
    assert await store.read(0) == []
    await store.append(entries(1, 1))


async def test_truncation_below_the_snapshot_is_refused(store: OpenStore) -> None:
    await store.append(entries(1, 5))
    at_3 = (await store.read(2, records_max=1))[0]
    await store.add_snapshot(Snapshot(3, 1, at_3.hash, b"three"))
    with pytest.raises(StoreFault, match=r"cannot be cut behind record 2: its snapshot already stands at 3"):
        await store.truncate_after(2, {"log_epoch": b"9"})
    assert store.tip.index == 5
    assert store.cell("log_epoch") is None
    assert (await store.truncate_after(3)).hash == at_3.hash


# --- snapshots -------------------------------------------------------------------------------------------------------


async def test_a_snapshot_is_kept_in_place_of_the_one_before(site: Site, store: OpenStore) -> None:
    tip = await store.append(entries(1, 5))
    await store.add_snapshot(snapshot_at(tip, b"five"))
    tip = await store.append(entries(6, 5))
    large = bytes(range(256)) * 10_000
    await store.add_snapshot(snapshot_at(tip, large))
    await store.add_snapshot(snapshot_at(tip, large))  # the same once more
    for _ in range(2):
        assert await store.snapshot() == Snapshot(tip.index, tip.epoch, tip.hash, large)
        assert store.first == 1
        store = await reopened(site, store)
    await store.close()


async def test_an_empty_state_is_a_state(store: OpenStore) -> None:
    tip = await store.append(entries(1, 1))
    await store.add_snapshot(snapshot_at(tip, b""))
    assert await store.snapshot() == snapshot_at(tip, b"")


async def test_snapshots_that_do_not_belong_to_the_log_are_refused(store: OpenStore) -> None:
    await store.append(entries(1, 5))
    records = await store.read(0)
    good = Snapshot(4, 1, records[3].hash, b"four")
    await store.add_snapshot(good)
    for wrong, sentence in (
        (Snapshot(6, 1, records[4].hash, b""), "the journal ends at 5"),
        (Snapshot(5, 1, records[3].hash, b""), "another hash"),
        (Snapshot(5, 2, records[4].hash, b""), "another hash"),
        (Snapshot(3, 1, records[2].hash, b""), "there is a newer one behind 4"),
    ):
        with pytest.raises(StoreFault, match=sentence):
            await store.add_snapshot(wrong)
    assert await store.snapshot() == good


async def test_an_installed_snapshot_replaces_the_log_and_keeps_the_cells(site: Site, store: OpenStore) -> None:
    await store.append(entries(1, 5), {"store id": b"mine", "log_epoch": b"1"})
    foreign = Snapshot(100, 7, b"h" * 16, b"of somebody else")
    tip = await store.install_snapshot(foreign, {"log_epoch": b"7"})
    assert (tip.index, tip.epoch, tip.hash) == (100, 7, b"h" * 16)
    for _ in range(2):
        assert store.tip == tip
        assert store.first == 101
        assert store.cell("store id") == b"mine"
        assert store.cell("log_epoch") == b"7"
        assert await store.snapshot() == foreign
        with pytest.raises(LookupError):
            await store.read(99)
        assert await store.read(100) == []
        store = await reopened(site, store)
    await store.append(entries(101, 2, epoch=7))
    assert contents(await store.read(100)) == contents(entries(101, 2, epoch=7))
    with pytest.raises(StoreFault, match="cannot be cut"):
        await store.truncate_after(99)
    assert await store.truncate_after(100) == tip
    await store.close()


async def test_a_lower_snapshot_can_be_installed(store: OpenStore) -> None:
    await store.append(entries(1, 50))
    tip = await store.install_snapshot(Snapshot(10, 1, b"x" * 16, b""))
    assert tip.index == 10
    await store.append(entries(11, 1))
    assert await everything(store) == await store.read(10)


# --- trim ------------------------------------------------------------------------------------------------------------


async def test_trim_forgets_up_to_the_snapshot_at_most(site: Site, store: OpenStore) -> None:
    await store.append(entries(1, 3_500))
    await store.trim(3_000)
    assert store.first == 1  # there is no snapshot yet
    at_3000 = (await store.read(2_999, records_max=1))[0]
    await store.add_snapshot(Snapshot(3_000, 1, at_3000.hash, b"state"))
    await store.trim(2_345)
    assert store.first == 2_346
    with pytest.raises(LookupError):
        await store.read(2_344)
    assert contents(await store.read(2_345, records_max=2)) == contents(entries(2_346, 2))
    await store.trim(1_000)
    assert store.first == 2_346
    await store.trim(9_999)
    for _ in range(2):
        assert store.first == 3_001
        with pytest.raises(LookupError):
            await store.read(0)
        assert contents(await everything(store)) == contents(entries(3_001, 500))
        assert (await store.snapshot() or at_3000).hash == at_3000.hash
        store = await reopened(site, store)
    await store.close()


async def test_a_log_trimmed_to_nothing_goes_on(site: Site, store: OpenStore) -> None:
    tip = await store.append(entries(1, 5))
    await store.add_snapshot(snapshot_at(tip))
    await store.trim(5)
    again = await reopened(site, store)
    assert again.tip == tip
    assert await everything(again) == []
    await again.append(entries(6, 1, epoch=2))
    assert [record.index for record in await everything(again)] == [6]
    await again.close()


async def test_replay_from_a_trimmed_place_is_a_lookup_error(store: OpenStore) -> None:
    tip = await store.append(entries(1, 5))
    await store.add_snapshot(snapshot_at(tip))
    await store.trim(3)
    with pytest.raises(LookupError):
        await anext(aiter(store.replay(2)))
    assert [record.index async for batch in store.replay(3) for record in batch] == [4, 5]


# --- many callers ----------------------------------------------------------------------------------------------------


async def test_many_callers_are_kept_in_order(site: Site, store: OpenStore) -> None:
    order: list[int] = []

    async def caller(number: int) -> None:
        tip = await store.append(entries(1 + 3 * number, 3), {f"cell {number % 10}": b"%d" % number})
        assert tip.index == 3 + 3 * number
        assert store.tip.index >= tip.index
        order.append(number)

    await asyncio.gather(*(caller(number) for number in range(400)))
    assert order == list(range(400))
    assert store.statistics()["commits"] < 400  # they shared
    again = await reopened(site, store)
    assert contents(await everything(again)) == contents(entries(1, 1_200))
    assert [again.cell(f"cell {digit}") for digit in range(10)] == [b"%d" % number for number in range(390, 400)]
    await again.close()


async def test_calls_of_all_kinds_follow_each_other(store: OpenStore) -> None:
    results = await asyncio.gather(
        store.append(entries(1, 5)),
        store.truncate_after(2),
        store.append(entries(3, 1, epoch=2)),
        store.append(entries(9, 1)),
        store.append(entries(4, 1, epoch=2)),
        return_exceptions=True,
    )
    assert [getattr(one, "index", type(one)) for one in results] == [5, 2, 3, StoreFault, 4]
    assert contents(await store.read(0)) == contents(entries(1, 2) + entries(3, 2, epoch=2))


async def test_a_cancelled_caller_changes_nothing_for_the_others(site: Site, store: OpenStore) -> None:
    calls = [asyncio.ensure_future(store.append(entries(1 + 2 * n, 2), {f"n{n}": b"1"})) for n in range(20)]
    await asyncio.sleep(0)  # all of them wait for the disk now
    for number in range(0, 20, 2):
        calls[number].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in results] == [True, False] * 10
    assert store.tip.index == 40
    assert all(store.cell(f"n{number}") == b"1" for number in range(20))
    again = await reopened(site, store)
    assert contents(await everything(again)) == contents(entries(1, 40))
    await again.close()


# --- endings ---------------------------------------------------------------------------------------------------------


async def test_close_writes_what_waits(site: Site, store: OpenStore) -> None:
    calls = [asyncio.ensure_future(store.append(entries(number, 1))) for number in range(1, 51)]
    await asyncio.sleep(0)
    await store.close()
    assert [tip.index for tip in await asyncio.gather(*calls)] == list(range(1, 51))
    again = await site.open()
    assert again.tip.index == 50
    await again.close()


async def test_everything_is_refused_after_close(store: OpenStore) -> None:
    tip = await store.append(entries(1, 1))
    await store.close()
    await store.close()
    for call in (
        store.append(entries(2, 1)),
        store.read(0),
        store.truncate_after(0),
        store.snapshot(),
        store.add_snapshot(snapshot_at(tip)),
        store.install_snapshot(snapshot_at(tip)),
        store.trim(1),
        store.set_cells({"a": b""}),
        anext(aiter(store.replay(0))),
    ):
        with pytest.raises(StoreFault, match="closed"):
            await call


async def test_close_of_a_cancelled_closer_goes_on(site: Site, store: OpenStore) -> None:
    call = asyncio.ensure_future(store.append(entries(1, 1)))
    await asyncio.sleep(0)
    closer = asyncio.ensure_future(store.close())
    await asyncio.sleep(0)
    closer.cancel()
    await asyncio.gather(closer, return_exceptions=True)
    assert (await call).index == 1
    again = await reopened(site, store)
    assert again.tip.index == 1
    await again.close()


async def test_statistics_are_integers_with_names(store: OpenStore) -> None:
    tip = await store.append(entries(1, 3))
    await store.add_snapshot(snapshot_at(tip))
    figures = store.statistics()
    assert figures["tip"] == 3
    assert figures["first"] == 1
    assert figures["snapshot"] == 3
    assert figures["records"] == 3
    assert figures["commits"] >= 2
