"""P1, P2, P3: orders through the embedded engine, as the caller sees them: submitted, and known to be over durably.

* Topology *one*: all actors in this process, memory transport, a journal each for controller and agent.
* `in_flight` callers, each adding its next order when the one before has ended.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.embed import Engine
from engine.jobs.python import PythonJob
from engine.model.workflow import Workflow
from engine.rules.instructions.fork import Fork
from engine.rules.instructions.job import Execute
from tests.benchmarks.floors import noop
from tests.benchmarks.measure import Bench, Stopwatch, Stuck, bounded

PARALLEL_MAX = 1_024  # attempts on the subagent; more than any benchmark here has under way


def noop_sync() -> None:
    """The same as a plain function, which runs in a thread."""


CALLABLES: dict[str, Callable[..., Any]] = {"noop": noop, "noop_sync": noop_sync}


def job(name: str = "a", function: str = "noop") -> Execute:
    """A step that calls one of ours."""
    return Execute(name, PythonJob(function))


def one(function: str = "noop") -> Workflow:
    """A workflow of one step."""
    return Workflow(f"one-{function}", "", (job(function=function),))


def chain() -> Workflow:
    """A workflow of three steps."""
    return Workflow("chain", "", (job("a"), job("b"), job("c")))


def fork(branches: int) -> Workflow:
    """A workflow of one fork, each branch a job."""
    return Workflow("fork", "", (Fork({f"b{number}": (job(),) for number in range(branches)}),))


async def run_orders(
    engine: Engine, workflow: str, first: int, count: int, in_flight: int, tell: Callable[[int], None] = lambda _: None
) -> None:
    """Run `count` orders of a deployed workflow to their ends; raises Stuck when one ends without success."""
    left = iter(range(first, first + count))

    async def caller() -> None:
        for number in left:
            order = await engine.add_order(workflow, order_id=f"{workflow}-{number}")
            outcome = await order.outcome()
            if outcome is None or not outcome.is_success:
                raise Stuck(f"order {order.id} ended with {outcome}")
            tell(number - first + 1)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, count)):
            group.create_task(caller())


async def engine_rate(
    bench: Bench, workflow: Workflow, count: int, in_flight: int, folder: Path | None = None
) -> tuple[float, float]:
    """Run orders on a fresh engine; returns orders/s and the processor's microseconds for each."""
    async with (
        bounded(f"{count} orders of {workflow.name}"),
        Engine(folder or bench.folder("engine"), callables=CALLABLES, parallel_max=PARALLEL_MAX) as engine,
    ):
        await engine.deploy(workflow)
        await run_orders(engine, workflow.name, 0, min(in_flight, count), in_flight)  # warm up
        watch = Stopwatch()
        await run_orders(
            engine, workflow.name, in_flight, count, in_flight, lambda done: bench.progress.at(done, count)
        )
        wall_s, cpu_s = watch.read()
    return count / wall_s, cpu_s / count * 1e6


def measure_one(bench: Bench, function: str) -> None:
    """P1 with an async or a sync callable."""
    plan, kind = bench.plan, "sync" if function == "noop_sync" else "async"
    bench.progress.say(f"P1 {kind}")
    rate, cpu_us = asyncio.run(engine_rate(bench, one(function), plan.orders, plan.in_flight))
    bench.put(f"P1 {kind}", rate)
    bench.put(f"P1 {kind}, processor µs", cpu_us)


def measure_chain(bench: Bench) -> None:
    """P2."""
    bench.progress.say("P2")
    rate, cpu_us = asyncio.run(engine_rate(bench, chain(), bench.plan.chains, bench.plan.in_flight))
    bench.put("P2", rate)
    bench.put("P2, processor µs", cpu_us)


def measure_fork(bench: Bench) -> None:
    """P3, in branches."""
    plan = bench.plan
    bench.progress.say("P3")
    rate, cpu_us = asyncio.run(engine_rate(bench, fork(plan.branches), plan.forks, plan.forks_in_flight))
    bench.put("P3", rate * plan.branches)
    bench.put("P3, processor µs", cpu_us / plan.branches)
