"""@simulate: a test of somebody's own workflow, run over many seeds with kills, cuts and lost messages. Floor 10.

* The test is an async function whose argument `sim` is a Simulation; it becomes a plain function for any test runner.
* Each seed is a fresh cluster in virtual time. Faults begin with the test and end with `heal`; afterwards everything
  must come to rest, and the accounts of all nodes must agree, whether the test asks for it or not.
* Environment: UNDERSTUDY_SEED=17 replays one seed and prints its timeline; UNDERSTUDY_SEEDS=500 tries so many.
"""

import asyncio
import functools
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from engine.base.codec import Value
from engine.base.ids import OrderId
from engine.documents.builder_callables import callables_of
from engine.model.event import Event
from engine.model.order import Order, OrderState
from engine.model.outcome import Outcome
from engine.model.workflow import Workflow
from engine.simulation.audit import Rests, audit, rests, unsettled
from engine.simulation.cluster import SimCluster
from engine.simulation.escapes import forbid_escapes
from engine.simulation.faults import NO_FAULTS, Faults, Storm
from engine.simulation.loop import Deadlock, Runaway, VirtualLoop, run
from engine.simulation.modelled_jobs import JobModel
from engine.simulation.processes import ProcessGroup

SEEDS = 20
DRAWN_FAULTS = Faults()  # kinds and pace are drawn from the seed
STEPS_MAX = 5_000_000
QUIET_SECONDS = 3_600.0
LINES_SHOWN = 30  # of the timeline, in a failure's text

Test = Callable[..., Awaitable[None]]
_Call = tuple[str, Mapping[str, Any] | None, dict[str, Any]]


class SimulationFailed(AssertionError):
    """A seed failed: what was found, how to replay it, and the end of its timeline."""

    def __init__(self, seed: int, found: Sequence[str], timeline: Sequence[str], test: str) -> None:
        self.seed = seed
        self.found = list(found)
        self.timeline = list(timeline)
        last = "\n".join(self.timeline[-LINES_SHOWN:])
        super().__init__(
            f"seed {seed} of {test}:\n"
            + "\n".join(self.found)
            + f"\n\nReplay it, with its whole timeline: set UNDERSTUDY_SEED={seed} and run {test} alone."
            + (
                f"\nThe last {min(len(self.timeline), LINES_SHOWN)} lines of {len(self.timeline)}:\n{last}"
                if last
                else ""
            )
        )


class SimOrder:
    """An order of a simulation."""

    def __init__(self, simulation: "Simulation", order: str) -> None:
        self.id = order
        self._simulation = simulation

    @property
    def view(self) -> Order:
        """The order as the controller sees it now; raises LookupError while the controller is down or it is gone."""
        order: Order = self._simulation.cluster.controller_state.orders[OrderId(self.id)]
        return order

    @property
    def state(self) -> OrderState:
        return self.view.state

    @property
    def outcome(self) -> Outcome | None:
        return self.view.outcome

    @property
    def variables(self) -> dict[str, Value]:
        """Its variables; once it has finished, its results."""
        return self.view.variables

    async def ended(self) -> Order:
        """Wait until it has ended, through all faults."""
        await self._simulation.cluster.until(self._has_ended, f"order {self.id} has ended", seconds=QUIET_SECONDS)
        return self.view

    def _has_ended(self) -> bool:
        if not self._simulation.cluster.is_served():
            return False
        order = self._simulation.cluster.controller_state.orders.get(self.id)
        return order is not None and order.is_terminal


