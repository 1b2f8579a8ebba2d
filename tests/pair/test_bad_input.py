"""What people get wrong with a pair: two real nodes, the refusal on both sides, and how it reads in the status.

Tests: engine/pair/peer.py, engine/pair/node.py, engine/pair/register_watch.py
"""

from typing import Any

import pytest

from engine.base.pair import Member, Ownership
from engine.pair.node import UnfitPlace, UnsafeTimes
from engine.rules.pair.times import Times
from tests.pair.pairs import CLUSTER, A, B, Half, Pair
from tests.runtime.linked import pass_ms, until, virtual


def _code(half: Half) -> str:
    return "" if half.node.problem is None else half.node.problem.code


async def refused_at_start(half: Half, error: type[Exception]) -> str:
    with pytest.raises(error) as caught:
        await half.open()
    return str(caught.value)


@virtual
async def test_two_nodes_with_one_id() -> None:
    pair = Pair(B={"own_url": "sim://B", "peer_url": "sim://A"})
    pair.b.name, pair.b._other = A, B  # both say that they are A, and each waits for a B
    async with pair:
        await until(lambda: all(half.node.problem is not None for half in (pair.a, pair.b)))
        for url in (A, B):
            status = await pair.status(url)
            assert (status.node, status.state, status.peer.connected) == (A, "standby", False)
            assert status.peer.problem is not None
            assert status.peer.problem.code in ("NotMyPeer", "WrongPeer")
            assert status.peer.stranger is not None
            assert "A is not the other node of this pair, which is B" in status.peer.stranger.sentence


@virtual
async def test_a_node_that_is_its_own_peer() -> None:
    for options in ({"peer": B}, {"peer_url": "sim://B"}):
        sentence = await refused_at_start(Pair(B=options).b, UnfitPlace)
        assert sentence == "B at sim://B can not be its own peer; name the other node of the pair."


@virtual
async def test_a_standby_of_another_cluster() -> None:
    async with Pair(B={"cluster": "another"}) as pair:
        await until(lambda: all(half.node.problem is not None for half in (pair.a, pair.b)))
        for url, cluster, other in ((A, CLUSTER, "another"), (B, "another", CLUSTER)):
            status = await pair.status(url, cluster)
            assert (status.cluster, status.state) == (cluster, "standby")
            assert status.peer.problem is not None
            expected = f"This node belongs to cluster {other}, not {cluster}"
            assert status.peer.problem.sentence.startswith(expected)


@virtual
async def test_a_third_node() -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        third = Half(pair, "C", B, type(pair.a.disk)())
        pair.halves["C"] = await third.open()
        await until(lambda: pair.halves["C"].node.problem is not None)
        there, here = await pair.status("C"), await pair.status(B)
        assert there.peer.problem is not None
        assert there.peer.problem.sentence.startswith("counter C is not the other node of this pair, which is A")
        assert here.peer.stranger == there.peer.problem
        assert here.peer.problem is None, "it speaks with its peer all the same"
        assert (there.state, here.state, here.peer.connected) == ("standby", "standby", True)
        await pair.a.add(1)
        assert pair.a.status == "coupled", "and nobody else is disturbed"


@virtual
async def test_a_pair_without_a_register() -> None:
    pair = Pair(register=None)
    for half in (pair.a, pair.b):
        assert f"{half.name} has no register" in await refused_at_start(half, UnfitPlace)


@virtual
async def test_a_register_that_never_answers() -> None:
    pair = Pair()
    pair.cell.down = True
    async with pair:
        await pass_ms(15_000)
        for url in (A, B):
            status = await pair.status(url)
            assert (status.state, status.register.state, status.register.silent_ms) == ("standby", "unreachable", -1)
            assert status.register.sentence == "it is down"
            assert "The register of pair c gives no answer. it is down Until it does" in status.alarms[-1]
        await pass_ms(60_000)
        assert (await pair.status(A)).register.state == "unreachable", "it keeps saying so"
        assert len(pair.a.replica.alarms) == 1


@virtual
async def test_times_that_break_an_inequality() -> None:
    pair = Pair(times=Times(wait_ms=3_000))
    for half in (pair.a, pair.b):
        assert "wait_ms is 3000" in await refused_at_start(half, UnsafeTimes)


@virtual
async def test_times_that_differ() -> None:
    async with Pair(B={"times": Times(lease_ms=2_900)}) as pair:
        await pair.init()
        await pass_ms(5_000)
        for url, own, other in ((A, 3_000, 2_900), (B, 2_900, 3_000)):
            status = await pair.status(url)
            assert status.peer.problem is not None
            assert status.peer.problem.code == "TimesDiffer"
            assert f"lease_ms: {own} and {other}" in (status.peer.stranger or status.peer.problem).sentence
            assert status.times["lease_ms"] == own
        assert (pair.a.status, pair.b.status) == ("solo", "standby")


@virtual
async def test_clocks_an_hour_apart_do_not_matter_and_are_told() -> None:
    async with Pair(B={"ahead_ms": 3_600_000}) as pair:
        await pair.init()
        await pair.couple()
        await pair.a.add(1)
        here, there = await pair.status(A), await pair.status(B)
        assert here.warnings[0].startswith("The wall clock of B is 3600 s ahead of that of A.")
        assert there.warnings[0].startswith("The wall clock of A is 3600 s behind that of B.")
        assert there.wall_ms - here.wall_ms > 3_599_000
        assert (here.alarms, here.peer.problem) == ((), None) or here.peer.problem is None
        await pair.a.crash()
        await until(lambda: pair.b.status == "solo" and pair.b.node.loop is not None)
        assert pair.b.loop.state.total == 1


