"""Transcripts: a small language of commands, and what a cluster of pure machines writes because of them.

A file of tests/flows is paragraphs. A command stands above `----`, what it caused below, up to an empty line. Lines
that begin with `#` are remarks. One line for each event: node, event, order, fields; what an agent wrote and the
controller took over is one line there. `UNDERSTUDY_REWRITE=1` writes what is caused, instead of comparing it.

    cluster [agent:NAME …] [subagent:NAME=AGENT/PLACES …]     the first command, if the usual one does not do
    workflow                          followed by the document; the version counts up where none is given
    add ORDER [NAME=VALUE …] [workflow:NAME] [version:V] [at:+SPAN] [priority:N]
    suspend | resume | cancel | kill | delete ORDER           release ORDER rerun|fail
    answers [JOB=OUTCOME …]           how jobs end at once from now on; the others run until `end`
    end ORDER [ATTEMPT] [OUTCOME] [NAME=VALUE …]              OUTCOME: succeeded, failed/3, killed, timed_out, unknown
    see ORDER [ATTEMPT]               its process is seen to run        again ORDER ATTEMPT: its report comes once more
    time +SPAN
    cut | heal AGENT                  the controller's link to it       controller away | back
    restart AGENT                     it loses its memory, keeps its journal, and is connected anew
    subagent down | up | restarted | disable | enable NAME    subagent NAME places N
    agent NAME places N               bundle NAME AGENT SUBAGENT=PRIORITY …
    show ORDER | show agents          where it stands and what it waits for; what agents have and are owed
"""

import json
import re
import shlex
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from engine.base.clock import parse_span, span_text
from engine.base.ids import AgentId, BundleId, OrderId, SubagentId
from engine.base.problem import Problem
from engine.documents.convert import workflow_from_text
from engine.model import command as c
from engine.model.event import Branch, Event, OrderEvent
from engine.model.item import AgentItem, BundleItem
from engine.model.job import OnLost, Start
from engine.model.obstacle import Obstacle
from engine.model.order import Order
from engine.model.outcome import SUCCEEDED, Outcome, OutcomeKind
from engine.model.position import position_text
from engine.model.workflow import Workflow
from engine.rules.adoption import Adopted
from engine.rules.agent import SubagentReported
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.change_item import ChangeItem
from engine.rules.commands.delete_order import DeleteOrder
from engine.rules.commands.deploy_workflow import DeployWorkflow
from engine.rules.commands.release_attempt import ReleaseAttempt
from engine.rules.commands.resume_order import ResumeOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.rules.controller import AgentReported
from engine.rules.queries import obstacle_text
from engine.rules.state import View
from tests.support.invariants import quiet, replayed_alike, sound
from tests.support.pure import PureCluster

SEPARATOR = "----"


class WatchedCluster(PureCluster):
    """A cluster that tells what is adopted, started and killed."""

    def __init__(self, tell: Callable[[str], None], **settings: Any) -> None:
        self.tell = tell
        self.adopting: list[Any] = []  # the controller's events of the records it takes over now
        super().__init__(watch=self._wrote, **settings)

    def _adopt(self, agent: str, upto: int) -> bool:
        records = tuple(self.agents[agent].records[self.wires[agent].seen : upto])
        if records:
            reported = AgentReported(AgentId(agent), records)
            self.adopting = self.controller.machine.decide(self.controller_state, reported, self.now_ms)
            decoded = (event for record in records for event in self.controller.machine.decode_events(record))
            told = sum(event.travels for event in decoded)
            taken = sum(isinstance(event, Adopted) for event in self.adopting)
            if told:
                self.tell(f"controller takes {taken} of {told} events from {agent}")
        return super()._adopt(agent, upto)

    def _wrote(self, node: str, events: list[Event]) -> None:
        adopting, self.adopting = deque(self.adopting) if node == "controller" else deque(), []
        for event in events:
            if adopting and isinstance(adopting.popleft(), Adopted):
                continue
            self.tell(event_line(node, event))

    def deliver_starts(self, subagent: str, count: int | None = None) -> bool:
        started, killed = len(self.started), len(self.killed)
        moved = super().deliver_starts(subagent, count)
        for start in self.started[started:]:
            environment = "".join(f" {name}={value}" for name, value in start.environment.items())
            self.tell(f"{subagent} starts {start.order} attempt {start.attempt}: {start.label}{environment}")
        for key in self.killed[killed:]:
            self.tell(f"{subagent} is told to kill {key.split('/')[0]} attempt {key.split('/')[2]}")
        return moved


