"""The simulated network: what each fault does, and that a seed gives the same network again."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from engine.base.tasks import TaskScope
from engine.ports import Connection, ConnectionClosed
from engine.simulation.loop import VirtualLoop, run
from engine.simulation.network import CALM, SimConnection, SimNetwork, Weather

STEADY = Weather(latency_ms_min=10, latency_ms_max=10)


def virtual(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def in_virtual_time(*args: Any, **named: Any) -> None:
        async def main() -> None:
            await test(*args, **named)

        run(main(), seed=0)

    return in_virtual_time


async def pass_ms(span_ms: float) -> None:
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(span_ms / 1_000, passed.set)
    await passed.wait()


def now_ms() -> float:
    return round(asyncio.get_running_loop().time() * 1_000, 3)


class Reader:
    """Everything that arrives at one end, with the time, and the end of it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.frames: list[bytes] = []
        self.times: list[float] = []
        self.ended: str | None = None

    async def run(self) -> None:
        try:
            while True:
                frames = await self.connection.receive()
                self.frames += frames
                self.times += [now_ms()] * len(frames)
        except ConnectionClosed as closed:
            self.ended = str(closed)


class Scene:
    """A network with a listener at node b; every connection's both ends are read."""

    def __init__(self, weather: Weather = STEADY, seed: int = 0, **bounds: int) -> None:
        self.network = SimNetwork(Random(seed), weather, **bounds)
        self.far: list[Reader] = []
        self.failures: list[BaseException] = []
        self.scope = TaskScope("scene", self.failures.append)

    async def open(self, node: str = "b") -> "Scene":
        await self.network.transport(node).listen(node, self._accept)
        return self

    async def _accept(self, connection: Connection) -> None:
        reader = Reader(connection)
        self.far.append(reader)
        await reader.run()

    async def dial(self, node: str = "a", address: str = "b") -> tuple[SimConnection, Reader]:
        connection = await self.network.transport(node).connect(address)
        reader = Reader(connection)
        self.scope.start(reader.run(), f"reader of {node}")
        return connection, reader

    async def close(self) -> None:
        for node in ("a", "b", "c"):
            self.network.drop_node(node)
        await pass_ms(100_000)
        await self.scope.close()
        assert self.failures == []


@virtual
async def test_latency_is_drawn_and_order_kept() -> None:
    scene = await Scene(Weather(latency_ms_min=1, latency_ms_max=50, tail_rate=0.2, tail_ms_max=500)).open()
    connection, _ = await scene.dial()
    began = now_ms()
    for number in range(100):
        await connection.send([bytes([number])])
    await pass_ms(1_000)
    (far,) = scene.far
    assert far.frames == [bytes([number]) for number in range(100)]
    assert far.times == sorted(far.times)
    assert far.times[0] - began >= 1
    assert far.times[-1] - began > 100
    await scene.close()


@virtual
async def test_connecting_takes_a_round_trip_and_needs_somebody_there() -> None:
    scene = await Scene().open()
    await scene.dial()
    assert now_ms() == 20
    with pytest.raises(ConnectionClosed, match="nobody listens at sim://nowhere"):
        await scene.dial("a", "nowhere")
    assert scene.network.statistics()["refused"] == 1
    await scene.close()


@virtual
async def test_a_one_way_cut_holds_one_direction_only() -> None:
    scene = await Scene().open()
    connection, near = await scene.dial()
    scene.network.cut_one_way("a", "b")
    await connection.send([b"held"])
    await scene.far[0].connection.send([b"passes"])
    await pass_ms(60_000)
    assert near.frames == [b"passes"]
    assert scene.far[0].frames == []
    scene.network.heal()
    await pass_ms(100)
    assert scene.far[0].frames == [b"held"]
    await scene.close()


@virtual
async def test_who_dialled_before_anybody_listened_is_cut_off_too() -> None:
    scene = Scene()
    dialling = asyncio.ensure_future(scene.dial())
    await pass_ms(5)
    await scene.open()  # the knock is under way
    connection, _ = await dialling
    scene.network.cut("a", "b")
    await connection.send([b"held"])
    await pass_ms(60_000)
    assert scene.far[0].frames == []
    scene.network.heal()
    await pass_ms(100)
    assert scene.far[0].frames == [b"held"]
    await scene.close()