class Simulation:
    """What a simulated test is given as `sim`."""

    def __init__(self, cluster: SimCluster, storm: Storm, callables: dict[str, Callable[..., Any]]) -> None:
        self.cluster = cluster
        self.storm = storm
        self.seed = cluster.seed
        self.asked: dict[str, bool] = {}  # what `sometimes` was asked about, and whether it was met
        self._callables = callables
        self._always: list[tuple[Callable[[], Any], str]] = []
        self._raging: asyncio.Task[None] | None = None
        self._orders = 0

    async def begin(self) -> None:
        """Boot the cluster and let the faults begin."""
        await self.cluster.start()
        self.cluster.lookout.also(on_event=self._look, on_process=self._look_at_process)
        self._raging = asyncio.get_running_loop().create_task(self.storm.rage())

    async def end(self, may_rest: Rests) -> None:
        """Let the faults have their time, heal, wait until all is quiet, compare the accounts, close."""
        if self._raging is not None:
            await asyncio.wait([self._raging])
        await self.heal()
        await self.run_until_quiet(may_rest=may_rest)
        await self.cluster.close()
        self.cluster.raise_breaches()

    # --- what a test does ---------------------------------------------------------------------------------------------

    async def deploy(self, workflow: Workflow) -> None:
        """Make a workflow known, with the callables it was built with."""
        self._callables.update(callables_of(workflow))
        await self.cluster.deploy(workflow)

    async def add_order(
        self, workflow: str | Workflow, variables: Mapping[str, Value] | None = None, *, order_id: str | None = None
    ) -> SimOrder:
        """Add an order and return once it is durable, however often the link is lost. A Workflow is deployed first."""
        if isinstance(workflow, Workflow):
            await self.deploy(workflow)
        name = workflow.name if isinstance(workflow, Workflow) else workflow
        self._orders += 1
        chosen = order_id or f"{name}-{self._orders}"
        await self.cluster.add_order(chosen, name, variables)
        return SimOrder(self, chosen)

    def always(self, condition: Callable[[], Any], what: str) -> None:
        """Demand that a condition holds whenever anything has happened: an event durable, a process begun or ended."""
        self._always.append((condition, what))
        self._look("", None)

    def sometimes(self, what: str, condition: Any = True) -> None:
        """Expect that a condition is met in at least one of the seeds; else the whole test fails at its end."""
        self.asked[what] = self.asked.get(what, False) or bool(condition)

    def running(self, label: str | None = None) -> list[ProcessGroup]:
        """The processes that really run now, of one job or of all."""
        groups = [group for node in self.cluster.nodes.values() for group in node.machine.running()]
        return [group for group in groups if label is None or group.label == label]

    def processes(self, label: str | None = None) -> list[ProcessGroup]:
        """Every process that ever began, of one job or of all."""
        groups = [group for node in self.cluster.nodes.values() for group in node.machine.groups]
        return [group for group in groups if label is None or group.label == label]

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)

    async def heal(self) -> None:
        """End all faults: from here on the weather is good."""
        raging, self._raging = self._raging, None
        if raging is not None:
            if not raging.done():
                raging.cancel()
                await asyncio.wait([raging])
            if not raging.cancelled() and (error := raging.exception()) is not None:
                raise error
            self.storm.heal()

    async def run_until_quiet(self, *, seconds: float = QUIET_SECONDS, may_rest: Rests = rests) -> None:
        """Wait until every order has ended or rests by its own rule, then compare the accounts of all nodes.

        `may_rest` says of an order that has not ended whether it may stay so. Raises AssertionError.
        """
        try:
            await self.cluster.until(
                lambda: not any(unsettled(self.cluster, may_rest)), "all is quiet", seconds=seconds
            )
        except TimeoutError as error:
            raise AssertionError("\n".join([str(error), *unsettled(self.cluster, may_rest)])) from None
        if found := list(audit(self.cluster)):
            raise AssertionError("\n".join(found))

    # --- watching -----------------------------------------------------------------------------------------------------

    def _look(self, _node: str, _event: Event | None) -> None:
        for condition, what in self._always:
            try:
                holds = bool(condition())
            except Exception as error:  # noqa: BLE001 - a condition that can not be asked does not hold
                holds, what = False, f"{what} ({type(error).__name__}: {error})"
            if not holds:
                self.cluster.lookout.breaches.tell(f"always: {what}")

    def _look_at_process(self, _group: ProcessGroup) -> None:
        self._look("", None)


class Settings(msgspec.Struct, frozen=True):
    """How the seeds of a test are run."""

    seeds: int
    controllers: int
    agents: dict[str, int]
    faults: Faults
    jobs: dict[str, JobModel]
    callables: dict[str, Callable[..., Any]]
    parallel_max: int
    may_rest: Rests


