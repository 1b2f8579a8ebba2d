"""Plain lines: one for each happening. Tests: engine/cli/lines.py"""

import re

import pytest

from engine.base.ids import OrderId
from engine.cli.face import Face
from engine.cli.lines import PlainScreen, SilentScreen, telling
from engine.cli.steps import StepTable, place_text
from engine.model.expression import Expression, Template
from engine.model.fields import Span
from engine.model.job import OnLost, Start
from engine.model.outcome import SUCCEEDED, Outcome, OutcomeKind, failed, unknown
from engine.model.workflow import Parameter, ParameterType, Workflow
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.release_attempt import ReleaseAttempt
from engine.rules.commands.resume_order import ResumeOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.rules.instructions.fail import Fail
from engine.rules.instructions.finish import Finish
from engine.rules.instructions.fork import Fork
from engine.rules.instructions.fork_list import ForkList
from engine.rules.instructions.retry import Retry
from engine.rules.instructions.sleep import Sleep
from tests.cli.story import heard, job
from tests.support.pure import PureCluster

TIME = re.compile(r"\d\d:\d\d:\d\d\.\d{3}")


def told(cluster: PureCluster, workflow: Workflow) -> list[str]:
    """Return what is told of the order `o`, without columns; instants as TIME."""
    table = StepTable(OrderId("o"), workflow)
    found = []
    for index, event in heard(cluster):
        strand = table.apply(event, index)
        if strand is not None and (told := telling(table, strand, event)) is not None:
            found.append(TIME.sub("TIME", f"{place_text(strand)}|{told[0]}|{told[1]}"))
    return found


def test_an_order_with_a_retry_and_a_fork() -> None:
    def script(start: Start) -> Outcome:
        return Outcome(OutcomeKind.FAILED, 3, "no") if start.attempt == 1 else SUCCEEDED

    cluster = PureCluster(script=script)
    workflow = cluster.deploy(
        Retry(2, (job("try_it"),), (Span(2_000),)),
        ForkList(Expression("years"), "year", (job("each"),)),
        Sleep(Template("5s")),
        Finish(Template("done with it")),
        years=Parameter(ParameterType.LIST),
    )
    cluster.add(years=[2012, 2013])
    cluster.pass_time(60_000)
    assert told(cluster, workflow) == [
        "order||added as o",
        "order|try_it|starts, attempt 1",
        "order|try_it|failed with return code 3 after 0.00s: no",
        "order||the failure is caught, round 2 follows",
        "order|try_it|waiting before round 2 of 2 until TIME",
        "order|try_it|starts, attempt 2, round 2",
        "order|try_it|succeeded after 0.00s",
        "order|fork_list|forks into 2: 0 (year=2012), 1 (year=2013)",
        "order/0|each|starts, attempt 3",
        "order/1|each|starts, attempt 3",
        "order/0|each|succeeded after 0.00s",
        "order/1|each|succeeded after 0.00s",
        "order/0||finished",
        "order/1||finished",
        "order|fork_list|joined",
        "order|sleep 5s|sleeping until TIME",
        "order||finished: done with it",
    ]


def test_suspending_resuming_and_killing() -> None:
    cluster = PureCluster(script=lambda start: None)
    workflow = cluster.deploy(job("a"), job("b"))
    cluster.add()
    cluster.command(SuspendOrder("o"))
    cluster.end(cluster.started[0])
    cluster.command(ResumeOrder("o"))
    cluster.command(CancelOrder("o", kill=True))
    cluster.end(cluster.started[1], Outcome(OutcomeKind.KILLED, -15, "it was killed on request"))
    assert told(cluster, workflow) == [
        "order||added as o",
        "order|a|starts, attempt 1",
        "order||to be suspended",
        "order|a|succeeded after 0.00s",
        "order||suspended",
        "order||to be resumed",
        "order||resumed",
        "order|b|starts, attempt 2",
        "order||to be killed",
        "order|b|killed with return code -15 after 0.00s: it was killed on request",
        "order||cancelled",
    ]


