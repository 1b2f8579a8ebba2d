"""Every operator command: what it writes, why it is refused, and that sending it twice does no harm.

Tests: engine/rules/commands/add_order.py, engine/rules/commands/add_orders.py, engine/rules/commands/cancel_order.py
Tests: engine/rules/commands/change_item.py, engine/rules/commands/delete_order.py, engine/rules/operator_command.py
Tests: engine/rules/commands/deploy_workflow.py, engine/rules/commands/release_attempt.py
Tests: engine/rules/commands/resume_order.py, engine/rules/commands/suspend_order.py
"""

from typing import Any

import pytest

from engine.base.ids import AgentId, BundleId, SubagentId
from engine.base.limits import ORDERS_PER_BULK_MAX
from engine.language import standard_language
from engine.model.expression import Template
from engine.model.item import AgentItem, BundleItem, SubagentItem
from engine.model.job import OnLost
from engine.model.language import encode_leaves
from engine.model.order import OrderState
from engine.model.outcome import failed, unknown
from engine.model.workflow import Parameter, ParameterType, Workflow
from engine.rules import controller_state
from engine.rules.commands import add_order, add_orders, deploy_workflow
from engine.rules.commands.add_order import AddOrder
from engine.rules.commands.add_orders import AddOrders
from engine.rules.commands.cancel_order import CancelOrder
from engine.rules.commands.change_item import ChangeItem
from engine.rules.commands.delete_order import DeleteOrder
from engine.rules.commands.deploy_workflow import DeployWorkflow
from engine.rules.commands.release_attempt import ReleaseAttempt
from engine.rules.commands.resume_order import ResumeOrder
from engine.rules.commands.suspend_order import SuspendOrder
from engine.rules.controller import ControllerMachine
from engine.rules.instructions.fork import Fork
from engine.rules.instructions.sleep import Sleep
from tests.rules.steps import job, kinds
from tests.support.pure import PureCluster

YEAR = Parameter(ParameterType.INTEGER)


@pytest.fixture
def cluster() -> PureCluster:
    """A workflow `w` that waits an hour, one `j` whose job runs until it is ended, one `f` with two branches."""
    made = PureCluster(script=lambda _: None)
    made.deploy(Sleep(Template("1h")))
    made.deploy(job(), name="j")
    made.deploy(Fork({"x": (job(),), "y": (job(),)}), name="f")
    made.deploy(Sleep(Template("1h")), name="p", year=YEAR)
    return made


def refusal(cluster: PureCluster, command: Any) -> str:
    """Return the code of a refusal; nothing was written because of it."""
    before = len(cluster.controller.records)
    problem = cluster.command(command)
    assert len(cluster.controller.records) == before
    return "" if problem is None else problem.code


def written(cluster: PureCluster, command: Any) -> list[str]:
    """Return what the controller wrote because of a command, and that the same again is harmless."""
    before = len(cluster.controller.log)
    assert cluster.command(command) is None
    return kinds(cluster.controller.log[before:])


def test_adding(cluster: PureCluster) -> None:
    assert written(cluster, AddOrder("o", "w")) == ["OrderAdded", "OrderStarted", "OrderWaiting"]
    assert written(cluster, AddOrder("o", "w")) == []
    assert written(cluster, AddOrder("late", "w", scheduled_ms=9_000, priority=3)) == ["OrderAdded"]
    assert cluster.order("late").priority == 3
    assert written(cluster, AddOrder("past", "w", scheduled_ms=5)) == ["OrderAdded", "OrderStarted", "OrderWaiting"]
    assert cluster.order("o").added == 10
    assert cluster.order("past").added == 12


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (AddOrder("", "w"), "BadOrderId"),
        (AddOrder("a b", "w"), "BadOrderId"),
        (AddOrder("a/b", "w"), "BadOrderId"),
        (AddOrder("a|b", "w"), "BadOrderId"),
        (AddOrder("a\n", "w"), "BadOrderId"),
        (AddOrder("a" * 251, "w"), "BadOrderId"),
        (AddOrder("-a", "w"), "BadOrderId"),
        (AddOrder("o", "none"), "UnknownWorkflow"),
        (AddOrder("o", "w", version="none"), "UnknownWorkflow"),
        (AddOrder("o", "p"), "MissingParameter"),
        (AddOrder("o", "p", {"year": "2015"}), "WrongParameter"),
        (AddOrder("o", "p", {"year": 2015, "jear": 1}), "UnknownParameter"),
        (AddOrder("o", "w", {"year": 2015}), "UnknownParameter"),
        (AddOrder("known", "j"), "OrderExists"),
    ],
)
def test_what_is_not_added(cluster: PureCluster, command: AddOrder, code: str) -> None:
    cluster.add("known")
    assert refusal(cluster, command) == code


