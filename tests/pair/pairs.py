"""Two nodes of a pair in virtual time: real stores, real loops over a counting machine, a network that breaks.

* `Pair.half(name)` is a node that its supervisor keeps; a crash takes the network and the unwritten from it.
* The register is a cell in memory, which can be down.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Self

from engine.base.ids import Cursor
from engine.base.pair import Member, Ownership
from engine.base.pair_query import PairStatus
from engine.base.wire import Identity
from engine.client.pair import PairClient
from engine.journal.feed import Feed
from engine.journal.memory import MemoryDisk, MemoryStore
from engine.pair.forcing import post_forced
from engine.pair.node import PairNode, PairPlace
from engine.pair.replica import Replica
from engine.ports import Record, RegisterUnreachable, Store
from engine.rules.pair.times import Times
from engine.runtime.mailbox import Work
from engine.runtime.node_loop import NodeLoop, open_node
from engine.runtime.supervisor import Supervisor
from engine.simulation.network import SimNetwork, Weather
from engine.simulation.world import InlineSnapshotMaker
from tests.runtime.linked import LoopClock, pass_ms, until
from tests.support.counting import Add, Count, CountingMachine

CLUSTER = "c"
A, B = "A", "B"


class Cell:
    """A register: one value, answers after a millisecond, or never."""

    def __init__(self) -> None:
        self.value: Ownership | None = None
        self.down = False
        self.deaf: list[str] = []  # owners whose questions are lost
        self.asked: list[str] = []

    async def create(self, first: Ownership) -> Ownership:
        self.value = self.value or first
        return self.value

    async def read(self, cluster: str) -> Ownership | None:
        await self._travel("read")
        return self.value

    async def cas(self, expected: Ownership, new: Ownership) -> Ownership | None:
        await self._travel(f"{new.owner} asks for {new.epoch} with {'+'.join(one.node for one in new.insync)}")
        if self.value == expected and new.epoch > expected.epoch:
            self.value = new
        return self.value

    async def _travel(self, question: str) -> None:
        self.asked.append(question)
        await pass_ms(1)
        if self.down:
            raise RegisterUnreachable("it is down")


class Disk(MemoryDisk):
    """A disk whose fsync takes a millisecond, and waits while the gate is shut."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    async def fsync(self) -> None:
        await pass_ms(1)
        await self.gate.wait()
        if self.broken:
            raise OSError(5, "input/output error")

    async def crash_with(self, closing: Awaitable[None]) -> None:
        """Lose power, and wait until the dead incarnation has closed; its fsync ends, to no effect."""
        self.crash()
        shut = not self.gate.is_set()
        self.gate.set()
        await closing
        if shut:
            self.gate.clear()

    def records(self) -> list[Record]:
        """What is durable."""
        return self._durable.records

    def image(self) -> tuple[int, int, bytes]:
        """The durable end: index, epoch, and the hash that chains everything before."""
        tip = self._durable.tip
        return tip.index, tip.epoch, tip.hash


class ShiftedClock(LoopClock):
    """A wall clock that is ahead of the others; the monotonic one is not."""

    def __init__(self, ahead_ms: int) -> None:
        self._ahead_ms = ahead_ms

    def now_ms(self) -> int:
        return super().now_ms() + self._ahead_ms


class PairWorld:
    """As much of a World as a pair's node needs."""

    def __init__(self, node: str, incarnation: int, network: SimNetwork, ahead_ms: int = 0) -> None:
        self.node = node
        self.incarnation = incarnation
        self.clock = ShiftedClock(ahead_ms) if ahead_ms else LoopClock()
        self.network = network.transport(node)
        self.revoked: str | None = None
        self._random = Random(f"{node}/{incarnation}")

    def new_id(self) -> str:
        return f"{self._random.getrandbits(64):016x}"

    def jitter(self, span_ms: int) -> int:
        return self._random.randrange(span_ms) if span_ms > 0 else 0

    def transport(self, url: str) -> tuple[Any, str]:
        return self.network, url.partition("://")[2]

    def revoke(self, reason: str) -> None:
        if self.revoked is None:
            self.revoked = reason
            self.network.revoke(reason)


class Role:
    """What acts: a loop over the counting machine."""

    def __init__(self, loop: NodeLoop[Count], feed: Feed, effects: list[Any]) -> None:
        self.loop = loop
        self.feed = feed
        self.effects = effects

    async def close(self, reason: str = "it was closed") -> None:
        await self.loop.close(reason)


