"""What people and jobs give is bounded, and each bound says so in a sentence.

Tests: engine/rules/check.py, engine/rules/branches.py, engine/rules/queries.py
"""

from typing import Any

import pytest

from engine.base.clock import SPAN_MS_MAX
from engine.base.ids import SubagentId
from engine.base.limits import BRANCHES_MAX, VARIABLES_BYTES_MAX
from engine.jobs.shell import ShellJob
from engine.model import query as q
from engine.model.command import ReportEnded
from engine.model.expression import Expression, Template
from engine.model.fields import Size, Span
from engine.model.instruction import Instruction
from engine.model.job import Start
from engine.model.order import OrderState
from engine.model.outcome import SUCCEEDED, Outcome, OutcomeKind, failed
from engine.model.workflow import Parameter, ParameterType, Workflow
from engine.rules import branches
from engine.rules.agent import SubagentReported
from engine.rules.check import workflow_faults
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.add_orders import AddOrders
from engine.rules.instructions.finish import Finish
from engine.rules.instructions.fork import Fork
from engine.rules.instructions.fork_list import ForkList
from engine.rules.instructions.job import Execute
from engine.rules.instructions.retry import Retry
from engine.rules.instructions.sleep import Sleep
from engine.rules.instructions.try_ import Try
from tests.rules.steps import job
from tests.support.pure import PureCluster


def ask(cluster: PureCluster, query: Any) -> Any:
    return cluster.controller.machine.query(cluster.controller_state, query, cluster.now_ms)


# --- orders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduled_ms", [10**18, 2**63 - 1, 1_000 + SPAN_MS_MAX + 1])
def test_an_order_can_not_be_scheduled_for_a_time_no_calendar_knows(scheduled_ms: int) -> None:
    cluster = PureCluster()
    cluster.deploy(job())
    problem = cluster.command(AddOrder("o", "w", scheduled_ms=scheduled_ms))
    assert problem is not None
    assert problem.code == "BadSchedule"
    assert cluster.command(AddOrder("o", "w", scheduled_ms=1_000 + SPAN_MS_MAX)) is None
    assert "scheduled until 2070" in ask(cluster, q.GetOrder("o")).obstacle  # type: ignore[arg-type]


def test_a_branch_is_no_order_to_be_added() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(Fork({"x": (job(),)}))
    cluster.add()
    problem = cluster.add("o|x")
    assert problem is not None
    assert problem.code == "BadOrderId"


def test_one_id_twice_in_a_bulk_is_one_order_unless_the_workflows_differ() -> None:
    cluster = PureCluster()
    cluster.deploy(job(), name="a")
    cluster.deploy(job(), name="b")
    assert cluster.command(AddOrders((AddOrder("o", "a"), AddOrder("o", "a")))) is None
    problem = cluster.command(AddOrders((AddOrder("p", "a"), AddOrder("p", "b"))))
    assert problem is not None
    assert problem.code == "BulkRefused"
    assert "p" not in cluster.controller_state.orders


@pytest.mark.parametrize("limit", [0, -1, -(2**63)])
def test_a_page_is_never_endless(limit: int) -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(job())
    for number in range(3):
        cluster.add(f"o{number}")
    page = ask(cluster, q.ListOrders(limit=limit))
    assert len(page.orders) == 1
    assert page.more


# --- workflows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        (job(limit=0), "limit"),
        (job(timeout_ms=Span(0)), "timeout"),
        (job(timeout_ms=Span(10**18)), "timeout"),
        (job(kill_delay_ms=Span(-1)), "kill_delay"),
        (job(output_bytes_max=Size(-1)), "output_limit"),
        (job(agent=""), "agent"),
        (job(agent="a b"), "agent"),
        (job(bundle="b|c"), "bundle"),
        (job(environment={"A=B": Template("x")}), "environment"),
        (job(environment={"": Template("x")}), "environment"),
        (Retry(2, (job(),), (Span(10**18),)), "delays"),
        (Retry(2, (job(),), (Span(-1),)), "delays"),
        (ForkList(Expression("[1]"), "order", (job(),)), "order"),
        (ForkList(Expression("[1]"), "a b", (job(),)), "a b"),
        (ForkList(Expression("[1]"), "n", (job(),), collect=("error",)), "error"),
        (Fork({"x": (job(),)}, collect=("a-b",)), "a-b"),
    ],
)
def test_a_step_that_would_harm_an_order_later_is_not_deployed(step: Instruction, sentence: str) -> None:
    faults = workflow_faults(Workflow("w", "1", (Sleep(Template("1s")), step)))
    assert len(faults) == 1
    assert faults[0].startswith("step 1")
    assert sentence in faults[0]


