"""The order's way through all instructions, at controller and agents, without a loop.

Tests: engine/rules/flow.py
"""

from collections.abc import Sequence

import pytest

from engine.jobs.command import CommandJob
from engine.jobs.process import ProcessJob
from engine.jobs.python import PythonJob
from engine.jobs.shell import ShellJob
from engine.model.expression import Expression, Template
from engine.model.fields import Span
from engine.model.job import OnLost, Start
from engine.model.order import OrderState
from engine.model.outcome import CANCELLED, SUCCEEDED, Outcome, OutcomeKind, failed, unknown
from engine.model.workflow import Parameter, ParameterType
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.release_attempt import ReleaseAttempt
from engine.rules.commands.resume_order import ResumeOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.rules.instructions.fail import Fail
from engine.rules.instructions.finish import Finish
from engine.rules.instructions.fork import Fork
from engine.rules.instructions.fork_list import ForkList
from engine.rules.instructions.if_ import If
from engine.rules.instructions.job import Execute
from engine.rules.instructions.retry import Retry
from engine.rules.instructions.sleep import Sleep
from engine.rules.instructions.try_ import Try
from engine.rules.state import RESERVED_NAMES
from tests.support.pure import PureCluster


def job(name: str = "a", **fields: object) -> Execute:
    return Execute(name, ShellJob("true"), **fields)  # type: ignore[arg-type]


