"""Any workflow, any messages lost or late, any restart: nothing runs twice, nobody is forgotten, everything ends.

Tests: engine/rules/agent.py, engine/rules/controller.py, engine/rules/controller_state.py
Tests: engine/rules/order.py, engine/rules/state.py
"""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.base.ids import AgentId, BundleId, SubagentId
from engine.model.item import BundleItem
from engine.model.job import OnLost
from engine.model.order import LIVE, OrderState
from engine.model.outcome import SUCCEEDED, Outcome, OutcomeKind, failed, unknown
from engine.model.workflow import Workflow
from engine.rules.agent import ControllerAcknowledged
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.add_orders import AddOrders
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.delete_order import DeleteOrder
from engine.rules.commands.deploy_workflow import DeployWorkflow
from engine.rules.commands.release_attempt import ReleaseAttempt
from engine.rules.commands.resume_order import ResumeOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.runtime import turn
from tests.support.invariants import Checked, at_rest, quiet, replayed_alike, sound
from tests.support.pure import PureCluster
from tests.support.pure_nodes import PureNode
from tests.support.workflows import Options, random_workflow, workflows

ROUNDS_MAX = 400  # until everything has ended, after the healing
ORDERS_MAX = 12
LIFE_STEPS = 150
SUBAGENTS = {"s1": "local", "s2": "local", "b1": "berlin"}
WORKFLOWS = workflows(Options(agents=("local", "berlin"), wait_ms_max=20_000))
BUNDLED = workflows(Options(agents=("local",), bundles=("fixed", "turns"), wait_ms_max=20_000))

MOVES = (
    *(("node", name) for name in ("controller", "local", "berlin")),
    *((kind, agent) for agent in ("local", "berlin") for kind in ("down", "up")),
    *((kind, sub) for sub in SUBAGENTS for kind in ("start", "report")),
)

agents = st.sampled_from(("local", "berlin"))
subagents = st.sampled_from(tuple(SUBAGENTS))
counts = st.sampled_from((1, 1, 2, None))
outcomes = st.sampled_from(
    (
        SUCCEEDED,
        SUCCEEDED,
        failed("no", 1),
        unknown("lost"),
        Outcome(OutcomeKind.TIMED_OUT),
        Outcome(OutcomeKind.KILLED, -9),
    )
)


