"""Audit: what must hold once the faults are over and everything has had its time: S4, S9, L3, L4, L5. Floor 10.

* `unsettled` says what is still under way, a sentence each; a cluster is quiet when it says nothing.
* `audit` compares: each journal's replay with the live state, byte for byte; the controller's copy with its agents'.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from engine.model.obstacle import AgentMissing
from engine.model.order import Attachment, Mark, Order, OrderState
from engine.runtime.link import LinkState
from engine.runtime.recovery import Recovered, begin_recovery, replay
from engine.simulation.checkers import bound_breaches
from engine.simulation.disk import SimDisk

if TYPE_CHECKING:
    from engine.simulation.cluster import SimCluster
    from engine.simulation.node import SimNode

NOT_COMPARED = ("incarnation",)  # fields of an order that only its agent knows

Rests = Callable[[Order], bool]


def rests(order: Order) -> bool:
    """L3: tell whether an order waits for a person by its own rule."""
    return (
        order.is_held
        or order.state is OrderState.SUSPENDED
        or (order.state is OrderState.EXPECTING and isinstance(order.obstacle, AgentMissing))
    )


# --- quiet ------------------------------------------------------------------------------------------------------------


def unsettled(cluster: "SimCluster", may_rest: Rests = rests) -> Iterator[str]:
    """Yield a sentence for everything that is still under way."""
    for node in cluster.nodes.values():
        if not cluster.is_up(node.name):
            yield f"{node.name} is {'paused' if node.paused else 'down'}"
    for what in cluster.pending.values():
        yield f"L4: the client waits for the answer to {what}"
    for node in cluster.nodes.values():
        if cluster.is_up(node.name):
            yield from _unsettled_node(cluster, node)
    for pair in cluster.pairs():
        yield from pair.unsettled()
    if cluster.is_served():
        yield from _unsettled_orders(cluster, may_rest)


def _unsettled_node(cluster: "SimCluster", node: "SimNode") -> Iterator[str]:
    if node.loop is not None:
        figures = node.loop.statistics()
        if figures["mailbox"] or figures["batches_in_flight"] or figures["index"] != figures["shown"]:
            yield f"{node.name} is busy: {figures}"
    if node.role == "controller":
        if node.acting is None:
            return
        for agent, entry in node.acting.agents.items():
            yield from _unsettled_link(f"{node.name} to {agent}", entry.link)
            place = cluster.agent_node(agent) or cluster.nodes[cluster.agent_nodes[agent][0]]
            mark, tip = node.loop.shown_marks.get(f"agent {agent}"), place.disk.image.tip.index
            if (0 if mark is None else mark.index) < tip:
                yield f"L4: {node.name} has read {agent} up to {mark}, its journal ends at {tip}"
        for agent, entry in node.loop.state.agents.items():
            if entry.owed:
                yield f"L4: {node.name} owes {agent} {list(entry.owed)}"
    elif node.role == "agent":
        if node.acting is None:
            return
        for subagent, (_, link) in node.acting.director.links.items():
            yield from _unsettled_link(f"{node.name} to {subagent}", link)
        if node.loop.state.detached:
            yield f"L4: {node.name} keeps detached orders: {list(node.loop.state.detached)[:5]}"
    elif node.role == "subagent":
        if len(node.actor.outbox):
            yield f"L4: {node.name} has {len(node.actor.outbox)} reports in its outbox"
        running = node.machine.running()
        if running:
            yield f"{node.name} runs {[group.key for group in running[:5]]}"
        elif node.machine.records:
            yield f"L4: the guard of {node.name} keeps records of {list(node.machine.records)[:5]}"


def _unsettled_link(name: str, link: Any) -> Iterator[str]:
    if link is None or link.state is not LinkState.COUPLED:
        reason = "" if link is None or link.problem is None else f" ({link.problem.sentence})"
        yield f"the link from {name} is {'missing' if link is None else link.state.value}{reason}"
        return
    figures = link.statistics()
    if figures["unanswered"] or figures["backlog"]:
        yield f"L4: the link from {name} has {figures['unanswered']} unanswered, {figures['backlog']} waiting"


def _unsettled_orders(cluster: "SimCluster", may_rest: Rests) -> Iterator[str]:
    state = cluster.controller_state
    for order in state.orders.values():
        if order.is_terminal or may_rest(order):
            continue
        if order.state is OrderState.FORKED and _waits_for_branch(state, order, may_rest):
            continue
        mark = f", marked {order.mark}" if order.mark is not Mark.NONE else ""
        place = f"{order.attachment} {order.agent}" if order.agent else "at the controller"
        reason = order.obstacle or order.cause or ""
        yield f"L3: order {order.id} is {order.state} at {order.position}, {place}{mark}: {reason}"


def _waits_for_branch(state: Any, order: Order, may_rest: Rests) -> bool:
    """A forked order may wait for a branch that itself rests, or that has failed and stays."""
    branches = [state.orders[child] for child in order.children]
    return any(one.state is OrderState.FAILED or may_rest(one) or one.state is OrderState.FORKED for one in branches)


# --- compare ----------------------------------------------------------------------------------------------------------


def audit(cluster: "SimCluster") -> Iterator[str]:
    """Yield every difference; call it when the cluster is quiet."""
    for node in cluster.nodes.values():
        if node.loop is not None:
            yield from _replay_breaches(cluster, node)
            yield from bound_breaches(node.name, node.loop.statistics())
    for pair in cluster.pairs():
        yield from pair.differences()
    if cluster.acting is not None:
        for agent in cluster.agents:
            if cluster.agent_node(agent) is not None:
                yield from _copy_breaches(cluster, agent)


def replayed(cluster: "SimCluster", role: str, name: str, disk: SimDisk, *, whole: bool = False) -> Recovered[Any]:
    """Recover a node's state from what is durable; `whole`: from record 1, without the snapshot."""
    machine, image = cluster.machine_for(role, name), disk.image
    recovered = begin_recovery(machine, None if whole else image.saved)
    replay(machine, recovered, [record for record in image.records if record.index > recovered.index])
    return recovered


