"""Who gets a place and who stands in line.

Tests: engine/rules/director.py, engine/rules/agent_state.py
"""

import pytest

from engine.base.ids import AgentId, BundleId, SubagentId
from engine.model.expression import Template
from engine.model.item import AgentItem, BundleItem, SubagentItem
from engine.model.job import Start
from engine.model.order import OrderState
from engine.model.outcome import SUCCEEDED, Outcome
from engine.model.workflow import Parameter, ParameterType
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.rules.director import Lines
from tests.rules.steps import job
from tests.support.pure import PureCluster


def never(_start: Start) -> None:
    return None


def only(*labels: str) -> object:
    """Let all jobs end at once but these."""

    def script(start: Start) -> Outcome | None:
        return None if start.label in labels else SUCCEEDED

    return script


def bundle(cluster: PureCluster, name: str, **priorities: int) -> None:
    members = {SubagentId(one.replace("_", "-")): rank for one, rank in priorities.items()}
    cluster.item(BundleItem(BundleId(name), AgentId("local"), members))


def starts(cluster: PureCluster) -> list[str]:
    return [start.order for start in cluster.started]


@pytest.fixture
def pair() -> PureCluster:
    """An agent with two subagents of one place each."""
    return PureCluster(script=never, parallel_max=1, subagents={"s1": "local", "s2": "local"})


def test_a_bundle_that_grows_wakes_as_many_as_it_can_take() -> None:
    cluster = PureCluster(script=never, parallel_max=2, subagents={"s1": "local", "s2": "local"})
    bundle(cluster, "b", s1=0)
    cluster.deploy(job(bundle="b"))
    for number in range(5):
        cluster.add(f"o{number}")
    assert starts(cluster) == ["o0", "o1"]
    bundle(cluster, "b", s1=0, s2=0)
    assert starts(cluster) == ["o0", "o1", "o2", "o3"]


def test_a_head_that_goes_to_another_obstacle_does_not_keep_the_place_from_the_next(pair: PureCluster) -> None:
    """The head of the bundle's line meets the job's limit; the place it could not use belongs to the next in line."""
    cluster = pair
    bundle(cluster, "one", s1=0)
    bundle(cluster, "two", s2=0)
    cluster.deploy(job("limited", limit=1, bundle="one"), name="first")
    cluster.deploy(job("limited", limit=1, bundle="two"), name="second")
    cluster.deploy(job("free", bundle="one"), name="third")
    cluster.deploy(job("mixed", limit=1, bundle="one"), name="mixed")
    cluster.add("busy", "third")  # takes s1
    cluster.add("m1", "mixed")  # waits for s1
    cluster.add("f1", "third")  # waits for s1
    assert starts(cluster) == ["busy"]
    cluster.end(cluster.running("busy"))
    assert starts(cluster) == ["busy", "m1"]
    cluster.add("m2", "mixed")  # the limit of its job
    cluster.end(cluster.running("m1"))
    assert starts(cluster) == ["busy", "m1", "f1"], "first come, first served over both lines"
    cluster.end(cluster.running("f1"))
    assert starts(cluster) == ["busy", "m1", "f1", "m2"]


def test_a_place_goes_to_who_waits_before_it_goes_to_the_order_that_left_it() -> None:
    cluster = PureCluster(script=never, parallel_max=1)
    cluster.deploy(job("a"), job("b"))
    cluster.add("o1")
    cluster.add("o2")
    cluster.end(cluster.running("o1"))
    assert starts(cluster) == ["o1", "o2"]
    cluster.end(cluster.running("o2"))
    assert starts(cluster) == ["o1", "o2", "o1"]


def test_places_freed_together_go_to_those_who_wait() -> None:
    cluster = PureCluster(script=never, parallel_max=3)
    cluster.deploy(job("a"), job("b"))
    for number in range(6):
        cluster.add(f"o{number}")
    sub = cluster.subagents["local-1"]
    for number in range(3):
        sub.end(cluster.running(f"o{number}").key, cluster.now_ms, SUCCEEDED)
    cluster.run()
    assert starts(cluster) == ["o0", "o1", "o2", "o3", "o4", "o5"]


