"""release_attempt: say what follows an attempt whose end nobody saw. Floor 3."""

from typing import ClassVar

import msgspec

from engine.base.problem import Problem, problem
from engine.model.command import ReleaseHeld
from engine.model.event import Event, OrderCommanded
from engine.model.job import OnLost
from engine.rules.controller_state import ControllerState
from engine.rules.operator_command import OperatorCommand, find_order

NothingHeld = problem("NothingHeld", "Order {order!r} is not held for a lost attempt; there is nothing to release.")
BadChoice = problem("BadChoice", "A lost attempt is released by rerun or fail, not by {choice!r}.")


class ReleaseAttempt(msgspec.Struct, OperatorCommand, frozen=True, array_like=True, tag="release_attempt"):
    """Release a held order: `rerun` its job, or let the step `fail`."""

    keyword: ClassVar[str] = "release_attempt"
    right: ClassVar[str] = "order.release"

    order: str
    choice: OnLost

    def decide(self, state: ControllerState, now_ms: int) -> list[Event] | Problem:
        if self.choice is OnLost.HOLD:
            return BadChoice(choice=self.choice)
        order = find_order(state, self.order)
        if isinstance(order, Problem):
            return order
        if not order.is_held or order.agent is None:
            return NothingHeld(order=self.order)
        command = ReleaseHeld(order.id, order.attempt, self.choice)
        return [OrderCommanded(order.id, now_ms, order.agent, command)]