def kinds(events: Sequence[object]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_one_job_from_adding_to_finish() -> None:
    cluster = PureCluster()
    cluster.deploy(job())
    before = len(cluster.controller.log)
    assert cluster.add() is None
    assert kinds(cluster.controller.log[before:]) == [
        "OrderAdded",
        "OrderStarted",
        "OrderAttaching",
        "OrderAttached",
        "AttemptAssigned",
        "AttemptEnded",
        "OrderMoved",
        "OrderDetached",
        "OrderFinished",
    ]
    assert cluster.order().state is OrderState.FINISHED
    assert cluster.agent_state().orders == {}, "the agent forgets what it gave back"


def test_results_become_variables_and_conditions_read_them() -> None:
    cluster = PureCluster(script=lambda start: (SUCCEEDED, {"rows": 7}) if start.label == "count" else SUCCEEDED)
    cluster.deploy(job("count"), If(Expression("rows > 5"), (job("many"),), (job("few"),)))
    cluster.add()
    assert [start.label for start in cluster.started] == ["count", "many"]
    assert cluster.order().variables == {"rows": 7}


def test_a_failure_nobody_catches_fails_the_order() -> None:
    cluster = PureCluster(script=lambda _: failed("no", 3))
    cluster.deploy(job(), job("never"))
    cluster.add()
    assert cluster.order().state is OrderState.FAILED
    assert cluster.order().outcome == failed("no", 3)
    assert len(cluster.started) == 1


def test_try_catches_and_the_catch_sees_why() -> None:
    cluster = PureCluster(script=lambda start: failed("no", 3) if start.label == "bad" else SUCCEEDED)
    cluster.deploy(Try((job("bad"),), (If(Expression("return_code == 3"), (job("mend"),)),)), job("on"))
    cluster.add()
    assert [start.label for start in cluster.started] == ["bad", "mend", "on"]
    assert cluster.order().state is OrderState.FINISHED


def test_branches_inside_a_catch_see_why_too() -> None:
    cluster = PureCluster(script=lambda start: failed("no", 3) if start.label == "bad" else SUCCEEDED)
    say = Fail(Template("${error} ${return_code} ${outcome}"))
    cluster.deploy(Try((job("bad"),), (Fork({"x": (say,)}),)))
    cluster.add()
    assert cluster.order().outcome == failed("in branch x: no 3 failed")


def test_retry_waits_and_gives_up() -> None:
    cluster = PureCluster(script=lambda _: failed("no"))
    cluster.deploy(Retry(3, (job(),), (Span(1_000), Span(5_000))))
    cluster.add()
    assert cluster.order().state is OrderState.WAITING
    cluster.pass_time(2_000)
    assert [start.attempt for start in cluster.started] == [1, 2]
    cluster.pass_time(6_999)
    assert len(cluster.started) == 2
    cluster.pass_time(7_000)
    assert len(cluster.started) == 3
    assert cluster.order().state is OrderState.FAILED


def test_fork_joins_and_attempts_go_on_rising() -> None:
    cluster = PureCluster()
    cluster.deploy(Fork({"x": (job("a"), job("b")), "y": (job("c"),)}), job("d"))
    cluster.add()
    assert cluster.order().state is OrderState.FINISHED
    assert [(start.order, start.attempt) for start in cluster.started] == [
        ("o|x", 1),
        ("o|y", 1),
        ("o|x", 2),
        ("o", 3),
    ]
    assert list(cluster.controller_state.orders) == ["o"]


def test_fork_list_collects_in_the_order_of_the_list() -> None:
    def script(start: Start) -> tuple[Outcome, dict[str, object]]:
        return SUCCEEDED, {"square": int(start.environment["N"]) ** 2}

    cluster = PureCluster(script=script)
    step = job(environment={"N": Template("${n}")})
    cluster.deploy(
        ForkList(Expression("numbers"), "n", (step,), collect=("square",)),
        numbers=Parameter(ParameterType.LIST),
    )
    cluster.add(numbers=[3, 1, 2])
    assert cluster.order().variables["square"] == [9, 1, 4]


def test_a_failed_branch_fails_the_fork_once_all_have_ended() -> None:
    cluster = PureCluster(script=lambda start: failed("no") if start.label == "bad" else SUCCEEDED)
    cluster.deploy(Fork({"x": (job("bad"),), "y": (job("good"), job("better"))}))
    cluster.add()
    assert cluster.order().state is OrderState.FAILED
    assert [start.label for start in cluster.started] == ["bad", "good", "better"]
    assert "branch x" in str(cluster.order().outcome)


def test_a_join_names_the_branches_that_failed_and_not_those_that_were_cancelled() -> None:
    cluster = PureCluster()
    cluster.deploy(Fork({"x": (job(), Sleep(Template("1h"))), "y": (Sleep(Template("1s")), Fail(Template("boom")))}))
    cluster.add()
    assert cluster.command(CancelOrder("o|x")) is None
    cluster.pass_time(2_000)
    assert cluster.order().outcome == failed("in branch y: boom")


def test_a_cancelled_order_has_not_succeeded() -> None:
    cluster = PureCluster()
    cluster.deploy(job(), Sleep(Template("1h")))
    cluster.add()
    assert cluster.order().outcome == SUCCEEDED
    assert cluster.command(CancelOrder("o")) is None
    assert cluster.order().state is OrderState.CANCELLED
    assert cluster.order().outcome == CANCELLED


def test_without_join_if_failed_the_branch_can_be_resumed() -> None:
    outcomes = iter([failed("no"), SUCCEEDED])
    cluster = PureCluster(script=lambda _: next(outcomes))
    cluster.deploy(Fork({"x": (job(),)}, join_if_failed=False))
    cluster.add()
    assert cluster.order().state is OrderState.FORKED
    assert cluster.command(ResumeOrder("o")) is None
    assert cluster.order().state is OrderState.FINISHED


def test_branches_on_two_agents_are_forked_by_the_controller() -> None:
    cluster = PureCluster(agents=("local", "berlin"))
    cluster.deploy(Fork({"x": (job("a"),), "y": (job("b", agent="berlin"),)}), job("c", agent="berlin"))
    cluster.add()
    assert cluster.order().state is OrderState.FINISHED
    assert not cluster.agent_state().orders
    assert not cluster.agent_state("berlin").orders


def test_sleep_finish_and_fail() -> None:
    cluster = PureCluster()
    cluster.deploy(Sleep(Template("10s")), Finish(Template("enough")), Fail(Template("never")))
    cluster.add()
    assert cluster.order().state is OrderState.WAITING
    cluster.pass_time(11_000)
    assert cluster.order().state is OrderState.FINISHED
    assert str(cluster.order().outcome) == "succeeded: enough"


@pytest.mark.parametrize(
    ("on_lost", "state"), [(OnLost.HOLD, "expecting"), (OnLost.FAIL, "failed"), (OnLost.RERUN, "finished")]
)
def test_a_lost_attempt_is_held_failed_or_rerun_as_its_job_says(on_lost: OnLost, state: str) -> None:
    outcomes = iter([unknown("the guard died"), SUCCEEDED])
    cluster = PureCluster(script=lambda _: next(outcomes))
    cluster.deploy(job(on_lost=on_lost))
    cluster.add()
    assert cluster.order().state == state


@pytest.mark.parametrize(("choice", "state"), [(OnLost.RERUN, "finished"), (OnLost.FAIL, "failed")])
def test_a_held_order_is_released_by_a_word(choice: OnLost, state: str) -> None:
    outcomes = iter([unknown("the guard died"), SUCCEEDED])
    cluster = PureCluster(script=lambda _: next(outcomes))
    cluster.deploy(job())
    cluster.add()
    assert cluster.order().is_held
    assert cluster.command(ReleaseAttempt("o", choice)) is None
    assert cluster.order().state == state
    assert cluster.controller_state.agents["local"].owed == {}  # type: ignore[index]


def test_suspend_takes_effect_behind_the_running_job_and_resume_goes_on() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(job("a"), job("b"))
    cluster.add()
    assert cluster.command(SuspendOrder("o")) is None
    assert cluster.order().state is OrderState.PROCESSING
    cluster.end(cluster.started[0])
    assert cluster.order().state is OrderState.SUSPENDED
    assert cluster.command(ResumeOrder("o")) is None
    cluster.end(cluster.started[1])
    assert cluster.order().state is OrderState.FINISHED


def test_cancel_with_kill_reaches_the_running_attempts_of_all_branches() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(Fork({"x": (job("a"),), "y": (job("b"),)}), job("c"))
    cluster.add()
    assert cluster.command(CancelOrder("o", kill=True)) is None
    assert len(cluster.killed) == 2
    for start in list(cluster.started):
        cluster.end(start, Outcome("killed", -15))  # type: ignore[arg-type]
    assert cluster.order().state is OrderState.CANCELLED
    assert cluster.agent_state().orders == {}


def test_slots_are_given_first_come_first_served() -> None:
    cluster = PureCluster(script=lambda _: None, parallel_max=2)
    cluster.deploy(job())
    for number in range(5):
        cluster.add(f"o{number}")
    assert [start.order for start in cluster.started] == ["o0", "o1"]
    cluster.end(cluster.started[1])
    cluster.end(cluster.started[0])
    assert [start.order for start in cluster.started] == ["o0", "o1", "o2", "o3"]
    assert "as many processes as it may" in str(cluster.order("o4").obstacle)


def test_replay_of_the_log_gives_the_same_bytes() -> None:
    cluster = PureCluster(script=lambda start: None if start.label == "b" else SUCCEEDED, parallel_max=1)
    cluster.deploy(Fork({"x": (job("a"), job("b")), "y": (job("b"),)}), job("c"))
    cluster.add("o1")
    cluster.add("o2")
    for node in (cluster.controller, *cluster.agents.values()):
        machine = node.machine
        again = machine.blank()
        for index, record in enumerate(node.records, 1):
            for event in machine.decode_events(record):
                machine.apply(again, event, index)
        assert machine.encode_state(again) == machine.encode_state(node.turns.state)
        restored = machine.decode_state(machine.encode_state(again))
        assert machine.encode_state(restored) == machine.encode_state(again)


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (failed("no", 3), "failed with return code 3: in branch x: no"),
        (failed("", 3), "failed with return code 3: in branch x"),
        (failed("no"), "failed: in branch x: no"),
        (Outcome(OutcomeKind.TIMED_OUT, -15), "failed with return code -15: in branch x: timed out"),
        (Outcome(OutcomeKind.KILLED, 0, "by a person"), "failed with return code 0: in branch x: killed: by a person"),
    ],
)
def test_a_join_tells_cause_and_return_code_once(outcome: Outcome, told: str) -> None:
    cluster = PureCluster(script=lambda _: outcome)
    cluster.deploy(Fork({"x": (job(),)}))
    cluster.add()
    assert str(cluster.order().outcome) == told


