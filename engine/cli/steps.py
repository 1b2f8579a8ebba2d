"""The step table: what one order and its branches have done, made of events alone. Floor 11.

* Pure: `apply` changes the table by one event and nothing else; events of other orders leave it as it is.
* A strand is an order or branch with its steps in the order in which they began; a fork's step holds the strands of
  its branches. A branch that begins again (a fork inside a retry) is a new strand under the same order id.
* Events of a strand that the table does not know are passed over, so a table may begin in the middle (`seed`).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from engine.base.ids import OrderId
from engine.model import event as events
from engine.model.command import ReleaseHeld
from engine.model.event import Branch, Event
from engine.model.order import Mark, Order, OrderState
from engine.model.outcome import Outcome, OutcomeKind
from engine.model.position import FIRST, ROUND_MARK, Position
from engine.model.workflow import Workflow
from engine.rules.instructions.job import Execute
from engine.rules.instructions.sleep import Sleep

RUNNING = "running"
SLEEPING = "sleeping"
DONE = "done"  # a sleep that was slept
SLEEP_CAUSE = "sleeping"  # of a waiting that is a sleep, not the delay before a retry's round that begins with one
OPEN = (RUNNING, SLEEPING)


class Step(msgspec.Struct, kw_only=True):
    """One line of the table. Instants in milliseconds since 1970 UTC, 0 where not known (yet).

    `kind`: job (one attempt) · sleep · fork · fault (a step that failed without an attempt).
    `state`: running, sleeping, done, or the kind of the outcome.
    """

    kind: str
    label: str
    order: OrderId
    position: Position
    state: str
    attempt: int = 0
    subagent: str = ""
    started_ms: int = 0
    ended_ms: int = 0
    return_code: int | None = None
    message: str = ""
    strands: "list[Strand]" = []

    @property
    def is_open(self) -> bool:
        return self.state in OPEN


class Strand(msgspec.Struct, kw_only=True, eq=False):
    """An order or branch: where it is and what it did. `added` is the index under which its attempts are known."""

    order: OrderId
    added: int
    title: str = ""  # of a branch: its name, and the element it was made for
    path: str = ""  # branch names from the root down, "" for the root
    state: OrderState = OrderState.FRESH
    position: Position = FIRST
    mark: Mark = Mark.NONE
    is_held: bool = False
    is_released: bool = False  # held, and a person has spoken; its agent is still to obey
    reason: str = ""  # why it waits
    until_ms: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    attempt: int = 0
    outcome: Outcome | None = None
    steps: list[Step] = []

    @property
    def is_terminal(self) -> bool:
        return self.ended_ms > 0

    @property
    def awaits_word(self) -> bool:
        """Tell whether it is held and nobody has released it yet."""
        return self.is_held and not self.is_released


class StepTable:
    """The strands of one order, by order id."""

    def __init__(self, root: OrderId, workflow: Workflow) -> None:
        self.workflow = workflow
        self.root = Strand(order=root, added=0)
        self.strands: dict[OrderId, Strand] = {root: self.root}

    def apply(self, event: Event, index: int) -> Strand | None:
        """Change the table by an event of the record `index`; return the strand it is about, None if not ours."""
        order: OrderId | None = getattr(event, "order", None)
        strand = None if order is None else self.strands.get(order)
        if strand is None:
            return None
        if isinstance(event, events.OrderAdded):
            strand = self._begin(event, index)
        elif (rule := _RULES.get(type(event))) is not None:
            rule(self, strand, event)
        return strand

    def seed(self, orders: Iterable[Order]) -> None:
        """Begin in the middle: take the states of the root and its branches, parents first; their steps are unknown."""
        for order in orders:
            parent = None if order.parent is None else self.strands.get(order.parent)
            if order.id != self.root.order:
                if parent is None:
                    continue
                fork = parent.steps[-1] if parent.steps and parent.steps[-1].kind == "fork" else self.begin_fork(parent)
                fork.strands.append(self.begin_branch(parent, Branch(order.id, order.branch, order.position)))
            self._seed(self.strands[order.id], order)

    def walk(self) -> Iterator[Strand]:
        """Yield all strands that are or were, each before its branches."""
        pending = [self.root]
        while pending:
            strand = pending.pop()
            yield strand
            pending.extend(inner for step in reversed(strand.steps) for inner in reversed(step.strands))

    def steps(self) -> list[Step]:
        """Return all steps in the order in which they began."""
        found = [step for strand in self.walk() for step in strand.steps]
        return sorted(found, key=lambda step: step.started_ms)

    def held(self) -> list[Strand]:
        """Return the strands that wait for a person's word about a lost attempt."""
        return [strand for strand in self.strands.values() if strand.awaits_word and not strand.is_terminal]

    def stays_failed(self) -> list[Strand]:
        """Return the failed branches for which their fork waits, because it says `join_if_failed: false`."""
        return [
            inner
            for strand in self.strands.values()
            if strand.state is OrderState.FORKED and not self._joins_failed(strand)
            for inner in strand.steps[-1].strands
            if inner.state is OrderState.FAILED
        ]

    def is_still(self, excused: Iterable[tuple[OrderId, int]] = ()) -> bool:
        """Tell whether nothing of a live order can go on by itself.

        `excused`: held or failed strands (order, attempt) that a command is about to set in motion.
        """
        if self.root.is_terminal or self.root.mark in (Mark.CANCEL, Mark.KILL):
            return False  # what is being cancelled ends by itself, held and failed branches with it
        skip = frozenset(excused)
        return all(strand.is_terminal or self._stands(strand, skip) for strand in self._present())

    def instruction(self, position: Position) -> Any:
        """Return the instruction at a position, None where there is none."""
        try:
            return self.workflow.at(position)
        except LookupError:
            return None

    def label(self, position: Position) -> str:
        """Name a step: a job by its name, everything else by its keyword."""
        step = self.instruction(position)
        if step is None:
            return "end"
        if isinstance(step, Execute):
            return step.job
        return f"sleep {step.sleep}" if isinstance(step, Sleep) else str(step.keyword)

    def begin_fork(self, strand: Strand, at_ms: int = 0) -> Step:
        """Append the step of a fork, without branches yet."""
        label = self.label(strand.position)
        step = Step(
            kind="fork", label=label, order=strand.order, position=strand.position, state=RUNNING, started_ms=at_ms
        )
        strand.steps.append(step)
        return step

    def begin_branch(self, parent: Strand, branch: Branch, at_ms: int = 0) -> Strand:
        """Make a branch's strand and return it; from now on it is the one with this order id."""
        name, shown = branch.branch, ", ".join(f"{key}={_short(value)}" for key, value in branch.variables.items())
        strand = self.strands[branch.order] = Strand(
            order=branch.order,
            added=parent.added,
            title=f"{name} ({shown})" if shown else name,
            path=f"{parent.path}/{name}" if parent.path else name,
            position=branch.position,
            state=OrderState.READY,
            started_ms=at_ms,
            attempt=parent.attempt,
        )
        return strand

    # --- inside -------------------------------------------------------------------------------------------------------

    def _begin(self, event: events.OrderAdded, index: int) -> Strand:
        """Begin the table anew: an id may be used again once its order was deleted."""
        self.root = Strand(order=event.order, added=index, started_ms=event.at_ms, until_ms=event.scheduled_ms)
        self.strands = {event.order: self.root}
        return self.root

    def _present(self) -> Iterator[Strand]:
        """Yield the root and the branches of forks that have not joined."""
        pending = [self.root]
        while pending:
            strand = pending.pop()
            yield strand
            if strand.state is OrderState.FORKED and strand.steps:
                pending.extend(strand.steps[-1].strands)

    def _stands(self, strand: Strand, excused: frozenset[tuple[OrderId, int]]) -> bool:
        if strand.is_held:
            return strand.awaits_word and (strand.order, strand.attempt) not in excused
        if strand.state is OrderState.SUSPENDED:
            return self.root.mark is Mark.SUSPEND  # without it the branches' own marks are being taken away
        if strand.state is not OrderState.FORKED or not strand.steps:
            return False
        branches = strand.steps[-1].strands
        if not all(inner.is_terminal for inner in branches):
            return True
        failed = [inner for inner in branches if inner.state is OrderState.FAILED]
        if not failed or self._joins_failed(strand):
            return False
        return all((inner.order, inner.attempt) not in excused for inner in failed)

    def _joins_failed(self, strand: Strand) -> bool:
        return bool(getattr(self.instruction(strand.position), "join_if_failed", True))

    def _seed(self, strand: Strand, order: Order) -> None:
        strand.added, strand.position, strand.state, strand.mark = order.added, order.position, order.state, order.mark
        strand.attempt, strand.outcome, strand.is_held = order.attempt, order.outcome, order.is_held
        strand.started_ms, strand.until_ms, strand.reason = order.created_ms, order.until_ms, order.cause
        if order.obstacle is not None:
            strand.reason = str(order.obstacle)
        if order.is_terminal:
            strand.ended_ms = order.changed_ms
        if order.state is OrderState.PROCESSING or order.is_held:
            step = _attempt(self, strand, order.attempt, order.subagent or "", order.changed_ms)
            if order.is_held:
                step.state = OutcomeKind.UNKNOWN


