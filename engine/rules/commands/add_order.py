"""add_order: run a workflow once. Floor 3.

* The caller chooses the id, so sending twice is harmless for as long as the order is kept.
"""

from typing import ClassVar

import msgspec

from engine.base.clock import SPAN_MS_MAX
from engine.base.codec import Value
from engine.base.ids import OrderId, is_order_id
from engine.base.limits import ORDERS_MAX
from engine.base.problem import Problem, problem
from engine.model.event import Event, OrderAdded
from engine.model.workflow import Workflow, workflow_id
from engine.rules.controller_state import ControllerState
from engine.rules.operator_command import OperatorCommand
from engine.rules.parameters import order_variables

BadOrderId = problem(
    "BadOrderId",
    "{order!r} can not be an order's id: letters, digits and _ . : # @ + = , - only, 250 characters at most.",
)
OrderExists = problem(
    "OrderExists", "Order {order!r} exists already, of another workflow ({workflow}); choose another id."
)
TooManyOrders = problem(
    "TooManyOrders", "The controller holds {count} orders, which is its limit; delete some that have ended."
)
UnknownWorkflow = problem("UnknownWorkflow", "There is no workflow {workflow!r}; deploy it first.")
BadSchedule = problem("BadSchedule", "Order {order!r} is scheduled for a time more than a hundred years away.")


class AddOrder(msgspec.Struct, OperatorCommand, frozen=True, array_like=True, tag="add_order"):
    """Add an order. Without a version the workflow's newest is taken; `scheduled_ms` 0 starts it at once."""

    keyword: ClassVar[str] = "add_order"
    right: ClassVar[str] = "order.add"

    order: str
    workflow: str
    variables: dict[str, Value] = {}
    version: str | None = None
    scheduled_ms: int = 0
    priority: int = 0

    def decide(self, state: ControllerState, now_ms: int) -> list[Event] | Problem:
        if not is_order_id(self.order):
            return BadOrderId(order=self.order)
        known = state.orders.get(OrderId(self.order))
        if known is not None:
            same = known.workflow.partition("@")[0] == self.workflow
            return [] if same else OrderExists(order=self.order, workflow=known.workflow)
        if self.scheduled_ms > now_ms + SPAN_MS_MAX:
            return BadSchedule(order=self.order)
        if len(state.orders) >= ORDERS_MAX:
            return TooManyOrders(count=len(state.orders))
        workflow = find_workflow(state, self.workflow, self.version)
        if isinstance(workflow, Problem):
            return workflow
        variables = order_variables(workflow, self.variables)
        if isinstance(variables, Problem):
            return variables
        scheduled_ms = self.scheduled_ms if self.scheduled_ms > now_ms else 0
        return [OrderAdded(OrderId(self.order), now_ms, workflow.id, variables, scheduled_ms, self.priority)]


def find_workflow(state: ControllerState, name: str, version: str | None) -> Workflow | Problem:
    """Return a deployed version of a workflow (the newest if none is named), or the Problem that there is none."""
    key = state.newest.get(name) if version is None else workflow_id(name, version)
    found = None if key is None else state.workflows.get(key)
    return UnknownWorkflow(workflow=name if version is None else f"{name}@{version}") if found is None else found
