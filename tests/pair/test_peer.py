"""Messages between the two nodes of a pair, and everybody who is not the other node.

Tests: engine/pair/peer.py
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from engine.base.pair import AnyPairMessage, Beat, BeatAck, InstallSnapshot, Rep
from engine.base.problem import Problem
from engine.base.wire import Accepted, Identity, Raw
from engine.pair.content import body_of
from engine.pair.peer import Peer, Terms, encode, pace_of
from engine.ports import Entry
from engine.rules.pair.times import Times
from engine.runtime.link import Link
from engine.simulation.network import SimNetwork
from tests.pair.pairs import CLUSTER, PairWorld
from tests.runtime.linked import pass_ms, until, virtual

TIMES = Times()


class Side:
    """One node's end."""

    def __init__(self, network: SimNetwork, node: str, peer: str, **options: Any) -> None:
        self.heard: list[AnyPairMessage] = []
        self.connections = 0
        self.failures: list[BaseException] = []
        self.world = PairWorld(options.pop("world_node", node), options.pop("incarnation", 1), network)
        identity = Identity(options.pop("cluster", CLUSTER), "counter", node, self.world.incarnation)
        self.peer = Peer(
            self.world,  # type: ignore[arg-type]
            identity,
            peer_node=peer,
            own_url=options.pop("own_url", f"sim://{node}"),
            peer_url=options.pop("peer_url", f"sim://{peer}"),
            times=options.pop("times", TIMES),
            on_message=options.pop("on_message", self.heard.append),
            on_connected=self._connected,
            on_failure=self.failures.append,
        )

    def _connected(self) -> None:
        self.connections += 1

    async def close(self) -> None:
        await self.peer.close()
        assert self.failures == []


@asynccontextmanager
async def sides(*first: dict[str, Any]) -> AsyncIterator[tuple[SimNetwork, Side, Side]]:
    network = SimNetwork(Random(0))
    options = [*first, {}, {}]
    a, b = Side(network, "A", "B", **options[0]), Side(network, "B", "A", **options[1])
    await a.peer.open()
    await b.peer.open()
    yield network, a, b
    await a.close()
    await b.close()


def beat(number: int) -> Beat:
    return Beat(number, number, 0)


@virtual
async def test_what_is_sent_is_heard_both_ways() -> None:
    async with sides() as (_, a, b):
        assert not a.peer.send(beat(1)), "there is no connection yet"
        await until(lambda: a.peer.connected and b.peer.connected)
        assert a.peer.send(beat(2))
        assert b.peer.send(beat(3))
        await until(lambda: (a.heard, b.heard) == ([beat(3)], [beat(2)]))
        assert (a.peer.problem, b.peer.problem, a.connections) == (None, None, 1)


@virtual
async def test_a_beat_overtakes_a_record_of_eight_mebibytes() -> None:
    async with sides() as (_, a, b):
        await until(lambda: a.peer.connected)
        await pass_ms(50)
        big = Rep(1, 0, 0, (1,), (body_of(Entry(1, 1, bytes((8 << 20) - 8))),))
        assert a.peer.send(big)
        assert a.peer.send(beat(1))
        await until(lambda: len(b.heard) == 2)
        assert b.heard == [beat(1), big]


@virtual
async def test_what_finds_no_room_is_refused_and_room_comes() -> None:
    async with sides() as (network, a, b):
        await until(lambda: a.peer.connected)
        network.cut("A", "B")
        part = InstallSnapshot(1, "1/1", 1, 1, b"h" * 16, 0, 1 << 30, bytes(256 << 10))
        count = 0
        while a.peer.send(part):
            count += 1
        assert 32 <= count <= 1_000
        waiting = asyncio.ensure_future(a.peer.room())
        await pass_ms(100)
        assert not waiting.done()
        network.heal()
        await waiting
        assert a.peer.send(part)
        await until(lambda: len(b.heard) == count + 1)


@virtual
async def test_urgent_messages_that_are_not_taken_are_bounded_too() -> None:
    async with sides() as (_, a, b):
        await until(lambda: a.peer.connected)
        taken = [a.peer.send(beat(number)) for number in range(500)]
        assert 50 < taken.count(True) < 200
        await pass_ms(50)
        assert len(b.heard) == taken.count(True)


