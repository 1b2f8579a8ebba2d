"""The life of an order as the table says it, and positions that are read as they were written.

Tests: engine/rules/order.py, engine/rules/marks.py, engine/model/order.py, engine/model/position.py
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.codec import encode
from engine.base.ids import AgentId, OrderId, SubagentId
from engine.base.problem import Problem
from engine.model import event as e
from engine.model import position as p
from engine.model.job import OnLost
from engine.model.obstacle import NoSubagent
from engine.model.order import LIVE, TERMINAL, TRANSITIONS, Attachment, Mark, Order, OrderState
from engine.model.outcome import SUCCEEDED
from engine.model.workflow import WorkflowId
from engine.rules.order import IllegalTransition, apply_order_event, descendants, drop
from engine.rules.state import NodeState
from tests.house.order_states import RETURNS

O = OrderId("o")
EVENTS: dict[str, e.OrderEvent] = {
    "OrderStarted": e.OrderStarted(O, 7),
    "OrderMoved": e.OrderMoved(O, 7, (1,)),
    "OrderWaiting": e.OrderWaiting(O, 7, 9, "why"),
    "OrderWoken": e.OrderWoken(O, 7),
    "OrderExpecting": e.OrderExpecting(O, 7, NoSubagent("")),
    "AttemptAssigned": e.AttemptAssigned(O, 7, (0,), 1, SubagentId("s")),
    "AttemptStarted": e.AttemptStarted(O, 7, 1, 5),
    "AttemptEnded": e.AttemptEnded(O, 7, 1, SUCCEEDED),
    "OrderHeld": e.OrderHeld(O, 7, 1, "lost"),
    "AttemptReleased": e.AttemptReleased(O, 7, 1, OnLost.FAIL),
    "OrderForked": e.OrderForked(O, 7, (e.Branch(OrderId("o|x"), "x", (0, "x", 0)),)),
    "OrderJoined": e.OrderJoined(O, 7, SUCCEEDED, {}),
    "OrderFaulted": e.OrderFaulted(O, 7, SUCCEEDED),
    "OrderCaught": e.OrderCaught(O, 7, (1,)),
    "OrderMarked": e.OrderMarked(O, 7, Mark.CANCEL),
    "OrderSuspended": e.OrderSuspended(O, 7),
    "OrderResumed": e.OrderResumed(O, 7),
    "OrderAttaching": e.OrderAttaching(O, 7, AgentId("a")),
    "OrderDetached": e.OrderDetached(O, 7, AgentId("a")),
    "OrderFinished": e.OrderFinished(O, 7, SUCCEEDED),
    "OrderFailed": e.OrderFailed(O, 7, SUCCEEDED),
    "OrderCancelled": e.OrderCancelled(O, 7),
    "OrderBroken": e.OrderBroken(O, 7, Problem("X", "It broke.")),
}


def state_with(order_state: OrderState, suspended_from: OrderState | None = None, **fields: Any) -> NodeState:
    state = NodeState(AgentId("a"))
    state.orders[O] = Order(
        id=O,
        workflow=WorkflowId("w@1"),
        added=1,
        variables={},
        state=order_state,
        suspended_from=suspended_from,
        **fields,
    )
    return state


def test_the_table_and_the_events_of_an_order_are_the_same_set() -> None:
    assert {*EVENTS, "OrderAttached"} == set(TRANSITIONS)
    not_in_the_table = {"OrderAdded", "OrderCommanded", "OrderCommandDropped"}
    assert {one.__name__ for one in e.OrderEvent.__subclasses__()} == set(TRANSITIONS) | not_in_the_table
    assert set(LIVE) | TERMINAL == set(OrderState)


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.parametrize("before", OrderState)
def test_an_event_changes_an_order_as_the_table_says_or_not_at_all(kind: str, before: OrderState) -> None:
    sources, target = TRANSITIONS[kind]
    state = state_with(before)
    unchanged = encode(state.orders[O])
    if before not in sources:
        with pytest.raises(IllegalTransition, match=kind):
            apply_order_event(state, EVENTS[kind], 3)
        assert encode(state.orders[O]) == unchanged
        return
    apply_order_event(state, EVENTS[kind], 3)
    order = state.orders[O]
    if kind in RETURNS:
        assert (before.name, order.state.name) in RETURNS[kind]
    else:
        assert order.state is (before if target is None else target)
    assert order.changed_ms == 7


@pytest.mark.parametrize(("source", "target"), RETURNS["OrderResumed"])
def test_resumed_an_order_is_where_it_was(source: str, target: str) -> None:
    state = state_with(OrderState[source], suspended_from=OrderState[target] if source == "SUSPENDED" else None)
    apply_order_event(state, EVENTS["OrderResumed"], 3)
    assert state.orders[O].state is OrderState[target]
    assert state.orders[O].suspended_from is None


def test_an_event_for_nobody() -> None:
    with pytest.raises(IllegalTransition, match="not here"):
        apply_order_event(NodeState(None), EVENTS["OrderMoved"], 3)


def test_attaching_takes_place_once_and_only_when_it_was_promised() -> None:
    controller = NodeState(None)
    controller.orders[O] = Order(id=O, workflow=WorkflowId("w@1"), added=1, variables={}, state=OrderState.READY)
    attached = e.OrderAttached(O, 8, AgentId("a"), controller.orders[O])
    with pytest.raises(IllegalTransition, match="was not being attached"):
        apply_order_event(controller, attached, 3)
    apply_order_event(controller, EVENTS["OrderAttaching"], 3)
    apply_order_event(controller, attached, 4)
    assert controller.orders[O].attachment is Attachment.ATTACHED
    with pytest.raises(IllegalTransition, match="was not being attached"):
        apply_order_event(controller, attached, 5)


def test_a_dropped_order_takes_its_branches_with_it_however_deep() -> None:
    state = state_with(OrderState.READY)
    apply_order_event(state, EVENTS["OrderForked"], 3)
    inner = e.OrderForked(OrderId("o|x"), 7, (e.Branch(OrderId("o|x|y"), "y", (0, "x", 0, "y", 0)),))
    apply_order_event(state, inner, 4)
    assert [one.id for one in descendants(state, state.orders[O])] == ["o", "o|x", "o|x|y"]
    drop(state, O)
    assert state.orders == {}
    assert state.open_branches == {}
    drop(state, O)


def test_a_broken_branch_with_branches_leaves_nothing_behind_the_join() -> None:
    state = state_with(OrderState.READY)
    apply_order_event(state, EVENTS["OrderForked"], 3)
    x = OrderId("o|x")
    apply_order_event(state, e.OrderForked(x, 7, (e.Branch(OrderId("o|x|y"), "y", (0, "x", 0, "y", 0)),)), 4)
    apply_order_event(state, e.OrderBroken(x, 7, Problem("X", "It broke.")), 5)
    assert state.open_branches[O] == 0
    apply_order_event(state, EVENTS["OrderJoined"], 6)
    assert list(state.orders) == ["o"]


def test_variables_are_shared_and_never_changed_in_place() -> None:
    state = state_with(OrderState.READY)
    before = state.orders[O].variables = {"a": 1}
    apply_order_event(state, EVENTS["AttemptAssigned"], 3)
    apply_order_event(state, e.AttemptEnded(O, 7, 1, SUCCEEDED, results={"b": 2}), 4)
    assert before == {"a": 1}
    assert state.orders[O].variables == {"a": 1, "b": 2}


# --- positions --------------------------------------------------------------------------------------------------------

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,9}(\+[1-9][0-9]{0,3})?", fullmatch=True)
positions = st.tuples(st.integers(0, 999), st.lists(st.tuples(names, st.integers(0, 999)), max_size=6)).map(
    lambda made: (made[0], *(part for pair in made[1] for part in pair))
)


@given(positions, names.filter(lambda name: "+" not in name), st.integers(0, 1_000))
def test_into_a_block_and_out_again(position: p.Position, branch: str, round_number: int) -> None:
    inner = p.inside(position, branch, round_number)
    assert p.outside(inner) == position
    assert inner[-2] == (f"{branch}+{round_number}" if round_number else branch)
    assert p.block_of(inner)[-1] == branch
    assert p.following(inner) == (*inner[:-1], 1)
    assert p.block_of(p.following(inner)) == p.block_of(inner)


def test_a_position_is_written_as_people_see_it() -> None:
    assert p.position_text((2, "then", 0)) == "2/then/0"
