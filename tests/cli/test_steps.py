"""The step table: what events make of it, and that it agrees with what the controller itself knows.

Tests: engine/cli/steps.py
"""

import pytest

from engine.base.ids import AgentId, OrderId
from engine.cli.steps import StepTable, place_text, round_of
from engine.model.command import ReleaseHeld
from engine.model.event import EpochBegan, OrderAdded, OrderCommandDropped, OrderCommanded, OrderMarked, OrderStarted
from engine.model.expression import Expression, Template
from engine.model.fields import Span
from engine.model.job import OnLost, Start
from engine.model.order import Mark, OrderState
from engine.model.outcome import SUCCEEDED, Outcome, OutcomeKind, failed, unknown
from engine.model.workflow import Parameter, ParameterType, WorkflowId
from engine.rules.agent import NotHeld
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.release_attempt import ReleaseAttempt
from engine.rules.commands.resume_order import ResumeOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.rules.instructions.fail import Fail
from engine.rules.instructions.fork import Fork
from engine.rules.instructions.fork_list import ForkList
from engine.rules.instructions.if_ import If
from engine.rules.instructions.retry import Retry
from engine.rules.instructions.sleep import Sleep
from engine.rules.instructions.try_ import Try
from tests.cli.story import heard, job, lines, table_of
from tests.support.pure import PureCluster

HELD = (OrderId("o"), 1)


def scripted(**outcomes: Outcome | None):  # type: ignore[no-untyped-def]
    """Answer attempts by their label; `None` lets them run."""

    def script(start: Start) -> Outcome | None:
        return outcomes.get(start.label, SUCCEEDED)

    return script


def test_jobs_one_after_the_other() -> None:
    cluster = PureCluster()
    workflow = cluster.deploy(job("first"), job("second"))
    cluster.add()
    table = table_of(cluster, workflow)
    assert lines(table) == ["- job first 1 succeeded", "- job second 2 succeeded"]
    assert table.root.state is OrderState.FINISHED
    assert table.root.is_terminal
    assert not table.is_still()
    assert [step.position for step in table.root.steps] == [(0,), (1,)]
    assert all(step.subagent == "local-1" for step in table.root.steps)


def test_a_running_attempt_moves_and_a_failed_one_says_why() -> None:
    cluster = PureCluster(script=scripted(a=None))
    workflow = cluster.deploy(job("a"))
    cluster.add()
    table = table_of(cluster, workflow)
    assert lines(table) == ["- job a 1 running"]
    assert not table.is_still()
    cluster.now_ms = 5_000
    cluster.end(cluster.started[-1], Outcome(OutcomeKind.FAILED, 3, "it said no"))
    table = table_of(cluster, workflow)
    (step,) = table.root.steps
    assert (step.state, step.return_code, step.message) == ("failed", 3, "it said no")
    assert (step.started_ms, step.ended_ms) == (1_000, 5_000)
    assert table.root.state is OrderState.FAILED


def test_a_retry_shows_its_rounds_and_its_delay() -> None:
    cluster = PureCluster(script=scripted(a=failed("no")))
    workflow = cluster.deploy(Retry(2, (Sleep(Template("1s")), job("a")), (Span(60_000),)))
    cluster.add()
    cluster.pass_time(2_500)
    table = table_of(cluster, workflow)
    assert lines(table) == ["- sleep sleep 1s 0 done", "- job a 1 failed"]
    assert table.root.reason == "waiting before round 2 of 2"
    assert table.root.until_ms == 62_000
    assert not table.is_still()
    cluster.pass_time(70_000)
    table = table_of(cluster, workflow)
    assert lines(table)[2:] == ["- sleep sleep 1s 0 done", "- job a 2 failed"]
    assert [round_of(step.position) for step in table.root.steps] == [1, 1, 2, 2]


