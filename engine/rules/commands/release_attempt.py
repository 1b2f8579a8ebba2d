"""release_attempt: say what follows an attempt whose end nobody saw, or nobody will ever tell. Floor 3."""

from typing import ClassVar

import msgspec

from engine.base.problem import Problem, problem
from engine.model.command import ReleaseHeld
from engine.model.event import Event, OrderCommanded
from engine.model.job import OnLost
from engine.model.order import OrderState
from engine.rules.controller_state import ControllerState
from engine.rules.operator_command import OperatorCommand, find_order

NothingHeld = problem("NothingHeld", "Order {order!r} is not held for a lost attempt; there is nothing to release.")
NotVouchedFor = problem(
    "NotVouchedFor",
    "Attempt {attempt} of order {order!r} runs on subagent {subagent}, as far as is known. If that can not be reached,"
    " and you have seen that nothing of the attempt runs there any more (the machine is off, or was restarted), say so"
    " with has_ended. If it runs all the same, it will run twice.",
)
BadChoice = problem("BadChoice", "A lost attempt is released by rerun or fail, not by {choice!r}.")


class ReleaseAttempt(msgspec.Struct, OperatorCommand, frozen=True, array_like=True, tag="release_attempt"):
    """Release a held order: `rerun` its job, or let the step `fail`.

    `has_ended`: a person's word that nothing of a running attempt is left on a subagent that can not be reached.
    """

    keyword: ClassVar[str] = "release_attempt"
    right: ClassVar[str] = "order.release"

    order: str
    choice: OnLost
    has_ended: bool = False

    def decide(self, state: ControllerState, now_ms: int) -> list[Event] | Problem:
        if self.choice is OnLost.HOLD:
            return BadChoice(choice=self.choice)
        order = find_order(state, self.order)
        if isinstance(order, Problem):
            return order
        is_running = order.state is OrderState.PROCESSING
        if not (order.is_held or is_running) or order.agent is None:
            return NothingHeld(order=self.order)
        if is_running and not self.has_ended:
            return NotVouchedFor(order=self.order, attempt=order.attempt, subagent=order.subagent)
        command = ReleaseHeld(order.id, order.attempt, self.choice)
        return [OrderCommanded(order.id, now_ms, order.agent, command)]
