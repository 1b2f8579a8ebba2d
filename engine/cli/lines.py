"""Plain lines: what happens to an order, one line for each happening that a person would want to know. Floor 11.

* A line is: time of day, order or branch, step, what happened.
* `telling` is pure; `PlainScreen` only adds the time and the columns.
"""

from collections.abc import Callable
from typing import Any, Protocol

from engine.base.ids import OrderId
from engine.cli.face import Face
from engine.cli.output import clock_text, span_words
from engine.cli.steps import Step, StepTable, Strand, place_text, round_of
from engine.documents.node import printable
from engine.model import event as events
from engine.model.event import Event
from engine.model.job import OnLost
from engine.model.order import Mark
from engine.model.outcome import Outcome, OutcomeKind

PLACE_CHARS = 12
LABEL_CHARS_MAX = 24
BRANCHES_NAMED_MAX = 8
WAIT_TOLD_MS = 500  # a shorter waiting for a free slot or a connection is not worth a line

Telling = tuple[str, str]  # the step's label ("" for the order itself), and what happened


class Screen(Protocol):
    """Where the progress of an order is shown."""

    def begin(self, table: StepTable, heading: str) -> None:
        """Begin to show a table; what it holds already is past."""

    def happened(self, strand: Strand, event: Event) -> None:
        """An event was applied to the table just now."""

    def draw(self, now_ms: int) -> None:
        """Everything that is at hand has been applied; show how it stands, now and then."""

    def note(self, text: str) -> None:
        """Say something beside the order's own progress."""

    def end(self, now_ms: int) -> None:
        """Show how it stands for the last time; safe to call twice."""