def test_priority_first_then_first_come() -> None:
    cluster = PureCluster(script=never, parallel_max=1)
    cluster.deploy(job())
    for name, priority in (("busy", 0), ("low", 0), ("high1", 5), ("high2", 5), ("higher", 7), ("below", -1)):
        assert cluster.command(AddOrder(name, "w", priority=priority)) is None
    while cluster.subagents["local-1"].running:
        cluster.end(next(iter(cluster.subagents["local-1"].running.values())))
    assert starts(cluster) == ["busy", "higher", "high1", "high2", "low", "below"]


def test_priority_counts_across_lines() -> None:
    cluster = PureCluster(script=never, parallel_max=1)
    cluster.deploy(job("a"), name="plain")
    cluster.deploy(job("b", limit=3), name="limited")
    cluster.add("busy", "plain")
    cluster.add("low", "plain")
    assert cluster.command(AddOrder("high", "limited", priority=1)) is None
    cluster.end(cluster.running("busy"))
    assert starts(cluster) == ["busy", "high"]


def test_a_head_that_is_cancelled_or_suspended_lets_the_next_one_go() -> None:
    for command in (CancelOrder("o1"), SuspendOrder("o1")):
        cluster = PureCluster(script=never, parallel_max=1)
        cluster.deploy(job())
        for number in range(3):
            cluster.add(f"o{number}")
        assert cluster.command(command) is None
        assert starts(cluster) == ["o0"]
        cluster.end(cluster.running("o0"))
        assert starts(cluster) == ["o0", "o2"]


def test_a_head_whose_step_fails_lets_the_next_one_go() -> None:
    cluster = PureCluster(script=never, parallel_max=1)
    cluster.deploy(job(environment={"X": Template("${1 / number}")}), number=Parameter(ParameterType.INTEGER))
    cluster.add("o0", number=1)
    cluster.add("o1", number=0)
    cluster.add("o2", number=1)
    cluster.end(cluster.running("o0"))
    assert cluster.order("o1").state is OrderState.FAILED
    assert starts(cluster) == ["o0", "o2"]


def test_the_limits_of_agent_and_job_and_what_raises_them() -> None:
    cluster = PureCluster(script=never)
    cluster.deploy(job("a", limit=2), name="limited")
    cluster.deploy(job("b"), name="plain")
    for number in range(4):
        cluster.add(f"l{number}", "limited")
    assert starts(cluster) == ["l0", "l1"]
    assert "which is its limit" in str(cluster.order("l2").obstacle)
    cluster.item(AgentItem(AgentId("local"), "memory://local", parallel_max=3))
    cluster.add("p0", "plain")
    cluster.add("p1", "plain")
    cluster.add("p2", "plain")
    assert starts(cluster) == ["l0", "l1", "p0"]
    cluster.item(AgentItem(AgentId("local"), "memory://local", parallel_max=4))
    assert starts(cluster) == ["l0", "l1", "p0", "p1"]
    cluster.end(cluster.running("p0"))
    assert starts(cluster) == ["l0", "l1", "p0", "p1", "p2"]
    cluster.end(cluster.running("l0"))
    assert starts(cluster) == ["l0", "l1", "p0", "p1", "p2", "l2"]


def test_the_number_of_events_for_one_end_does_not_grow_with_the_line() -> None:
    """Two limits that block in turn must not send a whole line from one obstacle to the other and back."""
    counts = []
    for waiting in (10, 200):
        cluster = PureCluster(script=never, parallel_max=1, subagents={"s1": "local", "s2": "local"})
        bundle(cluster, "b", s1=0)
        cluster.deploy(job("limited", limit=1, bundle="b"), name="limited")
        cluster.deploy(job("other", bundle="b"), name="other")
        cluster.add("x0", "other")
        for number in range(waiting):
            cluster.add(f"l{number}", "limited")
            cluster.add(f"x{number + 1}", "other")
        before = len(cluster.agents["local"].log)
        for _ in range(6):
            cluster.end(next(iter(cluster.subagents["s1"].running.values())))
        counts.append(len(cluster.agents["local"].log) - before)
    assert counts[0] == counts[1]


