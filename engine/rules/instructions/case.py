"""case: take the first way whose condition holds. Floor 3."""

from typing import ClassVar

import msgspec

from engine.model.event import OrderEvent, OrderMoved
from engine.model.expression import EvaluationError, Expression
from engine.model.instruction import Instruction
from engine.model.order import Order
from engine.model.position import following, inside
from engine.rules.flow import fault
from engine.rules.state import View
from engine.rules.statement import Statement


class When(msgspec.Struct, frozen=True, array_like=True):
    """One way of a case."""

    when: Expression
    then: tuple[Instruction, ...]


class Case(msgspec.Struct, Statement, frozen=True, array_like=True, tag="case", rename={"else_": "else"}):
    """Go through the steps of the first `when` that is true, else through `else`."""

    keyword: ClassVar[str] = "case"

    case: tuple[When, ...]
    else_: tuple[Instruction, ...] = ()

    def blocks(self) -> list[tuple[str, tuple[Instruction, ...]]]:
        return [*((f"when{number}", way.then) for number, way in enumerate(self.case)), ("else", self.else_)]

    def step(self, view: View, order: Order) -> list[OrderEvent]:
        for number, way in enumerate(self.case):
            try:
                holds = way.when.evaluate_bool(view.scope(order, way.when.names))
            except EvaluationError as error:
                return fault(view, order, f"condition {number + 1} of a case: {error}")
            if holds:
                return [OrderMoved(order.id, view.now_ms, inside(order.position, f"when{number}"))]
        position = inside(order.position, "else") if self.else_ else following(order.position)
        return [OrderMoved(order.id, view.now_ms, position)]
