"""suspend_order: let an order and its branches stand still before their next step. Floor 3."""

from typing import ClassVar

import msgspec

from engine.base.problem import Problem
from engine.model.event import Event
from engine.model.order import Mark
from engine.rules.controller_state import ControllerState
from engine.rules.marks import mark_everywhere
from engine.rules.operator_command import BeingCancelled, OperatorCommand, find_live_order, is_being_cancelled
from engine.rules.order import descendants


class SuspendOrder(msgspec.Struct, OperatorCommand, frozen=True, array_like=True, tag="suspend_order"):
    """Suspend an order. An attempt that runs is let run to its end."""

    keyword: ClassVar[str] = "suspend_order"
    right: ClassVar[str] = "order.suspend"

    order: str

    def decide(self, state: ControllerState, now_ms: int) -> list[Event] | Problem:
        order = find_live_order(state, self.order)
        if isinstance(order, Problem):
            return order
        if is_being_cancelled(state, order):
            return BeingCancelled(order=self.order)
        if all(one.mark is Mark.SUSPEND or one.is_terminal for one in descendants(state, order)):
            return []
        return mark_everywhere(state, order, Mark.SUSPEND, now_ms)
