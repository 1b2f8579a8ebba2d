"""add_orders: add many orders at once, all of them or none. Floor 3."""

from typing import ClassVar

import msgspec

from engine.base.limits import ORDERS_MAX, ORDERS_PER_BULK_MAX
from engine.base.problem import Problem, problem
from engine.model.event import Event
from engine.rules.commands.add_order import AddOrder, OrderExists, TooManyOrders
from engine.rules.controller_state import ControllerState
from engine.rules.operator_command import OperatorCommand

BulkTooLarge = problem("BulkTooLarge", "{count} orders in one command; {count_max} is the most. Send them in parts.")
BulkRefused = problem("BulkRefused", "None of the orders was added, because of order {order!r}: {sentence}")


class AddOrders(msgspec.Struct, OperatorCommand, frozen=True, array_like=True, tag="add_orders"):
    """Add orders; the first that is refused refuses all. One that is here already is passed over."""

    keyword: ClassVar[str] = "add_orders"
    right: ClassVar[str] = "order.add"

    orders: tuple[AddOrder, ...]

    def decide(self, state: ControllerState, now_ms: int) -> list[Event] | Problem:
        if len(self.orders) > ORDERS_PER_BULK_MAX:
            return BulkTooLarge(count=len(self.orders), count_max=ORDERS_PER_BULK_MAX)
        found: dict[str, list[Event]] = {}
        workflows: dict[str, str] = {}
        count = len(state.orders)
        for order in self.orders:
            workflow = workflows.setdefault(order.order, order.workflow)
            if order.order in found and workflow == order.workflow:
                continue
            decision = order.decide(state, now_ms)
            if workflow != order.workflow:
                decision = OrderExists(order=order.order, workflow=workflow)
            elif decision and count >= ORDERS_MAX:
                decision = TooManyOrders(count=count)
            if isinstance(decision, Problem):
                return BulkRefused(order=order.order, sentence=decision.sentence)
            found[order.order] = decision
            count += len(decision)
        return [event for events in found.values() for event in events]
