"""fork: run named branches in parallel and join them. Floor 3."""

from collections.abc import Iterable
from typing import ClassVar

import msgspec

from engine.base.ids import AgentId, child_id
from engine.model.event import Branch, OrderEvent
from engine.model.instruction import Instruction
from engine.model.order import Order
from engine.model.position import inside
from engine.model.workflow import Workflow
from engine.rules.branches import collect_faults, fork_events, join_events, place_of_branches
from engine.rules.state import View
from engine.rules.statement import Statement


class Fork(msgspec.Struct, Statement, frozen=True, array_like=True, tag="fork"):
    """Run branches in parallel, each with a copy of the variables, and go on when all have ended.

    A failed branch fails the fork once all have ended; with `join_if_failed: false` it stays, and the order waits for
    a person. `collect` names variables of the branches: after the join each is an object of branch → value.
    """

    keyword: ClassVar[str] = "fork"
    is_boundary: ClassVar[bool] = True

    fork: dict[str, tuple[Instruction, ...]]
    join_if_failed: bool = True
    collect: tuple[str, ...] = ()

    def blocks(self) -> list[tuple[str, tuple[Instruction, ...]]]:
        return list(self.fork.items())

    def faults(self) -> Iterable[str]:
        return collect_faults(self.collect)

    def place(self, workflow: Workflow) -> AgentId | None:
        return place_of_branches(workflow, self)

    def step(self, view: View, order: Order) -> list[OrderEvent]:
        branches = [Branch(child_id(order.id, name), name, inside(order.position, name)) for name in self.fork]
        return fork_events(view, order, branches)

    def join(self, view: View, order: Order) -> list[OrderEvent]:
        children = view.children(order)
        collected = {
            name: {child.branch: child.variables.get(name) for child in children if child.state == "finished"}
            for name in self.collect
        }
        return join_events(view, order, children, collected, join_if_failed=self.join_if_failed)
