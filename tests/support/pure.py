"""A whole cluster without a loop: machines and turns, messages passed by hand, a scripted subagent. For rule tests."""

from collections.abc import Callable
from typing import Any

from engine.base.codec import unpack
from engine.base.ids import AgentId, OrderId, SubagentId
from engine.base.problem import Problem
from engine.language import standard_language
from engine.model import command as c
from engine.model.effect import TellAgent, TellSubagent, WakeAt
from engine.model.event import Event
from engine.model.instruction import Instruction
from engine.model.item import AgentItem, SubagentItem
from engine.model.job import Start
from engine.model.order import Order
from engine.model.outcome import SUCCEEDED, Outcome
from engine.model.workflow import Parameter, Workflow
from engine.rules.agent import AgentMachine, AgentState, ControllerAcknowledged, SubagentReported, SubagentUp
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.change_item import ChangeItem
from engine.rules.commands.deploy_workflow import DeployWorkflow
from engine.rules.controller import AgentReported, AgentUp, ControllerMachine, ControllerState
from engine.runtime.turn import Turn, Turns

Script = Callable[[Start], Outcome | tuple[Outcome, dict[str, Any]] | None]


def succeed(_start: Start) -> Outcome:
    return SUCCEEDED


class PureNode:
    """Turns of one machine with the log of its events."""

    def __init__(self, machine: Any, name: str) -> None:
        self.machine = machine
        self.turns = Turns(machine, machine.blank(), 0, 1)
        self.log: list[Event] = []
        self.records: list[bytes] = []
        self.effects: list[Any] = []
        self._keep(self.turns.begin(name, 0))

    def _keep(self, turn: Turn) -> Turn:
        while True:
            if turn.entry is not None:
                self.records.append(turn.entry.events)
                self.log.extend(self.machine.decode_events(turn.entry.events))
            self.effects.extend(turn.effects)
            if not turn.leftover:
                return turn
            turn = self.turns.advance(turn.leftover, self.now_ms)

    now_ms = 0

    def command(self, command: Any, now_ms: int) -> Problem | None:
        self.now_ms = now_ms
        return self._keep(self.turns.command(command, now_ms)).problem

    def wake(self, key: str, now_ms: int) -> None:
        self.now_ms = now_ms
        self._keep(self.turns.advance([key], now_ms))


