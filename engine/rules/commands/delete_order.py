"""delete_order: drop an order that has ended from the controller's memory. Floor 3."""

from typing import ClassVar

import msgspec

from engine.base.problem import Problem, problem
from engine.model.event import Event, OrdersDeleted
from engine.rules.controller_state import ControllerState
from engine.rules.operator_command import OperatorCommand, find_order

StillAlive = problem(
    "StillAlive", "Order {order!r} is {state}; only one that has ended can be deleted. Cancel it first."
)
IsABranch = problem("IsABranch", "Order {order!r} is a branch and goes with its parent.")


class DeleteOrder(msgspec.Struct, OperatorCommand, frozen=True, array_like=True, tag="delete_order"):
    """Delete an order that has ended; its id may then be used again."""

    keyword: ClassVar[str] = "delete_order"
    right: ClassVar[str] = "order.delete"

    order: str

    def decide(self, state: ControllerState, now_ms: int) -> list[Event] | Problem:
        order = find_order(state, self.order)
        if isinstance(order, Problem):
            return order
        if order.parent is not None:
            return IsABranch(order=self.order)
        return (
            [OrdersDeleted(now_ms, (order.id,))]
            if order.is_terminal
            else StillAlive(order=self.order, state=order.state)
        )
