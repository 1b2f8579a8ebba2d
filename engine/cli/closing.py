"""Closing words: what is said of an order when its run ends: results, what failed and its last output, what to do next.

Floor 11.

* Success is told on standard output; whatever needs a person on standard error.
* Of a log only the end is read; what does not print is escaped.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.base.clock import instant_text
from engine.base.ids import attempt_folder, attempt_key
from engine.cli.exits import ExitCode
from engine.cli.face import Face
from engine.cli.lines import failure_words, outcome_words
from engine.cli.log import LOG_FILE, LOG_FOLDER
from engine.cli.output import span_words, value_text, write_json
from engine.cli.request import Request
from engine.cli.steps import Step, StepTable, Strand, place_text
from engine.documents.node import printable
from engine.model.order import Order, OrderState
from engine.model.outcome import Outcome, OutcomeKind
from engine.model.position import position_text

FAILURES_SHOWN_MAX = 3
TAIL_LINES_MAX = 10
TAIL_BYTES_MAX = 8 << 10
LINE_CHARS_MAX = 400

_STATES = {ExitCode.HELD: "held", ExitCode.SUSPENDED: "suspended"}


def say_ending(face: Face, request: Request, code: ExitCode, table: StepTable, order: Order, *, json: bool) -> None:
    """Say how an order's run ended."""
    if json:
        write_json(face, ending_json(request, code, table, order))
    elif code is ExitCode.FINISHED:
        _say_results(face, table, order)
    if code in (ExitCode.FAILED, ExitCode.CANCELLED):
        _say_failure(face, request, code, table, order)
    elif code is ExitCode.HELD:
        _say_held(face, request, table)
    elif code is ExitCode.SUSPENDED and (face.fault or not face.is_cut):
        face.err(f"Order {order.id} is suspended. `{request.again()}` goes on where it was.")


def ending_json(request: Request, code: ExitCode, table: StepTable, order: Order) -> dict[str, Any]:
    """Return everything about an order's run, for programs; instants are ISO 8601 in UTC, null where not known."""
    name, _, version = order.workflow.partition("@")
    return {
        "order": order.id,
        "workflow": name,
        "version": version,
        "state": _STATES.get(code, order.state),
        "exit_code": int(code),
        "outcome": _outcome_json(order.outcome),
        "results": order.variables if order.state is OrderState.FINISHED else None,
        "held": [{"order": one.order, "attempt": one.attempt, "message": one.reason} for one in table.held()],
        "state_directory": str(request.state),
        "started": _instant(table.root.started_ms),
        "ended": _instant(table.root.ended_ms),
        "steps": [_step_json(step, request.state, table) for step in table.steps()],
    }


def culprits(table: StepTable) -> list[tuple[Strand, Step]]:
    """Return the steps at which an order failed, in the branches where that happened."""
    return list(_culprits(table.root))


def _culprits(top: Strand) -> Iterator[tuple[Strand, Step]]:
    pending = [top]
    while pending:
        strand = pending.pop()
        last = strand.steps[-1] if strand.steps else None
        if last is None or last.state in (OutcomeKind.SUCCEEDED, OutcomeKind.CANCELLED):
            continue
        failed = [inner for inner in last.strands if inner.state in (OrderState.FAILED, OrderState.BROKEN)]
        if failed:
            pending.extend(reversed(failed))
        elif not last.is_open:
            yield strand, last


def _say_results(face: Face, table: StepTable, order: Order) -> None:
    took = span_words(table.root.ended_ms - table.root.started_ms)
    face.out(f"Order {order.id} finished after {took}.")
    for name, value in order.variables.items():
        face.out(f"  {name} = {value_text(value)}")


def _say_failure(face: Face, request: Request, code: ExitCode, table: StepTable, order: Order) -> None:
    if code is ExitCode.CANCELLED:
        face.err(f"Order {order.id} was cancelled.")
        return
    how = failure_words(order.outcome)
    if order.state is OrderState.BROKEN and order.outcome is not None:
        how = f"broke: {order.outcome.message}"
    face.err(f"Order {order.id} {printable(how)}")
    found = culprits(table)
    for strand, step in found[:FAILURES_SHOWN_MAX]:
        _say_step(face, request.state, strand, step)
    if len(found) > FAILURES_SHOWN_MAX:
        face.err(f"… and {len(found) - FAILURES_SHOWN_MAX} more steps failed.")


def _say_step(face: Face, state: Path, strand: Strand, step: Step) -> None:
    attempt = f", attempt {step.attempt}" if step.attempt else ""
    face.err(f"{printable(place_text(strand))} {printable(step.label)}{attempt}: {printable(outcome_words(step))}")
    if step.kind != "job":
        return
    folder = folder_of(state, strand, step)
    for name in ("err", "out"):
        tail = tail_of(folder / name)
        if tail:
            face.err(f"  last lines of {folder / name}:")
            for line in tail:
                face.err(f"    {line}")
    if folder.is_dir():
        face.err(f"  its files: {folder}")
    else:
        face.err(f"  details: {state / LOG_FOLDER / LOG_FILE}")


def _say_held(face: Face, request: Request, table: StepTable) -> None:
    for strand in table.held():
        label = printable(table.label(strand.position))
        face.err(
            f"Held: nobody saw how attempt {strand.attempt} of {label} in {printable(strand.order)} ended"
            f" ({printable(strand.reason)})."
        )
    if table.held():
        rerun, fail = request.again("--release", "rerun"), request.again("--release", "fail")
        face.err(f"Look at what it did, then run `{rerun}` to run it again, or `{fail}` to let it count as failed.")
        return
    for strand in table.stays_failed():
        face.err(f"Branch {printable(strand.order)} stays failed: {printable(failure_words(strand.outcome))}")
    face.err(f"Its fork waits for it. `{request.again()}` takes the failed steps again.")


def folder_of(state: Path, strand: Strand, step: Step) -> Path:
    """Return the folder of an attempt's files: out, err, script, result."""
    return state / step.subagent / attempt_folder(attempt_key(strand.order, strand.added, step.attempt))


def tail_of(path: Path) -> list[str]:
    """Return the last lines of a file, fit for a terminal; none when it is empty or can not be read."""
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, os.SEEK_END)
            file.seek(max(size_bytes - TAIL_BYTES_MAX, 0))
            text = file.read(TAIL_BYTES_MAX).decode(errors="replace")
    except OSError:
        return []
    lines = text.splitlines()
    if size_bytes > TAIL_BYTES_MAX and len(lines) > 1:
        del lines[0]  # cut in its middle
    return [printable(line.expandtabs(), LINE_CHARS_MAX) for line in lines[-TAIL_LINES_MAX:]]


def _outcome_json(outcome: Outcome | None) -> dict[str, Any] | None:
    if outcome is None:
        return None
    return {"kind": outcome.kind, "return_code": outcome.return_code, "message": outcome.message}


def _step_json(step: Step, state: Path, table: StepTable) -> dict[str, Any]:
    strand = table.strands.get(step.order)
    return {
        "kind": step.kind,
        "label": step.label,
        "position": position_text(step.position),
        "order": step.order,
        "attempt": step.attempt or None,
        "state": step.state,
        "started": _instant(step.started_ms),
        "ended": _instant(step.ended_ms),
        "return_code": step.return_code,
        "message": step.message,
        "files": str(folder_of(state, strand, step)) if step.kind == "job" and strand is not None else None,
    }


def _instant(at_ms: int) -> str | None:
    return instant_text(at_ms) if at_ms else None
