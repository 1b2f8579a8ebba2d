"""The agent's machine: it runs orders alone, chooses subagents, and gives orders back. Floor 3.

* What a subagent reports counts only for the very attempt that is under way (order, `added`, attempt).
* An attempt is never taken as ended without its report, a proof (a new incarnation has lost its callables), or a
  person's word.
* A detached order is kept until the controller has journaled the detaching.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from engine.base.ids import AgentId, OrderId, SubagentId, attempt_key
from engine.base.limits import VARIABLES_BYTES_MAX
from engine.base.problem import Problem, problem
from engine.model import command as commands
from engine.model import event as events
from engine.model.effect import AnyEffect, LinksChanged, TellSubagent
from engine.model.event import Event, OrderEvent
from engine.model.item import AgentItem, AnyItem, BundleItem, SubagentItem
from engine.model.language import Language
from engine.model.order import Mark, Order, OrderState
from engine.model.outcome import Outcome, cut, failed, unknown
from engine.model.position import following
from engine.rules.agent_state import AgentSnapshot, AgentState, agent_state_of
from engine.rules.branches import size_of
from engine.rules.director import SubagentState, may_end_with
from engine.rules.forced import TakenOverByForce, apply_forced, decide_forced
from engine.rules.instructions.job import limit_key
from engine.rules.leases import LeaseTimes, terms_of
from engine.rules.marks import mark_events
from engine.rules.node_machine import NodeMachine, apply_shared, touched_orders, unsettled_orders, wake_effects
from engine.rules.order import descendants, drop
from engine.rules.state import RESERVED_NAMES, View

UnknownWorkflowHere = problem(
    "UnknownWorkflowHere", "Agent {agent} was given order {order} of workflow {workflow}, which it was never sent."
)
StaleEpoch = problem(
    "StaleEpoch",
    "Epoch {epoch} is over: a controller of epoch {known} was obeyed here. Give this controller the journal of that"
    " one; or, of a pair, seed its register above {known}.",
)
NotHeld = problem("NotHeld", "Order {order} is not held for attempt {attempt}; look at it again before you release it.")
NotUnreachable = problem(
    "NotUnreachable",
    "Attempt {attempt} of order {order} runs on subagent {subagent}, which is connected and will tell how it ends;"
    " cancel the order with kill to end it. Only of one that can not be reached a person's word counts.",
)

FENCE_EPOCH_BITS = 32


class SubagentReported(msgspec.Struct, frozen=True):
    """Reports of one subagent's attempts, in its order."""

    subagent: SubagentId
    reports: tuple[commands.AnyReport, ...]


class SubagentUp(msgspec.Struct, frozen=True):
    """A subagent's link is coupled: all its earlier reports were adopted."""

    subagent: SubagentId
    incarnation: int


class SubagentDown(msgspec.Struct, frozen=True):
    """A subagent's link is lost."""

    subagent: SubagentId
    reason: str


class LeaseExpired(msgspec.Struct, frozen=True):
    """A leased attempt has surely ended: so long it was granted no lease."""

    order: OrderId
    added: int
    attempt: int


class ControllerAcknowledged(msgspec.Struct, frozen=True):
    """The controller has journaled our records up to this index."""

    index: int


class ControllerSeen(msgspec.Struct, frozen=True):
    """A controller opened a session in this epoch."""

    controller: str
    epoch: int