def simulate(
    *,
    seeds: int = SEEDS,
    controllers: int = 1,
    agents: Mapping[str, int] | Sequence[str] = ("local",),
    faults: Faults | None = DRAWN_FAULTS,
    jobs: Mapping[str, JobModel] | None = None,
    callables: Mapping[str, Callable[..., Any]] | None = None,
    parallel_max: int = 8,
    may_rest: Rests = rests,
) -> Callable[[Test], Callable[..., None]]:
    """Run an async test over many seeds; its argument `sim` is a Simulation, other arguments come from the runner.

    `controllers`: 2 are a pair. `agents`: names, each with one subagent, or name → number of subagents. `faults` None:
    none at all. `jobs`: what the processes of shell and command jobs do, by label, `*` for the others. `callables`: for
    python jobs, by name. `may_rest`: which orders may stay unfinished at the end.
    """
    settings = Settings(
        seeds=seeds,
        controllers=controllers,
        agents=dict(agents) if isinstance(agents, Mapping) else dict.fromkeys(agents, 1),
        faults=NO_FAULTS if faults is None else faults,
        jobs=dict(jobs or {}),
        callables=dict(callables or {}),
        parallel_max=parallel_max,
        may_rest=may_rest,
    )

    def decorate(test: Test) -> Callable[..., None]:
        signature = inspect.signature(test)
        if "sim" not in signature.parameters:
            raise TypeError(f"{test.__qualname__} takes no argument `sim`, so it can not be simulated")

        @functools.wraps(test)
        def simulated(*args: Any, **named: Any) -> None:
            __tracebackhide__ = True
            run_seeds(functools.partial(test, *args, **named), settings, test.__qualname__)

        others = [one for name, one in signature.parameters.items() if name != "sim"]
        simulated.__signature__ = signature.replace(parameters=others, return_annotation=None)  # type: ignore[attr-defined]
        simulated.simulated = settings  # type: ignore[attr-defined]  # how the pytest plug-in knows it
        del simulated.__wrapped__  # it would show runners the async function behind
        return simulated

    return decorate


def chosen_seeds(count: int) -> tuple[list[int], bool]:
    """Return the seeds to run, as the environment says, and whether one of them is being replayed."""
    one, many = os.environ.get("UNDERSTUDY_SEED"), os.environ.get("UNDERSTUDY_SEEDS")
    return ([int(one)], True) if one else (list(range(int(many or count))), False)


def run_seeds(test: Test, settings: Settings, name: str) -> None:
    """Run a test's seeds; raises SimulationFailed for the first that fails, AssertionError for what no seed met."""
    __tracebackhide__ = True
    seeds, replaying = chosen_seeds(settings.seeds)
    met: dict[str, bool] = {}
    for seed in seeds:
        asked = _run_seed(seed, test, settings, name, replaying)
        for what, was_met in asked.items():
            met[what] = met.get(what, False) or was_met
    never = [what for what, was_met in met.items() if not was_met]
    if never and not replaying:
        raise AssertionError(f"in none of {len(seeds)} seeds of {name}: " + "; ".join(never))


def _run_seed(seed: int, test: Test, settings: Settings, name: str, replaying: bool) -> dict[str, bool]:
    __tracebackhide__ = True  # pytest leaves these frames out
    kept: list[Simulation] = []
    failure: BaseException | None = None
    with forbid_escapes() as escapes:
        try:
            run(_live(seed, test, settings, kept), seed=seed, max_steps=STEPS_MAX)
        except (AssertionError, TimeoutError, LookupError, Deadlock, Runaway) as error:
            failure = error
    timeline = list(kept[0].cluster.lookout.timeline.lines()) if kept else []
    if replaying:
        sys.stdout.write("\n".join([f"seed {seed} of {name}", *timeline, ""]))
    found = [] if failure is None else [f"{type(failure).__name__}: {failure}"]
    found += [f"escape: {one}" for one in escapes]
    if found:
        raise SimulationFailed(seed, found, [] if replaying else timeline, name) from failure
    return kept[0].asked


async def _live(seed: int, test: Test, settings: Settings, kept: list[Simulation]) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    callables = dict(settings.callables)
    cluster = SimCluster(
        loop,
        seed,
        controllers=settings.controllers,
        agents=settings.agents,
        jobs=settings.jobs,
        callables=callables,
        parallel_max=settings.parallel_max,
    )
    simulation = Simulation(cluster, Storm(cluster, settings.faults), callables)
    kept.append(simulation)
    await simulation.begin()
    await test(sim=simulation)
    await simulation.end(settings.may_rest)
