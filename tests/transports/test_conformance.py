"""What every transport must do, run over each scheme. Later wires join by one more line in `SCHEMES`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import pytest

from engine.base.limits import FRAGMENT_BYTES_MAX
from engine.base.tasks import TaskScope
from engine.ports import Connection, ConnectionClosed, Listener, Transport
from engine.simulation.network import SimNetwork, Weather
from transports.memory import MemoryHub, MemoryTransport


class Wire:
    """Two sides of one scheme, with what the tests need around them."""

    def __init__(self, near: Transport, far: Transport) -> None:
        self.near = near
        self.far = far
        self.scope = TaskScope("test", self._failed)
        self.failures: list[BaseException] = []
        self.listeners: list[Listener] = []
        self._ends: list[Connection] = []

    def _failed(self, error: BaseException) -> None:
        self.failures.append(error)

    async def listen(self, accept: Callable[[Connection], Awaitable[None]], address: str = "place") -> Listener:
        listener = await self.far.listen(address, accept)
        self.listeners.append(listener)
        return listener

    async def dial(self, address: str = "place") -> Connection:
        connection = await self.near.connect(address)
        self._ends.append(connection)
        return connection

    async def pair(self) -> tuple[Connection, Connection]:
        """A connection's two ends, both in the test's hands."""
        arrived: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()

        async def accept(connection: Connection) -> None:
            arrived.set_result(connection)
            await asyncio.Event().wait()

        await self.listen(accept)
        near = await self.dial()
        return near, await arrived

    async def close(self) -> None:
        for connection in self._ends:
            await connection.close()
        for listener in self.listeners:
            await listener.close()
        await self.scope.close()
        assert self.failures == []


def memory() -> Wire:
    hub = MemoryHub()
    bounds = {"bytes_max": 1 << 20, "frames_max": 1_000}
    return Wire(MemoryTransport(hub, "near", **bounds), MemoryTransport(hub, "far", **bounds))


def simulated() -> Wire:
    weather = Weather(latency_ms_min=0, latency_ms_max=2)
    network = SimNetwork(Random(1), weather, bytes_max=1 << 20, frames_max=1_000)
    return Wire(network.transport("near"), network.transport("far"))


SCHEMES = {"memory": memory, "sim": simulated}


@pytest.fixture(params=sorted(SCHEMES))
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Wire]:
    made = SCHEMES[request.param]()
    yield made
    await made.close()


async def receive(connection: Connection, count: int) -> list[bytes]:
    """Receive exactly as many frames."""
    frames: list[bytes] = []
    while len(frames) < count:
        frames += await connection.receive()
    assert len(frames) == count
    return frames


async def receive_all(connection: Connection) -> list[bytes]:
    """Receive until the end."""
    frames: list[bytes] = []
    while True:
        try:
            frames += await connection.receive()
        except ConnectionClosed:
            return frames


async def test_frames_arrive_as_they_were_in_order_both_ways(wire: Wire) -> None:
    near, far = await wire.pair()
    sent = [bytes([number % 256]) * (number % 7 + 1) for number in range(500)]
    for start in range(0, 500, 10):
        await near.send(sent[start : start + 10])
        await far.send(sent[start : start + 5])
    assert await receive(far, 500) == sent
    assert await receive(near, 250) == [frame for start in range(0, 500, 10) for frame in sent[start : start + 5]]


async def test_receive_returns_all_frames_at_hand(wire: Wire) -> None:
    near, far = await wire.pair()
    await near.send([b"a", b"b", b"c"])
    assert await far.receive() == [b"a", b"b", b"c"]


async def test_an_empty_send_sends_nothing(wire: Wire) -> None:
    near, far = await wire.pair()
    await near.send([])
    await near.send([b"x"])
    assert await far.receive() == [b"x"]


async def test_the_largest_fragment_passes(wire: Wire) -> None:
    near, far = await wire.pair()
    frame = Random(2).randbytes(FRAGMENT_BYTES_MAX)
    await near.send([frame, b"after"])
    assert await receive(far, 2) == [frame, b"after"]


async def test_a_frame_larger_than_the_queue_passes_alone(wire: Wire) -> None:
    near, far = await wire.pair()
    frame = bytes(3 << 20)
    sending = wire.scope.start(near.send([b"before", frame, b"after"]), "send")
    assert await receive(far, 3) == [b"before", frame, b"after"]
    await sending


async def test_a_sender_waits_for_a_slow_reader_and_nothing_is_lost(wire: Wire) -> None:
    near, far = await wire.pair()
    frames = [number.to_bytes(4, "big") * 16_000 for number in range(200)]
    progress: list[int] = []

    async def send() -> None:
        for number, frame in enumerate(frames):
            await near.send([frame])
            progress.append(number)

    sending = wire.scope.start(send(), "send")
    # The far side does not read: progress must stop, at a bound, long before the end.
    before = -1
    while len(progress) != before:
        before = len(progress)
        await settle()
    assert 0 < len(progress) < 100
    assert not sending.done()
    assert await receive(far, 200) == frames
    await sending


async def test_the_count_of_frames_is_bounded_too(wire: Wire) -> None:
    near, far = await wire.pair()
    sending = wire.scope.start(near.send([b""] * 5_000), "send")
    await settle()
    assert not sending.done()
    await receive(far, 5_000)
    await sending


async def test_concurrent_senders_keep_their_own_order_and_their_batches_together(wire: Wire) -> None:
    near, far = await wire.pair()
    big = bytes(300_000)

    async def send(name: int) -> None:
        for number in range(5):
            await near.send([bytes([name, number, part]) + big for part in range(3)])

    senders = [wire.scope.start(send(name), f"sender {name}") for name in range(4)]
    heads = [tuple(frame[:3]) for frame in await receive(far, 60)]
    await asyncio.gather(*senders)
    for name in range(4):
        assert [head for head in heads if head[0] == name] == [
            (name, number, part) for number in range(5) for part in range(3)
        ]
    for position in range(0, 60, 3):
        assert len({head[:2] for head in heads[position : position + 3]}) == 1


async def test_what_was_sent_before_a_close_is_received_then_the_end(wire: Wire) -> None:
    near, far = await wire.pair()
    await near.send([b"1", b"2"])
    await near.send([b"3"])
    await near.close()
    assert await receive_all(far) == [b"1", b"2", b"3"]
    with pytest.raises(ConnectionClosed):
        await far.receive()


async def test_a_closed_end_neither_sends_nor_receives(wire: Wire) -> None:
    near, far = await wire.pair()
    await far.send([b"too late"])
    await near.close()
    await near.close()
    with pytest.raises(ConnectionClosed):
        await near.send([b"x"])
    with pytest.raises(ConnectionClosed):
        await near.receive()
    assert await receive_all(far) == []
    with pytest.raises(ConnectionClosed):
        await far.send([b"y"])


async def test_closing_wakes_an_own_receive(wire: Wire) -> None:
    near, _ = await wire.pair()
    receiving = wire.scope.start(near.receive(), "receive")
    await settle()
    await near.close()
    with pytest.raises(ConnectionClosed):
        await receiving
    wire.failures.clear()


async def test_a_close_ends_a_sender_that_waits(wire: Wire) -> None:
    near, far = await wire.pair()
    sending = wire.scope.start(near.send([bytes(1 << 20)] * 5), "send")
    await settle()
    assert not sending.done()
    await far.close()
    with pytest.raises(ConnectionClosed):
        await sending
    wire.failures.clear()


async def test_a_cancelled_receive_loses_nothing(wire: Wire) -> None:
    near, far = await wire.pair()
    receiving = wire.scope.start(far.receive(), "receive")
    await settle()
    receiving.cancel()
    await asyncio.wait([receiving])
    await near.send([b"kept"])
    assert await far.receive() == [b"kept"]


async def test_connecting_where_nobody_listens_is_refused(wire: Wire) -> None:
    with pytest.raises(ConnectionClosed, match="nobody listens"):
        await wire.dial("nowhere")


async def test_an_address_can_be_taken_once_and_given_back(wire: Wire) -> None:
    async def accept(connection: Connection) -> None:
        await connection.send([b"hello"])

    listener = await wire.listen(accept)
    with pytest.raises(OSError, match="in use"):
        await wire.listen(accept)
    await listener.close()
    with pytest.raises(ConnectionClosed):
        await wire.dial()
    await wire.listen(accept)
    assert await receive_all(await wire.dial()) == [b"hello"]


async def test_the_end_of_accept_closes_the_connection(wire: Wire) -> None:
    async def accept(connection: Connection) -> None:
        await connection.send([b"only", b"this"])

    await wire.listen(accept)
    near = await wire.dial()
    assert await receive_all(near) == [b"only", b"this"]


async def test_closing_a_listener_ends_what_it_accepted(wire: Wire) -> None:
    near, _ = await wire.pair()
    await wire.listeners[0].close()
    assert await receive_all(near) == []


async def test_a_failing_accept_ends_its_connection_only_and_is_reported(wire: Wire) -> None:
    reported: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

    async def accept(connection: Connection) -> None:
        if await connection.receive() == [b"bad"]:
            raise ValueError("as planted")
        await connection.send([b"fine"])

    await wire.listen(accept)
    bad, good = await wire.dial(), await wire.dial()
    await bad.send([b"bad"])
    assert await receive_all(bad) == []
    await good.send([b"good"])
    assert await receive_all(good) == [b"fine"]
    assert [str(error) for error in reported] == ["as planted"]


async def test_many_connections_at_once(wire: Wire) -> None:
    async def echo(connection: Connection) -> None:
        while True:
            await connection.send(await connection.receive())

    await wire.listen(echo)

    async def talk(number: int) -> None:
        connection = await wire.dial()
        for turn in range(5):
            await connection.send([bytes([number % 256, turn])])
            assert await connection.receive() == [bytes([number % 256, turn])]

    await asyncio.gather(*(wire.scope.start(talk(number), str(number)) for number in range(300)))


async def test_peers_have_names(wire: Wire) -> None:
    near, far = await wire.pair()
    assert near.peer
    assert far.peer == "near"


async def settle() -> None:
    """Let everything run that can run, deliveries under way included."""
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(0.005, done.set)
    await done.wait()