@virtual
async def test_connecting_over_a_cut_gives_up_and_may_still_arrive_later() -> None:
    scene = await Scene().open()
    scene.network.cut("a", "b")
    with pytest.raises(ConnectionClosed, match="does not answer"):
        await scene.dial()
    assert now_ms() == 10_000
    assert scene.far == []
    scene.network.heal()
    await pass_ms(1_000)
    assert [(one.frames, one.ended is not None) for one in scene.far] == [([], True)]
    await scene.close()


@virtual
async def test_frames_of_a_closed_connection_arrive_after_a_newer_one_is_open() -> None:
    weather = Weather(latency_ms_min=10, latency_ms_max=10, straggle_rate=1, straggle_ms_max=5_000)
    scene = await Scene(weather, seed=3).open()
    old, _ = await scene.dial()
    await old.send([b"old"])
    await old.close()
    new, _ = await scene.dial()
    await new.send([b"new"])
    await pass_ms(100)
    assert [one.frames for one in scene.far] == [[], [b"new"]]
    await pass_ms(5_000)
    assert [one.frames for one in scene.far] == [[b"old"], [b"new"]]
    assert scene.far[0].ended == "the connection was closed by the other side"
    await scene.close()


@virtual
async def test_a_cut_keeps_what_a_dead_connection_sent_until_it_heals() -> None:
    scene = await Scene().open()
    old, _ = await scene.dial()
    scene.network.cut_one_way("a", "b")
    await old.send([b"old"])
    await old.close()
    await pass_ms(30_000)
    assert scene.far[0].ended is None
    scene.network.heal()
    await pass_ms(1_000)
    assert scene.far[0].frames == [b"old"]
    assert scene.far[0].ended is not None
    await scene.close()


@virtual
async def test_a_clog_delays_without_loss() -> None:
    scene = await Scene().open()
    connection, _ = await scene.dial()
    await connection.send([b"under way"])
    scene.network.clog("a", "b", 2_000)
    await connection.send([b"behind"])
    await pass_ms(1_900)
    assert scene.far[0].frames == []
    await pass_ms(200)
    assert scene.far[0].frames == [b"under way", b"behind"]
    assert scene.network.statistics()["frames_dropped"] == 0
    await scene.close()


@virtual
async def test_a_reset_delivers_a_beginning_and_tells_both_ends() -> None:
    lengths: set[int] = set()
    for seed in range(30):
        scene = await Scene(seed=seed).open()
        connection, near = await scene.dial()
        for number in range(6):
            await connection.send([bytes([number])])
        assert scene.network.reset("a", "b") == 1
        assert scene.network.reset("b", "a") == 0
        await pass_ms(100)
        (far,) = scene.far
        assert far.frames == [bytes([number]) for number in range(len(far.frames))]
        lengths.add(len(far.frames))
        assert near.ended == far.ended == "the connection was reset"
        with pytest.raises(ConnectionClosed):
            await connection.send([b"x"])
        assert scene.network.statistics()["frames_dropped"] == 6 - len(far.frames)
        await scene.close()
    assert len(lengths) > 3


@virtual
async def test_of_a_half_open_connection_only_one_end_knows() -> None:
    scene = await Scene().open()
    connection, near = await scene.dial()
    assert [scene.network.half_open("b", "a") for _ in range(2)] == [1, 0]
    await pass_ms(100)
    (far,) = scene.far
    assert (near.ended, far.ended) == (None, "the connection was reset")
    await connection.send([b"x"])
    await pass_ms(100)
    assert (near.ended, far.frames, scene.network.counts["half_open"]) == (None, [], 1)
    await scene.close()


@virtual
async def test_a_network_says_whether_it_holds_anything_back() -> None:
    scene = await Scene(CALM).open()
    network = scene.network
    assert network.is_sound
    network.cut_one_way("a", "b")
    assert not network.is_sound
    network.heal()
    network.clog("a", "b", 50)
    assert not network.is_sound
    await pass_ms(60)
    assert network.is_sound
    network.weather = STEADY
    assert not network.is_sound
    await scene.close()


