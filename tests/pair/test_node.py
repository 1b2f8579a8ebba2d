"""A node that is one of a pair, over all its life: a standby, an actor, a standby again.

Tests: engine/pair/node.py, engine/pair/replica.py
"""

import asyncio
from typing import Any

import pytest

from engine.base.limits import BATCHES_IN_FLIGHT_MAX
from engine.base.problem import EngineClosed
from engine.base.wire import Accepted
from engine.pair.cells import NONCE, STORE_ID
from engine.pair.node import UnfitPlace, UnsafeTimes
from engine.ports import StoreFault
from engine.rules.pair.times import Times
from engine.runtime.mailbox import Work
from engine.runtime.supervisor import RESTARTS_MAX, SteppedDown
from tests.pair.pairs import CLUSTER, A, B, Pair
from tests.runtime.linked import pass_ms, until, virtual


@virtual
async def test_an_answer_is_not_given_before_the_standby_has_it() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        feed, effects = pair.a.node.role.feed, pair.a.node.role.effects
        told = len(effects)
        pair.b.disk.gate.clear()
        answer = pair.a.add(5)
        read: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        pair.a.loop.post(Work(read=lambda state, _: state.total, done=read.set_result))
        await pass_ms(1_000)
        assert pair.a.loop.state.total == 5
        tip = feed.tip.index
        assert (answer.done(), read.done(), effects[told:], tip) == (False, False, [], pair.b.disk.image()[0])
        pair.b.disk.gate.set()
        assert (await answer, await read, effects[told:]) == (Accepted(tip + 1, 0), 5, [5])


@virtual
async def test_when_the_standby_dies_answers_stall_for_its_silence_and_go_on() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await pair.b.crash()
        began = asyncio.get_running_loop().time()
        answers = [pair.a.add(1) for _ in range(20)]
        await pass_ms(1_400)
        assert not any(one.done() for one in answers)
        await asyncio.gather(*answers)
        assert 1.4 < asyncio.get_running_loop().time() - began < 2.9, "of virtual time"
        assert pair.a.status == "solo"
        assert pair.a.ended == [], "it went on, it was not booted again"


@virtual
async def test_the_wait_for_the_standby_keeps_nothing_from_learning_that_it_is_gone() -> None:
    """The pipeline is full of turns that wait for the standby; what ends the wait is in none of them."""
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await pair.b.crash()
        waiting = []
        for _ in range(3 * BATCHES_IN_FLIGHT_MAX):
            waiting.append(pair.a.add(1))
            await pass_ms(10)
        assert pair.a.loop.statistics()["batches_in_flight"] == BATCHES_IN_FLIGHT_MAX
        assert not any(one.done() for one in waiting)
        urgent: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        pair.a.loop.post(Work(read=lambda state, _: state.total, done=urgent.set_result), urgent=True)
        await pass_ms(10)
        assert len(pair.a.loop.mailbox) == 3 * BATCHES_IN_FLIGHT_MAX - BATCHES_IN_FLIGHT_MAX, (
            "it was decided all the same"
        )
        await asyncio.gather(*waiting, urgent)
        assert pair.a.replica.me.epoch > 2


@virtual
async def test_while_fenced_everything_is_held_and_the_same_epoch_goes_on() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        pair.cell.down = True
        pair.network.cut(A, B)
        await until(lambda: pair.a.status == "fenced")
        feed, epoch = pair.a.node.role.feed, pair.a.replica.me.epoch
        answer, tip = pair.a.add(3), feed.tip
        await pass_ms(5_000)
        assert (answer.done(), feed.tip) == (False, tip)
        pair.network.heal()
        await answer
        assert (pair.a.replica.me.epoch, pair.a.ended) == (epoch, [])


@virtual
async def test_stepping_down_ends_the_incarnation_and_is_nobodys_failure() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        for _ in range(RESTARTS_MAX + 2):
            acting = pair.acting
            other = pair.b if acting is pair.a else pair.a
            role, waiting = acting.node.role, acting.add(1)
            await waiting
            pair.network.cut_one_way(acting.name, other.name)  # its beats are lost: the other takes over
            pair.network.cut_one_way(other.name, acting.name)
            pair.cell.deaf = [acting.name]
            cas = pair.cell.cas
            pair.cell.cas = _only(other.name, cas)  # type: ignore[method-assign]
            stranded = acting.add(1)
            await until(lambda other=other: other.status == "solo")  # type: ignore[misc]
            pair.cell.cas = cas  # type: ignore[method-assign]
            pair.network.heal()
            await until(lambda role=role: role.loop.closed_reason is not None)  # type: ignore[misc]
            await pair.couple()
            assert isinstance(stranded.result(), EngineClosed), "whoever waited is told"
        ended = [*pair.a.ended, *pair.b.ended]
        assert len(ended) >= RESTARTS_MAX + 2
        assert all(isinstance(one, SteppedDown) for one in ended)
        await until(pair.is_same)


def _only(owner: str, cas: Any) -> Any:
    async def only(expected: Any, new: Any) -> Any:
        return await cas(expected, new) if new.owner == owner else expected

    return only


@virtual
async def test_a_clean_end_of_both_leaves_nothing_and_the_next_boot_goes_on() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await pair.a.add(4)
        for half in (pair.a, pair.b):
            await half.supervisor.close()
        assert (pair.a.ended, pair.b.ended) == ([], []), "nobody is told that a node ended which was closed"
        for half in (pair.b, pair.a):
            await half.boot()
        await pair.couple()
        await until(lambda: pair.acting.node.loop is not None)
        assert pair.acting.loop.state.total == 4
        await pair.acting.add(1)
        assert pair.is_same()


