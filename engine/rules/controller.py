"""The controller's machine: it accepts orders, gives them to agents, adopts what agents report. Floor 3.

* Operator commands are leaves in engine/rules/commands; here is what nodes tell the controller, and the bookkeeping.
* An agent's records are adopted as raw bytes, in one record of ours; what is not about an order of that agent is left
  out.
* Terminated orders beyond a bound are deleted, the oldest first.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import msgspec

from engine.base.ids import AgentId
from engine.base.limits import ORDERS_TERMINATED_KEPT_MAX
from engine.base.problem import Problem
from engine.model import event as events
from engine.model.command import AttachItems, AttachOrder, MarkOrder, ReleaseHeld, ToAgent
from engine.model.effect import AnyEffect, LinksChanged, TellAgent
from engine.model.event import Event, OrderEvent
from engine.model.item import AgentItem, SubagentItem
from engine.model.language import Language
from engine.model.order import Attachment, OrderState
from engine.rules.adoption import Adopted, Adoption
from engine.rules.controller_state import (
    AgentEntry,
    ControllerSnapshot,
    ControllerState,
    controller_state_of,
    owed_key,
)
from engine.rules.forced import TakenOverByForce, apply_forced, decide_forced
from engine.rules.node_machine import NodeMachine, apply_shared, touched_orders, unsettled_orders, wake_effects
from engine.rules.operator_command import OperatorCommand
from engine.rules.order import apply_order_event, drop
from engine.rules.register import RegisterAsked, decide_register

HOUSEKEEPING = ""  # the key under which the controller tidies up after itself
DELETE_AT_ONCE = 1_000


class AgentReported(msgspec.Struct, frozen=True):
    """Records of an agent's journal, each a packed array of events, in order."""

    agent: AgentId
    records: tuple[bytes, ...]


class AgentUp(msgspec.Struct, frozen=True):
    """An agent's link has caught up; what is owed is sent now."""

    agent: AgentId
    incarnation: int


class AgentDown(msgspec.Struct, frozen=True):
    """An agent's link is lost."""

    agent: AgentId
    reason: str


class AgentRefused(msgspec.Struct, frozen=True):
    """An agent refused a command that was owed to it."""

    agent: AgentId
    command: ToAgent
    problem: Problem