def test_what_failed_in_a_fork_in_a_fork_is_told_with_its_way_and_its_return_code() -> None:
    cluster = PureCluster(script=lambda start: failed("no", 3) if start.label == "bad" else SUCCEEDED)
    inner = Fork({"p": (job("good"),), "q": (job("bad"),)})
    cluster.deploy(Try((Fork({"x": (inner,)}),), (Fail(Template("${return_code}, ${error}")),)))
    cluster.add()
    assert str(cluster.order().outcome) == "failed: 3, in branch x: in branch q: no"


def test_of_many_failed_branches_the_first_says_why_and_some_are_named() -> None:
    cluster = PureCluster(script=lambda start: failed(f"no {start.order}", 3))
    cluster.deploy(Fork({f"b{number}": (job(),) for number in range(7)}))
    cluster.add()
    told = "failed with return code 3: in branch b0 (and b1, b2, b3, b4, …): no o|b0"
    assert str(cluster.order().outcome) == told


@pytest.mark.parametrize("name", RESERVED_NAMES)
def test_a_result_with_a_name_of_the_engine_s_own_fails_the_attempt(name: str) -> None:
    cluster = PureCluster(script=lambda _: (Outcome(OutcomeKind.SUCCEEDED, 0), {"rows": 7, name: 1}))
    cluster.deploy(job())
    cluster.add()
    assert cluster.order().outcome == failed(f"the name {name!r} of a result is the engine's own; choose another", 0)
    assert cluster.order().variables == {}