class AgentMachine(NodeMachine[AgentState]):
    """Rules of an agent and its director: one decision, one journal."""

    lease_times = LeaseTimes()

    def __init__(self, language: Language, agent: AgentId) -> None:
        super().__init__(language)
        self.agent = agent
        self._decode_snapshot = language.decoder(AgentSnapshot).decode
        self._decisions: dict[type, Any] = {
            commands.AttachWorkflow: self._attach_workflow,
            commands.AttachItems: self._attach_items,
            commands.AttachOrder: self._attach_order,
            commands.MarkOrder: self._mark_order,
            commands.ReleaseHeld: self._release_held,
            SubagentReported: self._subagent_reported,
            SubagentUp: self._subagent_up,
            SubagentDown: self._subagent_down,
            LeaseExpired: self._lease_expired,
            ControllerAcknowledged: self._acknowledged,
            ControllerSeen: self._seen,
            TakenOverByForce: decide_forced,
        }

    def blank(self) -> AgentState:
        return AgentState(self.agent)

    def begin(self, state: AgentState, epoch: int, node: str, now_ms: int) -> list[Event]:
        return [events.EpochBegan(now_ms, epoch, node)]

    def decide(self, state: AgentState, command: Any, now_ms: int) -> list[Event] | Problem:
        """Return the events of one command."""
        decision: list[Event] | Problem = self._decisions[type(command)](state, command, now_ms)
        return decision

    # --- from the controller ------------------------------------------------------------------------------------------

    def _attach_workflow(self, state: AgentState, command: commands.AttachWorkflow, now_ms: int) -> list[Event]:
        known = command.workflow.id in state.workflows
        return [] if known else [events.WorkflowDeployed(now_ms, command.workflow)]

    def _attach_items(self, state: AgentState, command: commands.AttachItems, now_ms: int) -> list[Event]:
        known = items_of(state)
        given = {(type(item), item.id): item for item in command.items}
        changed: list[Event] = [
            events.ItemChanged(now_ms, item) for key, item in given.items() if known.get(key) != item
        ]
        removed: list[Event] = [
            events.ItemRemoved(now_ms, "subagent" if kind is SubagentItem else "bundle", name)
            for kind, name in known
            if (kind, name) not in given and kind is not AgentItem
        ]
        return changed + removed

    def _attach_order(self, state: AgentState, command: commands.AttachOrder, now_ms: int) -> list[Event] | Problem:
        order = command.order
        known = state.orders.get(order.id)
        if known is not None and state.owns(known):
            return []
        if order.workflow not in state.workflows:
            return UnknownWorkflowHere(agent=self.agent, order=order.id, workflow=order.workflow)
        return [events.OrderAttached(order.id, now_ms, self.agent, order)]

    def _mark_order(self, state: AgentState, command: commands.MarkOrder, now_ms: int) -> list[Event]:
        order = state.orders.get(command.order)
        if order is None or order.id in state.detached:
            return []
        return mark_events(descendants(state, order), command.mark, now_ms, self.agent)

    def _release_held(self, state: AgentState, command: commands.ReleaseHeld, now_ms: int) -> list[Event] | Problem:
        order = state.orders.get(command.order)
        if order is None or order.attempt != command.attempt:
            return NotHeld(order=command.order, attempt=command.attempt)
        released = events.AttemptReleased(order.id, now_ms, command.attempt, command.choice)
        if order.is_held:
            return [released]
        if order.state is not OrderState.PROCESSING or order.subagent is None or not state.owns(order):
            return NotHeld(order=command.order, attempt=command.attempt)
        subagent = state.subagents.get(order.subagent)
        if subagent is not None and subagent.is_coupled:
            return NotUnreachable(order=order.id, attempt=order.attempt, subagent=order.subagent)
        message = f"subagent {order.subagent} can not be reached, and a person has seen that nothing of it runs there"
        return [events.AttemptEnded(order.id, now_ms, order.attempt, unknown(message)), released]

    def _acknowledged(self, state: AgentState, command: ControllerAcknowledged, now_ms: int) -> list[Event]:
        gone: list[OrderId] = []
        for order_id, index in state.detached.items():
            if index > command.index:
                break
            gone.append(order_id)
        return [events.OrdersForgotten(now_ms, tuple(gone))] if gone else []

    def _seen(self, state: AgentState, command: ControllerSeen, now_ms: int) -> list[Event] | Problem:
        refused = stale_epoch(state.controller_epoch, command.epoch)
        if refused is not None:
            return refused
        if command.epoch == state.controller_epoch:
            return []
        return [events.ControllerObeyed(now_ms, command.controller, command.epoch)]

    # --- from subagents -----------------------------------------------------------------------------------------------

    def _subagent_up(self, state: AgentState, command: SubagentUp, now_ms: int) -> list[Event]:
        if command.subagent not in state.subagents:
            return []
        found: list[Event] = [events.SubagentCoupled(now_ms, self.agent, command.subagent, command.incarnation)]
        for order_id in state.slots.by_subagent.get(command.subagent, ()):
            order = state.orders[order_id]
            if order.incarnation != command.incarnation and not state.step_of(order).run.outlives:
                message = "it ran inside a process of ours, which has ended since"
                found.append(events.AttemptEnded(order_id, now_ms, order.attempt, unknown(message)))
        return found

    def _subagent_down(self, state: AgentState, command: SubagentDown, now_ms: int) -> list[Event]:
        known = state.subagents.get(command.subagent)
        if known is None or not known.is_coupled:
            return []
        return [events.SubagentLost(now_ms, self.agent, command.subagent, command.reason)]

    def _subagent_reported(self, state: AgentState, command: SubagentReported, now_ms: int) -> list[Event]:
        found: list[Event] = []
        ended: dict[OrderId, None] = {}
        for report in command.reports:
            order = state.orders.get(report.order)
            if order is None or order.subagent != command.subagent or report.order in ended:
                continue
            if (order.added, order.attempt) != (report.added, report.attempt):
                continue
            if isinstance(report, commands.ReportStarted):
                found.append(events.AttemptStarted(order.id, report.at_ms, report.attempt, report.pid))
                continue
            ended[report.order] = None
            found.extend(ended_events(order, report, now_ms))
        return found

    def _lease_expired(self, state: AgentState, command: LeaseExpired, now_ms: int) -> list[Event]:
        order = state.under_way(command.order, command.added, command.attempt)
        if order is None or not state.step_of(order).is_leased:
            return []
        message = f"its lease ran out: subagent {order.subagent} was not heard for {self.lease_times.director_ms} ms"
        return [events.AttemptEnded(order.id, now_ms, order.attempt, unknown(message))]

    # --- state --------------------------------------------------------------------------------------------------------

    def apply(self, state: AgentState, event: Event, index: int) -> None:
        """Change the state by one event of the record with this index."""
        state.lines.left = None
        if apply_shared(state, event, index):
            if isinstance(event, events.AttemptAssigned):
                state.turns[bundle_of(state, event)] = event.subagent
            elif isinstance(event, _LEAVING):
                order = state.orders[event.order]
                if not state.has_parent_of(order):
                    state.detached[event.order] = index
            return
        _APPLY[type(event)](state, event)

    def touched(self, state: AgentState, event: Event) -> Iterable[str]:
        """Return the orders that may go on: the heads of the lines first, then the event's own order or its parent."""
        if isinstance(event, OrderEvent):
            found = touched_orders(state, event)
            return (*heads_of_lines(state, event), *found) if len(state.lines) else found
        if isinstance(event, events.SubagentCoupled | events.ItemChanged):
            return state.lines.heads()
        if isinstance(event, events.EpochBegan):
            return unsettled_orders(state)
        return ()

    def effects(self, state: AgentState, event: Event) -> list[AnyEffect]:
        """Return what the world must be told once the event is durable."""
        if type(event) in _WITHOUT_EFFECT:
            return []
        if isinstance(event, events.AttemptAssigned):
            order = state.orders[event.order]
            return [TellSubagent(event.subagent, self.start_command(state, order, event.at_ms))]
        if isinstance(event, events.OrderWaiting | events.OrderAttached | events.OrderResumed):
            return wake_effects(state.orders.get(event.order))
        if isinstance(event, events.OrderMarked):
            return kill_effects(state, event)
        if isinstance(event, events.ItemChanged | events.ItemRemoved):
            return [links_of(state)]
        return []

    def resume(self, state: AgentState) -> list[AnyEffect]:
        """Return what is owed after recovery: the links and the alarms; subagents get theirs when they couple."""
        found: list[AnyEffect] = [links_of(state)]
        for order in state.orders.values():
            if state.owns(order):
                found.extend(wake_effects(order))
        return found

    def owed_to_subagent(self, state: AgentState, subagent: SubagentId, now_ms: int) -> list[commands.ToSubagent]:
        """Return the commands a subagent must get when it couples: every attempt under way, and the kills."""
        owed: list[commands.ToSubagent] = []
        for order_id in state.slots.by_subagent.get(subagent, ()):
            order = state.orders[order_id]
            owed.append(self.start_command(state, order, now_ms))
            if order.mark is Mark.KILL:
                owed.append(commands.KillAttempt(key_of(order)))
        return owed

    def start_command(
        self, state: AgentState, order: Order, now_ms: int
    ) -> commands.StartAttempt | commands.OfferAttempt:
        """Return the command that starts an order's present attempt, or offers it if it needs a lease."""
        step, fence = state.step_of(order), (state.epoch << FENCE_EPOCH_BITS) + order.attempt
        start = step.start(View(state, now_ms), order, key_of(order), fence)
        return (
            commands.OfferAttempt(start, terms_of(self.lease_times)) if step.is_leased else commands.StartAttempt(start)
        )

    def leased(self, state: AgentState) -> list[tuple[str, SubagentId]]:
        """Return the attempts under way that run only while they hold a lease: key and subagent."""
        found: list[tuple[str, SubagentId]] = []
        for subagent, orders in state.slots.by_subagent.items():
            under_way = (state.orders[one] for one in orders)
            found.extend((key_of(order), subagent) for order in under_way if state.step_of(order).is_leased)
        return found

    def encode_state(self, state: AgentState) -> bytes:
        return self.language.encode(state.snapshot())

    def decode_state(self, raw: bytes) -> AgentState:
        return agent_state_of(self._decode_snapshot(raw))


