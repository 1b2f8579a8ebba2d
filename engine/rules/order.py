"""The only place where an order changes: one small function per kind of event. Floor 3.

* `apply_order_event` checks each change against the transition table; a change it forbids is a mistake of ours and
  ends the node before anything of it becomes visible.
* Variables are replaced, never changed in place, so that copies may share them.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from engine.base.ids import OrderId
from engine.model import event as events
from engine.model.job import OnLost
from engine.model.obstacle import AttemptLost
from engine.model.order import TRANSITIONS, Attachment, Mark, Order, OrderState
from engine.model.outcome import CANCELLED, failed
from engine.rules.state import NodeState


class IllegalTransition(AssertionError):
    """An event happened to an order in a state that forbids it."""


def apply_order_event(state: NodeState, event: events.OrderEvent, index: int) -> None:
    """Change the order an event is about; raises IllegalTransition."""
    order = state.orders.get(event.order)
    rule = _RULES.get(type(event))
    if rule is None:
        _apply_without_rule(state, order, event, index)
        return
    if order is None:
        raise IllegalTransition(f"{type(event).__name__} for {event.order}, which is not here")
    sources, target, restates, change = rule
    before, agent = order.state, order.agent
    if before not in sources:
        raise IllegalTransition(f"{type(event).__name__} for {event.order} in state {before}")
    change(state, order, event)
    if target is not None:
        order.state = target
    order.changed_ms = event.at_ms
    if restates or order.state is not before:
        state.restated(order, before)
    if order.agent != agent:
        state.reattached(order, agent)


def _apply_without_rule(state: NodeState, order: Order | None, event: events.OrderEvent, index: int) -> None:
    if isinstance(event, events.OrderAdded):
        _add(state, event, index)
    elif isinstance(event, events.OrderAttached):
        _attach(state, order, event)
    elif order is None:
        raise IllegalTransition(f"{type(event).__name__} for {event.order}, which is not here")


def drop(state: NodeState, order_id: OrderId) -> None:
    """Take an order and its branches out of the state; nothing happens when it is not there."""
    order = state.orders.get(order_id)
    if order is not None:
        for one in descendants(state, order):
            del state.orders[one.id]
            state.dropped(one)


def descendants(state: NodeState, order: Order) -> list[Order]:
    """Return the order and all branches below it that are here, parents first."""
    found = [order]
    for one in found:
        found.extend(state.orders[child] for child in one.children if child in state.orders)
    return found


def _add(state: NodeState, event: Any, index: int) -> None:
    order = Order(
        id=event.order,
        workflow=event.workflow,
        added=index,
        variables=event.variables,
        until_ms=event.scheduled_ms,
        priority=event.priority,
        created_ms=event.at_ms,
        changed_ms=event.at_ms,
    )
    state.orders[order.id] = order
    state.restated(order, None)


def _attach(state: NodeState, order: Order | None, event: Any) -> None:
    if state.agent is None:
        if order is None or order.attachment is not Attachment.ATTACHING:
            raise IllegalTransition(f"OrderAttached for {event.order}, which was not being attached")
        order.attachment = Attachment.ATTACHED
        return
    if order is not None:
        drop(state, order.id)
    order = msgspec.structs.replace(event.snapshot, agent=event.agent, attachment=Attachment.ATTACHED)
    state.orders[order.id] = order
    state.restated(order, None)
    state.reattached(order, None)


def _settle(order: Order) -> None:
    order.obstacle = None
    order.until_ms = 0
    order.cause = ""


def _started(_state: NodeState, order: Order, _event: Any) -> None:
    order.until_ms = 0


def _moved(_state: NodeState, order: Order, event: Any) -> None:
    order.position = event.position
    _settle(order)


def _waiting(_state: NodeState, order: Order, event: Any) -> None:
    order.until_ms = event.until_ms
    order.cause = event.cause


def _woken(_state: NodeState, order: Order, _event: Any) -> None:
    _settle(order)


def _expecting(_state: NodeState, order: Order, event: Any) -> None:
    order.obstacle = event.obstacle


def _assigned(state: NodeState, order: Order, event: Any) -> None:
    order.obstacle = None
    order.attempt = event.attempt
    order.subagent = event.subagent
    order.incarnation = state.incarnation_of(event.subagent)
    order.begun = False


def _began(_state: NodeState, order: Order, _event: Any) -> None:
    order.begun = True


def _ended(_state: NodeState, order: Order, event: Any) -> None:
    order.outcome = event.outcome
    order.failing = not event.outcome.is_success
    if event.results:
        order.variables = {**order.variables, **event.results}


def _held(_state: NodeState, order: Order, event: Any) -> None:
    order.obstacle = AttemptLost(event.attempt, event.message)


def _released(_state: NodeState, order: Order, event: Any) -> None:
    order.obstacle = None
    order.failing = event.choice is not OnLost.RERUN
    if order.failing and order.outcome is not None:
        order.outcome = failed(f"attempt {event.attempt} was lost: {order.outcome.message}")


def _forked(state: NodeState, order: Order, event: events.OrderForked) -> None:
    order.children = tuple(branch.order for branch in event.branches)
    state.open_branches[order.id] = len(order.children)
    for branch in event.branches:
        child = Order(
            id=branch.order,
            workflow=order.workflow,
            added=order.added,
            variables={**order.variables, **branch.variables} if branch.variables else order.variables,
            position=branch.position,
            state=OrderState.READY,
            attempt=order.attempt,
            outcome=order.outcome,  # what a `catch` reads of the failure, its branches read too
            agent=order.agent,
            attachment=order.attachment,
            parent=order.id,
            branch=branch.branch,
            priority=order.priority,
            created_ms=event.at_ms,
            changed_ms=event.at_ms,
        )
        drop(state, child.id)  # an agent may still keep, detached, a branch of an earlier order of this id
        state.orders[child.id] = child
        state.restated(child, None)
        if child.agent is not None:
            state.reattached(child, None)


def _joined(state: NodeState, order: Order, event: Any) -> None:
    for child_id in order.children:
        child = state.orders.get(child_id)
        if child is not None:
            order.attempt = max(order.attempt, child.attempt)
            drop(state, child_id)
    order.children = ()
    state.open_branches.pop(order.id, None)
    order.outcome = event.outcome
    order.failing = not event.outcome.is_success
    if event.results:
        order.variables = {**order.variables, **event.results}


def _faulted(_state: NodeState, order: Order, event: Any) -> None:
    order.outcome = event.outcome
    order.failing = True


def _caught(_state: NodeState, order: Order, event: Any) -> None:
    order.position = event.position
    order.failing = False


def _marked(_state: NodeState, order: Order, event: Any) -> None:
    order.mark = event.mark


def _suspended(_state: NodeState, order: Order, _event: Any) -> None:
    order.suspended_from = order.state
    order.obstacle = None


def _resumed(_state: NodeState, order: Order, _event: Any) -> None:
    before, order.suspended_from = order.suspended_from, None
    order.state = before if before in (OrderState.FRESH, OrderState.WAITING) else OrderState.READY


def _attaching(_state: NodeState, order: Order, event: Any) -> None:
    order.agent = event.agent
    order.attachment = Attachment.ATTACHING
    order.obstacle = None


def _detached(state: NodeState, order: Order, _event: Any) -> None:
    order.agent = None
    order.attachment = Attachment.NONE
    for child in descendants(state, order)[1:]:
        agent, child.agent, child.attachment = child.agent, None, Attachment.NONE
        state.reattached(child, agent)


def _outcome(_state: NodeState, order: Order, event: Any) -> None:
    order.outcome = event.outcome
    order.failing = False
    order.mark = Mark.NONE  # what was asked of it came too late


def _finished(_state: NodeState, order: Order, event: events.OrderFinished) -> None:
    order.outcome = event.outcome
    order.mark = Mark.NONE
    if event.results is not None:
        order.variables = event.results


def _cancelled(_state: NodeState, order: Order, _event: Any) -> None:
    _settle(order)
    if order.outcome is None or order.outcome.is_success:
        order.outcome = CANCELLED  # that its last attempt succeeded is not how the order ended
    order.mark = Mark.NONE


def _broken(_state: NodeState, order: Order, event: Any) -> None:
    _settle(order)
    order.outcome = failed(event.problem.sentence)
    order.failing = False
    order.mark = Mark.NONE
    order.agent = None
    order.attachment = Attachment.NONE


_CHANGES: dict[type[events.Event], Callable[[NodeState, Order, Any], None]] = {
    events.OrderStarted: _started,
    events.OrderMoved: _moved,
    events.OrderWaiting: _waiting,
    events.OrderWoken: _woken,
    events.OrderExpecting: _expecting,
    events.AttemptAssigned: _assigned,
    events.AttemptStarted: _began,
    events.AttemptEnded: _ended,
    events.OrderHeld: _held,
    events.AttemptReleased: _released,
    events.OrderForked: _forked,
    events.OrderJoined: _joined,
    events.OrderFaulted: _faulted,
    events.OrderCaught: _caught,
    events.OrderMarked: _marked,
    events.OrderSuspended: _suspended,
    events.OrderResumed: _resumed,
    events.OrderAttaching: _attaching,
    events.OrderDetached: _detached,
    events.OrderFinished: _finished,
    events.OrderFailed: _outcome,
    events.OrderCancelled: _cancelled,
    events.OrderBroken: _broken,
}

Change = Callable[[NodeState, Order, Any], None]
_RESTATING = (events.OrderExpecting,)  # another obstacle may be another line
# For each kind of event: where it may happen, the state after it, whether indexes change though the state may not.
_RULES: dict[type[events.Event], tuple[frozenset[OrderState], OrderState | None, bool, Change]] = {
    kind: (frozenset(TRANSITIONS[kind.__name__][0]), TRANSITIONS[kind.__name__][1], kind in _RESTATING, change)
    for kind, change in _CHANGES.items()
}
