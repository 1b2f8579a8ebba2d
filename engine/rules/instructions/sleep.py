"""sleep: wait for a time. Floor 3."""

from typing import ClassVar

import msgspec

from engine.base.clock import SPAN_MS_MAX, parse_span
from engine.base.codec import Value
from engine.model.event import OrderEvent, OrderMoved, OrderWaiting
from engine.model.expression import EvaluationError, Template
from engine.model.order import Order
from engine.model.position import following
from engine.rules.flow import fault
from engine.rules.state import View
from engine.rules.statement import Statement

SLEEPING = "sleeping"


class Sleep(msgspec.Struct, Statement, frozen=True, array_like=True, tag="sleep"):
    """Wait for a duration: a text such as 30s, or a number of seconds."""

    keyword: ClassVar[str] = "sleep"

    sleep: Template

    def step(self, view: View, order: Order) -> list[OrderEvent]:
        try:
            span_ms = _span_ms(self.sleep.evaluate(view.scope(order, self.sleep.names)))
        except (EvaluationError, ValueError) as error:
            return fault(view, order, f"the duration of a sleep: {error}")
        return [OrderWaiting(order.id, view.now_ms, view.now_ms + span_ms, SLEEPING)]

    def woken(self, view: View, order: Order) -> list[OrderEvent]:
        if order.cause != SLEEPING:
            return super().woken(view, order)  # a retry let it wait before this step
        return [OrderMoved(order.id, view.now_ms, following(order.position))]


def _span_ms(value: Value) -> int:
    if isinstance(value, str):
        return parse_span(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is neither a duration such as 30s nor a number of seconds")
    if not 0 <= value <= SPAN_MS_MAX / 1_000:
        raise ValueError(f"{value} seconds is not between 0 and a hundred years")
    return round(value * 1_000)
