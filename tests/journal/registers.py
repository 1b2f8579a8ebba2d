"""The registers under test, each behind a site with many askers, on the loop that it needs.

* `sqlite`: the file itself, real threads. `witness`: over memory. `lossy`: a witness over connections that break, and
  that is booted again and again. `simulated`: sound. `flaky`: loses and delays, is down, is cut off. `controller`: the
  journal of one. `controllers`: that of two, who are crashed in turn.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, cast

from actors.witness import Witness
from engine.base.ids import AgentId
from engine.base.pair import Member, Ownership
from engine.base.problem import Refused
from engine.base.tasks import TaskScope
from engine.boot import boot_witness, dial_register
from engine.client.register import LinkRegister
from engine.journal.register import open_sqlite_register
from engine.journal.sqlite_thread import inline_place
from engine.model.item import AgentItem
from engine.ports import Register, RegisterUnreachable, Transport
from engine.ports import World as FullWorld
from engine.simulation.cluster import CLUSTER as SIM_CLUSTER
from engine.simulation.cluster import SimCluster
from engine.simulation.loop import VirtualLoop
from engine.simulation.loop import run as run_virtually
from engine.simulation.network import Weather
from engine.simulation.register import FLAKY, SimRegister
from tests.runtime.linked import CLUSTER, Wires, World, pass_ms

RELIABLE = ("sqlite", "witness", "simulated", "controller")
FAULTY = ("lossy", "flaky", "controllers")
PAIRS = ("pair", "other", "east", "west")  # all that the tests ask for
BAD_WEATHER = Weather(latency_ms_max=20.0, tail_rate=0.05, tail_ms_max=3_000.0, reset_rate=0.02)
TROUBLES = 6


def owned(
    epoch: int = 1, owner: str = "a", insync: str = "a", nonce: int = 1, cluster: str = "pair", store: str = "s"
) -> Ownership:
    """A value; `insync` names its members by one letter each."""
    return Ownership(cluster, epoch, owner, tuple(Member(name, f"{store}-{name}") for name in insync), nonce)


class NodeWorld(World):
    """As much of a World as a witness needs."""

    def __init__(self, node: str, transport: Transport, incarnation: int = 1) -> None:
        super().__init__(node, transport, incarnation)
        self.node = node
        self.incarnation = incarnation
        self.revoked: str | None = None

    def revoke(self, reason: str) -> None:
        self.revoked = reason
        self._transport.revoke(reason)


class Site:
    """One register and its askers."""

    def __init__(self, at: Callable[[str], Register], seed: Callable[[Ownership], Awaitable[Ownership]]) -> None:
        self.at = at
        self.seed = seed


class WitnessSite:
    """A witness that may be booted again, and the links to it."""

    def __init__(self, wires: Wires, folder: Path) -> None:
        self.wires = wires
        self.folder = str(folder / "witness")
        self.failures: list[BaseException] = []
        self.ended: list[BaseException] = []
        self.witness: Witness
        self.incarnation = 0
        self.links: dict[str, LinkRegister] = {}

    async def boot(self) -> None:
        self.incarnation += 1
        world = cast("FullWorld", NodeWorld("w", self.wires.of("w"), self.incarnation))
        opening = partial(open_sqlite_register, dial=inline_place)
        self.witness = await boot_witness(world, self.wires.url("w"), CLUSTER, self.ended.append, self.folder, opening)

    def at(self, asker: str, role: str = "controller") -> LinkRegister:
        if asker not in self.links:
            world = cast("FullWorld", NodeWorld(asker, self.wires.of(asker)))
            link = dial_register(world, role, [self.wires.url("w")], CLUSTER, self.failures.append)
            self.links[asker] = link
        return self.links[asker]

    async def close(self) -> None:
        for link in self.links.values():
            await link.close()
        await self.witness.close()
        assert self.failures == []
        assert self.ended == []


@asynccontextmanager
async def _sqlite(folder: Path, seed: int) -> AsyncIterator[Site]:
    register = await open_sqlite_register(str(folder / "register"))
    try:
        yield Site(lambda _: register, register.seed)
    finally:
        await register.close()


@asynccontextmanager
async def _witness(folder: Path, seed: int) -> AsyncIterator[Site]:
    place = WitnessSite(Wires("memory"), folder)
    await place.boot()
    try:
        yield Site(place.at, place.at("operator").seed)
    finally:
        await place.close()


@asynccontextmanager
async def _lossy(folder: Path, seed: int) -> AsyncIterator[Site]:
    place = WitnessSite(Wires("sim", BAD_WEATHER, seed), folder)
    draw = Random(f"troubles {seed}")
    await place.boot()

    async def trouble() -> None:
        for _ in range(TROUBLES):
            await pass_ms(draw.uniform(100, 4_000))
            await place.witness.close()
            await pass_ms(draw.uniform(0, 2_000))
            await place.boot()

    scope = TaskScope("trouble", place.failures.append)
    troubling = scope.start(trouble(), "trouble")
    try:
        yield Site(place.at, place.at("operator").seed)
        await troubling
    finally:
        await scope.close()
        await place.close()


@asynccontextmanager
async def _simulated(folder: Path, seed: int) -> AsyncIterator[Site]:
    register = SimRegister(Random(seed))
    yield Site(register.at, register.seed)


@asynccontextmanager
async def _flaky(folder: Path, seed: int) -> AsyncIterator[Site]:
    register = SimRegister(Random(seed), FLAKY)
    draw = Random(f"troubles {seed}")
    failures: list[BaseException] = []

    async def trouble() -> None:
        for _ in range(TROUBLES):
            await pass_ms(draw.uniform(100, 4_000))
            register.go_down(draw.uniform(10, 1_500))
            register.cut("n0")
            await pass_ms(draw.uniform(10, 1_500))
            register.heal("n0")

    scope = TaskScope("trouble", failures.append)
    scope.start(trouble(), "trouble")
    try:
        yield Site(register.at, register.seed)
    finally:
        await scope.close()
        assert failures == []


class ControllerSite:
    """A simulated controller, or two, that are the register of as many agents' directors."""

    def __init__(self, seed: int, controllers: int) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.cluster = SimCluster(loop, seed, agents={}, controllers=controllers)
        self.failures: list[BaseException] = []
        self.links: dict[str, LinkRegister] = {}

    async def boot(self) -> None:
        await self.cluster.start()
        for pair in PAIRS:
            await self.cluster.change_item(AgentItem(AgentId(pair), f"sim://{pair}"))

    def at(self, asker: str) -> LinkRegister:
        if asker not in self.links:
            world = self.cluster.world_of_stranger(asker)
            urls = [self.cluster.nodes[one].url for one in self.cluster.controllers]
            context = self.cluster.loop.context_of(world.lane)
            self.links[asker] = context.run(
                dial_register, world, "client", urls, SIM_CLUSTER, self.failures.append, "controller"
            )
        return self.links[asker]

    async def close(self) -> None:
        for link in self.links.values():
            await link.close()
        await self.cluster.close()
        self.cluster.raise_breaches()
        assert self.failures == []