@virtual
async def test_a_lost_connection_is_found_again_within_half_a_beat() -> None:
    async with sides() as (network, a, b):
        await until(lambda: a.peer.connected and b.peer.connected)
        await b.peer.close()
        await pass_ms(20_000)
        assert not a.peer.connected
        assert a.peer.problem is not None
        again = Side(network, "B", "A", incarnation=2)
        await again.peer.open()
        await until(lambda: a.peer.connected and again.peer.connected, pace_of(TIMES).reconnect_ms_max + 50)
        await until(lambda: a.peer.problem is None)
        assert a.connections == 2
        await again.close()


@virtual
async def test_times_that_differ_are_refused_on_both_sides_and_nothing_is_heard() -> None:
    async with sides({}, {"times": Times(lease_ms=3_100, wait_ms=3_500)}) as (_, a, b):
        for _ in range(200):
            a.peer.send(beat(1))
            b.peer.send(beat(1))
            await pass_ms(10)
        assert a.heard == b.heard == []
        for side in (a, b):
            assert side.peer.problem is not None
            assert side.peer.problem.code == "TimesDiffer"
            assert "lease_ms: 3" in side.peer.problem.sentence


@virtual
async def test_a_node_of_another_cluster_and_a_third_node_are_refused_on_both_sides() -> None:
    async with sides() as (network, a, b):
        await until(lambda: a.peer.connected and b.peer.connected)
        foreign = Side(network, "A", "B", cluster="another", own_url="sim://X", world_node="X")
        third = Side(network, "C", "B")
        for side in (foreign, third):
            await side.peer.open()
        await until(lambda: foreign.peer.problem is not None and third.peer.problem is not None)
        assert [side.peer.problem.code for side in (foreign, third) if side.peer.problem] == ["NotMine", "NotMyPeer"]
        assert b.peer.refused is not None
        assert "counter C is not the other node" in b.peer.refused.sentence
        assert a.peer.connected, "and nobody else is disturbed"
        await foreign.close()
        await third.close()


@virtual
async def test_two_nodes_with_one_name_are_told() -> None:
    async with sides() as (network, a, b):
        await until(lambda: a.peer.connected and b.peer.connected)
        twin = Side(network, "A", "B", incarnation=2, own_url="sim://X", world_node="X")
        await twin.peer.open()
        await until(lambda: a.peer.problem is not None and a.peer.problem.code == "StaleIncarnation")
        assert twin.peer.connected
        await twin.close()


@virtual
async def test_what_can_not_be_read_is_counted_and_ends_nothing() -> None:
    async with sides() as (_, a, b):
        await until(lambda: a.peer.connected and b.peer.connected)
        await pass_ms(50)
        nonsense: list[Any] = [5, {}, ["Nonsense", 1], ["Beat", "x"], Rep(1, 0, 0, (1,), (Raw(b"\x01"),))]
        for one in nonsense:
            a.peer._link.post(encode(one))
        for _ in range(2_000):
            a.peer._link.post(encode("x"))
            await asyncio.sleep(0)
        a.peer.send(beat(1))
        await until(lambda: b.heard == [beat(1)])
        assert b.peer.malformed > 500
        assert a.peer.connected


@virtual
async def test_nothing_is_believed_before_the_times_were_told() -> None:
    async with sides() as (network, a, b):
        await until(lambda: a.peer.connected and b.peer.connected)
        world = PairWorld("A", 5, network)
        link = Link(
            world,
            ("sim://B",),
            Identity(CLUSTER, "counter", "A", 5),
            peer_role="counter",
            on_failure=a.failures.append,
        )
        link.start()
        await link.until_coupled()
        link.post(encode(beat(7)))
        await pass_ms(50)
        assert (b.heard, b.peer.malformed) == ([], 1)
        link.post(encode(Terms(TIMES)))
        link.post(encode(beat(8)))
        await until(lambda: b.heard == [beat(8)])
        await link.close()


@virtual
async def test_the_nodes_of_a_pair_take_no_commands() -> None:
    async with sides() as (_, a, _b):
        await until(lambda: a.peer.connected)
        reply = await a.peer._link.request(b"\x01")
        assert isinstance(reply, Problem)
        assert not isinstance(reply, Accepted)
        assert reply.code == "PeersTakeNoCommands"


@virtual
async def test_a_mistake_while_a_message_is_taken_is_told_to_the_owner() -> None:
    def fails(_: AnyPairMessage) -> None:
        raise RuntimeError("a mistake")

    async with sides({}, {"on_message": fails}) as (_, a, b):
        await until(lambda: a.peer.connected)
        await pass_ms(50)
        a.peer.send(BeatAck(1, 1, "a0"))
        await until(lambda: b.failures != [])
        assert str(b.failures.pop()) == "a mistake"