@pytest.mark.parametrize(("choice", "what"), [(OnLost.RERUN, "is run again"), (OnLost.FAIL, "counts as failed")])
def test_a_lost_attempt(choice: OnLost, what: str) -> None:
    cluster = PureCluster(script=lambda start: unknown("power cut") if start.attempt == 1 else SUCCEEDED)
    workflow = cluster.deploy(job("a"))
    cluster.add()
    cluster.command(ReleaseAttempt("o", choice))
    found = told(cluster, workflow)
    assert "order|a|held: nobody saw how attempt 1 ended (power cut)" in found
    assert f"order|a|the lost attempt 1 {what}" in found


def test_failures() -> None:
    cluster = PureCluster(script=lambda start: failed("no"))
    workflow = cluster.deploy(Fork({"x": (job("a"),), "y": (Fail(Template("not today")),)}))
    cluster.add()
    found = told(cluster, workflow)
    assert "order/y|fail|failed: not today" in found
    assert "order/x||failed: no" in found
    assert found[-2].startswith("order|fork|joined, failed: in branch x (and y): no")
    assert found[-1].startswith("order||failed: in branch x (and y): no")


def test_many_branches_are_named_by_the_first() -> None:
    cluster = PureCluster(parallel_max=1_000)
    workflow = cluster.deploy(ForkList(Expression("items"), "item", (job("a"),)), items=Parameter(ParameterType.LIST))
    cluster.add(items=["x" * 100] * 50)
    (line,) = [line for line in told(cluster, workflow) if "forks" in line]
    assert line.startswith("order|fork_list|forks into 50: 0 (item=xxx")
    assert line.endswith(", …")
    assert len(line) < 400


class Shown:
    """A screen, fed by a cluster, with what it wrote."""

    def __init__(self, screen: PlainScreen, cluster: PureCluster, workflow: Workflow) -> None:
        self.screen = screen
        self.cluster = cluster
        self.table = StepTable(OrderId("o"), workflow)
        self.seen = 0
        screen.begin(self.table, "heading")

    def tell(self, now_ms: int) -> None:
        events = heard(self.cluster)
        for index, event in events[self.seen :]:
            strand = self.table.apply(event, index)
            if strand is not None:
                self.screen.happened(strand, event)
        self.seen = len(events)
        self.screen.draw(now_ms)


def test_lines_have_a_time_and_columns(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = PureCluster()
    workflow = cluster.deploy(job("a"), Fork({"x": (job("long_name"),)}))
    cluster.add()
    Shown(PlainScreen(Face()), cluster, workflow).tell(2_000)
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading == "heading"
    starts = [line for line in lines if "starts" in line]
    assert [TIME.sub("TIME", line) for line in starts] == [
        "TIME  order         a          starts, attempt 1",
        "TIME  order/x       long_name  starts, attempt 2",
    ]


def test_a_short_waiting_for_a_slot_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = PureCluster(script=lambda start: None)
    workflow = cluster.deploy(job("a", limit=1))
    cluster.add("other")
    cluster.add()
    shown = Shown(PlainScreen(Face()), cluster, workflow)
    shown.tell(1_400)
    assert "waits" not in capsys.readouterr().out
    shown.tell(1_600)
    assert "waits: job w/a already runs 1 times" in capsys.readouterr().out
    shown.tell(9_000)
    assert capsys.readouterr().out == "", "it is told once"


def test_a_waiting_that_ended_meanwhile_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = PureCluster(script=lambda start: None)
    workflow = cluster.deploy(job("a", limit=1))
    cluster.add("other")
    cluster.add()
    cluster.end(cluster.started[0])
    Shown(PlainScreen(Face()), cluster, workflow).tell(9_000)
    out = capsys.readouterr().out
    assert "waits" not in out
    assert "starts" in out


def test_the_silent_screen_has_notes_only(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = PureCluster()
    workflow = cluster.deploy(job("a"))
    cluster.add()
    screen = SilentScreen(Face())
    Shown(screen, cluster, workflow).tell(9_000)
    screen.note("a note")
    screen.end(9_000)
    written = capsys.readouterr()
    assert (written.out, written.err) == ("", "a note\n")


def test_nothing_of_an_order_can_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = PureCluster(script=lambda _: failed("\x1b[2J\nboo"))
    workflow = cluster.deploy(job("a"))
    cluster.add()
    Shown(PlainScreen(Face()), cluster, workflow).tell(9_000)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\nboo" in out
