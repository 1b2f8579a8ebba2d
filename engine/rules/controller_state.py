"""ControllerState: what a controller holds, and the snapshot of it. Floor 3."""

import msgspec

from engine.base.ids import AgentId, BundleId, OrderId, SubagentId
from engine.base.pair import Ownership
from engine.model.command import OrderCommand, ReleaseHeld
from engine.model.item import AgentItem, AnyItem, BundleItem, SubagentItem
from engine.model.order import TERMINAL, Attachment, Order, OrderState
from engine.model.workflow import Workflow, WorkflowId
from engine.rules.state import NodeState


class AgentEntry(msgspec.Struct, array_like=True):
    """An agent as its controller sees it. `owed`: order commands its events have not yet confirmed."""

    item: AgentItem
    incarnation: int = 0
    is_coupled: bool = False
    owed: dict[str, OrderCommand] = {}


class ControllerSnapshot(msgspec.Struct, array_like=True):
    """The stored form of a ControllerState."""

    node: str
    epoch: int
    orders: list[Order]
    workflows: list[Workflow]
    agents: list[AgentEntry]
    subagents: list[SubagentItem]
    bundles: list[BundleItem]
    newest: dict[str, WorkflowId]
    terminated: list[OrderId]
    ownerships: list[Ownership] = []
    unconfirmed: list[str] = []
    forced_epoch: int = 0


class ControllerState(NodeState):
    """All orders, wherever they are, and the items."""

    def __init__(self) -> None:
        super().__init__(None)
        self.agents: dict[AgentId, AgentEntry] = {}
        self.subagents: dict[SubagentId, SubagentItem] = {}
        self.bundles: dict[BundleId, BundleItem] = {}
        self.newest: dict[str, WorkflowId] = {}  # workflow name → version deployed last
        self.terminated: dict[OrderId, None] = {}  # root orders, in the order of their end
        self.ownerships: dict[str, Ownership] = {}  # director pair → who owns it: this controller is its register
        self.unconfirmed: dict[str, None] = {}  # pairs whose last owner a forced controller may not know
        self.by_agent: dict[AgentId, dict[OrderId, None]] = {}  # derived: attaching or attached

    def knows_agent(self, agent: AgentId) -> bool:
        return agent in self.agents

    def restated(self, order: Order, before: OrderState | None) -> None:
        super().restated(order, before)
        if order.parent is None:
            if order.state in TERMINAL:
                self.terminated[order.id] = None
            elif before in TERMINAL:
                self.terminated.pop(order.id, None)

    def reattached(self, order: Order, before: AgentId | None) -> None:
        if before is not None:
            self.by_agent[before].pop(order.id, None)
        if order.agent is not None:
            self.by_agent.setdefault(order.agent, {})[order.id] = None

    def dropped(self, order: Order) -> None:
        super().dropped(order)
        self.terminated.pop(order.id, None)
        if order.agent is not None:
            self.owe_nothing(order)
            self.by_agent[order.agent].pop(order.id, None)

    def items_for(self, agent: AgentId) -> tuple[AnyItem, ...]:
        """Return everything an agent must know: itself, its subagents, its bundles."""
        found: list[AnyItem] = [self.agents[agent].item]
        found.extend(one for one in self.subagents.values() if one.agent == agent)
        found.extend(one for one in self.bundles.values() if one.agent == agent)
        return tuple(found)

    def owe(self, agent: AgentId, command: OrderCommand) -> None:
        """Note what an agent must be told until it is confirmed: the newest of an order's marks, and at the end."""
        owed = self.agents[agent].owed
        owed.pop(owed_key(command), None)
        owed[owed_key(command)] = command

    def owe_nothing(self, order: Order) -> None:
        """Strike all that is owed for an order, because it has ended or come back."""
        entry = None if order.agent is None else self.agents.get(order.agent)
        if entry is not None and entry.owed:
            entry.owed.pop(f"mark {order.id}", None)
            entry.owed.pop(f"release {order.id}", None)

    def attaching(self, agent: AgentId) -> list[Order]:
        """Return the orders promised to an agent that it has not confirmed."""
        here = (self.orders[one] for one in self.by_agent.get(agent, ()))
        return [order for order in here if order.attachment is Attachment.ATTACHING]

    def snapshot(self) -> ControllerSnapshot:
        """Return the stored form; it shares the orders, so encode it before the state changes."""
        return ControllerSnapshot(
            node=self.node,
            epoch=self.epoch,
            orders=list(self.orders.values()),
            workflows=list(self.workflows.values()),
            agents=list(self.agents.values()),
            subagents=list(self.subagents.values()),
            bundles=list(self.bundles.values()),
            newest=self.newest,
            terminated=list(self.terminated),
            ownerships=list(self.ownerships.values()),
            unconfirmed=list(self.unconfirmed),
            forced_epoch=self.forced_epoch,
        )


def owed_key(command: OrderCommand) -> str:
    """Return the name under which a command is owed: a newer mark of the same order replaces an older one."""
    return f"{'release' if isinstance(command, ReleaseHeld) else 'mark'} {command.order}"


def controller_state_of(snapshot: ControllerSnapshot) -> ControllerState:
    """Build the state a snapshot describes."""
    state = ControllerState()
    state.node, state.epoch, state.newest = snapshot.node, snapshot.epoch, snapshot.newest
    state.agents = {one.item.id: one for one in snapshot.agents}
    state.subagents = {one.id: one for one in snapshot.subagents}
    state.bundles = {one.id: one for one in snapshot.bundles}
    state.terminated = dict.fromkeys(snapshot.terminated)
    state.ownerships = {one.cluster: one for one in snapshot.ownerships}
    state.unconfirmed = dict.fromkeys(snapshot.unconfirmed)
    state.forced_epoch = snapshot.forced_epoch
    state.restore(snapshot.orders, snapshot.workflows)
    return state
