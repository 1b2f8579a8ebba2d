"""After a restart everything goes on: replay, then what is owed.

Tests: engine/rules/node_machine.py, engine/rules/state.py
"""

from typing import Any

import pytest

from engine.model.expression import Expression, Template
from engine.model.fields import Span
from engine.model.order import OrderState
from engine.model.outcome import failed
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.add_orders import AddOrders
from engine.rules.commands.resume_order import ResumeOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.rules.instructions.fork_list import ForkList
from engine.rules.instructions.retry import Retry
from engine.rules.instructions.sleep import Sleep
from engine.runtime import turn
from tests.rules.steps import call, job
from tests.support.pure import PureCluster


def restart_all(cluster: PureCluster) -> None:
    """Lose every memory and every message, and connect anew."""
    cluster.restart_controller()
    for agent in cluster.agents:
        cluster.restart_agent(agent)
    for agent in cluster.agents:
        cluster.couple(agent)
    for sub in cluster.subagents:
        cluster.couple_subagent(sub)
    cluster.run()


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "STEPS_PER_TURN_MAX", 3)


@pytest.mark.usefixtures("few_steps")
def test_what_a_turn_left_over_is_done_after_a_restart() -> None:
    cluster = PureCluster()
    cluster.deploy(ForkList(Expression("[1, 2, 3, 4, 5, 6, 7]"), "n", (job("a"), Sleep(Template("1s")))))
    cluster.controller.lazy = cluster.agents["local"].lazy = True
    assert cluster.decide(AddOrders(tuple(AddOrder(f"o{number}", "w") for number in range(5)))) is None
    assert cluster.controller.left, "there must be something left over"
    cluster.controller.lazy = False
    cluster.restart_controller()
    cluster.couple("local")
    cluster.deliver_down("local")
    assert cluster.agents["local"].left, "there must be something left over"
    cluster.agents["local"].lazy = False
    restart_all(cluster)
    cluster.pass_time(60_000)
    assert {cluster.order(f"o{number}").state for number in range(5)} == {OrderState.FINISHED}


@pytest.mark.parametrize(
    ("earlier", "last", "state"),
    [((), SuspendOrder("o"), "suspended"), ((SuspendOrder("o"),), ResumeOrder("o"), "waiting")],
)
def test_a_mark_that_was_not_taken_up_before_the_restart(
    monkeypatch: pytest.MonkeyPatch, earlier: tuple[Any, ...], last: Any, state: str
) -> None:
    cluster = PureCluster()
    cluster.deploy(Sleep(Template("1h")))
    cluster.add()
    for command in earlier:
        assert cluster.command(command) is None
    cluster.controller.lazy = True
    with monkeypatch.context() as patched:
        patched.setattr(turn, "STEPS_PER_TURN_MAX", 0)
        assert cluster.decide(last) is None
    assert cluster.controller.left
    cluster.controller.lazy = False
    restart_all(cluster)
    assert cluster.order().state == state


def test_timers_ring_after_a_restart() -> None:
    cluster = PureCluster(script=lambda _: failed("no"))
    cluster.deploy(Sleep(Template("10s")), name="sleeps")
    cluster.deploy(Retry(2, (job(),), (Span(20_000),)), name="retries")
    cluster.add("s", "sleeps")
    cluster.add("r", "retries")
    assert cluster.command(AddOrder("later", "sleeps", scheduled_ms=30_000)) is None
    restart_all(cluster)
    cluster.pass_time(100_000)
    assert cluster.order("s").state is OrderState.FINISHED
    assert cluster.order("r").state is OrderState.FAILED
    assert cluster.order("later").state is OrderState.FINISHED
    assert len(cluster.started) == 2


def test_running_attempts_are_told_again_and_not_begun_twice() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(job())
    cluster.add()
    restart_all(cluster)
    assert len(cluster.started) == 1
    cluster.end(cluster.running("o"))
    assert cluster.order().state is OrderState.FINISHED


def test_a_start_that_was_never_sent_is_sent_after_the_restart() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(job())
    assert cluster.decide(AddOrder("o", "w")) is None
    cluster.perform(cluster.controller)
    cluster.deliver_down("local")
    assert cluster.agents["local"].effects
    restart_all(cluster)
    assert len(cluster.started) == 1


def test_callables_of_an_earlier_incarnation_are_unknown_and_processes_are_not() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(job(), name="process")
    cluster.deploy(call(), name="callable")
    cluster.add("p", "process")
    cluster.add("c", "callable")
    cluster.restart_subagent("local-1")
    cluster.run()
    assert cluster.order("c").state is OrderState.PROCESSING, "nothing is known before it is back"
    cluster.couple_subagent("local-1")
    cluster.run()
    assert cluster.order("c").is_held
    assert cluster.order("p").state is OrderState.PROCESSING
    assert len(cluster.started) == 2


def test_a_link_that_was_only_cut_loses_no_callable() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(call())
    cluster.add()
    cluster.cut_subagent("local-1")
    cluster.couple_subagent("local-1")
    cluster.run()
    assert cluster.order().state is OrderState.PROCESSING
    assert len(cluster.started) == 1