def place_text(strand: Strand) -> str:
    """Name a strand in one line of text: `order`, or `order/` and the branches down to it."""
    return f"order/{strand.path}" if strand.path else "order"


def round_of(position: Position) -> int:
    """Return the number of the innermost retry's round, 0 outside of any."""
    rounds = [part.partition(ROUND_MARK)[2] for part in position if isinstance(part, str) and ROUND_MARK in part]
    return int(rounds[-1]) if rounds else 0


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 30 else f"{text[:29]}…"


# --- one rule for each kind of event ----------------------------------------------------------------------------------


def _attempt(table: StepTable, strand: Strand, attempt: int, subagent: str, at_ms: int) -> Step:
    """Return the step of an attempt, which begins if it is not there."""
    for step in reversed(strand.steps):
        if step.attempt == attempt and step.kind == "job":
            return step
    step = Step(
        kind="job",
        label=table.label(strand.position),
        order=strand.order,
        position=strand.position,
        state=RUNNING,
        attempt=attempt,
        subagent=subagent,
        started_ms=at_ms,
    )
    strand.steps.append(step)
    strand.attempt = attempt
    return step


def _settle(strand: Strand, state: OrderState) -> None:
    strand.state = state
    strand.reason, strand.until_ms, strand.is_held, strand.is_released = "", 0, False, False