def test_a_failure_stays_what_it_was_when_a_result_of_it_is_refused() -> None:
    cluster = PureCluster(script=lambda _: (Outcome(OutcomeKind.TIMED_OUT, -15, "too slow"), {"error": "mine"}))
    cluster.deploy(job())
    cluster.add()
    assert str(cluster.order().outcome).startswith("timed out with return code -15: too slow; the name 'error'")


NUL_WORDS: dict[str, ProcessJob] = {
    "its environment variable V": ShellJob("true"),
    "word 2 of its command": CommandJob((Template("echo"), Template("${v}"))),
    "its directory": ShellJob("true"),
}


@pytest.mark.parametrize("where", NUL_WORDS)
def test_a_nul_is_no_word_for_a_process(where: str) -> None:
    cluster = PureCluster()
    environment = {"V": Template("a${v}")} if "environment" in where else {}
    directory = Template("/${v}") if "directory" in where else None
    step = Execute("a", NUL_WORDS[where], environment, directory=directory)
    cluster.deploy(step, v=Parameter(ParameterType.STRING))
    cluster.add(v="one\0two")
    told = f"job a: {where} holds the character NUL, which can not be given to a process"
    assert cluster.order().outcome == failed(told)
    assert cluster.started == []
    cluster.add("sound", v="one")
    assert cluster.order("sound").state is OrderState.FINISHED


def test_a_nul_may_go_to_a_callable_and_inside_a_list_to_a_process() -> None:
    cluster = PureCluster()
    call = Execute("b", PythonJob("operator:add", {"v": Template("${v}")}), {"V": Template("${v}")})
    listed = Execute("c", CommandJob((Template("echo"), Template("${[v]}"))))
    cluster.deploy(call, listed, v=Parameter(ParameterType.STRING))
    cluster.add(v="one\0two")
    assert cluster.order().state is OrderState.FINISHED