@virtual
async def test_a_clock_that_is_set_is_noticed_while_the_connection_stands() -> None:
    async with Pair(B={"ahead_ms": 3_600_000}) as pair:
        await pair.init()
        await pair.couple()
        assert (await pair.status(A)).warnings != ()
        pair.b.worlds[-1].clock._ahead_ms = 0  # type: ignore[attr-defined]
        await pass_ms(70_000)
        assert ((await pair.status(A)).warnings, (await pair.status(B)).warnings) == ((), ())


@virtual
async def test_a_peer_with_a_newer_journal_than_ours() -> None:
    """The register names A, whose disk is older than what B has obeyed: B says so, and takes nothing from A."""
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        await pair.a.add(1)
        await pair.a.crash()
        await until(lambda: pair.b.status == "solo" and pair.b.node.loop is not None)
        await pair.b.add(2)
        for _ in range(3):
            await pair.b.supervisor.close()
            await pair.b.boot()
            await until(lambda: pair.b.status == "solo" and pair.b.node.loop is not None)
        await pair.b.supervisor.close()
        store = pair.a.disk._durable.cells["pair store"].decode()
        pair.cell.value = Ownership(CLUSTER, 4, A, (Member(A, store),), 0)  # of an old copy of the register
        await pair.a.boot()
        await pair.b.boot()
        await until(lambda: pair.b.replica.me.register_lost)
        await pass_ms(6_000)
        newer, older = await pair.status(B), await pair.status(A)
        assert any("The register has lost its state" in one for one in newer.alarms)
        assert newer.register.state == "lost"
        assert any(f"B speaks of epoch {newer.highest}" in one for one in older.warnings)
        assert pair.b.disk.image()[1] == newer.highest, "nothing of it was dropped"


@pytest.mark.parametrize("value", [None, 0])
@virtual
async def test_a_register_that_knows_nothing_or_less(value: Any) -> None:
    async with Pair() as pair:
        await pair.init()
        await pair.couple()
        first = Ownership(CLUSTER, 1, A, (Member(A, pair.a.replica.who.store),), 0)
        pair.cell.value = None if value is None else first
        await pass_ms(25_000)
        for url in (A, B):
            status = await pair.status(url)
            assert status.register.state == ("unknown pair" if value is None else "lost")
            told = [one for one in status.alarms if one.startswith("The register has lost its state")]
            assert len(told) == 1
        await pair.a.add(1)
        assert pair.a.status == "coupled", "service goes on"


@virtual
async def test_a_register_that_knows_nothing_from_the_beginning() -> None:
    async with Pair() as pair:
        await pass_ms(5_000)
        for url in (A, B):
            status = await pair.status(url)
            assert (status.state, status.register.state) == ("standby", "unknown pair")
            assert "no value for pair c: create or seed it" in status.register.sentence


@virtual
async def test_a_peer_of_a_lower_feature_level() -> None:
    async with Pair(A={"feature": 2}) as pair:
        await pair.init()
        await pair.couple()
        new, old = await pair.status(A), await pair.status(B)
        assert (new.feature, new.feature_written, new.peer.feature) == (2, 1, 1)
        assert (old.feature, old.feature_written, old.peer.feature) == (1, 1, 2)
        assert pair.a.replica.feature_level == 1, "nothing is written that B can not read"
        assert any("B reads events of level 1, A of 2" in one for one in new.warnings)
        pair.b.feature = 2
        await pair.b.supervisor.close()
        await pair.b.boot()
        await until(lambda: pair.a.replica.feature_level == pair.b.replica.feature_level == 2)
        await pair.couple()
        pair.b.feature = 1
        await pair.b.supervisor.close()
        with pytest.raises(UnfitPlace, match="The journal of B may hold events of level 2, and this program reads 1"):
            await pair.b.boot()
        pair.b.disk._durable.records.clear()
        pair.b.disk._durable.cells.clear()
        pair.b.disk.crash()
        await pair.b.boot()
        await until(lambda: all(_code(half) == "PeerTooOld" for half in (pair.a, pair.b)))
        for status in (await pair.status(A), await pair.status(B)):
            assert status.peer.problem is not None
            expected = "B has feature level 1, and the journal of A may hold events of level 2"
            assert status.peer.problem.sentence.startswith(expected)
        await until(lambda: pair.a.status == "solo")
        pair.b.feature = 2
        await pair.b.supervisor.close()
        await pair.b.boot()
        await pair.couple()


@virtual
async def test_the_level_is_remembered_by_a_node_that_starts_alone() -> None:
    async with Pair(feature=2) as pair:
        await pair.init()
        await pair.couple()
        await until(lambda: pair.a.replica.feature_level == 2)
        for half in (pair.a, pair.b):
            await half.supervisor.close()
        await pair.a.boot()
        assert pair.a.replica.feature_level == 2
        await pair.b.boot()
        await pair.couple()
