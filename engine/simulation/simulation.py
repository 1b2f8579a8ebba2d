"""Simulation: what a simulated test is given as `sim`. Floor 10.

* Faults begin with the test and end with `heal`; afterwards everything must come to rest, and the accounts of all nodes
  must agree, whether the test asks for it or not.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from engine.base.codec import Value
from engine.base.ids import OrderId
from engine.documents.builder_callables import callables_of
from engine.model.event import Event
from engine.model.order import Order, OrderState
from engine.model.outcome import Outcome
from engine.model.workflow import Workflow
from engine.simulation.audit import Rests, audit, rests, unsettled
from engine.simulation.cluster import SimCluster
from engine.simulation.faults import Storm
from engine.simulation.modelled_jobs import JobModel
from engine.simulation.processes import ProcessGroup

QUIET_SECONDS = 3_600.0


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
        """`callables`: those that the cluster looks into for each attempt."""
        self.cluster = cluster
        self.storm = storm
        self.seed = cluster.seed
        self.asked: dict[str, bool] = {}  # what `sometimes` was asked about, and whether it was met
        self.endings: Counter[str] = Counter()  # how the orders ended, once all was quiet
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
        self.endings.update(_ending(one) for one in self.cluster.controller_state.orders.values() if one.parent is None)
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

    def job(self, label: str, model: JobModel) -> None:
        """Say from now on what the processes of a job do; `*`: of all that nothing else is said of."""
        self.cluster._jobs[label] = model

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


def _ending(order: Order) -> str:
    """Say how an order ended, alike for all that ended so."""
    if not order.is_terminal:
        return f"{order.state} ({order.obstacle or order.cause or 'by its own rule'})"
    outcome = order.outcome
    return str(order.state) if outcome is None or order.state is OrderState.FINISHED else str(outcome)
