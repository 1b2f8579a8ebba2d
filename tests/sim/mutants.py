"""Planted mistakes: each removes one rule of the kernel, and some seed must notice. `MUTANTS` says what each breaks."""

from collections.abc import Callable
from typing import Any

import msgspec

from actors.subagent import Subagent
from engine.journal.memory import MemoryStore
from engine.model import event as events
from engine.model.command import StartAttempt
from engine.rules.agent import AgentMachine
from engine.rules.agent import links_of as agent_links
from engine.rules.agent_state import AgentState
from engine.rules.controller import ControllerMachine
from engine.rules.controller import links_of as controller_links
from engine.runtime import node_loop
from engine.runtime.link import Link
from engine.runtime.node_loop import NodeLoop
from engine.runtime.outbox import Outbox
from engine.runtime.reception import Reception
from engine.simulation.faults import Faults
from engine.simulation.processes import SimGuard
from tests.sim.runs import DRAWN, Plan, Report, run_seed

Patch = Callable[[Any, str, Any], None]

# Some mistakes are rare in drawn runs: these have a plan, which makes the moment they need a frequent one.
RESETS = Faults(seconds=12, every_ms_max=600, kinds={"pause": 1, "reset": 2})
JOBS_ONLY: dict[str, Any] = {"leaves": ("job",), "nests": (), "bundles": (), "with_limits": False}
BUSY = Plan(RESETS, acts={"add": 1}, agents={"a": 1}, parallel_max=8, options=JOBS_ONLY)  # many starts and reports
PLANS = {
    # The controller dies when an agent has just attached an order, and comes back when the order is done there.
    "owed_before_catching_up": Plan(
        Faults(
            seconds=8, every_ms_max=600, kinds={"ambush": 1}, ambushes=(events.OrderAttached,), victims=("controller",)
        ),
        agents={"a": 1},
        parallel_max=8,
        options=JOBS_ONLY | {"steps_max": 2},
    ),
    # What was sent into a pause arrives long after the session that came behind it, for the weather is bad.
    "old_sessions_live_on": Plan(
        Faults(seconds=12, every_ms_max=300, kinds={"pause": 1, "weather": 4}),
        acts={"add": 1},
        agents={"a": 1},
        parallel_max=8,
        options=JOBS_ONLY | {"steps_max": 1},
    ),
    "starts_are_repeated": BUSY,
    "guard_starts_again": BUSY,
    "acks_overtake_starts": Plan(
        Faults(seconds=12, every_ms_max=300, kinds={"pause": 3, "reset": 2}),
        acts={"add": 1},
        agents={"a": 1},
        parallel_max=8,
        options=JOBS_ONLY | {"steps_max": 1},
    ),
    "reports_are_sent_once": BUSY,
    # The subagent dies between the end of an attempt and the Ack of it; the next attempt is its own, too.
    "reports_of_other_attempts_count": Plan(
        Faults(
            seconds=8, every_ms_max=600, kinds={"ambush": 1}, ambushes=(events.AttemptEnded,), victims=("subagent",)
        ),
        acts={"add": 1, "resume": 9},
        agents={"a": 1},
        parallel_max=8,
        options=JOBS_ONLY,
    ),
    # One line only, which nothing else wakes; the controller is slow to take note of what was given back.
    "cancelled_orders_stay_in_line": Plan(
        Faults(seconds=20, every_ms_max=400, kinds={"slow disk": 1}),
        acts={"add": 6, "cancel": 9},
        agents={"a": 1},
        parallel_max=1,
        options=JOBS_ONLY | {"steps_max": 6},
    ),
}


def owed_before_catching_up(patch: Patch) -> None:
    """The coupling law: what is owed is sent as soon as the session is open."""

    def look(self: Any) -> None:
        if not self._caught_up:
            self._caught_up = True
            session, owed = self.session, self._owed()
            if owed is not None:
                self.couple(session, owed)

    patch(Link, "_look_whether_caught_up", look)


def old_sessions_live_on(patch: Patch) -> None:
    """Commands of an older session are decided although a newer one is open, and nobody waits for them."""
    register = Reception._register

    def registered(self: Any, hello: Any, line: Any) -> Any:
        older = self._sessions.get(self._key(hello.role, hello.node))
        session = register(self, hello, line)
        if older is not None:
            older.live = True
        return session

    async def tip(self: Any) -> Any:
        return self._source.tip

    patch(Reception, "_register", registered)
    patch(Reception, "_tip", tip)


def starts_are_repeated(patch: Patch) -> None:
    """A subagent begins an attempt as often as it is asked."""
    deliver = Subagent._deliver

    def delivered(self: Any, session: Any, number: int, raw: Any, reply: Any) -> None:
        command = self._decode(raw)
        if isinstance(command, StartAttempt):
            self._started.pop(command.start.key, None)
            self._known_before.pop(command.start.key, None)
        deliver(self, session, number, raw, reply)

    patch(Subagent, "_deliver", delivered)


def guard_starts_again(patch: Patch) -> None:
    """Neither subagent nor guard remembers what was begun."""
    starts_are_repeated(patch)
    start = SimGuard._start

    def started(self: Any, spec: Any, request: Any) -> None:
        self.machine.records.pop(spec.key, None)
        start(self, spec, request)

    patch(SimGuard, "_start", started)


