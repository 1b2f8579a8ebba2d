"""What a simulated test runs on: its cluster, and everything else that a seed is drawn together with. Floor 10.

* A seed means something only together with its settings: `Settings.digest` tells whether two runs can be compared.
* What can not be simulated is refused when the test is made, not when its seeds run.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from engine.base.ids import is_name
from engine.simulation.audit import Rests, rests
from engine.simulation.cluster import SUBAGENT_PARALLEL_MAX, SimCluster
from engine.simulation.disk import QUICK, DiskPace
from engine.simulation.faults import NO_FAULTS, WEIGHTS, Faults
from engine.simulation.modelled_jobs import JobModel
from engine.simulation.network import CALM, Weather
from engine.simulation.pair_faults import PAIR_WEIGHTS

if TYPE_CHECKING:
    from engine.simulation.loop import VirtualLoop

CONTROLLERS_MAX = 2
DIRECTORS_MAX = 2
AGENTS_MAX = 16
SUBAGENTS_MAX = 16  # of one agent
PARALLEL_MAX = 10_000
SEEDS_MAX = 10_000_000
DIGEST_BYTES = 6
TAKEN_NAMES = ("controller", "controller-2", "client", "register")  # what other nodes of a simulation are called


def _within(what: str, number: int, most: int) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= most:
        raise ValueError(f"{what} must be a number from 1 to {most}, not {number!r}")


class Agents(msgspec.Struct, frozen=True):
    """One agent of a cluster: how many subagents it has, and how many directors; 2 directors are a pair."""

    subagents: int = 1
    directors: int = 1


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster that a test runs on; made anew for each seed. Raises ValueError for one that can not be.

    `controllers`: 2 are a pair with a register. `agents`: names, each with one subagent, or name → number of subagents
    or `Agents`. `parallel_max`: how many attempts each subagent runs at once. `disks`, `weather`: how disks and network
    behave by themselves until everything is healed; faults may change them for a while.
    """

    controllers: int = 1
    agents: Mapping[str, int | Agents] | Sequence[str] = ("local",)
    parallel_max: int = SUBAGENT_PARALLEL_MAX
    disks: DiskPace = QUICK
    weather: Weather = CALM

    def __post_init__(self) -> None:
        _within("controllers", self.controllers, CONTROLLERS_MAX)
        _within("parallel_max", self.parallel_max, PARALLEL_MAX)
        if isinstance(self.agents, str) or len(set(self.agents)) < len(self.agents):
            raise ValueError(f"agents={self.agents!r}: give a list of names, each once, or name → number of subagents")
        _within("the number of agents", len(self.agents), AGENTS_MAX)
        for name, agent in self.each_agent().items():
            if not is_name(name) or name in TAKEN_NAMES:
                raise ValueError(
                    f"no agent can be called {name!r}: letters, digits, _ . -, and no name of another node"
                )
            _within(f"the number of subagents of {name}", agent.subagents, SUBAGENTS_MAX)
            _within(f"the number of directors of {name}", agent.directors, DIRECTORS_MAX)

    def each_agent(self) -> dict[str, Agents]:
        """The agents by name."""
        if not isinstance(self.agents, Mapping):
            return {name: Agents() for name in self.agents}
        return {name: one if isinstance(one, Agents) else Agents(one) for name, one in self.agents.items()}

    @property
    def directors(self) -> tuple[str, ...]:
        """The agents that have a pair of directors."""
        return tuple(name for name, agent in self.each_agent().items() if agent.directors == 2)

    def made(
        self,
        loop: "VirtualLoop",
        seed: int,
        *,
        jobs: Mapping[str, JobModel],
        callables: Mapping[str, Callable[..., Any]],
    ) -> SimCluster:
        """Make the cluster of one seed; it has not started."""
        return SimCluster(
            loop,
            seed,
            controllers=self.controllers,
            agents={name: agent.subagents for name, agent in self.each_agent().items()},
            jobs=jobs,
            callables=callables,
            weather=self.weather,
            disks=self.disks,
            parallel_max=self.parallel_max,
            directors=self.directors,
        )


ONE_OF_EACH = Cluster()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the seeds of a test are run. `work`: what else decides what a seed does, as text."""

    seeds: int
    cluster: Cluster = ONE_OF_EACH
    faults: Faults = NO_FAULTS
    jobs: dict[str, JobModel] = {}
    callables: dict[str, Callable[..., Any]] = {}
    may_rest: Rests = rests
    work: str = ""

    def __post_init__(self) -> None:
        _within("seeds", self.seeds, SEEDS_MAX)  # a test of no seeds would hold, whatever it says

    def digest(self) -> str:
        """Name what a seed is drawn together with: cluster, faults, jobs. The test and its workflows are no part of it.

        A coroutine stands for itself by its name: when it draws something else, the same seed does something else.
        """
        drawn = (WEIGHTS, PAIR_WEIGHTS) if self.faults.kinds is None else ()
        cluster = (self.cluster.controllers, self.cluster.each_agent(), self.cluster.parallel_max)
        world = (self.cluster.disks, self.cluster.weather, self.faults, drawn, self.jobs, self.work)
        source = msgspec.json.encode((cluster, world), enc_hook=_named)
        return hashlib.blake2b(source, digest_size=DIGEST_BYTES).hexdigest()


def _named(value: Any) -> str:
    """Stand for a class or a function by its name; its module is called differently by those who load it."""
    name: str = getattr(value, "__qualname__", type(value).__qualname__)
    return name
