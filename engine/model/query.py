"""Queries: bounded reads of a node's state, answered in the loop's turn. Floor 2."""

import msgspec

from engine.base.ids import OrderId
from engine.base.limits import PAGE_LENGTH_MAX
from engine.model.order import Order, OrderState
from engine.model.workflow import WorkflowId


class Query(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What all queries share."""


class GetOrder(Query, frozen=True):
    """One order with what keeps it waiting."""

    order: OrderId


class ListOrders(Query, frozen=True):
    """Orders behind `after` in id order of adding, of these states (none given: all); at most `limit`."""

    after: OrderId | None = None
    states: tuple[OrderState, ...] = ()
    workflow: str | None = None
    roots_only: bool = True
    limit: int = PAGE_LENGTH_MAX


class ListWorkflows(Query, frozen=True):
    """All deployed versions."""


class GetWorkflow(Query, frozen=True):
    """One version; without one the newest."""

    name: str
    version: str | None = None


class GetStatus(Query, frozen=True):
    """What this node is and how much it holds."""


class OrderView(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """An order as a reader sees it, with the sentence of its obstacle (empty: none)."""

    order: Order
    obstacle: str


class OrderPage(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A page of orders; `more` tells whether there are others behind the last."""

    orders: tuple[OrderView, ...]
    more: bool


class WorkflowPage(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The ids of all deployed versions, in order of deployment."""

    workflows: tuple[WorkflowId, ...]


class NodeStatus(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Counts by name."""

    node: str
    counts: dict[str, int]
    peers: dict[str, bool]


AnyQuery = GetOrder | ListOrders | ListWorkflows | GetWorkflow | GetStatus
