"""P4: shell jobs through the engine ÷ the guard alone, running the same argv with the same redirection.

* The guard alone: GuardHost and its guard process, without actors and journals. Each start is recorded durably, each
  output goes to files, each ending is durable before it is told: that is what the guard does for anybody.
* With everything: orders of one job, submitted, journaled, started, ended and known to the caller.
* Both ways have the same number of processes under way, from a process of the same size.
"""

import asyncio
from collections.abc import Callable

from engine.embed import Engine
from engine.jobs.command import CommandJob
from engine.jobs.guard_host import GuardHost
from engine.jobs.process import ProcessJob
from engine.jobs.shell import ShellJob
from engine.model.expression import Template
from engine.model.workflow import Workflow
from engine.ports import ProcessSpec
from engine.real import RealPlace
from engine.rules.instructions.job import Execute
from tests.benchmarks.guard import PROGRAM
from tests.benchmarks.measure import Bench, Stopwatch, Stuck, bounded
from tests.benchmarks.orders import run_orders

KINDS: dict[str, Callable[[], ProcessJob]] = {
    "shell": lambda: ShellJob(PROGRAM),
    "command": lambda: CommandJob((Template(PROGRAM),)),
}


def measure_guard(bench: Bench, kind: str) -> None:
    """The guard alone."""
    bench.progress.say(f"the guard alone: {kind}")
    bench.put(f"guard alone, {kind}", asyncio.run(_guard_rate(bench, KINDS[kind]())))


def measure_engine(bench: Bench, kind: str) -> None:
    """The same with everything."""
    bench.progress.say(f"P4 {kind}")
    bench.put(f"P4 {kind}", asyncio.run(_engine_rate(bench, kind)))


async def _engine_rate(bench: Bench, kind: str) -> float:
    plan, name = bench.plan, f"true-{kind}"
    async with bounded(f"{kind} jobs"), Engine(bench.folder(kind), parallel_max=plan.processes_in_flight) as engine:
        await engine.deploy(Workflow(name, "", (Execute("a", KINDS[kind]()),)))
        in_flight = plan.processes_in_flight
        await run_orders(engine, name, 0, min(8, plan.processes), in_flight)  # warm up
        watch = Stopwatch()
        await run_orders(
            engine, name, 1_000, plan.processes, in_flight, lambda done: bench.progress.at(done, plan.processes)
        )
        return plan.processes / watch.read()[0]


def _spec(host: GuardHost, number: int, job: ProcessJob, environment: dict[str, str]) -> ProcessSpec:
    """What the subagent asks for, for the attempt of one order."""
    key = f"true-{number}/{number}/1"
    folder = f"attempts/true-{number}/{number}-1"
    own = {
        "UNDERSTUDY_ORDER": f"true-{number}",
        "UNDERSTUDY_LABEL": "a",
        "UNDERSTUDY_ATTEMPT": "1",
        "UNDERSTUDY_FENCE": str(1 << 31),
        "UNDERSTUDY_RESULT": f"{host.path(folder)}/result",
    }
    return ProcessSpec(key, job.argv({"0": PROGRAM}), {**environment, **own}, folder, script=job.script_text())


async def _guard_rate(bench: Bench, job: ProcessJob) -> float:
    plan = bench.plan
    place = RealPlace(bench.folder("place"))
    environment = place.world("guard").environment()
    place.close()
    host = GuardHost(bench.folder("guard"), place.clock)
    async with bounded("the guard alone"):
        await host.open()
        try:
            await _run(host, job, environment, range(min(8, plan.processes)), plan.processes_in_flight)
            watch = Stopwatch()
            await _run(host, job, environment, range(1_000, 1_000 + plan.processes), plan.processes_in_flight)
            return plan.processes / watch.read()[0]
        finally:
            await host.close()


async def _run(host: GuardHost, job: ProcessJob, environment: dict[str, str], numbers: range, in_flight: int) -> None:
    left, running, missing = iter(numbers), 0, len(numbers)
    while missing:
        while running < in_flight and (number := next(left, None)) is not None:
            host.start(_spec(host, number, job, environment))
            running += 1
        ended = [report for report in await host.reports() if report.kind != "started"]
        if wrong := [report for report in ended if report.return_code or report.kind != "ended"]:
            raise Stuck(f"{wrong[0]}")
        host.forget([report.key for report in ended])
        running -= len(ended)
        missing -= len(ended)
