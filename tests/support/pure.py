"""A whole cluster without a loop: machines and turns, messages carried by hand, scripted subagents. For rule tests.

* Links obey the coupling law: catch up, then the owed commands, then the new ones; a cut loses what is under way.
* An acknowledgement does not overtake a command: else an attempt could be forgotten before its repeated start arrives.
* Every node can be restarted from its records, every subagent can lose its callables.
* It watches what must hold always: no attempt begins twice, and no two of one order run at once.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from engine.base.ids import AgentId, OrderId, SubagentId, attempt_key
from engine.base.problem import Problem
from engine.language import standard_language
from engine.model import command as c
from engine.model.effect import TellAgent, TellSubagent, WakeAt
from engine.model.event import Event
from engine.model.instruction import Instruction
from engine.model.item import AgentItem, AnyItem, SubagentItem
from engine.model.job import Start
from engine.model.language import Language
from engine.model.order import Order
from engine.model.outcome import SUCCEEDED, Outcome, OutcomeKind
from engine.model.workflow import Parameter, Workflow
from engine.rules.agent import (
    AgentMachine,
    ControllerAcknowledged,
    SubagentDown,
    SubagentReported,
    SubagentUp,
)
from engine.rules.agent_state import AgentState
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.change_item import ChangeItem
from engine.rules.commands.deploy_workflow import DeployWorkflow
from engine.rules.controller import AgentDown, AgentRefused, AgentReported, AgentUp, ControllerMachine
from engine.rules.controller_state import ControllerState
from tests.support.pure_nodes import PureNode, PureSubagent, Script

_decode_reports = msgspec.msgpack.Decoder(tuple[c.AnyReport, ...]).decode
KILLED = Outcome(OutcomeKind.KILLED, -15)


def succeed(_start: Start) -> Outcome:
    return SUCCEEDED


class AgentWire:
    """The link from the controller to one agent. What is under way: encoded commands, and acknowledged indexes."""

    def __init__(self) -> None:
        self.coupled = False
        self.down: deque[bytes | int] = deque()
        self.sent: set[str] = set()  # workflows sent in the present session
        self.seen = 0  # records the controller has adopted


class PureCluster:
    """One controller and agents, each with subagents that answer by a script (None: the attempt goes on)."""

    def __init__(
        self,
        agents: Sequence[str] = ("local",),
        script: Script = succeed,
        parallel_max: int = 100,
        subagents: Mapping[str, str] | None = None,
        language: Language | None = None,
        machines: Callable[[Any], Any] = lambda machine: machine,
        watch: Callable[[str, list[Event]], None] | None = None,
    ) -> None:
        """Build it, connected. `subagents`: name → agent; without them each agent has one, `{agent}-1`."""
        self.language = language or standard_language()
        self.now_ms = 1_000
        self.obedient = False  # a killed attempt ends at once
        self.alarms: list[tuple[int, str, PureNode]] = []
        self.started: list[Start] = []
        self._begun: dict[str, None] = {}  # keys of all attempts that ever began
        self.killed: list[str] = []
        self.refused: list[Problem] = []  # by agents
        self.controller = PureNode(machines(ControllerMachine(self.language)), "controller", watch)
        self.agents = {
            name: PureNode(machines(AgentMachine(self.language, AgentId(name))), name, watch) for name in agents
        }
        self.wires = {name: AgentWire() for name in agents}
        given = {f"{name}-1": name for name in agents} if subagents is None else subagents
        self.subagents = {name: PureSubagent(name, agent, script) for name, agent in given.items()}
        for name in agents:
            self.item(AgentItem(AgentId(name), f"memory://{name}"))
        for sub in self.subagents.values():
            self.item(SubagentItem(SubagentId(sub.name), AgentId(sub.agent), f"memory://{sub.name}", parallel_max))
        for name in agents:
            self.couple(name)
        self.run()
        for name in self.subagents:
            self.couple_subagent(name)
        self.run()

    # --- people -------------------------------------------------------------------------------------------------------

    def deploy(self, *steps: Instruction, name: str = "w", **parameters: Parameter) -> Workflow:
        workflow = self.language.versioned(Workflow(name, "", tuple(steps), parameters))
        assert self.command(DeployWorkflow(workflow)) is None
        return workflow

    def item(self, item: AnyItem) -> None:
        assert self.command(ChangeItem(item)) is None

    def command(self, command: Any) -> Problem | None:
        problem = self.decide(command)
        self.run()
        return problem

    def decide(self, command: Any) -> Problem | None:
        """Let the controller decide a command, and carry no message."""
        raw = self.language.encode(command)
        return self.controller.command(self.language.decode_command(raw), self.now_ms)

    def add(self, order: str = "o", workflow: str = "w", **variables: Any) -> Problem | None:
        return self.command(AddOrder(order, workflow, variables))

    def order(self, order: str = "o") -> Order:
        return self.controller_state.orders[OrderId(order)]

    @property
    def controller_state(self) -> ControllerState:
        state: ControllerState = self.controller.turns.state
        return state

    def agent_state(self, agent: str = "local") -> AgentState:
        state: AgentState = self.agents[agent].turns.state
        return state

    @property
    def nodes(self) -> tuple[PureNode, ...]:
        return (self.controller, *self.agents.values())

    # --- the world ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Carry messages until nobody has anything to say."""
        while True:
            for node in self.nodes:
                node.settle()
            moved = [self.perform(node) for node in self.nodes]
            moved += [self.deliver_down(name) for name in self.agents]
            moved += [self.deliver_up(name) for name in self.agents]
            moved += [self.deliver_starts(name) for name in self.subagents]
            moved += [self.deliver_reports(name) for name in self.subagents]
            if not any(moved):
                return

    def pass_time(self, to_ms: int) -> None:
        """Let alarms ring in order, up to an instant."""
        while due := [alarm for alarm in self.alarms if alarm[0] <= to_ms]:
            first = min(due, key=lambda alarm: alarm[0])
            self.alarms.remove(first)
            self.now_ms = max(self.now_ms, first[0])
            first[2].wake(first[1], self.now_ms)
            self.run()
        self.now_ms = max(self.now_ms, to_ms)

    def end(self, start: Start, outcome: Outcome = SUCCEEDED, results: dict[str, Any] | None = None) -> None:
        """Let an attempt end that the script left running, and report it."""
        for sub in self.subagents.values():
            if start.key in sub.running:
                sub.end(start.key, self.now_ms, outcome, results)
                self.run()
                return
        raise AssertionError(f"attempt {start.key} does not run")

    def running(self, order: str, attempt: int | None = None) -> Start:
        """Return the attempt of an order that runs."""
        found = [
            start
            for sub in self.subagents.values()
            for start in sub.running.values()
            if start.order == order and attempt in (None, start.attempt)
        ]
        assert len(found) == 1, f"{len(found)} attempts of {order} run"
        return found[0]

    def perform(self, node: PureNode) -> bool:
        """Perform a node's effects; what goes to somebody who is not coupled is dropped: it is owed."""
        effects, node.effects[:] = list(node.effects), []
        for effect in effects:
            if isinstance(effect, WakeAt):
                self.alarms.append((effect.at_ms, effect.order, node))
            elif isinstance(effect, TellAgent):
                wire = self.wires.get(effect.agent)
                if wire is not None and wire.coupled:
                    self._send(wire, effect.command)
            elif isinstance(effect, TellSubagent):
                sub = self.subagents.get(effect.subagent)
                if sub is not None and sub.coupled:
                    sub.down.append(self.language.encode(effect.command))
        return bool(effects)

    # --- controller and agents ----------------------------------------------------------------------------------------

    def couple(self, agent: str) -> None:
        """Open a session: catch up, then what is owed."""
        wire, node = self.wires[agent], self.agents[agent]
        self.cut(agent)
        node.settle()
        self._adopt(agent, len(node.records))
        self.controller.command(AgentUp(AgentId(agent), node.turns.epoch), self.now_ms)
        self.perform(self.controller)
        wire.coupled = True
        for command in self.controller.machine.owed_to_agent(self.controller.turns.state, AgentId(agent)):
            self._send(wire, command)

    def cut(self, agent: str) -> None:
        """Lose the link and what is under way on it."""
        wire = self.wires[agent]
        wire.down.clear()
        wire.sent.clear()
        if wire.coupled:
            wire.coupled = False
            self.controller.command(AgentDown(AgentId(agent), "the link was cut"), self.now_ms)

    def restart_controller(self) -> None:
        """Lose the controller's memory; its links are coupled anew by `couple`."""
        for wire in self.wires.values():
            wire.coupled = False
            wire.down.clear()
            wire.sent.clear()
        self.alarms = [alarm for alarm in self.alarms if alarm[2] is not self.controller]
        self.controller.restart(self.now_ms)

    def restart_agent(self, agent: str) -> None:
        """Lose an agent's memory; its links are coupled anew by `couple` and `couple_subagent`."""
        self.cut(agent)
        for sub in self.subagents.values():
            if sub.agent == agent:
                sub.cut()
        node = self.agents[agent]
        self.alarms = [alarm for alarm in self.alarms if alarm[2] is not node]
        node.restart(self.now_ms)

    def deliver_down(self, agent: str, count: int | None = None) -> bool:
        """Deliver the oldest commands under way to an agent."""
        wire, node = self.wires[agent], self.agents[agent]
        moved = bool(wire.down)
        for _ in range(len(wire.down) if count is None else min(count, len(wire.down))):
            message = wire.down.popleft()
            if isinstance(message, int):
                if node.turns.state.detached:
                    node.command(ControllerAcknowledged(message), self.now_ms)
                continue
            command = self.language.decode_to_agent(message)
            problem = node.command(command, self.now_ms)
            if problem is not None:
                self.refused.append(problem)
                self.controller.command(AgentRefused(AgentId(agent), command, problem), self.now_ms)
        return moved

    def deliver_up(self, agent: str, count: int | None = None) -> bool:
        """Deliver the next records of an agent to the controller."""
        wire = self.wires[agent]
        if not wire.coupled:
            return False
        upto = len(self.agents[agent].records)
        return self._adopt(agent, upto if count is None else min(upto, wire.seen + count))

    def _adopt(self, agent: str, upto: int) -> bool:
        wire = self.wires[agent]
        records = self.agents[agent].records[wire.seen : upto]
        if not records:
            return False
        problem = self.controller.command(AgentReported(AgentId(agent), tuple(records)), self.now_ms)
        assert problem is None, problem
        wire.seen = upto
        if wire.coupled:
            wire.down.append(upto)
        return True

    def _send(self, wire: AgentWire, command: c.ToAgent) -> None:
        if isinstance(command, c.AttachOrder) and command.order.workflow not in wire.sent:
            wire.sent.add(command.order.workflow)
            workflow = self.controller_state.workflows[command.order.workflow]
            wire.down.append(self.language.encode(c.AttachWorkflow(workflow)))
        wire.down.append(self.language.encode(command))

    # --- agents and subagents -----------------------------------------------------------------------------------------

    def couple_subagent(self, subagent: str) -> None:
        """Open a session with a subagent: its reports, then what is owed."""
        sub = self.subagents[subagent]
        node = self.agents[sub.agent]
        self.cut_subagent(subagent)
        self._report(sub)
        node.command(SubagentUp(SubagentId(subagent), sub.incarnation), self.now_ms)
        self.perform(node)
        sub.coupled = True
        for command in node.machine.owed_to_subagent(node.turns.state, SubagentId(subagent), self.now_ms):
            sub.down.append(self.language.encode(command))

    def cut_subagent(self, subagent: str) -> None:
        """Lose the link to a subagent and what is under way on it."""
        sub = self.subagents[subagent]
        was_coupled = sub.coupled
        sub.cut()
        if was_coupled:
            self.agents[sub.agent].command(SubagentDown(SubagentId(subagent), "the link was cut"), self.now_ms)

    def restart_subagent(self, subagent: str) -> None:
        """Let a subagent end and begin anew; it is coupled anew by `couple_subagent`."""
        self.cut_subagent(subagent)
        self.subagents[subagent].restart()

    def deliver_starts(self, subagent: str, count: int | None = None) -> bool:
        """Deliver the oldest commands under way to a subagent."""
        sub = self.subagents[subagent]
        moved = bool(sub.down)
        for _ in range(len(sub.down) if count is None else min(count, len(sub.down))):
            message = sub.down.popleft()
            if isinstance(message, int):
                sub.acknowledged(message)
                continue
            command = self.language.decode_to_subagent(message)
            if isinstance(command, c.KillAttempt):
                self.killed.append(command.key)
                if self.obedient and command.key in sub.running:
                    sub.end(command.key, self.now_ms, KILLED)
                continue
            start = command.start
            assert start.key == attempt_key(start.order, start.added, start.attempt)
            others = [one for each in self.subagents.values() for one in each.running.values() if one.key != start.key]
            if sub.begin(start, self.now_ms):
                assert start.key not in self._begun, f"{start.key} began twice"
                self._begun[start.key] = None
                assert all(one.order != start.order for one in others), f"two attempts of {start.order} run at once"
                self.started.append(start)
        return moved

    def deliver_reports(self, subagent: str, *, acknowledge: bool = True) -> bool:
        """Deliver what a subagent has to report; without the acknowledgement it will report it again."""
        sub = self.subagents[subagent]
        return sub.coupled and self._report(sub, acknowledge=acknowledge)

    def _report(self, sub: PureSubagent, *, acknowledge: bool = True) -> bool:
        if len(sub.outbox) == sub.sent:
            return False
        reports = _decode_reports(self.language.encode(sub.outbox[sub.sent :]))
        sub.sent = len(sub.outbox)
        self.agents[sub.agent].command(SubagentReported(SubagentId(sub.name), reports), self.now_ms)
        if acknowledge:
            sub.down.append(sub.sent - sub.promised)
            sub.promised = sub.sent
        return True