class Transcript:
    """Runs the commands of one file, one after the other, on one cluster."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.answers: dict[str, Outcome] = {}
        self.versions = 0
        self.reports: dict[tuple[str, int], tuple[str, c.ReportEnded]] = {}
        self.workflows: list[Workflow] = []
        self.is_away = False
        self._cluster: WatchedCluster | None = None

    @property
    def cluster(self) -> WatchedCluster:
        """The cluster; the usual one if the file asks for no other."""
        if self._cluster is None:
            self._build({"local": 1}, {"local-1": ("local", 100)})
        assert self._cluster is not None
        return self._cluster

    def run(self, command: str) -> list[str]:
        """Run one command; return the lines it caused."""
        first, _, rest = command.partition("\n")
        words = shlex.split(first)
        self.lines.clear()
        getattr(self, f"do_{words[0]}")(*([rest] if rest else []), *words[1:])
        if self._cluster is not None:
            self._settle()
        return list(self.lines)

    def _settle(self) -> None:
        cluster = self.cluster
        if not self.is_away:
            cluster.run()
            quiet(cluster)
        else:
            self._run_without_controller()
            sound(cluster)
        for node in cluster.nodes:
            replayed_alike(node)

    def _run_without_controller(self) -> None:
        cluster = self.cluster
        while any(
            [
                *(cluster.perform(node) for node in cluster.agents.values()),
                *(cluster.deliver_starts(name) for name in cluster.subagents),
                *(cluster.deliver_reports(name) for name in cluster.subagents),
            ]
        ):
            pass

    def _command(self, command: Any) -> None:
        assert not self.is_away, "the controller is away"
        problem = self.cluster.decide(command)
        if problem is not None:
            self.lines.append(f"refused: {problem.sentence}")

    def _script(self, start: Start) -> Outcome | None:
        return self.answers.get(start.label)

    # --- the cluster

    def _build(self, agents: dict[str, int], subagents: dict[str, tuple[str, int]]) -> None:
        names = {name: agent for name, (agent, _) in subagents.items()}
        self._cluster = WatchedCluster(
            self.lines.append, agents=tuple(agents), subagents=names, script=self._script, parallel_max=1
        )
        for name, (_, places) in subagents.items():
            if places != 1:
                self.do_subagent(name, "places", str(places))
        self.cluster.run()
        self.lines.clear()

    def do_cluster(self, *words: str) -> None:
        assert self._cluster is None, "`cluster` is the first command"
        agents: dict[str, int] = {}
        subagents: dict[str, tuple[str, int]] = {}
        for word in words:
            kind, name = word.split(":")
            if kind == "agent":
                agents[name] = 1
                continue
            name, _, agent = name.partition("=")
            agent, _, places = agent.partition("/")
            subagents[name] = (agent, int(places or 100))
        self._build(agents, subagents)

    def do_workflow(self, document: str) -> None:
        workflow = workflow_from_text(document, self.cluster.language)
        if "\nversion:" not in f"\n{document}":
            self.versions += 1
            workflow = msgspec.structs.replace(workflow, version=str(self.versions))
        self.workflows.append(workflow)
        self._command(DeployWorkflow(workflow))

    def do_agent(self, name: str, what: str, places: str) -> None:
        assert what == "places"
        item = self.cluster.controller_state.agents[AgentId(name)].item
        self._command(ChangeItem(AgentItem(item.id, item.url, int(places))))

    def do_bundle(self, name: str, agent: str, *members: str) -> None:
        priorities = {SubagentId(one): int(rank) for one, _, rank in (word.partition("=") for word in members)}
        self._command(ChangeItem(BundleItem(BundleId(name), AgentId(agent), priorities)))

    def do_subagent(self, *words: str) -> None:
        cluster = self.cluster
        if len(words) == 3:
            item = cluster.controller_state.subagents[SubagentId(words[0])]
            assert words[1] == "places"
            self._command(ChangeItem(msgspec.structs.replace(item, parallel_max=int(words[2]))))
            return
        what, name = words
        if what == "down":
            cluster.cut_subagent(name)
        elif what == "up":
            cluster.couple_subagent(name)
        elif what == "restarted":
            cluster.restart_subagent(name)
            cluster.couple_subagent(name)
        else:
            item = cluster.controller_state.subagents[SubagentId(name)]
            self._command(ChangeItem(msgspec.structs.replace(item, disabled={"disable": True, "enable": False}[what])))

    # --- people

    def do_add(self, order: str, *words: str) -> None:
        settings: dict[str, Any] = {"workflow": next((one.name for one in self.workflows), "w")}
        variables: dict[str, Any] = {}
        for word in words:
            name, equals, value = word.partition("=")
            if equals:
                variables[name] = _value(value)
                continue
            name, _, value = word.partition(":")
            if name == "at":
                settings["scheduled_ms"] = self.cluster.now_ms + parse_span(value.removeprefix("+"))
            else:
                settings[name] = int(value) if name == "priority" else value
        self._command(AddOrder(order, variables=variables, **settings))

    def do_suspend(self, order: str) -> None:
        self._command(SuspendOrder(order))

    def do_resume(self, order: str) -> None:
        self._command(ResumeOrder(order))

    def do_cancel(self, order: str) -> None:
        self._command(CancelOrder(order))

    def do_kill(self, order: str) -> None:
        self._command(CancelOrder(order, kill=True))

    def do_delete(self, order: str) -> None:
        self._command(DeleteOrder(order))

    def do_release(self, order: str, choice: str) -> None:
        self._command(ReleaseAttempt(order, OnLost(choice)))

    # --- the world

    def do_answers(self, *words: str) -> None:
        self.answers = {job: _outcome(outcome) for job, _, outcome in (word.partition("=") for word in words)}

    def do_end(self, order: str, *words: str) -> None:
        attempt = int(words[0]) if words and words[0].isdigit() else None
        results = {name: _value(value) for name, equals, value in (word.partition("=") for word in words) if equals}
        said = [word for word in words if "=" not in word and not word.isdigit()]
        start = self.cluster.running(order, attempt)
        for name, sub in self.cluster.subagents.items():
            if start.key in sub.running:
                sub.end(start.key, self.cluster.now_ms, _outcome(said[0]) if said else SUCCEEDED, results)
                report = sub.outbox[-1]
                assert isinstance(report, c.ReportEnded)
                self.reports[order, start.attempt] = (name, report)
                return

    def do_see(self, order: str, attempt: str | None = None) -> None:
        start = self.cluster.running(order, None if attempt is None else int(attempt))
        for sub in self.cluster.subagents.values():
            if start.key in sub.running:
                sub.see(start.key, self.cluster.now_ms)

    def do_again(self, order: str, attempt: str) -> None:
        name, report = self.reports[order, int(attempt)]
        agent = self.cluster.agents[self.cluster.subagents[name].agent]
        agent.command(SubagentReported(SubagentId(name), (report,)), self.cluster.now_ms)

    def do_time(self, span: str) -> None:
        to_ms = self.cluster.now_ms + parse_span(span.removeprefix("+"))
        if not self.is_away:
            self.cluster.pass_time(to_ms)
            return
        alarms, self.cluster.alarms = self.cluster.alarms, []
        due = [alarm for alarm in alarms if alarm[2] is not self.cluster.controller and alarm[0] <= to_ms]
        self.cluster.alarms = [alarm for alarm in alarms if alarm not in due]
        self.cluster.now_ms = to_ms
        for _, key, node in due:
            node.wake(key, to_ms)

    def do_cut(self, agent: str) -> None:
        self.cluster.cut(agent)

    def do_heal(self, agent: str) -> None:
        self.cluster.couple(agent)

    def do_restart(self, agent: str) -> None:
        self.cluster.restart_agent(agent)
        self.cluster.couple(agent)
        for name, sub in self.cluster.subagents.items():
            if sub.agent == agent:
                self.cluster.couple_subagent(name)

    def do_controller(self, what: str) -> None:
        if what == "away":
            self.is_away = True
            for wire in self.cluster.wires.values():
                wire.coupled = False
                wire.down.clear()
            return
        assert what == "back"
        self.is_away = False
        self.cluster.restart_controller()
        for agent in self.cluster.agents:
            self.cluster.couple(agent)

    # --- looking

    def do_show(self, order: str) -> None:
        if order == "agents":
            self.lines.extend(self._agent_lines())
            return
        state = self.cluster.controller_state
        for one in state.orders.values():
            if one.id == order or one.id.startswith(f"{order}|"):
                self.lines.append(_order_line(one, obstacle_text(View(state, self.cluster.now_ms), one)))
        if OrderId(order) not in state.orders:
            self.lines.append(f"there is no {order}")

    def _agent_lines(self) -> Iterator[str]:
        for name, entry in self.cluster.controller_state.agents.items():
            state = self.cluster.agent_state(name)
            owed = ", ".join(entry.owed) or "nothing"
            orders, lines = " ".join(state.orders) or "none", " ".join(state.lines) or "none"
            yield f"{name}: orders {orders}; owed {owed}; in line {lines}"


def play(text: str) -> tuple[str, Transcript]:
    """Run a file's commands; return the file as it should be, and what ran it."""
    transcript = Transcript()
    written: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        above, separator, _ = f"{paragraph}\n".partition(f"\n{SEPARATOR}\n")
        remarks = [line for line in above.splitlines() if line.startswith("#")]
        command = [line for line in above.splitlines() if not line.startswith("#")]
        assert bool(command) == bool(separator), f"a command stands above {SEPARATOR}: {paragraph}"
        caused = [SEPARATOR, *transcript.run("\n".join(command))] if command else []
        written.append("\n".join([*remarks, *command, *caused]))
    return "\n\n".join(written) + "\n", transcript