@virtual
async def test_resets_come_by_themselves_and_some_ends_are_not_told() -> None:
    weather = Weather(latency_ms_min=1, latency_ms_max=1, reset_rate=1, half_open_rate=0.5)
    told: set[tuple[bool, bool]] = set()
    for seed in range(30):
        scene = await Scene(weather, seed).open()
        connection, near = await scene.dial()
        await connection.send([b"x"])
        await pass_ms(60_000)
        told.add((near.ended is not None, scene.far[0].ended is not None))
        if near.ended is None:
            await connection.send([b"into the void"])  # a half-open end notices nothing
        await scene.close()
    assert told == {(False, False), (False, True), (True, False), (True, True)}


@virtual
async def test_a_half_open_connection_takes_frames_until_it_is_full() -> None:
    scene = await Scene(bytes_max=100_000, frames_max=10).open()
    connection, _ = await scene.dial()
    scene.network.drop_node("b", notice=False)
    sent: list[int] = []

    async def send() -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send([b"x"])
                sent.append(1)

    sending = scene.scope.start(send(), "send")
    await pass_ms(60_000)
    assert len(sent) == 10
    assert not sending.done()
    await scene.close()


@pytest.mark.parametrize("notice", [True, False])
@virtual
async def test_a_dropped_node_is_refused_or_silent(notice: bool) -> None:
    scene = await Scene().open()
    _, near = await scene.dial()
    inbound, _ = await scene.dial("b", "b")
    scene.network.drop_node("b", notice=notice)
    await pass_ms(1_000)
    assert near.ended == ("the connection was reset" if notice else None)
    with pytest.raises(ConnectionClosed, match="the node crashed"):
        await scene.far[0].connection.receive()
    with pytest.raises(ConnectionClosed, match="the node crashed"):
        await inbound.send([b"x"])
    await scene.far[0].connection.close()  # a zombie's `finally`: without effect
    before = now_ms()
    with pytest.raises(ConnectionClosed, match="nobody listens" if notice else "does not answer"):
        await scene.dial()
    assert now_ms() - before == (20 if notice else 10_000)
    await scene.open()
    await scene.dial()
    await scene.close()


@virtual
async def test_an_old_incarnation_can_do_nothing_any_more() -> None:
    scene = await Scene().open()
    old = scene.network.transport("a")
    connection = await old.connect("b")
    scene.network.drop_node("a")
    new = scene.network.transport("a")
    fresh = await new.connect("b")
    for refused in (old.connect("b"), old.listen("x", scene._accept), connection.send([b"x"])):
        with pytest.raises(ConnectionClosed):
            await refused
    old.revoke("again")
    await fresh.send([b"fine"])
    await pass_ms(100)
    assert scene.far[1].frames == [b"fine"]
    await scene.close()


@virtual
async def test_a_crashed_node_leaves_a_beginning_of_what_it_sent() -> None:
    lengths: set[int] = set()
    for seed in range(20):
        scene = await Scene(seed=seed).open()
        connection, _ = await scene.dial()
        for number in range(5):
            await connection.send([bytes([number])])
        scene.network.drop_node("a")
        await pass_ms(1_000)
        assert scene.far[0].frames == [bytes([number]) for number in range(len(scene.far[0].frames))]
        assert scene.far[0].ended is not None
        lengths.add(len(scene.far[0].frames))
        await scene.close()
    assert len(lengths) > 2


@virtual
async def test_a_partition_separates_two_groups_only() -> None:
    scene = await (await Scene().open()).open("c")
    scene.network.partition(["a"], ["b"])
    await scene.dial("a", "c")
    await scene.dial("c", "b")
    with pytest.raises(ConnectionClosed):
        await scene.dial("a", "b")
    await scene.close()


