"""fork_list: run the same steps once for each element of a list, in parallel, and join. Floor 3."""

from collections.abc import Iterable
from typing import ClassVar

import msgspec

from engine.base.ids import AgentId, child_id
from engine.base.limits import BRANCHES_MAX
from engine.model.event import Branch, OrderEvent
from engine.model.expression import EvaluationError, Expression
from engine.model.instruction import Instruction
from engine.model.order import Order
from engine.model.position import inside
from engine.model.workflow import Workflow
from engine.rules.branches import collect_faults, fork_events, join_events, place_of_branches
from engine.rules.flow import fault
from engine.rules.state import View
from engine.rules.statement import Statement


class ForkList(msgspec.Struct, Statement, frozen=True, array_like=True, tag="fork_list", rename={"as_": "as"}):
    """Run `steps` in parallel for each element of a list, which the branch finds in the variable `as`.

    `collect` names variables of the branches: after the join each is a list in the order of the elements (null for a
    branch that failed). `join_if_failed` as in fork.
    """

    keyword: ClassVar[str] = "fork_list"
    is_boundary: ClassVar[bool] = True

    fork_list: Expression
    as_: str
    steps: tuple[Instruction, ...]
    join_if_failed: bool = True
    collect: tuple[str, ...] = ()

    def blocks(self) -> list[tuple[str, tuple[Instruction, ...]]]:
        return [("steps", self.steps)]

    def faults(self) -> Iterable[str]:
        return collect_faults((self.as_, *self.collect))

    def place(self, workflow: Workflow) -> AgentId | None:
        return place_of_branches(workflow, self)

    def step(self, view: View, order: Order) -> list[OrderEvent]:
        try:
            elements = self.fork_list.evaluate(view.scope(order, self.fork_list.names))
        except EvaluationError as error:
            return fault(view, order, f"the list of a fork_list: {error}")
        if not isinstance(elements, list):
            return fault(view, order, f"the list of a fork_list is a {type(elements).__name__}, not a list")
        if len(elements) > BRANCHES_MAX:
            return fault(view, order, f"a fork_list of {len(elements)} branches; {BRANCHES_MAX} is the most")
        first = inside(order.position, "steps")
        branches = [
            Branch(child_id(order.id, str(number)), str(number), first, {self.as_: element})
            for number, element in enumerate(elements)
        ]
        return fork_events(view, order, branches)

    def join(self, view: View, order: Order) -> list[OrderEvent]:
        children = view.children(order)
        collected = {
            name: [child.variables.get(name) if child.state == "finished" else None for child in children]
            for name in self.collect
        }
        return join_events(view, order, children, collected, join_if_failed=self.join_if_failed)
