"""Events: the closed, general set of facts a journal holds. Floor 2.

* Instructions compose them and invent none; a new kind of event is a change of the format (see FEATURE_LEVEL).
* Every event of an order has the order's id first and the instant second.
* `travels`: an agent's event that its controller adopts; the others stay where they were written.
* `gc=False`, here and on whatever lives in great numbers: no event holds a cycle, and a million of them walked through
  by the collector would stop the loop for longer than a beat may be late.
"""

from typing import ClassVar

import msgspec

from engine.base.codec import Value
from engine.base.ids import AgentId, OrderId, SubagentId
from engine.base.pair import Ownership
from engine.base.problem import Problem
from engine.model.command import OrderCommand
from engine.model.item import AnyItem
from engine.model.job import OnLost
from engine.model.obstacle import AnyObstacle
from engine.model.order import Mark, Order
from engine.model.outcome import Outcome
from engine.model.position import Position
from engine.model.workflow import Workflow, WorkflowId


class Event(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    """What all events share."""

    travels: ClassVar[bool] = False


class OrderEvent(Event, frozen=True):
    """A fact about one order; an agent's travel up to its controller."""

    travels: ClassVar[bool] = True

    order: OrderId
    at_ms: int


# --- nodes and items --------------------------------------------------------------------------------------------------


class EpochBegan(Event, frozen=True):
    """A node became active: the first event of each activation. All peers count as not connected."""

    at_ms: int
    epoch: int
    node: str


class PairForced(Event, frozen=True):
    """An operator forced this node of a pair to act: what only the other node had is lost.

    `own_last`: the last record here when it was asked; `peer_last`: the last that the other was known to have, -1 when
    nothing was known.
    """

    at_ms: int
    node: str
    epoch: int
    own_last: int
    peer_last: int


class WorkflowDeployed(Event, frozen=True):
    """A version of a workflow is known here (at an agent: was sent by the controller)."""

    at_ms: int
    workflow: Workflow


class ItemChanged(Event, frozen=True):
    """An agent, subagent or bundle was added or changed."""

    at_ms: int
    item: AnyItem


class ItemRemoved(Event, frozen=True):
    """An agent, subagent or bundle was removed; `kind` is agent, subagent or bundle."""

    at_ms: int
    kind: str
    id: str


class AgentCoupled(Event, frozen=True):
    """The controller reached an agent and has adopted all it had to tell."""

    at_ms: int
    agent: AgentId
    incarnation: int


class AgentLost(Event, frozen=True):
    """The controller lost its link to an agent; the agent goes on alone."""

    at_ms: int
    agent: AgentId
    reason: str


class ControllerObeyed(Event, frozen=True):
    """The agent was reached by its controller in a higher epoch than before; it obeys none below it any more."""

    at_ms: int
    controller: str
    epoch: int


class OwnershipChanged(Event, frozen=True):
    """The controller is the register of a director pair: who owns it now; `seeded` by a person, who vouches for it."""

    at_ms: int
    ownership: Ownership
    seeded: bool = False


class SubagentCoupled(Event, frozen=True):
    """An agent reached a subagent and has adopted its reports; a new incarnation has lost its callables."""

    travels: ClassVar[bool] = True

    at_ms: int
    agent: AgentId
    subagent: SubagentId
    incarnation: int


class SubagentLost(Event, frozen=True):
    """An agent lost its link to a subagent; its attempts are not taken as ended."""

    travels: ClassVar[bool] = True

    at_ms: int
    agent: AgentId
    subagent: SubagentId
    reason: str


# --- an order's life --------------------------------------------------------------------------------------------------


class OrderAdded(OrderEvent, frozen=True):
    """An order was accepted; it begins at `scheduled_ms` (0: at once)."""

    workflow: WorkflowId
    variables: dict[str, Value]
    scheduled_ms: int = 0
    priority: int = 0


class OrderStarted(OrderEvent, frozen=True):
    """An order began."""


class OrderMoved(OrderEvent, frozen=True):
    """An order goes on at another position."""

    position: Position


class OrderWaiting(OrderEvent, frozen=True):
    """An order waits until an instant."""

    until_ms: int
    cause: str


class OrderWoken(OrderEvent, frozen=True):
    """The waiting is over; the same step is taken again."""


class OrderExpecting(OrderEvent, frozen=True):
    """An order can not go on yet; it stands in line for what the obstacle names."""

    obstacle: AnyObstacle


class AttemptAssigned(OrderEvent, frozen=True):
    """A subagent was chosen; durable before anything starts."""

    position: Position
    attempt: int
    subagent: SubagentId


class AttemptStarted(OrderEvent, frozen=True):
    """A process was seen to run."""

    attempt: int
    pid: int


class AttemptEnded(OrderEvent, frozen=True):
    """An attempt ended, or is known to be lost (outcome unknown). `started_ms` 0: not known."""

    attempt: int
    outcome: Outcome
    started_ms: int = 0
    results: dict[str, Value] = {}
    out_bytes: int = 0
    err_bytes: int = 0


class OrderHeld(OrderEvent, frozen=True):
    """An attempt is lost and its job says `on_lost: hold`: a person must release the order."""

    attempt: int
    message: str


class AttemptReleased(OrderEvent, frozen=True):
    """A person decided what follows a lost attempt: rerun or fail."""

    attempt: int
    choice: OnLost


class Branch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A branch's order as it begins; its variables are the parent's with these in place."""

    order: OrderId
    branch: str
    position: Position
    variables: dict[str, Value] = {}


class OrderForked(OrderEvent, frozen=True):
    """An order's branches began."""

    branches: tuple[Branch, ...]


class OrderJoined(OrderEvent, frozen=True):
    """All branches have ended and are gone; failing if the outcome is no success."""

    outcome: Outcome
    results: dict[str, Value]


class OrderFaulted(OrderEvent, frozen=True):
    """A step failed without an attempt (a `fail` step, an expression's error)."""

    outcome: Outcome


class OrderCaught(OrderEvent, frozen=True):
    """A failure was caught; the order goes on at a position that handles it."""

    position: Position


class OrderMarked(OrderEvent, frozen=True):
    """A person asked to suspend, cancel, kill, or (no mark) resume. `agent`: who took note; None = the controller."""

    mark: Mark
    agent: AgentId | None = None


class OrderCommanded(OrderEvent, frozen=True):
    """The controller owes its agent a command for an order, until an event of the agent shows its effect."""

    agent: AgentId
    command: OrderCommand


class OrderCommandDropped(OrderEvent, frozen=True):
    """The agent refused such a command; it is owed no more."""

    problem: Problem


class OrderSuspended(OrderEvent, frozen=True):
    """An order stands still until it is resumed."""


class OrderResumed(OrderEvent, frozen=True):
    """A suspended order goes on."""


class OrderAttaching(OrderEvent, frozen=True):
    """The controller gives an order to an agent."""

    agent: AgentId


class OrderAttached(OrderEvent, frozen=True):
    """The agent has the order, whole, and runs it alone."""

    agent: AgentId
    snapshot: Order


class OrderDetached(OrderEvent, frozen=True):
    """The agent has done its part; the controller owns the order as soon as it reads this."""

    agent: AgentId


class OrdersForgotten(Event, frozen=True):
    """The agent dropped orders whose detaching its controller has journaled."""

    at_ms: int
    orders: tuple[OrderId, ...]


class OrderFinished(OrderEvent, frozen=True):
    """An order (or branch) reached its end."""

    outcome: Outcome
    results: dict[str, Value] | None = None  # None: its variables are its results


class OrderFailed(OrderEvent, frozen=True):
    """An order (or branch) ended by a failure nobody caught."""

    outcome: Outcome


class OrderCancelled(OrderEvent, frozen=True):
    """An order ended because a person said so."""


class OrderBroken(OrderEvent, frozen=True):
    """An order ended by a mistake no rule foresaw; the problem says which."""

    problem: Problem


class OrdersDeleted(Event, frozen=True):
    """Terminated orders left the state; history keeps them."""

    at_ms: int
    orders: tuple[OrderId, ...]


AnyEvent = (
    EpochBegan
    | PairForced
    | WorkflowDeployed
    | ItemChanged
    | ItemRemoved
    | AgentCoupled
    | AgentLost
    | ControllerObeyed
    | OwnershipChanged
    | SubagentCoupled
    | SubagentLost
    | OrderAdded
    | OrderStarted
    | OrderMoved
    | OrderWaiting
    | OrderWoken
    | OrderExpecting
    | AttemptAssigned
    | AttemptStarted
    | AttemptEnded
    | OrderHeld
    | AttemptReleased
    | OrderForked
    | OrderJoined
    | OrderFaulted
    | OrderCaught
    | OrderMarked
    | OrderCommanded
    | OrderCommandDropped
    | OrderSuspended
    | OrderResumed
    | OrderAttaching
    | OrderAttached
    | OrderDetached
    | OrdersForgotten
    | OrderFinished
    | OrderFailed
    | OrderCancelled
    | OrderBroken
    | OrdersDeleted
)
