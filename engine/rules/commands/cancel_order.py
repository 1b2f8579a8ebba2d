"""cancel_order: end an order and its branches between two steps, or at once by killing what runs. Floor 3."""

from typing import ClassVar

import msgspec

from engine.base.problem import Problem
from engine.model.event import Event
from engine.model.order import Mark
from engine.rules.controller_state import ControllerState
from engine.rules.marks import mark_everywhere
from engine.rules.operator_command import OperatorCommand, find_live_order


class CancelOrder(msgspec.Struct, OperatorCommand, frozen=True, array_like=True, tag="cancel_order"):
    """Cancel an order. With `kill` a running attempt is ended (TERM, then KILL); without, its end is awaited.

    A kill is not taken back by a cancel after it.
    """

    keyword: ClassVar[str] = "cancel_order"
    right: ClassVar[str] = "order.cancel"

    order: str
    kill: bool = False

    def decide(self, state: ControllerState, now_ms: int) -> list[Event] | Problem:
        order = find_live_order(state, self.order)
        if isinstance(order, Problem):
            return order
        if order.mark is Mark.KILL and not self.kill:
            return []
        return mark_everywhere(state, order, Mark.KILL if self.kill else Mark.CANCEL, now_ms)
