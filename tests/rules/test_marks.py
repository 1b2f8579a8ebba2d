"""Marks on their way: a person's last word wins, whatever is lost. Tests: engine/rules/marks.py"""

from engine.model.command import MarkOrder
from engine.model.expression import Template
from engine.model.job import OnLost
from engine.model.order import Mark, OrderState
from engine.model.outcome import SUCCEEDED, failed, unknown
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.release_attempt import ReleaseAttempt
from engine.rules.commands.resume_order import ResumeOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.rules.instructions.fork import Fork
from engine.rules.instructions.sleep import Sleep
from tests.rules.steps import job
from tests.support.pure import PureCluster


def owed(cluster: PureCluster, agent: str = "local") -> dict[str, object]:
    return dict(cluster.controller_state.agents[agent].owed)  # type: ignore[index]


def test_a_resume_survives_the_answer_to_the_suspend_before_it() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(job("a"), job("b"))
    cluster.add()
    assert cluster.decide(SuspendOrder("o")) is None
    cluster.perform(cluster.controller)
    cluster.deliver_down("local")
    assert cluster.decide(ResumeOrder("o")) is None  # while the agent's answer to the first is under way
    cluster.perform(cluster.controller)
    cluster.deliver_up("local", count=1)
    assert owed(cluster) == {"mark o": MarkOrder("o", Mark.NONE)}  # type: ignore[arg-type]
    assert cluster.order().mark is Mark.NONE, "the controller shows the person's last word"
    cluster.cut("local")  # the resume is lost on its way
    cluster.couple("local")
    cluster.run()
    cluster.end(cluster.running("o"))
    cluster.end(cluster.running("o"))
    assert cluster.order().state is OrderState.FINISHED
    assert owed(cluster) == {}


def test_the_third_of_three_marks_survives_the_answers_to_the_first_two() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(job("a"), job("b"))
    cluster.add()
    for command in (SuspendOrder("o"), ResumeOrder("o")):
        assert cluster.decide(command) is None
        cluster.perform(cluster.controller)
        cluster.deliver_down("local")
    assert cluster.decide(SuspendOrder("o")) is None
    cluster.perform(cluster.controller)
    cluster.deliver_up("local", count=2)
    cluster.cut("local")
    cluster.couple("local")
    cluster.run()
    cluster.end(cluster.running("o"))
    assert cluster.order().state is OrderState.SUSPENDED
    assert owed(cluster) == {}


def test_a_branch_on_an_agent_can_be_resumed_by_itself() -> None:
    outcomes = iter([failed("no"), failed("no"), SUCCEEDED, SUCCEEDED])
    cluster = PureCluster(script=lambda _: next(outcomes))
    cluster.deploy(Fork({"x": (job("a"),), "y": (job("b"),)}, join_if_failed=False))
    cluster.add()
    assert cluster.order().state is OrderState.FORKED
    assert cluster.command(ResumeOrder("o|x")) is None
    assert cluster.order("o|x").state is OrderState.FINISHED
    assert cluster.order("o|y").state is OrderState.FAILED
    assert cluster.command(ResumeOrder("o|y")) is None
    assert cluster.order().state is OrderState.FINISHED
    assert owed(cluster) == {}


def test_a_branch_on_an_agent_can_be_suspended_and_cancelled_by_itself() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.obedient = True
    cluster.deploy(Fork({"x": (job("a"), job("b")), "y": (job("c"),)}))
    cluster.add()
    assert cluster.command(SuspendOrder("o|x")) is None
    cluster.end(cluster.running("o|x"))
    assert cluster.order("o|x").state is OrderState.SUSPENDED
    assert cluster.command(CancelOrder("o|x")) is None
    assert cluster.order("o|x").state is OrderState.CANCELLED
    cluster.end(cluster.running("o|y"))
    assert str(cluster.order().outcome) == "cancelled: in branch x"
    assert owed(cluster) == {}


def test_what_a_branch_is_owed_goes_with_it_when_it_ends() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(Fork({"x": (job("a"),), "y": (job("c"),)}))
    cluster.add()
    cluster.cut("local")
    assert cluster.command(SuspendOrder("o|x")) is None
    assert list(owed(cluster)) == ["mark o|x"]
    for order in ("o|x", "o|y"):
        cluster.end(cluster.running(order))
    cluster.couple("local")
    cluster.run()
    assert cluster.order().state is OrderState.FINISHED
    assert owed(cluster) == {}


def test_a_refused_release_does_not_strike_a_mark() -> None:
    outcomes = iter([unknown("lost"), None])
    cluster = PureCluster(script=lambda _: next(outcomes))
    cluster.deploy(job("a"), job("b"))
    cluster.add()
    for choice in (OnLost.RERUN, OnLost.FAIL):
        assert cluster.decide(ReleaseAttempt("o", choice)) is None
    cluster.perform(cluster.controller)
    cluster.deliver_down("local", count=2)  # the second finds nothing held, and the refusal is told
    assert [problem.code for problem in cluster.refused] == ["NotHeld"]
    assert cluster.decide(CancelOrder("o", kill=True)) is None
    cluster.cut("local")
    cluster.couple("local")
    cluster.run()
    assert len(cluster.killed) == 1
    cluster.end(cluster.running("o"))
    assert cluster.order().state is OrderState.CANCELLED
    assert owed(cluster) == {}


