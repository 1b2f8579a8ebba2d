"""Adoption: what of an agent's records the controller takes over. Floor 3.

* What is not about an order of that agent is left out: it comes from before the order was given back.
* An order on its way to the agent accepts only its own attaching, known by the position it was sent with.
* What can not have happened breaks that one order and stops it at the agent. Nothing an agent writes ends the
  controller.
"""

from collections.abc import Iterable, Iterator

import msgspec

from engine.base.codec import DecodeError, Raw, unpack
from engine.base.ids import BRANCH_SEPARATOR, AgentId, OrderId
from engine.base.problem import problem
from engine.model import event as events
from engine.model.command import MarkOrder
from engine.model.event import Event, OrderEvent
from engine.model.language import Language
from engine.model.order import TERMINAL, TRANSITIONS, Attachment, Mark, Order, OrderState
from engine.model.position import Position
from engine.rules.controller_state import ControllerState

OddRecord = problem("OddRecord", "What agent {agent!r} says of it can not be: {fault}. It is stopped there, too.")

# What says no more than where an order stands: nothing to look at but its state.
_PLAIN: dict[type[Event], tuple[frozenset[OrderState], OrderState | None]] = {
    kind: (frozenset(TRANSITIONS[kind.__name__][0]), TRANSITIONS[kind.__name__][1])
    for kind in (events.AttemptAssigned, events.AttemptStarted, events.AttemptEnded, events.OrderMoved)
}
UNREADABLE = (DecodeError, ValueError, RecursionError)
_decode_any = msgspec.msgpack.Decoder().decode

_SOURCES = {kind: frozenset(sources) for kind, (sources, _) in TRANSITIONS.items()}
_TARGETS = {kind: target for kind, (_, target) in TRANSITIONS.items()}
_NOT_AN_AGENTS = frozenset({"OrderAttaching", "OrderStarted"})
_ENDS_OF_BRANCHES = (events.OrderFinished, events.OrderFailed, events.OrderCancelled)


class Adopted(msgspec.Struct, frozen=True, gc=False):
    """An agent's event with its bytes, which are stored unchanged."""

    event: Event
    raw: Raw


class _Seen:
    """An order as the events before have left it."""

    __slots__ = ("attached", "attempt", "children", "parent", "position", "state", "suspended_from")

    def __init__(
        self,
        state: OrderState,
        attached: bool,
        position: Position,
        attempt: int,
        parent: OrderId | None,
        children: tuple[OrderId, ...] = (),
        suspended_from: OrderState | None = None,
    ) -> None:
        self.state = state
        self.attached = attached
        self.position = position  # as it was sent to the agent
        self.attempt = attempt
        self.parent = parent
        self.children = children
        self.suspended_from = suspended_from


