"""What one node of a pair appends, both have; and nobody acts without the other's leave.

Tests: engine/pair/replica.py, engine/pair/cells.py
"""

import asyncio
from random import Random

import pytest

from engine.base.pair import Beat, Cas, InstallSnapshot, Ownership, Rep, RepAck
from engine.base.wire import Accepted
from engine.journal.memory import MemoryStore
from engine.pair.cells import boot_state, store_id
from engine.pair.replica import ASKING_MAX, HELD_BYTES_MAX, HELD_MAX
from engine.ports import Entry, Snapshot, StoreFault
from engine.rules.pair.state import Keep, Role, Send
from engine.runtime.supervisor import SteppedDown
from engine.simulation.network import Weather
from tests.journal.stores import Site, entries
from tests.pair.pairs import A, B, Disk, Pair
from tests.runtime.linked import pass_ms, until, virtual


@pytest.mark.parametrize("seed", range(4))
@virtual
async def test_what_one_appends_both_have_byte_for_byte(seed: int) -> None:
    weather = Weather(latency_ms_max=30, tail_rate=0.05, tail_ms_max=300, reset_rate=0.01)
    async with Pair(seed, weather) as pair:
        await pair.init()
        random, asked = Random(seed), []
        for _ in range(150):
            if pair.a.status not in ("down", "standby") and pair.a.node.loop is not None:
                asked.append(pair.a.add(random.randint(1, 9)))
            await pass_ms(random.uniform(0, 60))
        pair.network.weather = Weather()
        await pair.couple()
        await until(pair.is_same)
        assert len(pair.a.disk.records()) > 100
        assert pair.a.disk.records() == pair.b.disk.records(), "events, marks and the chain of hashes"
        answers = [one.result() for one in asked if one.done()]
        assert all(isinstance(one, Accepted) for one in answers)


@pytest.mark.parametrize("kind", ["sqlite inline"])
def test_two_journals_in_sqlite_end_with_the_same_hash(tmp_path: object, kind: str) -> None:
    sites = {name: Site(kind, tmp_path / name) for name in (A, B)}  # type: ignore[operator]
    for name in (A, B):
        (tmp_path / name).mkdir()  # type: ignore[operator]

    @virtual
    async def main() -> None:
        options = {name: {"open_store": site.open} for name, site in sites.items()}
        async with Pair(**options) as pair:  # type: ignore[arg-type]
            await pair.init()
            await pair.couple()
            for amount in range(1, 30):
                await pair.a.add(amount)
            assert pair.a.store.tip == pair.b.store.tip
            assert pair.a.store.tip.index >= 30

    main()


@virtual
async def test_nothing_is_acknowledged_before_the_other_has_fsynced_it() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        before = pair.b.disk.image()
        pair.b.disk.gate.clear()
        answer = pair.a.add(5)
        await pass_ms(1_500)
        assert pair.a.disk.image()[0] == before[0] + 1, "it is durable at the one that acts"
        assert (answer.done(), pair.b.disk.image()) == (False, before)
        assert pair.a.replica.me.commit == before[0]
        pair.b.disk.gate.set()
        assert isinstance(await answer, Accepted)
        assert pair.is_same()


@virtual
async def test_a_lease_ends_and_with_it_the_leave_to_act() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        pair.cell.down = True  # so that nothing else can happen
        assert pair.a.replica.may_act()
        pair.network.cut(A, B)
        await pass_ms(pair.a.replica.who.times.lease_ms)
        assert not pair.a.replica.may_act()
        assert pair.a.status == "fenced"
        waiting = asyncio.ensure_future(pair.a.replica.acting())
        await pass_ms(2_000)
        assert not waiting.done()
        pair.network.heal()
        await waiting
        assert pair.a.status == "coupled"


@virtual
async def test_one_joins_from_empty_and_from_far_behind() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await pair.b.crash()
        await until(lambda: pair.a.status == "solo")
        store, replica = pair.a.store, pair.a.replica
        for first in range(replica.me.log.last + 1, 45_000, 5_000):  # more than any window, as the loop would append
            many = entries(first, 5_000, replica.me.epoch)
            await store.append(many)
            replica.appended(many)
        await pair.b.boot()
        await until(lambda: pair.a.status == "coupled")
        assert pair.is_same()
        pair.cell.value = None  # the loop's own count is behind now: let nothing follow from it


