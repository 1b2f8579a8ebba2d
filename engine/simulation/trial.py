"""A trial: what is done with a workflow that comes without a test, so that it meets faults. Floor 10.

* Orders are added over the time of the faults; afterwards each must have come to its end, or rest by its own rule.
* That an order fails is a result, not a fault: the report says how orders ended.
"""

from collections.abc import Mapping
from pathlib import Path
from random import Random

import msgspec

from engine.base.codec import Value
from engine.base.ids import AgentId, BundleId, SubagentId
from engine.documents.convert import workflow_from_file
from engine.language import standard_language
from engine.model.item import BundleItem
from engine.model.workflow import DEFAULT_AGENT, Workflow
from engine.rules.instructions.job import Execute
from engine.rules.statement import CONTROLLER, agents_of
from engine.simulation.faults import Faults
from engine.simulation.modelled_jobs import JobModel
from engine.simulation.seeds import Simulated, Test
from engine.simulation.settings import Cluster, Settings
from engine.simulation.simulation import Simulation

ORDERS = 5
ORDERS_MAX = 1_000
SECONDS = 20.0
SECONDS_MAX = 3_600.0
SEEDS = 20


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow and how it is tried. `agents` of the cluster must be those that it names: see `agents_named`."""

    workflow: Workflow
    cluster: Cluster
    orders: int = ORDERS
    arguments: Mapping[str, Value] = {}
    seconds: float = SECONDS
    jobs: Mapping[str, JobModel] = {}
    seeds: int = SEEDS

    def simulated(self, file: Path) -> Simulated:
        """Make the test; `file`: where the workflow stands."""
        work = msgspec.json.encode((self.orders, self.arguments)).decode()
        settings = Settings(
            seeds=self.seeds,
            cluster=self.cluster,
            faults=Faults(seconds=self.seconds),
            jobs=dict(self.jobs),
            work=work,
        )
        return Simulated(self._test(), settings, self.workflow.name, str(file))

    def _test(self) -> Test:
        async def trial(sim: Simulation) -> None:
            random = Random(f"{sim.seed}/trial")
            for bundle in bundles_named(self.workflow, self.cluster):
                await sim.cluster.change_item(bundle)
            await sim.deploy(self.workflow)
            for _ in range(self.orders):
                await sim.add_order(self.workflow.name, self.arguments)
                await sim.sleep(random.uniform(0, 2 * self.seconds / self.orders))

        return trial


def workflow_file(file: Path | str) -> Workflow:
    """Read a workflow document for a test; raises DocumentError with every fault in it."""
    language = standard_language()
    return language.versioned(workflow_from_file(Path(file), language))


def agents_named(workflow: Workflow) -> list[str]:
    """Return the agents that a workflow names, at least the one that is meant where it names none."""
    found = dict.fromkeys((DEFAULT_AGENT, *agents_of(workflow, workflow.steps)))
    return [agent for agent in found if agent != CONTROLLER]


def bundles_named(workflow: Workflow, cluster: Cluster) -> list[BundleItem]:
    """Return the bundles that a workflow names, each with all subagents of its agent."""
    agents = cluster.each_agent()
    bundles = {}
    for _, step in workflow.instructions():
        if isinstance(step, Execute) and step.bundle:
            agent = str(step.place(workflow))
            subagents = {SubagentId(f"{agent}-{one + 1}"): 1 for one in range(agents[agent].subagents)}
            bundles[step.bundle] = BundleItem(BundleId(str(step.bundle)), AgentId(agent), subagents)
    return list(bundles.values())