@virtual
async def test_one_that_is_closed_while_it_begins_to_act_closes_whole() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await pair.a.add(1)
        await pair.b.supervisor.close()
        await pair.a.supervisor.close()
        await pair.a.boot()  # claims again, and waits for B's leave before anything of it is seen
        await until(lambda: pair.a.status == "fenced", 20_000)
        assert pair.a.node.loop is None
        await pair.a.supervisor.close()
        assert pair.a.ended == []
        await pair.a.boot()
        await pair.b.boot()
        await pair.couple()
        await until(lambda: pair.acting.node.loop is not None)
        await pair.acting.add(1)


@virtual
async def test_records_of_an_activation_that_took_long_carry_the_epoch_of_then() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await pair.b.crash()
        await pair.a.crash()  # both are in sync; A claims again and finds nobody
        await pair.a.boot()
        await until(lambda: pair.a.status == "solo" and pair.a.node.loop is not None, 20_000)
        await pair.a.add(1)
        assert pair.a.disk.records()[-1].epoch == pair.a.replica.me.epoch
        assert pair.a.disk.records()[-2].epoch == pair.a.replica.me.epoch
        await pair.b.boot()
        await pair.couple()


@virtual
async def test_a_role_that_can_not_be_opened_ends_the_node_and_it_is_counted() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await pair.a.crash()
        opened: list[int] = []

        async def fails(*_: Any) -> None:
            opened.append(1)
            raise OSError(98, "the address is in use")

        boot = pair.b._boot
        pair.b.node._open_role = fails  # type: ignore[assignment]

        await until(lambda: pair.b.ended != [])
        assert "in use" in str(pair.b.ended[0])
        await until(lambda: pair.b.status == "solo", 20_000)
        assert (opened, boot) == ([1], boot)
        assert pair.b.given_up == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"times": Times(wait_ms=3_000)}, UnsafeTimes),
        ({"peer": B}, UnfitPlace),
        ({"peer_url": "sim://B"}, UnfitPlace),
    ],
)
@virtual
async def test_what_can_not_be_right_is_refused_at_start(options: dict[str, Any], error: type[Exception]) -> None:
    pair = Pair(B=options)
    with pytest.raises(error):
        await pair.b.open()
    await pair.a.open()
    await pair.a.supervisor.close()


@virtual
async def test_a_pair_of_two_clusters_is_readable_on_both_sides() -> None:
    async with Pair(B={"cluster": "another"}) as pair:
        await until(lambda: pair.a.node.problem is not None and pair.b.node.problem is not None)
        codes = [half.node.problem.code for half in pair.halves.values() if half.node.problem]
        assert codes == ["NotMine", "NotMine"]


@virtual
async def test_a_pair_whose_times_differ_never_acts_together() -> None:
    async with Pair(B={"times": Times(lease_ms=2_900)}) as pair:
        await pair.init()
        await pass_ms(5_000)
        assert (pair.a.status, pair.b.status) == ("solo", "standby")
        assert pair.a.node.problem is not None
        assert pair.a.node.problem.code == "TimesDiffer"
        assert "lease_ms: " in pair.a.node.problem.sentence


@virtual
async def test_without_a_register_nobody_begins_and_says_so() -> None:
    async with Pair() as pair:
        await pass_ms(10_000)
        assert (pair.a.status, pair.b.status) == ("standby", "standby")
        assert f"knows no cluster {CLUSTER}" in pair.a.replica.alarms[-1]


@virtual
async def test_a_damaged_record_keeps_a_node_from_beginning() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await pair.a.add(1)
        await pair.b.supervisor.close()
        pair.b.disk.damage(1)
        with pytest.raises(StoreFault, match="1"):
            await pair.b.boot()
        await until(lambda: pair.a.status == "solo")


@virtual
async def test_a_disk_that_was_replaced_is_out_of_sync_whatever_its_name() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await pair.a.add(7)
        await pair.a.crash()
        pair.a.disk._durable.records.clear()
        pair.a.disk._durable.cells.clear()
        pair.a.disk.crash()
        await pair.a.boot()
        await until(lambda: pair.b.status in ("solo", "coupled"), 20_000)
        await pair.couple()
        assert pair.b.status == "coupled"
        assert pair.b.loop.state.total == 7
        await until(pair.is_same)


@virtual
async def test_an_older_copy_of_the_owners_disk_takes_nothing_over_and_tells_a_person() -> None:
    """R16: the disk of A is put back to what it was before its last start; B is away."""
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await pair.a.crash()
        backup = dict(pair.a.disk._durable.cells)
        await pair.a.boot()
        await until(lambda: pair.a.status == "coupled", 20_000)
        assert pair.cell.value is not None
        assert pair.cell.value.nonce == pair.a.replica.who.incarnation
        await pair.b.crash()
        await pair.a.crash()
        pair.a.disk._durable.cells[NONCE] = backup[NONCE]
        assert pair.a.disk._durable.cells[STORE_ID] == backup[STORE_ID]
        await pair.a.boot()
        await pass_ms(30_000)
        assert pair.a.status == "standby"
        assert any("older copy" in one for one in pair.a.replica.alarms)