def test_what_a_node_sent_arrives_though_it_is_paused_or_dead_and_each_node_serves_its_own() -> None:
    served: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        network = SimNetwork(Random(0), STEADY)
        readers: list[Reader] = []

        async def accept(connection: Connection) -> None:
            from engine.simulation.loop import NODE

            served.append(NODE.get())
            reader = Reader(connection)
            readers.append(reader)
            await reader.run()

        async def listen() -> None:
            await network.transport("b").listen("b", accept)

        async def talk(name: str) -> None:
            connection = await network.transport(name).connect("b")
            await connection.send([name.encode()])
            await asyncio.Event().wait()

        await loop.create_task(listen(), context=loop.context_of("b"))
        talks = [loop.create_task(talk(name), context=loop.context_of(name)) for name in ("a", "c")]
        while len(readers) < 2:
            await pass_ms(1)
        await pass_ms(11)  # both are told, both have sent
        loop.pause("a")
        loop.crash("c")
        await pass_ms(100)
        assert sorted(b"".join(reader.frames) for reader in readers) == [b"a", b"c"]
        loop.resume("a")
        network.drop_node("a")
        network.drop_node("b")
        network.drop_node("c")
        await pass_ms(100)
        talks[0].cancel()
        await asyncio.wait(talks[:1])

    run(main(), seed=0)
    assert served == ["b", "b"]


def test_a_node_whose_clock_runs_wrong_does_not_bend_the_networks_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        scene = await Scene().open()
        loop.drift("fast", 400_000)
        await pass_ms(100_000)
        times: list[tuple[float, float]] = []

        async def talk() -> None:
            connection = await scene.network.transport("a").connect("b")
            await connection.send([b"x"])

        began = loop.now_ns
        await loop.create_task(talk(), context=loop.context_of("fast"))
        while not scene.far or not scene.far[0].frames:
            await pass_ms(1)
        times.append((began, loop.now_ns))
        assert 29_000_000 < loop.now_ns - began < 32_000_000
        await scene.close()

    run(main(), seed=0)


@pytest.mark.parametrize("rate", ["datagram_loss_rate", "datagram_repeat_rate", "datagram_swap_rate"])
@virtual
async def test_the_planted_datagram_faults_do_what_no_transport_may(rate: str) -> None:
    scene = await Scene(Weather(latency_ms_min=1, latency_ms_max=1, **{rate: 0.3})).open()
    connection, _ = await scene.dial()
    sent = [bytes([number]) for number in range(100)]
    for start in range(0, 100, 5):
        await connection.send(sent[start : start + 5])
    await pass_ms(1_000)
    received = scene.far[0].frames
    if rate == "datagram_loss_rate":
        assert received == [frame for frame in sent if frame in received]
        assert 50 < len(received) < 90
    elif rate == "datagram_repeat_rate":
        assert sorted(set(received)) == sent
        assert 110 < len(received) < 150
    else:
        assert sorted(received) == sent
        assert received != sent
    await scene.close()


def test_the_same_seed_gives_the_same_network() -> None:
    def history(seed: int) -> tuple[list[bytes], list[float], dict[str, int]]:
        async def main() -> tuple[list[bytes], list[float], dict[str, int]]:
            scene = await Scene(Weather(reset_rate=0.02, tail_rate=0.1, straggle_rate=0.5), seed).open()
            for number in range(30):
                connection, _ = await scene.dial()
                try:
                    for part in range(5):
                        await connection.send([bytes([number, part])])
                except ConnectionClosed:
                    pass
                await connection.close()
            await pass_ms(5_000)
            frames = [frame for reader in scene.far for frame in reader.frames]
            times = [time for reader in scene.far for time in reader.times]
            found = (frames, times, scene.network.statistics())
            await scene.close()
            return found

        return run(main(), seed=seed)

    assert history(1) == history(1)
    assert history(1) != history(2)


@virtual
async def test_nothing_is_kept_of_connections_that_are_over() -> None:
    scene = await Scene(Weather(straggle_rate=0.5, straggle_ms_max=100)).open()
    for _ in range(50):
        connection, _ = await scene.dial()
        await connection.send([b"x"])
        await connection.close()
    await pass_ms(1_000)
    for reader in scene.far:
        assert reader.ended is not None
    assert scene.network.statistics()["ends"] == 0
    await scene.close()
