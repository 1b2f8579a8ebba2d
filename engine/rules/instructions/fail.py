"""fail: end with a failure, unless somebody catches it. Floor 3."""

from typing import ClassVar

import msgspec

from engine.model.event import OrderEvent
from engine.model.expression import EvaluationError, Template
from engine.model.order import Order
from engine.rules.flow import fault
from engine.rules.state import View
from engine.rules.statement import Statement


class Fail(msgspec.Struct, Statement, frozen=True, array_like=True, tag="fail"):
    """Fail with this message."""

    keyword: ClassVar[str] = "fail"

    fail: Template

    def step(self, view: View, order: Order) -> list[OrderEvent]:
        try:
            message = self.fail.evaluate_text(view.scope(order, self.fail.names))
        except EvaluationError as error:
            message = f"the message of a fail: {error}"
        return fault(view, order, message)