def _awake(strand: Strand, at_ms: int) -> None:
    """End the sleep that is over."""
    if strand.steps and strand.steps[-1].state == SLEEPING:
        strand.steps[-1].state = DONE
        strand.steps[-1].ended_ms = at_ms


def _ready(_table: StepTable, strand: Strand, event: Any) -> None:
    _settle(strand, OrderState.READY)


def _moved(_table: StepTable, strand: Strand, event: events.OrderMoved) -> None:
    _awake(strand, event.at_ms)
    _settle(strand, OrderState.READY)
    strand.position = event.position


def _waiting(table: StepTable, strand: Strand, event: events.OrderWaiting) -> None:
    strand.state, strand.reason, strand.until_ms = OrderState.WAITING, event.cause, event.until_ms
    if event.cause == SLEEP_CAUSE and isinstance(table.instruction(strand.position), Sleep):
        label = table.label(strand.position)
        strand.steps.append(
            Step(
                kind="sleep",
                label=label,
                order=strand.order,
                position=strand.position,
                state=SLEEPING,
                started_ms=event.at_ms,
            )
        )


def _expecting(_table: StepTable, strand: Strand, event: events.OrderExpecting) -> None:
    strand.state, strand.reason = OrderState.EXPECTING, str(event.obstacle)


def _assigned(table: StepTable, strand: Strand, event: events.AttemptAssigned) -> None:
    strand.position = event.position
    _settle(strand, OrderState.PROCESSING)
    _attempt(table, strand, event.attempt, event.subagent, event.at_ms)


def _began(table: StepTable, strand: Strand, event: events.AttemptStarted) -> None:
    _attempt(table, strand, event.attempt, "", event.at_ms).started_ms = event.at_ms


def _ended(table: StepTable, strand: Strand, event: events.AttemptEnded) -> None:
    step = _attempt(table, strand, event.attempt, "", event.started_ms or event.at_ms)
    step.state, step.ended_ms = event.outcome.kind, event.at_ms
    step.return_code, step.message = event.outcome.return_code, event.outcome.message
    step.started_ms = event.started_ms or step.started_ms
    strand.outcome = event.outcome
    _settle(strand, OrderState.READY)


def _held(_table: StepTable, strand: Strand, event: events.OrderHeld) -> None:
    strand.state, strand.is_held, strand.reason = OrderState.EXPECTING, True, event.message
    strand.is_released = False