class Adoption:
    """One pass over an agent's records; it reads the state and changes nothing."""

    def __init__(self, state: ControllerState, agent: AgentId, now_ms: int) -> None:
        self.found: list[Adopted | Event] = []
        self._state = state
        self._agent = agent
        self._now_ms = now_ms
        self._seen: dict[OrderId, _Seen | None] = {}  # None: not this agent's, or no more

    def take(self, language: Language, records: Iterable[bytes]) -> list[Adopted | Event]:
        """Return the events to write because of some records."""
        for packed in records:
            for event, raw in self._events(language, packed):
                if not event.travels:
                    continue
                if not isinstance(event, OrderEvent):
                    self.found.append(Adopted(event, raw))
                elif (seen := self._look(event.order)) is not None:
                    self._take(event, raw, seen)
        return self.found

    def _events(self, language: Language, packed: bytes) -> Iterable[tuple[Event, Raw]]:
        try:
            return zip(language.decode_events(packed), unpack(packed), strict=True)
        except UNREADABLE:
            return self._readable(language, packed)

    def _readable(self, language: Language, packed: bytes) -> Iterator[tuple[Event, Raw]]:
        """Yield what can be read of a record, and break the orders that the rest is about."""
        try:
            raws = unpack(packed)
        except UNREADABLE:
            return
        for raw in raws:
            try:
                event = language.decode_event(raw)
            except UNREADABLE:
                kind, order_id = _label(raw)
                if self._look(order_id) is not None:
                    self._break(order_id, f"a {kind} that can not be read")
                continue
            yield event, raw

    def _look(self, order_id: OrderId) -> _Seen | None:
        if order_id in self._seen:
            return self._seen[order_id]
        order = self._state.orders.get(order_id)
        seen = None if order is None or order.agent != self._agent else _seen_of(order)
        self._seen[order_id] = seen
        return seen

    def _take(self, event: OrderEvent, raw: Raw, seen: _Seen) -> None:
        if not seen.attached:
            if isinstance(event, events.OrderAttached) and _is_promised(event.snapshot, seen):
                seen.attached = True
                self.found.append(Adopted(event, raw))
            return
        plain = _PLAIN.get(type(event))
        if plain is not None and seen.state in plain[0]:
            self.found.append(Adopted(event, raw))
            seen.state = plain[1] or seen.state
            return
        fault = self._fault(event, seen)
        if fault is not None:
            self._break(event.order, fault)
            return
        self.found.append(Adopted(event, raw))
        self._follow(event, seen)

    def _break(self, order_id: OrderId, fault: str) -> None:
        now_ms, agent = self._now_ms, self._agent
        self._seen[order_id] = None
        self.found.append(events.OrderCommanded(order_id, now_ms, agent, MarkOrder(order_id, Mark.CANCEL)))
        self.found.append(events.OrderBroken(order_id, now_ms, OddRecord(agent=agent, fault=fault)))

    def _fault(self, event: OrderEvent, seen: _Seen) -> str | None:
        kind = type(event).__name__
        sources = _SOURCES.get(kind)
        if sources is None or kind in _NOT_AN_AGENTS:
            return f"{kind} is not for an agent to write"
        if seen.state not in sources:
            return f"{kind} in state {seen.state}"
        if isinstance(event, events.OrderAttached):
            return "it was attached twice"
        if isinstance(event, events.OrderDetached) and seen.state in (OrderState.PROCESSING, OrderState.FORKED):
            return f"it was given back in state {seen.state}"
        if isinstance(event, events.OrderMarked) and event.agent != self._agent:
            return "it was marked in somebody else's name"
        if isinstance(event, _ENDS_OF_BRANCHES) and not self._has(seen.parent):
            return f"{kind}, and its end belongs to the controller"
        if isinstance(event, events.OrderForked):
            return self._fork_fault(event)
        if isinstance(event, events.OrderJoined):
            running = [one for one in seen.children if (child := self._look(one)) and child.state not in TERMINAL]
            return f"it was joined while branch {running[0]!r} runs" if running else None
        return None

    def _fork_fault(self, event: events.OrderForked) -> str | None:
        if len({branch.order for branch in event.branches}) != len(event.branches):
            return "two branches of one name"
        for branch in event.branches:
            taken = self._seen[branch.order] if branch.order in self._seen else self._state.orders.get(branch.order)
            if taken is not None or branch.order != f"{event.order}{BRANCH_SEPARATOR}{branch.branch}":
                return f"{branch.order!r} can not be a new branch of it"
        return None

    def _has(self, order_id: OrderId | None) -> bool:
        """Tell whether the agent has this order now."""
        seen = None if order_id is None else self._look(order_id)
        return seen is not None and seen.attached

    def _follow(self, event: OrderEvent, seen: _Seen) -> None:
        """Note what an event that is taken over changes."""
        target = _TARGETS[type(event).__name__]
        if isinstance(event, events.OrderDetached | events.OrderBroken):
            self._seen[event.order] = None
        elif isinstance(event, events.OrderResumed):
            before = seen.suspended_from
            target = before if before in (OrderState.FRESH, OrderState.WAITING) else OrderState.READY
        elif isinstance(event, events.OrderSuspended):
            seen.suspended_from = seen.state
        elif isinstance(event, events.OrderForked):
            seen.children = tuple(branch.order for branch in event.branches)
            for branch in event.branches:
                self._seen[branch.order] = _Seen(
                    OrderState.READY, attached=True, position=branch.position, attempt=0, parent=event.order
                )
        elif isinstance(event, events.OrderJoined):
            self._seen.update(dict.fromkeys(seen.children))
            seen.children = ()
        if target is not None:
            seen.state = target


def _seen_of(order: Order) -> _Seen:
    return _Seen(
        order.state,
        order.attachment is Attachment.ATTACHED,
        order.position,
        order.attempt,
        order.parent,
        order.children,
        order.suspended_from,
    )


def _label(raw: Raw) -> tuple[str, OrderId]:
    """Return what an event that can not be read says it is, and the order it may be about."""
    try:
        kind, order_id, *_ = _decode_any(raw)
    except (*UNREADABLE, TypeError):
        return "", OrderId("")
    return str(kind), OrderId(order_id if isinstance(order_id, str) else "")


def _is_promised(snapshot: Order, seen: _Seen) -> bool:
    return (snapshot.position, snapshot.attempt) == (seen.position, seen.attempt)
