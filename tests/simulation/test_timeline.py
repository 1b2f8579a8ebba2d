"""The timeline: one line per event, written when asked for, bounded."""

from engine.base.ids import AgentId, OrderId, SubagentId
from engine.model import event as events
from engine.model.item import AgentItem
from engine.model.order import Order
from engine.model.workflow import WorkflowId
from engine.simulation.timeline import Timeline, brief


class Clock:
    def __init__(self) -> None:
        self.now_ns = 5_000_000_000

    def __call__(self) -> int:
        return self.now_ns


def test_lines_begin_with_the_time_since_the_beginning_and_the_node() -> None:
    clock = Clock()
    timeline = Timeline(clock)
    timeline.note("a#1", "crash")
    clock.now_ns += 1_234_567_000
    timeline.note("controller", events.OrderStarted(OrderId("o"), 77))
    assert list(timeline.lines()) == [
        "    0.000000 a#1            crash",
        "    1.234567 controller     OrderStarted o",
    ]
    assert len(timeline) == 2


def test_the_oldest_lines_are_forgotten_visibly() -> None:
    timeline = Timeline(Clock(), entries_max=2)
    for number in range(5):
        timeline.note("a", str(number))
    assert [line.split()[-1] for line in timeline.lines()] == ["forgotten", "3", "4"]
    assert next(timeline.lines()) == "… 3 earlier lines are forgotten"


def test_a_struct_is_brief_without_instants_and_defaults_and_long_values_are_cut() -> None:
    assigned = events.AttemptAssigned(OrderId("o"), 5, (0,), 3, SubagentId("s"))
    assert brief(assigned) == "AttemptAssigned o position=(0,) attempt=3 s"
    assert brief(events.ItemChanged(5, AgentItem(AgentId("a"), "sim://a"))) == "ItemChanged item=<a>"
    order = Order(id=OrderId("o"), workflow=WorkflowId("w@1"), added=1, variables={})
    assert brief(events.OrderAttached(OrderId("o"), 5, AgentId("a"), order)) == "OrderAttached o a snapshot=<o>"
    long = events.OrderAdded(OrderId("o"), 5, WorkflowId("w@1"), {"x": "y" * 500})
    assert brief(long).endswith("…")
    assert len(brief(long)) < 120
