"""One seed: a random cluster with random work in a random storm, then calm, then the accounts.

* One seed in `SQL_EVERY` has SQLite's files and our own SQL below its controllers and agents, in place of the journal
  in memory; where this Python's SQLite can not be watched, that one has the journal in memory too.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from engine.simulation.audit import audit, unsettled
from engine.simulation.cluster import SimCluster
from engine.simulation.disk import DiskPace
from engine.simulation.escapes import forbid_escapes
from engine.simulation.faults import Faults, Storm
from engine.simulation.loop import Deadlock, Runaway, VirtualLoop, run
from engine.simulation.network import CALM, Weather
from engine.simulation.node import SUBAGENT, SimNode
from engine.simulation.sql_disk import SqlDisk
from engine.simulation.sql_vfs import why_not
from tests.sim.workload import JOBS, Calls, Workload, draw_acts

TOPOLOGIES: tuple[dict[str, int], ...] = (
    {"a": 1},
    {"a": 3},
    {"a": 1, "b": 1},
    {"a": 2, "b": 1},
    {"a": 2, "b": 2, "c": 1},
)
QUIET_SECONDS = 3_600.0  # a queue behind a job that runs once at a time may take most of an hour
STEPS_MAX = 2_000_000
SQL_EVERY = 10
SQL_SEED = 7  # which of so many
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
    has_sql: bool = False
    injected: dict[str, int] = field(default_factory=dict)  # kind of fault → how often
    states: list[int] = field(default_factory=list)  # digests of the cluster's states, if they were asked for


@dataclass(frozen=True)
class Plan:
    """What is not drawn from the seed but given. `options`: of the workflows, see tests/support/workflows.py."""

    faults: Faults | None = None
    acts: dict[str, float] | None = None  # what people do: see ACTS in workload.py
    agents: dict[str, int] | None = None
    parallel_max: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    controllers: int = 1
    with_directors: bool = False  # some agents have two directors, and there are one or two controllers
    spans: tuple[float, ...] = (5.0, 12.0, 25.0)  # seconds of faults, one of them
    sql: bool | None = None  # None: one seed in SQL_EVERY
    weather: Weather = CALM  # until a fault changes it, or everything is healed


DRAWN = Plan()

Watch = Callable[[SimCluster, Report], object]


class SqlCluster(SimCluster):
    """A cluster whose journals are SQLite's files."""

    def __init__(self, folder: str, *arguments: Any, **options: Any) -> None:
        """`folder`: where the files lie."""
        self._folder = folder
        super().__init__(*arguments, **options)

    def _add(self, name: str, role: str, disks: DiskPace) -> None:
        super()._add(name, role, disks)
        if role == SUBAGENT:
            return
        folder = os.path.join(self._folder, name)
        os.mkdir(folder)
        disk = SqlDisk(folder, Random(f"{self.seed}/disk/{name}"), disks, partial(self.lookout.durable, name))
        self.nodes[name] = SimNode(name, role, self.nodes[name].machine, disk)

    def dispose(self) -> None:
        """Close all files."""
        for node in self.nodes.values():
            if isinstance(node.disk, SqlDisk):
                node.disk.dispose()


@contextmanager
def _made(plan: Plan, loop: VirtualLoop, seed: int, report: Report, **options: Any) -> Iterator[SimCluster]:
    """Make a seed's cluster."""
    report.has_sql = not why_not() and (seed % SQL_EVERY == SQL_SEED if plan.sql is None else plan.sql)
    if not report.has_sql:
        yield SimCluster(loop, seed, **options)
        return
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="u-", dir=place) as folder:
        cluster = SqlCluster(folder, loop, seed, **options)
        try:
            yield cluster
        finally:
            cluster.dispose()


def run_seed(seed: int, plan: Plan = DRAWN, *, with_timeline: bool = False, watch: Watch = lambda *_: None) -> Report:
    """Run one seed and say what came of it; a breach is in the report, never raised. `watch` is shown the cluster."""
    report = Report(seed)
    with forbid_escapes() as escapes:
        try:
            run(_main(seed, plan, report, with_timeline, watch), seed=seed, max_steps=STEPS_MAX)
        except (Runaway, Deadlock) as error:
            report.breaches += [f"{type(error).__name__}: {error}"]
    report.breaches += [f"escape: {one}" for one in escapes]
    return report


async def _main(seed: int, plan: Plan, report: Report, with_timeline: bool, watch: Watch) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    random = Random(f"{seed}/run")
    calls = Calls(Random(f"{seed}/calls"))
    calls.is_dead = loop.is_crashed
    agents, parallel_max = random.choice(TOPOLOGIES), random.choice((1, 3, 8))
    agents, controllers, directors = plan.agents or agents, plan.controllers, list[str]()
    if plan.with_directors:
        draw = Random(f"{seed}/directors")
        controllers = draw.choice((1, 2))
        directors = [agent for agent in agents if draw.random() < 0.7] or list(agents)[:1]
    with _made(
        plan,
        loop,
        seed,
        report,
        controllers=controllers,
        agents=agents,
        directors=directors,
        jobs=JOBS,
        callables={"call": calls.call, "call_blocking": calls.call_blocking},
        parallel_max=plan.parallel_max or parallel_max,
        weather=plan.weather,
    ) as cluster:
        calls.added_of = cluster.lookout.ledger.added_of
        cluster.lookout.also(on_event=calls.ended)
        watch(cluster, report)
        await _judge(cluster, calls, random, plan, report)
        if with_timeline or report.breaches:
            report.timeline = list(cluster.lookout.timeline.lines())


async def _judge(cluster: SimCluster, calls: Calls, random: Random, plan: Plan, report: Report) -> None:
    loop, storm = cluster.loop, Storm(cluster, plan.faults or Faults(seconds=random.choice(plan.spans)))
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
    report.injected = dict(storm.counts)
    report.processes = sum(len(node.machine.groups) for node in cluster.nodes.values())


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