class Half:
    """One node of the pair, over all its incarnations."""

    def __init__(self, pair: "Pair", name: str, other: str, disk: Disk, **options: Any) -> None:
        self.name = name
        self.disk = disk
        self.ended: list[BaseException] = []
        self.given_up: list[BaseException] = []
        self.worlds: list[PairWorld] = []
        self.store: Store
        self.feature: int = options.get("feature", 1)
        self.drains: list[bool] = []
        self._pair = pair
        self._other = other
        self._options = options
        self._booting: PairNode
        self.supervisor: Supervisor[PairNode] = Supervisor(name, self._boot, LoopClock(), self.given_up.append)

    async def open(self) -> "Half":
        await self.supervisor.start()
        return self

    async def _boot(self, on_closed: Callable[[BaseException], None]) -> PairNode:
        world = PairWorld(self.name, len(self.worlds) + 1, self._pair.network, self._options.get("ahead_ms", 0))
        self.worlds.append(world)

        def closed(error: BaseException) -> None:
            self.ended.append(error)
            on_closed(error)

        async def open_role(store: Store, replica: Replica, epoch: int, on_ended: Callable[..., None]) -> Role:
            effects: list[Any] = []
            feed = Feed(store, Cursor(store.tip.index, store.tip.epoch))
            loop = await open_node(
                machine=CountingMachine(),
                store=store,
                feed=feed,
                replication=replica,
                world=world,  # type: ignore[arg-type]
                perform=effects.append,
                on_closed=on_ended,
                epoch=epoch,
            )
            post_forced(loop, replica)
            await replica.acknowledged(store.tip.index)
            loop.epoch = replica.me.epoch
            loop.start()
            return Role(loop, feed, effects)

        place = PairPlace(
            peer=self._options.get("peer", self._other),
            own_url=self._options.get("own_url", f"sim://{self.name}"),
            peer_url=self._options.get("peer_url", f"sim://{self._other}"),
            register=self._options.get("register", self._pair.cell),
            times=self._options.get("times"),
            feature=self.feature,
        )
        identity = Identity(self._options.get("cluster", CLUSTER), "counter", self.name, world.incarnation)
        node = PairNode(
            world,  # type: ignore[arg-type]
            identity,
            place,
            open_role,
            _next_epoch,
            closed,
            on_drain=lambda _, begins: self.drains.append(begins),
            make_maker=lambda store: InlineSnapshotMaker(store, CountingMachine()),
            snapshot_every_records=self._options.get("every_records", 100_000),
        )
        self.store = store = await self._open_store()
        try:
            await node.start(store)
        except BaseException:
            await node.close()
            await store.close()
            raise
        return node

    async def _open_store(self) -> Store:
        opened = self._options.get("open_store")
        return await opened() if opened else MemoryStore(self.disk, self.disk.fsync)

    @property
    def node(self) -> PairNode:
        assert self.supervisor.node is not None, f"{self.name} is down"
        return self.supervisor.node

    @property
    def replica(self) -> Replica:
        return self.node.replica

    @property
    def status(self) -> str:
        """The state as people see it; `down` while it boots or is gone."""
        return "down" if self.supervisor.node is None else self.replica.status

    @property
    def loop(self) -> NodeLoop[Count]:
        found: NodeLoop[Count] = self.node.loop
        assert found is not None, f"{self.name} does not act"
        return found

    def add(self, amount: Any, **fields: Any) -> "asyncio.Future[Any]":
        """Ask the acting node to count."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.loop.post(Work(Add(amount), done=answer.set_result), **fields)
        return answer

    async def crash(self) -> None:
        """Kill it: nobody is told, what was not fsynced is lost."""
        self.worlds[-1].network.revoke("it crashed", notice=False)
        self.worlds[-1].revoke("it crashed")
        await self.disk.crash_with(self.supervisor.close("it crashed"))

    async def boot(self) -> None:
        """Start it again after a crash."""
        self.supervisor = Supervisor(self.name, self._boot, LoopClock(), self.given_up.append)
        await self.supervisor.start()


class Pair:
    """Two halves, their register and their network. Use it as `async with`: at the end nothing may have failed."""

    def __init__(self, seed: int = 0, weather: Weather | None = None, **options: Any) -> None:
        """`options`: of both halves, or of one when given as `A=` or `B=`."""
        self.network = SimNetwork(Random(seed), weather or Weather())
        self.cell = Cell()
        each = {name: options.pop(name, {}) for name in (A, B)}
        self.a = Half(self, A, B, Disk(), **options, **each[A])
        self.b = Half(self, B, A, Disk(), **options, **each[B])
        self.halves = {A: self.a, B: self.b}
        self.clients: list[PairClient] = []
        self.failures: list[BaseException] = []

    def ask(self, url: str, cluster: str = CLUSTER) -> PairClient:
        """A person's handle on the half that speaks there."""
        world = PairWorld(f"person {len(self.clients)}", 1, self.network)
        client = PairClient(world, f"sim://{url}", cluster, "counter", on_failure=self.failures.append)
        client.start()
        self.clients.append(client)
        return client

    async def status(self, url: str, cluster: str = CLUSTER) -> PairStatus:
        """What a half tells a person."""
        return await self.ask(url, cluster).status()

    async def __aenter__(self) -> Self:
        for half in self.halves.values():
            await half.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        for client in self.clients:
            await client.close()
        for half in self.halves.values():
            await half.supervisor.close()
        if error[0] is None:
            assert [*self.a.given_up, *self.b.given_up, *self.failures] == []

    async def init(self) -> None:
        """Tell the register that A begins, alone in sync; returns when A acts."""
        self.cell.value = Ownership(CLUSTER, 1, A, (Member(A, self.a.replica.who.store),), 0)
        await until(lambda: self.a.status in ("solo", "joining", "coupled") and self.a.node.loop is not None)

    async def couple(self) -> None:
        """Wait until one is coupled and the other its standby."""
        await until(lambda: sorted((self.a.status, self.b.status)) == ["coupled", "standby"])

    @property
    def acting(self) -> Half:
        """The one that may act."""
        (found,) = [one for one in self.halves.values() if one.status != "down" and one.replica.may_act()]
        return found

    def is_same(self) -> bool:
        """Whether both disks end with the same record, the same chain behind it."""
        return self.a.disk.image() == self.b.disk.image()


def _next_epoch(role: Any, epoch: int) -> None:
    role.loop.epoch = epoch


TIMES = Times()
