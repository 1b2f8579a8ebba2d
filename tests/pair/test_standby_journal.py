"""A standby keeps its journal short: snapshots of its own log, trimmed as the owner's is, whatever comes between.

Tests: engine/pair/replica.py, engine/pair/node.py
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from engine.base.wire import Accepted
from engine.ports import Snapshot
from engine.rules.pair.state import Role
from engine.simulation.world import InlineSnapshotMaker
from tests.pair.pairs import A, B, Half, Pair
from tests.runtime.linked import pass_ms, until, virtual
from tests.support.counting import CountingMachine


async def adds(half: Half, count: int) -> None:
    for _ in range(count):
        await half.add(1)


def saved(half: Half) -> int:
    found: Snapshot | None = half.disk._durable.saved
    return 0 if found is None else found.index


def first(half: Half) -> int:
    return half.disk._durable.base.index + 1


async def trims(half: Half) -> None:
    """Let an acting half make a snapshot and trim, as its keeper would."""
    store, shown = half.store, half.loop.shown
    await store.add_snapshot(await InlineSnapshotMaker(store, CountingMachine()).make(shown))
    await store.trim(shown)


@virtual
async def test_a_standby_makes_snapshots_and_keeps_what_the_owner_keeps() -> None:
    async with Pair(B={"every_records": 10}) as pair:
        await pair.init()
        await pair.couple()
        await adds(pair.a, 25)
        await until(lambda: saved(pair.b) > 10)
        assert first(pair.b) == 1, "the owner has trimmed nothing yet"
        await trims(pair.a)
        await pass_ms(1_100)  # a beat says so
        await adds(pair.a, 15)
        await until(lambda: first(pair.b) > 10)
        assert first(pair.b) <= first(pair.a)
        assert saved(pair.b) <= pair.b.replica.me.commit
        assert pair.b.replica.me.log.base == saved(pair.b)
        keeper = pair.b.node.keeper
        assert keeper is not None
        assert (keeper.snapshots >= 2, keeper.failures) == (True, 0)
        await until(pair.is_same)


@virtual
async def test_who_takes_over_replays_only_what_lies_behind_its_snapshot() -> None:
    async with Pair(every_records=10) as pair:
        await pair.init()
        await pair.couple()
        await adds(pair.a, 40)
        await until(lambda: saved(pair.b) > 20)
        replayed: list[int] = []
        replay = pair.b.store.replay

        def counted(after: int) -> Any:
            replayed.append(after)
            return replay(after)

        pair.b.store.replay = counted  # type: ignore[method-assign]
        await pair.a.crash()
        await until(lambda: pair.b.status == "solo" and pair.b.node.loop is not None)
        assert replayed == [saved(pair.b)]
        assert pair.b.loop.state.total == 40
        await adds(pair.b, 15)
        await pair.a.boot()
        await pair.couple()
        await until(pair.is_same)
        assert pair.b.node.keeper is not None
        made = pair.b.node.keeper.snapshots
        await adds(pair.b, 30)
        assert pair.b.node.keeper.snapshots == made, "the role's own keeper does it now"


@virtual
async def test_an_owner_with_a_snapshot_brings_on_a_peer_with_an_empty_disk() -> None:
    async with Pair(every_records=10) as pair:
        await pair.init()
        await pair.couple()
        await adds(pair.a, 30)
        await until(lambda: saved(pair.b) > 10)
        await pair.a.crash()
        await until(lambda: pair.b.status == "solo" and pair.b.node.loop is not None)
        pair.a.disk._durable.records.clear()
        pair.a.disk._durable.saved = None
        pair.a.disk._durable.cells.clear()
        pair.a.disk.crash()
        await pair.a.boot()
        await pair.couple()
        await pair.b.add(5)
        await until(pair.is_same)


class SlowMaker(InlineSnapshotMaker):
    """Makes its snapshot, and hands it over when the test says so."""

    def __init__(self, half: Half) -> None:
        super().__init__(half.store, CountingMachine())
        self.gate = asyncio.Event()
        self.made: list[Snapshot] = []

    async def make(self, upto: int) -> Snapshot:
        snapshot = await super().make(upto)
        self.made.append(snapshot)
        await self.gate.wait()
        return snapshot


def with_maker(half: Half) -> SlowMaker:
    maker = SlowMaker(half)
    keeper = half.node.keeper
    assert keeper is not None
    keeper._maker = maker
    return maker


async def _nothing(_pair: Pair) -> None:
    return


async def _an_install(pair: Pair) -> None:
    """The owner's snapshot takes the place of B's log while B's own is on its way."""
    pair.network.cut(A, B)
    await until(lambda: pair.a.status == "solo")
    await adds(pair.a, 20)
    await trims(pair.a)
    pair.a.replica._sender._recent.clear()  # what is new is sent from memory, though it is trimmed
    pair.network.heal()
    await pair.couple()


async def _a_takeover(pair: Pair) -> None:
    await pair.a.crash()
    await until(lambda: pair.b.status == "solo" and pair.b.node.loop is not None)


async def _more_records(pair: Pair) -> None:
    await adds(pair.a, 3)


async def race(between: Callable[[Pair], Coroutine[Any, Any, None]]) -> tuple[bool, bool]:
    """Let something happen between the making of B's snapshot and its keeping; returns what became of it."""
    async with Pair(B={"every_records": 10}) as pair:
        await pair.init()
        await pair.couple()
        maker = with_maker(pair.b)
        await adds(pair.a, 15)
        await until(lambda: maker.made != [])
        index = maker.made[0].index
        await between(pair)
        maker.gate.set()
        await pass_ms(2_500)
        kept, keeper = saved(pair.b) >= index, pair.b.node.keeper
        assert keeper is not None
        acting = pair.acting
        await acting.add(1)
        if len(pair.cell.value.insync) == 2:  # type: ignore[union-attr]
            await until(pair.is_same)
        assert (pair.a.given_up, pair.b.given_up) == ([], [])
        return kept, keeper.failures > 0


@virtual
async def test_a_snapshot_that_was_made_is_kept() -> None:
    assert await race(_nothing) == (True, False)


@virtual
async def test_records_that_come_meanwhile_do_not_matter() -> None:
    assert await race(_more_records) == (True, False)


@virtual
async def test_the_owners_snapshot_comes_in_between() -> None:
    assert await race(_an_install) == (True, True), "the owner's covers more; ours was not kept"


@virtual
async def test_who_takes_over_while_a_snapshot_is_made_drops_it() -> None:
    assert await race(_a_takeover) == (False, False)


@virtual
async def test_a_snapshot_waits_for_the_write_that_is_under_way() -> None:
    async with Pair(B={"every_records": 10}) as pair:
        await pair.init()
        await pair.couple()
        maker = with_maker(pair.b)
        await adds(pair.a, 12)
        await until(lambda: maker.made != [])
        pair.b.disk.gate.clear()
        answer = pair.a.add(1)
        await until(lambda: pair.b.replica.me.writing)
        maker.gate.set()
        await pass_ms(200)
        assert saved(pair.b) == 0
        pair.b.disk.gate.set()
        assert isinstance(await answer, Accepted)
        await until(lambda: saved(pair.b) == maker.made[0].index)
        assert pair.b.replica.me.log.base == saved(pair.b)
        assert pair.b.replica.me.role is Role.STANDBY
