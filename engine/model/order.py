"""Order: a run going through a workflow, and its life as one transition table. Floor 2.

* Only `apply` in the rules changes an order; everyone else reads. `variables` is replaced, never changed in place.
* `attempt` rises with each assignment and is never reset: not by a retry, nor by a rerun; a branch begins at its
  parent's number, and the parent goes on from the highest of its branches.
* TRANSITIONS is the whole life of an order; docs/order-states.md is drawn from it.
"""

import enum

import msgspec

from engine.base.codec import Value
from engine.base.ids import AgentId, OrderId, SubagentId
from engine.model.obstacle import AnyObstacle, AttemptLost
from engine.model.outcome import Outcome
from engine.model.position import FIRST, Position
from engine.model.workflow import WorkflowId


class OrderState(enum.StrEnum):
    """Where an order is in its life."""

    FRESH = "fresh"  # added, not begun; maybe scheduled for later
    READY = "ready"  # its next step can be taken
    WAITING = "waiting"  # until a time
    EXPECTING = "expecting"  # a free slot, a subagent, or a person's word; its obstacle says which
    PROCESSING = "processing"  # an attempt is assigned
    FORKED = "forked"  # its branches run
    SUSPENDED = "suspended"
    FAILED = "failed"
    BROKEN = "broken"  # a mistake of ours or of the workflow that no rule foresaw
    FINISHED = "finished"
    CANCELLED = "cancelled"


class Mark(enum.StrEnum):
    """What a person asked of an order; it takes effect between two steps."""

    NONE = ""
    SUSPEND = "suspend"
    CANCEL = "cancel"
    KILL = "kill"  # cancel, and end the running attempt


class Attachment(enum.StrEnum):
    """Who runs an order: the controller (none), or an agent."""

    NONE = ""
    ATTACHING = "attaching"  # promised to an agent that has not confirmed it
    ATTACHED = "attached"


TERMINAL = frozenset({OrderState.FAILED, OrderState.BROKEN, OrderState.FINISHED, OrderState.CANCELLED})
LIVE = tuple(state for state in OrderState if state not in TERMINAL)

_S = OrderState

# event → (states in which it may happen, state after it; None = unchanged or told by the event)
TRANSITIONS: dict[str, tuple[tuple[OrderState, ...], OrderState | None]] = {
    "OrderStarted": ((_S.FRESH,), _S.READY),
    "OrderMoved": ((_S.READY, _S.WAITING), _S.READY),
    "OrderWaiting": ((_S.READY,), _S.WAITING),
    "OrderWoken": ((_S.WAITING,), _S.READY),
    "OrderExpecting": ((_S.READY, _S.EXPECTING), _S.EXPECTING),
    "AttemptAssigned": ((_S.READY, _S.EXPECTING), _S.PROCESSING),
    "AttemptStarted": ((_S.PROCESSING,), _S.PROCESSING),
    "AttemptEnded": ((_S.PROCESSING,), _S.READY),
    "OrderHeld": ((_S.READY,), _S.EXPECTING),
    "AttemptReleased": ((_S.READY, _S.EXPECTING), _S.READY),
    "OrderForked": ((_S.READY,), _S.FORKED),
    "OrderJoined": ((_S.FORKED,), _S.READY),
    "OrderFaulted": ((_S.READY,), _S.READY),
    "OrderCaught": ((_S.READY,), _S.READY),
    "OrderMarked": (LIVE, None),
    "OrderSuspended": ((_S.FRESH, _S.READY, _S.WAITING, _S.EXPECTING), _S.SUSPENDED),
    "OrderResumed": ((_S.SUSPENDED, _S.FAILED), None),
    "OrderAttaching": ((_S.READY, _S.EXPECTING), _S.READY),
    "OrderAttached": (LIVE, None),
    "OrderDetached": (LIVE, None),
    "OrderFinished": ((_S.READY,), _S.FINISHED),
    "OrderFailed": ((_S.READY,), _S.FAILED),
    "OrderCancelled": ((_S.FRESH, _S.READY, _S.WAITING, _S.EXPECTING, _S.SUSPENDED), _S.CANCELLED),
    "OrderBroken": (LIVE, _S.BROKEN),
}


class Order(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """A run of a workflow. Instants in milliseconds since 1970 UTC."""

    id: OrderId
    workflow: WorkflowId
    added: int  # index of the record that added it (a branch has its parent's)
    variables: dict[str, Value]
    position: Position = FIRST
    state: OrderState = OrderState.FRESH
    attempt: int = 0
    agent: AgentId | None = None  # set exactly while attachment is not NONE
    attachment: Attachment = Attachment.NONE
    mark: Mark = Mark.NONE
    failing: bool = False  # READY with a failure nobody has caught yet
    outcome: Outcome | None = None  # of the last attempt, join or fault
    until_ms: int = 0  # FRESH: scheduled for; WAITING: until
    cause: str = ""  # WAITING: of what
    obstacle: AnyObstacle | None = None  # EXPECTING: what it expects
    subagent: SubagentId | None = None  # PROCESSING: where
    incarnation: int = 0  # PROCESSING: the subagent's incarnation when the attempt was assigned
    parent: OrderId | None = None
    branch: str = ""
    children: tuple[OrderId, ...] = ()  # FORKED: its branches, in the workflow's order
    suspended_from: OrderState | None = None  # SUSPENDED: the state before
    priority: int = 0
    created_ms: int = 0
    changed_ms: int = 0
    begun: bool = False  # PROCESSING: its subagent has said that the attempt began

    @property
    def is_terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def is_held(self) -> bool:
        """Tell whether it waits for a person because an attempt's end was not seen."""
        return self.state is OrderState.EXPECTING and isinstance(self.obstacle, AttemptLost)
