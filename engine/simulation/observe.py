"""Lookout: looks over the nodes' shoulders: timeline, ledger and `sometimes` conditions of one simulated run. Floor 10.

* It reads and never changes: durable records as they come to the disks, the truth about processes, what machines are
  asked to decide, and the state of a node in the moment of its crash.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from actors.subagent import OBEYED
from engine.base.codec import DecodeError
from engine.base.ids import AgentId, OrderId
from engine.base.wire import Hello
from engine.model import command as commands
from engine.model import event as events
from engine.model.event import Event
from engine.model.job import OnLost
from engine.model.language import Language
from engine.model.order import Attachment, Mark, OrderState
from engine.model.outcome import OutcomeKind
from engine.ports import Record
from engine.rules.agent import SubagentReported
from engine.rules.commands.add_order import AddOrder
from engine.rules.controller import AgentReported
from engine.runtime.link import LinkState
from engine.runtime.recovery import decode_marks
from engine.simulation.checkers import Breaches, Ledger
from engine.simulation.coverage import Sometimes
from engine.simulation.node import AGENT, CONTROLLER, SUBAGENT, SimNode, SimProcess, acting_in
from engine.simulation.processes import ProcessGroup
from engine.simulation.timeline import Timeline

STARTS = (commands.StartAttempt, commands.OfferAttempt)
AGENT_STREAM = "agent "  # the controller's streams are called `agent <name>`


class Lookout:
    """What is seen of one run."""

    def __init__(
        self,
        language: Language,
        now_ns: Callable[[], int],
        agent_of: Callable[[str], str | None],
        is_up: Callable[[str], bool],
        controllers: Sequence[str],
        pair_of: Mapping[str, str],
    ) -> None:
        """`agent_of`: subagent → its agent. `is_up`: whether a node runs at present. `pair_of`: node → its pair."""
        self.language = language
        self.sometimes = Sometimes()
        self.timeline = Timeline(now_ns)
        self.breaches = Breaches()
        self.ledger = Ledger(agent_of, self.breaches)
        self._on_event: list[Callable[[str, Event], None]] = []
        self._on_process: list[Callable[[ProcessGroup], None]] = []
        self.is_served: Callable[[], bool] = lambda: any(is_up(one) for one in controllers)
        self._is_up = is_up
        self._controllers = frozenset(controllers)
        self._pair_of = dict(pair_of)
        self._published: dict[str, int] = {}  # journal → the last record that anybody outside may have seen
        self._on_published: list[Callable[[str, int, Event], None]] = []
        self._told: dict[tuple[AgentId, OrderId], None] = {}  # AttachOrders that were sent once, not confirmed
        self._started: dict[str, None] = {}  # keys of attempts whose start was sent once
        self._unknown: dict[OrderId, None] = {}  # orders whose last attempt is lost and nothing followed yet
        self._agents: dict[OrderId, AgentId] = {}  # where an order was attached last
        self._seen: dict[tuple[str, int, int], None] = {}  # pair, index, epoch of its records that were told of
        self._obeyed: dict[str, int] = {}  # agent → the highest epoch of a controller in its journal

    def also(
        self,
        *,
        on_event: Callable[[str, Event], None] | None = None,
        on_process: Callable[[ProcessGroup], None] | None = None,
    ) -> None:
        """Tell somebody else too: each event once it is durable, with its node; each process that begins or ends."""
        self._on_event += [] if on_event is None else [on_event]
        self._on_process += [] if on_process is None else [on_process]

    def also_published(self, listener: Callable[[str, int, Event], None]) -> None:
        """Tell somebody of each published event: of the controllers' journal or that of an agent with directors."""
        self._on_published.append(listener)

    # --- durable and published records

    def watch_feed(self, journal: str, feed: Any, durable: Sequence[Record]) -> None:
        """Look at what a node publishes, under the name by which others know its journal; nothing if nobody asks.

        What it found durable, and nobody had published before it began, may be seen from now on too.
        """
        if not self._on_published:
            return
        self.published(journal, [one for one in durable if one.index <= feed.tip.index])
        publish = feed.publish

        def published(records: Sequence[Any]) -> None:
            self.published(journal, records)
            publish(records)

        feed.publish = published

    def published(self, journal: str, records: Sequence[Any]) -> None:
        """Take in records that somebody outside may see from now on."""
        for record in records:
            if record.index <= self._published.get(journal, 0):
                continue
            self._published[journal] = record.index
            found: list[Event] = self.language.decode_events(record.events)
            if journal in self._pair_of.values() and journal not in self._controllers:
                self.ledger.durable(journal, record.index, found)
            for event in found:
                for listener in self._on_published:
                    listener(journal, record.index, event)

    def dropped(self, node: str, index: int) -> None:
        """The records of a node above an index are gone."""
        self.timeline.note(node, f"records above {index} are dropped")
        self.ledger.dropped(node, index)

    def durable(self, node: str, records: Sequence[Record]) -> None:
        """Take in records that have become durable on a node."""
        for record in records:
            try:
                found: list[Event] = self.language.decode_events(record.events)
            except DecodeError as error:
                self.breaches.tell(f"S4: record {record.index} of {node} can not be read: {error}")
                continue
            self.ledger.durable(node, record.index, found)
            if record.marks:
                for stream, cursor in decode_marks(record.marks).items():
                    self.ledger.shown(stream.removeprefix(AGENT_STREAM), cursor.index, f"to {node}")
            if self._is_copy(node, record):
                continue
            for event in found:
                self.timeline.note(node, event)
                self._look(node, event)
                for listener in self._on_event:
                    listener(node, event)

    def _is_copy(self, node: str, record: Record) -> bool:
        """Tell whether the other node of a pair has told of this very record: all others hear of it once."""
        pair = self._pair_of.get(node)
        if pair is None:
            return False
        key = (pair, record.index, record.epoch)
        known = key in self._seen
        self._seen[key] = None
        return known

    def _look(self, node: str, event: Event) -> None:
        look = _LOOKS.get(type(event))
        if look is not None:
            look(self, node, event)

    def _attached(self, node: str, event: events.OrderAttached) -> None:
        if node in self._controllers:
            before = self._agents.get(event.order)
            self.sometimes("order: two agents", before is not None and before != event.agent)
            self._agents[event.order] = event.agent
            self._told.pop((event.agent, event.order), None)

    def _assigned(self, node: str, event: events.AttemptAssigned) -> None:
        if node not in self._controllers:
            self.sometimes("alone: attempt assigned", not self.is_served())

    def _obeys(self, node: str, event: events.ControllerObeyed) -> None:
        if node not in self._pair_of:
            self.obeys(node, event)

    def obeys(self, node: str, event: events.ControllerObeyed) -> None:
        """S6: the epochs that an agent obeys rise. Of two directors counts what they have published."""
        if event.epoch <= self._obeyed.get(node, 0):
            self.breaches.tell(f"S6: {node} obeys epoch {event.epoch} after {self._obeyed[node]}")
        self._obeyed[node] = max(event.epoch, self._obeyed.get(node, 0))

    def _detached(self, node: str, event: events.OrderDetached) -> None:
        if node not in self._controllers:
            self.sometimes("alone: order detached", not self.is_served())

    def _ended(self, node: str, event: events.AttemptEnded) -> None:
        if node not in self._controllers and event.outcome.kind is OutcomeKind.UNKNOWN:
            self.sometimes("callable: unknown", "inside a process of ours" in event.outcome.message)
            self.sometimes("process: lost with guard", "guard was killed" in event.outcome.message)
            self.sometimes("process: lost with machine", "machine was restarted" in event.outcome.message)

    def _held(self, node: str, event: events.OrderHeld) -> None:
        self.sometimes("lost: held")
        if node not in self._controllers:
            self._unknown[event.order] = None

    def _released(self, node: str, event: events.AttemptReleased) -> None:
        if node in self._controllers:
            return
        if event.order in self._unknown:
            del self._unknown[event.order]
            self.sometimes("lost: released")
        else:
            self.sometimes("lost: rerun", event.choice is OnLost.RERUN)
            self.sometimes("lost: failed", event.choice is OnLost.FAIL)

    def _killed(self, node: str, event: events.AttemptEnded) -> None:
        self.sometimes("mark: killed running", event.outcome.kind is OutcomeKind.KILLED)

    def _lost_link(self, node: str, event: events.AgentLost | events.SubagentLost) -> None:
        self.sometimes("link: peer silent", "Nothing was heard" in event.reason)

    # --- processes

    def begun(self, group: ProcessGroup) -> None:
        """A process has begun."""
        self.ledger.begun(group)
        for listener in self._on_process:
            listener(group)

    def exited(self, group: ProcessGroup) -> None:
        """A process has ended."""
        self.sometimes("alone: job ended", not self._is_up(group.machine))
        for listener in self._on_process:
            listener(group)

    # --- decisions

    def watch_controller(self, controller: Any) -> None:
        """Look over the shoulder of a controller that has just booted."""
        machine = controller.machine
        decide, owed_to_agent, effects = machine.decide, machine.owed_to_agent, machine.effects

        def decided(state: Any, command: Any, now_ms: int) -> Any:
            decision = decide(state, command, now_ms)
            if isinstance(command, AddOrder):
                self.sometimes("link: command repeated", decision == [])
            elif isinstance(command, AgentReported):
                entry = controller.agents.get(command.agent)
                catching_up = entry is not None and entry.link is not None and entry.link.state is LinkState.CATCHING_UP
                self.sometimes("link: records to catch up", catching_up)
            return decision

        def owed(state: Any, agent: AgentId) -> Any:
            found = owed_to_agent(state, agent)
            for command in found:
                if isinstance(command, commands.AttachOrder):
                    self.sometimes("link: attach again", (agent, command.order.id) in self._told)
                    self._told[agent, command.order.id] = None
            return found

        def effected(state: Any, event: Any) -> Any:
            if isinstance(event, events.OrderAttaching):
                entry = controller.agents.get(event.agent)
                if entry is not None and entry.link is not None and entry.link.state is LinkState.COUPLED:
                    self._told[event.agent, event.order] = None
            return effects(state, event)

        _put_in_place(machine, decide=decided, owed_to_agent=owed, effects=effected)

    def watch_agent(self, agent: Any) -> None:
        """Look over the shoulder of an agent that has just booted."""
        machine = agent.machine
        decide, owed_to_subagent, start_command = machine.decide, machine.owed_to_subagent, machine.start_command

        def decided(state: Any, command: Any, now_ms: int) -> Any:
            if isinstance(command, SubagentReported):
                for report in command.reports:
                    order = state.orders.get(report.order)
                    known = order is None or order.state is not OrderState.PROCESSING or order.attempt != report.attempt
                    self.sometimes("link: report repeated", known and isinstance(report, commands.ReportEnded))
            return decide(state, command, now_ms)

        def owed(state: Any, subagent: Any, now_ms: int) -> Any:
            before = dict(self._started)
            found = owed_to_subagent(state, subagent, now_ms)
            starts = [one.start.key for one in found if isinstance(one, STARTS)]
            self.sometimes("link: start again", any(key in before for key in starts))
            return found

        def started(state: Any, order: Any, now_ms: int) -> Any:
            command = start_command(state, order, now_ms)
            self._started[command.start.key] = None
            return command

        _put_in_place(machine, decide=decided, owed_to_subagent=owed, start_command=started)
        name = agent.identity.node
        # A fenced director may let somebody in whom the acting one would refuse; nothing comes of it.
        may_act = agent.loop._replication.may_act
        self._watch_obedience(name, agent.reception, lambda _: self._obeyed.get(name, 0), may_act)

    def _watch_obedience(
        self,
        node: str,
        reception: Any,
        highest_of: Callable[[Hello], int],
        may_act: Callable[[], bool] = lambda: True,
    ) -> None:
        """S6: no session, and no command, in an epoch below the highest that the node has persisted."""
        register, deliver, hellos = reception._register, reception._deliver, {}

        def registered(hello: Hello, line: Any) -> Any:
            session = register(hello, line)
            hellos[session.id] = hello
            if hello.epoch < (highest := highest_of(hello)) and may_act():
                text = f"{hello.node} in epoch {hello.epoch} after {highest} was obeyed"
                self.breaches.tell(f"S6: {node} opens a session with {text}")
            return session

        def delivered(session: Any, number: int, raw: Any, reply: Any) -> Any:
            epoch, highest = hellos[session.id].epoch, highest_of(hellos[session.id])
            if epoch != highest and may_act():
                self.breaches.tell(f"S6: {node} takes a command of epoch {epoch}; it has persisted {highest}")
            return deliver(session, number, raw, reply)

        _put_in_place(reception, _register=registered, _deliver=delivered)

    def watch_subagent(self, subagent: Any, cells: Callable[[], Mapping[str, bytes]]) -> None:
        """Look over the shoulder of a subagent that has just booted; `cells`: what is durable there."""
        decode = subagent._decode

        def highest_of(hello: Hello) -> int:
            kept = cells().get(OBEYED)
            return 0 if kept is None else int(msgspec.msgpack.decode(kept).get(hello.pair or hello.node, 0))

        self._watch_obedience(subagent.world.node, subagent._reception, highest_of)

        def decoded(raw: Any) -> Any:
            command = decode(raw)
            if isinstance(command, STARTS):
                self.sometimes("link: start repeated", command.start.key in subagent._started)
            return command

        _put_in_place(subagent, _decode=decoded)

    # --- crashes

    def look_at_crash(self, node: SimNode, process: SimProcess, controller: Any) -> None:
        """Look at a process in the moment of its crash; `controller` is the acting controller's state or None."""
        if process.actor is None:
            self.sometimes("crash: booting", not (process.booted or process.gone.is_set()))
            return
        actor = acting_in(process.actor)
        if actor is None:
            return
        if node.role == CONTROLLER:
            self.crash_of_controller(actor)
        elif node.role == AGENT:
            self.crash_of_agent(actor.agent, controller)
        elif node.role == SUBAGENT:
            self.crash_of_subagent(actor, node.machine.running())

    def crash_of_controller(self, controller: Any) -> None:
        """Look at a controller in the moment of its crash."""
        self.sessions(controller.reception)
        state = controller.loop.state
        orders = list(state.orders.values())
        self.sometimes("crash: attaching", any(one.attachment is Attachment.ATTACHING for one in orders))
        self.sometimes("crash: mark owed", any(entry.owed for entry in state.agents.values()))
        self._crash_of_owner(state)

    def crash_of_agent(self, agent: Any, controller: Any) -> None:
        """Look at an agent in the moment of its crash; `controller` is its controller's state or None."""
        self.sessions(agent.reception)
        state = agent.loop.state
        self.sometimes("crash: detached, not acknowledged", state.detached)
        self.sometimes("crash: order in line", len(state.lines))
        if controller is not None:
            self.sometimes("crash: attaching", controller.attaching(state.agent))
        self._crash_of_owner(state)

    def look_around(self, role: str, actor: Any) -> None:
        """Look at a living node."""
        if role == "controller":
            self.sessions(actor.reception)
            state = actor.loop.state
            failed = [one for one in state.orders.values() if one.state is OrderState.FAILED and one.parent is not None]
            waiting = (state.open_branches.get(one.parent) == 0 for one in failed)
            self.sometimes("join: branch failed", any(waiting))
        else:
            self.sessions(actor.agent.reception if role == "agent" else actor._reception)

    def sessions(self, reception: Any) -> None:
        """Look at what became of the sessions of a listening node."""
        self.sometimes("link: session void", reception.statistics()["void"])

    def _crash_of_owner(self, state: Any) -> None:
        owned = [order for order in state.orders.values() if state.owns(order)]
        self.sometimes("crash: fork under way", any(order.state is OrderState.FORKED for order in owned))
        waiting = [order for order in owned if order.state is OrderState.WAITING]
        self.sometimes("crash: retry waiting", any("round" in order.cause for order in waiting))
        self.sometimes("crash: sleeping", any(order.cause == "sleeping" for order in waiting))

    def crash_of_subagent(self, subagent: Any, running: Sequence[ProcessGroup]) -> None:
        """Look at a subagent in the moment of its crash."""
        self.sessions(subagent._reception)
        self.sometimes("crash: job running", running)
        self.sometimes("crash: callable running", subagent._calls._calls)
        self.sometimes("crash: reports not acknowledged", len(subagent.outbox))


def _put_in_place(owner: Any, **methods: Any) -> None:
    for name, method in methods.items():
        setattr(owner, name, method)


def _marked(lookout: Lookout, _node: str, event: Any) -> None:
    lookout.sometimes("mark: suspended", event.mark is Mark.SUSPEND)


def _both(lookout: Lookout, node: str, event: Any) -> None:
    lookout._ended(node, event)
    lookout._killed(node, event)


_LOOKS: dict[type[Event], Callable[[Lookout, str, Any], None]] = {
    events.OrderAttached: Lookout._attached,
    events.AttemptAssigned: Lookout._assigned,
    events.ControllerObeyed: Lookout._obeys,
    events.OrderDetached: Lookout._detached,
    events.AttemptEnded: _both,
    events.OrderHeld: Lookout._held,
    events.AttemptReleased: Lookout._released,
    events.AgentLost: Lookout._lost_link,
    events.SubagentLost: Lookout._lost_link,
    events.OrderMarked: _marked,
    events.OrderCancelled: lambda lookout, _node, _event: lookout.sometimes("mark: cancelled"),
}
