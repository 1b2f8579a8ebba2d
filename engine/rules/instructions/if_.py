"""if: take one of two ways. Floor 3."""

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


class If(msgspec.Struct, Statement, frozen=True, array_like=True, tag="if", rename={"if_": "if", "else_": "else"}):
    """Go through `then` when the condition is true, else through `else`; a condition must be true or false."""

    keyword: ClassVar[str] = "if"

    if_: Expression
    then: tuple[Instruction, ...]
    else_: tuple[Instruction, ...] = ()

    def blocks(self) -> list[tuple[str, tuple[Instruction, ...]]]:
        return [("then", self.then), ("else", self.else_)]

    def step(self, view: View, order: Order) -> list[OrderEvent]:
        try:
            holds = self.if_.evaluate_bool(view.scope(order, self.if_.names))
        except EvaluationError as error:
            return fault(view, order, f"the condition of an if: {error}")
        if holds or self.else_:
            position = inside(order.position, "then" if holds else "else")
        else:
            position = following(order.position)
        return [OrderMoved(order.id, view.now_ms, position)]
