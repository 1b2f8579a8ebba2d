"""P10: what an order costs while the journal grows. One engine, orders without a pause, snapshots as in life.

* Time is taken for every slice of orders. The first figure is the median of the slices from `growth_first` orders on,
  the last one that of as many slices at the end; their ratio says whether the cost is flat.
"""

import asyncio
import statistics

from engine.embed import Engine
from tests.benchmarks.measure import Bench, Stopwatch, bounded
from tests.benchmarks.orders import CALLABLES, PARALLEL_MAX, one, run_orders

GROWTH_S_MAX = 3_600.0


def measure_growth(bench: Bench) -> None:
    """Let a journal grow to the plan's number of orders."""
    bench.progress.say("P10")
    walls, cpus = asyncio.run(_grow(bench))
    plan = bench.plan
    slices = plan.growth_first // plan.growth_slice
    for name, spans in (("", walls), (", processor", cpus)):
        first = statistics.median(spans[slices : 2 * slices])
        last = statistics.median(spans[-slices:])
        bench.put(f"P10{name}", last / first)
        bench.put(f"P10{name} µs at {plan.growth_first:,}", first / plan.growth_slice * 1e6)
        bench.put(f"P10{name} µs at {plan.growth_orders:,}", last / plan.growth_slice * 1e6)
    if plan.growth_orders < 1_000_000:
        bench.note(f"P10 went from {plan.growth_first:,} to {plan.growth_orders:,} orders, not to 1,000,000.")


async def _grow(bench: Bench) -> tuple[list[float], list[float]]:
    plan, name = bench.plan, one().name
    walls: list[float] = []
    cpus: list[float] = []
    async with (
        bounded("P10", GROWTH_S_MAX),
        Engine(bench.folder("growth"), callables=CALLABLES, parallel_max=PARALLEL_MAX) as engine,
    ):
        await engine.deploy(one())
        for done in range(0, plan.growth_orders, plan.growth_slice):
            watch = Stopwatch(collect=False)
            await run_orders(engine, name, done, plan.growth_slice, plan.in_flight)
            wall_s, cpu_s = watch.read()
            walls.append(wall_s)
            cpus.append(cpu_s)
            bench.progress.at(done + plan.growth_slice, plan.growth_orders)
    return walls, cpus
