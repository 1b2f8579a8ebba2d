"""What a controller takes from an agent's records, odd ones too: nothing an agent writes may end the controller.

Tests: engine/rules/adoption.py
"""

from typing import Any

import pytest

from engine.base.codec import encode, pack
from engine.base.ids import AgentId, OrderId
from engine.base.problem import Problem
from engine.model import event as e
from engine.model.command import AttachOrder, MarkOrder
from engine.model.item import AgentItem
from engine.model.order import Attachment, Mark, Order, OrderState
from engine.model.outcome import SUCCEEDED, failed
from engine.rules.agent import AgentMachine
from engine.rules.controller import AgentRefused, AgentReported
from engine.rules.instructions.fork import Fork
from tests.rules.steps import job, kinds
from tests.support.pure import PureCluster

LOCAL = AgentId("local")
O = OrderId("o")
BUSY = Problem("Busy", "It is busy.")


@pytest.fixture
def cluster() -> PureCluster:
    """One order that runs at an agent, two branches with it."""
    made = PureCluster(agents=("local", "berlin"), script=lambda _: None)
    made.deploy(job("a"), name="w")
    made.deploy(Fork({"x": (job("b"),), "y": (job("c"),)}), name="forks")
    return made


def report(cluster: PureCluster, *events: e.Event, agent: str = "local") -> list[str]:
    """Let an agent report events; return the kinds of what the controller wrote."""
    before = len(cluster.controller.log)
    packed = pack([cluster.language.encode(event) for event in events])
    assert cluster.controller.command(AgentReported(AgentId(agent), (packed,)), cluster.now_ms) is None
    return kinds(cluster.controller.log[before:])