def test_branches_have_strands_of_their_own_and_join() -> None:
    cluster = PureCluster(script=scripted(bad=failed("no")))
    years = Parameter(ParameterType.LIST)
    workflow = cluster.deploy(
        Fork({"x": (job("good"),), "y": (Try((job("bad"),), (job("mend"),)),)}),
        ForkList(Expression("years"), "year", (job("each"),)),
        years=years,
    )
    cluster.add(years=[2012, 2013])
    table = table_of(cluster, workflow)
    assert lines(table) == [
        "- fork fork 0 succeeded",
        "- fork fork_list 0 succeeded",
        "x job good 1 succeeded",
        "y job bad 1 failed",
        "y job mend 2 succeeded",
        "0 job each 3 succeeded",
        "1 job each 3 succeeded",
    ]
    titles = [strand.title for strand in table.root.steps[1].strands]
    assert titles == ["0 (year=2012)", "1 (year=2013)"]
    assert [place_text(strand) for strand in table.root.steps[0].strands] == ["order/x", "order/y"]
    assert place_text(table.root) == "order"
    assert table.root.attempt == 3


def test_a_fork_inside_a_retry_begins_its_branches_anew() -> None:
    cluster = PureCluster(script=lambda start: failed("no") if start.attempt == 1 else SUCCEEDED)
    workflow = cluster.deploy(Retry(2, (Fork({"x": (job("a"),), "y": (job("b"),)}),)))
    cluster.add()
    table = table_of(cluster, workflow)
    first, second = table.root.steps
    assert [strand.state for strand in first.strands] == [OrderState.FAILED, OrderState.FAILED]
    assert [strand.state for strand in second.strands] == [OrderState.FINISHED, OrderState.FINISHED]
    assert (first.state, second.state) == ("failed", "succeeded")
    assert table.strands[OrderId("o|x")] is second.strands[0]


def test_forks_nest() -> None:
    cluster = PureCluster(script=scripted(slow=None))
    workflow = cluster.deploy(Fork({"x": (Fork({"u": (job("slow"),), "v": (job("a"),)}),), "y": (job("b"),)}))
    cluster.add()
    table = table_of(cluster, workflow)
    assert table.strands[OrderId("o|x|u")].path == "x/u"
    assert not table.is_still()
    cluster.end(next(start for start in cluster.started if start.label == "slow"))
    assert table_of(cluster, workflow).root.state is OrderState.FINISHED


def test_a_fault_without_an_attempt_is_a_step_too() -> None:
    cluster = PureCluster()
    workflow = cluster.deploy(If(Expression("true"), (Fail(Template("no rows")),)))
    cluster.add()
    table = table_of(cluster, workflow)
    (step,) = table.root.steps
    assert (step.kind, step.label, step.state, step.message) == ("fault", "fail", "failed", "no rows")


def test_a_lost_attempt_is_held_and_released() -> None:
    cluster = PureCluster(script=lambda start: unknown("power cut") if start.attempt == 1 else SUCCEEDED)
    workflow = cluster.deploy(job("a"))
    cluster.add()
    table = table_of(cluster, workflow)
    assert table.held() == [table.root]
    assert table.root.reason == "power cut"
    assert lines(table) == ["- job a 1 unknown"]
    assert table.is_still()
    assert not table.is_still([HELD]), "a released one is about to move"
    assert cluster.command(ReleaseAttempt("o", OnLost.RERUN)) is None
    table = table_of(cluster, workflow)
    assert table.held() == []
    assert lines(table) == ["- job a 1 unknown", "- job a 2 succeeded"]


def test_a_held_branch_stands_while_another_runs() -> None:
    cluster = PureCluster(script=scripted(lost=unknown("power cut"), slow=None))
    workflow = cluster.deploy(Fork({"x": (job("lost"),), "y": (job("slow"),)}))
    cluster.add()
    assert not table_of(cluster, workflow).is_still()
    cluster.end(cluster.started[1])
    table = table_of(cluster, workflow)
    assert table.is_still()
    assert [strand.order for strand in table.held()] == ["o|x"]
    assert not table.is_still([(OrderId("o|x"), 1)])


def test_suspended_means_still_until_the_root_is_resumed() -> None:
    cluster = PureCluster(script=scripted(slow=None))
    workflow = cluster.deploy(Fork({"x": (job("slow"), job("a")), "y": (Sleep(Template("1h")),)}))
    cluster.add()
    assert cluster.command(SuspendOrder("o")) is None
    table = table_of(cluster, workflow)
    assert table.root.mark is Mark.SUSPEND
    assert not table.is_still(), "an attempt still runs"
    cluster.end(cluster.started[0])
    table = table_of(cluster, workflow)
    assert table.is_still()
    table.root.mark = Mark.NONE  # the controller's own word; the branches' agent has not answered yet
    assert not table.is_still()
    assert cluster.command(ResumeOrder("o")) is None
    table = table_of(cluster, workflow)
    assert table.strands[OrderId("o|y")].steps[-1].state == "sleeping"
    cluster.pass_time(4_000_000)
    table = table_of(cluster, workflow)
    assert table.root.state is OrderState.FINISHED
    assert "y sleep sleep 1h 0 done" in lines(table)