def acks_overtake_starts(patch: Patch) -> None:
    """An Ack goes before commands that were given earlier, and the subagent does not remember what was acknowledged."""
    acknowledge = Link.acknowledge

    def acknowledged(self: Any, cursor: Any) -> None:
        acknowledge(self, cursor)
        for _ in range(len(self._acks)):
            self._acks.append((0, self._acks.popleft()[1]))

    def opened(self: Any, session: Any) -> None:
        self._known_before = {}

    patch(Link, "acknowledge", acknowledged)
    patch(Subagent, "_opened", opened)


def effects_before_durable(patch: Patch) -> None:
    """Batches are shown first and appended afterwards."""

    async def keep(self: Any) -> None:
        while True:
            while not self._to_keep:
                self._keep_news.clear()
                await self._keep_news.wait()
            batches = list(self._to_keep)
            self._to_keep.clear()
            self._to_show.extend(batches)
            self._show_news.set()
            entries = [entry for batch in batches for entry in batch.entries]
            if entries:
                await self.store.append(entries)

    patch(NodeLoop, "_keep", keep)


def acknowledged_without_fsync(patch: Patch) -> None:
    """The store says that a write is durable before the fsync."""

    async def write(self: Any, write: Any) -> None:
        self._disk.write(self._incarnation, write)
        if self._flushing is None:
            self._flushing = self._scope.start(self._flush(), "fsync")

    patch(MemoryStore, "_write", write)


def cursor_apart_from_events(patch: Patch) -> None:
    """Where a reader stands is not in the record of the events it adopted."""
    mark = node_loop._mark

    def marked(work: Any, batch: Any) -> bytes:
        mark(work, batch)
        return b""

    patch(node_loop, "_mark", marked)


def reports_are_sent_once(patch: Patch) -> None:
    """A subagent forgets a report as soon as it is sent."""
    reader = Outbox.reader

    def opened(self: Any, cursor: Any) -> Any:
        self._sent.clear()
        return reader(self, cursor)

    patch(Outbox, "reader", opened)


def alarms_are_forgotten(patch: Patch) -> None:
    """After recovery nobody is woken."""
    patch(AgentMachine, "resume", lambda _, state: [agent_links(state)])
    patch(ControllerMachine, "resume", lambda _, state: [controller_links(state)])


def marks_are_sent_once(patch: Patch) -> None:
    """What is owed for marked orders is not sent again when the agent couples."""
    owed = ControllerMachine.owed_to_agent

    def owed_once(self: Any, state: Any, agent: Any) -> Any:
        return [command for command in owed(self, state, agent) if type(command).__name__ != "MarkOrder"]

    patch(ControllerMachine, "owed_to_agent", owed_once)


def orders_are_attached_once(patch: Patch) -> None:
    """An order that an agent was to get is not sent again when it couples."""
    owed = ControllerMachine.owed_to_agent

    def owed_once(self: Any, state: Any, agent: Any) -> Any:
        return [command for command in owed(self, state, agent) if type(command).__name__ != "AttachOrder"]

    patch(ControllerMachine, "owed_to_agent", owed_once)


def starts_are_sent_once(patch: Patch) -> None:
    """An attempt under way is not sent again when its subagent couples."""
    patch(AgentMachine, "owed_to_subagent", lambda *_: [])


def callables_survive(patch: Patch) -> None:
    """An agent takes it that callables live on when their subagent was restarted."""
    up = AgentMachine._subagent_up
    patch(AgentMachine, "_subagent_up", lambda self, state, command, now_ms: up(self, state, command, now_ms)[:1])


def reports_of_other_attempts_count(patch: Patch) -> None:
    """An agent believes every report about an order, whichever attempt it is of."""
    reported = AgentMachine._subagent_reported

    def believed(self: Any, state: Any, command: Any, now_ms: int) -> Any:
        reports = []
        for report in command.reports:
            order = state.orders.get(report.order)
            attempt = report.attempt if order is None else order.attempt
            reports.append(msgspec.structs.replace(report, attempt=attempt))
        return reported(self, state, msgspec.structs.replace(command, reports=tuple(reports)), now_ms)

    patch(AgentMachine, "_subagent_reported", believed)


def cancelled_orders_stay_in_line(patch: Patch) -> None:
    """An order that was given back stands in the way of those behind it."""
    patch(AgentState, "reattached", lambda *_: None)


MUTANTS: dict[str, Callable[[Patch], None]] = {
    one.__name__: one
    for one in (
        owed_before_catching_up,
        old_sessions_live_on,
        starts_are_repeated,
        guard_starts_again,
        acks_overtake_starts,
        effects_before_durable,
        acknowledged_without_fsync,
        cursor_apart_from_events,
        reports_are_sent_once,
        alarms_are_forgotten,
        marks_are_sent_once,
        orders_are_attached_once,
        starts_are_sent_once,
        callables_survive,
        reports_of_other_attempts_count,
        cancelled_orders_stay_in_line,
    )
}


def run_mutant_seed(name: str, seed: int) -> Report:
    """Run a seed as the plan for a mistake has it; planting it is the caller's part."""
    return run_seed(seed, PLANS.get(name, DRAWN))
