"""NodeMachine: what the machines of controller and agent share: codecs, advance, breaking, queries. Floor 3."""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from engine.base.ids import OrderId
from engine.base.problem import Problem
from engine.model import event as events
from engine.model.effect import AnyEffect, WakeAt
from engine.model.event import Event, OrderEvent
from engine.model.language import Language
from engine.model.order import TERMINAL, Mark, Order, OrderState
from engine.rules import queries
from engine.rules.flow import advance
from engine.rules.order import apply_order_event
from engine.rules.state import NodeState, View

S = TypeVar("S", bound=NodeState)

_QUIET: frozenset[type[Event]] = frozenset(
    {
        events.AttemptAssigned,
        events.AttemptStarted,
        events.OrderHeld,
        events.OrderExpecting,
        events.OrderWaiting,
        events.OrderCommanded,
        events.OrderCommandDropped,
    }
)  # after these the order itself has nothing to do


class NodeMachine(Generic[S]):
    """The common half of a machine over orders."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def advance(self, state: S, key: str, now_ms: int) -> list[Event]:
        """Return the next events of an order; [] when it is gone or must wait."""
        order = state.orders.get(OrderId(key))
        return [] if order is None else [*advance(View(state, now_ms), order)]

    def broken(self, state: S, key: str, problem: Problem, now_ms: int) -> list[Event]:
        """Return the event that ends an order whose next step can not be taken, [] when it is gone or has ended."""
        order = state.orders.get(OrderId(key))
        if order is None or order.is_terminal or not state.owns(order):
            return []
        return [events.OrderBroken(order.id, now_ms, problem)]

    def encode_event(self, event: Event) -> bytes:
        """Encode an event; raises an exception for what msgspec can not encode."""
        return self.language.encode(event)

    def decode_events(self, packed: bytes) -> list[Event]:
        """Decode a record's events."""
        found: list[Event] = self.language.decode_events(packed)
        return found

    def query(self, state: S, query: Any, now_ms: int) -> Any:
        """Answer a query with a page of the state, or a Problem."""
        return queries.answer(View(state, now_ms), query)


def apply_shared(state: NodeState, event: Event, index: int) -> bool:
    """Apply what means the same at every node; tell whether the event was one of these."""
    if isinstance(event, OrderEvent):
        apply_order_event(state, event, index)
        return True
    if isinstance(event, events.WorkflowDeployed):
        state.workflows[event.workflow.id] = event.workflow
        return True
    return False


def touched_orders(state: NodeState, event: OrderEvent) -> Iterable[OrderId]:
    """Return which orders may go on because of an order's event, at the node that owns them."""
    kind = type(event)
    if kind in _QUIET:
        return ()
    order = state.orders.get(event.order)
    if order is None:
        return ()
    if order.state not in TERMINAL:
        if not state.owns(order):
            return ()
        return order.children if kind is events.OrderForked else (order.id,)
    parent = order.parent
    if parent is None or state.open_branches.get(parent) != 0:
        return ()
    return (parent,)


def unsettled_orders(state: NodeState) -> list[OrderId]:
    """Return the orders a new activation must look at: a turn before it may have left them over.

    Those that wait for a time have alarms, those that stand in line are woken by who frees a place.
    """
    return [order.id for order in state.orders.values() if state.owns(order) and _is_unsettled(state, order)]


def _is_unsettled(state: NodeState, order: Order) -> bool:
    if order.state is OrderState.READY:
        return True
    if order.state is OrderState.FORKED:
        return state.open_branches.get(order.id) == 0
    if order.state is OrderState.PROCESSING or order.is_terminal:
        return False
    if order.state is OrderState.SUSPENDED:
        return order.mark is not Mark.SUSPEND
    if order.state is OrderState.EXPECTING and state.agent is None:
        return True
    return order.mark is not Mark.NONE or (order.state is OrderState.FRESH and not order.until_ms)


def wake_effects(order: Order | None) -> list[AnyEffect]:
    """Return the alarm an order's waiting needs, if it waits."""
    if order is None or not order.until_ms or order.state not in (OrderState.WAITING, OrderState.FRESH):
        return []
    return [WakeAt(order.id, order.until_ms)]