# --- text forms


def event_line(node: str, event: Event) -> str:
    """Write one event on one line."""
    order = event.order if isinstance(event, OrderEvent) else ""
    fields = " ".join(_fields(event))
    return " ".join(part for part in (node, type(event).__name__, order, fields) if part)


def _fields(event: Event) -> Iterator[str]:
    for field in msgspec.structs.fields(event):
        value = getattr(event, field.name)
        if field.name in ("order", "at_ms") or value == field.default or value in (None, ""):
            continue
        if value == {} or (field.default_factory is not msgspec.NODEFAULT and not value):
            continue
        if field.name.endswith("_ms"):
            yield f"{field.name.removesuffix('_ms')}=+{span_text(max(value - getattr(event, 'at_ms', 0), 0))}"
        else:
            yield f"{field.name}={_text(field.name, value)}"


def _text(name: str, value: Any) -> str:
    if name == "position":
        return position_text(value)
    if isinstance(value, Outcome | Obstacle):
        return f"'{value}'"
    if isinstance(value, Problem):
        return f"'{value.sentence}'"
    if isinstance(value, Workflow):
        return value.id
    if isinstance(value, Order):
        return f"{value.state}@{position_text(value.position)}{f' {value.mark}' if value.mark else ''}"
    if isinstance(value, c.NodeCommand):
        return f"{type(value).__name__}({getattr(value, 'mark', '') or getattr(value, 'choice', '') or 'none'})"
    if name == "branches":
        return ",".join(_branch(one) for one in value)
    if isinstance(value, dict):
        return json.dumps(value, separators=(",", ":"))
    if isinstance(value, str):
        return f"'{value}'" if " " in value else value
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, msgspec.Struct):
        rest = " ".join(f"{one.name}={getattr(value, one.name)}" for one in msgspec.structs.fields(value)[1:])
        return f"{type(value).__name__}({value.id} {rest})"  # type: ignore[attr-defined]
    return str(value)


def _branch(branch: Branch) -> str:
    return branch.branch + (json.dumps(branch.variables, separators=(",", ":")) if branch.variables else "")


def _order_line(order: Order, obstacle: str) -> str:
    parts = [f"{order.id} is {order.state} at {position_text(order.position)}"]
    if order.agent:
        parts.append(f"{order.attachment} at {order.agent}")
    if order.mark:
        parts.append(f"asked to {order.mark}")
    if order.attempt:
        parts.append(f"attempt {order.attempt}")
    if order.outcome is not None:
        parts.append(f"'{order.outcome}'")
    if order.variables:
        parts.append(json.dumps(order.variables, separators=(",", ":")))
    return ", ".join(parts) + (f": {obstacle}" if obstacle else "")


def _outcome(word: str) -> Outcome:
    kind, _, code = word.partition("/")
    found = OutcomeKind(kind)
    if found is OutcomeKind.UNKNOWN:
        return Outcome(found, None, "its guard was killed")
    return Outcome(found, int(code) if code else None, "it said so" if found is OutcomeKind.FAILED else "")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
