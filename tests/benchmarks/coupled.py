"""P6: what a standby costs: the orders of P1 with a coupled pair of controllers, beside those with one controller.

* Topology *one*: both controllers in this process, a journal on the same disk each, so that both fsync there; the
  register is a file. With a process and a disk for each the cost would be spread, and a network would be added.
"""

import asyncio
from functools import partial
from typing import Any

from engine.base.pair import Member, Ownership
from engine.boot import boot_controller_of_pair
from engine.embed import CLUSTER, Engine
from engine.journal.register import SqliteRegister, open_sqlite_register
from engine.pair.node import PairNode, PairPlace
from engine.ports import World
from engine.real import RealPlace
from tests.benchmarks.measure import Bench, Stopwatch, bounded
from tests.benchmarks.orders import CALLABLES, PARALLEL_MAX, one, run_orders

NAMES = ("controller", "controller-2")
LOOK_S = 0.05
COUPLED_S_MAX = 60.0


class CoupledEngine(Engine):
    """An embedded engine whose controllers are a pair."""

    register: SqliteRegister

    async def _boot_controllers(self, place: RealPlace) -> tuple[str, ...]:
        self.register = await open_sqlite_register(str(self.state.absolute() / "register"))
        for name in NAMES:
            await self._supervise(name, place, partial(self._boot_half, name))
        member = Member(NAMES[0], self.half(NAMES[0]).replica.who.store)
        await self.register.create(Ownership(CLUSTER, 1, NAMES[0], (member,), 0))
        async with asyncio.timeout(COUPLED_S_MAX):
            while self.half(NAMES[0]).replica.status != "coupled":
                await asyncio.sleep(LOOK_S)
        return tuple(f"memory://{name}" for name in NAMES)

    async def _boot_half(self, name: str, world: World, **options: Any) -> PairNode:
        other = NAMES[1 - NAMES.index(name)]
        place = PairPlace(
            peer=other,
            own_url=f"memory://{name}-pair",
            peer_url=f"memory://{other}-pair",
            register=self.register,
        )
        return await boot_controller_of_pair(world, f"memory://{name}", place=place, **options)

    def half(self, name: str) -> PairNode:
        """Return one of both, while it runs."""
        node = next(one.node for one in self._supervisors if one.name == name)
        assert isinstance(node, PairNode)
        return node

    async def close(self, reason: str = "the engine was closed") -> None:
        """End everything, the register last."""
        await super().close(reason)
        if hasattr(self, "register"):
            await self.register.close()


async def rate(bench: Bench, kind: type[Engine], count: int, in_flight: int) -> float:
    """Run one-step orders on a fresh engine; returns orders/s. Raises Stuck when a pair did not stay coupled."""
    workflow = one()
    async with (
        bounded(f"{count} orders"),
        kind(bench.folder("engine"), callables=CALLABLES, parallel_max=PARALLEL_MAX) as engine,
    ):
        await engine.deploy(workflow)
        await run_orders(engine, workflow.name, 0, min(in_flight, count), in_flight)  # warm up
        watch = Stopwatch()
        tell = lambda done: bench.progress.at(done, count)
        await run_orders(engine, workflow.name, in_flight, count, in_flight, tell)
        wall_s, _ = watch.read()
        if isinstance(engine, CoupledEngine) and engine.half(NAMES[0]).replica.status != "coupled":
            bench.note("P6: the pair did not stay coupled; what was measured is not what was asked.")
    return count / wall_s


def measure_alone(bench: Bench) -> None:
    """The floor of P6."""
    bench.progress.say("P6 alone")
    bench.put("one controller, one step", asyncio.run(rate(bench, Engine, bench.plan.orders, bench.plan.in_flight)))


def measure_coupled(bench: Bench) -> None:
    """P6."""
    bench.progress.say("P6 coupled")
    bench.put("P6", asyncio.run(rate(bench, CoupledEngine, bench.plan.orders, bench.plan.in_flight)))