ODD: dict[str, list[e.Event]] = {
    "a wrong state": [e.OrderWoken(O, 5)],
    "added again": [e.OrderAdded(O, 5, "w@1", {})],  # type: ignore[arg-type]
    "attaching": [e.OrderAttaching(O, 5, AgentId("berlin"))],
    "commanded": [e.OrderCommanded(O, 5, AgentId("nobody"), MarkOrder(O, Mark.KILL))],
    "a root finished": [e.AttemptEnded(O, 5, 1, SUCCEEDED), e.OrderFinished(O, 5, SUCCEEDED)],
    "a root failed": [e.AttemptEnded(O, 5, 1, failed("x")), e.OrderFailed(O, 5, failed("x"))],
    "a root cancelled": [e.AttemptEnded(O, 5, 1, SUCCEEDED), e.OrderCancelled(O, 5)],
    "detached while it runs": [e.OrderDetached(O, 5, LOCAL)],
    "attached twice": [e.OrderAttached(O, 5, LOCAL, Order(id=O, workflow="w@1", added=1, variables={}))],  # type: ignore[arg-type]
    "forked over an order": [
        e.AttemptEnded(O, 5, 1, SUCCEEDED),
        e.OrderForked(O, 5, (e.Branch(OrderId("other"), "x", (0, "x", 0)),)),
    ],
    "forked twice into one": [
        e.AttemptEnded(O, 5, 1, SUCCEEDED),
        e.OrderForked(O, 5, (e.Branch(OrderId("o|x"), "x", (0, "x", 0)), e.Branch(OrderId("o|x"), "x", (0, "x", 0)))),
    ],
    "joined without a fork": [e.OrderJoined(O, 5, SUCCEEDED, {})],
    "marked by nobody": [e.OrderMarked(O, 5, Mark.KILL, None)],
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_event_that_can_not_be_breaks_its_order_and_nothing_else(cluster: PureCluster, odd: list[e.Event]) -> None:
    cluster.add("o")
    cluster.add("other")
    written = report(cluster, *odd, e.AttemptStarted(OrderId("other"), 5, 1, 77))
    assert written[-1] == "AttemptStarted", "the record goes on behind it"
    assert "OrderBroken" in written
    assert cluster.order("o").state is OrderState.BROKEN
    assert cluster.order("o").attachment is Attachment.NONE
    assert cluster.order("other").state is OrderState.PROCESSING
    assert "agent 'local'" in str(cluster.order("o").outcome)
    again = cluster.controller.replayed()
    assert again.orders["o"].state is OrderState.BROKEN


def test_the_agent_is_told_to_stop_an_order_it_told_nonsense_about(cluster: PureCluster) -> None:
    cluster.add("o")
    report(cluster, e.OrderWoken(O, 5))
    cluster.run()
    cluster.end(cluster.running("o"))
    cluster.run()
    assert cluster.agent_state().orders == {}
    assert cluster.controller_state.agents[LOCAL].owed == {}
    assert cluster.order("o").state is OrderState.BROKEN


@pytest.mark.parametrize(
    "late",
    [
        [e.OrderWoken(O, 5)],
        [e.AttemptEnded(O, 5, 1, SUCCEEDED)],
        [e.OrderDetached(O, 5, AgentId("berlin"))],
        [e.OrderBroken(O, 5, BUSY)],
        [
            e.OrderForked(O, 5, (e.Branch(OrderId("o|x"), "x", (0, "x", 0)),)),
            e.OrderFinished(OrderId("o|x"), 5, SUCCEEDED),
        ],
        [e.OrderWoken(OrderId("unknown"), 5)],
    ],
)
def test_what_an_agent_says_of_an_order_that_is_not_its_own_is_left_out(
    cluster: PureCluster, late: list[e.Event]
) -> None:
    cluster.add("o")
    before = cluster.controller.machine.encode_state(cluster.controller_state)
    assert report(cluster, *late, agent="berlin") == []
    assert cluster.controller.machine.encode_state(cluster.controller_state) == before


def test_what_comes_behind_the_detaching_is_left_out(cluster: PureCluster) -> None:
    """A repeated AttachOrder that ran to its end within one turn leaves such records."""
    cluster.add("o")
    snapshot = cluster.order("o")
    written = report(
        cluster,
        e.AttemptEnded(O, 5, 1, failed("x")),
        e.OrderDetached(O, 5, LOCAL),
        e.OrderAttached(O, 5, LOCAL, snapshot),
        e.OrderFaulted(O, 5, failed("y")),
        e.OrderDetached(O, 5, LOCAL),
    )
    assert written == ["AttemptEnded", "OrderDetached", "OrderFailed"]


def test_an_order_on_its_way_accepts_only_its_attaching(cluster: PureCluster) -> None:
    cluster.cut("local")
    cluster.add("o")
    order = cluster.order("o")
    assert order.attachment is Attachment.ATTACHING
    assert report(cluster, e.OrderDetached(O, 5, LOCAL)) == []
    stale = Order(id=O, workflow=order.workflow, added=order.added, variables={}, position=(7,))
    assert report(cluster, e.OrderAttached(O, 5, LOCAL, stale), e.OrderDetached(O, 5, LOCAL)) == []
    assert cluster.order("o").attachment is Attachment.ATTACHING
    assert report(cluster, e.OrderAttached(O, 5, LOCAL, order)) == ["OrderAttached"]


def test_branches_of_an_odd_join_and_odd_branch_names(cluster: PureCluster) -> None:
    cluster.add("f", "forks")
    f, x, y = (OrderId(one) for one in ("f", "f|x", "f|y"))
    assert cluster.order("f").state is OrderState.FORKED
    written = report(
        cluster,
        e.AttemptEnded(x, 5, 1, SUCCEEDED),
        e.OrderFinished(x, 5, SUCCEEDED),
        e.OrderJoined(f, 5, SUCCEEDED, {}),
    )
    assert written == ["AttemptEnded", "OrderFinished", "OrderCommanded", "OrderBroken"]
    assert cluster.order("f").state is OrderState.BROKEN
    assert report(cluster, e.AttemptEnded(y, 5, 1, SUCCEEDED)) == ["AttemptEnded"], "the branch is still the agent's"


@pytest.mark.parametrize(
    "raw",
    [
        encode(["OrderDreamt", "o", 5]),
        encode(["OrderMoved", "o", 5, {}]),
        encode(["OrderMoved", "o", "late", [1]]),
        encode(["AttemptEnded", "o", 5, 1]),
    ],
)
def test_an_event_that_can_not_be_read_breaks_the_order_it_is_about(cluster: PureCluster, raw: bytes) -> None:
    cluster.add("o")
    cluster.add("other")
    good = cluster.language.encode(e.AttemptStarted(OrderId("other"), 5, 1, 77))
    before = len(cluster.controller.log)
    assert cluster.controller.command(AgentReported(LOCAL, (pack([raw, good]),)), cluster.now_ms) is None
    assert kinds(cluster.controller.log[before:]) == ["OrderCommanded", "OrderBroken", "AttemptStarted"]
    assert "can not be read" in str(cluster.order("o").outcome)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        encode(5),
        pack([encode(5)]),
        pack([encode([])]),
        pack([encode(["OrderDreamt"])]),
        pack([encode(["OrderDreamt", "nobody", 5])]),
        pack([encode(["OrderDreamt", ["o"], 5])]),
        pack([encode(["NodeDreamt", 5, "o"])]),
    ],
)
def test_a_record_that_can_not_be_read_and_is_about_nobody_is_left_out(cluster: PureCluster, packed: bytes) -> None:
    cluster.add("o")
    before = len(cluster.controller.log)
    assert cluster.controller.command(AgentReported(LOCAL, (packed,)), cluster.now_ms) is None
    assert cluster.controller.log[before:] == []


