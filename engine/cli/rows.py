"""Rows: the step table as lines of a bounded picture; what does not fit is summed up. Floor 11.

* Pure: a table, an instant and a number of rows give the rows, in order, never more of them.
* What is told first when there is little room: the root, what runs, waits or failed; then what has ended well.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice

import msgspec

from engine.cli.output import clock_text, span_words
from engine.cli.steps import DONE, RUNNING, SLEEPING, Step, StepTable, Strand, round_of
from engine.documents.node import printable
from engine.model.order import OrderState

BRANCHES_SHOWN_MAX = 5  # of one fork, when there is no room for all that live
NOTE_CHARS_MAX = 160


class Row(msgspec.Struct, frozen=True):
    """A line: how deep it stands, what it is, its state in a word, how long, and what else is to be said."""

    depth: int
    name: str
    state: str
    span: str = ""
    note: str = ""


class Detail(msgspec.Struct, frozen=True):
    """How much is told of branches."""

    ended_steps: bool  # the steps of branches that ended well
    ended: bool  # branches that ended well, a line each
    live_steps: bool  # the steps of branches that live
    branches_max: int | None = None


DETAILS = (
    Detail(ended_steps=True, ended=True, live_steps=True),
    Detail(ended_steps=False, ended=True, live_steps=True),
    Detail(ended_steps=False, ended=False, live_steps=True),
    Detail(ended_steps=False, ended=False, live_steps=False),
    Detail(ended_steps=False, ended=False, live_steps=False, branches_max=BRANCHES_SHOWN_MAX),
)


def rows_of(table: StepTable, now_ms: int, rows_max: int) -> list[Row]:
    """Return at most `rows_max` rows, with as much detail as fits."""
    rows: list[Row] = []
    for detail in DETAILS:
        rows = list(islice(_strand_rows(table, table.root, now_ms, 0, detail), rows_max + 1))
        if len(rows) <= rows_max:
            return rows
    head = max(rows_max // 3, 1)  # the least detail is still too long: its beginning and its end
    rows = list(_strand_rows(table, table.root, now_ms, 0, DETAILS[-1]))
    tail = rows_max - head - 1
    cut = Row(0, f"… {len(rows) - head - tail} lines …", "")
    return [*rows[:head], cut, *rows[len(rows) - tail :]] if tail > 0 else rows[:rows_max]


def strand_state(strand: Strand) -> str:
    """Return a strand's state in a word."""
    if strand.is_held:
        return "held"
    return RUNNING if strand.state in (OrderState.PROCESSING, OrderState.FORKED, OrderState.READY) else strand.state


def _strand_rows(table: StepTable, strand: Strand, now_ms: int, depth: int, detail: Detail) -> Iterator[Row]:
    name = strand.order if depth == 0 else strand.title
    yield Row(
        depth, printable(name), strand_state(strand), _span(strand.started_ms, strand.ended_ms, now_ms), _why(strand)
    )
    is_good = strand.state is OrderState.FINISHED
    if depth and not (detail.ended_steps if is_good else detail.live_steps):
        return
    for step in strand.steps:
        yield _step_row(step, strand, now_ms, depth + 1)
        yield from _branch_rows(table, step, now_ms, depth + 2, detail)


def _branch_rows(table: StepTable, step: Step, now_ms: int, depth: int, detail: Detail) -> Iterator[Row]:
    left_out: Counter[str] = Counter()
    shown = 0
    for strand in step.strands:
        is_good = strand.state is OrderState.FINISHED
        if (is_good and not detail.ended) or (detail.branches_max is not None and shown >= detail.branches_max):
            left_out[strand_state(strand)] += 1
            continue
        shown += 1
        yield from _strand_rows(table, strand, now_ms, depth, detail)
    if left_out:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(left_out.items()))
        yield Row(depth, f"… {left_out.total()} more: {counts}", "")


def _step_row(step: Step, strand: Strand, now_ms: int, depth: int) -> Row:
    notes = []
    if step.attempt > 1:
        notes.append(f"attempt {step.attempt}")
    if (rounds := round_of(step.position)) > 1:
        notes.append(f"round {rounds}")
    if step.return_code:
        notes.append(f"return code {step.return_code}")
    if step.state == SLEEPING and strand.until_ms:
        notes.append(f"until {clock_text(strand.until_ms)}")
    if step.message and step.state not in (RUNNING, SLEEPING, DONE, "succeeded"):
        notes.append(step.message)
    if step.kind == "fork":
        count = len(step.strands)
        notes.append(f"{count} branch" if count == 1 else f"{count} branches")
    span = _span(step.started_ms, step.ended_ms, now_ms)
    return Row(depth, printable(step.label), step.state.replace("_", " "), span, _bounded(", ".join(notes)))


def _why(strand: Strand) -> str:
    """Say what a strand waits for, or what it ended with where that was no success."""
    if strand.is_terminal:
        outcome = strand.outcome
        return "" if outcome is None or outcome.is_success or strand.path else _bounded(outcome.message)
    if strand.steps and strand.steps[-1].state == SLEEPING:
        return ""
    until = f" until {clock_text(strand.until_ms)}" if strand.until_ms else ""
    return _bounded(f"{strand.reason}{until}")


def _span(started_ms: int, ended_ms: int, now_ms: int) -> str:
    return span_words((ended_ms or now_ms) - started_ms) if started_ms else ""


def _bounded(text: str) -> str:
    text = printable(text)
    return text if len(text) <= NOTE_CHARS_MAX else f"{text[: NOTE_CHARS_MAX - 1]}…"
