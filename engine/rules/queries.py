"""Queries: what a node answers about its state, in bounded pages. Floor 3."""

from typing import Any

from engine.base.codec import encode
from engine.base.limits import PAGE_LENGTH_MAX
from engine.base.problem import Problem
from engine.model import query as q
from engine.model.obstacle import AgentUnreachable, BranchesFailed, Running, Suspended, WaitingForBranches, WaitingUntil
from engine.model.order import Attachment, Order, OrderState
from engine.model.workflow import Workflow
from engine.rules.commands.add_order import find_workflow
from engine.rules.controller_state import ControllerState
from engine.rules.operator_command import find_order
from engine.rules.state import View

PAGE_BYTES_MAX = 4 << 20  # of the variables of a page's orders, so that the answer fits into a frame


def answer(view: View, query: Any) -> Any:
    """Return the page a query asks for, or a Problem."""
    state = view.state
    if isinstance(query, q.ListWorkflows):
        return q.WorkflowPage(tuple(state.workflows))
    if isinstance(query, q.GetStatus):
        return _status(view)
    assert isinstance(state, ControllerState), "only a controller is asked about orders"
    if isinstance(query, q.GetOrder):
        order = find_order(state, query.order)
        return order if isinstance(order, Problem) else order_view(view, order)
    if isinstance(query, q.ListOrders):
        return _page(view, query)
    assert isinstance(query, q.GetWorkflow)
    found: Workflow | Problem = find_workflow(state, query.name, query.version)
    return found


def order_view(view: View, order: Order) -> q.OrderView:
    """Return an order with the sentence that says why it waits."""
    return q.OrderView(order, obstacle_text(view, order))


def obstacle_text(view: View, order: Order) -> str:
    """Say what an order waits for; empty when nothing holds it."""
    if order.state is OrderState.EXPECTING and order.obstacle is not None:
        return str(order.obstacle)
    if order.state is OrderState.PROCESSING:
        return str(Running(order.attempt, order.subagent or "?"))
    if order.state is OrderState.FORKED:
        return _branches_text(view, order)
    if order.state is OrderState.SUSPENDED:
        return str(Suspended())
    if order.state in (OrderState.WAITING, OrderState.FRESH) and order.until_ms:
        return str(WaitingUntil(order.until_ms, order.cause or "scheduled"))
    if order.attachment is Attachment.ATTACHING and order.agent is not None and isinstance(view.state, ControllerState):
        entry = view.state.agents.get(order.agent)
        if entry is None or not entry.is_coupled:
            return str(AgentUnreachable(order.agent))
    return ""


def _branches_text(view: View, order: Order) -> str:
    open_count = view.state.open_branches.get(order.id, 0)
    if open_count:
        return str(WaitingForBranches(open_count))
    names = [child.branch for child in view.children(order) if child.state is OrderState.FAILED]
    return str(BranchesFailed(", ".join(names[:5])))


def _page(view: View, query: q.ListOrders) -> q.OrderPage:
    found: list[q.OrderView] = []
    limit = min(max(query.limit, 1), PAGE_LENGTH_MAX)
    skipping, size_bytes = query.after is not None, 0
    for order in view.state.orders.values():
        if skipping:
            skipping = order.id != query.after
            continue
        if _matches(order, query):
            size_bytes += len(encode(order.variables))
            if len(found) == limit or (found and size_bytes > PAGE_BYTES_MAX):
                return q.OrderPage(tuple(found), more=True)
            found.append(order_view(view, order))
    return q.OrderPage(tuple(found), more=False)


def _matches(order: Order, query: q.ListOrders) -> bool:
    if query.roots_only and order.parent is not None:
        return False
    if query.states and order.state not in query.states:
        return False
    return query.workflow is None or order.workflow.partition("@")[0] == query.workflow


def _status(view: View) -> q.NodeStatus:
    state = view.state
    peers: dict[str, bool] = {}
    if isinstance(state, ControllerState):
        peers = {agent: entry.is_coupled for agent, entry in state.agents.items()}
    counts = {"orders": len(state.orders), "workflows": len(state.workflows), "epoch": state.epoch}
    if state.forced_epoch:
        counts["forced_epoch"] = state.forced_epoch  # what was acknowledged before it may be lost
    return q.NodeStatus(state.node, counts, peers)
