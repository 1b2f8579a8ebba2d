"""Branches: what fork and fork_list share: where the branches may run, and how they join. Floor 3."""

from collections.abc import Mapping, Sequence

from engine.base.codec import Value
from engine.base.ids import AgentId
from engine.model.event import OrderEvent, OrderJoined, OrderMoved
from engine.model.instruction import Instruction
from engine.model.order import Mark, Order, OrderState
from engine.model.outcome import SUCCEEDED, Outcome, OutcomeKind, failed
from engine.model.position import following
from engine.model.workflow import Workflow
from engine.rules.state import View
from engine.rules.statement import ANYWHERE, CONTROLLER, agents_of


def place_of_branches(workflow: Workflow, step: Instruction) -> AgentId | None:
    """Return where to fork: at the one agent that all branches need, which runs them alone; else the controller."""
    cached: dict[int, AgentId | None] = workflow.__dict__.setdefault("_fork_places", {})
    if id(step) not in cached:
        places = agents_of(workflow, tuple(inner for _, block in step.blocks() for inner in block))
        cached[id(step)] = ANYWHERE if not places else places[0] if len(places) == 1 else CONTROLLER
    return cached[id(step)]


def join_events(
    view: View, order: Order, children: Sequence[Order], collected: Mapping[str, Value], *, join_if_failed: bool
) -> list[OrderEvent]:
    """Return the events of joining, [] while a branch runs or, without `join_if_failed`, while a failed one stays.

    A fork with a cancelled branch is cancelled: a failure for a `try`, unless the whole order is.
    """
    if not all(child.is_terminal for child in children):
        return []
    unsuccessful = [child for child in children if child.state is not OrderState.FINISHED]
    if not unsuccessful:
        moved = OrderMoved(order.id, view.now_ms, following(order.position))
        return [OrderJoined(order.id, view.now_ms, SUCCEEDED, dict(collected)), moved]
    if not join_if_failed and order.mark not in (Mark.CANCEL, Mark.KILL):
        return []
    return [OrderJoined(order.id, view.now_ms, _outcome(unsuccessful), dict(collected))]


def _outcome(unsuccessful: Sequence[Order]) -> Outcome:
    names = ", ".join(child.branch for child in unsuccessful[:5]) + (", …" if len(unsuccessful) > 5 else "")
    first = unsuccessful[0].outcome
    if all(child.state is OrderState.CANCELLED for child in unsuccessful):
        return Outcome(OutcomeKind.CANCELLED, None, f"cancelled in branch {names}")
    return failed(f"failed in branch {names}: {first.message or first.kind if first else ''}")