def test_a_refused_order_that_is_gone_or_has_ended_changes_nothing(cluster: PureCluster) -> None:
    cluster.add("o")
    order = Order(id=OrderId("gone"), workflow=cluster.order("o").workflow, added=1, variables={})
    running = cluster.order("o")
    for stale in (order, running):
        assert cluster.controller.command(AgentRefused(LOCAL, AttachOrder(stale), BUSY), cluster.now_ms) is None
        assert (
            cluster.controller.command(AgentRefused(AgentId("berlin"), AttachOrder(stale), BUSY), cluster.now_ms)
            is None
        )
    assert cluster.order("o").state is OrderState.PROCESSING
    cluster.cut("local")
    cluster.add("new")
    refused = AgentRefused(LOCAL, AttachOrder(cluster.order("new")), BUSY)
    for _ in range(2):
        assert cluster.controller.command(refused, cluster.now_ms) is None
    assert cluster.order("new").state is OrderState.BROKEN
    assert str(cluster.order("new").outcome) == "failed: It is busy."


def test_a_branch_at_the_agent_where_its_parent_was_before_ends_at_the_controller() -> None:
    """The agent still keeps the detached parent, because the acknowledgement was lost with the link."""
    cluster = PureCluster(agents=("local", "berlin"))
    cluster.deploy(job("a"), Fork({"x": (job("b"),), "y": (job("c", agent="berlin"),)}))
    state = cluster.agent_state()
    cluster.agents["local"].machine.__class__._acknowledged  # noqa: B018
    original: Any = cluster.deliver_down

    def without_acks(agent: str, count: int | None = None) -> bool:
        wire = cluster.wires[agent]
        for message in [one for one in wire.down if isinstance(one, int)]:
            wire.down.remove(message)
        return bool(original(agent, count))

    cluster.deliver_down = without_acks  # type: ignore[method-assign]
    cluster.add()
    assert cluster.order().state is OrderState.FINISHED
    assert set(state.orders) == set(state.detached) == {"o", "o|x"}, "both wait only for the acknowledgement"


def test_an_agent_forgets_what_it_gave_back_once_that_is_acknowledged() -> None:
    cluster = PureCluster()
    cluster.deploy(job())
    for number in range(3):
        cluster.add(f"o{number}")
    assert cluster.agent_state().orders == {}
    assert cluster.agent_state().detached == {}


def test_the_machine_itself_does_not_refuse_records_that_say_nothing() -> None:
    cluster = PureCluster()
    cluster.item(AgentItem(LOCAL, "memory://elsewhere"))
    assert isinstance(cluster.agents["local"].machine, AgentMachine)
    assert report(cluster, e.OrdersForgotten(5, (O,)), e.EpochBegan(5, 1, "x")) == []