def test_the_agent_of_a_workflow_has_a_name() -> None:
    assert workflow_faults(Workflow("w", "1", (), agent="")) == [  # type: ignore[arg-type]
        "'' can not be an agent's name (letters, digits, _ . -)"
    ]


def test_the_largest_settings_are_allowed() -> None:
    step = Execute(
        "a",
        ShellJob("true"),
        {"A.b-c": Template("x")},
        timeout_ms=Span(SPAN_MS_MAX),
        kill_delay_ms=Span(0),
        limit=1,
        output_bytes_max=Size(0),
    )
    assert workflow_faults(Workflow("w", "1", (step, Retry(1_000, (step,), (Span(0), Span(SPAN_MS_MAX)))))) == []


# --- expressions at the edge ------------------------------------------------------------------------------------------


def test_an_expression_that_fails_for_the_very_attempt_fails_its_step_and_not_the_node() -> None:
    """The attempt's number is the new one, in the check before the choice and in the start."""
    cluster = PureCluster()
    cluster.deploy(Try((job("bad", environment={"X": Template("${10 / (order.attempt - 1)}")}),), (job("mend"),)))
    cluster.add()
    assert [start.label for start in cluster.started] == ["mend"]
    assert cluster.order().state is OrderState.FINISHED


def test_an_attempt_sees_its_own_number() -> None:
    cluster = PureCluster(script=lambda start: failed("no") if start.attempt < 3 else SUCCEEDED)
    cluster.deploy(Retry(5, (job(environment={"N": Template("${order.attempt}")}),)))
    cluster.add()
    assert [start.environment["N"] for start in cluster.started] == ["1", "2", "3"]


def test_a_step_that_fails_while_no_place_is_free_fails_at_once() -> None:
    cluster = PureCluster(script=lambda _: None, parallel_max=1)
    cluster.deploy(job(environment={"X": Template("${1 / n}")}), n=Parameter(ParameterType.INTEGER))
    cluster.add("good", n=1)
    cluster.add("bad", n=0)
    assert cluster.order("bad").state is OrderState.FAILED


def test_a_retry_waits_before_a_sleep_and_then_sleeps() -> None:
    cluster = PureCluster(script=lambda _: failed("no"))
    cluster.deploy(Retry(2, (Sleep(Template("10s")), job()), (Span(5_000),)))
    cluster.add()
    cluster.pass_time(11_000)
    assert len(cluster.started) == 1
    cluster.pass_time(16_000)
    assert cluster.order().cause == "sleeping"
    assert len(cluster.started) == 1
    cluster.pass_time(26_000)
    assert len(cluster.started) == 2
    assert cluster.order().state is OrderState.FAILED


# --- sizes ------------------------------------------------------------------------------------------------------------

