"""Statement: the base of every instruction's rule. Floor 3.

* A leaf answers: what comes next (`step`), where it must run (`place`), what happens when its nested block was left or
  failed (`leave`, `caught`), and, where it forks, when its branches join (`join`).
* Every answer is a list of events; an empty one means: wait.
"""

from collections.abc import Iterable
from typing import ClassVar

from engine.base.ids import AgentId
from engine.model.event import OrderEvent, OrderMoved, OrderWoken
from engine.model.instruction import Instruction
from engine.model.order import Order
from engine.model.position import Position, following
from engine.model.workflow import Workflow
from engine.rules.state import View

ANYWHERE = None
CONTROLLER = AgentId("")


class Statement(Instruction):
    """What an instruction decides. The defaults fit a step that runs anywhere and simply goes on."""

    is_boundary: ClassVar[bool] = False  # its nested blocks are run by branches: orders of their own

    def step(self, view: View, order: Order) -> list[OrderEvent]:
        """Return the events of taking this step; the order is READY (or EXPECTING, to be asked again)."""
        return [OrderMoved(order.id, view.now_ms, following(order.position))]

    def faults(self) -> Iterable[str]:
        """Return what is wrong with this step, a sentence each; asked once, before a workflow is accepted."""
        return ()

    def place(self, workflow: Workflow) -> AgentId | None:
        """Return where it must be taken: an agent, CONTROLLER, or ANYWHERE."""
        return ANYWHERE

    def woken(self, view: View, order: Order) -> list[OrderEvent]:
        """Return the events when a waiting at this step is over."""
        return [OrderWoken(order.id, view.now_ms)]

    def leave(self, view: View, order: Order, outer: Position) -> list[OrderEvent]:
        """Return the events when an order ran past the end of a block nested in this step, which stands at `outer`."""
        return [OrderMoved(order.id, view.now_ms, following(outer))]

    def caught(self, view: View, order: Order, outer: Position, branch: str) -> list[OrderEvent] | None:
        """Return the events that handle a failure inside the nested block `branch`, or None to let it pass."""
        return None

    def join(self, view: View, order: Order) -> list[OrderEvent]:
        """Return the events of a forked order whose branches may all have ended."""
        return []


def agents_of(workflow: Workflow, steps: tuple[Instruction, ...]) -> list[AgentId]:
    """Return the places the steps and all nested ones need, each once, in the order of the text."""
    found: dict[AgentId, None] = {}
    pending = list(reversed(steps))
    while pending:
        step = pending.pop()
        nested = [inner for _, block in step.blocks() for inner in block]
        if nested:
            pending.extend(reversed(nested))
        elif isinstance(step, Statement) and (place := step.place(workflow)) is not ANYWHERE:
            found[place] = None
    return list(found)