@virtual
async def test_one_joins_from_a_snapshot_when_the_records_are_trimmed() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await pair.b.crash()
        await until(lambda: pair.a.status == "solo")
        for amount in range(1, 20):
            await pair.a.add(amount)
        tip, state = pair.a.store.tip, bytes(Random(1).randbytes(3 << 20))
        await pair.a.store.add_snapshot(Snapshot(tip.index, tip.epoch, tip.hash, state))
        await pair.a.store.trim(tip.index)
        await pair.a.add(1)
        pair.a.replica._sender._recent.clear()  # else it has them still at hand
        await pair.b.boot()
        await pair.couple()
        await pair.a.add(2)
        assert pair.is_same()
        installed = await pair.b.store.snapshot()
        assert installed is not None
        assert (installed.index, installed.state) == (tip.index, state)


@virtual
async def test_a_tail_that_nobody_acknowledged_is_dropped() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        pair.network.cut_one_way(A, B)  # A does not know it yet: what it decides now nobody acknowledges
        lost = [pair.a.add(amount) for amount in range(1, 6)]
        await pass_ms(20)
        await pair.a.crash()
        await until(lambda: pair.b.status == "solo")
        pair.network.heal()
        kept = [await pair.b.add(amount) for amount in (7, 8)]
        tail = pair.a.disk.image()
        assert tail[0] > pair.b.disk.image()[0] - 3
        await pair.a.boot()
        await pair.couple()
        assert pair.is_same()
        assert pair.b.disk.image()[1] > tail[1], "A's tail is gone"
        assert all(isinstance(one, Accepted) for one in kept)
        assert not any(isinstance(one.result(), Accepted) for one in lost if one.done())


@virtual
async def test_an_owner_that_did_not_count_the_first_answer_asks_again() -> None:
    """The answer to the first Rep may come before the first BeatAck, which says whose store it is."""
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        pair.network.cut(A, B)
        await until(lambda: pair.a.status == "solo")
        pair.network.heal()
        await until(lambda: pair.a.status == "coupled", 10_000)


@virtual
async def test_what_was_under_way_when_a_connection_broke_is_sent_again_on_the_next() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await pass_ms(6_000)
        pair.network.cut_one_way(A, B)
        answer = pair.a.add(1)
        await pass_ms(20)
        pair.network.reset(A, B)
        pair.network.heal()
        await until(answer.done, 700)  # not after two beats without an answer


@virtual
async def test_a_write_that_hangs_delays_no_beat() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        pair.b.disk.gate.clear()
        pair.a.add(1)
        await pass_ms(8_000)
        assert pair.a.replica.may_act(), "B's disk hangs, and its leases still come"
        await until(lambda: pair.a.status == "solo", 5_000)  # R5: after ten beats it is given up
        pair.b.disk.gate.set()
        await pair.couple()
        await until(pair.is_same)


@virtual
async def test_an_owner_whose_own_disk_hangs_is_not_kept_alive_by_its_beats() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        pair.a.disk.gate.clear()
        pair.a.add(1)
        await until(lambda: pair.b.status in ("pending", "solo"), 9_000)
        pair.a.disk.gate.set()
        await until(lambda: pair.a.ended != [])
        assert isinstance(pair.a.ended[0], SteppedDown)
        await pair.couple()
        await until(pair.is_same)


@virtual
async def test_what_comes_while_a_write_is_under_way_is_held_within_bounds() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        replica = pair.b.replica
        pair.b.disk.gate.clear()
        answer = pair.a.add(1)
        await until(lambda: replica.me.writing)
        rep = Rep(replica.me.epoch, replica.me.log.last, replica.me.log.last_epoch)
        for _ in range(2 * HELD_MAX):
            replica.hear(rep)
        assert len(replica._held) <= HELD_MAX
        replica._held.clear()
        replica._held_bytes = 0
        hash16, head = b"h" * 16, replica.me.epoch
        for index in (90, 91):
            replica.hear(InstallSnapshot(head, f"{index}", index, head, hash16, 0, 20 << 20, bytes(20 << 20)))
        assert replica._held_bytes == 20 << 20 <= HELD_BYTES_MAX, "the second finds no room"
        replica._held.clear()
        replica._held_bytes = 0
        pair.b.disk.gate.set()
        assert isinstance(await answer, Accepted)


