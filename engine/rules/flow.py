"""Flow: the next events of one order, the same at the controller and at an agent. Floor 3.

* `advance` is asked after every change of an order until it answers [].
* An order ends where its end belongs: a branch where its parent lives, all others at the controller.
* A person's mark takes effect between two steps, never inside an attempt.
"""

from typing import cast

from engine.base.codec import Value
from engine.model.event import (
    AttemptReleased,
    OrderAttaching,
    OrderCancelled,
    OrderDetached,
    OrderEvent,
    OrderExpecting,
    OrderFailed,
    OrderFaulted,
    OrderFinished,
    OrderHeld,
    OrderResumed,
    OrderStarted,
    OrderSuspended,
)
from engine.model.expression import EvaluationError, Expression, Template
from engine.model.job import OnLost
from engine.model.obstacle import AgentMissing, AnyObstacle
from engine.model.order import Mark, Order, OrderState
from engine.model.outcome import SUCCEEDED, Outcome, OutcomeKind, failed
from engine.model.position import Position, outside
from engine.rules.state import View
from engine.rules.statement import ANYWHERE, CONTROLLER, Statement

_SUSPENDABLE = (OrderState.FRESH, OrderState.READY, OrderState.WAITING, OrderState.EXPECTING)


def advance(view: View, order: Order) -> list[OrderEvent]:
    """Return the next events of an order by itself; [] when it must wait or is not ours."""
    state = order.state
    if not view.state.owns(order) or state is OrderState.PROCESSING or order.is_terminal:
        return []
    if state is OrderState.FORKED:
        return statement_at(view, order).join(view, order)
    if order.mark is not Mark.NONE:
        return _marked(view, order)
    if state is OrderState.SUSPENDED:
        return [OrderResumed(order.id, view.now_ms)]
    if state is OrderState.READY:
        return _failing(view, order) if order.failing else _step(view, order)
    if state is OrderState.EXPECTING:
        return [] if order.is_held else _step(view, order)
    if order.until_ms > view.now_ms:
        return []
    if state is OrderState.FRESH:
        return [OrderStarted(order.id, view.now_ms)]
    return statement_at(view, order).woken(view, order)


def statement_at(view: View, order: Order, position: Position | None = None) -> Statement:
    """Return the statement at a position (the order's own if none is given); raises LookupError past a block's end."""
    found = view.workflow(order).at(order.position if position is None else position)
    if found is None:
        raise LookupError(f"order {order.id} stands past the end of its block at {order.position}")
    return cast("Statement", found)


def finish(view: View, order: Order, outcome: Outcome) -> list[OrderEvent]:
    """Return the events that end an order or branch with success, with its workflow's results."""
    if not ends_here(view, order):
        return detach(view, order)
    workflow = view.workflow(order)
    if order.parent is not None or not workflow.results:
        return [OrderFinished(order.id, view.now_ms, outcome)]
    try:
        results = {name: evaluate(view, order, template) for name, template in workflow.results.items()}
    except EvaluationError as error:
        return [OrderFailed(order.id, view.now_ms, failed(f"the workflow's results: {error}"))]
    return [OrderFinished(order.id, view.now_ms, outcome, results)]


def fault(view: View, order: Order, message: str) -> list[OrderEvent]:
    """Return the event of a step that failed without an attempt."""
    return [OrderFaulted(order.id, view.now_ms, failed(message))]


def evaluate(view: View, order: Order, template: Template | Expression) -> Value:
    """Evaluate a template in an order's scope; raises EvaluationError."""
    return template.evaluate(view.scope(order, template.names))


def ends_here(view: View, order: Order) -> bool:
    """Tell whether this node may end the order: the controller always, an agent a branch whose parent it has."""
    return view.state.agent is None or view.state.has_parent_of(order)


def detach(view: View, order: Order) -> list[OrderEvent]:
    """Return the event by which an agent gives an order back."""
    agent = view.state.agent
    assert agent is not None, f"order {order.id} is detached at the controller"
    return [OrderDetached(order.id, view.now_ms, agent)]


def _step(view: View, order: Order) -> list[OrderEvent]:
    workflow = view.workflow(order)
    step = cast("Statement | None", workflow.at(order.position))
    if step is None:
        return _leave(view, order)
    place = step.place(workflow)
    if place is ANYWHERE or place == (view.state.agent or CONTROLLER):
        return step.step(view, order)
    if view.state.agent is not None:
        return detach(view, order)
    if not view.state.knows_agent(place):
        return expect(view, order, AgentMissing(place))
    return [OrderAttaching(order.id, view.now_ms, place)]


def expect(view: View, order: Order, obstacle: AnyObstacle) -> list[OrderEvent]:
    """Return the event of standing in line, [] when it stands there for this very reason already."""
    if order.state is OrderState.EXPECTING and order.obstacle == obstacle:
        return []
    return [OrderExpecting(order.id, view.now_ms, obstacle)]


def _leave(view: View, order: Order) -> list[OrderEvent]:
    outer = outside(order.position)
    if outer is None:
        return finish(view, order, SUCCEEDED)
    enclosing = statement_at(view, order, outer)
    if enclosing.is_boundary:
        return finish(view, order, SUCCEEDED)
    return enclosing.leave(view, order, outer)


def _marked(view: View, order: Order) -> list[OrderEvent]:
    if order.mark is Mark.SUSPEND:
        may = order.state in _SUSPENDABLE and not order.is_held
        return [OrderSuspended(order.id, view.now_ms)] if may else []
    if not ends_here(view, order):
        return detach(view, order)
    return [OrderCancelled(order.id, view.now_ms)]


def _failing(view: View, order: Order) -> list[OrderEvent]:
    assert order.outcome is not None, f"order {order.id} fails without an outcome"
    if order.outcome.kind is OutcomeKind.UNKNOWN:
        return _lost(view, order, order.outcome)
    position = order.position
    while (outer := outside(position)) is not None:
        enclosing = statement_at(view, order, outer)
        if enclosing.is_boundary:
            break
        events = enclosing.caught(view, order, outer, str(position[len(outer)]))
        if events is not None:
            return events
        position = outer
    return [OrderFailed(order.id, view.now_ms, order.outcome)] if ends_here(view, order) else detach(view, order)


def _lost(view: View, order: Order, outcome: Outcome) -> list[OrderEvent]:
    on_lost: OnLost = getattr(statement_at(view, order), "on_lost", OnLost.HOLD)
    if on_lost is OnLost.HOLD:
        return [OrderHeld(order.id, view.now_ms, order.attempt, outcome.message)]
    return [AttemptReleased(order.id, view.now_ms, order.attempt, on_lost)]