def test_a_branch_that_stays_failed_stands_and_is_resumed() -> None:
    cluster = PureCluster(script=lambda start: failed("no") if start.attempt == 1 else SUCCEEDED)
    workflow = cluster.deploy(Fork({"x": (job("a"),), "y": (Sleep(Template("1s")),)}, join_if_failed=False))
    cluster.add()
    assert not table_of(cluster, workflow).is_still(), "the other branch sleeps"
    cluster.pass_time(3_000)
    table = table_of(cluster, workflow)
    assert [strand.order for strand in table.stays_failed()] == ["o|x"]
    assert table.is_still()
    assert not table.is_still([(OrderId("o|x"), 1)])
    assert cluster.command(ResumeOrder("o")) is None
    table = table_of(cluster, workflow)
    assert table.root.state is OrderState.FINISHED
    assert table.stays_failed() == []


def test_a_failed_branch_that_joins_is_not_still() -> None:
    cluster = PureCluster(script=scripted(a=failed("no"), b=None))
    workflow = cluster.deploy(Fork({"x": (job("a"),), "y": (job("b"),)}))
    cluster.add()
    table = table_of(cluster, workflow)
    assert not table.is_still()
    for strand in table.root.steps[0].strands:
        strand.ended_ms = 1
    assert not table.is_still(), "all branches have ended, and the join is about to come"


def test_cancelling_ends_what_is_open() -> None:
    cluster = PureCluster(script=scripted(slow=None))
    workflow = cluster.deploy(Fork({"x": (job("slow"),), "y": (Sleep(Template("1h")),)}))
    cluster.add()
    cluster.command(CancelOrder("o", kill=True))
    cluster.end(cluster.started[0], Outcome(OutcomeKind.KILLED, -15, "killed"))
    table = table_of(cluster, workflow)
    assert table.root.state is OrderState.CANCELLED
    assert lines(table) == ["- fork fork 0 cancelled", "x job slow 1 killed", "y sleep sleep 1h 0 cancelled"]


def test_a_late_answer_of_an_agent_takes_no_cancelling_back() -> None:
    cluster = PureCluster(script=scripted(slow=None))
    workflow = cluster.deploy(Fork({"x": (job("slow"),), "y": (Sleep(Template("1h")),)}))
    cluster.add()
    cluster.decide(SuspendOrder("o"))
    cluster.command(CancelOrder("o", kill=True))  # the agent hears of both, and answers both
    table = StepTable(OrderId("o"), workflow)
    answers = []
    for index, event in heard(cluster):
        table.apply(event, index)
        if isinstance(event, OrderMarked) and event.order == "o":
            answers.append((event.agent is not None, event.mark))
        if (False, Mark.KILL) in answers:
            assert table.root.mark is Mark.KILL
            assert not table.is_still()
    assert (True, Mark.SUSPEND) in answers[answers.index((False, Mark.KILL)) :]


def test_what_is_held_does_not_stand_once_it_is_cancelled() -> None:
    cluster = PureCluster(script=scripted(lost=unknown("power cut")))
    workflow = cluster.deploy(job("lost"))
    cluster.add()
    assert table_of(cluster, workflow).is_still()
    cluster.decide(CancelOrder("o"))  # the agent has not heard of it
    table = table_of(cluster, workflow)
    assert table.held() == [table.root]
    assert not table.is_still()
    cluster.run()
    assert table_of(cluster, workflow).root.state is OrderState.CANCELLED


def test_an_obstacle_is_shown_until_it_is_gone() -> None:
    cluster = PureCluster(script=scripted(a=None))
    workflow = cluster.deploy(job("a", limit=1))
    cluster.add("first")
    cluster.add("o")
    table = table_of(cluster, workflow)
    assert "already runs 1 times" in table.root.reason
    assert not table.is_still()
    cluster.end(cluster.started[0])
    assert table_of(cluster, workflow).root.reason == ""