def test_fixed_priority_takes_the_next_only_when_the_first_is_full(pair: PureCluster) -> None:
    bundle(pair, "b", s1=2, s2=1)
    pair.deploy(job(bundle="b"))
    for number in range(3):
        pair.add(f"o{number}")
    state = pair.agent_state()
    assert [state.orders[one].subagent for one in ("o0", "o1")] == ["s1", "s2"]  # type: ignore[index]
    pair.end(pair.running("o1"))
    assert state.orders["o2"].subagent == "s2"  # type: ignore[index]


def test_equal_priorities_take_turns() -> None:
    cluster = PureCluster(subagents={"s1": "local", "s2": "local", "s3": "local"})
    bundle(cluster, "b", s1=1, s2=1, s3=0)
    cluster.deploy(job(bundle="b"))
    for number in range(4):
        cluster.add(f"o{number}")
    chosen = [event.subagent for event in cluster.agents["local"].log if type(event).__name__ == "AttemptAssigned"]  # type: ignore[attr-defined]
    assert chosen == ["s1", "s2", "s1", "s2"]


def test_a_disabled_subagent_gets_nothing_and_an_enabled_one_all_that_waits() -> None:
    cluster = PureCluster(script=never, parallel_max=2)
    item = cluster.agent_state().subagents[SubagentId("local-1")].item
    cluster.item(SubagentItem(item.id, item.agent, item.url, item.parallel_max, disabled=True))
    cluster.deploy(job())
    for number in range(3):
        cluster.add(f"o{number}")
    assert "connected and enabled" in str(cluster.order("o0").obstacle)
    cluster.item(item)
    assert starts(cluster) == ["o0", "o1"]


def test_a_line_keeps_its_order_over_a_snapshot() -> None:
    cluster = PureCluster(script=never, parallel_max=1)
    cluster.deploy(job("a", limit=5), name="a")
    cluster.deploy(job("b"), name="b")
    for number in range(6):
        cluster.add(f"o{number}", "ab"[number % 2])
    node = cluster.agents["local"]
    restored = node.machine.decode_state(node.machine.encode_state(node.turns.state))
    assert list(restored.lines) == list(node.turns.state.lines)
    assert list(restored.lines.heads()) == list(node.turns.state.lines.heads()) == ["o1", "o2"]
    assert restored.slots.by_job == node.turns.state.slots.by_job
    assert restored.slots.total == 1


def test_lines_are_first_in_first_out_however_long() -> None:
    lines = Lines()
    need = ("", None, "")
    for number in range(1_000):
        lines.join(f"o{number}", need, 0)  # type: ignore[arg-type]
    for number in range(1_000):
        assert lines.head(need) == f"o{number}"
        lines.join(f"o{number}", need, 0)  # type: ignore[arg-type]  # keeps its place
        assert lines.head(need) == f"o{number}"
        assert lines.leave(f"o{number}")  # type: ignore[arg-type]
        assert lines.left == need
    assert lines.head(need) is None
    assert not lines.leave("o1")  # type: ignore[arg-type]
    assert len(lines) == 0


@pytest.mark.parametrize("restored", [False, True])
def test_who_was_given_back_out_of_a_line_is_in_nobodys_way(*, restored: bool) -> None:
    """Also after a snapshot: the agent still has the order, because the controller has not said that it has read it."""
    cluster = PureCluster(script=never, parallel_max=1)
    cluster.deploy(job())
    for number in range(3):
        cluster.add(f"o{number}")
    assert cluster.decide(CancelOrder("o1")) is None
    cluster.perform(cluster.controller)
    cluster.deliver_down("local")
    node = cluster.agents["local"]
    assert list(node.turns.state.detached) == ["o1"]
    if restored:
        node.turns.state = node.machine.decode_state(node.machine.encode_state(node.turns.state))
    assert list(node.turns.state.lines) == ["o2"]
    cluster.subagents["local-1"].end(cluster.running("o0").key, cluster.now_ms, SUCCEEDED)
    cluster.deliver_reports("local-1")
    cluster.perform(node)
    cluster.deliver_starts("local-1")
    assert starts(cluster) == ["o0", "o2"]