class ControllerMachine(NodeMachine[ControllerState]):
    """Rules of the controller."""

    def __init__(self, language: Language, terminated_max: int = ORDERS_TERMINATED_KEPT_MAX) -> None:
        super().__init__(language)
        self.terminated_max = terminated_max
        self._decode_snapshot = language.decoder(ControllerSnapshot).decode

    def blank(self) -> ControllerState:
        return ControllerState()

    def begin(self, state: ControllerState, epoch: int, node: str, now_ms: int) -> list[Event]:
        return [events.EpochBegan(now_ms, epoch, node)]

    def decide(self, state: ControllerState, command: Any, now_ms: int) -> list[Any] | Problem:
        """Return the events of one command."""
        if isinstance(command, OperatorCommand):
            return command.decide(state, now_ms)
        if isinstance(command, AgentReported):
            return Adoption(state, command.agent, now_ms).take(self.language, command.records)
        if isinstance(command, AgentUp):
            known = command.agent in state.agents
            return [events.AgentCoupled(now_ms, command.agent, command.incarnation)] if known else []
        if isinstance(command, AgentDown):
            entry = state.agents.get(command.agent)
            coupled = entry is not None and entry.is_coupled
            return [events.AgentLost(now_ms, command.agent, command.reason)] if coupled else []
        if isinstance(command, AgentRefused):
            return self._refused(state, command, now_ms)
        if isinstance(command, RegisterAsked):
            return decide_register(state, command, now_ms)
        if isinstance(command, TakenOverByForce):
            return decide_forced(state, command, now_ms)
        raise AssertionError(f"the controller has no rule for {type(command).__name__}")

    def advance(self, state: ControllerState, key: str, now_ms: int) -> list[Event]:
        if key != HOUSEKEEPING:
            return super().advance(state, key, now_ms)
        if len(state.terminated) <= self.terminated_max + DELETE_AT_ONCE:
            return []
        return [events.OrdersDeleted(now_ms, tuple(islice(state.terminated, DELETE_AT_ONCE)))]

    def _refused(self, state: ControllerState, command: AgentRefused, now_ms: int) -> list[Event]:
        """What is not refused here stays owed, and is sent again when the agent couples next."""
        refused = command.command
        if isinstance(refused, AttachOrder):
            order = state.orders.get(refused.order.id)
            if order is None or order.agent != command.agent or order.attachment is not Attachment.ATTACHING:
                return []
            return [events.OrderBroken(order.id, now_ms, command.problem)]
        entry = state.agents.get(command.agent)
        if entry is None or not isinstance(refused, ReleaseHeld) or entry.owed.get(owed_key(refused)) != refused:
            return []
        return [events.OrderCommandDropped(refused.order, now_ms, command.problem)]

    # --- state --------------------------------------------------------------------------------------------------------

    def encode_event(self, event: Event | Adopted) -> bytes:
        return event.raw if isinstance(event, Adopted) else self.language.encode(event)

    def apply(self, state: ControllerState, event: Event | Adopted, index: int) -> None:
        """Change the state by one event of the record with this index."""
        fact = event.event if isinstance(event, Adopted) else event
        kind = type(fact)
        if kind in _PLAIN:
            apply_order_event(state, fact, index)  # type: ignore[arg-type] # all of these are an order's
            return
        if isinstance(fact, events.OrderMarked) and fact.agent is not None:
            _answered(state, fact)
            return
        if kind in _CONFIRMING:
            _confirm(state, fact)
        if not apply_shared(state, fact, index):
            rule = _APPLY.get(kind)
            if rule is not None:
                rule(state, fact)
            return
        if isinstance(fact, events.WorkflowDeployed):
            state.newest[fact.workflow.name] = fact.workflow.id
        elif isinstance(fact, events.OrderCommanded):
            state.owe(fact.agent, fact.command)

    def touched(self, state: ControllerState, event: Event | Adopted) -> Iterable[str]:
        """Return the orders that may go on because of an event, and the housekeeping when it is due."""
        fact = event.event if isinstance(event, Adopted) else event
        if isinstance(fact, OrderEvent):
            found: Iterable[str] = touched_orders(state, fact)
            if len(state.terminated) > self.terminated_max + DELETE_AT_ONCE:
                return (*found, HOUSEKEEPING)
            return found
        if isinstance(fact, events.ItemChanged) and isinstance(fact.item, AgentItem):
            return tuple(
                one.id for one in state.orders.values() if one.state is OrderState.EXPECTING and state.owns(one)
            )
        if isinstance(fact, events.EpochBegan):
            return (*unsettled_orders(state), HOUSEKEEPING)
        return ()

    def effects(self, state: ControllerState, event: Event | Adopted) -> list[AnyEffect]:
        """Return what the world must be told once the event is durable."""
        if isinstance(event, Adopted) or type(event) in _PLAIN:
            return []
        if isinstance(event, events.OrderAttaching):
            order = msgspec.structs.replace(state.orders[event.order])
            return [TellAgent(event.agent, AttachOrder(order))]
        if isinstance(event, events.OrderCommanded):
            return [TellAgent(event.agent, event.command)]
        if isinstance(event, events.OrderWaiting | events.OrderAdded | events.OrderResumed):
            return wake_effects(state.orders.get(event.order))
        if isinstance(event, events.ItemChanged | events.ItemRemoved):
            return [links_of(state), *self._items_effects(state, event)]
        return []

    def _items_effects(self, state: ControllerState, event: Event) -> list[AnyEffect]:
        agents = list(state.agents)
        if isinstance(event, events.ItemChanged):
            agents = [event.item.id if isinstance(event.item, AgentItem) else event.item.agent]
        return [TellAgent(agent, AttachItems(state.items_for(agent))) for agent in agents]

    def resume(self, state: ControllerState) -> list[AnyEffect]:
        """Return what is owed after recovery: the links and the alarms; agents get theirs when they couple."""
        found: list[AnyEffect] = [links_of(state)]
        for order in state.orders.values():
            if state.owns(order):
                found.extend(wake_effects(order))
        return found

    def owed_to_agent(self, state: ControllerState, agent: AgentId) -> list[ToAgent]:
        """Return the commands an agent must get when it couples: its items, its new orders, the marks."""
        entry = state.agents.get(agent)
        if entry is None:
            return []
        orders = [AttachOrder(msgspec.structs.replace(order)) for order in state.attaching(agent)]
        return [AttachItems(state.items_for(agent)), *orders, *entry.owed.values()]

    def encode_state(self, state: ControllerState) -> bytes:
        return self.language.encode(state.snapshot())

    def decode_state(self, raw: bytes) -> ControllerState:
        return controller_state_of(self._decode_snapshot(raw))