@asynccontextmanager
async def _controller(folder: Path, seed: int) -> AsyncIterator[Site]:
    place = ControllerSite(seed, 1)
    await place.boot()
    try:
        yield Site(place.at, place.at("operator").seed)
    finally:
        await place.close()


@asynccontextmanager
async def _controllers(folder: Path, seed: int) -> AsyncIterator[Site]:
    place = ControllerSite(seed, 2)
    draw = Random(f"troubles {seed}")
    await place.boot()
    assert place.cluster.pair is not None
    await place.cluster.until(place.cluster.pair.has_two_copies, "there are two copies")

    async def trouble() -> None:
        cluster = place.cluster
        assert cluster.pair is not None
        for _ in range(TROUBLES):
            await cluster.until(cluster.pair.has_two_copies, "there are two copies")
            await pass_ms(draw.uniform(5, 40))
            name = draw.choice(cluster.controllers) if cluster.acting is None else cluster.acting.name
            cluster.crash(name, notice=draw.random() < 0.5)
            await pass_ms(draw.uniform(1_000, 9_000))
            cluster.boot(name)

    scope = TaskScope("trouble", place.failures.append)
    troubling = scope.start(trouble(), "trouble")
    try:
        yield Site(place.at, place.at("operator").seed)
        await troubling
    finally:
        await scope.close()
        await place.close()


SITES: dict[str, Callable[[Path, int], AbstractAsyncContextManager[Site]]] = {
    "sqlite": _sqlite,
    "witness": _witness,
    "lossy": _lossy,
    "simulated": _simulated,
    "flaky": _flaky,
    "controller": _controller,
    "controllers": _controllers,
}


def on(kind: str, folder: Path, body: Callable[[Site], Coroutine[Any, Any, None]], seed: int = 0) -> None:
    """Run a test's body at a site, in real or in virtual time."""

    async def main() -> None:
        async with SITES[kind](folder, seed) as site:
            await body(site)

    if kind == "sqlite":
        asyncio.run(main())
    else:
        run_virtually(main(), seed=seed)


async def asker(register: Register, name: str, draw: Random, rounds: int, clusters: tuple[str, ...]) -> None:
    """Put random questions, many of them with knowledge that is old by now."""
    known: dict[str, list[Ownership]] = {cluster: [] for cluster in clusters}
    for number in range(rounds):
        cluster = draw.choice(clusters)
        old = known[cluster]
        try:
            if not old or draw.random() < 0.05:
                answer: Ownership | None = await register.create(owned(1, name, "a", number, cluster))
            elif draw.random() < 0.4:
                answer = await register.read(cluster)
            else:
                expected = old[-1] if draw.random() < 0.8 else draw.choice(old)
                epoch = expected.epoch + draw.choice((1, 1, 1, 2, 0))
                answer = await register.cas(expected, owned(epoch, name, "ab"[: draw.randint(1, 2)], number, cluster))
        except (RegisterUnreachable, Refused):
            continue
        if answer is not None:
            old.append(answer)