class PlainScreen:
    """Lines on standard output; notes go to standard error."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._table: StepTable | None = None
        self._label_chars = 0
        self._waits: dict[OrderId, tuple[int, str]] = {}  # lines about obstacles, told only when they last

    def begin(self, table: StepTable, heading: str) -> None:
        self._table = table
        self._face.out(heading)
        labels = [len(table.label(position)) for position, _ in table.workflow.instructions()]
        self._label_chars = min(max(labels, default=0), LABEL_CHARS_MAX)

    def happened(self, strand: Strand, event: Event) -> None:
        self._waits.pop(strand.order, None)
        told = None if self._table is None else telling(self._table, strand, event)
        if told is None:
            return
        label, what = told
        at_ms: int = getattr(event, "at_ms", 0)
        place = f"{printable(place_text(strand)):<{PLACE_CHARS}}"
        line = f"{clock_text(at_ms)}  {place}  {printable(label):<{self._label_chars}}  {printable(what)}"
        if isinstance(event, events.OrderExpecting):
            self._waits[strand.order] = at_ms, line
        else:
            self._face.out(line)

    def draw(self, now_ms: int) -> None:
        for order in [one for one, (at_ms, _) in self._waits.items() if now_ms - at_ms >= WAIT_TOLD_MS]:
            self._face.out(self._waits.pop(order)[1])

    def note(self, text: str) -> None:
        self._face.err(text)

    def end(self, now_ms: int) -> None:
        pass


class SilentScreen(PlainScreen):
    """Notes only: standard output belongs to the one JSON object at the end."""

    def begin(self, table: StepTable, heading: str) -> None:
        pass

    def happened(self, strand: Strand, event: Event) -> None:
        pass


def telling(table: StepTable, strand: Strand, event: Event) -> Telling | None:
    """Say what an event did to a strand, after the table has applied it; None for what nobody would want to know."""
    tell = _TELL.get(type(event))
    return None if tell is None else tell(table, strand, event)


def outcome_words(step: Step) -> str:
    """Say how a step ended, and how long it took: `failed with return code 3 after 0.42s: it exited with 3`."""
    code = f" with return code {step.return_code}" if step.return_code else ""
    span = f" after {span_words(step.ended_ms - step.started_ms)}" if step.started_ms and step.kind != "fault" else ""
    message = f": {step.message}" if step.message and step.state != "succeeded" else ""
    return f"{step.state.replace('_', ' ')}{code}{span}{message}"


def failure_words(outcome: Outcome | None) -> str:
    """Say how an order failed: `failed`, and the kind of outcome where that is another word."""
    if outcome is None:
        return "failed"
    return str(outcome) if outcome.kind is OutcomeKind.FAILED else f"failed: {outcome}"


def _job(strand: Strand, attempt: int) -> Step | None:
    return next((step for step in reversed(strand.steps) if step.attempt == attempt and step.kind == "job"), None)


def _label(strand: Strand, attempt: int) -> str:
    step = _job(strand, attempt)
    return "" if step is None else step.label


def _added(_table: StepTable, strand: Strand, _event: events.OrderAdded) -> Telling:
    return "", f"added as {strand.order}"


def _assigned(table: StepTable, _strand: Strand, event: events.AttemptAssigned) -> Telling:
    rounds = round_of(event.position)
    again = f", round {rounds}" if rounds > 1 else ""
    return table.label(event.position), f"starts, attempt {event.attempt}{again}"


def _ended(_table: StepTable, strand: Strand, event: events.AttemptEnded) -> Telling:
    step = _job(strand, event.attempt)
    return ("", str(event.outcome)) if step is None else (step.label, outcome_words(step))


def _waiting(table: StepTable, strand: Strand, event: events.OrderWaiting) -> Telling:
    return table.label(strand.position), f"{event.cause} until {clock_text(event.until_ms)}"


def _expecting(table: StepTable, strand: Strand, event: events.OrderExpecting) -> Telling:
    return table.label(strand.position), f"waits: {event.obstacle}"


def _held(_table: StepTable, strand: Strand, event: events.OrderHeld) -> Telling:
    return _label(strand, event.attempt), f"held: nobody saw how attempt {event.attempt} ended ({event.message})"


def _released(_table: StepTable, strand: Strand, event: events.AttemptReleased) -> Telling:
    what = "is run again" if event.choice is OnLost.RERUN else "counts as failed"
    return _label(strand, event.attempt), f"the lost attempt {event.attempt} {what}"


def _forked(table: StepTable, strand: Strand, event: events.OrderForked) -> Telling:
    names = [inner.title for inner in strand.steps[-1].strands[:BRANCHES_NAMED_MAX]]
    more = ", …" if len(event.branches) > len(names) else ""
    return table.label(strand.position), f"forks into {len(event.branches)}: {', '.join(names)}{more}"


def _joined(table: StepTable, strand: Strand, event: events.OrderJoined) -> Telling:
    what = "joined" if event.outcome.is_success else f"joined, {event.outcome}"
    return table.label(strand.position), what


def _faulted(table: StepTable, strand: Strand, event: events.OrderFaulted) -> Telling:
    return table.label(strand.position), str(event.outcome)


def _caught(_table: StepTable, _strand: Strand, event: events.OrderCaught) -> Telling:
    rounds = round_of(event.position)
    return "", f"the failure is caught{f', round {rounds} follows' if rounds else ''}"


def _marked(_table: StepTable, strand: Strand, event: events.OrderMarked) -> Telling | None:
    if event.agent is not None or strand.path:
        return None  # the agent confirms what the controller has told already
    what = {
        Mark.NONE: "to be resumed",
        Mark.SUSPEND: "to be suspended",
        Mark.CANCEL: "to be cancelled",
        Mark.KILL: "to be killed",
    }
    return "", what[event.mark]


def _finished(_table: StepTable, _strand: Strand, event: events.OrderFinished) -> Telling:
    return "", f"finished{f': {event.outcome.message}' if event.outcome.message else ''}"


def _failed(_table: StepTable, _strand: Strand, event: events.OrderFailed) -> Telling:
    return "", failure_words(event.outcome)


_TELL: dict[type[Event], Callable[[StepTable, Strand, Any], Telling | None]] = {
    events.OrderAdded: _added,
    events.AttemptAssigned: _assigned,
    events.AttemptEnded: _ended,
    events.OrderWaiting: _waiting,
    events.OrderExpecting: _expecting,
    events.OrderHeld: _held,
    events.AttemptReleased: _released,
    events.OrderForked: _forked,
    events.OrderJoined: _joined,
    events.OrderFaulted: _faulted,
    events.OrderCaught: _caught,
    events.OrderMarked: _marked,
    events.OrderSuspended: lambda *_: ("", "suspended"),
    events.OrderResumed: lambda *_: ("", "resumed"),
    events.OrderCommandDropped: lambda _table, _strand, event: ("", event.problem.sentence),
    events.OrderFinished: _finished,
    events.OrderFailed: _failed,
    events.OrderCancelled: lambda *_: ("", "cancelled"),
    events.OrderBroken: lambda _table, _strand, event: ("", f"broken: {event.problem.sentence}"),
}
