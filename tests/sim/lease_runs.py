"""Seeds of leased jobs: long programs that must never run twice at once, while nobody hears anybody for long.

One agent, three subagents, times a thirtieth of the real ones, clocks that are wrong by as much as the times allow. No
subagent is crashed: a new process of a simulated node has a clock that begins anew, which no real one has.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from actors import subagent as subagent_module
from actors.director import Director
from actors.subagent import Subagent
from engine.base.codec import encode
from engine.base.ids import AgentId
from engine.jobs.shell import ShellJob
from engine.model.command import GrantLeases
from engine.model.event import AttemptAssigned, AttemptEnded, EpochBegan, Event
from engine.model.job import OnLost, OnPartition
from engine.model.outcome import OutcomeKind
from engine.model.workflow import Workflow
from engine.rules import leases as leases_module
from engine.rules.instructions.job import Execute
from engine.rules.leases import Leases, LeaseTimes, director_ms_min, faults_of
from engine.simulation.cluster import SimCluster
from engine.simulation.escapes import forbid_escapes
from engine.simulation.loop import Deadlock, Runaway, VirtualLoop, run
from engine.simulation.modelled_jobs import Duration
from engine.simulation.network import CALM, Weather
from engine.simulation.processes import ProcessGroup, SimGuard
from tests.sim.runs import STEPS_MAX, Report, rest

AGENT, SUBAGENTS = "a", ("a-1", "a-2", "a-3")
SECONDS = 40.0
ORDERS = 6
CLOCK_ERROR_PPM = 20_000
DRAFT = LeaseTimes(
    lease_ms=2_000,
    grace_ms=200,
    margin_ms=50,
    renew_ms=300,
    late_ms=10,
    grain_ms=2,
    detection_ms=300,
    activation_ms=300,
    clock_error_ppm=CLOCK_ERROR_PPM,
)
TIMES = msgspec.structs.replace(DRAFT, director_ms=director_ms_min(DRAFT))
JOB = Duration(ms_min=500, ms_max=15_000, stubborn_rate=0.5, term_ms_max=150)
assert faults_of(TIMES) == []

Patch = Callable[[Any, str, Any], None]


class LeaseStorm:
    """Cuts, clogs, pauses and crashes around one agent and its subagents."""

    def __init__(self, cluster: SimCluster, *, guards: bool = False) -> None:
        self.cluster = cluster
        self.random = Random(f"{cluster.seed}/lease faults")
        self._agents = cluster.agent_nodes[AGENT]
        self.counts: dict[str, int] = {}
        self._acts = [
            self._cut,
            self._cut_one_way,
            self._clog,
            self._clog_and_cut,
            self._slow_and_cut,
            self._slow_and_cut,
            self._pause,
            self._pause,
            self._crash,
        ]
        if guards:
            self._acts = [self._cut, self._cut_one_way, self._guard]
        self._is_over = False

    async def rage(self) -> None:
        """Cause faults for a while; raises AssertionError as soon as a checker finds a breach."""
        loop, draw = asyncio.get_running_loop(), self.random
        for name in (*(self._agents if len(self._agents) == 1 else ()), *SUBAGENTS):  # a pair needs better clocks
            self.cluster.drift(name, draw.choice((-CLOCK_ERROR_PPM, 0, CLOCK_ERROR_PPM)))
        end, pace_s = loop.time() + SECONDS, draw.uniform(0.3, 3.0)
        while loop.time() < end:
            await asyncio.sleep(draw.expovariate(1 / pace_s))
            act = draw.choice(self._acts)
            self.counts[act.__name__] = self.counts.get(act.__name__, 0) + 1
            act(draw.choice(SUBAGENTS))
            self.cluster.raise_breaches()

    def heal(self) -> None:
        """End all faults."""
        self._is_over = True
        self.cluster.keep_up = True
        self.cluster.network.heal()
        self.cluster.network.weather = CALM
        for name in self.cluster.nodes:
            self.cluster.resume(name)
            self.cluster.boot(name)

    @property
    def _agent(self) -> str:
        return self._agents[0] if len(self._agents) == 1 else self.random.choice(self._agents)

    def _later(self, span_ms: float, act: Callable[..., object], *args: Any) -> None:
        def in_time() -> None:
            if not self._is_over:
                act(*args)

        self.cluster.nodes[self._agents[0]].machine.later(span_ms, in_time)

    def _cut(self, subagent: str) -> None:
        agent = self._agent
        self.cluster.network.cut(agent, subagent)
        self._later(self.random.uniform(100, 9_000), self.cluster.network.heal_between, agent, subagent)

    def _cut_one_way(self, subagent: str) -> None:
        agent = self._agent
        ends = (agent, subagent) if self.random.random() < 0.5 else (subagent, agent)
        self.cluster.network.cut_one_way(*ends)
        self._later(self.random.uniform(100, 9_000), self.cluster.network.heal_between, agent, subagent)

    def _clog(self, subagent: str) -> None:
        agent = self._agent
        ends = (agent, subagent) if self.random.random() < 0.7 else (subagent, agent)
        self.cluster.network.clog(*ends, self.random.uniform(100, 3_300))

    def _clog_and_cut(self, subagent: str) -> None:
        """What was granted arrives late, and nothing comes back."""
        self.cluster.network.clog(self._agent, subagent, self.random.uniform(500, 3_300))
        self._later(self.random.uniform(0, 200), self._cut_back, subagent)

    def _slow_and_cut(self, subagent: str) -> None:
        """Every message takes its time, and then nothing comes back."""
        self.cluster.network.weather = Weather(latency_ms_max=900)
        span_ms = self.random.uniform(1_500, 5_000)
        self._later(span_ms, self._cut_back, subagent)
        self._later(span_ms + 1_000, setattr, self.cluster.network, "weather", CALM)

    def _cut_back(self, subagent: str) -> None:
        agent = self._agent
        self.cluster.network.cut_one_way(subagent, agent)
        self._later(self.random.uniform(2_000, 9_000), self.cluster.network.heal_between, agent, subagent)

    def _pause(self, subagent: str) -> None:
        name = self._agent if self.random.random() < 0.3 else subagent
        self.cluster.pause(name)
        self._later(self.random.uniform(100, 6_000), self.cluster.resume, name)

    def _crash(self, _subagent: str) -> None:
        agent = self._agent
        self.cluster.crash(agent, notice=self.random.random() < 0.5)
        self._later(self.random.uniform(50, 3_000), self.cluster.boot, agent)

    def _guard(self, subagent: str) -> None:
        self.cluster.crash_guard(subagent)


class Watch:
    """What was met in a run, and the fences that jobs were given."""

    def __init__(self) -> None:
        self.met: dict[str, int] = {}
        self.breaches: list[str] = []
        self._fences: dict[str, tuple[int, int]] = {}

    def event(self, node: str, event: Event) -> None:
        if node.partition(".")[0] != AGENT:
            return
        self._meet("taken over", isinstance(event, EpochBegan) and node.endswith(".2"))
        self._meet("run again", isinstance(event, AttemptAssigned) and event.attempt > 1)
        if isinstance(event, AttemptEnded):
            is_unknown = event.outcome.kind is OutcomeKind.UNKNOWN
            is_expired = "its lease ran out: " in event.outcome.message
            self._meet("lease expired", is_unknown and is_expired)
            self._meet("fenced or lost", is_unknown and not is_expired)
            self._meet("succeeded", event.outcome.is_success)

    def process(self, group: ProcessGroup, fence: int) -> None:
        """A later attempt has the higher fence."""
        before = self._fences.get(group.order, (0, 0))
        self._fences[group.order] = (group.attempt, fence)
        if (group.attempt, fence) <= before or fence <= before[1]:
            self.breaches.append(f"fence {fence} of attempt {group.attempt} of {group.order} follows {before}")

    def _meet(self, what: str, is_met: bool) -> None:
        self.met[what] = self.met.get(what, 0) + is_met


def run_lease_seed(seed: int, *, guards: bool = False, directors: bool = False, with_timeline: bool = False) -> Report:
    """Run one seed with the short times; `guards`: guards are killed, too; `directors`: the agent has two.

    A breach is in the report, never raised.
    """
    report = Report(seed)
    with forbid_escapes() as escapes:
        try:
            run(_main(seed, guards, directors, report, with_timeline), seed=seed, max_steps=STEPS_MAX)
        except (Runaway, Deadlock) as error:
            report.breaches += [f"{type(error).__name__}: {error}"]
    report.breaches += [f"escape: {one}" for one in escapes]
    return report


async def _main(seed: int, guards: bool, directors: bool, report: Report, with_timeline: bool) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    pairs = [AGENT] if directors else []
    cluster = SimCluster(
        loop, seed, agents={AGENT: len(SUBAGENTS)}, directors=pairs, jobs={"long": JOB}, parallel_max=4
    )
    storm, watch = LeaseStorm(cluster, guards=guards), Watch()
    try:
        await _live(cluster, storm, watch)
    except AssertionError as error:
        report.breaches += str(error).split("\n")
    report.breaches += [one for one in (*cluster.breaches, *watch.breaches) if one not in report.breaches]
    report.digest, report.met = loop.digest(), watch.met
    for name in SUBAGENTS:
        counts = cluster.nodes[name].machine.counts
        for what in ("fenced", "leases", "guard_crashes"):
            report.met[what] = report.met.get(what, 0) + counts[what]
    if with_timeline or report.breaches:
        report.timeline = list(cluster.lookout.timeline.lines())


async def _live(cluster: SimCluster, storm: LeaseStorm, watch: Watch) -> None:
    await cluster.start()
    fences = lambda group: watch.process(group, _fence(cluster, group)) if group.is_running else None
    cluster.lookout.also(on_event=watch.event, on_process=fences)
    step = Execute("long", ShellJob("work"), agent=AgentId(AGENT), on_lost=OnLost.RERUN, on_partition=OnPartition.STOP)
    await cluster.deploy(Workflow("w", "", (step, msgspec.structs.replace(step))))
    for number in range(ORDERS):
        await cluster.add_order(f"o{number}", "w")
    await storm.rage()
    storm.heal()
    await rest(cluster)
    await cluster.close()
    cluster.raise_breaches()


def _fence(cluster: SimCluster, group: ProcessGroup) -> int:
    record = cluster.nodes[group.machine].machine.records[group.key]
    return int(record.spec.environment["UNDERSTUDY_FENCE"])


# --- planted mistakes -------------------------------------------------------------------------------------------------


def leases_count_from_the_grant(patch: Patch) -> None:
    """A lease lasts from the receipt of its grant, not from before it was asked for."""
    patch(subagent_module, "lease_end", lambda _asked_ms, granted_ms, span_ms: granted_ms + span_ms)


def a_director_begins_with_no_leases(patch: Patch) -> None:
    """A new director takes it that nobody was granted a lease before it."""
    begin = Director.__init__

    def begun(self: Any, *args: Any, **named: Any) -> None:
        begin(self, *args, **named)
        for lease in self.leases._leases.values():
            lease.expires_ms = 0

    patch(Director, "__init__", begun)


def leases_are_granted_to_revoked_attempts(patch: Patch) -> None:
    """Whoever asks is granted a lease, also for an attempt that counts as ended."""

    def grant(_self: Any, _subagent: Any, keys: Any, _now_ms: int, _director_ms: int) -> tuple[str, ...]:
        return tuple(keys)

    def grants(self: Any, subagent: Any, link: Any, renewals: Any) -> None:
        patch_leases, granted = self.leases, renewals.keys
        patch_leases.grant(subagent, granted, 0, 0)
        times, now_ms = self.machine.lease_times, self.world.clock.monotonic_ms()
        for key in granted:
            if key in patch_leases and not patch_leases._leases[key].is_over:
                patch_leases._leases[key].expires_ms = now_ms + times.director_ms
        link.post(encode(GrantLeases(renewals.asked_ms, times.lease_ms, granted)), now=True)

    patch(Leases, "grant", grant)
    patch(Director, "_grant", grants)


def the_guard_keeps_no_deadline(patch: Patch) -> None:
    """A guard lets a process run on whose lease is over."""
    patch(SimGuard, "_watch_lease", lambda *_: None)


def offers_are_begun(patch: Patch) -> None:
    """An attempt is begun when it is offered, before it has a lease."""
    take_on = Subagent._take_on

    def taken(self: Any, command: Any) -> None:
        take_on(self, command)
        claim = self._claim(command.start.key)
        if claim is not None:
            del self._claimed[claim.start.order, claim.start.added]
            self._begin(claim.start, self.world.clock.monotonic_ms() + TIMES.lease_ms, claim.terms)

    patch(Subagent, "_take_on", taken)


def a_director_counts_no_longer_than_its_subagent(patch: Patch) -> None:
    """L_D is what a healthy job has left: neither clocks nor the last seconds of a stubborn one are counted."""
    short_ms = TIMES.director_ms - TIMES.lease_ms + TIMES.grace_ms + TIMES.margin_ms
    patch(leases_module, "expiry", lambda expires, now, span: max(expires, now + span - short_ms))


LEASE_MUTANTS: dict[str, Callable[[Patch], None]] = {
    one.__name__: one
    for one in (
        leases_count_from_the_grant,
        a_director_begins_with_no_leases,
        leases_are_granted_to_revoked_attempts,
        the_guard_keeps_no_deadline,
        offers_are_begun,
        a_director_counts_no_longer_than_its_subagent,
    )
}
