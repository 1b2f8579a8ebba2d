"""OperatorCommand: the base of every operator command's rule. Floor 3.

* A leaf decides on the controller's state alone: events, or a Problem. It names the right its caller needs.
"""

from typing import ClassVar

from engine.base.problem import Problem, problem
from engine.model.command import Command
from engine.model.event import Event
from engine.model.order import Mark, Order
from engine.rules.controller_state import ControllerState

UnknownOrder = problem("UnknownOrder", "There is no order {order!r}; it may have been deleted after its end.")
OrderEnded = problem("OrderEnded", "Order {order!r} has ended ({state}).")
BeingCancelled = problem(
    "BeingCancelled", "Order {order!r} is being cancelled; it can be neither suspended nor resumed."
)


class OperatorCommand(Command):
    """What an operator may ask of the controller."""

    right: ClassVar[str]

    def decide(self, state: ControllerState, now_ms: int) -> list[Event] | Problem:
        """Return the events of this command, [] if nothing changes, or why it is refused."""
        raise NotImplementedError


def is_being_cancelled(state: ControllerState, order: Order) -> bool:
    """Tell whether an order, or one whose branch it is, was asked to end."""
    one: Order | None = order
    while one is not None:
        if one.mark in (Mark.CANCEL, Mark.KILL):
            return True
        one = None if one.parent is None else state.orders.get(one.parent)
    return False


def find_order(state: ControllerState, order: str) -> Order | Problem:
    """Return an order by its id or the Problem that it is not there."""
    found = state.orders.get(order)  # type: ignore[call-overload]
    return UnknownOrder(order=order) if found is None else found


def find_live_order(state: ControllerState, order: str) -> Order | Problem:
    """Return an order that has not ended, or the Problem that it has or is not there."""
    found = find_order(state, order)
    if isinstance(found, Order) and found.is_terminal:
        return OrderEnded(order=order, state=found.state)
    return found
