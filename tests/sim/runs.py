"""One seed: a random cluster with random work in a random storm, then calm, then the accounts."""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

from engine.simulation.audit import audit, unsettled
from engine.simulation.cluster import SimCluster
from engine.simulation.escapes import forbid_escapes
from engine.simulation.faults import Faults, Storm
from engine.simulation.loop import Deadlock, Runaway, VirtualLoop, run
from engine.simulation.network import CALM, Weather
from tests.sim.workload import JOBS, Calls, Workload, draw_acts

TOPOLOGIES: tuple[dict[str, int], ...] = (
    {"a": 1},
    {"a": 3},
    {"a": 1, "b": 1},
    {"a": 2, "b": 1},
    {"a": 2, "b": 2, "c": 1},
)
QUIET_SECONDS = 1_200.0
STEPS_MAX = 2_000_000
ROUNDS_MAX = 40  # of a person who decides what resting orders wait for


@dataclass
class Report:
    """What one run came to."""

    seed: int
    digest: str = ""
    breaches: list[str] = field(default_factory=list)
    met: dict[str, int] = field(default_factory=dict)
    timeline: list[str] = field(default_factory=list)
    messages: int = 0
    faults: int = 0
    steps: int = 0
    orders: int = 0
    processes: int = 0
    virtual_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What is not drawn from the seed but given. `options`: of the workflows, see tests/support/workflows.py."""

    faults: Faults | None = None
    acts: dict[str, float] | None = None  # what people do: see ACTS in workload.py
    agents: dict[str, int] | None = None
    parallel_max: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    controllers: int = 1
    spans: tuple[float, ...] = (5.0, 12.0, 25.0)  # seconds of faults, one of them
    weather: Weather = CALM  # until a fault changes it, or everything is healed


DRAWN = Plan()


def run_seed(seed: int, plan: Plan = DRAWN, *, with_timeline: bool = False) -> Report:
    """Run one seed and say what came of it; a breach is in the report, never raised."""
    report = Report(seed)
    with forbid_escapes() as escapes:
        try:
            run(_main(seed, plan, report, with_timeline), seed=seed, max_steps=STEPS_MAX)
        except (Runaway, Deadlock) as error:
            report.breaches += [f"{type(error).__name__}: {error}"]
    report.breaches += [f"escape: {one}" for one in escapes]
    return report


async def _main(seed: int, plan: Plan, report: Report, with_timeline: bool) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    random = Random(f"{seed}/run")
    calls = Calls(Random(f"{seed}/calls"))
    calls.is_dead = loop.is_crashed
    agents, parallel_max = random.choice(TOPOLOGIES), random.choice((1, 3, 8))
    cluster = SimCluster(
        loop,
        seed,
        controllers=plan.controllers,
        agents=plan.agents or agents,
        jobs=JOBS,
        callables={"call": calls.call, "call_blocking": calls.call_blocking},
        parallel_max=plan.parallel_max or parallel_max,
        weather=plan.weather,
    )
    calls.added_of = cluster.lookout.ledger.added_of
    cluster.lookout.also(on_event=calls.ended)
    storm = Storm(cluster, plan.faults or Faults(seconds=random.choice(plan.spans)))
    try:
        await _live(cluster, storm, random, plan)
    except AssertionError as error:
        report.breaches += str(error).split("\n")
    except TimeoutError:
        report.breaches += ["S7: commands are not answered in good weather", *unsettled(cluster)]
    report.breaches += [one for one in (*cluster.breaches, *calls.breaches) if one not in report.breaches]
    report.digest, report.steps, report.virtual_s = loop.digest(), loop.steps, loop.time()
    report.met = cluster.lookout.sometimes.met
    report.messages = cluster.network.counts["frames_delivered"]
    report.faults = sum(storm.counts.values())
    report.processes = sum(len(node.machine.groups) for node in cluster.nodes.values())
    if with_timeline or report.breaches:
        report.timeline = list(cluster.lookout.timeline.lines())


async def _live(cluster: SimCluster, storm: Storm, random: Random, plan: Plan) -> None:
    await cluster.start()
    draw, seconds = Random(f"{cluster.seed}/workload"), storm.seconds * random.choice((0.3, 0.7, 1.0))
    work = Workload(cluster, draw, seconds, plan.acts or draw_acts(draw), plan.options)
    await work.prepare()
    working = asyncio.ensure_future(work.run())
    await storm.rage()
    storm.heal()
    async with asyncio.timeout(QUIET_SECONDS):
        await working
        await work.enable_all()
    for _ in range(ROUNDS_MAX):
        await rest(cluster)
        if not await work.decide_resting():
            break
    else:
        raise AssertionError("L3: orders come to rest again and again")
    await cluster.close()
    cluster.raise_breaches()


async def rest(cluster: SimCluster) -> None:
    """Wait until everything is at rest, then compare all accounts."""
    try:
        await cluster.until(lambda: not any(unsettled(cluster)), "everything is at rest", seconds=QUIET_SECONDS)
    except TimeoutError as error:
        raise AssertionError("\n".join([str(error), *unsettled(cluster)])) from None
    check(cluster)


def check(cluster: SimCluster) -> None:
    """Compare all accounts; raises AssertionError."""
    cluster.look_around()
    found = list(audit(cluster))
    if found:
        raise AssertionError("\n".join(found))
    cluster.raise_breaches()
