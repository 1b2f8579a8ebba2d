"""AgentState: what an agent and its director hold, and the snapshot of it. Floor 3.

* Only orders, workflows, items, turns, the detached and the lines are stored; the rest is derived on restore.
"""

from typing import cast

import msgspec

from engine.base.ids import AgentId, BundleId, OrderId, SubagentId
from engine.model.item import AgentItem, BundleItem
from engine.model.obstacle import AnyObstacle, NoSubagent
from engine.model.order import Order, OrderState
from engine.model.workflow import Workflow
from engine.rules.director import ALL, Lines, Need, Slots, SubagentState, choose, is_scarcity, limit_obstacle
from engine.rules.instructions.job import Execute, limit_key
from engine.rules.state import NodeState


class AgentSnapshot(msgspec.Struct, array_like=True):
    """The stored form of an AgentState."""

    agent: AgentId
    node: str
    epoch: int
    orders: list[Order]
    workflows: list[Workflow]
    subagents: list[SubagentState]
    bundles: list[BundleItem]
    turns: dict[BundleId, SubagentId]
    detached: dict[OrderId, int]
    lines: list[OrderId]
    item: AgentItem | None
    controller_epoch: int = 0
    forced_epoch: int = 0


class AgentState(NodeState):
    """The orders an agent has, its subagents, and who waits for a slot."""

    def __init__(self, agent: AgentId) -> None:
        super().__init__(agent)
        self.subagents: dict[SubagentId, SubagentState] = {}
        self.bundles: dict[BundleId, BundleItem] = {}
        self.turns: dict[BundleId, SubagentId] = {}  # bundle → the subagent taken last
        self.detached: dict[OrderId, int] = {}  # given back → index of the record that says so
        self.controller_epoch = 0  # the highest in which a controller was obeyed
        self.item: AgentItem | None = None  # as the controller describes this agent
        self.slots = Slots()
        self.lines = Lines()

    def choose(
        self, order: Order, bundle: BundleId | None, limit_key: str, limit: int | None
    ) -> SubagentId | AnyObstacle:
        """Return the subagent for an attempt, or why there is none: who stands in line before it, goes before it."""
        assert self.agent is not None
        ahead = self.lines.ahead_of(order.id, need_of(bundle, limit_key, limit), order.priority)
        if ahead is not None:
            obstacle = self.orders[ahead].obstacle
            assert obstacle is not None, f"order {ahead} stands in line without an obstacle"
            return obstacle
        agent_limit = None if self.item is None else self.item.parallel_max
        reached = limit_obstacle(self.agent, self.slots, limit_key, limit, agent_limit)
        if reached is not None:
            return reached
        item = self.bundles.get(bundle) if bundle else None
        if bundle and item is None:
            return NoSubagent(bundle)
        return choose(self.subagents, item, self.slots, self.turns.get(bundle or ALL))

    def incarnation_of(self, subagent: SubagentId) -> int:
        """Return the incarnation of a subagent as last coupled."""
        found = self.subagents.get(subagent)
        return 0 if found is None else found.incarnation

    def step_of(self, order: Order) -> Execute:
        """Return the job step at which an order stands."""
        return cast("Execute", self.workflows[order.workflow].at(order.position))

    def under_way(self, order_id: OrderId, added: int, attempt: int) -> Order | None:
        """Return the order whose present attempt is this one and has not ended, None when that is over."""
        order = self.orders.get(order_id)
        if order is None or order.state is not OrderState.PROCESSING or not self.owns(order):
            return None
        return order if (order.added, order.attempt) == (added, attempt) else None

    def restated(self, order: Order, before: OrderState | None) -> None:
        if order.subagent is not None:
            if before is OrderState.PROCESSING:
                self.slots.release(order.id, order.subagent, limit_key(order, self.step_of(order)))
            elif order.state is OrderState.PROCESSING:
                self.slots.take(order.id, order.subagent, limit_key(order, self.step_of(order)))
        if order.state is OrderState.EXPECTING:
            self.stand_in_line(order)
        elif before is OrderState.EXPECTING:
            self.lines.leave(order.id)
        super().restated(order, before)

    def stand_in_line(self, order: Order) -> None:
        """Put an expecting order into its line, if a free place ends its waiting and we are to take it."""
        if self.owns(order) and is_scarcity(order.obstacle):
            step = self.step_of(order)
            self.lines.join(order.id, need_of(step.bundle, limit_key(order, step), step.limit), order.priority)
        else:
            self.lines.leave(order.id)

    def reattached(self, order: Order, before: AgentId | None) -> None:
        super().reattached(order, before)
        if not self.owns(order):
            self.lines.leave(order.id)  # given back: it must not stand in the way of those behind it

    def dropped(self, order: Order) -> None:
        super().dropped(order)
        if order.subagent is not None:
            self.slots.release(order.id, order.subagent, limit_key(order, self.step_of(order)))
        self.lines.leave(order.id)
        self.detached.pop(order.id, None)

    def snapshot(self) -> AgentSnapshot:
        """Return the stored form; it shares the orders, so encode it before the state changes."""
        return AgentSnapshot(
            agent=cast("AgentId", self.agent),
            node=self.node,
            epoch=self.epoch,
            orders=list(self.orders.values()),
            workflows=list(self.workflows.values()),
            subagents=list(self.subagents.values()),
            bundles=list(self.bundles.values()),
            turns=self.turns,
            detached=self.detached,
            lines=list(self.lines),
            item=self.item,
            controller_epoch=self.controller_epoch,
            forced_epoch=self.forced_epoch,
        )


def need_of(bundle: BundleId | None, limit_key: str, limit: int | None) -> Need:
    """Return what an order needs to go on, the same for all who stand in one line."""
    return ("" if limit is None else limit_key, limit, bundle or "")


def agent_state_of(snapshot: AgentSnapshot) -> AgentState:
    """Build the state a snapshot describes."""
    state = AgentState(snapshot.agent)
    state.node, state.epoch, state.item = snapshot.node, snapshot.epoch, snapshot.item
    state.controller_epoch = snapshot.controller_epoch
    state.forced_epoch = snapshot.forced_epoch
    state.subagents = {one.item.id: one for one in snapshot.subagents}
    state.bundles = {one.id: one for one in snapshot.bundles}
    state.turns, state.detached = snapshot.turns, snapshot.detached
    state.restore(snapshot.orders, snapshot.workflows)
    for order_id in snapshot.lines:
        state.lines.leave(order_id)
    for order_id in snapshot.lines:
        state.stand_in_line(state.orders[order_id])
    return state