def links_of(state: ControllerState) -> LinksChanged:
    """Return the effect that tells which agents there are."""
    return LinksChanged({entry.item.id: entry.item.urls for entry in state.agents.values()})


def _answered(state: ControllerState, event: events.OrderMarked) -> None:
    """Take note of a mark an agent has set; what a person said later counts more, and is owed until it is answered.

    The agent says the mark it was told. If that is not what it was told last, the last may be lost on its way.
    """
    order = state.orders[event.order]
    assert order.agent is not None, f"order {order.id} is at no agent"
    wanted = MarkOrder(order.id, order.mark)
    owed = state.agents[order.agent].owed
    parent = None if order.parent is None else state.orders.get(order.parent)
    told = parent is None or parent.agent != order.agent  # else the mark may come from the parent's
    if event.mark is order.mark or (owed_key(wanted) not in owed and not told):
        owed.pop(owed_key(wanted), None)
        apply_order_event(state, event, 0)
    else:
        owed.setdefault(owed_key(wanted), wanted)


def _confirm(state: ControllerState, event: Any) -> None:
    """Strike what an agent owed no longer: its own event shows that the command was carried out or is pointless."""
    order = state.orders.get(event.order)
    if order is None or order.agent is None:
        return
    if isinstance(event, events.AttemptReleased | events.OrderCommandDropped):
        state.agents[order.agent].owed.pop(f"release {event.order}", None)
    else:
        state.owe_nothing(order)


def _began(state: ControllerState, event: events.EpochBegan) -> None:
    state.epoch, state.node = event.epoch, event.node
    for entry in state.agents.values():
        entry.is_coupled = False


def _forced(state: ControllerState, event: events.PairForced) -> None:
    apply_forced(state, event)
    state.unconfirmed = dict.fromkeys(state.ownerships)  # who owned them last, only the other controller may have known


def _item_changed(state: ControllerState, event: events.ItemChanged) -> None:
    item = event.item
    if isinstance(item, AgentItem):
        entry = state.agents.get(item.id)
        if entry is None:
            state.agents[item.id] = AgentEntry(item, owed={})
        else:
            entry.item = item
    elif isinstance(item, SubagentItem):
        state.subagents[item.id] = item
    else:
        state.bundles[item.id] = item


def _item_removed(state: ControllerState, event: events.ItemRemoved) -> None:
    found: Any = {"agent": state.agents, "subagent": state.subagents, "bundle": state.bundles}[event.kind]
    found.pop(event.id, None)


def _agent_coupled(state: ControllerState, event: events.AgentCoupled) -> None:
    entry = state.agents[event.agent]
    entry.is_coupled, entry.incarnation = True, event.incarnation


def _agent_lost(state: ControllerState, event: events.AgentLost) -> None:
    state.agents[event.agent].is_coupled = False


def _ownership_changed(state: ControllerState, event: events.OwnershipChanged) -> None:
    state.ownerships[event.ownership.cluster] = event.ownership
    if event.seeded:
        state.unconfirmed.pop(event.ownership.cluster, None)


def _deleted(state: ControllerState, event: events.OrdersDeleted) -> None:
    for order_id in event.orders:
        drop(state, order_id)


_APPLY: dict[type[Event], Any] = {
    events.EpochBegan: _began,
    events.PairForced: _forced,
    events.ItemChanged: _item_changed,
    events.ItemRemoved: _item_removed,
    events.AgentCoupled: _agent_coupled,
    events.AgentLost: _agent_lost,
    events.OrdersDeleted: _deleted,
    events.OwnershipChanged: _ownership_changed,
}

_CONFIRMING = frozenset(
    {
        events.AttemptReleased,
        events.OrderCommandDropped,
        events.OrderDetached,
        events.OrderFinished,
        events.OrderFailed,
        events.OrderCancelled,
        events.OrderBroken,
    }
)

# Most events are of these: they change an order, and nothing else here.
_PLAIN = frozenset(
    {
        events.OrderStarted,
        events.OrderMoved,
        events.OrderAttached,
        events.AttemptAssigned,
        events.AttemptStarted,
        events.AttemptEnded,
        events.OrderForked,
        events.OrderJoined,
    }
)
assert _PLAIN.isdisjoint(_CONFIRMING)