def heads_of_lines(state: AgentState, event: OrderEvent) -> list[OrderId]:
    """Return who stands first in a line and may go on: a place is free now, or somebody has left the line."""
    lines = state.lines
    if isinstance(event, events.AttemptEnded):
        order = state.orders[event.order]
        job = limit_key(order, state.step_of(order))
        return [head for head in lines.heads() if may_end_with(state.orders[head].obstacle, job)]
    if isinstance(event, events.OrderBroken):
        return lines.heads()
    head = None if lines.left is None else lines.head(lines.left)
    return [] if head is None else [head]


def links_of(state: AgentState) -> LinksChanged:
    """Return the effect that tells which subagents there are."""
    return LinksChanged({one.item.id: (one.item.url,) for one in state.subagents.values()})


def key_of(order: Order) -> str:
    """Return the key of an order's present attempt."""
    return attempt_key(order.id, order.added, order.attempt)


def items_of(state: AgentState) -> dict[tuple[type, str], AnyItem]:
    """Return the items an agent knows, itself among them, by kind and id."""
    known: dict[tuple[type, str], AnyItem] = {}
    if state.item is not None:
        known[AgentItem, state.item.id] = state.item
    for subagent in state.subagents.values():
        known[SubagentItem, subagent.item.id] = subagent.item
    for bundle in state.bundles.values():
        known[BundleItem, bundle.id] = bundle
    return known