@pytest.mark.parametrize("order", ["o", "Grüße-2026", "a.b:c#d@e+f=g,h-i", "数", "a" * 250, "_", "0"])
def test_ids_that_people_like_go_the_whole_way(order: str) -> None:
    cluster = PureCluster()
    cluster.deploy(job(), Fork({"x.y-z": (job(),)}))
    cluster.add(order)
    assert cluster.order(order).state is OrderState.FINISHED
    assert cluster.controller_state.agents[AgentId("local")].owed == {}


def test_the_number_of_orders_is_bounded(cluster: PureCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(add_order, "ORDERS_MAX", 2)
    monkeypatch.setattr(add_orders, "ORDERS_MAX", 2)
    assert refusal(cluster, AddOrders(tuple(AddOrder(f"o{number}", "w") for number in range(3)))) == "BulkRefused"
    cluster.add("a")
    cluster.add("b")
    assert refusal(cluster, AddOrder("c", "w")) == "TooManyOrders"


def test_a_bulk_is_all_or_nothing(cluster: PureCluster) -> None:
    two = AddOrders((AddOrder("a", "w"), AddOrder("b", "w")))
    assert written(cluster, two) == [
        "OrderAdded",
        "OrderAdded",
        *["OrderStarted", "OrderStarted"],
        *["OrderWaiting"] * 2,
    ]
    assert written(cluster, two) == []
    assert written(cluster, AddOrders((AddOrder("b", "w"), AddOrder("c", "w")))) == [
        "OrderAdded",
        "OrderStarted",
        "OrderWaiting",
    ]
    assert refusal(cluster, AddOrders((AddOrder("d", "w"), AddOrder("e", "none")))) == "BulkRefused"
    assert written(cluster, AddOrders(())) == []
    many = AddOrders(tuple(AddOrder(f"o{number}", "w") for number in range(ORDERS_PER_BULK_MAX + 1)))
    assert refusal(cluster, many) == "BulkTooLarge"


def test_suspending_and_resuming(cluster: PureCluster) -> None:
    cluster.add()
    assert written(cluster, SuspendOrder("o")) == ["OrderMarked", "OrderSuspended"]
    assert written(cluster, SuspendOrder("o")) == []
    assert written(cluster, ResumeOrder("o")) == ["OrderMarked", "OrderResumed"]
    assert cluster.order().state is OrderState.WAITING
    assert refusal(cluster, ResumeOrder("o")) == "NotSuspended"
    assert refusal(cluster, SuspendOrder("none")) == refusal(cluster, ResumeOrder("none")) == "UnknownOrder"
    cluster.command(CancelOrder("o"))
    assert refusal(cluster, SuspendOrder("o")) == "OrderEnded"
    assert refusal(cluster, ResumeOrder("o")) == "NotSuspended"


def test_resuming_a_failed_order(cluster: PureCluster) -> None:
    cluster.add("o", "j")
    cluster.end(cluster.running("o"), failed("no"))
    assert cluster.order().state is OrderState.FAILED
    assert written(cluster, ResumeOrder("o"))[:3] == ["OrderResumed", "OrderMarked", "OrderAttaching"]
    assert refusal(cluster, ResumeOrder("o")) == "NotSuspended"


def test_cancelling(cluster: PureCluster) -> None:
    cluster.add()
    assert written(cluster, CancelOrder("o")) == ["OrderMarked", "OrderCancelled"]
    assert refusal(cluster, CancelOrder("o")) == "OrderEnded"
    assert refusal(cluster, CancelOrder("none")) == "UnknownOrder"
    cluster.add("k", "j")
    assert written(cluster, CancelOrder("k", kill=True)) == ["OrderMarked", "OrderCommanded", "OrderMarked"]
    assert written(cluster, CancelOrder("k")) == [], "a kill is not taken back"


def test_releasing(cluster: PureCluster) -> None:
    cluster.add("o", "j")
    assert refusal(cluster, ReleaseAttempt("o", OnLost.RERUN)) == "NotVouchedFor"
    cluster.end(cluster.running("o"), unknown("gone"))
    assert refusal(cluster, ReleaseAttempt("o", OnLost.HOLD)) == "BadChoice"
    assert refusal(cluster, ReleaseAttempt("none", OnLost.FAIL)) == "UnknownOrder"
    assert written(cluster, ReleaseAttempt("o", OnLost.RERUN))[:2] == ["OrderCommanded", "AttemptReleased"]
    assert refusal(cluster, ReleaseAttempt("o", OnLost.RERUN)) == "NotVouchedFor", "it runs again"
    cluster.add("f", "f")
    assert refusal(cluster, ReleaseAttempt("f", OnLost.RERUN)) == "NothingHeld"


def test_deleting(cluster: PureCluster) -> None:
    cluster.add("o", "f")
    assert refusal(cluster, DeleteOrder("o")) == "StillAlive"
    assert refusal(cluster, DeleteOrder("o|x")) == "IsABranch"
    assert refusal(cluster, DeleteOrder("none")) == "UnknownOrder"
    for branch in ("o|x", "o|y"):
        cluster.end(cluster.running(branch))
    assert written(cluster, DeleteOrder("o")) == ["OrdersDeleted"]
    assert refusal(cluster, DeleteOrder("o")) == "UnknownOrder"
    assert "o" not in cluster.controller_state.orders
    assert cluster.controller_state.terminated == {}
    assert written(cluster, AddOrder("o", "w"))[0] == "OrderAdded"


def test_the_oldest_of_too_many_ended_orders_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.rules.controller.DELETE_AT_ONCE", 3)

    def few(machine: Any) -> Any:
        if isinstance(machine, ControllerMachine):
            machine.terminated_max = 2
        return machine

    cluster = PureCluster(machines=few)
    cluster.deploy(job())
    for number in range(6):
        cluster.add(f"o{number}")
    assert list(cluster.controller_state.orders) == ["o3", "o4", "o5"]
    assert list(cluster.controller_state.terminated) == ["o3", "o4", "o5"]
    assert isinstance(cluster.controller_state, controller_state.ControllerState)


def test_deploying(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = PureCluster()
    first = Workflow("w", "1", (job("a"),))
    second = Workflow("w", "2", (job("b"),))
    assert written(cluster, DeployWorkflow(first)) == ["WorkflowDeployed"]
    assert written(cluster, DeployWorkflow(first)) == []
    assert written(cluster, DeployWorkflow(second)) == ["WorkflowDeployed"]
    assert cluster.controller_state.newest == {"w": "w@2"}
    assert written(cluster, DeployWorkflow(first)) == ["WorkflowDeployed"], "it is the newest again"
    assert cluster.controller_state.newest == {"w": "w@1"}
    assert list(cluster.controller_state.workflows) == ["w@1", "w@2"]
    assert refusal(cluster, DeployWorkflow(Workflow("w", "", ()))) == "NoVersion"
    assert refusal(cluster, DeployWorkflow(Workflow("w", "2", (job("other"),)))) == "VersionExists"
    assert refusal(cluster, DeployWorkflow(Workflow("a b", "1", ()))) == "WorkflowFaulty"
    monkeypatch.setattr(deploy_workflow, "WORKFLOWS_MAX", 2)
    assert refusal(cluster, DeployWorkflow(Workflow("w", "3", ()))) == "TooManyWorkflows"
    assert refusal(cluster, DeployWorkflow(first)) == ""


def test_changing_items() -> None:
    cluster = PureCluster(agents=("local", "berlin"))
    agent = AgentItem(AgentId("rome"), "memory://rome", 7)
    assert written(cluster, ChangeItem(agent)) == ["ItemChanged"]
    assert written(cluster, ChangeItem(agent)) == []
    subagent = SubagentItem(SubagentId("r1"), AgentId("rome"), "memory://r1")
    assert written(cluster, ChangeItem(subagent)) == ["ItemChanged"]
    assert written(cluster, ChangeItem(subagent)) == []
    bundle = BundleItem(BundleId("b"), AgentId("rome"), {SubagentId("r1"): 1})
    assert written(cluster, ChangeItem(bundle)) == ["ItemChanged"]
    assert written(cluster, ChangeItem(bundle)) == []
    assert refusal(cluster, ChangeItem(AgentItem(AgentId("a b"), "memory://x"))) == "BadItemName"
    assert refusal(cluster, ChangeItem(AgentItem(AgentId("rome"), "memory://rome", -1))) == "BadLimit"
    assert (
        refusal(cluster, ChangeItem(SubagentItem(SubagentId("r1"), AgentId("rome"), "memory://r1", -5))) == "BadLimit"
    )
    assert refusal(cluster, ChangeItem(SubagentItem(SubagentId("s"), AgentId("none"), "memory://s"))) == "UnknownAgent"
    assert (
        refusal(cluster, ChangeItem(SubagentItem(SubagentId("r1"), AgentId("local"), "memory://s")))
        == "ForeignSubagent"
    )
    foreign = BundleItem(BundleId("b"), AgentId("rome"), {SubagentId("local-1"): 1})
    assert refusal(cluster, ChangeItem(foreign)) == "UnknownSubagent"
    assert [type(item).__name__ for item in cluster.controller_state.items_for(AgentId("rome"))] == [
        "AgentItem",
        "SubagentItem",
        "BundleItem",
    ]


def test_an_item_is_told_to_its_own_agent_only() -> None:
    cluster = PureCluster(agents=("local", "berlin"))
    before = len(cluster.agents["berlin"].log)
    assert cluster.decide(ChangeItem(SubagentItem(SubagentId("s"), AgentId("local"), "memory://s"))) is None
    told = [effect.agent for effect in cluster.controller.effects if hasattr(effect, "agent")]
    assert told == ["local"]
    cluster.run()
    assert len(cluster.agents["berlin"].log) == before
    assert SubagentId("s") in cluster.agent_state().subagents


def test_orders_that_wait_for_an_agent_go_on_when_it_is_added() -> None:
    cluster = PureCluster(script=lambda _: None)
    cluster.deploy(job(agent="rome"))
    cluster.add()
    assert "there is no agent 'rome'" in str(cluster.order().obstacle)
    assert written(cluster, ChangeItem(AgentItem(AgentId("rome"), "memory://rome"))) == [
        "ItemChanged",
        "OrderAttaching",
    ]


def test_every_command_names_a_right_and_is_known_by_its_keyword() -> None:
    commands = standard_language().commands
    assert {one.keyword for one in commands} == {
        *("add_order", "add_orders", "suspend_order", "resume_order", "cancel_order", "release_attempt"),
        *("delete_order", "deploy_workflow", "change_item"),
    }
    assert all("." in one.right for one in commands)


@pytest.mark.parametrize(
    "url", ["", "x", "memory:", "memory://", "://x", "memory://a b", " memory://a", "memory://a\n"]
)
def test_an_address_that_is_none_is_refused(cluster: PureCluster, url: str) -> None:
    assert refusal(cluster, ChangeItem(AgentItem(AgentId("rome"), url))) == "BadUrl"
    assert refusal(cluster, ChangeItem(SubagentItem(SubagentId("s"), AgentId("local"), url))) == "BadUrl"


def test_a_long_address_is_refused_and_shown_in_part(cluster: PureCluster) -> None:
    problem = cluster.command(ChangeItem(AgentItem(AgentId("rome"), f"memory://{'a' * 2_000}")))
    assert problem is not None
    assert problem.code == "BadUrl"
    assert len(problem.sentence) < 400


@pytest.mark.parametrize("url", ["nosuch://x", "tcp://[::1]:4443", "unix:///run/a", "h2+tls://Größe.example:1/a?b"])
def test_what_a_scheme_means_only_the_node_knows(cluster: PureCluster, url: str) -> None:
    assert written(cluster, ChangeItem(AgentItem(AgentId("rome"), url))) == ["ItemChanged"]


def test_a_workflow_is_bounded() -> None:
    cluster = PureCluster()
    steps = (job(),)
    bare = len(encode_leaves(Workflow("w", "1", steps, description="x" * 70_000))) - 70_000
    fits = Workflow("w", "1", steps, description="x" * (deploy_workflow.WORKFLOW_BYTES_MAX - bare))
    assert written(cluster, DeployWorkflow(fits)) == ["WorkflowDeployed"]
    beyond = Workflow("w", "2", steps, description=fits.description + "x")
    problem = cluster.command(DeployWorkflow(beyond))
    assert problem is not None
    assert problem.code == "WorkflowTooLarge"
    assert problem.arguments["size_bytes"] == deploy_workflow.WORKFLOW_BYTES_MAX + 1
    assert "4194304 is the most" in problem.sentence