@virtual
async def test_a_question_to_the_register_that_hangs_keeps_no_other_from_being_put() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        release = asyncio.Event()
        read = pair.cell.read
        hung: list[str] = []

        async def hanging(cluster: str) -> Ownership | None:
            if not hung:
                hung.append(cluster)
                await release.wait()
            return await read(cluster)

        pair.cell.read = hanging  # type: ignore[method-assign]
        await pair.b.crash()
        await until(lambda: pair.a.status == "solo", 4_500)
        assert hung
        release.set()
        for _ in range(3 * ASKING_MAX):
            pair.a.replica._ask(Cas(pair.cell.value, pair.cell.value))  # type: ignore[arg-type]
        assert pair.a.replica._asking <= ASKING_MAX


@virtual
async def test_who_is_said_to_be_stale_believes_only_the_register() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await until(lambda: pair.b.replica.me.epoch == pair.a.replica.me.epoch)
        pair.cell.asked.clear()
        pair.a.replica.hear_of(99)
        await pass_ms(2_000)
        assert pair.cell.asked == ["read"], "asked once, not for ever"
        assert pair.a.status == "coupled"
        assert "Epoch 99" in pair.a.replica.alarms[-1]
        assert pair.cell.value is not None
        taken = Ownership("c", 99, B, pair.cell.value.insync, 77)
        pair.cell.value = taken
        pair.a.replica.hear_of(99)
        await until(lambda: pair.a.ended != [])
        assert "B owns epoch 99" in str(pair.a.ended[0])


@virtual
async def test_who_stepped_down_does_nothing_any_more() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        replica = pair.a.replica
        pair.a.disk.gate.clear()
        assert pair.cell.value is not None
        nonce = pair.a.replica.who.incarnation
        pair.cell.value = Ownership("c", 50, A, pair.cell.value.insync, nonce)
        replica.hear_of(50)
        await until(lambda: replica.me.writing)
        ended = replica.who
        replica.hear(Beat(60, 1, 0))
        assert replica.me.role is Role.ENDED
        pair.a.disk.gate.set()
        await pass_ms(50)
        assert (replica.me.role, replica.who) == (Role.ENDED, ended), "the write that ended later gave it no role again"
        await until(lambda: pair.a.status == "coupled", 20_000)


@virtual
async def test_a_disk_that_fails_ends_the_node_for_good() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        pair.b.disk.broken = True
        pair.a.add(1)
        await until(lambda: pair.b.given_up != [])
        assert isinstance(pair.b.given_up[0], StoreFault)
        await until(lambda: pair.a.status == "solo", 5_000)
        pair.b.given_up.clear()


@virtual
async def test_after_its_end_a_replica_takes_nothing() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        replica = pair.b.replica
        await pair.b.supervisor.close()
        last, own = replica.me.log.last, replica.me.cfg
        assert own is not None
        replica.hear(Rep(replica.me.epoch, last, replica.me.log.last_epoch))
        replica.hear_of(99)
        replica._do([Send(RepAck(1, 1, "x")), Keep(own, 9)])  # of an answer that was on its way
        assert (pair.b.ended, replica.me.writing) == ([], False)


async def test_a_boot_makes_durable_what_was_only_written() -> None:
    disk = Disk()
    hung = MemoryStore(disk, asyncio.Event().wait)  # type: ignore[arg-type]  # its answer is not looked at
    appending = asyncio.ensure_future(hung.append([Entry(1, 1, b"x")]))
    await asyncio.sleep(0)
    fsyncs = 0

    async def fsync() -> None:
        nonlocal fsyncs
        fsyncs += 1

    store = MemoryStore(disk, fsync)
    name = await store_id(store, lambda: "n")
    assert fsyncs == 1
    assert await store_id(store, lambda: "another") == name
    assert fsyncs == 2, "at each boot, for an acknowledgement may follow that writes nothing"
    me = await boot_state(store, 7)
    assert (me.log.last, me.last_grant_ms, me.role) == (1, 7, Role.STANDBY)
    await store.close()
    appending.cancel()
    await asyncio.wait([appending])
    await _let_go(hung)


async def _let_go(hung: MemoryStore) -> None:
    """End a store whose fsync never returns."""
    assert hung._flushing is not None
    hung._flushing.cancel()
    await hung.close()
