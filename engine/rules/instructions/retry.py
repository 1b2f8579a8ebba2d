"""retry: go through steps again when one of them fails. Floor 3."""

from collections.abc import Iterable
from typing import ClassVar

import msgspec

from engine.base.clock import SPAN_MS_MAX
from engine.base.limits import RETRIES_MAX
from engine.model.event import OrderCaught, OrderEvent, OrderMoved, OrderWaiting
from engine.model.fields import Span
from engine.model.instruction import Instruction
from engine.model.order import Order
from engine.model.position import Position, inside
from engine.rules.state import View
from engine.rules.statement import Statement


class Retry(msgspec.Struct, Statement, frozen=True, array_like=True, tag="retry", rename={"delays_ms": "delays"}):
    """Go through `steps` at most `retry` times in all, until they succeed; then the last failure passes on.

    Before round n+1 the order waits for the n-th of `delays`, or the last one when there are fewer. The number of the
    round stands in the position: `3/steps+2/0` is the second.
    """

    keyword: ClassVar[str] = "retry"

    retry: int
    steps: tuple[Instruction, ...]
    delays_ms: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.retry <= RETRIES_MAX:
            raise ValueError(f"retry takes the number of rounds, 1 to {RETRIES_MAX}, not {self.retry}")

    def faults(self) -> Iterable[str]:
        if not all(0 <= delay_ms <= SPAN_MS_MAX for delay_ms in self.delays_ms):
            yield "each of its delays is between 0 and a hundred years"

    def blocks(self) -> list[tuple[str, tuple[Instruction, ...]]]:
        return [("steps", self.steps)]

    def step(self, view: View, order: Order) -> list[OrderEvent]:
        return [OrderMoved(order.id, view.now_ms, inside(order.position, "steps", 1))]

    def caught(self, view: View, order: Order, outer: Position, branch: str) -> list[OrderEvent] | None:
        rounds = int(branch.partition("+")[2])
        if rounds >= self.retry:
            return None
        events: list[OrderEvent] = [OrderCaught(order.id, view.now_ms, inside(outer, "steps", rounds + 1))]
        if delay_ms := self.delay_ms(rounds):
            cause = f"waiting before round {rounds + 1} of {self.retry}"
            events.append(OrderWaiting(order.id, view.now_ms, view.now_ms + delay_ms, cause))
        return events

    def delay_ms(self, failures: int) -> int:
        """Return the delay after this many failed rounds."""
        return self.delays_ms[min(failures, len(self.delays_ms)) - 1] if self.delays_ms else 0
