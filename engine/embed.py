"""Engine: a controller, agents and subagents inside somebody else's program. Floor 10.

* It lives in the caller's running loop: no signals, no logging set-up, no loop policy, no global state.
* State lies in one folder that belongs to one process at a time; opening it again goes on where it was.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from actors.controller import Controller
from engine.base.codec import Value, value_fault
from engine.base.ids import AgentId, Cursor, SubagentId, is_name
from engine.base.problem import EngineClosed, Refused
from engine.boot import boot_agent, boot_controller, boot_subagent
from engine.client.client import Client, EventStream
from engine.documents.builder import callables_of
from engine.language import standard_language
from engine.model.item import AgentItem, SubagentItem
from engine.model.job import OnLost
from engine.model.order import Order, OrderState
from engine.model.outcome import Outcome
from engine.model.workflow import Workflow, WorkflowId
from engine.ports import StoreFault, World
from engine.real import RealPlace
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.add_orders import AddOrders
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.change_item import ChangeItem
from engine.rules.commands.deploy_workflow import DeployWorkflow
from engine.rules.commands.release_attempt import BadChoice, ReleaseAttempt
from engine.rules.commands.resume_order import ResumeOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.rules.operator_command import OperatorCommand
from engine.runtime.keeper import SNAPSHOT_EVERY_RECORDS
from engine.runtime.link import LinkLost
from engine.runtime.supervisor import Supervisor
from engine.runtime.turn import NotKeepable

CLUSTER = "embedded"
DEFAULT_STATE = ".understudy"


class OrderFailed(Exception):
    """An order ended without success; `state` and `outcome` say how."""

    def __init__(self, order: Order) -> None:
        super().__init__(f"order {order.id} {_ending(order)}")
        self.state = order.state
        self.outcome = order.outcome


class OrderHandle:
    """An order of an engine."""

    def __init__(self, engine: "Engine", order_id: str) -> None:
        self.id = order_id
        self._engine = engine

    async def view(self) -> Order:
        """Return the order as it is now; raises Refused when it is gone."""
        return (await self._engine.client.order(self.id)).order

    async def obstacle(self) -> str:
        """Say in one sentence what it waits for; empty when nothing holds it."""
        return (await self._engine.client.order(self.id)).obstacle

    async def ended(self) -> Order:
        """Wait for its end, however it comes, and return it as it is then."""
        return await self._engine.client.ended(self.id)

    async def outcome(self) -> Outcome | None:
        """Wait for its end and return how it ended."""
        return (await self.ended()).outcome

    async def result(self) -> dict[str, Value]:
        """Wait for its end and return its results; raises OrderFailed when it ended without success."""
        order = await self.ended()
        if order.state is not OrderState.FINISHED:
            raise OrderFailed(order)
        return order.variables

    async def suspend(self) -> None:
        """Let it stand still before its next step."""
        await self._engine.client.command(SuspendOrder(self.id))

    async def resume(self) -> None:
        """Let it go on."""
        await self._engine.client.command(ResumeOrder(self.id))

    async def cancel(self, *, kill: bool = False) -> None:
        """End it between two steps, or at once."""
        await self._engine.client.command(CancelOrder(self.id, kill))

    async def release(self, choice: str, *, has_ended: bool = False) -> None:
        """Say what follows a lost attempt: `rerun` or `fail`.

        `has_ended`: your word that nothing of an attempt runs any more whose subagent can not be reached.
        """
        try:
            wanted = OnLost(choice)
        except ValueError:
            raise Refused(BadChoice(choice=choice)) from None
        await self._engine.client.command(ReleaseAttempt(self.id, wanted, has_ended))


class Engine:
    """An embedded cluster: `async with Engine(state="…") as engine: …`."""

    def __init__(
        self,
        state: str | Path = DEFAULT_STATE,
        *,
        agents: Sequence[str] = ("local",),
        callables: Mapping[str, Callable[..., Any]] | None = None,
        parallel_max: int = 200,
        snapshot_every_records: int = SNAPSHOT_EVERY_RECORDS,
    ) -> None:
        """`agents`: their names, each with one subagent. `callables`: functions that jobs may call by a plain name.

        Raises ValueError for names, or numbers, that can not be.
        """
        self.state = Path(state)
        self._agents = tuple(agents)
        for name in self._agents:
            if not is_name(name) or not is_name(_subagent_of(name)):
                raise ValueError(
                    f"{name!r} can not be the name of an agent: a letter or _, then letters, digits, _ . -"
                )
        if isinstance(agents, str) or len(set(self._agents)) < len(self._agents):
            raise ValueError(f"agents={agents!r}: give a list of names, each once")
        if parallel_max < 1 or snapshot_every_records < 1:
            raise ValueError("parallel_max and snapshot_every_records must be 1 at least")
        self._callables = dict(callables or {})
        self._parallel_max = parallel_max
        self._snapshot_every_records = snapshot_every_records
        self._language = standard_language()
        self._place: RealPlace | None = None
        self._supervisors: list[Supervisor[Any]] = []
        self._client: Client | None = None
        self._closed = "it was never opened"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def client(self) -> Client:
        """The engine's own client of its controller; raises EngineClosed when the engine is not open."""
        if self._client is None:
            raise EngineClosed(self._closed)
        return self._client

    async def open(self) -> None:
        """Open the state folder and start everything; raises StoreFault with a sentence for people.

        EngineClosed when the guard of its jobs can not begin. What was begun is ended again.
        """
        if self._place is not None:
            raise StoreFault(f"The engine on {self.state} is open already.")
        self._place = RealPlace(self.state)
        self.failure: BaseException | None = None  # why a node was given up; None while all is well
        try:
            await self._boot(self._place)
        except BaseException:
            await self.close("it could not be opened")
            raise

    async def _boot(self, place: RealPlace) -> None:
        every = self._snapshot_every_records
        # From below: whoever dials finds somebody who listens already.
        for name in self._agents:
            subagent = partial(boot_subagent, url=f"memory://{_subagent_of(name)}", callables=self._callables)
            await self._supervise(_subagent_of(name), place, subagent)
            agent_boot = partial(boot_agent, url=f"memory://agent-{name}", snapshot_every_records=every)
            await self._supervise(name, place, agent_boot, f"agent-{name}")
        urls = await self._boot_controllers(place)
        if self.failure is not None:
            raise EngineClosed(str(self.failure)) from self.failure
        self._client = Client(place.world("client"), urls, CLUSTER, self._language)
        await self.client.open()
        for name in self._agents:
            agent = AgentId(name)
            await self.client.command(ChangeItem(AgentItem(agent, f"memory://agent-{name}")))
            subagent_id = SubagentId(_subagent_of(name))
            item = SubagentItem(subagent_id, agent, f"memory://{subagent_id}", self._parallel_max)
            await self.client.command(ChangeItem(item))

    async def _boot_controllers(self, place: RealPlace) -> tuple[str, ...]:
        """Boot what leads, and return where it listens."""
        await self._supervise("controller", place, self._boot_controller)
        return ("memory://controller",)

    async def _boot_controller(self, world: World, **options: Any) -> Controller:
        every = self._snapshot_every_records
        return await boot_controller(world, url="memory://controller", snapshot_every_records=every, **options)

    async def _supervise(self, node: str, place: RealPlace, boot: Any, folder: str | None = None) -> None:
        async def start(on_closed: Callable[[BaseException], None]) -> Any:
            world = place.node_world(node, folder or node)
            try:
                return await boot(world, cluster=CLUSTER, on_closed=on_closed, language=self._language)
            except BaseException as error:
                world.revoke(str(error))
                raise

        supervisor: Supervisor[Any] = Supervisor(node, start, place.clock, self._given_up)
        self._supervisors.append(supervisor)
        await supervisor.start()

    def _given_up(self, error: BaseException) -> None:
        self.failure = self.failure or error
        if self._client is not None:
            self._client.end(str(error))

    async def close(self, reason: str = "the engine was closed") -> None:
        """End everything; what is durable stays, processes go on under their guard. Safe to call twice.

        Everything is closed even when closing a part of it fails; then the first failure is raised.
        """
        async with AsyncExitStack() as closing:
            if self._place is not None:
                closing.callback(self._give_back)
            for supervisor in self._supervisors:
                closing.push_async_callback(supervisor.close, reason)
            if self._client is not None:
                closing.push_async_callback(self._client.close, reason)
            self._closed = reason

    def _give_back(self) -> None:
        self._supervisors.clear()
        self._client = None
        if self._place is not None:
            self._place.close()
            self._place = None

    # --- what people do -----------------------------------------------------------------------------------------------

    async def deploy(self, workflow: Workflow) -> WorkflowId:
        """Make a workflow known; the same content again is harmless. Raises Refused."""
        self._callables.update(callables_of(workflow))
        versioned = self._language.versioned(workflow)
        await self._harmless_twice(DeployWorkflow(versioned))
        return versioned.id

    async def add_order(
        self,
        workflow: str | Workflow,
        variables: Mapping[str, Value] | None = None,
        *,
        order_id: str | None = None,
        scheduled_ms: int = 0,
        priority: int = 0,
    ) -> OrderHandle:
        """Add an order and return once it is durable. A Workflow is deployed first. Raises Refused, EngineClosed.

        Choose `order_id` yourself where the same call may happen twice: the second time nothing is added.
        """
        version = None
        named: object = workflow  # whoever has no types may give anything
        if not isinstance(named, Workflow | str):
            wanted = "a workflow is given as a Workflow or by its name"
            raise Refused(NotKeepable(fault=f"{wanted}, not as a {type(named).__name__}"))
        if isinstance(workflow, Workflow):
            name, _, version = (await self.deploy(workflow)).partition("@")
        else:
            name = workflow
        given = dict(variables or {})
        if fault := value_fault(given):
            raise Refused(NotKeepable(fault=f"the order's variables: {fault}"))
        chosen = f"{name if is_name(name) else 'order'}-{self._new_id()}" if order_id is None else order_id
        await self._harmless_twice(AddOrder(chosen, name, given, version or None, scheduled_ms, priority))
        return OrderHandle(self, chosen)

    async def add_orders(self, orders: Sequence[AddOrder]) -> list[OrderHandle]:
        """Add orders, 1,000 at most, all or none. Raises Refused, EngineClosed."""
        await self._harmless_twice(AddOrders(tuple(orders)))
        return [OrderHandle(self, order.order) for order in orders]

    def order(self, order_id: str) -> OrderHandle:
        """Return a handle for an order that was added before."""
        return OrderHandle(self, order_id)

    def events(self, after: Cursor | None = None) -> EventStream:
        """Return the controller's events as an async iterator; without a cursor from now on."""
        return self.client.events(after)

    async def _harmless_twice(self, command: OperatorCommand) -> None:
        """Send a command, again when its outcome was lost with a link (a node of ours was booted again)."""
        while True:
            try:
                await self.client.command(command)
                return
            except LinkLost:
                continue

    def _new_id(self) -> str:
        if self._place is None:
            raise EngineClosed(self._closed)
        return self._place.new_id()


def _subagent_of(agent: str) -> str:
    return f"subagent-{agent}"


def _ending(order: Order) -> str:
    """Say how an order ended, its state once: `failed with return code 3: …`, `failed: timed out`, `broken: …`."""
    if order.outcome is None or order.outcome.kind.value == order.state.value:
        return str(order.outcome or order.state)
    why = order.outcome.message if order.state is OrderState.BROKEN else str(order.outcome)
    return f"{order.state}: {why}"
