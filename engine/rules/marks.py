"""Marks: how suspend, cancel, kill and resume reach an order and its branches. Floor 3."""

from collections.abc import Sequence

from engine.base.ids import AgentId
from engine.model.command import MarkOrder
from engine.model.event import Event, OrderCommanded, OrderMarked, OrderResumed
from engine.model.order import Attachment, Mark, Order, OrderState
from engine.rules.controller_state import ControllerState
from engine.rules.order import descendants

_NOT_TAKEN_BACK_BY = {
    Mark.NONE: (Mark.CANCEL, Mark.KILL),
    Mark.SUSPEND: (Mark.CANCEL, Mark.KILL),
    Mark.CANCEL: (Mark.KILL,),
    Mark.KILL: (),
}


def mark_events(orders: Sequence[Order], mark: Mark, now_ms: int, agent: AgentId | None) -> list[Event]:
    """Return the events that mark orders; without a mark they go on, failed ones too.

    The first is marked in any case, so that an agent's answer is visible to a controller that waits for it. A branch
    that is being cancelled stays so, whatever is asked of the whole.
    """
    found: list[Event] = []
    for number, one in enumerate(orders):
        if number and one.mark in _NOT_TAKEN_BACK_BY[mark]:
            continue
        if one.state is OrderState.FAILED and mark is Mark.NONE:
            found.append(OrderResumed(one.id, now_ms))
        elif one.is_terminal:
            continue
        if one.mark is not mark or number == 0:
            found.append(OrderMarked(one.id, now_ms, mark, agent))
    return found


def mark_everywhere(state: ControllerState, order: Order, mark: Mark, now_ms: int) -> list[Event]:
    """Return the controller's events that mark an order and its branches, wherever they are.

    What an agent has is told to the agent, once for each order whose parent is not told there too; the agent marks
    the branches below by itself, also such as the controller has not heard of.
    """
    everything = descendants(state, order)
    agents = {one.id: one.agent for one in everything}
    found = mark_events([one for one in everything if one.attachment is Attachment.NONE], mark, now_ms, None)
    for one in everything:
        if one.agent is None or (one.parent is not None and agents.get(one.parent) == one.agent):
            continue
        if one.is_terminal and not (one.state is OrderState.FAILED and mark is Mark.NONE):
            continue
        if not one.is_terminal:
            found.append(OrderMarked(one.id, now_ms, mark))
        found.append(OrderCommanded(one.id, now_ms, one.agent, MarkOrder(one.id, mark)))
    return found