class PureCluster:
    """One controller and agents, each with one subagent that answers by a script."""

    def __init__(self, agents: tuple[str, ...] = ("local",), script: Script = succeed, parallel_max: int = 100) -> None:
        self.language = standard_language()
        self.script = script
        self.now_ms = 1_000
        self.alarms: list[tuple[int, str, PureNode]] = []
        self.controller = PureNode(ControllerMachine(self.language), "controller")
        self.agents = {name: PureNode(AgentMachine(self.language, AgentId(name)), name) for name in agents}
        self.started: list[Start] = []
        self.killed: list[str] = []
        self.seen = dict.fromkeys(agents, 1)
        for name in agents:
            assert self.command(ChangeItem(AgentItem(AgentId(name), f"memory://{name}"))) is None
            item = SubagentItem(SubagentId(f"{name}-1"), AgentId(name), f"memory://{name}-1", parallel_max)
            assert self.command(ChangeItem(item)) is None
        for name, node in self.agents.items():
            self.controller.command(AgentUp(AgentId(name), 1), self.now_ms)
            machine = self.controller.machine
            for command in machine.owed_to_agent(self.controller.turns.state, AgentId(name)):
                node.command(command, self.now_ms)
            node.command(SubagentUp(SubagentId(f"{name}-1"), 1), self.now_ms)
        self.run()

    # --- people -------------------------------------------------------------------------------------------------------

    def deploy(self, *steps: Instruction, name: str = "w", **parameters: Parameter) -> Workflow:
        workflow = self.language.versioned(Workflow(name, "", tuple(steps), parameters))
        assert self.command(DeployWorkflow(workflow)) is None
        return workflow

    def command(self, command: Any) -> Problem | None:
        raw = self.language.encode(command)
        problem = self.controller.command(self.language.decode_command(raw), self.now_ms)
        self.run()
        return problem

    def add(self, order: str = "o", workflow: str = "w", **variables: Any) -> Problem | None:
        return self.command(AddOrder(order, workflow, variables))

    def order(self, order: str = "o") -> Order:
        return self.controller_state.orders[OrderId(order)]

    @property
    def controller_state(self) -> ControllerState:
        return self.controller.turns.state

    def agent_state(self, agent: str = "local") -> AgentState:
        return self.agents[agent].turns.state

    # --- the world ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Carry messages until nobody has anything to say."""
        while self._deliver_down() or self._deliver_up():
            pass

    def pass_time(self, to_ms: int) -> None:
        """Let alarms ring in order, up to an instant."""
        while due := [alarm for alarm in self.alarms if alarm[0] <= to_ms]:
            first = min(due, key=lambda alarm: alarm[0])
            self.alarms.remove(first)
            self.now_ms = max(self.now_ms, first[0])
            first[2].wake(first[1], self.now_ms)
            self.run()
        self.now_ms = to_ms

    def end(self, start: Start, outcome: Outcome = SUCCEEDED, results: dict[str, Any] | None = None, agent: str = "local") -> None:
        """Report the end of an attempt the script left running."""
        report = c.ReportEnded(start.order, start.added, start.attempt, self.now_ms, outcome, 0, results or {})
        self.agents[agent].command(SubagentReported(SubagentId(f"{agent}-1"), (report,)), self.now_ms)
        self.run()

    def _deliver_down(self) -> bool:
        sent = False
        for node in (self.controller, *self.agents.values()):
            effects, node.effects = node.effects, []
            for effect in effects:
                sent = True
                self._perform(node, effect)
        return sent

    def _perform(self, node: PureNode, effect: Any) -> None:
        if isinstance(effect, WakeAt):
            self.alarms.append((effect.at_ms, effect.order, node))
        elif isinstance(effect, TellAgent):
            self._tell_agent(effect)
        elif isinstance(effect, TellSubagent):
            self._tell_subagent(effect)

    def _tell_agent(self, effect: TellAgent) -> None:
        agent = self.agents.get(effect.agent)
        if agent is None:
            return
        if isinstance(effect.command, c.AttachOrder):
            workflow = self.controller_state.workflows[effect.command.order.workflow]
            agent.command(c.AttachWorkflow(workflow), self.now_ms)
        problem = agent.command(
            self.language.decode_to_agent(self.language.encode(effect.command)), self.now_ms
        )
        assert problem is None, problem

    def _tell_subagent(self, effect: TellSubagent) -> None:
        command = self.language.decode_to_subagent(self.language.encode(effect.command))
        if isinstance(command, c.KillAttempt):
            self.killed.append(command.key)
            return
        self.started.append(command.start)
        answer = self.script(command.start)
        if answer is not None:
            outcome, results = answer if isinstance(answer, tuple) else (answer, {})
            agent = effect.subagent.rpartition("-")[0]
            start = command.start
            report = c.ReportEnded(start.order, start.added, start.attempt, self.now_ms, outcome, 0, results)
            self.agents[agent].command(SubagentReported(effect.subagent, (report,)), self.now_ms)

    def _deliver_up(self) -> bool:
        sent = False
        for name, node in self.agents.items():
            records = node.records[self.seen[name] :]
            if not records:
                continue
            sent = True
            self.seen[name] += len(records)
            assert all(unpack(record) is not None for record in records)
            problem = self.controller.command(AgentReported(AgentId(name), tuple(records)), self.now_ms)
            assert problem is None, problem
            node.command(ControllerAcknowledged(self.seen[name]), self.now_ms)
        return sent
