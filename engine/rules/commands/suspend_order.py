"""suspend_order: let an order and its branches stand still before their next step. Floor 3."""

from typing import ClassVar

import msgspec

from engine.base.problem import Problem, problem
from engine.model.event import Event
from engine.model.order import Mark
from engine.rules.controller_state import ControllerState
from engine.rules.marks import mark_everywhere
from engine.rules.operator_command import OperatorCommand, find_live_order

BeingCancelled = problem("BeingCancelled", "Order {order!r} is being cancelled and can not be suspended.")


class SuspendOrder(msgspec.Struct, OperatorCommand, frozen=True, array_like=True, tag="suspend_order"):
    """Suspend an order. An attempt that runs is let run to its end."""

    keyword: ClassVar[str] = "suspend_order"
    right: ClassVar[str] = "order.suspend"

    order: str

    def decide(self, state: ControllerState, now_ms: int) -> list[Event] | Problem:
        order = find_live_order(state, self.order)
        if isinstance(order, Problem):
            return order
        if order.mark in (Mark.CANCEL, Mark.KILL):
            return BeingCancelled(order=self.order)
        return [] if order.mark is Mark.SUSPEND else mark_everywhere(state, order, Mark.SUSPEND, now_ms)
