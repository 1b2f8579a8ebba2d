"""Branches: what fork and fork_list share: where the branches may run, and how they join. Floor 3."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from engine.base.codec import Value, encode
from engine.base.ids import AgentId, is_variable
from engine.base.limits import EVENTS_BYTES_MAX, VARIABLES_BYTES_MAX
from engine.model.event import Branch, OrderEvent, OrderForked, OrderJoined, OrderMoved
from engine.model.instruction import Instruction
from engine.model.order import Mark, Order, OrderState
from engine.model.outcome import SUCCEEDED, Outcome, OutcomeKind, failed
from engine.model.position import following
from engine.model.workflow import Workflow
from engine.rules.flow import fault
from engine.rules.state import RESERVED_NAMES, View
from engine.rules.statement import ANYWHERE, CONTROLLER, agents_of

FORK_EVENT_BYTES_MAX = EVENTS_BYTES_MAX // 2  # names and elements of all branches of one fork
BRANCHES_NAMED_MAX = 5  # in the sentence of a join
FORK_BYTES_MAX = 64 << 20  # variables of all branches of one fork, encoded; each branch has its parent's


def place_of_branches(workflow: Workflow, step: Instruction) -> AgentId | None:
    """Return where to fork: at the one agent that all branches need, which runs them alone; else the controller."""
    cached: dict[int, AgentId | None] = workflow.__dict__.setdefault("_fork_places", {})
    if id(step) not in cached:
        places = agents_of(workflow, tuple(inner for _, block in step.blocks() for inner in block))
        cached[id(step)] = ANYWHERE if not places else places[0] if len(places) == 1 else CONTROLLER
    return cached[id(step)]


def collect_faults(names: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each name that an order's variable can not have."""
    for name in names:
        if not is_variable(name):
            yield f"{name!r} can not be a variable's name (letters, digits, _)"
        elif name in RESERVED_NAMES:
            yield f"the name {name!r} is the engine's own; choose another"


def fork_events(view: View, order: Order, branches: Sequence[Branch]) -> list[OrderEvent]:
    """Return the events of forking: without a branch the order just goes on.

    Each branch has the order's variables: many branches with large ones are a fault, before they fill the memory.
    """
    if not branches:
        return [OrderMoved(order.id, view.now_ms, following(order.position))]
    event_bytes = sum(size_of(one.variables) + len(one.order) + len(one.branch) for one in branches)
    if event_bytes > FORK_EVENT_BYTES_MAX:
        sentence = f"the names and elements of its {len(branches)} branches take {event_bytes} bytes"
        return fault(view, order, f"{sentence}; {FORK_EVENT_BYTES_MAX} is the most")
    size_bytes = len(branches) * size_of(order.variables) + event_bytes
    if size_bytes > FORK_BYTES_MAX:
        sentence = f"the variables of its {len(branches)} branches would take {size_bytes} bytes"
        return fault(view, order, f"{sentence}; {FORK_BYTES_MAX} is the most")
    return [OrderForked(order.id, view.now_ms, tuple(branches))]


def join_events(
    view: View, order: Order, children: Sequence[Order], collected: Mapping[str, Value], *, join_if_failed: bool
) -> list[OrderEvent]:
    """Return the events of joining, [] while a branch runs or, without `join_if_failed`, while a failed one stays.

    A fork with a cancelled branch is cancelled: a failure for a `try`, unless the whole order is. Only a branch that a
    person can resume stays: not a cancelled or broken one.
    """
    if not all(child.is_terminal for child in children):
        return []
    size_bytes = size_of({**order.variables, **collected}) if collected else 0
    if size_bytes > VARIABLES_BYTES_MAX:
        outcome = failed(
            f"with what it collected its variables take {size_bytes} bytes; {VARIABLES_BYTES_MAX} is the most"
        )
        return [OrderJoined(order.id, view.now_ms, outcome, {})]
    unsuccessful = [child for child in children if child.state is not OrderState.FINISHED]
    if not unsuccessful:
        moved = OrderMoved(order.id, view.now_ms, following(order.position))
        return [OrderJoined(order.id, view.now_ms, SUCCEEDED, dict(collected)), moved]
    may_resume = any(child.state is OrderState.FAILED for child in unsuccessful)
    if may_resume and not join_if_failed and order.mark not in (Mark.CANCEL, Mark.KILL):
        return []
    return [OrderJoined(order.id, view.now_ms, _outcome(unsuccessful), dict(collected))]


def size_of(variables: Mapping[str, Value]) -> int:
    """Return how many bytes variables take, encoded."""
    return len(encode(variables))


def _outcome(unsuccessful: Sequence[Order]) -> Outcome:
    """Return a join's outcome: where it went wrong first, with that branch's own return code and cause."""
    culprits = [child for child in unsuccessful if child.state is not OrderState.CANCELLED]
    named = culprits or unsuccessful
    others = ", ".join(child.branch for child in named[1:BRANCHES_NAMED_MAX])
    others += ", …" if len(named) > BRANCHES_NAMED_MAX else ""
    where = f"in branch {named[0].branch}{f' (and {others})' if others else ''}"
    if not culprits:
        return Outcome(OutcomeKind.CANCELLED, None, where)
    first = culprits[0].outcome or failed("")
    kind = "" if first.kind is OutcomeKind.FAILED else first.kind.replace("_", " ")
    return failed(": ".join(part for part in (where, kind, first.message) if part), first.return_code)