class Life(RuleBasedStateMachine):
    """A cluster in which everything happens that may happen, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = PureCluster(
            agents=("local", "berlin"), script=lambda _: None, parallel_max=2, subagents=SUBAGENTS, machines=Checked
        )
        for name, first, second in (("fixed", 2, 1), ("turns", 1, 1)):
            members = {SubagentId("s1"): first, SubagentId("s2"): second}
            self.cluster.item(BundleItem(BundleId(name), AgentId("local"), members))
        self.orders = 0
        for node in self.cluster.nodes:
            node.lazy = True

    @initialize(workflow=WORKFLOWS | BUNDLED, at_work=st.booleans())
    def begin(self, workflow: Workflow, *, at_work: bool) -> None:
        self.deploy(workflow)
        self.add(0, 0)
        self.add(1, 0)
        if at_work:
            self.deliver_everything()

    # --- people

    @rule(workflow=WORKFLOWS | BUNDLED)
    def deploy(self, workflow: Workflow) -> None:
        assert self.cluster.decide(DeployWorkflow(workflow)) is None

    @precondition(lambda self: self.orders < ORDERS_MAX)
    @rule(priority=st.integers(-1, 1), later_ms=st.sampled_from((0, 0, 5_000)))
    def add(self, priority: int, later_ms: int) -> None:
        self.orders += 1
        scheduled_ms = self.cluster.now_ms + later_ms if later_ms else 0
        order = AddOrder(f"o{self.orders}", "random", scheduled_ms=scheduled_ms, priority=priority)
        assert self.cluster.decide(order) is None
        assert self.cluster.decide(AddOrders((order,))) is None, "sending twice is harmless"

    @rule(
        choice=st.integers(0),
        make=st.sampled_from((SuspendOrder, ResumeOrder, CancelOrder, DeleteOrder)),
        root=st.booleans(),
    )
    def operate(self, choice: int, make: Any, *, root: bool) -> None:
        known = [one.id for one in self.cluster.controller_state.orders.values() if one.parent is None or not root]
        if known:
            self.cluster.decide(make(known[choice % len(known)]))

    @rule(choice=st.integers(0))
    def kill(self, choice: int) -> None:
        known = list(self.cluster.controller_state.orders)
        if known:
            self.cluster.decide(CancelOrder(known[choice % len(known)], kill=True))

    @rule(choice=st.sampled_from((OnLost.RERUN, OnLost.FAIL)))
    def release(self, choice: OnLost) -> None:
        for order in list(self.cluster.controller_state.orders.values()):
            if order.is_held:
                self.cluster.decide(ReleaseAttempt(order.id, choice))

    # --- messages

    @rule(moves=st.lists(st.tuples(st.sampled_from(MOVES), counts, st.booleans()), min_size=2, max_size=12))
    def carry(self, moves: list[tuple[tuple[str, str], int | None, bool]]) -> None:
        """Let nodes work and messages arrive, some of those under way, in some order."""
        cluster = self.cluster
        for (kind, name), count, acknowledge in moves:
            if kind == "node":
                node = cluster.agents.get(name, cluster.controller)
                node.settle()
                cluster.perform(node)
            elif kind == "down":
                cluster.deliver_down(name, count)
            elif kind == "up":
                cluster.deliver_up(name, count)
            elif kind == "start":
                cluster.deliver_starts(name, count)
            else:
                cluster.deliver_reports(name, acknowledge=acknowledge)

    @rule()
    def deliver_everything(self) -> None:
        self.cluster.run()
        quiet(self.cluster)

    # --- the world

    @rule(ends=st.lists(st.tuples(st.integers(0), outcomes, st.none() | st.integers(0, 5)), min_size=1, max_size=4))
    def end(self, ends: list[tuple[int, Outcome, int | None]]) -> None:
        for choice, outcome, value in ends:
            running = [(sub, key) for sub in self.cluster.subagents.values() for key in sub.running]
            if running:
                sub, key = running[choice % len(running)]
                sub.end(key, self.cluster.now_ms, outcome, {} if value is None else {"n": value})

    @rule(choice=st.integers(0))
    def see(self, choice: int) -> None:
        running = [(sub, key) for sub in self.cluster.subagents.values() for key in sub.running]
        if running:
            sub, key = running[choice % len(running)]
            sub.see(key, self.cluster.now_ms)

    @rule(span_ms=st.sampled_from((1, 1_000, 30_000)))
    def pass_time(self, span_ms: int) -> None:
        cluster = self.cluster
        cluster.now_ms += span_ms
        due = [alarm for alarm in cluster.alarms if alarm[0] <= cluster.now_ms]
        cluster.alarms = [alarm for alarm in cluster.alarms if alarm[0] > cluster.now_ms]
        for _, key, node in sorted(due, key=lambda alarm: alarm[0]):
            node.wake(key, cluster.now_ms)

    @rule(agent=agents, again=st.booleans())
    def cut(self, agent: str, *, again: bool) -> None:
        self.cluster.cut(agent)
        if again:
            self.cluster.couple(agent)

    @rule(sub=subagents, again=st.booleans())
    def cut_subagent(self, sub: str, *, again: bool) -> None:
        self.cluster.cut_subagent(sub)
        if again:
            self.cluster.couple_subagent(sub)

    @rule()
    def heal(self) -> None:
        for agent, wire in self.cluster.wires.items():
            if not wire.coupled:
                self.cluster.couple(agent)
        for name, sub in self.cluster.subagents.items():
            if not sub.coupled:
                self.cluster.couple_subagent(name)

    @rule(sub=subagents)
    def restart_subagent(self, sub: str) -> None:
        self.cluster.restart_subagent(sub)

    @rule(agent=agents)
    def restart_agent(self, agent: str) -> None:
        self.cluster.restart_agent(agent)

    @rule()
    def restart_controller(self) -> None:
        self.cluster.restart_controller()

    @rule()
    def snapshot(self) -> None:
        """Go on from a snapshot instead of the live state."""
        for node in self.cluster.nodes:
            machine = node.machine
            node.turns.state = machine.decode_state(machine.encode_state(node.turns.state))

    # --- what holds

    @invariant()
    def is_sound(self) -> None:
        sound(self.cluster)

    def teardown(self) -> None:
        """Heal everything: now every order must come to its end, with a person's help where its rules ask for one."""
        cluster = self.cluster
        cluster.obedient = True
        for node in cluster.nodes:
            node.lazy = False
            replayed_alike(node)
        for agent in cluster.agents:
            cluster.couple(agent)
        for sub in cluster.subagents:
            cluster.couple_subagent(sub)
        cluster.run()
        quiet(cluster)
        for _ in range(ROUNDS_MAX):
            if not self._help():
                break
        else:
            raise AssertionError([one for one in cluster.controller_state.orders.values() if one.state in LIVE])
        for node in cluster.agents.values():
            node.command(ControllerAcknowledged(len(node.records)), cluster.now_ms)
            assert node.turns.state.orders == {}
        at_rest(cluster)

    def _help(self) -> bool:
        """Do what the world and a person would do next; tell whether anything is still alive."""
        cluster = self.cluster
        alive = [one for one in cluster.controller_state.orders.values() if one.state in LIVE]
        if not alive:
            return False
        for sub in cluster.subagents.values():
            for key in list(sub.running):
                sub.end(key, cluster.now_ms, SUCCEEDED)
        cluster.run()
        for order in list(cluster.controller_state.orders.values()):
            if order.is_held:
                cluster.command(ReleaseAttempt(order.id, OnLost.RERUN))
            elif order.state is OrderState.SUSPENDED and cluster.command(ResumeOrder(order.id)) is None:
                continue
            elif order.state is OrderState.SUSPENDED or (order.state is OrderState.FAILED and order.parent is not None):
                cluster.command(CancelOrder(order.id.partition("|")[0]))
        cluster.pass_time(cluster.now_ms + 5_000)
        quiet(cluster)
        return True