def ended_events(order: Order, report: commands.ReportEnded, now_ms: int) -> list[Event]:
    """Return the events of an attempt's end; after a success the order moves on in the same record."""
    outcome, results = report.outcome, report.results
    if reserved := [name for name in RESERVED_NAMES if name in results]:
        sentence = f"the name {reserved[0]!r} of a result is the engine's own; choose another"
        outcome, results = without_results(outcome, sentence), {}
    size_bytes = size_of({**order.variables, **results}) if results else 0
    if size_bytes > VARIABLES_BYTES_MAX:
        sentence = f"with its results the order's variables take {size_bytes} bytes; {VARIABLES_BYTES_MAX} is the most"
        outcome, results = without_results(outcome, sentence), {}
    ended = events.AttemptEnded(
        order.id,
        report.at_ms,
        report.attempt,
        outcome,
        report.started_ms,
        results,
        report.out_bytes,
        report.err_bytes,
    )
    if not outcome.is_success:
        return [ended]
    return [ended, events.OrderMoved(order.id, now_ms, following(order.position))]


def without_results(outcome: Outcome, sentence: str) -> Outcome:
    """Return the outcome of an attempt whose results can not be kept: no success, and what else it was stays."""
    if outcome.is_success:
        return failed(sentence, outcome.return_code)
    return Outcome(outcome.kind, outcome.return_code, cut(f"{outcome.message}; {sentence}"))


