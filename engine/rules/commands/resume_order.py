"""resume_order: let a suspended order go on, or take the failed step of a failed one again. Floor 3."""

from typing import ClassVar

import msgspec

from engine.base.problem import Problem, problem
from engine.model.event import Event
from engine.model.order import Mark, OrderState
from engine.rules.controller_state import ControllerState
from engine.rules.marks import mark_everywhere
from engine.rules.operator_command import BeingCancelled, OperatorCommand, find_order, is_being_cancelled
from engine.rules.order import descendants

NotSuspended = problem(
    "NotSuspended", "Order {order!r} is {state}, neither suspended nor failed; there is nothing to resume."
)

_RESUMABLE = (OrderState.SUSPENDED, OrderState.FAILED)


class ResumeOrder(msgspec.Struct, OperatorCommand, frozen=True, array_like=True, tag="resume_order"):
    """Resume an order and its branches where they stand."""

    keyword: ClassVar[str] = "resume_order"
    right: ClassVar[str] = "order.resume"

    order: str

    def decide(self, state: ControllerState, now_ms: int) -> list[Event] | Problem:
        order = find_order(state, self.order)
        if isinstance(order, Problem):
            return order
        if is_being_cancelled(state, order):
            return BeingCancelled(order=self.order)
        everything = descendants(state, order)
        if not any(one.mark is Mark.SUSPEND or one.state in _RESUMABLE for one in everything):
            return NotSuspended(order=self.order, state=order.state)
        return mark_everywhere(state, order, Mark.NONE, now_ms)