LARGE = "x" * (VARIABLES_BYTES_MAX // 2)


def test_results_that_are_too_large_fail_the_attempt() -> None:
    def script(start: Start) -> tuple[Outcome, dict[str, Any]]:
        return Outcome(OutcomeKind.SUCCEEDED, 0), {start.label: LARGE}

    cluster = PureCluster(script=script)
    cluster.deploy(job("a"), Try((job("b"),), (job("c"),)))
    cluster.add()
    assert cluster.order().state is OrderState.FAILED
    assert set(cluster.order().variables) == {"a"}
    assert f"{VARIABLES_BYTES_MAX} is the most" in str(cluster.order().outcome)
    assert cluster.order().outcome.return_code == 0  # type: ignore[union-attr]


def test_too_large_results_of_a_failed_attempt_leave_its_outcome_as_it_is() -> None:
    cluster = PureCluster(script=lambda _: (failed("no", 3), {"a": LARGE + LARGE}))
    cluster.deploy(job("a"))
    cluster.add()
    assert cluster.order().variables == {}
    assert str(cluster.order().outcome).startswith("failed with return code 3: no")


def test_what_a_fork_collects_is_bounded() -> None:
    cluster = PureCluster(script=lambda _: (SUCCEEDED, {"a": LARGE}))
    cluster.deploy(Fork({"x": (job(),), "y": (job(),), "z": (job(),)}, collect=("a",)))
    cluster.add()
    assert cluster.order().state is OrderState.FAILED
    assert f"{VARIABLES_BYTES_MAX} is the most" in str(cluster.order().outcome)
    assert cluster.order().variables == {}


def test_branches_with_large_variables_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "FORK_BYTES_MAX", 10_000)
    cluster = PureCluster()
    text = Parameter(ParameterType.STRING)
    cluster.deploy(ForkList(Expression("[1, 2, 3, 4, 5]"), "n", (job(),)), name="five", text=text)
    cluster.deploy(Fork({name: (job(),) for name in "abcde"}), name="named", text=text)
    for name in ("five", "named"):
        cluster.add(f"small-{name}", name, text="x" * 1_900)
        cluster.add(f"large-{name}", name, text="x" * 2_000)
        assert cluster.order(f"small-{name}").state is OrderState.FINISHED
        assert cluster.order(f"large-{name}").state is OrderState.FAILED
        assert "10000 is the most" in str(cluster.order(f"large-{name}").outcome)


@pytest.mark.parametrize(("count", "state"), [(4_500, OrderState.FINISHED), (BRANCHES_MAX, OrderState.FAILED)])
def test_how_long_a_list_of_numbers_may_be_that_is_a_variable_of_each_branch(count: int, state: OrderState) -> None:
    cluster = PureCluster()
    cluster.deploy(ForkList(Expression("l"), "n", (Finish(Template("")),)), l=Parameter(ParameterType.LIST))
    cluster.add(l=list(range(count)))
    assert cluster.order().state is state
    if state is OrderState.FAILED:
        assert "67108864 is the most" in str(cluster.order().outcome)


def test_the_event_of_a_fork_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "FORK_EVENT_BYTES_MAX", 1_000)
    cluster = PureCluster()
    cluster.deploy(ForkList(Expression("items"), "n", (Sleep(Template("1s")),)), items=Parameter(ParameterType.LIST))
    cluster.add("few", items=["x" * 100] * 5)
    cluster.add("long", items=["x" * 300] * 5)
    cluster.add("many", items=[1] * 200)
    assert cluster.order("few").state is OrderState.FORKED
    for order in ("long", "many"):
        assert cluster.order(order).state is OrderState.FAILED
        assert "1000 is the most" in str(cluster.order(order).outcome)


def test_a_page_is_bounded_in_bytes() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(job(), text=Parameter(ParameterType.STRING))
    for number in range(12):
        cluster.add(f"o{number}", text=LARGE)
    seen: list[str] = []
    after = None
    while True:
        page = ask(cluster, q.ListOrders(after=after))
        assert len(cluster.language.encode(page)) <= 5 << 20
        seen += [view.order.id for view in page.orders]
        if not page.more:
            break
        after = page.orders[-1].order.id
    assert seen == [f"o{number}" for number in range(12)]


def test_only_the_subagent_that_has_the_attempt_can_end_it() -> None:
    cluster = PureCluster(script=lambda _: None, subagents={"s1": "local", "s2": "local"})
    cluster.deploy(job())
    cluster.add()
    start = cluster.running("o")
    report = ReportEnded(start.order, start.added, start.attempt, 5, SUCCEEDED, 0, {})
    cluster.agents["local"].command(SubagentReported(SubagentId("s2"), (report,)), 5)
    assert cluster.agent_state().orders["o"].state is OrderState.PROCESSING  # type: ignore[index]
    cluster.agents["local"].command(SubagentReported(SubagentId("s1"), (report,)), 5)
    cluster.run()
    assert cluster.order().state is OrderState.FINISHED