def kill_effects(state: AgentState, event: events.OrderMarked) -> list[AnyEffect]:
    """Return the kill of a running attempt when its order was marked so."""
    order = state.orders.get(event.order)
    if order is None or event.mark is not Mark.KILL or order.subagent is None:
        return []
    return [TellSubagent(order.subagent, commands.KillAttempt(key_of(order)))]


def bundle_of(state: AgentState, event: events.AttemptAssigned) -> Any:
    """Return the bundle from which an attempt's subagent was chosen ("" for all)."""
    return state.step_of(state.orders[event.order]).bundle or ""


def _began(state: AgentState, event: events.EpochBegan) -> None:
    state.epoch, state.node = event.epoch, event.node
    for subagent in state.subagents.values():
        subagent.is_coupled = False


def _obeyed(state: AgentState, event: events.ControllerObeyed) -> None:
    state.controller_epoch = event.epoch


def stale_epoch(known: int, epoch: int) -> Problem | None:
    """Return the refusal of a controller whose epoch is over (R15), None when it is obeyed.

    `known`: the highest epoch in which a controller was let in.
    """
    return StaleEpoch(epoch=epoch, known=known) if epoch < known else None


def _item_changed(state: AgentState, event: events.ItemChanged) -> None:
    item = event.item
    if isinstance(item, AgentItem):
        state.item = item
    elif isinstance(item, SubagentItem):
        known = state.subagents.get(item.id)
        if known is None:
            state.subagents[item.id] = SubagentState(item)
        else:
            known.item = item
    else:
        state.bundles[item.id] = item


def _item_removed(state: AgentState, event: events.ItemRemoved) -> None:
    if event.kind == "subagent":
        state.subagents.pop(SubagentId(event.id), None)
    else:
        state.bundles.pop(event.id, None)  # type: ignore[call-overload]


def _coupled(state: AgentState, event: events.SubagentCoupled) -> None:
    subagent = state.subagents[event.subagent]
    subagent.is_coupled, subagent.incarnation = True, event.incarnation


def _lost(state: AgentState, event: events.SubagentLost) -> None:
    state.subagents[event.subagent].is_coupled = False


def _forgotten(state: AgentState, event: events.OrdersForgotten) -> None:
    for order_id in event.orders:
        drop(state, order_id)


_APPLY: dict[type[Event], Any] = {
    events.EpochBegan: _began,
    events.PairForced: apply_forced,
    events.ControllerObeyed: _obeyed,
    events.ItemChanged: _item_changed,
    events.ItemRemoved: _item_removed,
    events.SubagentCoupled: _coupled,
    events.SubagentLost: _lost,
    events.OrdersForgotten: _forgotten,
}

# Asked for every event; those that come with each order are answered first.
_WITHOUT_EFFECT = frozenset(
    {
        events.AttemptStarted,
        events.AttemptEnded,
        events.OrderMoved,
        events.OrderForked,
        events.OrderJoined,
        events.OrderFinished,
        events.OrderDetached,
        events.OrdersForgotten,
    }
)
_LEAVING = (events.OrderDetached, events.OrderBroken)
