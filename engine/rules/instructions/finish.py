"""finish: end the order (inside a fork: the branch) here, with success. Floor 3."""

from typing import ClassVar

import msgspec

from engine.model.event import OrderEvent
from engine.model.expression import EvaluationError, Template
from engine.model.order import Order
from engine.model.outcome import Outcome, OutcomeKind, cut
from engine.rules.flow import fault, finish
from engine.rules.state import View
from engine.rules.statement import Statement


class Finish(msgspec.Struct, Statement, frozen=True, array_like=True, tag="finish"):
    """End with success and this message."""

    keyword: ClassVar[str] = "finish"

    finish: Template

    def step(self, view: View, order: Order) -> list[OrderEvent]:
        try:
            message = self.finish.evaluate_text(view.scope(order, self.finish.names))
        except EvaluationError as error:
            return fault(view, order, f"the message of a finish: {error}")
        return finish(view, order, Outcome(OutcomeKind.SUCCEEDED, None, cut(message)))