def _replay_breaches(cluster: "SimCluster", node: "SimNode") -> Iterator[str]:
    machine, loop, image = cluster.machine_for(node.role, node.name), node.loop, node.disk.image
    if loop.turns.index != image.tip.index:
        yield f"S4: {node.name} is at record {loop.turns.index}, its durable log ends at {image.tip.index}"
        return
    live = machine.encode_state(loop.state)
    ways = {"snapshot and records": False} | ({"all records": True} if image.base.index == 0 else {})
    for way, whole in ways.items():
        recovered = replayed(cluster, node.role, node.name, node.disk, whole=whole)
        if machine.encode_state(recovered.state) != live:
            difference = _difference(machine.decode_state(live), recovered.state)
            yield f"S4: {node.name}: {way} do not give the live state: {difference}"
        if recovered.marks != loop.shown_marks:
            yield f"S4: {node.name}: {way} give the marks {recovered.marks}, live are {loop.shown_marks}"


def _difference(live: Any, recovered: Any) -> str:
    """Say where two states differ, as short as it can be said."""
    one, other = (
        msgspec.to_builtins(live.snapshot(), enc_hook=str),
        msgspec.to_builtins(recovered.snapshot(), enc_hook=str),
    )
    names = [field.name for field in msgspec.structs.fields(live.snapshot())]
    for name, mine, theirs in zip(names, one, other, strict=False):
        if mine != theirs:
            if isinstance(mine, list) and isinstance(theirs, list):
                pairs = [(a, b) for a, b in zip(mine, theirs, strict=False) if a != b]
                return f"{name}: {len(mine)} and {len(theirs)} entries; first difference {pairs[:1]!s:.400}"
            return f"{name}: live {mine!s:.200}, recovered {theirs!s:.200}"
    return "only in the order of their entries"


def _copy_breaches(cluster: "SimCluster", agent: str) -> Iterator[str]:
    controller, own = cluster.controller_state, cluster.state(agent)
    here = {order.id: order for order in controller.orders.values() if order.agent == agent}
    there = {order.id: order for order in own.orders.values() if own.owns(order) and order.id not in own.detached}
    attached = [one for one in here.values() if one.attachment is Attachment.ATTACHED]
    for order in attached:
        copy = there.pop(order.id, None)
        if copy is None:
            yield f"S4: {order.id} is attached to {agent}, which does not have it"
            continue
        for name in Order.__struct_fields__:
            mine, theirs = getattr(order, name), getattr(copy, name)
            if name not in NOT_COMPARED and mine != theirs:
                yield f"S4: {order.id}: the controller's {name} is {mine!r}, {agent}'s is {theirs!r}"
    for order_id in there:
        yield f"S4: {agent} owns {order_id}, which the controller does not know to be there"
