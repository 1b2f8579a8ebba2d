"""try: catch a failure and go on with other steps. Floor 3."""

from typing import ClassVar

import msgspec

from engine.model.event import OrderCaught, OrderEvent, OrderMoved
from engine.model.instruction import Instruction
from engine.model.order import Order
from engine.model.position import Position, inside
from engine.rules.state import View
from engine.rules.statement import Statement


class Try(msgspec.Struct, Statement, frozen=True, array_like=True, tag="try", rename={"try_": "try"}):
    """Go through `try`; when a step of it fails, through `catch`, where `error`, `outcome`, `return_code` tell of it.

    A failure inside `catch` is not caught here.
    """

    keyword: ClassVar[str] = "try"

    try_: tuple[Instruction, ...]
    catch: tuple[Instruction, ...] = ()

    def blocks(self) -> list[tuple[str, tuple[Instruction, ...]]]:
        return [("try", self.try_), ("catch", self.catch)]

    def step(self, view: View, order: Order) -> list[OrderEvent]:
        return [OrderMoved(order.id, view.now_ms, inside(order.position, "try"))]

    def caught(self, view: View, order: Order, outer: Position, branch: str) -> list[OrderEvent] | None:
        if branch != "try":
            return None
        return [OrderCaught(order.id, view.now_ms, inside(outer, "catch"))]