def test_a_mark_that_was_owed_survives_the_refusal_of_a_release() -> None:
    outcomes = iter([unknown("lost"), None])
    cluster = PureCluster(script=lambda _: next(outcomes))
    cluster.deploy(job("a"), job("b"))
    cluster.add()
    for command in (ReleaseAttempt("o", OnLost.RERUN), ReleaseAttempt("o", OnLost.FAIL), SuspendOrder("o")):
        assert cluster.decide(command) is None
    cluster.perform(cluster.controller)
    cluster.deliver_down("local", count=2)
    assert list(owed(cluster)) == ["mark o"], "the release is struck, the mark is still owed"


def test_a_kill_is_not_taken_back_by_a_cancel() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(job())
    cluster.add()
    assert cluster.command(CancelOrder("o", kill=True)) is None
    assert cluster.command(CancelOrder("o")) is None
    assert cluster.order().mark is Mark.KILL
    cluster.cut_subagent("local-1")
    cluster.couple_subagent("local-1")
    cluster.run()
    assert len(cluster.killed) == 2, "told again after the link was lost"


def test_a_kill_for_an_attempt_whose_start_never_arrived() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.obedient = True
    cluster.deploy(job())
    assert cluster.decide(AddOrder("o", "w")) is None
    cluster.perform(cluster.controller)
    cluster.deliver_down("local")
    cluster.cut_subagent("local-1")  # before the start is sent
    assert cluster.command(CancelOrder("o", kill=True)) is None
    assert cluster.order().state is OrderState.PROCESSING
    assert cluster.started == []
    cluster.couple_subagent("local-1")
    cluster.run()
    assert [start.order for start in cluster.started] == ["o"], "it may have arrived, so it is told again, and killed"
    assert cluster.order().state is OrderState.CANCELLED


def test_cancel_and_suspend_while_attaching() -> None:
    for command, state in ((CancelOrder("o"), "cancelled"), (SuspendOrder("o"), "suspended")):
        cluster = PureCluster()
        cluster.deploy(job())
        cluster.cut("local")
        cluster.run()
        cluster.add()
        assert cluster.command(command) is None
        cluster.couple("local")
        cluster.run()
        assert cluster.order().state == state
        assert cluster.started == []
        assert owed(cluster) == {}


def test_a_mark_given_while_the_order_is_on_its_way_back_takes_effect_here() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(job("a"), Sleep(Template("1h")), job("b", agent="local"))
    cluster.add()
    sub = cluster.subagents["local-1"]
    sub.end(cluster.running("o").key, cluster.now_ms, failed("no"))
    cluster.deliver_reports("local-1")  # detached now, but the controller has not read it
    assert cluster.command(CancelOrder("o")) is None
    assert cluster.order().state is OrderState.CANCELLED
    assert owed(cluster) == {}


def test_suspending_again_reaches_a_branch_that_was_resumed_by_itself() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(Fork({"x": (job("a"), job("b"), job("c")), "y": (job("c"), job("d"))}))
    cluster.add()
    assert cluster.command(SuspendOrder("o")) is None
    for order in ("o|x", "o|y"):
        cluster.end(cluster.running(order))
    assert cluster.command(ResumeOrder("o|x")) is None
    assert cluster.order("o|x").state is OrderState.PROCESSING
    assert cluster.command(SuspendOrder("o")) is None
    cluster.end(cluster.running("o|x"))
    assert cluster.order("o|x").state is OrderState.SUSPENDED


def test_resuming_the_whole_does_not_take_back_the_cancelling_of_a_branch() -> None:
    for whole, state in (
        (ResumeOrder("o"), "cancelled"),
        (CancelOrder("o"), "cancelled"),
        (SuspendOrder("o"), "cancelled"),
    ):
        cluster = PureCluster(script=lambda _: None)
        cluster.deploy(Fork({"x": (job("a"), job("b")), "y": (job("c"), job("d"))}))
        cluster.add()
        assert cluster.command(SuspendOrder("o|y")) is None
        assert cluster.command(CancelOrder("o|x", kill=True)) is None
        assert cluster.command(whole) is None
        assert cluster.agent_state().orders["o|x"].mark is Mark.KILL  # type: ignore[index]
        cluster.end(cluster.running("o|x"))
        assert cluster.order("o|x").state == state


def test_a_branch_of_a_cancelled_order_can_be_neither_suspended_nor_resumed() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(Fork({"x": (job("a"),), "y": (job("c"),)}))
    cluster.add()
    assert cluster.command(SuspendOrder("o|y")) is None
    assert cluster.command(CancelOrder("o")) is None
    for command in (SuspendOrder("o|x"), ResumeOrder("o|y"), ResumeOrder("o"), SuspendOrder("o")):
        problem = cluster.command(command)
        assert problem is not None
        assert problem.code == "BeingCancelled"


def test_owed_marks_are_told_in_the_order_in_which_they_were_given() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(Fork({"x": (job("a"), job("b")), "y": (job("c"), job("d"))}))
    cluster.add()
    cluster.cut("local")
    for command in (SuspendOrder("o"), SuspendOrder("o|x"), ResumeOrder("o|x"), CancelOrder("o")):
        assert cluster.command(command) is None
    assert list(owed(cluster)) == ["mark o|x", "mark o"]
    cluster.couple("local")
    cluster.run()
    for order in ("o|x", "o|y"):
        cluster.end(cluster.running(order))
    assert cluster.order().state is OrderState.CANCELLED
    assert owed(cluster) == {}