def test_orders_may_move_between_agents() -> None:
    cluster = PureCluster(("local", "other"))
    workflow = cluster.deploy(job("a"), job("b", agent=AgentId("other")))
    cluster.add()
    assert [step.subagent for step in table_of(cluster, workflow).root.steps] == ["local-1", "other-1"]


def test_events_of_others_change_nothing() -> None:
    cluster = PureCluster()
    workflow = cluster.deploy(job("a"))
    cluster.add("other")
    table = StepTable(OrderId("o"), workflow)
    assert table.apply(OrderStarted(OrderId("other"), 5), 9) is None
    assert table.apply(EpochBegan(5, 1, "controller"), 9) is None
    assert table.root.state is OrderState.FRESH


def test_an_id_that_is_used_again_begins_anew() -> None:
    cluster = PureCluster(script=scripted(a=failed("no")))
    workflow = cluster.deploy(job("a"))
    cluster.add()
    table = table_of(cluster, workflow)
    strand = table.apply(OrderAdded(OrderId("o"), 9_000, WorkflowId(workflow.id), {}), 99)
    assert strand is table.root
    assert (table.root.added, table.root.steps, table.root.is_terminal) == (99, [], False)


@pytest.mark.parametrize("state", ["running", "held", "suspended", "failed"])
def test_a_table_may_begin_in_the_middle(state: str) -> None:
    """With nothing but orders as they are now, it says the same of the future as one that heard everything."""
    outcome = {"running": None, "held": unknown("lost"), "suspended": SUCCEEDED, "failed": failed("no")}[state]
    cluster = PureCluster(script=scripted(a=outcome, b=None))
    workflow = cluster.deploy(
        Fork({"x": (job("a"), job("c")), "y": (job("b"), job("c"))}, join_if_failed=state != "failed"), job("d")
    )
    cluster.add()
    if state == "suspended":
        cluster.command(SuspendOrder("o"))
    cluster.end(cluster.started[1])
    whole = table_of(cluster, workflow)
    seeded = StepTable(OrderId("o"), workflow)
    seeded.seed(sorted(cluster.controller_state.orders.values(), key=lambda order: order.parent is not None))
    assert seeded.is_still() is whole.is_still()
    assert [one.order for one in seeded.held()] == [one.order for one in whole.held()]
    assert [one.order for one in seeded.stays_failed()] == [one.order for one in whole.stays_failed()]
    assert {one.order: one.state for one in seeded.walk()} == {one.order: one.state for one in whole.walk()}


def test_what_is_released_is_not_still_though_its_agent_has_not_obeyed_yet() -> None:
    cluster = PureCluster(script=lambda start: unknown("power cut") if start.attempt == 1 else None)
    workflow = cluster.deploy(job("a"))
    cluster.add()
    cluster.cut("local")
    assert cluster.command(ReleaseAttempt("o", OnLost.RERUN)) is None
    table = table_of(cluster, workflow)
    assert table.root.is_held
    assert table.held() == [], "nobody's word is waited for"
    assert not table.is_still()
    table.apply(OrderCommandDropped(OrderId("o"), 5, NotHeld(order="o", attempt=1)), 99)
    assert table.held() == [table.root]
    assert table.is_still()


def test_a_release_is_for_one_attempt() -> None:
    cluster = PureCluster(script=lambda _: unknown("power cut"))
    workflow = cluster.deploy(job("a"))
    cluster.add()
    assert cluster.command(ReleaseAttempt("o", OnLost.RERUN)) is None
    table = table_of(cluster, workflow)
    assert [(strand.order, strand.attempt) for strand in table.held()] == [("o", 2)]
    assert table.is_still()
    table.apply(OrderCommanded(OrderId("o"), 5, AgentId("local"), ReleaseHeld(OrderId("o"), 1, OnLost.RERUN)), 99)
    assert table.is_still(), "a late word about attempt 1"


def test_a_fork_has_the_return_code_of_the_branch_that_failed() -> None:
    cluster = PureCluster(script=lambda _: failed("no", 3))
    workflow = cluster.deploy(Fork({"x": (job("a"),)}))
    cluster.add()
    (step, *_) = table_of(cluster, workflow).root.steps
    assert (step.kind, step.return_code, step.message) == ("fork", 3, "in branch x: no")
