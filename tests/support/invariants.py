"""What must hold in a cluster of pure machines: after every message, and when nobody has anything to do.

`Checked` wraps a machine and sees that only `apply` changes the state.
"""

from collections import Counter
from typing import Any

from engine.base.problem import Problem
from engine.model.event import OrderEvent, OrderExpecting
from engine.model.order import LIVE, TRANSITIONS, OrderState
from engine.rules.agent_state import AgentState, need_of
from engine.rules.director import is_scarcity
from engine.rules.instructions.job import limit_key
from engine.rules.state import NodeState
from tests.support.pure import PureCluster
from tests.support.pure_nodes import PureNode


class Checked:
    """A machine whose reading methods are watched: the encoded state is the same before and after."""

    def __init__(self, machine: Any) -> None:
        self._machine = machine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def _reading(self, method: str, state: Any, *arguments: Any) -> Any:
        before = self._machine.encode_state(state)
        answer = getattr(self._machine, method)(state, *arguments)
        assert self._machine.encode_state(state) == before, f"{method}{arguments} changed the state"
        return answer

    def begin(self, state: Any, *arguments: Any) -> Any:
        return self._reading("begin", state, *arguments)

    def decide(self, state: Any, command: Any, now_ms: int) -> Any:
        return self._reading("decide", state, command, now_ms)

    def advance(self, state: Any, key: str, now_ms: int) -> Any:
        return self._reading("advance", state, key, now_ms)

    def broken(self, state: Any, key: str, problem: Problem, now_ms: int) -> Any:
        raise AssertionError(f"{key} breaks: {problem}")

    def touched(self, state: Any, event: Any) -> Any:
        return tuple(self._reading("touched", state, event))

    def effects(self, state: Any, event: Any) -> Any:
        return self._reading("effects", state, event)

    def resume(self, state: Any) -> Any:
        return self._reading("resume", state)

    def apply(self, state: Any, event: Any, index: int) -> None:
        """Apply, and see that an order's state changes as the table says."""
        fact = getattr(event, "event", event)
        order = state.orders.get(fact.order) if isinstance(fact, OrderEvent) else None
        before = None if order is None else order.state
        self._machine.apply(state, event, index)
        kind = type(fact).__name__
        if order is None or before is None or kind not in TRANSITIONS:
            return
        sources, target = TRANSITIONS[kind]
        assert before in sources, f"{kind} from {before}"
        if target is not None and kind != "OrderAttached":
            assert order.state is target, f"{kind} led to {order.state}"


def sound(cluster: PureCluster) -> None:
    """What holds after every message."""
    for node in cluster.nodes:
        node_is_sound(node)
    owners = Counter(
        order.id for node in cluster.nodes for order in node.turns.state.orders.values() if node.turns.state.owns(order)
    )
    assert all(count == 1 for count in owners.values()), f"two owners: {owners.most_common(3)}"


def node_is_sound(node: PureNode) -> None:
    """What holds inside one node: its indexes are what its orders say."""
    state: NodeState = node.turns.state
    for order in state.orders.values():
        assert (order.agent is None) == (order.attachment == ""), order
        assert (order.subagent is not None) == (order.state is OrderState.PROCESSING), order
        if order.state is OrderState.FORKED:
            assert order.children
            live = [child for child in order.children if state.orders[child].state in LIVE]
            assert state.open_branches[order.id] == len(live), order
        elif order.state is not OrderState.BROKEN:
            assert not order.children, order
            assert order.id not in state.open_branches
    if isinstance(state, AgentState):
        _agent_is_sound(state)


def _agent_is_sound(state: AgentState) -> None:
    running = [order for order in state.orders.values() if order.subagent is not None]
    assert state.slots.total == len(running)
    assert state.slots.by_job == Counter(limit_key(order, state.step_of(order)) for order in running)
    by_subagent = Counter(order.subagent for order in running)
    assert {one: len(found) for one, found in state.slots.by_subagent.items() if found} == by_subagent
    waiting = {
        order.id
        for order in state.orders.values()
        if order.state is OrderState.EXPECTING and is_scarcity(order.obstacle) and state.owns(order)
    }
    assert set(state.lines) == waiting
    assert set(state.detached) <= set(state.orders)
    for head in state.lines.heads():
        order = state.orders[head]
        step = state.step_of(order)
        assert state.lines.head(need_of(step.bundle, limit_key(order, step), step.limit)) == head


def replayed_alike(node: PureNode) -> None:
    """Replay and a snapshot give the live state, byte for byte."""
    machine, live = node.machine, node.machine.encode_state(node.turns.state)
    assert machine.encode_state(node.replayed()) == live
    assert machine.encode_state(machine.decode_state(live)) == live


def quiet(cluster: PureCluster) -> None:
    """What holds when all messages are delivered: nobody was forgotten, and nothing is owed to who is connected."""
    sound(cluster)
    for node in cluster.nodes:
        assert not node.left
        assert not node.effects
        state = node.turns.state
        for order in state.orders.values():
            waits = order.state in (OrderState.WAITING, OrderState.FRESH) and order.until_ms
            if state.owns(order) and not waits:
                forgotten = node.machine.advance(state, order.id, cluster.now_ms)
                waits_on = order.state is OrderState.EXPECTING and [*map(type, forgotten)] == [OrderExpecting]
                assert waits_on or forgotten == [], f"{node.name} forgot {order.id}: {forgotten}"
    for name, wire in cluster.wires.items():
        if wire.coupled:
            entry = cluster.controller_state.agents[name]  # type: ignore[index]
            assert entry.owed == {}, f"owed to {name}: {entry.owed}"
            assert cluster.controller_state.attaching(name) == []  # type: ignore[arg-type]


def at_rest(cluster: PureCluster) -> None:
    """What holds at the very end, after a healing: nothing is left behind anywhere."""
    quiet(cluster)
    for node in cluster.nodes:
        replayed_alike(node)
    for name in cluster.agents:
        state = cluster.agent_state(name)
        assert all(order.id in state.detached for order in state.orders.values()), f"{name} keeps orders"
        assert state.slots.total == 0
        assert len(state.lines) == 0
    assert not any(sub.running or sub.outbox for sub in cluster.subagents.values())
    roots = [order for order in cluster.controller_state.orders.values() if order.parent is None]
    assert set(cluster.controller_state.terminated) == {order.id for order in roots if order.is_terminal}
