"""P10: what an order costs while the journal grows. One engine, orders without a pause, snapshots as in life.

* Time is taken for every slice of orders. The first figure is the median of the slices from `growth_first` orders on,
  the last one that of as many slices at the end; their ratio says whether the cost is flat.
* Minutes lie between the two, in which the machine may have become slower. So the bare loop is measured before and
  behind both, and the ratio that counts is the one of order ÷ bare loop.
"""

import asyncio
import statistics

from engine.embed import Engine
from tests.benchmarks.floors import bare_rate, one_step
from tests.benchmarks.measure import Bench, Stopwatch, bounded
from tests.benchmarks.orders import CALLABLES, PARALLEL_MAX, one, run_orders

GROWTH_S_MAX = 3_600.0

Slices = list[tuple[float, float]]  # seconds of wall time and of processor time


def measure_growth(bench: Bench) -> None:
    """Let a journal grow to the plan's number of orders."""
    bench.progress.say("P10")
    plan = bench.plan
    first, last = asyncio.run(_grow(bench))
    for name, place in (("P10 wall", 0), ("P10 processor", 1)):
        costs = [statistics.median(one_slice[place] for one_slice in slices) for slices in (first, last)]
        bench.put(name, costs[1] / costs[0])
        for orders, cost_s in zip((plan.growth_first, plan.growth_orders), costs, strict=True):
            bench.put(f"{name} µs at {orders:,}", cost_s / plan.growth_slice * 1e6)
    before, after = (statistics.median(found) for found in _halves(bench.series["bare loop, beside P10"]))
    bench.put("P10", bench.series["P10 wall"][-1] * after / before)
    if plan.growth_orders < 1_000_000:
        bench.note(f"P10 went from {plan.growth_first:,} to {plan.growth_orders:,} orders, not to 1,000,000.")


def _halves(figures: list[float]) -> tuple[list[float], list[float]]:
    return figures[:2], figures[2:]


async def _grow(bench: Bench) -> tuple[Slices, Slices]:
    plan, found = bench.plan, Slices()
    slices = plan.growth_first // plan.growth_slice
    total = plan.growth_orders // plan.growth_slice
    edges = (slices, 2 * slices, total - slices, total)  # the first ones begin and end, the last ones begin and end
    async with (
        bounded("P10", GROWTH_S_MAX),
        Engine(bench.folder("growth"), callables=CALLABLES, parallel_max=PARALLEL_MAX) as engine,
    ):
        await engine.deploy(one())
        for number in range(total + 1):
            if number in edges:
                rate = await bare_rate(bench, one_step, min(plan.orders, plan.growth_first), plan.in_flight)
                bench.put("bare loop, beside P10", rate)
            if number == total:
                break
            watch = Stopwatch(collect=False)
            await run_orders(engine, one().name, number * plan.growth_slice, plan.growth_slice, plan.in_flight)
            found.append(watch.read())
            bench.progress.at((number + 1) * plan.growth_slice, plan.growth_orders)
    return found[slices : 2 * slices], found[-slices:]