@pytest.mark.parametrize("steps_max", [3, 1_000])
def test_any_life_is_sound_and_ends(monkeypatch: pytest.MonkeyPatch, steps_max: int) -> None:
    monkeypatch.setattr(turn, "STEPS_PER_TURN_MAX", steps_max)
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )


WEIGHTS = {
    "carry": 40,
    "end": 15,
    "pass_time": 8,
    "deliver_everything": 5,
    "heal": 6,
    "add": 8,
    "deploy": 3,
    "operate": 6,
    "kill": 2,
    "release": 5,
    "see": 3,
    "cut": 4,
    "cut_subagent": 4,
    "snapshot": 2,
    "restart_subagent": 2,
    "restart_agent": 2,
    "restart_controller": 2,
}
SETTINGS = (
    Options(agents=("local", "berlin"), wait_ms_max=20_000),
    Options(agents=("local",), bundles=("fixed", "turns"), wait_ms_max=20_000),
    Options(agents=("local", "berlin"), wait_ms_max=20_000, steps_max=25, leaves=("job", "job", "job", "fail")),
)


def step(life: Life, draw: random.Random) -> None:
    """Let one thing happen, drawn from a seed: longer and busier lives than shrinkable choices give."""
    name = draw.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))[0]
    some: dict[str, Any] = {}
    match name:
        case "carry":
            moves = [(draw.choice(MOVES), draw.choice((1, 1, 2, None)), draw.random() < 0.8) for _ in range(12)]
            some = {"moves": moves}
        case "end":
            ways = (*[SUCCEEDED] * 4, failed("no", 1), unknown("lost"), Outcome(OutcomeKind.KILLED, -9))
            some = {"ends": [(draw.randrange(99), draw.choice(ways), draw.choice((None, 0, 5))) for _ in range(4)]}
        case "pass_time":
            some = {"span_ms": draw.choice((1, 1_000, 30_000))}
        case "add" if life.orders < ORDERS_MAX:
            some = {"priority": draw.randint(-1, 1), "later_ms": draw.choice((0, 0, 5_000))}
        case "deploy":
            some = {"workflow": random_workflow(draw, draw.choice(SETTINGS))}
        case "operate":
            make = draw.choice((SuspendOrder, ResumeOrder, ResumeOrder, CancelOrder, DeleteOrder))
            some = {"choice": draw.randrange(99), "make": make, "root": draw.random() < 0.5}
        case "kill" | "see":
            some = {"choice": draw.randrange(99)}
        case "release":
            some = {"choice": draw.choice((OnLost.RERUN, OnLost.FAIL))}
        case "cut":
            some = {"agent": draw.choice(("local", "berlin")), "again": draw.random() < 0.5}
        case "cut_subagent":
            some = {"sub": draw.choice(tuple(SUBAGENTS)), "again": draw.random() < 0.5}
        case "restart_subagent":
            some = {"sub": draw.choice(tuple(SUBAGENTS))}
        case "restart_agent":
            some = {"agent": draw.choice(("local", "berlin"))}
        case "add":
            return
    getattr(life, name)(**some)


def lead(seed: int, watch: Callable[[Life], None] | None = None) -> Life:
    """Lead one long life; return it, ended."""
    draw = random.Random(seed)
    life = Life()
    if watch is not None:
        watch(life)
    life.begin(random_workflow(draw, draw.choice(SETTINGS)), at_work=True)
    for _ in range(LIFE_STEPS):
        step(life, draw)
        sound(life.cluster)
    life.teardown()
    return life


@pytest.mark.parametrize("seed", range(12))
def test_a_long_life_is_sound_and_ends(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(turn, "STEPS_PER_TURN_MAX", 1_000 if seed % 2 else 4)
    lead(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1_000, 1_200))
def test_many_long_lives(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(turn, "STEPS_PER_TURN_MAX", 1_000 if seed % 2 else 4)
    lead(seed)


@pytest.mark.parametrize("seed", range(12, 16))
def test_the_replay_of_any_prefix_gives_the_state_of_that_moment(seed: int) -> None:
    moments: dict[str, dict[int, bytes]] = {}

    def watch(life: Life) -> None:
        for node in life.cluster.nodes:
            kept = moments[node.name] = {}

            def wrote(_name: str, _events: Any, node: PureNode = node, kept: dict[int, bytes] = kept) -> None:
                kept[len(node.records)] = node.machine.encode_state(node.turns.state)

            node.watch = wrote

    for node in lead(seed, watch).cluster.nodes:
        state = node.machine.blank()
        for index, record in enumerate(node.records, 1):
            for event in node.machine.decode_events(record):
                node.machine.apply(state, event, index)
            if index in moments[node.name]:
                assert node.machine.encode_state(state) == moments[node.name][index], f"{node.name} at {index}"
    assert sum(map(len, moments.values())) > 50
