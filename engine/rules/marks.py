"""Marks: how suspend, cancel, kill and resume reach an order and its branches. Floor 3."""

from collections.abc import Sequence

from engine.base.ids import AgentId
from engine.model.command import MarkOrder
from engine.model.event import Event, OrderCommanded, OrderMarked, OrderResumed
from engine.model.order import Attachment, Mark, Order, OrderState
from engine.rules.controller_state import ControllerState
from engine.rules.order import descendants


def mark_events(orders: Sequence[Order], mark: Mark, now_ms: int, agent: AgentId | None) -> list[Event]:
    """Return the events that mark orders; without a mark they go on, failed ones too.

    The first is marked in any case, so that an agent's answer is visible to a controller that waits for it.
    """
    found: list[Event] = []
    for number, one in enumerate(orders):
        if one.state is OrderState.FAILED and mark is Mark.NONE:
            found.append(OrderResumed(one.id, now_ms))
        elif one.is_terminal:
            continue
        if one.mark is not mark or number == 0:
            found.append(OrderMarked(one.id, now_ms, mark, agent))
    return found


def mark_everywhere(state: ControllerState, order: Order, mark: Mark, now_ms: int) -> list[Event]:
    """Return the controller's events that mark an order and its branches, wherever they are.

    What an agent has is told to the agent, once for each order whose parent is not there too; the agent marks the
    branches below by itself, also such as the controller has not heard of.
    """
    everything = descendants(state, order)
    found = mark_events([one for one in everything if one.attachment is Attachment.NONE], mark, now_ms, None)
    for one in everything:
        if one.agent is None or (one.parent is not None and _agent_of(state, one) == one.agent):
            continue
        found.append(OrderMarked(one.id, now_ms, mark))
        found.append(OrderCommanded(one.id, now_ms, one.agent, MarkOrder(one.id, mark)))
    return found


def _agent_of(state: ControllerState, order: Order) -> AgentId | None:
    parent = None if order.parent is None else state.orders.get(order.parent)
    return None if parent is None else parent.agent
