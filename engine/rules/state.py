"""NodeState and View: what controller and agent have in common, and what a rule may look at. Floor 3."""

from collections.abc import Iterable, Mapping

from engine.base.codec import Value
from engine.base.ids import AgentId, BundleId, OrderId, SubagentId
from engine.model.obstacle import AnyObstacle
from engine.model.order import TERMINAL, Attachment, Order, OrderState
from engine.model.workflow import Workflow, WorkflowId

RESERVED_NAMES = ("order", "return_code", "outcome", "error")


class NodeState:
    """Orders and workflows of one node. `agent` is None at the controller.

    Subclasses keep derived indexes right in `restated` and `reattached`, which `apply` calls after each change.
    """

    def __init__(self, agent: AgentId | None) -> None:
        self.agent = agent
        self.node = ""
        self.epoch = 0
        self.forced_epoch = 0  # of the last takeover by force (R14): what was acknowledged before may be lost
        self.orders: dict[OrderId, Order] = {}
        self.workflows: dict[WorkflowId, Workflow] = {}
        self.open_branches: dict[OrderId, int] = {}  # derived: forked order → branches that have not ended

    def owns(self, order: Order) -> bool:
        """Tell whether this node decides about the order: the controller what is not attached, an agent what is."""
        if self.agent is None:
            return order.attachment is Attachment.NONE
        return order.attachment is Attachment.ATTACHED

    def has_parent_of(self, order: Order) -> bool:
        """Tell whether this node decides about the order's parent, so that the branch may end here."""
        parent = None if order.parent is None else self.orders.get(order.parent)
        return parent is not None and self.owns(parent)

    def knows_agent(self, agent: AgentId) -> bool:
        """Tell whether an order may be given to this agent from here."""
        return agent == self.agent

    def incarnation_of(self, subagent: SubagentId) -> int:
        """Return the incarnation of a subagent as last coupled; 0 where that is not known."""
        return 0

    def choose(
        self, order: Order, bundle: BundleId | None, limit_key: str, limit: int | None
    ) -> SubagentId | AnyObstacle:
        """Return the subagent for an order's attempt, or why there is none; only an agent can."""
        raise AssertionError(f"{self.node} is no agent and chooses no subagent")

    def restated(self, order: Order, before: OrderState | None) -> None:
        """Keep indexes right after an order's state changed (None: it is new)."""
        if before is OrderState.PROCESSING:
            order.subagent = None
        parent = order.parent
        if parent is None or before is None or parent not in self.open_branches:
            return
        is_terminal = order.state in TERMINAL
        if is_terminal != (before in TERMINAL):
            self.open_branches[parent] += -1 if is_terminal else 1

    def reattached(self, order: Order, before: AgentId | None) -> None:
        """Keep indexes right after an order's agent changed."""

    def dropped(self, order: Order) -> None:
        """Keep indexes right after an order left the state."""
        self.open_branches.pop(order.id, None)

    def restore(self, orders: Iterable[Order], workflows: Iterable[Workflow]) -> None:
        """Fill a blank state from a snapshot and derive the indexes."""
        self.workflows = {workflow.id: workflow for workflow in workflows}
        self.orders = {order.id: order for order in orders}
        for order in self.orders.values():
            if order.state is OrderState.FORKED:
                ended = (self.orders[child].is_terminal for child in order.children)
                self.open_branches[order.id] = sum(not one for one in ended)
        for order in self.orders.values():
            self.restated(order, None)
            if order.agent is not None:
                self.reattached(order, None)


class View:
    """What a rule sees: the state, to be read only, and the time of the turn."""

    __slots__ = ("now_ms", "state")

    def __init__(self, state: NodeState, now_ms: int) -> None:
        self.state = state
        self.now_ms = now_ms

    def workflow(self, order: Order) -> Workflow:
        """Return the version of the workflow the order runs."""
        return self.state.workflows[order.workflow]

    def children(self, order: Order) -> list[Order]:
        """Return a forked order's branches in the workflow's order."""
        return [self.state.orders[child] for child in order.children]

    def scope(self, order: Order, names: frozenset[str]) -> Mapping[str, Value]:
        """Return the names an expression may read: the order's variables and, where asked for, what the engine knows.

        `order`: {id, workflow, attempt} · `return_code`: of the last attempt, null before · `outcome`: its kind ·
        `error`: its sentence.
        """
        if names.isdisjoint(RESERVED_NAMES):
            return order.variables
        last = order.outcome
        return {
            **order.variables,
            "order": {"id": order.id, "workflow": order.workflow.partition("@")[0], "attempt": order.attempt},
            "return_code": None if last is None else last.return_code,
            "outcome": "" if last is None else last.kind.value,
            "error": "" if last is None else last.message,
        }