def _commanded(_table: StepTable, strand: Strand, event: events.OrderCommanded) -> None:
    if isinstance(event.command, ReleaseHeld) and event.command.attempt == strand.attempt:
        strand.is_released = strand.is_held


def _dropped(_table: StepTable, strand: Strand, _event: events.OrderCommandDropped) -> None:
    strand.is_released = False


def _forked(table: StepTable, strand: Strand, event: events.OrderForked) -> None:
    _settle(strand, OrderState.FORKED)
    step = table.begin_fork(strand, event.at_ms)
    step.strands = [table.begin_branch(strand, branch, event.at_ms) for branch in event.branches]


def _joined(_table: StepTable, strand: Strand, event: events.OrderJoined) -> None:
    if strand.steps and strand.steps[-1].kind == "fork":
        step = strand.steps[-1]
        step.state, step.ended_ms = event.outcome.kind, event.at_ms
        step.return_code, step.message = event.outcome.return_code, event.outcome.message
        strand.attempt = max([strand.attempt, *(inner.attempt for inner in step.strands)])
    strand.outcome = event.outcome
    _settle(strand, OrderState.READY)


def _faulted(table: StepTable, strand: Strand, event: events.OrderFaulted) -> None:
    strand.outcome = event.outcome
    strand.steps.append(
        Step(
            kind="fault",
            label=table.label(strand.position),
            order=strand.order,
            position=strand.position,
            state=event.outcome.kind,
            started_ms=event.at_ms,
            ended_ms=event.at_ms,
            message=event.outcome.message,
        )
    )


def _caught(_table: StepTable, strand: Strand, event: events.OrderCaught) -> None:
    strand.position = event.position


def _marked(table: StepTable, strand: Strand, event: events.OrderMarked) -> None:
    if event.agent is None or strand is not table.root:  # of the whole an agent only repeats what it was told, late
        strand.mark = event.mark


def _suspended(_table: StepTable, strand: Strand, event: Any) -> None:
    strand.state = OrderState.SUSPENDED


def _resumed(_table: StepTable, strand: Strand, event: Any) -> None:
    if strand.steps and strand.steps[-1].state == SLEEPING:
        strand.state = OrderState.WAITING
    elif strand.is_terminal:  # a failed one takes its last step again
        strand.ended_ms, strand.outcome = 0, None
        _settle(strand, OrderState.READY)
    else:
        strand.state = OrderState.READY


_ENDS: dict[type[Event], OrderState] = {
    events.OrderFinished: OrderState.FINISHED,
    events.OrderFailed: OrderState.FAILED,
    events.OrderCancelled: OrderState.CANCELLED,
    events.OrderBroken: OrderState.BROKEN,
}


def _over(_table: StepTable, strand: Strand, event: Any) -> None:
    _settle(strand, _ENDS[type(event)])
    strand.ended_ms = event.at_ms
    if isinstance(event, events.OrderBroken):
        strand.outcome = Outcome(OutcomeKind.FAILED, None, event.problem.sentence)
    elif isinstance(event, events.OrderCancelled):
        strand.mark = Mark.NONE
    else:
        strand.outcome = event.outcome
    for step in strand.steps:
        if step.is_open:
            step.state, step.ended_ms = OutcomeKind.CANCELLED, event.at_ms


_RULES: dict[type[Event], Callable[[StepTable, Strand, Any], None]] = {
    events.OrderStarted: _ready,
    events.OrderMoved: _moved,
    events.OrderWaiting: _waiting,
    events.OrderWoken: _ready,
    events.OrderExpecting: _expecting,
    events.AttemptAssigned: _assigned,
    events.AttemptStarted: _began,
    events.AttemptEnded: _ended,
    events.OrderHeld: _held,
    events.OrderCommanded: _commanded,
    events.OrderCommandDropped: _dropped,
    events.AttemptReleased: _ready,
    events.OrderForked: _forked,
    events.OrderJoined: _joined,
    events.OrderFaulted: _faulted,
    events.OrderCaught: _caught,
    events.OrderMarked: _marked,
    events.OrderSuspended: _suspended,
    events.OrderResumed: _resumed,
    events.OrderFinished: _over,
    events.OrderFailed: _over,
    events.OrderCancelled: _over,
    events.OrderBroken: _over,
}
